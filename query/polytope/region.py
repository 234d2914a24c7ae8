"""Whether two stored examples lie in one polytope, and what a straight way between them crosses (SCIENCE 5, 14)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network, hamming
from atlas.network import Site
from atlas.tails import PiecewiseLinearTail, Tail

from ..notebook import Shown
from ..pairs.density import euclidean
from ..progress import Progress, part
from .crossings import Told, exact_crossings, read_along, sampled_crossings, span_codes
from .names import gate_names
from .points import live_at, stored_point
from .roots import flips_between

STEPS, TOLERANCE, MOST_POINTS = 64, 0.01, 1 << 12
"""Of a smooth network: steps of the way, which are halved until no more than this share of flips is new, and points
at most."""


@dataclass(frozen=True, eq=False)
class Region(Shown):
    """Two stored examples x and y, and the boundaries between them.

    same: whether no boundary lies between them. n_gates: gates of the span. hamming: gates in which their codes
    differ, the least number that any way crosses. distance: ‖x − y‖₂.
    exact: whether all boundaries are found; of a smooth network those are that flip between sampled points, each
        located by root search.
    table: a row a boundary that the straight way crosses, in order: t (from 0 at x to 1 at y), distance from x, kind
        (gate, or pooling where a window takes another input), site, gate, module, channel, row, column.
    """

    network: str
    span: str
    x: int
    y: int
    same: bool
    n_gates: int
    hamming: int
    distance: float
    exact: bool
    remark: str
    table: pd.DataFrame


def region(atlas: Atlas, x: int, y: int, *, reader: Network, span: str, progress: Progress | None = None) -> Region:
    """Whether two stored examples lie in one polytope of a span, and if not, the crossings between them, in order.

    Exact for a piecewise linear network. Of a language model y is the vector that takes the place of x in the
    sequence of x.

    Args:
        atlas: an open atlas.
        x: id of one example.
        y: id of the other.
        reader: the network itself, with the weights of the atlas.
        span: ``AFTER->TO``: the segment lies in the space of AFTER, the boundaries are those of the gates after it.
        progress: called with (steps done, steps in all).

    Returns:
        `Region`. A polytope is convex: without a crossing the two are in one.

    Raises:
        UsageError: for a span without gates, a network that can't be run from a site.
        UnknownName: for an example or site that is not there.
        NotStored: for an activation that is neither stored nor can be read again.
        WeightsError: for a reader that is not the network of the atlas.
        NonFinite: for an activation with NaN or infinity.
        TooManyPoints: where the way crosses more boundaries than are located exactly.
    """
    import torch

    live = live_at(atlas, reader, span)
    ends = [stored_point(live, example) for example in (x, y)]
    tail, sites, told = ends[0].tail, live.place.sites, part(progress, 0, 1)
    points = np.stack([end.activation for end in ends])
    exact, remark = isinstance(tail, PiecewiseLinearTail), tail.remark
    if isinstance(tail, PiecewiseLinearTail):
        tail = tail.precise()
        found = exact_crossings(tail, points[0], points[1], sites, told=told)
        at, gates, switches = found.at, found.gate, found.switches
    else:
        at, gates, how = _flips(tail, points, sites, told)
        switches, remark = np.empty(0), f"{remark}; {how}"
    told(1.0)
    codes = span_codes(tail.read(torch.from_numpy(points.astype(np.float64)), sites), sites)
    distance = float(euclidean(points[:1], points[1:])[0])
    table = gate_names(sites, gates).assign(t=at)
    table = pd.concat([table, pd.DataFrame({"kind": "pooling", "t": switches})], ignore_index=True)
    table = table.sort_values("t", kind="stable", ignore_index=True)
    table.insert(0, "t", table.pop("t"))
    table.insert(1, "distance", table["t"] * distance)
    return Region(
        network=live.owner.name,
        span=live.place.name,
        x=int(x),
        y=int(y),
        same=table.empty,
        n_gates=live.place.n_gates,
        hamming=int(hamming(codes[:1], codes[1:])[0]),
        distance=distance,
        exact=exact,
        remark=remark,
        table=table,
    )


def _flips(
    tail: Tail, points: Float32[np.ndarray, "2 units"], sites: Sequence[Site], told: Told
) -> tuple[Float64[np.ndarray, " flips"], Int64[np.ndarray, " flips"], str]:
    """Where gates of a smooth network flip on a segment, in order, and which; how that was found, in words."""
    x, y = points
    origin, way = x.astype(np.float64), y.astype(np.float64) - x
    sampled = sampled_crossings(
        tail,
        x,
        y,
        sites,
        np.linspace(0, 1, STEPS + 1),
        tolerance=TOLERANCE,
        most_points=MOST_POINTS,
        told=lambda share: told(share / 2),
    )
    times = np.linspace(0, 1, sampled.points)
    steps, gates, last = [np.empty(0, np.int64)], [np.empty(0, np.int64)], None
    for rows, reading in read_along(tail, x, y, sites, times):
        bits = span_codes(reading, sites).unpack()
        bits = bits if last is None else np.concatenate([last, bits])
        step, gate = np.nonzero(bits[1:] != bits[:-1])
        steps.append(step + rows.start - (last is not None))
        gates.append(gate)
        last = bits[-1:]
    step, gate = np.concatenate(steps), np.concatenate(gates)
    at = np.empty(len(step))
    for first in range(0, len(step), tail.batch):
        told(0.5 + 0.5 * first / len(step))
        some = slice(first, first + tail.batch)
        low, high = times[step[some]], times[step[some] + 1]
        located = flips_between(tail, sites, origin, np.tile(way, (len(low), 1)), gate[some], low, high)
        # At an end that single precision does not tell from 0 no sign differs: it flips there.
        at[some] = np.where(np.isnan(located), low, located)
    order = np.argsort(at, kind="stable")
    how = (
        f"boundaries are those of gates that flip between {sampled.points:,} sampled points, located by root search; "
        f"the last halving of the steps found {sampled.growth:.1%} more"
    )
    return at[order], gate[order], how
