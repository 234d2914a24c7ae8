"""HDBSCAN over codes or activations, from an exact minimum spanning tree that is built here.

The spanning tree of the mutual-reachability graph is all that HDBSCAN needs to know of the distances (Campello,
Moulavi & Sander 2013; McInnes & Healy 2017, arXiv 1705.07321); `spanning` finds it. Everything above the tree is the
`hdbscan` package's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from numbers import Integral
from typing import Any, Literal

import numpy as np
from hdbscan import hdbscan
from jaxtyping import Float, Float64, Int64

from ..codes import SplineCodes
from ..errors import NonFinite, PolytopeError, TooManyPoints, UsageError
from ..kernels import merge_edges
from .approximate_tree import ApproximateTree, approximate_tree
from .distances import (
    BLOCK_BYTES,
    SAME,
    Activations,
    Codes,
    Device,
    Points,
    TorchCodes,
    chosen_device,
    not_finite,
    same_rows,
)
from .spanning_tree import Progress, least_row_bytes, spanning_tree

MAX_POINTS = 200_000  # time is n² distances
MEMORY_BUDGET = 4 << 30  # bytes for distances; half of a small laptop's memory

MEDOID_POINTS = 10_000
"""Members up to which a cluster's medoid is found from all distances between them: 10⁸ take a second or two."""

MEDOID_SAMPLE = 1000
"""Members of a larger cluster to which its medoid's mean distance is the least: the mean is known to a thirtieth of
the distances' standard deviation, and the time grows with the size, not with its square."""

