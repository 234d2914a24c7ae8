"""HDBSCAN over codes or activations, from an exact minimum spanning tree that is built here.

The mutual-reachability distance of points i and j is

    d_mreach(i, j) = max(core(i), core(j), d(i, j))

where core(i) is the distance to the ``min_samples``-th neighbour of i, i itself not counted. Its minimum spanning
tree is all that HDBSCAN needs to know of the distances (Campello, Moulavi & Sander 2013; McInnes & Healy 2017,
arXiv 1705.07321). Prim's algorithm visits every point once and needs one row of distances at a time: for codes a row
is computed when it is needed, so memory grows with N, not N². Everything above the tree is the `hdbscan` package's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any, Literal

import numpy as np
from hdbscan import hdbscan
from jaxtyping import Float, Float64, Int64

from .codes import SplineCodes
from .errors import NonFinite, PolytopeError, TooManyPoints, UsageError, WidthError
from .index import HammingIndex, hamming_matrix

MAX_POINTS = 200_000  # codes: time is N² popcounts; this many codes of 3,072 gates take half an hour on two cores
MEMORY_BUDGET = 4 << 30  # bytes, for activations: 20,900 examples of 3,072 units; half of a small laptop's memory
_BLOCK_BYTES = (
    1 << 26
)  # of float64 distances worked on at once; smaller blocks than 2**24 are slower, larger not faster

# A squared distance from ‖a‖² + ‖b‖² − 2a·b carries an error of up to about units · 2⁻⁵³ · (‖a‖² + ‖b‖²). Where it
# is less than this share of ‖a‖² + ‖b‖² it is computed again from a − b: at 3,072 units no relative error exceeds
# 1e-10.
_NEAR = 0.01
_SAME = 1e-9  # relative: two routes to one distance differ by rounding only, by less than this

Metric = Literal["hamming", "euclidean"]
Selection = Literal["eom", "leaf"]
Ties = Literal["hdbscan", "stable"]
Progress = Callable[[int, int], None]  # (steps done, steps in all)


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


def cluster_codes(
    codes: SplineCodes,
    *,
    metric: Metric,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    max_points: int = MAX_POINTS,
    progress: Progress | None = None,
) -> Hierarchy:
    """HDBSCAN on codes: SCIENCE section 1 (post: Prediction 1, appendix E).

    ``metric``: "hamming" is the share of gates that differ, "euclidean" the distance of the 0/1 vectors, which is
    √(gates that differ). Padding never counts. ``min_samples``: default ``min_cluster_size``, as in hdbscan.

    ``ties``: distances between codes are whole numbers of gates, so many edges of the tree are equally long, and the
    order in which they are merged changes labels near a border. "hdbscan" takes the order of the unstable
    ``numpy.argsort`` that hdbscan uses: the labels are those of ``hdbscan.HDBSCAN`` on the same machine, bit for bit,
    and another processor may sort otherwise. "stable" keeps the order in which the tree grew, on every machine.

    Time is quadratic: beyond ``max_points`` raises `TooManyPoints`, before any work. Raises `UsageError` for an
    impossible parameter, and where there are not more codes than ``min_samples`` (hdbscan would lower it silently).
    """
    n, samples = len(codes), _checked_samples(len(codes), min_cluster_size, min_samples, selection, ties)
    _check_metric(metric)
    if n > max_points:
        raise TooManyPoints(
            f"{n} codes take {n}² comparisons; the limit is {max_points} codes. Cluster a sample of the examples, "
            "or raise max_points and be patient: time grows with the square"
        )
    index = HammingIndex.build(codes, np.arange(n), digest="")
    counts = np.empty((2, n), dtype=np.int32)
    step = max(1, _BLOCK_BYTES // (8 * n))
    for start in range(0, n, step):
        stop = min(start + step, n)
        # A code is among its own nearest: the neighbour number `samples` without it is number `samples + 1` with it.
        nearest = index.search(codes[start:stop], samples + 1)[1]
        counts[:, start:stop] = nearest[:, samples - 1 :].T
        _tell(progress, stop, 2 * n)

    # Both metrics grow with the number of gates, so the tree is found in whole numbers and only its edges are scaled.
    source, target, gates = _spanning_tree(lambda i: hamming_matrix(codes[i : i + 1], codes)[0], counts[1], progress)

    def scale(count: np.ndarray) -> np.ndarray:
        return count / codes.n_bits if metric == "hamming" else np.sqrt(count, dtype=np.float64)

    linkage = _linkage(source, target, scale(gates), ties)
    return _hierarchy(linkage, scale(counts[1]), scale(counts[0]), min_cluster_size, samples, metric, selection, ties)


def cluster_activations(
    x: Float[np.ndarray, "n units"],
    *,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    memory_budget: int = MEMORY_BUDGET,
    progress: Progress | None = None,
) -> Hierarchy:
    """HDBSCAN on activations under the Euclidean distance, which is computed in float64.

    Holds one n × n float64 matrix. `TooManyPoints` is raised before anything is allocated where that, the centred
    activations and the blocks would take more than ``memory_budget`` bytes. Raises `NonFinite` for NaN or infinity,
    `UsageError` as `cluster_codes` does. ``ties`` only matters between duplicates and at core distances.
    """
    n, samples = len(x), _checked_samples(len(x), min_cluster_size, min_samples, selection, ties)
    _check_budget(n, x.shape[1], memory_budget)
    distances = _Cloud.of(x).pairwise(progress)
    cores = np.empty((2, n))
    step = max(1, _BLOCK_BYTES // (8 * n))
    for start in range(0, n, step):
        # In a row the point itself is first, at distance 0: entry `samples` is its neighbour number `samples`.
        ordered = np.partition(distances[start : start + step], (samples - 1, samples), axis=1)
        cores[:, start : start + step] = ordered[:, samples - 1 : samples + 1].T
    source, target, weight = _spanning_tree(distances.__getitem__, cores[1], progress)
    linkage = _linkage(source, target, weight, ties)
    return _hierarchy(linkage, cores[1], cores[0], min_cluster_size, samples, "euclidean", selection, ties)


def approximate_predict(
    hierarchy: Hierarchy, distances: Float[np.ndarray, "queries n"]
) -> tuple[Int64[np.ndarray, " queries"], Float64[np.ndarray, " queries"]]:
    """Label new points without clustering again: (labels, −1 noise; strengths in [0, 1]).

    ``distances``: from every query to all n clustered points, in the units of ``hierarchy.metric``. As hdbscan's
    ``approximate_predict``: among its 2·``min_samples`` nearest points (all n where there are fewer) a query joins
    the one of least mutual reachability r, at λ = 1/r, in the cluster that held this point at that λ. Of equally near
    points the first counts. Three differences, where hdbscan 0.8.44 errs: a query that coincides with a stack of
    duplicates (r = 0) has strength 1, as the duplicates do, not 0; fewer than 2·``min_samples`` points will do; and a
    cluster that splits before any point of its own leaves keeps its label (hdbscan mistakes one half for the whole,
    and numbers the clusters anew).

    Raises `WidthError` for another number of columns than n, `NonFinite` for NaN, `UsageError` for negative numbers.
    """
    n = len(hierarchy.labels)
    if distances.shape[1] != n:
        raise WidthError(f"a query needs its distance to each of the {n} clustered points, got {distances.shape[1]}")
    if np.isnan(distances).any():
        raise NonFinite("distances to the clustered points hold NaN; check the queries")
    if np.any(distances < 0):
        raise UsageError(f"a distance can't be negative, got {distances.min()}")
    neighbor, lambda_value = _joining(hierarchy, distances)
    labels = _node_labels(hierarchy)[_joined_nodes(hierarchy.tree, neighbor, lambda_value) - n]
    return labels, _strengths(hierarchy, labels, lambda_value)


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
        found[cluster] = members[np.flatnonzero(totals <= totals.min() * (1 + _SAME))[0]]
    return found


def _check_metric(metric: str) -> None:
    if metric not in ("hamming", "euclidean"):
        raise UsageError(f'the metric is "hamming" or "euclidean", got "{metric}"')


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
    if n <= samples:
        raise UsageError(
            f"{n} points have no neighbour number {samples}: give at least {samples + 1} points, or lower min_samples"
        )
    return samples


def _check_budget(n: int, units: int, budget: int) -> None:
    """Raise `TooManyPoints` where 8n² + 8·n·units bytes and four blocks exceed ``budget``.

    The peak that tracemalloc saw was 5 to 11 % less at 6,000 × 512, 6,000 × 3,072 and 10,000 × 64: what is counted
    too high is a block. hdbscan's own dense path holds three n × n matrices at its peak, its input among them.
    """
    blocks = 4 * _BLOCK_BYTES
    needed = 8 * n * n + 8 * n * units + blocks
    if needed <= budget:
        return
    room = max(0, budget - blocks) // 8
    fits = (isqrt(units**2 + 4 * room) - units) // 2  # the largest N with N² + units·N <= room
    raise TooManyPoints(
        f"clustering {n} activations of {units} units needs {needed:,} bytes for all pairwise distances; the budget "
        f"is {budget:,} bytes, in which {fits} activations fit. Cluster fewer examples, or raise memory_budget"
    )


@dataclass(frozen=True, eq=False)
class _Cloud:
    """Activations, made ready for Euclidean distances by matrix products.

    ``centred``: in float64, moved by one of the points, so that no common offset drowns small distances. A point
    serves better than the mean: the difference of two float32 numbers is nearly always exact in float64, so equal
    distances stay equal. ``norms``: the squared norms of ``centred``. ``kind``: equal for equal rows of ``x``: their
    distance is 0 without a look, for an input that repeats would be the slowest there is.
    """

    x: Float[np.ndarray, "n units"]
    centred: Float64[np.ndarray, "n units"]
    norms: Float64[np.ndarray, " n"]
    kind: Int64[np.ndarray, " n"]

    @classmethod
    def of(cls, x: Float[np.ndarray, "n units"]) -> _Cloud:
        if x.shape[1] == 0:
            raise UsageError(f"activations need at least one unit, got an array of shape {x.shape}")
        points = x.astype(np.float64)
        if not np.isfinite(points).all():
            row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
            raise NonFinite(f"the activation in row {row} holds NaN or infinity; leave that example out")
        with np.errstate(over="ignore", invalid="ignore"):
            nearest_to_mean = np.einsum("ij,ij->i", points, points) - 2 * points @ points.mean(axis=0)
            points -= points[np.argmin(nearest_to_mean)]
            norms = np.einsum("ij,ij->i", points, points)
        if not norms.max() < np.finfo(np.float64).max / 4:  # ‖a − b‖² <= 2(‖a‖² + ‖b‖²)
            raise NonFinite("squared distances between the activations overflow float64; scale them down")
        rows = np.ascontiguousarray(x).view(np.dtype((np.void, x.itemsize * x.shape[1])))  # compared as bytes
        return cls(x, points, norms, np.unique(rows[:, 0], return_inverse=True)[1])

    def distances(self, rows: slice, columns: slice) -> Float64[np.ndarray, "rows columns"]:
        """‖a − b‖ by one matrix product, and again from the differences where cancellation would show."""
        a, b = self.centred[rows], self.centred[columns]
        scale = self.norms[rows, None] + self.norms[columns]
        squared = a @ b.T
        squared *= -2
        squared += scale
        scale *= _NEAR
        equal = self.kind[rows, None] == self.kind[columns]
        near = (squared <= scale) & ~equal
        squared[equal] = 0
        chunk = max(1, _BLOCK_BYTES // (16 * a.shape[1]))
        x, others = self.x[rows], self.x[columns]
        for row in np.flatnonzero(near.any(axis=1)):
            partners = np.flatnonzero(near[row])
            for start in range(0, len(partners), chunk):
                some = partners[start : start + chunk]
                difference = np.subtract(others[some], x[row], dtype=np.float64)
                squared[row, some] = np.einsum("ij,ij->i", difference, difference)
        return np.sqrt(squared, out=squared)

    def pairwise(self, progress: Progress | None) -> Float64[np.ndarray, "n n"]:
        """All distances. Exactly symmetric: ties at a core distance must be ties seen from either side."""
        n = len(self.norms)
        out = np.empty((n, n))
        step = max(1, _BLOCK_BYTES // (8 * n))
        for start in range(0, n, step):
            stop = min(start + step, n)
            block = self.distances(slice(start, stop), slice(start, n))
            corner = np.triu(block[:, : stop - start], 1)
            block[:, : stop - start] = corner + corner.T
            out[start:stop, start:] = block
            out[start:, start:stop] = block.T
            _tell(progress, stop, 2 * n)
        return out


def _spanning_tree(
    distances_from: Callable[[int], np.ndarray], cores: np.ndarray, progress: Progress | None
) -> tuple[Int64[np.ndarray, " edges"], Int64[np.ndarray, " edges"], np.ndarray]:
    """Prim's algorithm over the mutual reachability: (inner end, outer end, length) of n − 1 edges, as they grew.

    Starts at point 0; of equally near points the first joins, through the edge that was found first. hdbscan's dense
    algorithm does the same, so the trees are equal, not just equally long.
    """
    n = len(cores)
    never = np.iinfo(cores.dtype).max if cores.dtype.kind == "i" else np.inf
    reach, reached_from = np.full(n, never, dtype=cores.dtype), np.zeros(n, dtype=np.int64)
    outside = np.ones(n, dtype=np.bool_)
    source, target = np.empty((2, n - 1), dtype=np.int64)
    length = np.empty(n - 1, dtype=cores.dtype)
    current = 0
    for edge in range(n - 1):
        outside[current], reach[current] = False, never
        offer = np.maximum(distances_from(current), cores)
        np.maximum(offer, cores[current], out=offer)
        nearer = offer < reach
        nearer &= outside
        np.copyto(reach, offer, where=nearer)
        np.copyto(reached_from, current, where=nearer)
        current = int(reach.argmin())
        source[edge], target[edge], length[edge] = reached_from[current], current, reach[current]
        if edge % 256 == 255 or edge == n - 2:
            _tell(progress, n + edge + 2, 2 * n)
    return source, target, length


def _linkage(
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
    ties: Ties,
) -> Float64[np.ndarray, "edges 4"]:
    """The single-linkage tree in SciPy's form: a row (left, right, distance, size) for each merge, shortest first."""
    n = len(length) + 1
    order = np.argsort(length, kind="stable" if ties == "stable" else None)
    above = list(range(2 * n - 1))  # Python lists: this loop reads single numbers
    size = [1] * n + [0] * (n - 1)

    def top(node: int) -> int:
        while above[node] != node:
            above[node] = above[above[node]]
            node = above[node]
        return node

    merges = np.empty((n - 1, 4))
    for row, edge in enumerate(order.tolist()):
        left, right, merged = top(int(source[edge])), top(int(target[edge])), n + row
        size[merged] = size[left] + size[right]
        above[left] = above[right] = merged
        merges[row] = left, right, length[edge], size[merged]
    return merges


