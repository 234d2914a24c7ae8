"""Points in clusters, and what their distances are."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import pairwise_distances

from atlas.clustering.hierarchy import Hierarchy, Metric

METRICS: list[Metric] = ["hamming", "euclidean", "jaccard"]


def blobs_of_gates(seed: int, n: int, bits: int, groups: int = 5) -> np.ndarray:
    """Groups around random codes; the flip rate differs from point to point, so some are outliers."""
    rng = np.random.default_rng(seed)
    centres = rng.random((groups, bits)) < 0.4
    return centres[rng.integers(0, groups, n)] ^ (rng.random((n, bits)) < 0.3 * rng.random((n, 1)))


def blobs(seed: int, n: int, units: int, groups: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(groups, units))
    spread = 2 * rng.random((n, 1)) * rng.normal(size=(n, units))
    return (centres[rng.integers(0, groups, n)] + spread).astype(np.float32)


def gate_distances(gates: np.ndarray, metric: Metric) -> np.ndarray:
    if metric == "jaccard":
        return np.asarray(pairwise_distances(gates, metric="jaccard"))
    counts = (gates[:, None] != gates[None]).sum(axis=2)
    return counts / gates.shape[1] if metric == "hamming" else np.sqrt(counts)


def hdbscan_knows_the_clusters(ours: Hierarchy) -> bool:
    """hdbscan predicts with the wrong node for a cluster that no point leaves before it splits."""
    return bool(np.isin(ours.nodes, ours.tree.parent[ours.tree.child_size == 1]).all())
