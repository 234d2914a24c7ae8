"""Polytope density along a straight path between two examples (SCIENCE 5; post: appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network, hamming
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.network import Site
from atlas.store.catalog import NetworkRecord
from atlas.tails import PiecewiseLinearTail, Tail

from ..examples.ids import check_network, checked_id
from ..examples.live import Live, Place, inputs_of_examples, labels_of_examples, place_of
from ..pairs.class_density import LONE, draw_different, draw_same, lone_labels
from ..pairs.density import euclidean
from ..polytope.crossings import Told, read_along, span_codes
from ..progress import Progress, part, tell
from ..statistics import Interval, Units, bootstrap, mean_interval, ratio, weighted_mean
from .claims import SCALED, Before, Claim, Part, Verdict, number, span_at, vote_of, word_for
from .figures import add_band, finish, legend_above, style
from .options import CommonOptions
from .paths import HOW_COLUMNS, path_notes, profile_of
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval
from .targets import checked_tolerance

if TYPE_CHECKING:
    from atlas.tails import TailReading

METHODS = ("auto", "exact", "sampled")

AFFORDABLE = 10**8
"""Crossings times gates up to which a single pair is done exactly unless asked otherwise: 20 s on two cores."""

PAIRS = 40
"""Pairs of each kind unless asked otherwise."""

KINDS = {"same": "same label", "different": "different labels", "pair": "the pair"}


@dataclass(frozen=True, kw_only=True)
class Options(CommonOptions):
    span: str
    """AFTER->TO. The path lies in the activation space of AFTER; the boundaries are those of the gates after it."""

    a: int | None = None
    """An example to start from."""

    b: int | None = None
    """The example to end at."""

    pairs: int | None = None
    """How many pairs of the same label, and as many of different ones, are drawn and averaged; 40 without a and b,
    else none."""

    steps: int = 40
    """Of a profile."""

    method: str = "auto"
    """Exact (every crossing located; ReLU networks), sampled, or auto: exact for the one pair a, b where that takes
    seconds."""

    tolerance: float = 0.005
    """Sampling halves its steps until the total grows by no more than this share."""


KIND = Column("kind", str, "pair: a and b; same, different: drawn pairs of one label, of two")

TABLES = {
    "table": table_of(
        "a kind of pair and a step; bootstrap over inputs, which pairs share and tokens of one text depend through",
        KIND,
        Column("step", int, "number of the step"),
        Column("t_low", float, "where it begins"),
        Column("t_high", float, "where it ends"),
        *with_interval("density", "mean over pairs", "boundaries a unit of distance"),
        Column("n", int, "pairs"),
    ),
    "pairs": table_of(
        "a pair of examples",
        KIND,
        Column("a", int, "id of the example where the path begins"),
        Column("b", int, "id of the example where it ends"),
        Column("label_a", str, "label of a"),
        Column("label_b", str, "label of b"),
        Column("distance", float, "Euclidean distance of the activations"),
        Column("hamming", int, "gates in which the ends differ, which no path undercuts", "gates"),
        Column("crossings", int, "boundaries crossed"),
        Column("density", float, "crossings over distance", "boundaries a unit of distance"),
        Column("detour", float, "crossings over hamming"),
        *HOW_COLUMNS,
        Column("switches", float, "of max-pooling windows; NaN where sampled"),
    ),
    "summary": table_of(
        "a kind of pair",
        KIND,
        Column("n", int, "pairs"),
        *with_interval("density", "mean over pairs", "boundaries a unit of distance"),
        *with_interval("detour", "mean over pairs"),
        *with_interval("ratio", "for different labels: mean density over that of pairs of the same"),
    ),
}


def measure(atlas: Atlas, options: Options, *, reader: Network, progress: Progress | None = None) -> Result:
    """Measure the density of boundaries along straight lines between the activations of two examples.

        x(t) = (1 − t)·x + t·y,    density_i = crossings in step i / ‖x(t_{i+1}) − x(t_i)‖₂        (SCIENCE 5)

    A pair at distance 0 is dropped and counted.

    Raises `UsageError` for the same example twice, for one of a and b, and for impossible options; `NotStored`,
    `UnknownName`.
    """
    n_steps = whole("steps", options.steps)
    _check(options.method, options.tolerance)
    if (options.a is None) != (options.b is None):
        raise UsageError(f"give both ends of the pair, a and b, or neither; got a {options.a!r} and b {options.b!r}")
    live = Live(atlas, reader, place_of(reader, span=options.span))
    rng = np.random.default_rng(options.seed)
    wanted = (
        (0 if options.a is not None else PAIRS) if options.pairs is None else whole("pairs", options.pairs, least=0)
    )
    asked = (
        []
        if options.a is None or options.b is None
        else [("pair", *_checked_pair(atlas, live, options.a, options.b))]
    )
    asked += _draw(live, wanted, rng) if wanted else []
    if not asked:
        raise UsageError("there is nothing to do: give a and b, or at least one pair to draw")
    edges = np.linspace(0, 1, n_steps + 1)
    rows, profiles = [], []
    for done, (kind, x, y) in enumerate(asked):
        row, profile = _measure(
            live, kind, x, y, edges, options.method, options.tolerance, part(progress, done, len(asked))
        )
        rows.append(row)
        profiles.append(profile)
    tell(progress, len(asked), len(asked))
    measured = _described(atlas, pd.DataFrame(rows))
    kept = (measured["distance"] > 0).to_numpy()
    measured, profiles = (
        measured[kept].reset_index(drop=True),
        [p for p, keep in zip(profiles, kept, strict=True) if keep],
    )
    parameters = {"span": live.place.name, "pairs": wanted, "n_gates": live.place.n_gates}
    inputs = np.column_stack([inputs_of_examples(atlas, measured[end].to_numpy()) for end in ("a", "b")])
    tables = {
        "table": _mean_profiles(measured, np.array(profiles), inputs, edges, rng),
        "pairs": measured,
        "summary": _summary(measured, inputs, rng),
    }
    notes = path_notes(live.tail(asked[0][1]), measured, int((~kept).sum()), options.tolerance)
    if n_lone := _lone(live) if wanted else 0:
        notes.append(f"{n_lone} {LONE}")
    if live.held:
        notes.append(f"the vector of b is put into the place of that of a: {live.held} is a's all along")
    return Result("interpolate", live.owner.name, parameters, tables, tuple(notes))


def figure(result: Result) -> go.Figure:
    """Mean density along the path, by kind of pair."""
    drawing = go.Figure()
    table = result.table
    for place, kind in enumerate(name for name in KINDS if name in set(table["kind"])):
        rows = table[table["kind"] == kind]
        look = style(place)
        middle = (rows["t_low"] + rows["t_high"]) / 2
        add_band(drawing, middle, rows, "density", look)
        drawing.add_trace(
            go.Scatter(
                x=middle,
                y=rows["density"],
                mode="lines+markers",
                line=look.line,
                marker={**look.marker, "size": 6},
                name=f"{KINDS[kind]}, n = {rows['n'].iloc[0]}",
                hovertemplate="t = %{x:.3g}<br>%{y:.4g} boundaries per unit<extra>" + KINDS[kind] + "</extra>",
            )
        )
    drawing.update_xaxes(title="t along x(t) = (1 − t)·x + t·y", range=[0, 1])
    drawing.update_yaxes(title="Boundaries crossed per unit of distance", rangemode="tozero")
    legend_above(drawing)
    p = result.parameters
    return finish(
        drawing,
        f"Polytope density between two examples, {p['span']} of {result.network}",
        f"{p['n_gates']:,} gates; bands: bootstrap over inputs, 95 %",
        result.notes,
    )


# --- measuring -------------------------------------------------------------------------------------------------


def _check(method: str, tolerance: float) -> None:
    if method not in METHODS:
        raise UsageError(f"method is {method!r}; expected one of {', '.join(METHODS)}")
    checked_tolerance(tolerance)


def _checked_pair(atlas: Atlas, live: Live, a: int, b: int) -> tuple[int, int]:
    x, y = (check_network(atlas, checked_id(example), live.owner) for example in (a, b))
    if x == y:
        raise UsageError(f"a and b are both example {x}; a path needs two different ones")
    return x, y


def _labelled(live: Live) -> tuple[Int64[np.ndarray, " examples"], ...]:
    """Ids, numbers of labels, and inputs of the examples that have a label."""
    frame = live.examples(labelled=True)
    labels = frame["label"].astype("category").cat.codes.to_numpy(np.int64)
    return frame["example_id"].to_numpy(np.int64), labels, frame["input_id"].to_numpy(np.int64)


def _lone(live: Live) -> int:
    _, labels, inputs = _labelled(live)
    return lone_labels(labels, inputs)


def _draw(live: Live, wanted: int, rng: np.random.Generator) -> list[tuple[str, int, int]]:
    """Pairs of the same and of different labels, never of one input."""
    ids, labels, inputs = _labelled(live)
    if len(np.unique(labels)) < 2:
        raise UsageError(
            f"pairs of the same and of different labels are compared, so at least two labels are needed; the "
            f"{len(ids)} labelled examples of network {live.owner.name} have {len(np.unique(labels))}"
        )
    found = {
        "same": draw_same(labels, inputs, wanted, rng),
        "different": draw_different(labels, inputs, wanted, rng),
    }
    if not len(found["same"][0]):
        raise UsageError(
            f"no label of network {live.owner.name} has examples of two inputs, and two examples of one input are "
            "never paired; pairs of one label need them"
        )
    return [
        (kind, int(ids[i]), int(ids[j]))
        for kind, (first, second) in found.items()
        for i, j in zip(first, second, strict=True)
    ]


def _measure(
    live: Live,
    kind: str,
    x: int,
    y: int,
    edges: Float64[np.ndarray, " edges"],
    method: str,
    tolerance: float,
    told: Told,
) -> tuple[dict[str, Any], Float64[np.ndarray, " steps"]]:
    """One pair: its row of table ``pairs``, and its density in each step."""
    start, end = live.activations([x, y])
    single = kind == "pair"
    row, density = crossed(live.tail(x), live.place, start, end, edges, method, single, tolerance, told)
    return {"kind": kind, "a": x, "b": y, **row}, density


def crossed(
    tail: Tail,
    place: Place,
    start: Float32[np.ndarray, " units"],
    end: Float32[np.ndarray, " units"],
    edges: Float64[np.ndarray, " edges"],
    method: str,
    single: bool,
    tolerance: float,
    told: Told = lambda share: None,
) -> tuple[dict[str, Any], Float64[np.ndarray, " steps"]]:
    """What lies on the straight line between two activations: distance, hamming, crossings, density, detour and how
    they were counted, as in table ``pairs``; and the density in each step. ``single``: of one pair alone, of which
    `method` auto may take longer."""
    sites = place.sites
    distance = float(euclidean(start[None], end[None])[0])
    ends = {row: span_codes(reading, sites) for row, reading in _ends(tail, start, end, sites)}
    apart = int(hamming(ends[0], ends[1])[0])
    exact = _is_exact(tail, method, single, apart * place.n_gates)
    if method == "exact" and not exact:
        raise UsageError(f"method exact needs a piecewise linear network; {tail.remark}")
    precise = tail.precise() if exact and isinstance(tail, PiecewiseLinearTail) else tail
    profile = profile_of(precise, start, end, sites, edges, exact=exact, tolerance=tolerance, told=told)
    crossings = int(profile.per_step.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        density = profile.per_step / (np.diff(edges) * distance)
    row = {
        "distance": distance,
        "hamming": apart,
        "crossings": crossings,
        "density": crossings / distance if distance else np.nan,
        "detour": crossings / apart if apart else np.nan,
        **profile.how,
    }
    return row, density


def _ends(tail: Tail, start: np.ndarray, end: np.ndarray, sites: Sequence[Site]) -> list[tuple[int, TailReading]]:
    """Readings of the two ends, one at a time: a batch may hold a single point of a large tail."""
    return [
        (row, reading) for row in (0, 1) for _, reading in read_along(tail, start, end, sites, np.array([float(row)]))
    ]


def _is_exact(tail: Tail, method: str, single: bool, cost: int) -> bool:
    if not isinstance(tail, PiecewiseLinearTail):
        return False
    return method == "exact" or (method == "auto" and single and cost <= AFFORDABLE)


def _described(atlas: Atlas, frame: pd.DataFrame) -> pd.DataFrame:
    for end in ("a", "b"):
        labels = labels_of_examples(atlas, frame[end].to_numpy())
        frame.insert(frame.columns.tolist().index("distance"), f"label_{end}", pd.Series(labels, dtype=object))
    return frame


# --- statistics ------------------------------------------------------------------------------------------------


def _mean_profiles(
    measured: pd.DataFrame,
    profiles: Float64[np.ndarray, "pairs steps"],
    inputs: Units,
    edges: Float64[np.ndarray, " edges"],
    rng: np.random.Generator,
) -> pd.DataFrame:
    rows = []
    for kind in (name for name in KINDS if name in set(measured["kind"])):
        here = (measured["kind"] == kind).to_numpy()
        for step, values in enumerate(profiles[here].T):
            density = _mean(values, inputs[here], rng)
            rows.append(
                {
                    "kind": kind,
                    "step": step,
                    "t_low": edges[step],
                    "t_high": edges[step + 1],
                    **density.columns("density"),
                    "n": int(here.sum()),
                }
            )
    return pd.DataFrame(rows)


def _summary(measured: pd.DataFrame, inputs: Units, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for kind in (name for name in KINDS if name in set(measured["kind"])):
        here = (measured["kind"] == kind).to_numpy()
        of_kind = measured[here]
        found = _ratio(measured, inputs, rng) if kind == "different" else Interval(np.nan, np.nan, np.nan, 0)
        rows.append(
            {
                "kind": kind,
                "n": int(here.sum()),
                **_mean(of_kind["density"].to_numpy(), inputs[here], rng).columns("density"),
                **_mean(of_kind["detour"].to_numpy(), inputs[here], rng).columns("detour"),
                **found.columns("ratio"),
            }
        )
    return pd.DataFrame(rows)


def _mean(values: Float64[np.ndarray, " pairs"], inputs: Units, rng: np.random.Generator) -> Interval:
    """The mean over pairs, from resampling the inputs of their ends. Of a single pair there is no interval: its two
    inputs, drawn anew, give the same pair or none."""
    return mean_interval(values, rng, units=inputs if len(inputs) > 1 else np.zeros(len(inputs), np.int64))


def _ratio(measured: pd.DataFrame, inputs: Units, rng: np.random.Generator) -> Interval:
    """Mean density of pairs of different labels over that of pairs of the same."""
    drawn = (measured["kind"] != "pair").to_numpy()
    values, same = measured["density"].to_numpy()[drawn], (measured["kind"] == "same").to_numpy()[drawn]

    def different_over_same(weights: Float64[np.ndarray, "resamples pairs"]) -> Float64[np.ndarray, " resamples"]:
        return ratio(*(weighted_mean(weights[:, kind], values[kind]) for kind in (~same, same)))

    return bootstrap(len(values), different_over_same, rng, units=inputs[drawn])


# --- what it decides -------------------------------------------------------------------------------------------

PATH_RULE = (
    "Supported: the interval of the ratio of mean densities, different over same class, along straight lines lies"
    " above 1. Not supported: it lies below. Else undecided."
)


def paths_between_classes_are_denser(result: Result) -> Verdict:
    """`PATH_RULE`."""
    rows = {row["kind"]: row for row in result.tables["summary"].to_dict("records")}
    ratio = rows["different"]
    numbers = [number(f"density along paths, {kind} class", row, "density", row["n"]) for kind, row in rows.items()]
    numbers.append(number("ratio, different over same", ratio, "ratio", ratio["n"]))
    word = word_for(vote_of(ratio["ratio_low"], ratio["ratio_high"], 1.0))
    return Verdict(word, f"ratio {ratio['ratio']:.3g}", pd.DataFrame(numbers))


def _asking(atlas: Atlas, network: NetworkRecord, _: Before) -> dict[str, Any]:
    return {"span": span_at(atlas, network, SCALED), "pairs": 12, "steps": 20, "tolerance": 0.05}


EXPERIMENT = Experiment(
    name="interpolate",
    version=2,
    section=5,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    live=True,
    quick={"pairs": 3, "steps": 5, "tolerance": 0.2},
    claims=(
        Claim(
            "path",
            Part.INTERPOLATING,
            1,
            "On the way between images of different classes boundaries are denser.",
            asking=_asking,
            judge=paths_between_classes_are_denser,
            rule=PATH_RULE,
        ),
    ),
)
