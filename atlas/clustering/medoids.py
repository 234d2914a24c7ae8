"""The most central member of each cluster."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt

import numpy as np
from jaxtyping import Float, Float64, Int64

from ..codes import SplineCodes
from ..errors import NonFinite, UsageError
from ..progress import Progress
from .distances import Activations, Codes, Points
from .hierarchy import SAME, Metric, members_of
from .jaccard import JaccardCodes
from .limits import BLOCK_BYTES, MEMORY_BUDGET, check_metric
from .rows import not_finite

MEDOID_POINTS = 10_000
"""Members up to which a cluster's medoid is the best of all distances between them: 10⁸ take a second or two."""

MEDOID_SAMPLE = 1000
"""Members of a larger cluster to which its medoid's mean distance is the least: the mean is known to a thirtieth of
the distances' standard deviation, and the time grows with the size, not with its square."""


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
    `MEDOID_SAMPLE` of the members, drawn at random, always the same ones. Noise (−1) has no medoid.

    Args:
        points: n codes, or n activations.
        labels: the cluster of each point.
        metric: activations are compared by "euclidean", codes by any metric.
        memory_budget: bytes for copies of points and distances.
        progress: told distances computed and in all.

    Raises:
        UsageError: for another number of labels than points, for a cluster number without a member, or for
            activations under "hamming" or "jaccard".
        NonFinite: for NaN or infinity.
    """
    check_metric(metric)
    if len(labels) != len(points):
        raise UsageError(f"every point needs a label, got {len(points)} points and {len(labels)} labels")
    if metric != "euclidean" and not isinstance(points, SplineCodes):
        raise UsageError(
            f'activations have no {metric.capitalize()} distance: use metric="euclidean", or give their codes'
        )
    if not isinstance(points, SplineCodes) and (row := not_finite(points)) is not None:
        raise NonFinite(f"the activation in row {row} holds NaN or infinity; leave that example out")
    groups = members_of(labels)
    sizes = np.array([len(members) for members in groups], dtype=np.int64)
    if (sizes == 0).any():
        raise UsageError(f"clusters are numbered without gaps, but cluster {int(sizes.argmin())} has no member")
    pairs = np.cumsum(sizes * np.where(sizes > MEDOID_POINTS, MEDOID_SAMPLE, sizes))
    central = np.empty(len(sizes), dtype=np.int64)
    for cluster, members in enumerate(groups):
        among = members
        if len(members) > MEDOID_POINTS:
            among = np.sort(np.random.default_rng(cluster).choice(members, MEDOID_SAMPLE, replace=False))
        before = int(pairs[cluster - 1]) if cluster else 0

        def tell(rows: int, before: int = before, width: int = len(among)) -> None:
            if progress is not None:
                progress(before + rows * width, int(pairs[-1]))

        totals = _distance_totals(points, members, among, metric, memory_budget, tell)
        central[cluster] = members[np.flatnonzero(totals <= totals.min() * (1 + SAME))[0]]
    return central


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
    cloud = _cloud(points, members, metric) if whole else None
    for start in range(0, len(members), rows):
        mine = slice(start, min(start + rows, len(members)))
        for first in range(0, len(among), width):
            if cloud is not None:
                distances = cloud.between(mine, slice(0, len(among)))
            else:
                rows_of, columns_of = members[mine], among[first : first + width]
                tile = _cloud(points, np.concatenate([rows_of, columns_of]), metric)
                split = len(rows_of)
                distances = tile.between(slice(0, split), slice(split, split + len(columns_of)))
            if isinstance(points, SplineCodes) and metric == "euclidean":
                distances = np.sqrt(distances, dtype=np.float64)
            totals[mine] += distances.sum(axis=1, dtype=np.float64)
        tell(mine.stop)
    return totals


def _cloud(
    points: SplineCodes | Float[np.ndarray, "n units"], rows: Int64[np.ndarray, " rows"], metric: Metric
) -> Points:
    if not isinstance(points, SplineCodes):
        return Activations.of(points[rows])
    return JaccardCodes.of(points, rows) if metric == "jaccard" else Codes.of(points, rows)
