"""One code among all stored codes of a target: the nearest, or all within a radius, by whatever index there is.

What a search without a filter has found is kept with the `Subject`, so that a second question about it need not go
through the codes again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from atlas import Atlas
from atlas.devices import Device
from atlas.store.catalog import Target

from ..examples.subjects import Neighbors, Subject
from .indexes import Indexes
from .linear_scan import distances_to_code

KEPT = 64
"""Neighbours that are looked for at least where a subject may be asked about again: as many cost hardly more than
ten, and hold the 2·min_samples nearest that place it in a clustering."""

SORTED_BEYOND = 4096
"""For more neighbours than this all distances are sorted, in place of keeping the nearest of each block."""


@dataclass(frozen=True)
class CodeSearch:
    """``among``: ids, ascending, of the examples that may be found; None for all. ``device``: as of `nearest`."""

    atlas: Atlas
    target: Target
    subject: Subject
    indexes: Indexes
    among: Int64[np.ndarray, " allowed"] | None = None
    device: Device = "auto"

    @property
    def n_searched(self) -> int:
        """How many codes are searched."""
        return self.indexes.n_codes if self.among is None else len(self.among)

    def nearest(self, n: int, *, keep: bool = False) -> Neighbors:
        """The ``n`` nearest codes; with ``keep`` some more are looked for, and kept for the next question."""
        known = self._known()
        if known is None or len(known[0]) < n:
            known = self._search(min(self.n_searched, max(n, KEPT)) if keep else n)
            self._keep(known)
        return known[0][:n], known[1][:n]

    def within(self, radius: int) -> Neighbors:
        """All codes at most ``radius`` gates away."""
        known = self._known()
        if known is not None and (len(known[0]) == self.n_searched or known[1][-1] > radius):
            near = int(np.searchsorted(known[1], radius, side="right"))
            return known[0][:near], known[1][:near]
        return self._within(radius)

    def _search(self, n: int) -> Neighbors:
        flat, approximate = self.indexes.flat, self.indexes.approximate
        if flat is None:
            return self._by_blocks()
        if approximate is not None:
            ids, distances = approximate.search(self.subject.codes, n)
        elif n > SORTED_BEYOND and self.device != "cuda":
            everyone = self._within(self.target.n_gates)
            return everyone[0][:n], everyone[1][:n]
        else:
            ids, distances = flat.search(self.subject.codes, n, among=self._places(), device=self.device)
        return ids[0], distances[0]

    def _within(self, radius: int) -> Neighbors:
        flat, approximate = self.indexes.flat, self.indexes.approximate
        if flat is None:
            ids, distances = everyone = self._by_blocks()
            self._keep(everyone)
            near = int(np.searchsorted(distances, radius, side="right"))
            return ids[:near], distances[:near]
        if approximate is not None:
            return approximate.within(self.subject.codes, radius)[0]
        return flat.within(self.subject.codes, radius, among=self._places())[0]

    def _places(self) -> Int64[np.ndarray, " allowed"] | None:
        flat = self.indexes.flat
        return None if self.among is None or flat is None else flat.places(self.among)

    def _by_blocks(self) -> Neighbors:
        """All codes of a span without an index, nearest first."""
        ids, distances = distances_to_code(self.atlas, self.target, self.subject.codes)
        if self.among is not None:
            allowed = np.isin(ids, self.among)
            ids, distances = ids[allowed], distances[allowed]
        near = np.lexsort((ids, distances))
        return ids[near], distances[near]

    # --- what is known already -----------------------------------------------------------------------------------

    @property
    def _searched(self) -> str:
        """What the answer depends on besides the code: the codes, and whether some may be missed."""
        return f"{self.target.digest} {'exact' if self.indexes.approximate is None else 'approximate'}"

    def _known(self) -> Neighbors | None:
        return self.subject.nearest.get(self._searched) if self.among is None else None

    def _keep(self, neighbors: Neighbors) -> None:
        if self.among is None:
            self.subject.nearest[self._searched] = neighbors
