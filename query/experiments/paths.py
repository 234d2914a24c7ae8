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
from atlas.tails import PiecewiseLinearTail, Tail

from ..examples.ids import check_network, checked_id
from ..pairs.class_density import LONE, draw_different, draw_same, lone_labels
from ..pairs.density import euclidean
from ..progress import Progress, part, tell
from ..statistics import Interval, Units, bootstrap, mean_interval, ratio, weighted_mean
from .crossings import Told, exact_crossings, read_along, sampled_crossings, span_codes
from .figures import finish, legend_above, style
from .live import Live, inputs_of_examples, labels_of_examples, place_of
from .result import Result
from .targets import checked_seed, checked_tolerance

if TYPE_CHECKING:
    from atlas.tails import TailReading

METHODS = ("auto", "exact", "sampled")

AFFORDABLE = 10**8
"""Crossings times gates up to which a single pair is done exactly unless asked otherwise: 20 s on two cores."""

PAIRS = 40
"""Pairs of each kind unless asked otherwise."""

MOST_POINTS = 8192
"""Points on a path after which sampling gives up: a path then has steps of 0.01 %."""

KINDS = {"same": "same label", "different": "different labels", "pair": "the pair"}


@dataclass(frozen=True)
class Profile:
    """Crossings in each step of a path, and how they were found."""

    per_step: Int64[np.ndarray, " steps"]
    how: dict[str, Any]


def interpolate(
    atlas: Atlas,
    reader: Network,
    *,
    span: str,
    a: int | None = None,
    b: int | None = None,
    pairs: int | None = None,
    steps: int = 40,
    method: str = "auto",
    tolerance: float = 0.005,
    seed: int = 0,
    progress: Progress | None = None,
) -> Result:
    """Density of boundaries along straight lines between the activations of two examples.

    ``span``: AFTER->TO. The path lies in the activation space of AFTER; the boundaries are those of the gates after
    it. ``a``: an example to start from. ``b``: the example to end at. ``pairs``: how many pairs of the same label,
    and as many of different ones, are drawn and averaged; 40 without ``a`` and ``b``, else none. ``steps``: of a
    profile. ``method``: exact (every crossing located; ReLU networks), sampled, or auto: exact for the one pair a, b
    where that takes seconds. ``tolerance``: sampling halves its steps until the total grows by no more than this
    share. ``seed``: for drawing pairs and for intervals.

        x(t) = (1 − t)·x + t·y,    density_i = crossings in step i / ‖x(t_{i+1}) − x(t_i)‖₂        (SCIENCE 5)

    Table: kind (pair, same, different), step, t_low, t_high, density with the ends of its interval over pairs, n
    (pairs). Table ``pairs``: kind, a, b, label_a, label_b, distance, hamming (of the end points, which no path
    undercuts), crossings, density (crossings / distance), detour (crossings / hamming), method, points, growth (by
    the last halving; 0 where exact), converged, switches (of max-pooling windows; NaN where sampled). Table
    ``summary``: kind, n, mean density and mean detour with intervals, and for different labels the ratio of mean
    densities, different / same. Intervals: bootstrap over inputs, which pairs share and tokens of one text depend
    through. A pair at distance 0 is dropped and counted.

    Raises `UsageError` for the same example twice, for one of a and b, and for impossible parameters; `NotStored`,
    `UnknownName`.
    """
    n_steps = whole("steps", steps)
    _check(method, tolerance)
    if (a is None) != (b is None):
        raise UsageError(f"give both ends of the pair, a and b, or neither; got a {a!r} and b {b!r}")
    live = Live(atlas, reader, place_of(reader, span=span))
    rng = np.random.default_rng(checked_seed(seed))
    wanted = (0 if a is not None else PAIRS) if pairs is None else whole("pairs", pairs, least=0)
    asked = [] if a is None or b is None else [("pair", *_checked_pair(atlas, live, a, b))]
    asked += _draw(live, wanted, rng) if wanted else []
    if not asked:
        raise UsageError("there is nothing to do: give a and b, or at least one pair to draw")
    edges = np.linspace(0, 1, n_steps + 1)
    rows, profiles = [], []
    for done, (kind, x, y) in enumerate(asked):
        row, profile = _measure(live, kind, x, y, edges, method, tolerance, part(progress, done, len(asked)))
        rows.append(row)
        profiles.append(profile)
    tell(progress, len(asked), len(asked))
    measured = _described(atlas, pd.DataFrame(rows))
    kept = (measured["distance"] > 0).to_numpy()
    measured, profiles = (
        measured[kept].reset_index(drop=True),
        [p for p, keep in zip(profiles, kept, strict=True) if keep],
    )
    parameters = {
        "span": live.place.name,
        "a": a,
        "b": b,
        "pairs": wanted,
        "steps": n_steps,
        "method": method,
        "tolerance": tolerance,
        "seed": seed,
        "n_gates": live.place.n_gates,
    }
    inputs = np.column_stack([inputs_of_examples(atlas, measured[end].to_numpy()) for end in ("a", "b")])
    tables = {
        "table": _mean_profiles(measured, np.array(profiles), inputs, edges, rng),
        "pairs": measured,
        "summary": _summary(measured, inputs, rng),
    }
    notes = path_notes(live.tail(asked[0][1]), measured, int((~kept).sum()), tolerance)
    if n_lone := _lone(live) if wanted else 0:
        notes.append(f"{n_lone} {LONE}")
    if live.owner.kind == "text":
        notes.append("the vector of b is put into the place of that of a: the sequence is a's all along")
    return Result("interpolate", live.owner.name, parameters, tables, tuple(notes))


