"""An index in several files, searched as one: each by itself, and what they find merged by (distance, id).

The ids of a part all lie before those of the next, so that a code's place in the whole is its place in its part,
moved by the codes before. A part is told the distance of the k-th found so far, and looks for nearer ones alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

from ..codes import SplineCodes
from ..errors import IndexMismatch, IndexMissing
from ..store.index_parts import IndexPart
from .candidates import PLACE_BITS
from .gpu import OnGpu
from .hamming_index import Found, HammingIndex

if TYPE_CHECKING:
    from .approximate import ApproximateIndex


@runtime_checkable
class Searchers(Protocol):
    """Processes that hold the files of indexes, and search them side by side."""

    def nearest(
        self, parts: Sequence[tuple[IndexPart, int, np.ndarray | None]], queries: SplineCodes
    ) -> list[UInt64[np.ndarray, "queries k"]]:
        """For every file, with k and the places to look at or None, what `HammingIndex` has as its candidates."""
        ...


NOTHING = np.iinfo(np.uint64).max
"""A candidate that is none: larger than all."""


def load_index(
    parts: Sequence[IndexPart], digest: str, *, thorough: bool = False, searchers: Searchers | None = None
) -> HammingIndex:
    """The flat index of these files. ``digest``: that of all codes in it, where it is in parts, which ``searchers``
    search, if there are any.

    Raises `IndexMissing` where a file is absent or damaged, `IndexMismatch` where a part is of other codes.
    """
    if not parts:
        raise IndexMissing("the index has no files in this version of the atlas; build it with `polytope index`")
    held = []
    for part in parts:
        with part.called():
            index = HammingIndex.load(part.path, thorough=thorough)
            if part.within is not None and index.digest != part.digest:
                raise IndexMismatch(
                    f"the index at {part.path} was built from other codes; rebuild it with `polytope index`"
                )
        held.append(index)
    if parts[0].within is None:
        return held[0]
    return JoinedIndex(held, digest, None if searchers is None else (searchers, tuple(parts)))


class JoinedIndex(HammingIndex):
    """A flat index of several, whose ids follow one another."""

    def __init__(
        self,
        joined: Sequence[HammingIndex],
        digest: str,
        elsewhere: tuple[Searchers, tuple[IndexPart, ...]] | None = None,
    ) -> None:
        """``elsewhere``: who searches in place of this process, and the files that they are to look into."""
        object.__setattr__(self, "elsewhere", elsewhere)
        object.__setattr__(self, "joined", tuple(joined))
        object.__setattr__(self, "parts", joined[0].parts)
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "_gpu", OnGpu())
        object.__setattr__(self, "starts", np.cumsum([0, *map(len, joined)]))

    joined: tuple[HammingIndex, ...]
    elsewhere: tuple[Searchers, tuple[IndexPart, ...]] | None
    starts: Int64[np.ndarray, " parts_and_end"]

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def ids(self) -> Int64[np.ndarray, " codes"]:
        return np.concatenate([index.ids for index in self.joined])

    @cached_property
    def packed(self) -> UInt8[np.ndarray, "codes bytes"]:
        """All codes in memory: only a GPU needs them so."""
        return np.concatenate([index.packed for index in self.joined])

    def codes(self, places: Int64[np.ndarray, " wanted"]) -> SplineCodes:
        rows = np.empty((len(places), self.joined[0].packed.shape[1]), np.uint8)
        part = np.searchsorted(self.starts, places, side="right") - 1
        for number in np.unique(part).tolist():
            of_part = part == number
            rows[of_part] = self.joined[number].packed[places[of_part] - self.starts[number]]
        return SplineCodes(rows, self.parts)

    def within(
        self, queries: SplineCodes, radius: int, *, among: Int64[np.ndarray, " allowed"] | None = None
    ) -> list[tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]]:
        self.check_radius(queries, radius, among)
        found = [index.within(queries, radius, among=some) for index, _, some in self._searched(among)]
        return [_sorted([answers[query] for answers in found]) for query in range(len(queries))]

    def _nearest(
        self,
        queries: SplineCodes,
        k: int,
        among: Int64[np.ndarray, " allowed"] | None,
        bound: UInt64[np.ndarray, " queries"] | None = None,
    ) -> UInt64[np.ndarray, "queries k"]:
        if self.elsewhere is not None:
            return self._nearest_elsewhere(queries, k, among)
        best = np.full((len(queries), k), NOTHING, np.uint64)
        for index, start, some in self._searched(among):
            held = len(index) if some is None else len(some)
            # What is as far as the k-th is no nearer: its place is higher.
            bound = best[:, -1] >> np.uint64(PLACE_BITS) << np.uint64(PLACE_BITS)
            found = index._nearest(queries, min(k, held), some, bound)
            found[found != NOTHING] += np.uint64(start)
            best = np.concatenate([best, found], axis=1)
            best.sort(axis=1)
            best = best[:, :k]
        return best

    def _nearest_elsewhere(
        self, queries: SplineCodes, k: int, among: Int64[np.ndarray, " allowed"] | None
    ) -> UInt64[np.ndarray, "queries k"]:
        assert self.elsewhere is not None
        searchers, parts = self.elsewhere
        by_start = dict(zip(self.starts.tolist(), parts, strict=False))
        searched = self._searched(among)
        asked = [
            (by_start[start], min(k, len(index) if some is None else len(some)), some)
            for index, start, some in searched
        ]
        found = searchers.nearest(asked, queries)
        moved = [candidates + np.uint64(start) for candidates, (_, start, _) in zip(found, searched, strict=True)]
        best = np.concatenate(moved, axis=1)
        best.sort(axis=1)
        return best[:, :k]

    def _searched(
        self, among: Int64[np.ndarray, " allowed"] | None
    ) -> list[tuple[HammingIndex, int, Int64[np.ndarray, " some"] | None]]:
        """Every part that is searched, how many codes lie before it, and which of its places are searched."""
        if among is None:
            return [(index, int(start), None) for index, start in zip(self.joined, self.starts, strict=False)]
        ends = np.searchsorted(among, self.starts)
        return [
            (index, int(self.starts[number]), among[ends[number] : ends[number + 1]] - self.starts[number])
            for number, index in enumerate(self.joined)
            if ends[number] < ends[number + 1]
        ]

    def _bytes_compared(self, n_queries: int, among: np.ndarray | None) -> int:
        return n_queries * (len(self) if among is None else len(among)) * self.joined[0].packed.shape[1]


def _sorted(pieces: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Ids and distances of parts in order, by (distance, id)."""
    ids = np.concatenate([np.empty(0, np.int64), *(ids for ids, _ in pieces)])
    distances = np.concatenate([np.empty(0, np.int64), *(distances for _, distances in pieces)])
    order = np.argsort(distances, kind="stable")
    return ids[order], distances[order]


