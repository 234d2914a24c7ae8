"""Whether LayerNorm makes polytopes indifferent to scale (SCIENCE 13; post: comments)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network, SplineCodes, hamming
from atlas.checks import whole
from atlas.errors import UnknownName, UsageError
from atlas.network import NormedNetwork, Site
from atlas.store.catalog import NetworkRecord

from ..examples.live import READ_AT_ONCE, Live, inputs_of_examples, place_of
from ..polytope.crossings import span_codes
from ..progress import Progress, tell
from ..statistics import mean_interval, share_interval
from .claims import Before, Claim, Part, Verdict, Word, number, vote_of
from .figures import add_band, finish, legend_above, style
from .options import CommonOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval
from .targets import increasing

ALPHAS = (0.1, 0.2, 0.5, 0.8, 1.25, 2.0, 5.0, 10.0)
"""Factors unless asked otherwise: a decade either side of 1, evenly on a logarithmic axis."""

BEFORE, HIDDEN = "before the norm", "MLP hidden vector"
ALL = "all"
"""The row of a mean over sites, among rows of sites."""


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    sites: Sequence[str] | None = None
    """Names of MLPs; all of them by default."""

    examples: int = 30
    """How many tokens are drawn at random."""

    alphas: Sequence[float] = ALPHAS
    """Increasing factors above 0; 1 is what nothing is compared with but itself."""


SCALED = Column("scaled", str, f"what is scaled: {BEFORE} or {HIDDEN}")
FLIPPED = "share of gates that flip: mean over examples, bootstrapped over texts, whose tokens depend on each other"

TABLES = {
    "table": table_of(
        "what is scaled, a site and a factor",
        SCALED,
        Column("site", str, f"name of the MLP; {ALL}: the mean over sites"),
        Column("alpha", float, "the factor"),
        Column("n_gates", int, "gates that could flip"),
        *with_interval("share", FLIPPED),
        *with_interval("any", "share of examples in which a gate flips; Wilson's interval, a text counted once"),
        Column("most", int, "gates that flip in one example, at most"),
        *with_interval("change", f"mean of ‖N(α·r) − N(r)‖/‖N(r)‖; NaN for {HIDDEN}"),
        Column("n", int, "tokens"),
        Column("inputs", int, "texts that they are of"),
    ),
    "examples": table_of(
        "what is scaled, a site, a factor and an example",
        SCALED,
        Column("site", str, "name of the MLP"),
        Column("alpha", float, "the factor"),
        Column("example", int, "id of the example"),
        Column("input", int, "id of its text"),
        Column("flipped", int, "gates that flip"),
        Column("n_gates", int, "gates that could flip"),
        Column("share", float, "flipped over n_gates"),
        Column("change", float, f"‖N(α·r) − N(r)‖/‖N(r)‖; NaN for {HIDDEN}"),
    ),
    "summary": table_of(
        "what is scaled, over all sites and all factors but 1",
        SCALED,
        *with_interval("share", FLIPPED),
        Column("n", int, "tokens"),
        Column("inputs", int, "texts that they are of"),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Count gates that flip as the residual stream is scaled before LayerNorm, and as the hidden vector is.

    With r the residual stream that the norm N of a block reads, h the hidden vector of its MLP and c the codes:

        before the norm:    Hamming(c(N(α·r)), c(N(r))) of the gates of that MLP
        hidden vector:      Hamming(c(α·h), c(h)) of the gates of all later MLPs, at that token        (SCIENCE 13)

    LayerNorm and RMSNorm are N(r) = w·(r − m)/√(s² + ε) + b, with s² the mean square of r − m: N(α·r) = N(r) but for
    ε and rounding, so the first should be near 0; the second need not be.

    Raises `UsageError` for factors that do not increase, and for a network without such a norm; `UnknownName`.
    """
    factors = _factors(options.alphas)
    normed = _normed(reader)
    chosen = _sites(reader, options.sites)
    lives = [Live(atlas, reader, place_of(reader, site=site.name)) for site in chosen]
    ids = lives[0].choose(whole("examples", options.examples), options.seed)
    rows: list[pd.DataFrame] = []
    for first in range(0, len(ids), READ_AT_ONCE):
        tell(progress, first, len(ids) * 2)
        rows += _before(normed, lives, ids[first : first + READ_AT_ONCE], factors)
    for done, example in enumerate(ids):
        tell(progress, len(ids) + done, len(ids) * 2)
        rows += [_hidden(live, int(example), factors) for live in lives if live.place.sites]
    tell(progress, 1, 1)
    measured = pd.concat(rows, ignore_index=True)
    measured["input"] = inputs_of_examples(atlas, measured["example"].to_numpy())
    measured = measured[[column.name for column in TABLES["examples"].columns]]
    rng = np.random.default_rng([options.seed, 13])
    tables = {"table": _table(measured, rng), "examples": measured, "summary": _summary(measured, rng)}
    parameters = {"sites": [site.name for site in chosen], "examples": len(ids), "alphas": factors.tolist()}
    return Result("layernorm", lives[0].owner.name, parameters, tables, _notes(lives, measured))


