"""Soft codes: how blurred the polytopes of a smooth network are (SCIENCE 8; post: appendix C).

A gate is the probability that its unit is on (Balestriero & Baraniuk, "From Hard to Soft", arXiv 1810.09274).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64
from scipy.special import expit, ndtr

from atlas import Atlas, Network, hamming
from atlas.checks import whole
from atlas.errors import NonFinite, NotStored, UnknownName, UsageError
from atlas.network import GatedNetwork, Site
from atlas.store.catalog import NetworkRecord, SiteRecord

from ..examples.labels import drawn
from ..examples.live import Live, inputs_of_examples, place_of
from ..notes import Notes
from ..progress import Progress, tell
from ..statistics import bootstrap, mean_interval, spearman_interval
from .claims import Before, Claim, Part, Verdict, everywhere, number, vote_of
from .figures import finish, legend_above, name_axis, points, style
from .options import CommonOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

READ_BYTES = 1 << 27
"""Bytes of preactivations of a batch: two images of 224 pixels at all positions of all blocks take 25 MB."""

UNDECIDED = (0.1, 0.9)
"""A gate between these is undecided (SCIENCE 8)."""

Gate = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Kind:
    """How a nonlinearity act(z) = z·g(z) gates: g, and g in words."""

    gate: Gate
    formula: str
    hard: bool = False


def _tanh_gelu(z: np.ndarray) -> np.ndarray:
    """½(1 + tanh u) = σ(2u)."""
    return expit(2 * np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))


def _mish(z: np.ndarray) -> np.ndarray:
    return np.tanh(np.logaddexp(0, z))


HARD = Kind(lambda z: (z > 0).astype(np.float64), "1 where z > 0", hard=True)
EXACT_GELU = Kind(ndtr, "Φ(z)")
TANH_GELU = Kind(_tanh_gelu, "½(1 + tanh(√(2/π)·(z + 0.044715·z³))), an approximation of Φ(z)")
SWISH = Kind(expit, "σ(z)")

GATES = {
    "relu": HARD,
    "relu2": HARD,
    "gelu": EXACT_GELU,
    "gelu_python": EXACT_GELU,
    "gelu_new": TANH_GELU,
    "gelu_pytorch_tanh": TANH_GELU,
    "gelu_fast": TANH_GELU,
    "quick_gelu": Kind(lambda z: expit(1.702 * z), "σ(1.702·z), an approximation of Φ(z)"),
    "silu": SWISH,
    "swish": SWISH,
    "mish": Kind(_mish, "tanh(log(1 + eᶻ))"),
}
"""By the name of the nonlinearity. relu2, z² where z > 0, has no g in (0, 1): its gate is that of ReLU."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    sites: Sequence[str] | None = None
    """Names of sites; by default all position sites, conv1:full and the like if asked for."""

    examples: int = 200
    """How many are drawn at random; they form at most half as many pairs, each of two inputs, none sharing an
    example."""


