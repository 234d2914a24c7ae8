"""Exact Hamming search over packed codes: every code is compared with every query.

Codes lie in memory or in a mapped file, and are read where they lie. Padding bits are zero in every code (see
`codes`), so the bits that differ are gates that differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Int64, UInt8, UInt64

from ..codes import SplineCodes
from ..devices import Device, check_device
from ..errors import IndexMismatch, UsageError, WidthError
from ..threads import in_threads, n_threads, slices
from .candidates import candidates_of, parted
from .files import Block, open_flat, write_flat
from .gpu import OnGpu

Found = tuple[Int64[np.ndarray, "queries k"], Int64[np.ndarray, "queries k"]]
"""Example ids and distances in gates, each query's ordered by (distance, id)."""

INTERPRETED_BYTES = 1 << 28
"""Bytes of codes that NumPy compares in a process before the compiled kernels take over. Numba takes half a second to
load, in which NumPy compares twice as much: a single question on the command line never waits for it."""

GPU_BYTES = 1 << 35
"""Bytes compared from which a GPU pays for taking the codes there: half a second on two cores."""

_CACHED_BYTES = 3 << 16  # of codes compared with all queries of a thread: within the L2 cache of a core
_BLOCK_BYTES = 1 << 25  # of distances held at once
_PIECE_BYTES = 1 << 35  # compared between two looks at Ctrl-C, about a second of one core
_SMALL_BYTES = 1 << 21  # compared sooner than another thread wakes up, some 50 µs
_PIECES = 4  # of the codes a thread: when another program takes a core, the others go on with what is left


