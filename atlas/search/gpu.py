"""Exact search on a GPU, by FAISS: the same answers, tie order included, as `HammingIndex` gives without one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8, UInt64

from ..codes import SplineCodes
from ..errors import UsageError
from .candidates import candidates_of

MOST_ON_GPU = 1024
"""Neighbours that a GPU finds at most, on any of FAISS's builds."""

_COPIED = 1 << 20  # codes taken there at once

Elsewhere = Callable[[SplineCodes], UInt64[np.ndarray, "left k"]]
"""Answers, without a GPU, for the queries that it is given: their least candidates, in order."""


def n_gpus() -> int:
    """GPUs that FAISS sees."""
    import faiss  # a quarter of a second, for whoever asks for a GPU

    return int(faiss.get_num_gpus())


class GpuCodes:
    """Codes in the memory of a GPU, searched exactly."""

    def __init__(self, packed: UInt8[np.ndarray, "codes bytes"]) -> None:
        """Copy the codes there. Raises `UsageError` where they don't fit."""
        import faiss

        try:
            self._resources = faiss.StandardGpuResources()
            index = faiss.GpuIndexBinaryFlat(self._resources, 8 * packed.shape[1])
            for start in range(0, len(packed), _COPIED):
                index.add(np.ascontiguousarray(packed[start : start + _COPIED]))
        except RuntimeError as error:
            raise UsageError(
                f"{packed.nbytes / 1e9:.1f} GB of codes can't be taken to the GPU ({error}); search with device cpu"
            ) from error
        self._index = OneAtATime(index)

    def search(self, queries: SplineCodes, k: int, elsewhere: Elsewhere) -> UInt64[np.ndarray, "queries k"]:
        """The least candidates, in order; ``elsewhere`` answers for queries whose ties are not all in view.

        Raises `UsageError` where the GPU fails, as for want of memory.
        """
        try:
            return search_with_any_ties(self._index, queries, k, elsewhere)
        except RuntimeError as error:
            raise UsageError(f"the search on the GPU failed ({error}); search with device cpu") from error


class OnGpu:
    """The codes of an index on a GPU, taken there when they are first searched, by whichever thread comes first."""

    def __init__(
        self, count: Callable[[], int] = n_gpus, copy: Callable[[UInt8[np.ndarray, "codes bytes"]], Any] = GpuCodes
    ) -> None:
        """``count`` and ``copy``: how many GPUs there are, and what takes codes to one."""
        self._count, self._copy = count, copy
        self._lock = threading.Lock()
        self._codes: Any = None
        self._failed = False

    def search(
        self,
        packed: UInt8[np.ndarray, "codes bytes"],
        queries: SplineCodes,
        k: int,
        elsewhere: Elsewhere,
        *,
        forced: bool,
    ) -> UInt64[np.ndarray, "queries k"] | None:
        """The least candidates, in order; None where there is no GPU, or one that failed, unless ``forced``."""
        if self._failed and not forced:
            return None
        if self._count() == 0:
            if forced:
                raise UsageError("device is cuda, but FAISS sees no GPU here; use auto or cpu")
            return None
        try:
            with self._lock:
                if self._codes is None:
                    self._codes = self._copy(packed)
                codes = self._codes
            candidates: UInt64[np.ndarray, "queries k"] = codes.search(queries, k, elsewhere)
            return candidates
        except UsageError:
            if forced:
                raise
            self._failed = True  # it would fail again, each time after the copy
            return None


class OneAtATime:
    """A FAISS index whose resources must not be used by two threads."""

    def __init__(self, index: Any) -> None:
        self._index, self._lock = index, threading.Lock()
        self.ntotal = int(index.ntotal)

    def search(self, packed: UInt8[np.ndarray, "queries bytes"], k: int) -> tuple[np.ndarray, np.ndarray]:
        """Distances and places, as FAISS has them."""
        with self._lock:
            distances, places = self._index.search(packed, k)
        return distances, places


def search_with_any_ties(
    index: Any, queries: SplineCodes, k: int, elsewhere: Elsewhere
) -> UInt64[np.ndarray, "queries k"]:
    """The ``k`` least candidates of each query from a FAISS index that is exact, but takes any of codes that tie.

    More than ``k`` are asked for. Where the last of them lies beyond the k-th, all that tie with the k-th are among
    them, and the lowest places can be chosen; the other queries are answered ``elsewhere``.
    """
    wanted = min(index.ntotal, max(2 * k, k + 64))
    if wanted > MOST_ON_GPU:
        return elsewhere(queries)
    distances, places = index.search(np.ascontiguousarray(queries.packed), wanted)
    candidates = np.sort(candidates_of(distances, places), axis=1)
    known = _ties_in_view(np.sort(distances, axis=1), k) | (wanted == index.ntotal)
    answer: UInt64[np.ndarray, "queries k"] = candidates[:, :k].copy()
    if not known.all():
        answer[~known] = elsewhere(queries[~known])
    return answer


def _ties_in_view(distances: Integer[np.ndarray, "queries wanted"], k: int) -> np.ndarray:
    nearer_than_last: np.ndarray = distances[:, -1] > distances[:, k - 1]
    return nearer_than_last
