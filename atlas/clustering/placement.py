"""Placing new points in an old clustering: hdbscan's approximate prediction, from distances alone."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from ..errors import NonFinite, UsageError, WidthError
from .hierarchy import SAME, CondensedTree, Hierarchy
from .limits import BLOCK_BYTES


def approximate_predict(
    hierarchy: Hierarchy, distances: Float[np.ndarray, "queries n"]
) -> tuple[Int64[np.ndarray, " queries"], Float64[np.ndarray, " queries"]]:
    """Label new points without clustering again, as hdbscan's ``approximate_predict`` does.

    Among its 2·``min_samples`` nearest points (all n where there are fewer) a query joins the one of least mutual
    reachability r, at λ = 1/r, in the cluster that held this point at that λ. Of equally near points the first
    counts. Three differences, where hdbscan 0.8.44 errs: a query that coincides with a stack of duplicates (r = 0)
    has strength 1, as the duplicates do, not 0; fewer than 2·``min_samples`` points will do; and a cluster that
    splits before any point of its own leaves keeps its label (hdbscan mistakes one half for the whole, and numbers
    the clusters anew).

    Args:
        hierarchy: the clustering of n points.
        distances: from every query to all n points, in the units of ``hierarchy.metric``.

    Returns:
        For each query its label, −1 for noise, and its strength in [0, 1].

    Raises:
        WidthError: for another number of columns than n.
        NonFinite: for NaN.
        UsageError: for negative distances.
    """
    n = len(hierarchy.labels)
    if distances.shape[1] != n:
        raise WidthError(f"a query needs its distance to each of the {n} clustered points, got {distances.shape[1]}")
    if np.isnan(distances).any():
        raise NonFinite("distances to the clustered points hold NaN; check the queries")
    if np.any(distances < 0):
        raise UsageError(f"a distance can't be negative, got {distances.min()}")
    n_nearest = 2 * _samples(hierarchy)
    neighbors = np.empty((len(distances), min(n_nearest, n)), dtype=np.int64)
    step = max(1, BLOCK_BYTES // (8 * n))
    for start in range(0, len(distances), step):
        order = np.argsort(distances[start : start + step], axis=1, kind="stable")
        neighbors[start : start + step] = order[:, :n_nearest]
    return place(hierarchy, neighbors, np.take_along_axis(distances, neighbors, axis=1).astype(np.float64))


def place(
    hierarchy: Hierarchy, neighbors: Int64[np.ndarray, "queries k"], distances: Float64[np.ndarray, "queries k"]
) -> tuple[Int64[np.ndarray, " queries"], Float64[np.ndarray, " queries"]]:
    """`approximate_predict` for queries whose 2·``min_samples`` nearest points are known, or all n where these are
    fewer: the nearest first, of equally near ones the first."""
    samples = _samples(hierarchy)
    own_core = distances[:, samples : samples + 1]
    mutual = np.maximum(np.maximum(distances, own_core), hierarchy.prediction_cores[neighbors])
    # Equality is up to rounding, by whichever routine the distances were computed: of equals the nearest counts.
    best = np.argmax(mutual <= mutual.min(axis=1, keepdims=True) * (1 + SAME), axis=1)[:, None]
    with np.errstate(divide="ignore"):
        lambda_value = 1 / np.take_along_axis(mutual, best, axis=1)[:, 0]
    neighbor = np.take_along_axis(neighbors, best, axis=1)[:, 0]
    labels = _node_labels(hierarchy)[_joined_nodes(hierarchy.tree, neighbor, lambda_value) - len(hierarchy.labels)]
    return labels, _strengths(hierarchy, labels, lambda_value)


def _samples(hierarchy: Hierarchy) -> int:
    """As where the points were clustered: none has more neighbours."""
    return min(hierarchy.min_samples, len(hierarchy.labels) - 1)


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
    stayed = left_at[neighbor] <= lambda_value * (1 + SAME)
    while True:
        # A cluster that was born at this density or above did not exist yet where the query meets the neighbour.
        too_dense = ~stayed & (node > root) & (left_at[node] >= lambda_value * (1 - SAME))
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
