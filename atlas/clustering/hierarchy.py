"""What a clustering is. Light to import: whoever only reads a stored clustering needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

Metric = Literal["hamming", "euclidean", "jaccard"]
Selection = Literal["eom", "leaf"]
Ties = Literal["hdbscan", "stable", "ids"]

SAME = 1e-9
"""Relative: two routes to one distance differ by rounding only, by less than this."""


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
    Distances are in the units of ``metric``: "hamming" is the share of gates that differ, "jaccard" their share of
    those that are on in either.
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


def members_of(labels: Int64[np.ndarray, " n"]) -> list[Int64[np.ndarray, " members"]]:
    """The members of cluster 0, 1, …, ascending."""
    order = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels + 1))  # noise is −1
    return np.split(order, ends[:-1])[1:] if len(ends) else []
