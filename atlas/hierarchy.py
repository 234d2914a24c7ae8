"""HDBSCAN over codes or activations, from an exact minimum spanning tree that is built here.

The spanning tree of the mutual-reachability graph is all that HDBSCAN needs to know of the distances (Campello,
Moulavi & Sander 2013; McInnes & Healy 2017, arXiv 1705.07321); `spanning` finds it. Everything above the tree is the
`hdbscan` package's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hdbscan import hdbscan
from jaxtyping import Float, Float64, Int64

from .codes import SplineCodes
from .distances import BLOCK_BYTES, SAME, Activations, Codes, Device, Points, TorchCodes, chosen_device, same_rows
from .errors import PolytopeError, TooManyPoints, UsageError
from .forest import ApproximateTree, approximate_tree
from .kernels import merge_edges
from .spanning import Progress, spanning_tree

MAX_POINTS = 200_000  # time is n² distances
MEMORY_BUDGET = 4 << 30  # bytes for distances; half of a small laptop's memory

Metric = Literal["hamming", "euclidean"]
Selection = Literal["eom", "leaf"]
Ties = Literal["hdbscan", "stable"]


@dataclass(frozen=True, eq=False)
class CondensedTree:
    """One row for every point or cluster that leaves a cluster, as in hdbscan's condensed tree.

    Points are 0 … n−1, the root is n, clusters are larger. ``lambda_value``: 1/distance at which ``child`` leaves
    ``parent`` (infinite between duplicates); ``child_size``: points in the child at that moment.
    """

    parent: Int64[np.ndarray, " rows"]
    child: Int64[np.ndarray, " rows"]
    lambda_value: Float64[np.ndarray, " rows"]
    child_size: Int64[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A clustering of n points, with what is needed to place new points in it.

    ``labels``: cluster of each point, −1 noise; ``probabilities``: strength of membership in [0, 1], 0 for noise;
    ``persistence``: stability of each cluster in [0, 1]; ``nodes``: each cluster's node in ``tree``;
    ``core_distances``: to the ``min_samples``-th neighbour, the point itself not counted;
    ``prediction_cores``: the same with the point itself counted, which is what hdbscan predicts with.
    Distances are in the units of ``metric``: "hamming" is the share of gates that differ.
    ``neighbors``: None where the hierarchy is exact, else how many of each point's it was made from; ``proven``: the
    share of the spanning tree's edges that surely belong to a minimum spanning tree.
    """

    labels: Int64[np.ndarray, " n"]
    probabilities: Float64[np.ndarray, " n"]
    persistence: Float64[np.ndarray, " clusters"]
    nodes: Int64[np.ndarray, " clusters"]
    core_distances: Float64[np.ndarray, " n"]
    prediction_cores: Float64[np.ndarray, " n"]
    tree: CondensedTree
    min_samples: int
    min_cluster_size: int
    metric: Metric
    selection: Selection
    ties: Ties
    neighbors: int | None = None
    proven: float = 1.0


def cluster_codes(
    codes: SplineCodes,
    *,
    metric: Metric,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    max_points: int = MAX_POINTS,
    memory_budget: int = MEMORY_BUDGET,
    device: Device = "auto",
    neighbors: int | None = None,
    progress: Progress | None = None,
) -> Hierarchy:
    """HDBSCAN on codes: SCIENCE section 1 (post: Prediction 1, appendix E).

    ``metric``: "hamming" is the share of gates that differ, "euclidean" the distance of the 0/1 vectors, which is
    √(gates that differ). Padding never counts. ``min_samples``: default ``min_cluster_size``, as in hdbscan; where
    there are not more points than that it is one less than the points, as in hdbscan, and the result says so.

    ``ties``: distances between codes are whole numbers of gates, so many edges of the tree are equally long, and the
    order in which they are merged changes labels near a border. "hdbscan" takes the order of the unstable
    ``numpy.argsort`` that hdbscan uses: the labels are those of ``hdbscan.HDBSCAN`` on the same machine, bit for bit,
    and another processor may sort otherwise. "stable" keeps the order in which the tree grew, on every machine.

    ``memory_budget``: bytes for distances, of which n² (two bytes a pair) make every distance be computed once; with
    fewer, distances are computed again when they are needed, with the same result. What grows with n alone (the tree
    and hdbscan's condensed tree, some 500 bytes a point) comes on top.

    ``device``: where distances are computed: "auto" takes a CUDA device if there is one.

    ``neighbors``: makes the hierarchy approximate, for millions of points: of that many neighbours of each, at least
    ``min_samples`` (see `forest`; ``max_points`` and ``memory_budget`` then don't apply). The result says so.

    Time is quadratic otherwise: beyond ``max_points`` raises `TooManyPoints`, before any work, and where the budget
    is too small for a block of distances. Raises `UsageError` for an impossible parameter or fewer than two codes.
    """
    samples = _checked_samples(len(codes), min_cluster_size, min_samples, selection, ties)
    _check_metric(metric)
    if neighbors is None:
        _check_number(len(codes), max_points)
    first, kind = same_rows(codes.packed)
    kinds = codes if len(first) == len(codes) else codes[first]
    where = chosen_device(device, TorchCodes.device_bytes(len(kinds), codes.n_bits))
    points = Codes.of(kinds) if where == "cpu" else TorchCodes.of(kinds, where)
    found = _tree(points, kind, samples, memory_budget, neighbors, progress)

    # Both metrics grow with the number of gates, so the tree is found in whole numbers and only its edges are scaled.
    def scale(count: np.ndarray) -> np.ndarray:
        return count / codes.n_bits if metric == "hamming" else np.sqrt(count, dtype=np.float64)

    return _hierarchy(found, neighbors, scale, min_cluster_size, samples, metric, selection, ties)


