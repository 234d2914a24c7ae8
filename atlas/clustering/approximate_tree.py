"""An approximate spanning tree for millions of points, and how much of it is proven.

The spanning forest of the graph of nearest neighbours (Kruskal) is joined into one tree by the edges between its
trees' densest points. An edge is *proven* where it is a shortest way out of one of the two trees that it joins, among
all edges, those that the graph lacks included: then it belongs to a minimum spanning tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from ..errors import UsageError
from ..progress import Progress, Tell
from .distances import Points
from .kernels import spanning_forest
from .neighbor_graph import PROBES, NeighborGraph, distances_at, neighbor_graph
from .spanning_tree import SpanningTree, spanning_tree

_TELL_EVERY = 64  # joining edges
_SHARE_OF_GRAPH = 0.8  # of the time at 200,000 codes
_JOINING = 2000  # points of a tree among which the end of a joining edge is looked for


@dataclass(frozen=True, eq=False)
class ApproximateTree:
    """``tree``: spans all points, but need not be minimal. ``proven``: share of its edges that surely belong to a
    minimum spanning tree."""

    tree: SpanningTree
    proven: float


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

    Args:
        points: each kind of point once.
        kind: of every point, as in `spanning_tree`.
        samples: core distances are to this neighbour.
        k: neighbours of each kind that are known, at least ``samples``.
        probes: cells in which they are looked for.
        seed: draws the cells' pivots, and the points between which trees are joined.
        budget: bytes for distances between the trees that are joined, or between all points where there are not more
            than neighbours.
        progress: told (steps done, steps in all).

    Raises:
        TooManyPoints: where the budget is too little.
        UsageError: for k < ``samples`` or k < 1, and for no probes.
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
    cores, prediction_cores = (
        distances_at(weights, graph.neighbors, graph.distances, weights, rank) for rank in (samples + 1, samples)
    )
    forest = _forest(graph, cores)
    joining = (1 + _SHARE_OF_GRAPH) / 2
    tell(joining)
    edges = _joined(points, cores, forest, seed, budget, lambda share: tell(joining + share * (1 - joining)))
    first = np.unique(kind, return_index=True)[1]
    others = np.flatnonzero(first[kind] != np.arange(len(kind)))  # a core is never longer than to an equal point
    tree = SpanningTree(
        np.concatenate([first[kind[others]], first[edges.source]]),
        np.concatenate([others, first[edges.target]]),
        np.concatenate([cores[kind[others]], edges.length]),
        cores[kind],
        prediction_cores[kind],
    )
    sure = cores[kind[others]] <= graph.bound[kind[others]]
    tell(1.0)
    return ApproximateTree(tree, float(np.concatenate([sure, edges.proven]).mean()))


class _Edges(NamedTuple):
    """Both ends, length, and whether the edge is proven."""

    source: Int64[np.ndarray, " edges"]
    target: Int64[np.ndarray, " edges"]
    length: Float64[np.ndarray, " edges"]
    proven: Bool[np.ndarray, " edges"]


def _forest(graph: NeighborGraph, cores: Float64[np.ndarray, " n"]) -> _Edges:
    n, k = graph.neighbors.shape
    source, target = np.repeat(np.arange(n), k), graph.neighbors.reshape(-1)
    length = np.maximum(np.maximum(cores[source], cores[target]), graph.distances.reshape(-1))
    exact = cores <= graph.bound
    # Where a core may be too long, so may the known edges at its point: the true one is no shorter than the bound.
    bound = graph.bound.copy()
    for a, b in ((source, target), (target, source)):
        np.minimum.at(bound, a[~exact[b]], graph.bound[b[~exact[b]]])
    kept, proven = np.zeros(len(source), dtype=np.bool_), np.zeros(len(source), dtype=np.bool_)
    sure = exact[source] & exact[target]
    spanning_forest(np.argsort(length, kind="stable"), source, target, length, sure, bound, kept, proven)
    return _Edges(source[kept], target[kept], length[kept], proven[kept])


def _joined(
    points: Points, cores: Float64[np.ndarray, " n"], forest: _Edges, seed: int, budget: int, tell: Tell
) -> _Edges:
    """One tree of the forest: a spanning tree of the trees' densest points, then for each of its edges the nearest
    ends that are met on the way to and fro between samples of the two trees. None of these edges is proven."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(points)
    links = coo_array((np.ones(len(forest.source), dtype=np.int8), (forest.source, forest.target)), shape=(n, n))
    trees, tree = connected_components(links, directed=False)
    if trees == 1:
        return forest
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
    added = _Edges(ends[:, 0], ends[:, 1], reach, np.zeros(len(reach), dtype=np.bool_))
    return _Edges(*(np.concatenate(both) for both in zip(forest, added, strict=True)))


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
