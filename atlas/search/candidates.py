"""A candidate: a distance and a place in one number, so that the order of numbers is that of (distance, place).

Kernels keep candidates in heaps and NumPy sorts them; either way ties come out with the lowest place first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, Integer, UInt64

PLACE_BITS = 36
"""Lower bits, which hold the place among the codes; the gates that differ stand above. 68 billion places, 268 million
gates."""


def candidates_of(
    distances: Integer[np.ndarray, "queries codes"], places: Integer[np.ndarray, "#queries codes"]
) -> UInt64[np.ndarray, "queries codes"]:
    """Candidates of distances in gates and places; one row of places serves all queries."""
    return (distances.astype(np.uint64) << np.uint64(PLACE_BITS)) | places.astype(np.uint64)


def parted(
    candidates: UInt64[np.ndarray, "queries k"],
) -> tuple[Int64[np.ndarray, "queries k"], Int64[np.ndarray, "queries k"]]:
    """Places and distances of candidates."""
    places = candidates & ((np.uint64(1) << np.uint64(PLACE_BITS)) - np.uint64(1))
    return places.astype(np.int64), (candidates >> np.uint64(PLACE_BITS)).astype(np.int64)