TABLES = {
    "table": table_of(
        "a site; intervals: bootstrap over pairs, or over the inputs that pairs share",
        Column("site", str, "name of the site"),
        Column("nonlinearity", str, "of its units"),
        Column("gate", str, "the gate g(z), in words"),
        Column("n_gates", int, "gates of the site"),
        *with_interval("expected", "mean over pairs of Σ g·(1 − g') + g'·(1 − g)", "gates"),
        *with_interval("hard", "mean Hamming distance of the codes of a pair", "gates"),
        *with_interval("ratio", "mean expected over mean hard"),
        *with_interval("blur", "mean of Σ 2g·(1 − g): how a soft code differs from itself", "gates"),
        *with_interval("undecided", f"share of gates with {UNDECIDED[0]} < g < {UNDECIDED[1]}"),
        *with_interval("rho", "Spearman's correlation of expected with hard; NaN where one is constant"),
        Column("n", int, "pairs"),
    ),
    "pairs": table_of(
        "a site and a pair of examples",
        Column("site", str, "name of the site"),
        Column("a", int, "id of one example"),
        Column("b", int, "id of the other"),
        Column("expected", float, "expected Hamming distance of their soft codes", "gates"),
        Column("hard", int, "Hamming distance of their codes", "gates"),
        Column("blur", float, "how a soft code differs from itself, mean of the two", "gates"),
        Column("undecided", float, "share of gates that are undecided, mean of the two"),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Compare soft codes with hard ones: the expected Hamming distance of pairs, and the share of undecided gates.

    With act(z) = z·g(z), the gate g is the probability that a unit is on, and for two examples with gates g and g'

        expected = Σ g·(1 − g') + g'·(1 − g),    hard = Σ |1[z > 0] − 1[z' > 0]|        (SCIENCE 8)

    For ReLU the two are equal, and the codes that the atlas stores are all there is to know: they are not read again.
    Where pairs share inputs, a pair weighs the product of how often its two were drawn.

    Raises `UsageError` for impossible options and for a network that shows no preactivations; `UnknownName`;
    `NotStored` for images that the atlas does not hold and whose codes it does not store; `NonFinite`.
    """
    whole("examples", options.examples, least=2)
    chosen = _sites(reader, options.sites)
    live = Live(atlas, reader, place_of(reader, site=chosen[0].name))
    pairs = _pairs(live, options.examples, options.seed)
    source = Source(atlas, live, reader, chosen, pairs)
    at_once = max(1, READ_BYTES // (2 * 4 * sum(site.n_gates for site in chosen)))
    rows = []
    for first in range(0, len(pairs), at_once):
        tell(progress, first, len(pairs))
        rows += source.rows(pairs[first : first + at_once])
    tell(progress, len(pairs), len(pairs))
    order = {site.name: place for place, site in enumerate(chosen)}
    measured = pd.DataFrame(rows).sort_values("site", key=lambda s: s.map(order), kind="stable", ignore_index=True)
    rng = np.random.default_rng([options.seed, 8])
    units = _shared(inputs_of_examples(atlas, pairs.ravel()).reshape(pairs.shape))
    table = pd.DataFrame([_summary(site, measured[measured["site"] == site.name], units, rng) for site in chosen])
    parameters = {"sites": [site.name for site in chosen], "examples": 2 * len(pairs)}
    return Result("soft", live.owner.name, parameters, {"table": table, "pairs": measured}, _notes(chosen, source))


def figure(result: Result) -> go.Figure:
    """Expected against hard distance, and the undecided share, by site."""
    from plotly.subplots import make_subplots

    drawing = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.6, 0.4])
    table = result.table
    places, n = range(len(table)), int(table["n"].iloc[0])
    share = table.copy()
    for column in ("expected", "hard", "blur", "undecided"):
        over = 1 if column == "undecided" else table["n_gates"]
        for name in (column, f"{column}_low", f"{column}_high"):
            share[name] = 100 * table[name] / over
    shown = (
        ("hard", "hard codes differ", 0),
        ("expected", "soft codes differ, expected", 1),
        ("blur", "a soft code and itself, expected", 2),
    )
    for place, (column, name, look) in enumerate(shown):
        x = [x + 0.12 * (place - 1) for x in places]
        drawing.add_trace(points(f"{name}, n = {n} pairs", x, share, column, style(look)), row=1, col=1)
    undecided = points("undecided gates", list(places), share, "undecided", style(3), showlegend=False)
    drawing.add_trace(undecided, row=2, col=1)
    drawing.update_yaxes(title="% of gates", rangemode="tozero", row=1, col=1)
    drawing.update_yaxes(title="Undecided, % of gates", range=[0, 100], row=2, col=1)
    drawing.update_traces(cliponaxis=False)  # of ReLU much lies on the axis
    name_axis(drawing, table["site"].tolist(), "Site", row=2, col=1)
    legend_above(drawing)
    return finish(
        drawing,
        f"Soft codes of {result.network}",
        f"n = {n} pairs of {2 * n} examples; intervals: bootstrap, 95 %",
        result.notes,
        height=560,
        below=110,
    )


# --- measuring -----------------------------------------------------------------------------------------------------


def gate_of(site: Site) -> Kind:
    """How a site's nonlinearity gates. Raises `UsageError` for one that is not known to."""
    if site.nonlinearity not in GATES:
        raise UsageError(
            f"site {site.name} has nonlinearity {site.nonlinearity}, whose gate is not known; "
            f"known: {', '.join(GATES)}"
        )
    return GATES[site.nonlinearity]


def expected_hamming(
    g: Float64[np.ndarray, "*pairs gates"], h: Float64[np.ndarray, "*pairs gates"]
) -> Float64[np.ndarray, "*pairs"]:
    """Σ g·(1 − h) + h·(1 − g): in how many gates two codes drawn with these probabilities differ on average."""
    found: Float64[np.ndarray, "*pairs"] = np.asarray((g * (1 - h) + h * (1 - g)).sum(axis=-1))
    return found


def _sites(reader: Network, names: Sequence[str] | None) -> list[Site]:
    if isinstance(names, str) or (names is not None and not names):
        raise UsageError(f"sites is {names!r}; expected a list of names, or nothing for all")
    known = {site.name: site for site in reader.sites}
    for name in names or ():
        if name not in known:
            raise UnknownName(f"no site {name!r} in network {reader.info.name}; it has {', '.join(known)}")
    chosen = [s for s in reader.sites if (s.scope == "position" if names is None else s.name in names)]
    for site in chosen:
        gate_of(site)
    return chosen


def _pairs(live: Live, examples: int, seed: int) -> Int64[np.ndarray, "pairs 2"]:
    """Disjoint pairs of examples drawn at random, those of one input left out."""
    frame = live.examples().set_index("example_id")["input_id"]
    ids = np.random.default_rng([seed, 81]).permutation(drawn(frame.index.to_numpy(np.int64), examples, seed))
    pairs = ids[: len(ids) // 2 * 2].reshape(-1, 2)
    inputs = frame.loc[pairs.ravel()].to_numpy().reshape(-1, 2)
    found = pairs[inputs[:, 0] != inputs[:, 1]]
    if not len(found):
        raise UsageError(
            f"pairs of examples of different inputs are compared; of {len(ids)} examples drawn from network "
            f"{live.owner.name}, of {frame.nunique()} inputs, none could be made"
        )
    return found


class Source:
    """Gates of pairs of examples: of a ReLU site from its stored codes, where all of them have one; else from
    preactivations, which the network reads again."""

    def __init__(
        self,
        atlas: Atlas,
        live: Live,
        reader: Network,
        sites: Sequence[Site],
        pairs: Int64[np.ndarray, "pairs 2"],
    ) -> None:
        """Raises `UsageError` for a network that shows no preactivations where they are needed."""
        self._atlas, self._live = atlas, live
        self.stored = _with_codes(atlas, live, sites, pairs)
        self.again = [site for site in sites if site.name not in self.stored]
        if self.again and not isinstance(reader, GatedNetwork):
            raise UsageError(
                f"network {reader.info.name} shows no preactivations; one that has `preactivations` does"
            )
        self._reader: Any = reader

    def rows(self, pairs: Int64[np.ndarray, "pairs 2"]) -> list[dict[str, Any]]:
        """The rows of some pairs at every site."""
        rows = [row for name, record in self.stored.items() for row in self._hard(name, record, pairs)]
        if self.again:
            found = self._reader.preactivations(self._live.views(pairs.ravel(), self._lacking), self.again)
            for site in self.again:
                rows += _soft(site, pairs, found[site.name])
        return rows

    def _hard(self, name: str, record: SiteRecord, pairs: Int64[np.ndarray, "pairs 2"]) -> list[dict[str, Any]]:
        """A hard gate is on or off: codes differ as they are drawn, and none is undecided."""
        apart = hamming(*(self._atlas.codes([record], ends)[1] for ends in pairs.T))
        return [
            {
                "site": name,
                "a": int(a),
                "b": int(b),
                "expected": float(gates),
                "hard": int(gates),
                "blur": 0.0,
                "undecided": 0.0,
            }
            for (a, b), gates in zip(pairs, apart, strict=True)
        ]

    def _lacking(self, example: int, kept: str) -> NotStored:
        names = ", ".join(site.name for site in self.again)
        network = self._live.owner.name
        why = f"gates of example {example} at {names} of network {network} are read from its picture, and {kept}"
        if all(gate_of(site).hard for site in self.again):
            return NotStored(f"{why}; stored codes do as well: ingest these sites, or name others that have codes")
        return NotStored(f"{why}; images of at most 64 pixels a side are kept whole")


def _with_codes(
    atlas: Atlas, live: Live, sites: Sequence[Site], pairs: Int64[np.ndarray, "pairs 2"]
) -> dict[str, SiteRecord]:
    """The sites with hard gates at which all of the examples have a stored code."""
    records = {record.name: record for record in atlas.catalog.sites_of(live.owner) if record.n_codes}
    return {
        site.name: records[site.name]
        for site in sites
        if gate_of(site).hard and site.name in records and _all_held(atlas, records[site.name], pairs)
    }


def _all_held(atlas: Atlas, site: SiteRecord, pairs: Int64[np.ndarray, "pairs 2"]) -> bool:
    held = atlas.value(
        "select count(*) from codes where site_id = $1 and example_id in (select unnest($2::uinteger[]))",
        [site.site_id, pairs.ravel().tolist()],
    )
    return int(held) == pairs.size


def _soft(
    site: Site, pairs: Int64[np.ndarray, "pairs 2"], values: Float32[np.ndarray, "examples gates"]
) -> list[dict[str, Any]]:
    """The rows of a site from the preactivations of pairs, both ends of one after the other."""
    _check_finite(site, pairs.ravel(), values)
    rows = []
    for place, (a, b) in enumerate(pairs):
        z = values[2 * place : 2 * place + 2].astype(np.float64)
        g, on = gate_of(site).gate(z), z > 0
        undecided = (g > UNDECIDED[0]) & (g < UNDECIDED[1])
        rows.append(
            {
                "site": site.name,
                "a": int(a),
                "b": int(b),
                "expected": float(expected_hamming(g[0], g[1])),
                "hard": int((on[0] != on[1]).sum()),
                "blur": float(expected_hamming(g, g).mean()),
                "undecided": float(undecided.mean()),
            }
        )
    return rows


def _check_finite(
    site: Site, ids: Int64[np.ndarray, " examples"], values: Float32[np.ndarray, "examples gates"]
) -> None:
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise NonFinite(f"example {ids[bad][0]} gives NaN or infinity at site {site.name}")


# --- statistics ----------------------------------------------------------------------------------------------------


def _shared(inputs: Int64[np.ndarray, "pairs 2"]) -> Int64[np.ndarray, "pairs 2"] | None:
    """The inputs of pairs, where two pairs share one; None where none do: then pairs are independent as they are."""
    return None if len(np.unique(inputs)) == inputs.size else inputs


def _summary(
    site: Site, pairs: pd.DataFrame, inputs: Int64[np.ndarray, "pairs 2"] | None, rng: np.random.Generator
) -> dict[str, Any]:
    expected, hard = pairs["expected"].to_numpy(np.float64), pairs["hard"].to_numpy(np.float64)

    def ratio(times: Float64[np.ndarray, "resamples pairs"]) -> Float64[np.ndarray, " resamples"]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (times @ expected) / (times @ hard)

    return {
        "site": site.name,
        "nonlinearity": site.nonlinearity,
        "gate": gate_of(site).formula,
        "n_gates": site.n_gates,
        **mean_interval(expected, rng, units=inputs).columns("expected"),
        **mean_interval(hard, rng, units=inputs).columns("hard"),
        **bootstrap(len(pairs), ratio, rng, units=inputs).columns("ratio"),
        **mean_interval(pairs["blur"].to_numpy(), rng, units=inputs).columns("blur"),
        **mean_interval(pairs["undecided"].to_numpy(), rng, units=inputs).columns("undecided"),
        **spearman_interval(expected, hard, rng, units=inputs).columns("rho"),
        "n": len(pairs),
    }


def _notes(sites: Sequence[Site], source: Source) -> tuple[str, ...]:
    notes = Notes()
    for site in sites:
        kind = gate_of(site)
        notes.add(
            f"{site.nonlinearity} gates with g(z) = {kind.formula}"
            + ("; soft and hard distance are the same" if kind.hard else "")
        )
        if not kind.hard:
            notes.add(
                "a soft code is a model of how a smooth unit switches, unit by unit and independently; no exact "
                "region of the network stands behind it"
            )
    if source.stored:
        notes.add("hard gates are those of the stored codes", "" if not source.again else ", ".join(source.stored))
    notes.add(
        f"undecided: {UNDECIDED[0]} < g < {UNDECIDED[1]}. Each pair is of two different inputs, and no two pairs "
        "share an example; where pairs share inputs, as tokens of one text do, inputs are resampled"
    )
    return notes.lines()


# --- what it decides -----------------------------------------------------------------------------------------------

BLURRED = 0.1
"""Share of undecided gates from which on a site's polytopes are blurred."""

BLUR_RULE = (
    "Of a site with smooth gates: for it where the interval of the share of undecided gates lies above "
    f"{BLURRED:.0%}, against it where it lies below. Of a site with ReLU: for it where soft and hard distance are "
    "equal in every pair and no gate is undecided, else against it. Supported: all sites are for. Not supported: "
    "more than half against."
)


def smooth_gates_blur(result: Result) -> Verdict:
    """`BLUR_RULE`."""
    pairs = result.tables["pairs"]
    unequal = set(pairs.loc[pairs["expected"] != pairs["hard"], "site"])
    rows = result.table.to_dict("records")
    votes = []
    for row in rows:
        if row["nonlinearity"].startswith("relu"):
            votes.append(-1 if row["site"] in unequal or row["undecided"] > 0 else 1)
        else:
            votes.append(vote_of(row["undecided_low"], row["undecided_high"], BLURRED))
    numbers = [
        number(f"{row['site']}, {row['nonlinearity']}: {words}", row, name, row["n"])
        for row in rows
        for name, words in (("undecided", "share of undecided gates"), ("ratio", "soft distance over hard"))
    ]
    least, most = (f(row["undecided"] for row in rows) for f in (min, max))
    because = (
        f"{least:.0%} to {most:.0%} of the gates of a site are undecided; {sum(v > 0 for v in votes)} of "
        f"{len(votes)} sites are for it, {sum(v < 0 for v in votes)} against"
    )
    return Verdict(everywhere(votes), because, pd.DataFrame(numbers))


def _asking(_: Atlas, __: NetworkRecord, ___: Before) -> dict[str, Any]:
    return {"examples": 60}


EXPERIMENT = Experiment(
    name="soft",
    version=2,
    section=8,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    quick={"examples": 20},
    claims=(
        Claim(
            "soft",
            Part.SPLINES,
            2,
            "Smooth activations blur the boundaries of polytopes; ReLU's are sharp.",
            asking=_asking,
            judge=smooth_gates_blur,
            rule=BLUR_RULE,
        ),
    ),
)