@dataclass(frozen=True, eq=False)
class HammingIndex:
    """A flat index of the codes of one site or span, searched by Hamming distance, answering in example ids.

    ``parts``: gates of each part of a code, as in `SplineCodes`; ``ids``: the example of each code, ascending;
    ``digest``: names the codes that the index was built from, so that it can refuse to answer for others;
    ``packed``: the codes, read-only. A code's *place* is its row, so places ascend with ids.
    """

    parts: tuple[int, ...]
    ids: Int64[np.ndarray, " codes"]
    digest: str
    packed: UInt8[np.ndarray, "codes bytes"]
    _gpu: OnGpu = field(default_factory=OnGpu, repr=False)

    @classmethod
    def build(cls, codes: SplineCodes, ids: Int64[np.ndarray, " codes"], digest: str) -> HammingIndex:
        """Index ``codes`` (not copied) under example ``ids``, which must ascend: ties are answered in their order.

        Raises `UsageError` for no codes, for another number of ids than codes, and for ids that don't ascend.
        """
        if len(codes) == 0:
            raise UsageError("an index needs at least one code, got none; ingest examples first")
        if len(ids) != len(codes):
            raise UsageError(f"every code needs one example id, got {len(codes)} codes and {len(ids)} ids")
        if np.any(np.diff(ids) <= 0):
            raise UsageError("example ids must be strictly increasing; sort codes and ids by id, without repeats")
        return cls(codes.parts, ids, digest, np.ascontiguousarray(codes.packed))

    @staticmethod
    def write(path: Path, blocks: Iterable[Block], parts: tuple[int, ...], digest: str) -> int:
        """Write an index file from blocks of (ids, packed codes), of which one is held at a time; returns the codes.

        The file (``*.faiss``) is readable by ``faiss.read_index_binary``; ``*.json`` beside it says what it holds.
        Raises `UsageError` for no codes, for ids that don't ascend or don't name each code and for another suffix,
        `WidthError` for codes of another width, `DiskFull`; then nothing is written.
        """
        about = {"kind": "flat", "n_bits": sum(parts), "parts": list(parts), "digest": digest}
        return write_flat(path, blocks, about, sum(-(-part // 8) for part in parts))

    @classmethod
    def load(cls, path: Path, *, thorough: bool = False) -> HammingIndex:
        """Map what `write` wrote, in milliseconds; processes that map the same file share its memory.

        Files up to 64 MiB are hashed whole, larger ones by samples, or whole too if ``thorough``. Raises
        `IndexMissing` where a file is absent or damaged. Whether it is the index of the codes at hand is for `check`
        to say.
        """
        about, packed, ids = open_flat(path, thorough=thorough)
        return cls(tuple(about["parts"]), ids, about["digest"], packed)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_bits(self) -> int:
        """Gates of a code, padding not counted."""
        return sum(self.parts)

    def check(self, n_codes: int, digest: str) -> None:
        """Raise `IndexMismatch` unless the index was built from ``n_codes`` codes with this ``digest``."""
        if len(self) != n_codes or self.digest != digest:
            raise IndexMismatch(
                f"the index was built from {len(self)} codes with digest {self.digest}; "
                f"the atlas holds {n_codes} codes with digest {digest}. Rebuild it with `polytope index`"
            )

    def places(self, ids: Int64[np.ndarray, " wanted"]) -> Int64[np.ndarray, " held"]:
        """Places of the codes of those of the examples that the index holds, ascending."""
        wanted = ids if np.all(ids[1:] > ids[:-1]) else np.unique(ids)
        first, last = int(self.ids[0]), int(self.ids[-1])
        wanted = wanted[(wanted >= first) & (wanted <= last)]
        if last - first == len(self) - 1:  # no gap, as after a single run
            return wanted - first
        held = self._aligned_ids
        found = np.searchsorted(held, wanted)
        return found[held[found] == wanted]

    @cached_property
    def _aligned_ids(self) -> Int64[np.ndarray, " codes"]:
        """The ids where NumPy can search them: those of a mapped file are seldom aligned, and would be copied each
        time."""
        return np.require(self.ids, requirements="A")

    def codes(self, places: Int64[np.ndarray, " wanted"]) -> SplineCodes:
        """The codes at these places."""
        return SplineCodes(self.packed[places], self.parts)

    # --- searching -----------------------------------------------------------------------------------------------

    def search(
        self,
        queries: SplineCodes,
        k: int,
        *,
        among: Int64[np.ndarray, " allowed"] | None = None,
        device: Device = "auto",
    ) -> Found:
        """The ``k`` nearest codes of each query: example ids, and distances in gates.

        Ordered by (distance, id); where several codes are at the distance of the k-th, the lowest ids are kept.
        ``among``: only codes at these places, ascending without repeats (`places`), which the processor always
        compares. The answer does not depend on ``device``; ``auto`` does without a GPU that fails, from then on.

        Raises `WidthError` for queries of other parts, `UsageError` for k < 1 or more than there are codes, for
        another device, and for ``device="cuda"`` with ``among``, and where FAISS sees no GPU or that one fails.
        """
        self.check_search(queries, k, among)
        check_device(device)
        if device == "cuda" and among is not None:
            raise UsageError(f"device is cuda, but {PROCESSOR_ONLY['filter']}; use auto or cpu")
        candidates = None
        if among is None and self._wants_gpu(len(queries), device):
            candidates = self._gpu.search(
                self.packed, queries, k, lambda left: self._nearest(left, k, None), forced=device == "cuda"
            )
        if candidates is None:
            candidates = self._nearest(queries, k, among)
        places, distances = parted(candidates)
        return self.ids[places], distances

    def others(self, places: Int64[np.ndarray, " queries"], k: int, *, device: Device = "auto") -> Found:
        """The ``k`` nearest other codes of each of the codes at ``places``, as `search` has them: each is left out of
        its own answer, those equal to it are not.

        Raises `UsageError` unless 1 <= k < the number of codes.
        """
        if not 1 <= k < len(self):
            raise UsageError(
                f"{k} other codes were asked for; the index holds {len(self)}: ask for 1 to {len(self) - 1}"
            )
        return without_own(self.ids[places], *self.search(self.codes(places), k + 1, device=device))

    def within(
        self, queries: SplineCodes, radius: int, *, among: Int64[np.ndarray, " allowed"] | None = None
    ) -> list[tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]]:
        """For each query every code at most ``radius`` gates away: (ids, distances), ordered by (distance, id).

        ``among`` as in `search`. Raises `WidthError` for queries of other parts, `UsageError` for a negative radius.
        """
        self.check_radius(queries, radius, among)
        held = len(self) if among is None else len(among)
        found: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in range(len(queries))]
        step = max(1, _BLOCK_BYTES // (4 * max(1, len(queries))))
        compiled = _compiled_pays(self._bytes_compared(len(queries), among))
        measure = self._distances_compiled if compiled else self._distances_interpreted
        for start in range(0, held, step):
            for query, row in enumerate(measure(queries, among, start, min(start + step, held))):
                near = np.flatnonzero(row <= radius)
                found[query].append((start + near if among is None else among[start + near], row[near]))
        return [self._sorted(pieces) for pieces in found]

    def _sorted(self, pieces: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        places = np.concatenate([np.empty(0, np.int64), *(places for places, _ in pieces)])
        distances = np.concatenate([np.empty(0, np.int64), *(distances for _, distances in pieces)])
        order = np.argsort(distances, kind="stable")  # places ascend
        return self.ids[places[order]], distances[order]

    def nearest_candidates(
        self, queries: SplineCodes, k: int, among: Int64[np.ndarray, " allowed"] | None
    ) -> UInt64[np.ndarray, "queries k"]:
        """The ``k`` least candidates of every query, distance and place in one number each, in order: for whoever
        merges what several indexes find."""
        return self._nearest(queries, k, among)

    def _nearest(
        self,
        queries: SplineCodes,
        k: int,
        among: Int64[np.ndarray, " allowed"] | None,
        bound: UInt64[np.ndarray, " queries"] | None = None,
    ) -> UInt64[np.ndarray, "queries k"]:
        """The least candidates (`candidates_of`) of every query, in order. Those that are not below its ``bound`` may
        be missing: then the largest number stands for one."""
        if _compiled_pays(self._bytes_compared(len(queries), among)):
            return self._nearest_compiled(queries, k, among, bound)
        return self._nearest_interpreted(queries, k, among)

    def _nearest_compiled(
        self, queries: SplineCodes, k: int, among: np.ndarray | None, bound: np.ndarray | None = None
    ) -> UInt64[np.ndarray, "queries k"]:
        from .kernels import QUERIES_AT_ONCE, flat, nearest_codes

        held, n_queries, n_bytes = len(self) if among is None else len(among), len(queries), self.packed.shape[1]
        flat_queries, codes, allowed = flat(queries.packed), flat(self.packed), _allowed(among)
        block = max(1, _CACHED_BYTES // n_bytes)
        # A thread takes some of the queries, or some of the codes where queries are few. Each piece of codes has a
        # heap of its own; the least of all of them are the least of the heaps.
        by_query = n_queries >= 2 * n_threads()
        if by_query:
            pieces = slices(n_queries, max(1, min(QUERIES_AT_ONCE, _PIECE_BYTES // (held * n_bytes))))
        else:
            pieces = _pieces(held, n_queries * n_bytes)
        heaps = np.full((1 if by_query else len(pieces), n_queries, k), np.iinfo(np.uint64).max, np.uint64)
        if bound is not None:
            heaps[:] = bound[:, None]

        def work(piece: int) -> None:
            rows = pieces[piece]
            if by_query:
                some = flat_queries[rows.start * n_bytes : rows.stop * n_bytes]
                nearest_codes(some, codes, n_bytes, allowed, 0, held, block, heaps[0, rows])
            else:
                nearest_codes(flat_queries, codes, n_bytes, allowed, rows.start, rows.stop, block, heaps[piece])

        in_threads(work, range(len(pieces)))
        candidates = heaps[0] if len(heaps) == 1 else np.concatenate(list(heaps), axis=1)
        if bound is not None:
            candidates[candidates == bound[:, None]] = np.iinfo(np.uint64).max
        candidates.sort(axis=1)
        return candidates[:, :k]

    def _nearest_interpreted(
        self, queries: SplineCodes, k: int, among: np.ndarray | None
    ) -> UInt64[np.ndarray, "queries k"]:
        held = len(self) if among is None else len(among)
        best = np.empty((len(queries), 0), np.uint64)
        step = max(1, _BLOCK_BYTES // (8 * max(1, len(queries))))
        for start in range(0, held, step):
            stop = min(start + step, held)
            places = np.arange(start, stop) if among is None else among[start:stop]
            new = candidates_of(self._distances_interpreted(queries, among, start, stop), places[None])
            best = np.concatenate([best, new], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, k - 1, axis=1)[:, :k]
        best.sort(axis=1)
        return best

    def _distances_compiled(
        self, queries: SplineCodes, among: np.ndarray | None, start: int, stop: int
    ) -> Int32[np.ndarray, "queries candidates"]:
        """Distances to the candidates ``start`` to ``stop``: codes at those places, or at ``among[start:stop]``."""
        from .kernels import flat, hamming_block

        out, n_bytes = np.empty((len(queries), stop - start), np.int32), self.packed.shape[1]
        flat_queries, codes, allowed = flat(queries.packed), flat(self.packed), _allowed(among)

        def work(rows: slice) -> None:
            low, high = start + rows.start, start + rows.stop
            hamming_block(flat_queries, codes, n_bytes, allowed, low, high, out[:, rows])

        in_threads(work, _pieces(stop - start, len(queries) * n_bytes))
        return out

    def _distances_interpreted(
        self, queries: SplineCodes, among: np.ndarray | None, start: int, stop: int
    ) -> Int32[np.ndarray, "queries candidates"]:
        out = np.empty((len(queries), stop - start), np.int32)
        step = max(1, _CACHED_BYTES // self.packed.shape[1])
        for low in range(start, stop, step):
            high = min(low + step, stop)
            codes = self.packed[low:high] if among is None else self.packed[among[low:high]]
            for query, packed in enumerate(queries.packed):
                out[query, low - start : high - start] = np.bitwise_count(codes ^ packed).sum(axis=1, dtype=np.int32)
        return out

    def _bytes_compared(self, n_queries: int, among: np.ndarray | None) -> int:
        return n_queries * (len(self) if among is None else len(among)) * self.packed.shape[1]

    # --- on a GPU ------------------------------------------------------------------------------------------------

    def _wants_gpu(self, n_queries: int, device: Device) -> bool:
        return device == "cuda" or (device == "auto" and self._bytes_compared(n_queries, None) >= GPU_BYTES)

    # --- what is refused -----------------------------------------------------------------------------------------

    def check_search(self, queries: SplineCodes, k: int, among: np.ndarray | None = None) -> None:
        """Raise what `search` raises for these arguments."""
        self._check_codes(queries, among)
        held = len(self) if among is None else len(among)
        if k < 1:
            raise UsageError(f"the number of neighbours must be at least 1, got {k}")
        if k > held:
            raise UsageError(f"{k} neighbours were asked for; the index holds {held} codes: ask for fewer")

    def check_radius(self, queries: SplineCodes, radius: int, among: np.ndarray | None = None) -> None:
        """Raise what `within` raises for these arguments."""
        self._check_codes(queries, among)
        if radius < 0:
            raise UsageError(f"the radius is a number of gates and can't be negative, got {radius}")

    def _check_codes(self, queries: SplineCodes, among: np.ndarray | None) -> None:
        if queries.parts != self.parts:
            raise WidthError(
                f"the query has {queries.n_bits} gates in parts {queries.parts}; the index holds codes of "
                f"{self.n_bits} gates in parts {self.parts}. Ask with a code of the same site or span"
            )
        if (
            among is not None
            and len(among)
            and (among[0] < 0 or among[-1] >= len(self) or np.any(np.diff(among) <= 0))
        ):
            raise UsageError(
                f"codes to search among are given by their places, ascending, from 0 to {len(self) - 1}; take them "
                "from `places`"
            )


PROCESSOR_ONLY = {
    "filter": "a search among some of the codes (a filter) runs on the processor",
    "radius": "a search within a radius runs on the processor",
    "approximate": "an approximate index is searched on the processor (ask exactly, or remove it)",
    "blocks": "this span has no index and its codes are read block by block (`polytope index --span` builds one)",
}
"""Why a GPU can't be had."""


def hamming_matrix(a: SplineCodes, b: SplineCodes) -> Int32[np.ndarray, "a b"]:
    """Hamming distance, in gates, of every code of ``a`` to every code of ``b``. Takes 4·a·b bytes.

    Raises `WidthError` for codes of different parts.
    """
    if a.parts != b.parts:
        raise WidthError(f"codes of {a.n_bits} and {b.n_bits} gates can't be compared (parts {a.parts}, {b.parts})")
    from .kernels import all_distances

    out = np.empty((len(a), len(b)), dtype=np.int32)
    all_distances(a.packed, b.packed, out)
    return out


def without_own(
    own: Int64[np.ndarray, " queries"],
    ids: Int64[np.ndarray, "queries more"],
    distances: Int64[np.ndarray, "queries more"],
) -> Found:
    """What was found of each query without its own id, or, where that is not among it, without the last."""
    others = ids != own[:, None]
    others[others.all(axis=1), -1] = False
    shape = (len(ids), ids.shape[1] - 1)
    return ids[others].reshape(shape), distances[others].reshape(shape)


def _allowed(among: np.ndarray | None) -> Int64[np.ndarray, " allowed"]:
    """What the kernels take for ``among``, read-only: empty where all codes are meant."""
    allowed = np.empty(0, np.int64) if among is None else np.ascontiguousarray(among).view()
    allowed.flags.writeable = False
    return allowed


def _pieces(candidates: int, n_bytes: int) -> list[slice]:
    """Candidates, each of ``n_bytes`` to compare, cut into some pieces a thread that are worth taking one by one."""
    wanted = min(_PIECES * n_threads(), max(1, candidates * n_bytes // _SMALL_BYTES))
    step = -(-candidates // wanted)
    return [slice(start, min(start + step, candidates)) for start in range(0, candidates, step)]


_compared = 0


def _compiled_pays(n_bytes: int) -> bool:
    """Whether to compare ``n_bytes`` more by the compiled kernels: once a process has compared enough to wait for
    them."""
    global _compared
    _compared += n_bytes
    return _compared > INTERPRETED_BYTES
