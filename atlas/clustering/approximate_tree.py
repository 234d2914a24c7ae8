"""An approximate spanning tree for millions of points, and how much of it is proven.

The graph of nearest neighbours is found cell by cell: points belong to the nearest of some pivots among them, and
the neighbours of a cell's points are looked for in the cells nearest to it. By the triangle inequality no point of a
cell with pivot v and radius r is nearer to x than d(x, v) − r, so what was not looked at is bounded from below: a
neighbour list is exact where that bound reaches its last distance, and elsewhere it is known how wrong it can be.

The spanning forest of this graph (Kruskal) is joined into one tree by the edges between its trees' densest points.
An edge is *proven* where it is a shortest way out of one of the two trees that it joins, among all edges, those that
the graph lacks included: then it belongs to a minimum spanning tree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from ..errors import UsageError
from ..kernels import in_threads, keep_nearest, n_threads, spanning_forest
from .distances import BLOCK_BYTES, Points
from .spanning_tree import Progress, SpanningTree, spanning_tree

Tell = Callable[[float], None]
"""Told what share is done."""

PROBES = 16  # cells looked through for each; on clustered codes of 1,024 gates more than 99 % of lists are then exact
_IN_CELL = 32  # points for a pivot: with fewer pivots clusters are left without, and then nothing can be excluded
_TOGETHER = 4  # cells looked through between two looks at what is still hopeful
_TELL_EVERY = 64  # cells
_SHARE_OF_CELLS, _SHARE_OF_GRAPH = 0.4, 0.8  # of the time at 200,000 codes, up to the end of each
_JOINING = 2000  # points of a tree among which the end of a joining edge is looked for


@dataclass(frozen=True, eq=False)
class NeighborGraph:
    """For each point k others, nearest first, none of which need be its true neighbours.

    ``bound``: no point that is not listed is nearer than this. A list is exact where it equals the last distance.
    """

    neighbors: Int64[np.ndarray, "n k"]
    distances: Float64[np.ndarray, "n k"]
    bound: Float64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class ApproximateTree:
    """``tree``: spans all points, but need not be minimal. ``proven``: share of its edges that surely belong to a
    minimum spanning tree."""

    tree: SpanningTree
    proven: float


def neighbor_graph(
    points: Points, k: int, probes: int = PROBES, seed: int = 0, progress: Progress | None = None
) -> NeighborGraph:
    """The k nearest neighbours of every point, looked for in at most ``probes`` cells (and on until k are found).

    ``progress``: in points, though part of the time goes before the first is done. Raises `UsageError` for k < 1, for
    k that is not less than the number of points, and for no probes.
    """
    n = len(points)
    if not 1 <= k < n:
        raise UsageError(f"{k} neighbours of each were asked for; {n} different points have 1 to {n - 1}")
    if probes < 1:
        raise UsageError(f"at least one cell must be looked through, got {probes} probes")

    def tell(share: float) -> None:
        if progress is not None:
            progress(int(share * n), n)

    cells_of_all = _SHARE_OF_CELLS / _SHARE_OF_GRAPH
    pivots, cell = _cells(points, seed, lambda share: tell(cells_of_all * share))
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(len(pivots) + 1))
    ordered = points.take(np.concatenate([order, pivots]))  # at the end once more, side by side: no cell copies them
    at_end = slice(n, n + len(pivots))
    place = np.empty(n, dtype=np.int64)
    place[order] = np.arange(n)
    edges = starts.tolist()
    radius = np.empty(len(pivots))
    found = NeighborGraph(np.full((n, k), -1), np.full((n, k), np.inf), np.empty(n))

    def measure(number: int) -> None:
        rows = slice(edges[number], edges[number + 1])
        radius[number] = ordered.between(rows, slice(n + number, n + number + 1)).max()

    def search(number: int) -> None:
        step = max(1, BLOCK_BYTES // (8 * len(pivots) * n_threads()))
        for low in range(edges[number], edges[number + 1], step):
            rows = slice(low, min(low + step, edges[number + 1]))
            lower = ordered.between(rows, at_end) - radius
            _search(ordered, rows, number, starts, lower, probes, found)

    in_threads(measure, range(len(pivots)))
    for first in range(0, len(pivots), _TELL_EVERY):
        in_threads(search, range(first, min(first + _TELL_EVERY, len(pivots))))
        done = edges[min(first + _TELL_EVERY, len(pivots))] / n
        tell(cells_of_all + (1 - cells_of_all) * done)
    return NeighborGraph(order[found.neighbors[place]], found.distances[place], found.bound[place])


def approximate_tree(
    points: Points,
    kind: Int64[np.ndarray, " n"],
    samples: int,
    k: int,
    *,
    probes: int = PROBES,
    seed: int = 0,
    budget: int = 1 << 62,
    progress: Progress | None = None,
) -> ApproximateTree:
    """A spanning tree of the mutual reachability of n points, by way of the k nearest neighbours of each kind.

    ``kind`` as in `spanning_tree`; ``budget``: bytes for distances between the trees that are joined, or between all
    points where there are not more than neighbours. Raises `TooManyPoints` where that is too little, and `UsageError`
    for k < ``samples`` or k < 1, and for no probes.
    """
    kinds = len(points)
    if k < samples:
        raise UsageError(
            f"core distances are to neighbour {samples} (min_samples): ask for at least as many, got {k}"
        )
    if kinds <= k + 1:
        return ApproximateTree(spanning_tree(points, kind, samples, budget, progress), 1.0)

    def tell(share: float) -> None:
        if progress is not None:
            progress(int(share * 2 * len(kind)), 2 * len(kind))

    graph = neighbor_graph(points, k, probes, seed, lambda done, of: tell(_SHARE_OF_GRAPH * done / of))
    weights = np.bincount(kind, minlength=kinds)
    cores, prediction_cores = (_cores(graph, weights, rank) for rank in (samples + 1, samples))
    source, target, length, proven = _forest(graph, cores)
    tell((1 + _SHARE_OF_GRAPH) / 2)
    source, target, length, proven = _joined(
        points,
        cores,
        source,
        target,
        length,
        proven,
        seed,
        budget,
        lambda share: tell((1 + _SHARE_OF_GRAPH) / 2 + share * (1 - _SHARE_OF_GRAPH) / 2),
    )
    first = np.unique(kind, return_index=True)[1]
    others = np.flatnonzero(first[kind] != np.arange(len(kind)))  # a core is never longer than to an equal point
    equal = first[kind[others]]
    tree = SpanningTree(
        np.concatenate([equal, first[source]]),
        np.concatenate([others, first[target]]),
        np.concatenate([cores[kind[others]], length]),
        cores[kind],
        prediction_cores[kind],
    )
    sure = cores[kind[others]] <= graph.bound[kind[others]]
    tell(1)
    return ApproximateTree(tree, float(np.concatenate([sure, proven]).mean()))


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
    found: NeighborGraph,
) -> None:
    """Look through the cells that may hold neighbours of a cell's points, the likeliest first.

    ``lower``: nothing in a cell is nearer to a row than this.
    """
    here = np.arange(rows.start, rows.stop)
    distances, neighbors = found.distances[rows], found.neighbors[rows]
    likely = np.argsort(lower.mean(axis=0), kind="stable")
    some, unseen = np.array([own]), np.ones(lower.shape[1], dtype=np.bool_)
    while len(some):
        columns = np.concatenate([np.arange(starts[number], starts[number + 1]) for number in some.tolist()])
        step = max(1, BLOCK_BYTES // (8 * len(columns) * n_threads()))
        for start in range(0, len(here), step):
            part = slice(start, start + step)
            block = ordered.between(here[part], columns)
            keep_nearest(block, here[part], columns, distances[part], neighbors[part])
        unseen[some] = False
        looked = len(unseen) - int(unseen.sum())
        hopeful = likely[(unseen & np.any(lower < distances[:, -1:], axis=0))[likely]]
        complete = np.isfinite(distances[:, -1]).all()
        some = hopeful[: min(_TOGETHER, max(0, probes - looked) if complete else _TOGETHER)]
    found.bound[rows] = np.minimum(np.min(lower[:, unseen], axis=1, initial=np.inf), distances[:, -1])


def _cores(graph: NeighborGraph, weights: Int64[np.ndarray, " n"], rank: int) -> Float64[np.ndarray, " n"]:
    """Distance to what stands at ``rank`` (from 1) among a point's equals and its neighbours with theirs."""
    counted = weights[:, None] + np.cumsum(weights[graph.neighbors], axis=1)
    at = np.argmax(counted >= rank, axis=1)
    return np.where(weights >= rank, 0.0, np.take_along_axis(graph.distances, at[:, None], axis=1)[:, 0])