def completed(
    exact: HammingIndex,
    queries: SplineCodes,
    k: int,
    places: Int64[np.ndarray, "queries k"],
    distances: Int64[np.ndarray, "queries k"],
) -> Found:
    """The ids at places that a search found; a query for which it found fewer than ``k``, at place −1, is answered
    exactly."""
    few = (places < 0).any(axis=1)
    ids = exact.ids[np.where(places < 0, 0, places)]
    if few.any():
        ids[few], distances[few] = exact.search(queries[np.flatnonzero(few)], k)
    return ids, distances


@dataclass(frozen=True, eq=False)
class JoinedApproximate:
    """As `ApproximateIndex`, in parts; ``approximate``: None for a part of so few codes that all are compared."""

    kind: ClassVar[str] = "ivf"
    approximate: tuple[ApproximateIndex | None, ...]
    exact: JoinedIndex
    recall: float = 0.0
    recall_in_order: float = 0.0
    sample: int = 0
    parameters: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.exact)

    def search(self, queries: SplineCodes, k: int) -> Found:
        """As `ApproximateIndex.search`."""
        return completed(self.exact, queries, k, *self._nearest(queries, k))

    def _nearest(
        self, queries: SplineCodes, k: int
    ) -> tuple[Int64[np.ndarray, "queries k"], Int64[np.ndarray, "queries k"]]:
        """Places and distances by (distance, place); what was not found is at place −1, at the end."""
        self.exact.check_search(queries, k, None)
        places, distances = [], []
        for approximate, exact, start in zip(self.approximate, self.exact.joined, self.exact.starts, strict=False):
            most = min(k, len(exact))
            if approximate is None:
                ids, far = exact.search(queries, most)
                near = np.searchsorted(exact.ids, ids)
            else:
                near, far = approximate._nearest(queries, most)
            places.append(np.where(near < 0, -1, near + start))
            distances.append(far)
        place, distance = np.concatenate(places, axis=1), np.concatenate(distances, axis=1)
        order = np.lexsort((place, np.where(place < 0, np.iinfo(np.int32).max, distance)), axis=1)[:, :k]
        return np.take_along_axis(place, order, 1), np.take_along_axis(distance, order, 1)

    def within(
        self, queries: SplineCodes, radius: int
    ) -> list[tuple[Int64[np.ndarray, " near"], Int64[np.ndarray, " near"]]]:
        """As `ApproximateIndex.within`."""
        found = [
            (approximate or exact).within(queries, radius)
            for approximate, exact in zip(self.approximate, self.exact.joined, strict=True)
        ]
        return [_sorted([answers[query] for answers in found]) for query in range(len(queries))]

    def check(self, n_codes: int, digest: str) -> None:
        """As `HammingIndex.check`."""
        self.exact.check(n_codes, digest)
