"""The nearest of the clustered points to points that were not clustered."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int64

from ..codes import SplineCodes
from ..threads import in_threads, slices
from .distances import Activations, Codes, Points
from .hierarchy import Metric
from .jaccard import JaccardCodes
from .kernels import keep_nearest
from .limits import BLOCK_BYTES

_COLUMNS = 4096
"""Clustered points that are compared at once: copies of their activations stay small."""

_PIECE = 64  # rows that one thread takes at a time


def clustered_neighbors(
    clustered: SplineCodes | Float[np.ndarray, "n units"],
    others: SplineCodes | Float[np.ndarray, "queries units"],
    k: int,
    metric: Metric,
) -> tuple[Int64[np.ndarray, "queries k"], Float64[np.ndarray, "queries k"]]:
    """The k nearest of n clustered points to each of some others, and their distances in the metric's unit.

    The nearest comes first, of equally near ones the first of the clustered. ``others``: few enough that their
    distances to some thousand points fit into memory.
    """
    m = len(others)
    nearest, neighbors = np.full((m, k), np.inf), np.full((m, k), -1)
    width = min(_COLUMNS, max(1, BLOCK_BYTES // (8 * max(1, m))))
    for start in range(0, len(clustered), width):
        columns = np.arange(start, min(start + width, len(clustered)))
        points = _together(others, clustered, columns, metric)
        block = points.between(slice(0, m), slice(m, m + len(columns)))

        def keep(piece: slice, block: np.ndarray = block, columns: np.ndarray = columns) -> None:
            nobody = np.full(piece.stop - piece.start, -1)  # none of the others is one of the clustered
            keep_nearest(block[piece], nobody, columns, nearest[piece], neighbors[piece])

        in_threads(keep, slices(m, _PIECE))
    if isinstance(clustered, SplineCodes) and metric != "jaccard":
        nearest = nearest / clustered.n_bits if metric == "hamming" else np.sqrt(nearest)
    return neighbors, nearest


def _together(
    others: SplineCodes | Float[np.ndarray, "queries units"],
    clustered: SplineCodes | Float[np.ndarray, "n units"],
    columns: Int64[np.ndarray, " columns"],
    metric: Metric,
) -> Points:
    if isinstance(clustered, SplineCodes) and isinstance(others, SplineCodes):
        codes = SplineCodes(np.concatenate([others.packed, clustered.packed[columns]]), clustered.parts)
        return JaccardCodes.of(codes) if metric == "jaccard" else Codes.of(codes)
    return Activations.of(np.concatenate([others, clustered[columns]]))