def figure(result: Result) -> go.Figure:
    """Share of gates flipped along α: thick the mean over sites, thin each site."""
    drawing = go.Figure()
    table = result.table.assign(**{c: 100 * result.table[c] for c in ("share", "share_low", "share_high")})
    for place, scaled in enumerate(dict.fromkeys(table["scaled"])):
        look, lines = style(place), table[table["scaled"] == scaled]
        for site, rows in lines[lines["site"] != ALL].groupby("site", sort=False):
            drawing.add_trace(
                go.Scatter(
                    x=rows["alpha"],
                    y=rows["share"],
                    mode="lines",
                    line={**look.line, "width": 0.8},
                    opacity=0.5,
                    showlegend=False,
                    hovertemplate=f"{scaled}, {site}<br>α = %{{x:g}}<br>%{{y:.3g}} % of gates<extra></extra>",
                )
            )
        rows = lines[lines["site"] == ALL]
        add_band(drawing, rows["alpha"], rows, "share", look)
        drawing.add_trace(
            go.Scatter(
                x=rows["alpha"],
                y=rows["share"],
                mode="lines+markers",
                line=look.line,
                marker=look.marker,
                name=f"α scales: {scaled}, n = {rows['n'].iloc[0]}",
                hovertemplate=f"{scaled}, mean over sites<br>α = %{{x:g}}<br>%{{y:.3g}} % of gates<extra></extra>",
            )
        )
    drawing.add_vline(x=1, line={"color": "#8a8a8a", "width": 1, "dash": "dot"})
    alphas = sorted({1.0, *result.parameters["alphas"]})
    drawing.update_xaxes(title="α", type="log", tickvals=alphas, ticktext=[f"{alpha:g}" for alpha in alphas])
    drawing.update_yaxes(title="Gates flipped, % of those that could", rangemode="tozero")
    drawing.update_traces(cliponaxis=False)
    legend_above(drawing)
    return finish(
        drawing,
        f"Scaling before LayerNorm, and after it, in {result.network}",
        f"n in tokens, of {table['inputs'].max()} texts; thick: mean over {len(result.parameters['sites'])} sites, "
        "thin: each site; bands: bootstrap over texts, 95 %",
        result.notes,
    )


# --- what is asked ------------------------------------------------------------------------------------------------


def _factors(alphas: Sequence[float]) -> Float64[np.ndarray, " alphas"]:
    values = increasing("alphas", alphas)
    if values == [1.0]:
        raise UsageError("alphas are [1.0], which scales nothing; give a factor other than 1")
    return np.array(values)


def _normed(reader: Network) -> NormedNetwork:
    if isinstance(reader, NormedNetwork):
        return reader
    raise UsageError(
        f"network {reader.info.name} can't be scaled before LayerNorm: it shows no residual stream before a norm; "
        "language models read by TransformerBridge do. Batch norm in evaluation mode is a fixed affine map, and "
        "experiment scale scales its activations"
    )


