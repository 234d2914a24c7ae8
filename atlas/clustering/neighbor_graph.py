"""The graph of nearest neighbours of millions of points, and how much of it is exact.

Points belong to the nearest of some pivots among them, and the neighbours of a cell's points are looked for in the
cells nearest to it. By the triangle inequality no point of a cell with pivot v and radius r is nearer to x than
d(x, v) − r, so what was not looked at is bounded from below: a neighbour list is exact where that bound reaches its
last distance, and elsewhere it is known how wrong it can be.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt

import numpy as np
from jaxtyping import Float64, Int64

from ..errors import UsageError
from ..progress import Progress, Tell
from ..threads import in_threads, n_threads
from .distances import Points
from .kernels import keep_nearest
from .limits import BLOCK_BYTES

PROBES = 16  # cells looked through for each; on clustered codes of 1,024 gates more than 99 % of lists are then exact
_IN_CELL = 32  # points for a pivot: with fewer pivots clusters are left without, and then nothing can be excluded
_TOGETHER = 4  # cells looked through between two looks at what is still hopeful
_TELL_EVERY = 64  # cells
_SHARE_OF_CELLS = 0.5  # of the time at 200,000 codes


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """For each point k others, nearest first, none of which need be its true neighbours.

    ``bound``: no point that is not listed is nearer than this. A list is exact where it equals the last distance.
    """

    neighbors: Int64[np.ndarray, "n k"]
    distances: Float64[np.ndarray, "n k"]
    bound: Float64[np.ndarray, " n"]


def neighbor_graph(
    points: Points, k: int, probes: int = PROBES, seed: int = 0, progress: Progress | None = None
) -> NeighborGraph:
    """The k nearest neighbours of every point, looked for in at most ``probes`` cells (and on until there are k).

    Args:
        points: n points, all different.
        k: neighbours of each.
        probes: cells looked through for each, its own among them.
        seed: draws the pivots.
        progress: in points, though part of the time goes before the first is done.

    Raises:
        UsageError: for k < 1, for k that is not less than n, and for no probes.
    """
    n = len(points)
    if not 1 <= k < n:
        raise UsageError(f"{k} neighbours of each were asked for; {n} different points have 1 to {n - 1}")
    if probes < 1:
        raise UsageError(f"at least one cell must be looked through, got {probes} probes")

    def tell(share: float) -> None:
        if progress is not None:
            progress(int(share * n), n)

    pivots, cell = _cells(points, seed, lambda share: tell(_SHARE_OF_CELLS * share))
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(pivots) + 1))
    ordered = points.take(np.concatenate([order, pivots]))  # at the end once more, side by side: no cell copies them
    at_end = slice(n, n + len(pivots))
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    edges = starts.tolist()  # of cells, in ``ordered``
    radius = np.empty(len(pivots))
    graph = NeighborGraph(np.full((n, k), -1), np.full((n, k), np.inf), np.empty(n))

    def measure(number: int) -> None:
        rows = slice(edges[number], edges[number + 1])
        radius[number] = ordered.between(rows, slice(n + number, n + number + 1)).max()

    def search(number: int) -> None:
        step = max(1, BLOCK_BYTES // (8 * len(pivots) * n_threads()))
        for low in range(edges[number], edges[number + 1], step):
            rows = slice(low, min(low + step, edges[number + 1]))
            lower = ordered.between(rows, at_end) - radius
            _search(ordered, rows, number, starts, lower, probes, graph)

    in_threads(measure, range(len(pivots)))
    for first in range(0, len(pivots), _TELL_EVERY):
        in_threads(search, range(first, min(first + _TELL_EVERY, len(pivots))))
        done = edges[min(first + _TELL_EVERY, len(pivots))] / n
        tell(_SHARE_OF_CELLS + (1 - _SHARE_OF_CELLS) * done)
    return NeighborGraph(order[graph.neighbors[place]], graph.distances[place], graph.bound[place])


def distances_at(
    own: Int64[np.ndarray, " rows"],
    neighbors: Int64[np.ndarray, "rows k"],
    distances: Float64[np.ndarray, "rows k"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
) -> Float64[np.ndarray, " rows"]:
    """Distance to what stands at ``rank`` (from 1) among a point's ``own`` equals, itself one of them, and its
    nearest neighbours with theirs. ``weights``: how many are equal to each point."""
    if not neighbors.shape[1]:
        return np.zeros(len(own))
    counted = own[:, None] + np.cumsum(weights[neighbors], axis=1)
    at = np.argmax(counted >= rank, axis=1)
    return np.where(own >= rank, 0.0, np.take_along_axis(distances, at[:, None], axis=1)[:, 0])


def _cells(points: Points, seed: int, tell: Tell) -> tuple[Int64[np.ndarray, " cells"], Int64[np.ndarray, " n"]]:
    """A pivot for every 32 points (√n at least, 16·√n at most), and for each point the number of its nearest.

    Half of the pivots are drawn, as dense as the points; the others are, one after another, the point that is
    farthest from all pivots so far, until every point is at distance 0 of one, as where distances underflow. Without
    these a small cluster falls to a pivot far away, and its cell bounds nothing.
    """
    n = len(points)
    cells = max(isqrt(n), min(n // _IN_CELL, 16 * isqrt(n)))
    drawn = cells - cells // 2
    pivots = np.random.default_rng(seed).choice(n, drawn, replace=False)
    cell, distance = np.empty(n, dtype=np.int64), np.empty(n)
    step = max(1, BLOCK_BYTES // (8 * drawn))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        block = points.between(rows, pivots)
        cell[rows], distance[rows] = block.argmin(axis=1), block.min(axis=1)
        tell(rows.stop / n * drawn / cells)
    for number in range(drawn, cells):
        if distance.max() == 0:
            break
        pivots = np.append(pivots, distance.argmax())
        to_pivot = points.between(pivots[-1:], slice(0, n))[0]
        nearer = to_pivot < distance
        cell[nearer], distance[nearer] = number, to_pivot[nearer]
        if number % _TELL_EVERY == 0:
            tell(number / cells)
    cell[pivots] = np.arange(len(pivots))  # of its own cell, whatever rounding says of the distance to itself
    return pivots, cell


def _search(
    ordered: Points,
    rows: slice,
    own: int,
    starts: Int64[np.ndarray, " edges"],
    lower: Float64[np.ndarray, "rows cells"],
    probes: int,
    graph: NeighborGraph,
) -> None:
    """Write into ``graph`` what is nearest to the points ``rows`` of cell ``own``, from the cells that may hold it,
    the likeliest first.

    ``lower``: nothing in a cell is nearer to a row than this: d(x, v) − r.
    """
    members = np.arange(rows.start, rows.stop)
    distances, neighbors = graph.distances[rows], graph.neighbors[rows]
    likely = np.argsort(lower.mean(axis=0), kind="stable")
    chosen, unseen = np.array([own]), np.ones(lower.shape[1], dtype=np.bool_)
    while len(chosen):
        columns = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in chosen.tolist()])
        step = max(1, BLOCK_BYTES // (8 * len(columns) * n_threads()))
        for start in range(0, len(members), step):
            part = slice(start, start + step)
            block = ordered.between(members[part], columns)
            keep_nearest(block, members[part], columns, distances[part], neighbors[part])
        unseen[chosen] = False
        looked = len(unseen) - int(unseen.sum())
        # A cell is worth a look while it may hold something nearer than the last neighbour of any of the rows.
        hopeful = likely[(unseen & np.any(lower < distances[:, -1:], axis=0))[likely]]
        complete = np.isfinite(distances[:, -1]).all()
        chosen = hopeful[: min(_TOGETHER, max(0, probes - looked) if complete else _TOGETHER)]
    # What lies in a cell that was looked through and is not listed, is no nearer than the last that is.
    graph.bound[rows] = np.minimum(np.min(lower[:, unseen], axis=1, initial=np.inf), distances[:, -1])
