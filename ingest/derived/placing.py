"""A clustering of a sample, and the place in it of every other example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from atlas.checks import whole
from atlas.clustering.hierarchy import Hierarchy, Metric
from atlas.clustering.placement import place
from atlas.codes import SplineCodes
from atlas.errors import UsageError

PLACED_ROWS = 8192
"""Examples that are placed at once: their distances to some thousand others take 64 MB."""


@dataclass(frozen=True, eq=False)
class Labelled:
    """What is stored of each example: the columns of table ``cluster_labels``."""

    label: Int64[np.ndarray, " n"]
    probability: Float64[np.ndarray, " n"]
    core_distance: Float64[np.ndarray, " n"]
    prediction_core_distance: Float64[np.ndarray, " n"]
    placed: Bool[np.ndarray, " n"]

    @classmethod
    def of(cls, hierarchy: Hierarchy) -> Labelled:
        """All were clustered."""
        none = np.zeros(len(hierarchy.labels), dtype=np.bool_)
        cores = hierarchy.core_distances, hierarchy.prediction_cores
        return cls(hierarchy.labels, hierarchy.probabilities, *cores, none)


def drawn(n: int, sample: int | None, seed: int) -> Int64[np.ndarray, " sample"] | None:
    """Rows of a sample of n examples, ascending; None where there is to be none.

    Raises `UsageError` for a sample of all or more, or of fewer than two.
    """
    if sample is None:
        return None
    sample = whole("sample (--sample)", sample, 2)
    if sample >= n:
        raise UsageError(f"sample (--sample) is {sample}; there are {n} examples: leave it out to cluster all")
    return np.sort(np.random.default_rng(seed).choice(n, sample, replace=False))


def placed_in(
    hierarchy: Hierarchy,
    points: SplineCodes | Float[np.ndarray, "n units"],
    rows: Int64[np.ndarray, " sample"],
    metric: Metric,
    tell: Callable[[int], None],
) -> Labelled:
    """The examples that were clustered, and all others placed as `hdbscan.approximate_predict` places them.

    Args:
        hierarchy: of the sample.
        points: all examples.
        rows: which of them are the sample.
        metric: by which they are compared.
        tell: is told how many were placed.
    """
    from atlas.clustering.clustered_neighbors import clustered_neighbors

    n = len(points)
    samples = min(hierarchy.min_samples, len(rows) - 1)
    strengths, cores, prediction_cores = np.empty((3, n))
    found = Labelled(np.empty(n, np.int64), strengths, cores, prediction_cores, np.ones(n, dtype=np.bool_))
    found.placed[rows] = False
    for name, values in vars(Labelled.of(hierarchy)).items():
        getattr(found, name)[rows] = values
    clustered, others = points[rows], np.flatnonzero(found.placed)
    for start in range(0, len(others), PLACED_ROWS):
        some = others[start : start + PLACED_ROWS]
        neighbors, distances = clustered_neighbors(clustered, points[some], min(2 * samples, len(rows)), metric)
        found.label[some], found.probability[some] = place(hierarchy, neighbors, distances)
        found.core_distance[some] = distances[:, samples - 1]
        found.prediction_core_distance[some] = distances[:, samples - 2] if samples > 1 else 0.0
        tell(start + len(some))
    return found
