"""Stored examples on the other side of a gate's boundary (SCIENCE 14)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atlas import Atlas
from atlas.store.catalog import SiteRecord

BIT = np.array([128, 64, 32, 16, 8, 4, 2, 1], np.uint8)
"""Bit j of a byte: the most significant first."""


def nearest_opposite(atlas: Atlas, example: int, *, site: SiteRecord, gates: Sequence[int]) -> list[int | None]:
    """For each gate of a site the stored example beyond its boundary whose code there is nearest.

    Args:
        atlas: an open atlas.
        example: id of a stored example.
        site: whose codes are compared.
        gates: bits of its code.

    Returns:
        Of the examples that have the gate off where this one has it on, or the other way round, the one whose code
        differs in the fewest gates, the first by id of several; None where there is none.

    Raises:
        UnknownName: the example has no code at the site.
    """
    mine = atlas.codes([site], [example])[1].packed
    places = np.asarray(gates, np.int64)
    best = [(site.n_gates + 1, -1)] * len(places)
    for ids, packed in atlas.code_blocks(site):
        apart = packed ^ mine
        distances = np.bitwise_count(apart).sum(axis=1, dtype=np.int64)
        for i, place in enumerate(places):
            beyond = np.flatnonzero(apart[:, place // 8] & BIT[place % 8])
            if len(beyond):
                nearest = beyond[distances[beyond].argmin()]
                best[i] = min(best[i], (int(distances[nearest]), int(ids[nearest])))
    return [found if found >= 0 else None for _, found in best]