def cluster_activations(
    x: Float[np.ndarray, "n units"],
    *,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    max_points: int = MAX_POINTS,
    memory_budget: int = MEMORY_BUDGET,
    device: Device = "auto",
    neighbors: int | None = None,
    progress: Progress | None = None,
) -> Hierarchy:
    """HDBSCAN on activations under the Euclidean distance, which is computed in float64.

    As `cluster_codes`, but what takes 2·n² bytes only tells which distances must be computed (see `spanning`), and a
    copy of the activations counts too, in float32, or in float64 where they lie very near to each other and that
    takes no more than half of the budget. Raises `NonFinite` for NaN or infinity. ``ties`` only matters between
    duplicates and at core distances.
    """
    samples = _checked_samples(len(x), min_cluster_size, min_samples, selection, ties)
    if neighbors is None:
        _check_number(len(x), max_points)
    if neighbors is None and 4 * x.size > memory_budget:
        raise TooManyPoints(
            f"{len(x)} activations of {x.shape[1]} units take {4 * x.size:,} bytes in float32; the budget is "
            f"{memory_budget:,} bytes. Cluster fewer examples, or raise memory_budget"
        )
    if x.shape[1] == 0:
        raise UsageError(f"activations need at least one unit, got an array of shape {x.shape}")
    first, kind = same_rows(x)
    where = chosen_device(device, Activations.device_bytes(len(first), x.shape[1]))
    kinds = x if len(first) == len(x) else x[first]
    if neighbors is None:
        points = Activations.bounded(kinds, where, room=memory_budget // 2)
    else:
        points = Activations.of(kinds, where, distinct=True)
    found = _tree(points, kind, samples, memory_budget, neighbors, progress)
    return _hierarchy(
        found, neighbors, lambda distances: distances, min_cluster_size, samples, "euclidean", selection, ties
    )


def medoids(
    points: SplineCodes | Float[np.ndarray, "n units"],
    labels: Int64[np.ndarray, " labels"],
    *,
    metric: Metric,
) -> Int64[np.ndarray, " clusters"]:
    """For each cluster 0, 1, … the member with the least mean distance to the members: its row in ``points``.

    Of members with the same mean the first counts. Noise (−1) has no medoid. Activations are compared by "euclidean",
    codes by either metric; distances are held a block of rows at a time.

    Raises `UsageError` for another number of labels than points, for a cluster number without a member, or for
    activations under "hamming"; `NonFinite` for NaN or infinity.
    """
    _check_metric(metric)
    if len(labels) != len(points):
        raise UsageError(f"every point needs a label, got {len(points)} points and {len(labels)} labels")
    if metric == "hamming" and not isinstance(points, SplineCodes):
        raise UsageError('activations have no Hamming distance: use metric="euclidean", or give their codes')
    sizes = np.bincount(labels[labels >= 0])
    if (sizes == 0).any():
        raise UsageError(f"clusters are numbered without gaps, but cluster {int(sizes.argmin())} has no member")
    found = np.empty(len(sizes), dtype=np.int64)
    for cluster in range(len(sizes)):
        members = np.flatnonzero(labels == cluster)
        totals = _distance_totals(points[members], metric)
        found[cluster] = members[np.flatnonzero(totals <= totals.min() * (1 + SAME))[0]]
    return found


def _check_metric(metric: str) -> None:
    if metric not in ("hamming", "euclidean"):
        raise UsageError(f'the metric is "hamming" or "euclidean", got "{metric}"')


def _check_number(n: int, max_points: int) -> None:
    if n > max_points:
        raise TooManyPoints(
            f"{n} points take {n}² comparisons; the limit is {max_points} points. Cluster a sample of the examples, "
            "or raise max_points and be patient: time grows with the square"
        )


def _checked_samples(n: int, min_cluster_size: int, min_samples: int | None, selection: str, ties: str) -> int:
    """``min_samples`` with its default filled in, after the checks that both kinds of points share."""
    if min_cluster_size < 2:
        raise UsageError(f"min_cluster_size must be at least 2, got {min_cluster_size}")
    samples = min_cluster_size if min_samples is None else min_samples
    if samples < 1:
        raise UsageError(f"min_samples must be at least 1, got {samples}")
    if selection not in ("eom", "leaf"):
        raise UsageError(f'clusters are selected by "eom" or "leaf", got "{selection}"')
    if ties not in ("hdbscan", "stable"):
        raise UsageError(f'ties are ordered as in "hdbscan" or "stable", got "{ties}"')
    if n < 2:
        raise UsageError(f"a clustering needs at least two points, got {n}")
    return min(samples, n - 1)


class _KnownTree:
    """A cache for hdbscan's ``memory`` argument ("cache the output of the computation of the tree") with the answer.

    hdbscan takes anything with joblib's ``cache`` method. Handing it the finished tree keeps duplicates at distance
    zero and the order of ties, which a sparse distance matrix would lose: there zero means "not connected".
    """

    def __init__(self, linkage: Float64[np.ndarray, "edges 4"]) -> None:
        self.linkage = linkage

    def cache(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: (self.linkage, None)


def _tree(
    points: Points, kind: Int64[np.ndarray, " n"], samples: int, budget: int, neighbors: int | None,
    progress: Progress | None,
) -> ApproximateTree:  # fmt: skip
    if neighbors is None:
        return ApproximateTree(spanning_tree(points, kind, samples, budget, progress), 1.0)
    return approximate_tree(points, kind, samples, neighbors, progress=progress)


def _hierarchy(
    made: ApproximateTree,
    neighbors: int | None,
    scale: Callable[[np.ndarray], np.ndarray],
    min_cluster_size: int,
    min_samples: int,
    metric: Metric,
    selection: Selection,
    ties: Ties,
) -> Hierarchy:
    """Merge the edges, shortest first, then condense the tree and select clusters: hdbscan's part."""
    found = made.tree
    length = scale(found.length).astype(np.float64)
    linkage = np.empty((len(length), 4))  # SciPy's form
    order = np.argsort(length, kind="stable" if ties == "stable" else None)
    merge_edges(order, found.source, found.target, length, linkage)
    placeholder = np.zeros((len(found.cores), 1))  # only its length is read
    with np.errstate(invalid="ignore"):  # duplicates leave at λ = ∞, and hdbscan forms ∞ − ∞
        labels, probabilities, persistence, rows, used, _ = hdbscan(
            placeholder,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            cluster_selection_method=selection,
            memory=_KnownTree(linkage),
        )
    if used is not linkage:
        raise PolytopeError(
            "this version of hdbscan ignores its `memory` argument; install the one in pyproject.toml"
        )
    tree = CondensedTree(*(np.ascontiguousarray(rows[name]) for name in rows.dtype.names))
    return Hierarchy(
        labels, probabilities, persistence, _selected_nodes(tree, labels),
        scale(found.cores).astype(np.float64), scale(found.prediction_cores).astype(np.float64), tree,
        min_samples, min_cluster_size, metric, selection, ties, neighbors, made.proven,
    )  # fmt: skip


def _selected_nodes(tree: CondensedTree, labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " clusters"]:
    """The node of each cluster: going up from any member, the first that holds as many points as the cluster."""
    parent = dict(zip(tree.child.tolist(), tree.parent.tolist(), strict=True))
    points = dict(zip(tree.child.tolist(), tree.child_size.tolist(), strict=True))
    sizes = np.bincount(labels[labels >= 0])
    nodes = np.empty(len(sizes), dtype=np.int64)
    for cluster, size in enumerate(sizes):
        node = parent[int(np.argmax(labels == cluster))]
        while points[node] != size:  # never the root: hdbscan selects no cluster of all points
            node = parent[node]
        nodes[cluster] = node
    return nodes


def _distance_totals(points: SplineCodes | Float[np.ndarray, "n units"], metric: Metric) -> Float64[np.ndarray, " n"]:
    """For each point the sum of its distances to all of them."""
    n = len(points)
    cloud = Codes.of(points) if isinstance(points, SplineCodes) else Activations.of(points)
    totals = np.empty(n)
    step = max(1, BLOCK_BYTES // (8 * n))
    for start in range(0, n, step):
        distances = cloud.between(slice(start, start + step), slice(0, n))
        if isinstance(points, SplineCodes) and metric == "euclidean":
            distances = np.sqrt(distances, dtype=np.float64)
        totals[start : start + step] = distances.sum(axis=1, dtype=np.float64)
    return totals