def draw_interpolate(result: Result) -> go.Figure:
    """Mean density along the path, by kind of pair."""
    figure = go.Figure()
    table = result.table
    for place, kind in enumerate(name for name in KINDS if name in set(table["kind"])):
        rows = table[table["kind"] == kind]
        look = style(place)
        middle = (rows["t_low"] + rows["t_high"]) / 2
        add_band(figure, middle, rows, "density", look)
        figure.add_trace(
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
    figure.update_xaxes(title="t along x(t) = (1 − t)·x + t·y", range=[0, 1])
    figure.update_yaxes(title="Boundaries crossed per unit of distance", rangemode="tozero")
    legend_above(figure)
    p = result.parameters
    return finish(
        figure,
        f"Polytope density between two examples, {p['span']} of {result.network}",
        f"{p['n_gates']:,} gates; bands: bootstrap over inputs, 95 %",
        result.notes,
    )


def add_band(figure: go.Figure, x: pd.Series, rows: pd.DataFrame, column: str, look: Any, **place: int) -> None:
    """The interval of a profile as a band behind its line; ``place``: row and col of the panel."""
    low, high = rows[f"{column}_low"], rows[f"{column}_high"]
    if low.isna().all():
        return
    figure.add_trace(
        go.Scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor=look.colour,
            opacity=0.18,
            showlegend=False,
            hoverinfo="skip",
        ),
        **place,
    )


# --- measuring -------------------------------------------------------------------------------------------------


def profile_of(
    tail: Tail,
    start: Float32[np.ndarray, " units"],
    end: Float32[np.ndarray, " units"],
    sites: Sequence[Site],
    edges: Float64[np.ndarray, " edges"],
    *,
    exact: bool,
    tolerance: float,
    told: Told = lambda share: None,
) -> Profile:
    """Crossings between ``edges`` of the segment from ``start`` to ``end``; ``tail`` precise where exact."""
    if exact and isinstance(tail, PiecewiseLinearTail):
        found = exact_crossings(tail, start, end, sites, told=told)
        how = {"method": "exact", "points": 0, "growth": 0.0, "converged": True, "switches": len(found.switches)}
        return Profile(found.per_step(edges), how)
    sampled = sampled_crossings(
        tail, start, end, sites, edges, tolerance=tolerance, most_points=MOST_POINTS, told=told
    )
    return Profile(
        sampled.per_step,
        {
            "method": "sampled",
            "points": sampled.points,
            "growth": sampled.growth,
            "converged": sampled.converged,
            "switches": np.nan,
        },
    )


def path_notes(tail: Tail, measured: pd.DataFrame, dropped: int, tolerance: float) -> list[str]:
    """What must be said beside the numbers of paths."""
    notes = [tail.remark]
    sampled = measured[measured["method"] == "sampled"]
    if len(sampled):
        grew = sampled["growth"].max()
        notes.append(
            f"{len(sampled)} of {len(measured)} paths are sampled: crossings are counted between points, halving the "
            f"steps until the total grows by at most {tolerance:.2%}; the last halving added {grew:.2%} "
            f"at most, with up to {sampled['points'].max():,} points. A unit that flips twice between two points is "
            "missed, so sampled counts are lower bounds"
        )
    missed = int((~sampled["converged"].astype(bool)).sum())
    if missed:
        notes.append(f"{missed} paths still grew by more at {MOST_POINTS:,} points: their counts are too low")
    if len(sampled) < len(measured):
        notes.append("exact paths: every crossing is located, in double precision")
    if dropped:
        notes.append(f"{dropped} pairs whose activations are equal were dropped: they have no density")
    return notes


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
    tail, sites = live.tail(x), live.place.sites
    start, end = live.activations([x, y])
    distance = float(euclidean(start[None], end[None])[0])
    ends = {row: span_codes(reading, sites) for row, reading in _ends(tail, start, end, sites)}
    apart = int(hamming(ends[0], ends[1])[0])
    exact = _is_exact(tail, method, kind, apart * live.place.n_gates)
    if method == "exact" and not exact:
        raise UsageError(f"method exact needs a piecewise linear network; {tail.remark}")
    precise = tail.precise() if exact and isinstance(tail, PiecewiseLinearTail) else tail
    profile = profile_of(precise, start, end, sites, edges, exact=exact, tolerance=tolerance, told=told)
    crossings = int(profile.per_step.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        density = profile.per_step / (np.diff(edges) * distance)
    row = {
        "kind": kind,
        "a": x,
        "b": y,
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


def _is_exact(tail: Tail, method: str, kind: str, cost: int) -> bool:
    if not isinstance(tail, PiecewiseLinearTail):
        return False
    return method == "exact" or (method == "auto" and kind == "pair" and cost <= AFFORDABLE)


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