def _sites(reader: Network, names: Sequence[str] | None) -> list[Site]:
    known = {site.name: site for site in reader.sites if site.scope == "position"}
    if isinstance(names, str) or (names is not None and not names):
        raise UsageError(f"sites is {names!r}; expected a list of names, or nothing for all")
    for name in names or ():
        if name not in known:
            raise UnknownName(f"no site {name!r} in network {reader.info.name}; it has {', '.join(known)}")
    return [site for site in known.values() if names is None or site.name in names]


# --- measuring ----------------------------------------------------------------------------------------------------


def _before(
    reader: NormedNetwork,
    lives: Sequence[Live],
    ids: Int64[np.ndarray, " examples"],
    factors: Float64[np.ndarray, " alphas"],
) -> list[pd.DataFrame]:
    """A batch of examples with the residual stream scaled before the norm of each site."""
    sites, rows = [live.place.site for live in lives], []
    residual = reader.before_norm(lives[0].views(ids), sites)
    for site in sites:
        # Each α in a call of the same size, so that sums are added in the same order.
        plain, gates = reader.after_norm(site, residual[site.name])
        for alpha in factors:
            moved, other = reader.after_norm(site, (alpha * residual[site.name]).astype(np.float32))
            flipped = ((gates > 0) != (other > 0)).sum(axis=1)
            rows.append(
                pd.DataFrame(
                    {
                        "scaled": BEFORE,
                        "site": site.name,
                        "alpha": alpha,
                        "example": ids,
                        "flipped": flipped,
                        "n_gates": site.n_gates,
                        "share": flipped / site.n_gates,
                        "change": _change(plain, moved),
                    }
                )
            )
    return rows


def _change(
    plain: Float32[np.ndarray, "examples width"], moved: Float32[np.ndarray, "examples width"]
) -> Float64[np.ndarray, " examples"]:
    """‖N(α·r) − N(r)‖/‖N(r)‖; NaN where N(r) is 0."""
    length = np.linalg.norm(plain.astype(np.float64), axis=1)
    apart = np.linalg.norm(moved.astype(np.float64) - plain, axis=1)
    return np.divide(apart, length, out=np.full(len(length), np.nan), where=length > 0)


def _hidden(live: Live, example: int, factors: Float64[np.ndarray, " alphas"]) -> pd.DataFrame:
    """One example with the hidden vector of a site scaled; gates of all later sites."""
    import torch

    tail, sites = live.tail(example), live.place.sites
    scales = np.concatenate([[1.0], factors])
    points = torch.from_numpy((scales[:, None] * live.activations([example])).astype(np.float32))
    read = [span_codes(tail.read(part, sites), sites).packed for part in points.split(tail.batch)]
    codes = SplineCodes(np.concatenate(read), tuple(site.n_gates for site in sites))
    flipped = hamming(codes[:1], codes[1:])
    return pd.DataFrame(
        {
            "scaled": HIDDEN,
            "site": live.place.site.name,
            "alpha": factors,
            "example": example,
            "flipped": flipped,
            "n_gates": live.place.n_gates,
            "share": flipped / live.place.n_gates,
            "change": np.nan,
        }
    )


# --- statistics ---------------------------------------------------------------------------------------------------


