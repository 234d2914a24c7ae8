"""HDBSCAN over codes or activations, from an exact minimum spanning tree that is built here.

The spanning tree of the mutual-reachability graph is all that HDBSCAN needs to know of the distances (Campello,
Moulavi & Sander 2013; McInnes & Healy 2017, arXiv 1705.07321); `spanning_tree` finds it. Everything above the tree is
the `hdbscan` package's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hdbscan import hdbscan
from jaxtyping import Float, Float64, Int64, Num

from ..codes import SplineCodes
from ..devices import Device, chosen_device
from ..errors import PolytopeError, UsageError
from ..progress import Progress
from .approximate_tree import ApproximateTree, approximate_tree
from .distances import Activations, Codes, Points, TorchCodes
from .hierarchy import CondensedTree, Hierarchy, Metric, Selection, Ties, members_of
from .jaccard import JaccardCodes
from .kernels import merge_edges
from .limits import MAX_POINTS, MEMORY_BUDGET, check_copies, check_metric, check_request
from .rows import same_rows
from .spanning_tree import SpanningTree, spanning_tree
from .tree_by_parts import DistinctCodes, tree_by_parts


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

    Time is quadratic unless ``neighbors`` is given. What grows with n alone (the tree and hdbscan's condensed tree,
    some 500 bytes a point) comes on top of ``memory_budget``.

    Args:
        codes: n codes. Padding never counts.
        metric: "hamming" is the share of gates that differ, "euclidean" the distance of the 0/1 vectors, which is
            √(gates that differ), "jaccard" the share of the gates on in either that differ (exact, and on the
            processor, alone).
        min_cluster_size: points of the least cluster, at least 2.
        min_samples: core distances are to this neighbour; default ``min_cluster_size``, as in hdbscan. Where there
            are not more points than that it is one less than the points, as in hdbscan, and the result says so.
        selection: excess of mass, or leaves, of the condensed tree.
        ties: distances between codes are whole numbers of gates, so many edges of the tree are equally long, and the
            order in which they are merged changes labels near a border. "hdbscan" takes the order of the unstable
            ``numpy.argsort`` that hdbscan uses: the labels are those of ``hdbscan.HDBSCAN`` on the same machine, bit
            for bit, and another processor may sort otherwise. "stable" keeps the order in which the tree grew, on
            every machine. "ids" merges in the order of (length, rows of both ends): alike on every machine and by
            whatever parts the codes were compared (`tree_by_parts`).
        max_points: more are refused.
        memory_budget: bytes for distances, of which n² (two bytes a pair) make every distance be computed once; with
            fewer, distances are computed again when they are needed, with the same result. Copies of the codes count
            too: one where some are equal, or where their bytes don't divide into words of eight.
        device: where distances are computed: "auto" takes a CUDA device if there is one.
        neighbors: makes the hierarchy approximate, for millions of points: of that many neighbours of each, at least
            ``min_samples`` (see `approximate_tree`; ``max_points`` then doesn't apply, and ``memory_budget`` only to
            what joins the trees). The result says so.
        progress: told (steps done, 2·n).

    Raises:
        TooManyPoints: beyond ``max_points``, before any work, and where the budget is too small for a block of
            distances.
        UsageError: for an impossible parameter or fewer than two codes.
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
    check_metric(metric, neighbors, device)
    first, kind = same_rows(codes.packed)
    rows = None if len(first) == len(codes) else first
    copies = 1 if neighbors is None else 2  # the neighbour graph orders them anew
    enough = TorchCodes.device_bytes(len(first), codes.n_bits, copies=copies)
    where = "cpu" if metric == "jaccard" else chosen_device(device, enough)
    if neighbors is None and ties != "ids" and (rows is not None or codes.packed.shape[1] % 8):
        check_copies(len(first), 8 * -(-codes.packed.shape[1] // 8) if where == "cpu" else 0, 2, memory_budget)
    if ties == "ids":
        distinct = DistinctCodes(codes, first, kind, metric, where)
        tree = tree_by_parts(distinct, samples, memory_budget, _in_steps(len(first), len(codes), progress))
        return hierarchy_of(tree, codes.n_bits, metric, min_cluster_size, samples, selection)
    points: Points
    if metric == "jaccard":
        points = JaccardCodes.of(codes, rows)
    else:
        points = Codes.of(codes, rows) if where == "cpu" else TorchCodes.of(codes, where, rows)
    made = _tree(points, kind, samples, memory_budget, neighbors, progress)
    return condensed(
        made, neighbors, _scale(metric, codes.n_bits), min_cluster_size, samples, metric, selection, ties
    )


def hierarchy_of(
    tree: SpanningTree, n_bits: int, metric: Metric, min_cluster_size: int, min_samples: int, selection: Selection
) -> Hierarchy:
    """The hierarchy of codes of so many gates over their exact spanning tree, as `tree_by_parts` makes it."""
    made = ApproximateTree(tree, 1.0)
    return condensed(made, None, _scale(metric, n_bits), min_cluster_size, min_samples, metric, selection, "ids")


def _scale(metric: Metric, n_bits: int) -> Callable[[np.ndarray], np.ndarray]:
    """From what a tree of codes is found in to the metric's unit: two grow with the number of gates, so that the tree
    is found in whole numbers and only its edges are scaled."""

    def scale(count: Num[np.ndarray, " n"]) -> Float64[np.ndarray, " n"]:
        if metric == "jaccard":
            return count.astype(np.float64)
        return count / n_bits if metric == "hamming" else np.sqrt(count, dtype=np.float64)

    return scale


def _in_steps(kinds: int, n: int, progress: Progress | None) -> Callable[[int], None]:
    """Distances computed, as steps of 2·n."""
    done = 0

    def tell(distances: int) -> None:
        nonlocal done
        done += distances
        if progress is not None:
            progress(min(2 * n, int(2 * n * done / (1.5 * kinds * kinds))), 2 * n)

    return tell


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

    Arguments and errors are those of `cluster_codes`, but: what takes 2·n² bytes only tells which distances must be
    computed (see `float_bounds`), and a copy of the activations counts too, in float32, or in float64 where they lie
    very near to each other and that takes no more than half of the budget; and one more where some are equal.
    ``ties`` only matters between duplicates and at core distances.

    Args:
        x: n activations of one unit at least.

    Raises:
        NonFinite: for NaN or infinity, and for distances that overflow.
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
        check_copies(len(first), held * x.shape[1], 2, memory_budget)
    kinds = x[first] if repeated else x
    copied = kinds.nbytes if repeated else 0
    points = (
        Activations.bounded(kinds, where, room=(memory_budget - copied) // 2, names=first, copied=copied)
        if neighbors is None
        else Activations.of(kinds, where, distinct=True, names=first, copied=copied)
    )
    made = _tree(points, kind, samples, memory_budget, neighbors, progress)
    return condensed(
        made, neighbors, lambda distances: distances, min_cluster_size, samples, "euclidean", selection, ties
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


def condensed(
    made: ApproximateTree,
    neighbors: int | None,
    scale: Callable[[np.ndarray], np.ndarray],
    min_cluster_size: int,
    min_samples: int,
    metric: Metric,
    selection: Selection,
    ties: Ties,
) -> Hierarchy:
    """Merge the edges, shortest first, then condense the tree and select clusters: hdbscan's part.

    ``neighbors``: as in `Hierarchy`; ``scale``: from the tree's unit to that of ``metric``, rising. Edges are in
    order already where ``ties`` is "ids".
    """
    tree = made.tree
    length = scale(tree.length).astype(np.float64)
    linkage = np.empty((len(length), 4))  # SciPy's form
    order = np.argsort(length, kind=None if ties == "hdbscan" else "stable")
    merge_edges(order, tree.source, tree.target, length, linkage)
    placeholder = np.zeros((len(tree.cores), 1))  # only its length is read
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
    condensed_tree = CondensedTree(*(np.ascontiguousarray(rows[name]) for name in rows.dtype.names))
    return Hierarchy(
        labels,
        probabilities,
        persistence,
        _selected_nodes(condensed_tree, labels),
        scale(tree.cores).astype(np.float64),
        scale(tree.prediction_cores).astype(np.float64),
        condensed_tree,
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