Edges = tuple[
    Int64[np.ndarray, " edges"],
    Int64[np.ndarray, " edges"],
    Float64[np.ndarray, " edges"],
    Bool[np.ndarray, " edges"],
]
"""Both ends, length, and whether the edge is proven."""


def _forest(graph: NeighborGraph, cores: Float64[np.ndarray, " n"]) -> Edges:
    n, k = graph.neighbors.shape
    source, target = np.repeat(np.arange(n), k), graph.neighbors.reshape(-1)
    length = np.maximum(np.maximum(cores[source], cores[target]), graph.distances.reshape(-1))
    exact = cores <= graph.bound
    # Where a core may be too long, so may the known edges at its point: the true one is no shorter than the bound.
    bound = graph.bound.copy()
    for a, b in ((source, target), (target, source)):
        np.minimum.at(bound, a[~exact[b]], graph.bound[b[~exact[b]]])
    kept, proven = np.zeros((2, len(source)), dtype=np.bool_)
    spanning_forest(
        np.argsort(length, kind="stable"),
        source,
        target,
        length,
        exact[source] & exact[target],
        bound,
        kept,
        proven,
        np.empty(n, dtype=np.int64),
    )
    return source[kept], target[kept], length[kept], proven[kept]


def _joined(
    points: Points,
    cores: Float64[np.ndarray, " n"],
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
    proven: Bool[np.ndarray, " edges"],
    seed: int,
    budget: int,
    tell: Tell,
) -> Edges:
    """One tree of the forest: a spanning tree of the trees' densest points, then for each of its edges the nearest
    ends that are found by going to and fro between samples of the two trees. None of these edges is proven."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(points)
    links = coo_array((np.ones(len(source), dtype=np.int8), (source, target)), shape=(n, n))
    trees, tree = connected_components(links, directed=False)
    if trees == 1:
        return source, target, length, proven
    members = np.split(np.lexsort((cores, tree)), np.cumsum(np.bincount(tree))[:-1])  # the densest first
    densest = np.array([points_of[0] for points_of in members])
    between = spanning_tree(points.take(densest), np.arange(trees), 1, budget, lambda done, of: tell(done / of / 2))
    rng = np.random.default_rng(seed)
    samples = [
        points_of if len(points_of) <= _JOINING else np.append(rng.choice(points_of, _JOINING - 1), points_of[0])
        for points_of in members
    ]
    ends = np.empty((trees - 1, 2), dtype=np.int64)
    for edge, (a, b) in enumerate(zip(between.source.tolist(), between.target.tolist(), strict=True)):
        ends[edge] = _nearest_ends(points, cores, samples[a], samples[b], int(densest[a]))
        if edge % _TELL_EVERY == 0:
            tell((1 + edge / trees) / 2)
    reach = np.array([float(_reach(points, cores, np.array([a]), b)[0]) for a, b in ends.tolist()])
    return (
        np.concatenate([source, ends[:, 0]]),
        np.concatenate([target, ends[:, 1]]),
        np.concatenate([length, reach]),
        np.concatenate([proven, np.zeros(len(reach), dtype=np.bool_)]),
    )


def _nearest_ends(
    points: Points,
    cores: Float64[np.ndarray, " n"],
    a: Int64[np.ndarray, " a"],
    b: Int64[np.ndarray, " b"],
    start: int,
) -> tuple[int, int]:
    """From ``start`` in ``a`` to the nearest in ``b``, from there to the nearest in ``a``, and once more."""
    left, right = start, start
    for _ in range(2):
        right = int(b[_reach(points, cores, b, left).argmin()])
        left = int(a[_reach(points, cores, a, right).argmin()])
    return left, right


def _reach(
    points: Points, cores: Float64[np.ndarray, " n"], rows: Int64[np.ndarray, " rows"], to: int
) -> Float64[np.ndarray, " rows"]:
    distance: Shaped[np.ndarray, " rows"] = points.between(np.array([to]), rows)[0]
    return np.maximum(np.maximum(cores[rows], cores[to]), distance)