def _table(measured: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    rows = [
        _row(group, str(group["site"].iloc[0]), group, rng)
        for _, group in measured.groupby(["scaled", "site", "alpha"], sort=False)
    ]
    for _, group in measured.groupby(["scaled", "alpha"], sort=False):
        # An example counts once, by its mean over sites.
        each = group.groupby(["example", "input"], as_index=False).agg(
            flipped=("flipped", "sum"), n_gates=("n_gates", "sum"), share=("share", "mean"), change=("change", "mean")
        )
        rows.append(_row(group, ALL, each, rng))
    return pd.DataFrame(rows)


def _row(group: pd.DataFrame, site: str, each: pd.DataFrame, rng: np.random.Generator) -> dict[str, object]:
    """A row of the table; ``each``: a row an example."""
    inputs = each["input"].to_numpy(np.int64)
    n_inputs = len(np.unique(inputs))
    return {
        "scaled": group["scaled"].iloc[0],
        "site": site,
        "alpha": group["alpha"].iloc[0],
        "n_gates": int(each["n_gates"].iloc[0]),
        **mean_interval(each["share"].to_numpy(np.float64), rng, units=inputs).columns("share"),
        **share_interval(int((each["flipped"] > 0).sum()), len(each), independent=n_inputs).columns("any"),
        "most": int(each["flipped"].max()),
        **mean_interval(each["change"].to_numpy(np.float64), rng, units=inputs).columns("change"),
        "n": len(each),
        "inputs": n_inputs,
    }


def _summary(measured: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    other = measured[measured["alpha"] != 1]
    rows = []
    for scaled, group in other.groupby("scaled", sort=False):
        each = group.groupby(["example", "input"], as_index=False)["share"].mean()
        found = mean_interval(each["share"].to_numpy(), rng, units=each["input"].to_numpy(np.int64))
        rows.append({"scaled": scaled, **found.columns("share"), "n": len(each), "inputs": each["input"].nunique()})
    return pd.DataFrame(rows)


def _notes(lives: Sequence[Live], measured: pd.DataFrame) -> tuple[str, ...]:
    before = measured[measured["scaled"] == BEFORE]
    notes = [
        "before the norm: what the norm of a block's MLP reads is scaled, not the residual stream that goes past it; "
        f"what the norm gives changes by {before['change'].max():.1e} of its length at most, by its ε and by "
        "rounding to single precision. Gates counted: those of that MLP",
        "MLP hidden vector: scaled at one token, all other tokens held fixed. Gates counted: those of all later MLPs "
        "at that token, so the last site has none; the two are compared as shares",
        "codes are signs of preactivations, not exact regions: attention and normalisation are not piecewise linear",
    ]
    without = [live.place.site.name for live in lives if not live.place.sites]
    if len(without) == len(lives):
        notes.append(f"no MLP comes after {', '.join(without)}: scaling its hidden vector flips no gate")
    return tuple(notes)


# --- what it decides ----------------------------------------------------------------------------------------------

SCALE_FREE = 0.01
"""Share of gates below which scaling flips next to nothing."""

NORM_RULE = (
    f"Supported: scaling before the norm flips less than {SCALE_FREE:.0%} of the gates (its interval lies below), "
    "and scaling the MLP hidden vector flips more (its interval lies above). Not supported: the interval of the "
    "first lies above. Else undecided."
)


def norm_removes_scale(result: Result) -> Verdict:
    """`NORM_RULE`."""
    rows = {row["scaled"]: row for row in result.tables["summary"].to_dict("records")}
    votes = {scaled: vote_of(row["share_low"], row["share_high"], SCALE_FREE) for scaled, row in rows.items()}
    before, hidden = votes.get(BEFORE, 0), votes.get(HIDDEN, 0)
    word: Word = "not supported" if before > 0 else "supported" if before < 0 < hidden else "undecided"
    numbers = [number(f"{scaled}: share of gates flipped", row, "share", row["n"]) for scaled, row in rows.items()]
    because = "; ".join(f"scaled {scaled}: {row['share']:.2g} of the gates flip" for scaled, row in rows.items())
    return Verdict(word, because, pd.DataFrame(numbers))


def _asking(_: Atlas, __: NetworkRecord, ___: Before) -> dict[str, Any]:
    return {"examples": 10, "alphas": [0.2, 0.5, 2.0, 5.0]}


EXPERIMENT = Experiment(
    name="layernorm",
    version=2,
    section=13,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    quick={"examples": 3, "alphas": [0.5, 2.0]},
    claims=(
        Claim(
            "norm",
            Part.COMMENTS,
            1,
            "LayerNorm makes polytopes indifferent to the scale of what it reads.",
            asking=_asking,
            judge=norm_removes_scale,
            rule=NORM_RULE,
        ),
    ),
)