_LARGEST = (1 << 32) - 1  # what an atlas stores as a number of points

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
    fewer, distances are computed again when they are needed, with the same result. Copies of the codes count too:
    one where some are equal, or where their bytes don't divide into words of eight. What grows with n alone (the
    tree and hdbscan's condensed tree, some 500 bytes a point) comes on top.

    ``device``: where distances are computed: "auto" takes a CUDA device if there is one.

    ``neighbors``: makes the hierarchy approximate, for millions of points: of that many neighbours of each, at least
    ``min_samples`` (see `forest`; ``max_points`` then doesn't apply, and ``memory_budget`` only to what joins the
    trees). The result says so.

    Time is quadratic otherwise: beyond ``max_points`` raises `TooManyPoints`, before any work, and where the budget
    is too small for a block of distances. Raises `UsageError` for an impossible parameter or fewer than two codes.
    """
    samples = check_request(
        len(codes),
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        selection=selection,
        ties=ties,
        max_points=max_points,
        memory_budget=memory_budget,
        neighbors=neighbors,
    )
    _check_metric(metric)
    first, kind = same_rows(codes.packed)
    rows = None if len(first) == len(codes) else first
    copies = 1 if neighbors is None else 2  # the neighbour graph orders them anew
    where = chosen_device(device, TorchCodes.device_bytes(len(first), codes.n_bits, copies=copies))
    if neighbors is None and (rows is not None or codes.packed.shape[1] % 8):
        _check_copies(len(first), 8 * -(-codes.packed.shape[1] // 8) if where == "cpu" else 0, 2, memory_budget)
    points = Codes.of(codes, rows) if where == "cpu" else TorchCodes.of(codes, where, rows)
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
    takes no more than half of the budget; and one more where some are equal. Raises `NonFinite` for NaN or infinity.
    ``ties`` only matters between duplicates and at core distances.
    """
    if np.ndim(x) != 2:
        raise UsageError(f"activations are an array of n × units numbers, got one of shape {np.shape(x)}")
    samples = check_request(
        len(x),
        units=x.shape[1],
        min_cluster_size=min_cluster_size,
        min_samples=min_samples,
        selection=selection,
        ties=ties,
        max_points=max_points,
        memory_budget=memory_budget,
        neighbors=neighbors,
    )
    first, kind = same_rows(x)
    copies = 1 if neighbors is None else 2
    where = chosen_device(device, Activations.device_bytes(len(first), x.shape[1], copies=copies))
    repeated = len(first) < len(x)
    if neighbors is None:
        held = (4 if where == "cpu" else 0) + (x.itemsize if repeated else 0)
        _check_copies(len(first), held * x.shape[1], 2, memory_budget)
    kinds = x[first] if repeated else x
    copied = kinds.nbytes if repeated else 0
    points = (
        Activations.bounded(kinds, where, room=(memory_budget - copied) // 2, names=first, copied=copied)
        if neighbors is None
        else Activations.of(kinds, where, distinct=True, names=first, copied=copied)
    )
    found = _tree(points, kind, samples, memory_budget, neighbors, progress)
    return _hierarchy(
        found, neighbors, lambda distances: distances, min_cluster_size, samples, "euclidean", selection, ties
    )


def check_request(
    n: int,
    *,
    units: int | None = None,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    max_points: int = MAX_POINTS,
    memory_budget: int = MEMORY_BUDGET,
    neighbors: int | None = None,
) -> int:
    """Raise what `cluster_codes`, or with ``units`` `cluster_activations`, would raise for n points before they are
    looked at; returns the ``min_samples`` that are used."""
    _check_whole("min_cluster_size", min_cluster_size, 2)
    samples = min_cluster_size if min_samples is None else min_samples
    _check_whole("min_samples", samples, 1)
    if selection not in ("eom", "leaf"):
        raise UsageError(f'clusters are selected by "eom" or "leaf", got "{selection}"')
    if ties not in ("hdbscan", "stable"):
        raise UsageError(f'ties are ordered as in "hdbscan" or "stable", got "{ties}"')
    if n < 2:
        raise UsageError(f"a clustering needs at least two points, got {n}")
    if units == 0:
        raise UsageError(f"activations need at least one unit, got an array of shape ({n}, 0)")
    samples = min(samples, n - 1)
    if neighbors is None:
        _check_number(n, max_points)
        _check_copies(n, 4 * (units or 0), 2, memory_budget, certain=False)
        return samples
    _check_whole("neighbors (--approximate)", neighbors, 1)
    if neighbors < samples:
        raise UsageError(
            f"core distances are to neighbour {samples} (min_samples): ask for at least as many, got {neighbors}"
        )
    if neighbors >= n:
        raise UsageError(
            f"neighbors (--approximate) is {neighbors}; each of {n} points has {n - 1} others. Ask for fewer, or "
            "leave it out to cluster exactly"
        )
    return samples


def medoids(
    points: SplineCodes | Float[np.ndarray, "n units"],
    labels: Int64[np.ndarray, " labels"],
    *,
    metric: Metric,
    memory_budget: int = MEMORY_BUDGET,
    progress: Progress | None = None,
) -> Int64[np.ndarray, " clusters"]:
    """For each cluster 0, 1, … the member with the least mean distance to the members: its row in ``points``.

    Of members with the same mean the first counts. In a cluster of more than `MEDOID_POINTS` the mean is over
    `MEDOID_SAMPLE` of the members, drawn at random, always the same ones. Noise (−1) has no medoid. Activations are
    compared by "euclidean", codes by either metric. ``memory_budget``: bytes for copies of points and distances.
    ``progress``: distances computed and in all.

    Raises `UsageError` for another number of labels than points, for a cluster number without a member, or for
    activations under "hamming"; `NonFinite` for NaN or infinity.
    """
    _check_metric(metric)
    if len(labels) != len(points):
        raise UsageError(f"every point needs a label, got {len(points)} points and {len(labels)} labels")
    if metric == "hamming" and not isinstance(points, SplineCodes):
        raise UsageError('activations have no Hamming distance: use metric="euclidean", or give their codes')
    if not isinstance(points, SplineCodes) and (row := not_finite(points)) is not None:
        raise NonFinite(f"the activation in row {row} holds NaN or infinity; leave that example out")
    groups = members_of(labels)
    sizes = np.array([len(members) for members in groups], dtype=np.int64)
    if (sizes == 0).any():
        raise UsageError(f"clusters are numbered without gaps, but cluster {int(sizes.argmin())} has no member")
    pairs = np.cumsum(sizes * np.where(sizes > MEDOID_POINTS, MEDOID_SAMPLE, sizes))
    found = np.empty(len(sizes), dtype=np.int64)
    for cluster, members in enumerate(groups):
        among = members
        if len(members) > MEDOID_POINTS:
            among = np.sort(np.random.default_rng(cluster).choice(members, MEDOID_SAMPLE, replace=False))
        before = int(pairs[cluster - 1]) if cluster else 0

        def tell(rows: int, before: int = before, width: int = len(among)) -> None:
            if progress is not None:
                progress(before + rows * width, int(pairs[-1]))

        totals = _distance_totals(points, members, among, metric, memory_budget, tell)
        found[cluster] = members[np.flatnonzero(totals <= totals.min() * (1 + SAME))[0]]
    return found


def members_of(labels: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " members"]]:
    """The members of cluster 0, 1, …, ascending."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels + 1))  # noise is −1
    return np.split(order, ends[:-1])[1:] if len(ends) else []


def _check_metric(metric: str) -> None:
    if metric not in ("hamming", "euclidean"):
        raise UsageError(f'the metric is "hamming" or "euclidean", got "{metric}"')


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if int(value) < least:
        raise UsageError(f"{name} must be at least {least}, got {value}")
    if int(value) > _LARGEST:
        raise UsageError(f"{name} must be at most {_LARGEST:,}, got {value:,}")


def _check_number(n: int, max_points: int) -> None:
    if n > max_points:
        raise TooManyPoints(
            f"{n} points take {n}² comparisons; the limit is {max_points} points. Cluster a sample of the examples, "
            "cluster from some neighbors of each (--approximate 15), or raise max_points (--max-points) and be "
            "patient: time grows with the square"
        )


def _check_copies(n: int, point_bytes: int, distance_bytes: int, budget: int, *, certain: bool = True) -> None:
    """Raise `TooManyPoints` where copies of n points and the rows of distances that are held at once don't fit.

    ``certain``: not where equal points, of which one is kept, may make n less.
    """
    if point_bytes * n > budget or (certain and (point_bytes + least_row_bytes(distance_bytes)) * n > budget):
        fit = budget // (point_bytes + least_row_bytes(distance_bytes))
        raise TooManyPoints(
            f"copies of {n} points take {point_bytes * n:,} bytes, and rows of distances come on top; the budget is "
            f"{budget:,} bytes, in which {fit} would fit. Cluster so many examples, cluster from some neighbors of "
            "each (--approximate 15), or raise memory_budget (--memory)"
        )


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
    points: Points,
    kind: Int64[np.ndarray, " n"],
    samples: int,
    budget: int,
    neighbors: int | None,
    progress: Progress | None,
) -> ApproximateTree:
    if neighbors is None:
        return ApproximateTree(spanning_tree(points, kind, samples, budget, progress), 1.0)
    return approximate_tree(points, kind, samples, neighbors, budget=budget, progress=progress)


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
        labels,
        probabilities,
        persistence,
        _selected_nodes(tree, labels),
        scale(found.cores).astype(np.float64),
        scale(found.prediction_cores).astype(np.float64),
        tree,
        min_samples,
        min_cluster_size,
        metric,
        selection,
        ties,
        neighbors,
        made.proven,
    )


def _selected_nodes(tree: CondensedTree, labels: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " clusters"]:
    """The node of each cluster: going up from any member, the first that holds as many points as the cluster."""
    parent = dict(zip(tree.child.tolist(), tree.parent.tolist(), strict=True))
    points = dict(zip(tree.child.tolist(), tree.child_size.tolist(), strict=True))
    groups = members_of(labels)
    nodes = np.empty(len(groups), dtype=np.int64)
    for cluster, members in enumerate(groups):
        node = parent[int(members[0])]
        while points[node] != len(members):  # never the root: hdbscan selects no cluster of all points
            node = parent[node]
        nodes[cluster] = node
    return nodes


def _distance_totals(
    points: SplineCodes | Float[np.ndarray, "n units"],
    members: Int64[np.ndarray, " members"],
    among: Int64[np.ndarray, " among"],
    metric: Metric,
    budget: int,
    tell: Callable[[int], None],
) -> Float64[np.ndarray, " members"]:
    """For each member the sum of its distances to those ``among`` them, tile by tile. ``tell``: rows done."""
    totals = np.zeros(len(members))
    # A copy of a tile's points as they are, one as they are compared, and its distances.
    point_bytes = (
        2 * (points.packed.shape[1] + 7)
        if isinstance(points, SplineCodes)
        else (points.itemsize + 8) * points.shape[1]
    )
    side = max(1, min(budget // (4 * point_bytes), isqrt(min(budget, 2 * BLOCK_BYTES) // 16)))
    whole = len(members) * point_bytes <= budget // 2 and members is among
    width = len(among) if whole else side
    rows = max(1, min(budget // 4, BLOCK_BYTES) // (8 * len(among))) if whole else side
    cloud = _cloud(points, members) if whole else None
    for start in range(0, len(members), rows):
        mine = slice(start, min(start + rows, len(members)))
        for first in range(0, len(among), width):
            if cloud is not None:
                distances = cloud.between(mine, slice(0, len(among)))
            else:
                here, there = members[mine], among[first : first + width]
                tile = _cloud(points, np.concatenate([here, there]))
                distances = tile.between(slice(0, len(here)), slice(len(here), len(here) + len(there)))
            if isinstance(points, SplineCodes) and metric == "euclidean":
                distances = np.sqrt(distances, dtype=np.float64)
            totals[mine] += distances.sum(axis=1, dtype=np.float64)
        tell(mine.stop)
    return totals


def _cloud(points: SplineCodes | Float[np.ndarray, "n units"], rows: Int64[np.ndarray, " rows"]) -> Points:
    return Codes.of(points, rows) if isinstance(points, SplineCodes) else Activations.of(points[rows])