class _KnownTree:
    """A cache for hdbscan's ``memory`` argument ("cache the output of the computation of the tree") with the answer.

    hdbscan takes anything with joblib's ``cache`` method. Handing it the finished tree keeps duplicates at distance
    zero and the order of ties, which a sparse distance matrix would lose: there zero means "not connected".
    """

    def __init__(self, linkage: Float64[np.ndarray, "edges 4"]) -> None:
        self.linkage = linkage

    def cache(self, compute: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: (self.linkage, None)


def _hierarchy(
    linkage: Float64[np.ndarray, "edges 4"],
    cores: Float64[np.ndarray, " n"],
    prediction_cores: Float64[np.ndarray, " n"],
    min_cluster_size: int,
    min_samples: int,
    metric: Metric,
    selection: Selection,
    ties: Ties,
) -> Hierarchy:
    """Condense the tree and select clusters: hdbscan's part."""
    placeholder = np.zeros((len(cores), 1))  # only its length is read
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
        labels, probabilities, persistence, _selected_nodes(tree, labels), cores, prediction_cores, tree,
        min_samples, min_cluster_size, metric, selection, ties,
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


def _joining(
    hierarchy: Hierarchy, distances: Float[np.ndarray, "queries n"]
) -> tuple[Int64[np.ndarray, " queries"], Float64[np.ndarray, " queries"]]:
    """The point through which each query joins, and λ = 1 / mutual reachability to it (infinite at 0)."""
    samples, n = hierarchy.min_samples, distances.shape[1]
    neighbors, reach = np.empty(len(distances), dtype=np.int64), np.empty(len(distances))
    step = max(1, _BLOCK_BYTES // (8 * n))
    for start in range(0, len(distances), step):
        block = distances[start : start + step]
        nearest = np.argsort(block, axis=1, kind="stable")[:, : 2 * samples]
        to_nearest = np.take_along_axis(block, nearest, axis=1)
        own_core = to_nearest[:, samples : samples + 1]
        mutual = np.maximum(np.maximum(to_nearest, own_core), hierarchy.prediction_cores[nearest])
        best = mutual.argmin(axis=1)[:, None]
        neighbors[start : start + step] = np.take_along_axis(nearest, best, axis=1)[:, 0]
        reach[start : start + step] = np.take_along_axis(mutual, best, axis=1)[:, 0]
    with np.errstate(divide="ignore"):
        return neighbors, 1 / reach


def _joined_nodes(
    tree: CondensedTree, neighbor: Int64[np.ndarray, " queries"], lambda_value: Float64[np.ndarray, " queries"]
) -> Int64[np.ndarray, " queries"]:
    """The cluster node that held each ``neighbor`` at density ``lambda_value``."""
    root = tree.parent.min()
    parent = np.full(tree.parent.max() + 1, root)
    left_at = np.zeros(len(parent))
    parent[tree.child], left_at[tree.child] = tree.parent, tree.lambda_value
    node = parent[neighbor]
    # The query's distances may be computed by another routine than the tree's, so equality is up to rounding.
    stayed = left_at[neighbor] <= lambda_value * (1 + _SAME)
    while True:
        # A cluster that was born at this density or above did not exist yet where the query meets the neighbour.
        too_dense = ~stayed & (node > root) & (left_at[node] >= lambda_value * (1 - _SAME))
        if not too_dense.any():
            return node
        node = np.where(too_dense, parent[node], node)


def _node_labels(hierarchy: Hierarchy) -> Int64[np.ndarray, " nodes"]:
    """For each cluster node of the tree, counted from the root: the selected cluster that it lies in, or −1."""
    tree, root = hierarchy.tree, len(hierarchy.labels)
    labels = np.full(tree.parent.max() - root + 1, -1, dtype=np.int64)
    labels[hierarchy.nodes - root] = np.arange(len(hierarchy.nodes))
    inner = tree.child > root
    for parent, child in sorted(zip(tree.parent[inner].tolist(), tree.child[inner].tolist(), strict=True)):
        if labels[child - root] < 0:  # parents are numbered before their children
            labels[child - root] = labels[parent - root]
    return labels


def _strengths(
    hierarchy: Hierarchy, labels: Int64[np.ndarray, " queries"], lambda_value: Float64[np.ndarray, " queries"]
) -> Float64[np.ndarray, " queries"]:
    """min(λ, λ_max) / λ_max with λ_max the largest λ at which anything leaves the cluster's own node; 0 for noise."""
    tree, root = hierarchy.tree, len(hierarchy.labels)
    largest = np.zeros(tree.parent.max() - root + 1)
    np.maximum.at(largest, tree.parent - root, tree.lambda_value)
    strengths = np.zeros(len(labels))
    inside = labels >= 0
    limit = largest[hierarchy.nodes[labels[inside]] - root]
    with np.errstate(invalid="ignore"):
        share = np.minimum(lambda_value[inside], limit) / limit
    strengths[inside] = np.where(np.isinf(lambda_value[inside]), 1.0, share)
    return strengths


def _distance_totals(points: SplineCodes | Float[np.ndarray, "n units"], metric: Metric) -> Float64[np.ndarray, " n"]:
    """For each point the sum of its distances to all of them."""
    n = len(points)
    if isinstance(points, SplineCodes):
        codes = points

        def block(rows: slice) -> np.ndarray:
            gates = hamming_matrix(codes[rows], codes)
            return gates if metric == "hamming" else np.sqrt(gates, dtype=np.float64)
    else:
        cloud = _Cloud.of(points)

        def block(rows: slice) -> np.ndarray:
            return cloud.distances(rows, slice(n))

    step = max(1, _BLOCK_BYTES // (8 * n))
    blocks = (block(slice(start, start + step)) for start in range(0, n, step))
    return np.concatenate([distances.sum(axis=1, dtype=np.float64) for distances in blocks])


def _tell(progress: Progress | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
