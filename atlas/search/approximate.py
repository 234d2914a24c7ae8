"""Hamming search with FAISS, the one place that imports it: approximate indexes, and exact search on a GPU.

The exact search that everything is measured by is `HammingIndex` (`flat`). An `ApproximateIndex` stands on one: it
compares each query with some of the codes only, says how often that finds what is there, and turns to it for what it
can't answer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8, UInt64

from ..codes import SplineCodes
from ..errors import IndexMismatch, UsageError
from ..store.disk import replacing
from .files import (
    TARGET_RECALL,
    check_file,
    check_suffix,
    damaged,
    hashes,
    is_number,
    read_about,
    read_again,
    write_about,
)
from .hamming_index import Found, HammingIndex, candidates_of, hamming_matrix, pairwise_hamming

__all__ = ["ApproximateIndex", "GpuCodes", "HammingIndex", "hamming_matrix", "n_gpus", "pairwise_hamming"]

Kind = Literal["ivf", "hnsw", "multihash"]
KINDS: tuple[Kind, ...] = ("ivf", "hnsw", "multihash")

_EFFORT: dict[str, str] = {"ivf": "nprobe", "hnsw": "efSearch", "multihash": "nflip"}
"""The parameter that trades time for recall."""

RECALL_AT = 10
"""Neighbours that recall is measured on: recall@10."""

SAMPLE = 1000
"""Codes that recall is measured on; as many others choose the search parameter, so that the one can't flatter the
other."""

_TRAINED_PER_LIST = 40  # codes per list that k-means sees; FAISS warns below 39
_TRAINING_FLOATS = 1 << 28  # numbers that k-means may take for gates: 1 GB
_LINKS = 16  # of a node of the HNSW graph (M): 32 on the lowest layer, 128 bytes a code
_CONSTRUCTION = 80  # candidates while the graph is built (efConstruction); FAISS's 40 leaves clusters unconnected
_HASHES = 16  # tables of a multi-index hash
_HASHED = (1, 0.75, 0.5)  # of the bits that give every code a bucket: with fewer, more is found and more compared
_FLIPS = 2  # bits of a hash that may differ, at most: b·(b − 1)/2 buckets a table
_ADDED = 8192  # codes added between two looks at Ctrl-C
_TRUTHS = 64  # codes whose nearest are looked for between two looks
_OF_TRUTH, _OF_FILLING, _OF_TRAINING = 0.2, 0.6, 0.5  # of the time; the second of the rest, the third of the second
_SHARED_QUERIES = 16  # from here on threads share them


@dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """A FAISS index that compares a query with some of the codes of ``exact`` only.

    ``kind``: ivf (lists around centres that k-means found), hnsw (a graph), multihash (tables of parts of the code).
    ``parameters``: of building and of searching. ``recall``: recall@10, measured on ``sample`` stored codes, each
    looking for others: the share of the ten found that are no farther than the tenth nearest truly is.
    """

    kind: Kind
    parameters: dict[str, int]
    recall: float
    sample: int
    exact: HammingIndex
    _faiss: Any

    @classmethod
    def build(
        cls,
        exact: HammingIndex,
        kind: Kind,
        *,
        target_recall: float = TARGET_RECALL,
        seed: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> ApproximateIndex:
        """Index the codes of ``exact``, and choose the least search effort whose recall@10 reaches ``target_recall``.

        Where none does, the best is kept; ``recall`` says how good that is. ``progress`` is told (codes done, codes),
        where what comes before and after they are added counts as some of them. Raises `UsageError` for another kind,
        a recall outside (0, 1], or fewer than two codes.
        """
        if kind not in KINDS:
            raise UsageError(f"kind is {kind!r}; approximate indexes are {', '.join(KINDS)}")
        if not 0 < target_recall <= 1:
            raise UsageError(f"the recall to reach is {target_recall}; expected a share above 0, at most 1")
        if len(exact) < 2:
            raise UsageError("an approximate index needs at least two codes; a flat one serves a single code")
        generator = np.random.default_rng(seed)
        size = min(SAMPLE, max(1, len(exact) // 2))
        drawn = generator.permutation(len(exact))[: 2 * size]

        def tell(share: float) -> None:
            if progress is not None:
                progress(int(share * len(exact)), len(exact))

        choosing = _Truth.of(exact, np.sort(drawn[:size]), lambda share: tell(share * _OF_TRUTH / 2))
        measuring = _Truth.of(exact, np.sort(drawn[size:]), lambda share: tell((1 + share) * _OF_TRUTH / 2))
        best: ApproximateIndex | None = None
        builds, each = _BUILDERS[kind], (1 - _OF_TRUTH) / _BUILDS[kind]
        for build, built in enumerate(
            builds(exact, generator, lambda build, share: tell(_OF_TRUTH + (build + share * _OF_FILLING) * each))
        ):
            efforts = _efforts(kind, built, len(exact))
            for trial, parameters in enumerate(efforts):
                share = _OF_FILLING + (1 - _OF_FILLING) * trial / len(efforts)
                tell(_OF_TRUTH + (build + share) * each)
                tried = cls(kind, parameters, 0.0, size, exact, built)
                tried._set_effort()
                found = choosing.recall(tried)
                if best is None or found > best.recall:
                    best = cls(kind, parameters, found, size, exact, built)
                if found >= target_recall:
                    break
            if best is not None and best.recall >= target_recall:
                break
        assert best is not None
        best._set_effort()
        best = cls(kind, best.parameters, measuring.recall(best), len(measuring.places), exact, best._faiss)
        tell(1)
        return best

    def __len__(self) -> int:
        return len(self.exact)

    @property
    def has_radius(self) -> bool:
        """Whether `within` is answered by this index; a graph knows no radius, and leaves it to ``exact``."""
        return self.kind != "hnsw"

    def search(self, queries: SplineCodes, k: int) -> Found:
        """As `HammingIndex.search`, but some of the neighbours may be missed, and farther ones stand for them.

        Always ``k`` of them: a query for which FAISS finds fewer is answered exactly.
        """
        places, distances = self._nearest(queries, k)
        few = (places < 0).any(axis=1)
        ids = self.exact.ids[np.where(places < 0, 0, places)]
        if few.any():
            ids[few], distances[few] = self.exact.search(queries[np.flatnonzero(few)], k)
        return ids, distances

    def _nearest(
        self, queries: SplineCodes, k: int
    ) -> tuple[Int64[np.ndarray, "queries k"], Int64[np.ndarray, "queries k"]]:
        """Places and distances by (distance, place); what FAISS did not find is at place −1, at the end."""
        self.exact.check_search(queries, k, None)
        if len(queries) == 0:
            return np.empty((0, k), np.int64), np.empty((0, k), np.int64)
        with _few_threads(len(queries)):
            distances, places = self._faiss.search(np.ascontiguousarray(queries.packed), k)
        order = np.lexsort((places, np.where(places < 0, np.iinfo(np.int32).max, distances)), axis=1)
        places, distances = np.take_along_axis(places, order, 1), np.take_along_axis(distances, order, 1)
        return places, distances.astype(np.int64)

    def within(
        self, queries: SplineCodes, radius: int
    ) -> list[tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]]:
        """As `HammingIndex.within`, but some of the codes may be missed (none where not `has_radius`)."""
        if not self.has_radius or len(queries) == 0:
            return self.exact.within(queries, radius)
        self.exact.check_radius(queries, radius)
        # FAISS finds distances *below* its radius. No distance exceeds n_bits, and FAISS's radius is a C int.
        bound = min(radius, self.exact.n_bits) + 1
        with _few_threads(len(queries)):
            limits, distances, places = self._faiss.range_search(np.ascontiguousarray(queries.packed), bound)
        found = []
        for low, high in zip(limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            near, counts = places[low:high], distances[low:high].astype(np.int64)  # range_search gives float32
            order = np.lexsort((near, counts))
            found.append((self.exact.ids[near[order]], counts[order]))
        return found

    def save(self, path: Path) -> None:
        """Write ``*.faiss``, in which place i stands for the i-th code of ``exact``, and the ``*.json`` beside it.

        Raises `UsageError` for another suffix, `DiskFull`.
        """
        check_suffix(path)
        with replacing(path) as file:
            # Through Python's file, because FAISS's own writer hides why a write failed.
            faiss.write_index_binary(self._faiss, faiss.PyCallbackIOWriter(file.write, 1 << 24))  # type: ignore[attr-defined]
            file.flush()
            content = hashes(Path(file.name))
        about = {
            "kind": self.kind,
            "parameters": self.parameters,
            "recall": self.recall,
            "sample": self.sample,
            "count": len(self),
            "n_bits": self.exact.n_bits,
            "parts": list(self.exact.parts),
            "digest": self.exact.digest,
            **content,
        }
        write_about(path, about)

    @classmethod
    def load(cls, path: Path, exact: HammingIndex, *, thorough: bool = False) -> ApproximateIndex:
        """Read what `save` wrote. The lists of an ivf index are mapped; the other kinds are read into memory.

        Checked as `HammingIndex.load` does. Raises `IndexMissing` where a file is absent or damaged, and
        `IndexMismatch` where it was built from other codes than ``exact``.
        """
        return read_again(path, lambda: cls._load(path, exact, thorough))

    @classmethod
    def _load(cls, path: Path, exact: HammingIndex, thorough: bool) -> ApproximateIndex:
        about = read_about(path)
        if about["kind"] not in KINDS or not _describes(about):
            raise damaged(path, f"its JSON describes no approximate index ({', '.join(KINDS)})")
        if (about["count"], about["digest"], tuple(about["parts"])) != (len(exact), exact.digest, exact.parts):
            raise IndexMismatch(
                f"the {about['kind']} index at {path} was built from {about['count']} codes with digest "
                f"{about['digest']}; the flat one holds {len(exact)} with digest {exact.digest}. Rebuild it with "
                "`polytope index`"
            )
        # FAISS trusts the sizes written in a file, so bytes that aren't the ones saved never reach it.
        check_file(path, about, thorough=thorough)
        flags = faiss.IO_FLAG_MMAP if about["kind"] == "ivf" else 0
        index = faiss.read_index_binary(str(path), flags)
        loaded = cls(about["kind"], about["parameters"], about["recall"], about["sample"], exact, index)
        loaded._set_effort()
        return loaded

    def check(self, n_codes: int, digest: str) -> None:
        """As `HammingIndex.check`."""
        self.exact.check(n_codes, digest)

    def _set_effort(self) -> None:
        """Give FAISS the search parameter."""
        name = _EFFORT[self.kind]
        setattr(self._faiss.hnsw if self.kind == "hnsw" else self._faiss, name, self.parameters[name])


def _describes(about: dict[str, Any]) -> bool:
    """Whether the JSON beside an index says how it is searched and how well that does."""
    parameters, recall = about.get("parameters"), about.get("recall")
    return (
        isinstance(parameters, dict)
        and _EFFORT[about["kind"]] in parameters
        and all(isinstance(value, int) and 0 <= value < 1 << 31 for value in parameters.values())
        and isinstance(recall, int | float)
        and 0 <= recall <= 1
        and is_number(about.get("sample"))
    )


@dataclass(frozen=True)
class _Truth:
    """Stored codes, their places, and how far the k-th nearest other code of each is."""

    codes: SplineCodes
    places: Int64[np.ndarray, " sample"]
    k: int
    farthest: Int64[np.ndarray, " sample"]

    @classmethod
    def of(cls, exact: HammingIndex, places: Int64[np.ndarray, " sample"], tell: Callable[[float], None]) -> _Truth:
        codes, k = exact.codes(places), min(RECALL_AT, len(exact) - 1)
        farthest = np.empty(len(places), np.int64)
        for start in range(0, len(places), _TRUTHS):
            rows = slice(start, min(start + _TRUTHS, len(places)))
            # The nearest of all is the code itself, or one just like it.
            farthest[rows] = exact.search(codes[rows], k + 1)[1][:, -1]
            tell(rows.stop / len(places))
        return cls(codes, places, k, farthest)

    def recall(self, index: ApproximateIndex) -> float:
        """Share of k neighbours found that are no farther than the k-th should be; what was not found is not."""
        found, distances = index._nearest(self.codes, self.k + 1)
        others = (found >= 0) & (found != self.places[:, None])
        near = (others & (distances <= self.farthest[:, None])).sum(axis=1)
        return float(np.minimum(near, self.k).mean() / self.k)


@contextmanager
def _few_threads(n_queries: int) -> Iterator[None]:
    """OpenMP shares queries out to threads, and to wait for one that another program holds up takes 10 ms."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if n_queries < _SHARED_QUERIES else before)  # of this thread alone
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


# --- how each kind is built, and what it may be asked for ----------------------------------------------------------


Tell = Callable[[int, float], None]
"""Told which build it is, from 0, and what share of the codes it holds."""


def _ivf(exact: HammingIndex, generator: np.random.Generator, tell: Tell) -> Any:
    trained = min(len(exact), _TRAINING_FLOATS // exact.n_bits)
    lists = max(1, min(round(np.sqrt(len(exact))), trained // _TRAINED_PER_LIST))
    index = faiss.IndexBinaryIVF(faiss.IndexBinaryFlat(8 * exact.packed.shape[1]), 8 * exact.packed.shape[1], lists)
    seen = generator.choice(len(exact), min(len(exact), _TRAINED_PER_LIST * lists), replace=False)
    index.train(np.ascontiguousarray(exact.packed[np.sort(seen)]))
    tell(0, _OF_TRAINING)
    yield _filled(index, exact, lambda share: tell(0, _OF_TRAINING + (1 - _OF_TRAINING) * share))


def _hnsw(exact: HammingIndex, generator: np.random.Generator, tell: Tell) -> Any:
    index = faiss.IndexBinaryHNSW(8 * exact.packed.shape[1], _LINKS)
    index.hnsw.efConstruction = _CONSTRUCTION
    yield _filled(index, exact, lambda share: tell(0, share))


def _multihash(exact: HammingIndex, generator: np.random.Generator, tell: Tell) -> Any:
    width = 8 * exact.packed.shape[1]
    most = max(1, round(np.log2(len(exact))))  # a code a bucket, were bits independent
    for build, bits in enumerate(dict.fromkeys(max(1, round(most * share)) for share in _HASHED)):
        hashes = max(1, min(_HASHES, width // bits))
        index = faiss.IndexBinaryMultiHash(width, hashes, min(bits, width))
        yield _filled(index, exact, partial(tell, build))


_BUILDS: dict[Kind, int] = {"ivf": 1, "hnsw": 1, "multihash": len(_HASHED)}
_BUILDERS: dict[Kind, Callable[..., Any]] = {"ivf": _ivf, "hnsw": _hnsw, "multihash": _multihash}


def _filled(index: Any, exact: HammingIndex, tell: Callable[[float], None]) -> Any:
    for start in range(0, len(exact), _ADDED):
        index.add(np.ascontiguousarray(exact.packed[start : start + _ADDED]))
        tell(min(1.0, (start + _ADDED) / len(exact)))
    return index


def _efforts(kind: Kind, index: Any, n_codes: int) -> list[dict[str, int]]:
    """Parameters in the order of the time that a search with them takes."""
    if kind == "ivf":
        doubled = [1 << power for power in range(int(index.nlist).bit_length()) if 1 << power < index.nlist]
        return [{"nlist": index.nlist, "nprobe": probes} for probes in [*doubled, index.nlist]]
    if kind == "hnsw":
        built = {"M": _LINKS, "efConstruction": _CONSTRUCTION}
        return [
            {**built, "efSearch": 1 << power} for power in range(4, 11) if power == 4 or 1 << (power - 1) < n_codes
        ]
    flips = range(min(_FLIPS, index.b) + 1)
    return [{"bits": index.b, "nhash": index.nhash, "nflip": flip} for flip in flips]


# --- exact search on a GPU -----------------------------------------------------------------------------------------


def n_gpus() -> int:
    """GPUs that FAISS sees."""
    return int(faiss.get_num_gpus())


class GpuCodes:
    """Codes in the memory of a GPU, searched exactly: the same answers as `HammingIndex` gives without one."""

    def __init__(self, packed: UInt8[np.ndarray, "codes bytes"]) -> None:
        """Copy the codes there. Raises `UsageError` where they don't fit."""
        try:
            self._resources = faiss.StandardGpuResources()
            index = faiss.GpuIndexBinaryFlat(self._resources, 8 * packed.shape[1])
            for start in range(0, len(packed), 1 << 20):
                index.add(np.ascontiguousarray(packed[start : start + (1 << 20)]))
        except RuntimeError as error:
            raise UsageError(
                f"{packed.nbytes / 1e9:.1f} GB of codes can't be taken to the GPU ({error}); search with device cpu"
            ) from error
        self._index = _OneAtATime(index)

    def search(
        self, queries: SplineCodes, k: int, elsewhere: Callable[[SplineCodes], UInt64[np.ndarray, "left k"]]
    ) -> UInt64[np.ndarray, "queries k"]:
        """The least candidates, in order; ``elsewhere`` answers for queries whose ties are not all in view.

        Raises `UsageError` where the GPU fails, as for want of memory.
        """
        try:
            return search_with_any_ties(self._index, queries, k, elsewhere)
        except RuntimeError as error:
            raise UsageError(f"the search on the GPU failed ({error}); search with device cpu") from error


class _OneAtATime:
    """A FAISS index whose resources must not be used by two threads."""

    def __init__(self, index: Any) -> None:
        self._index, self._lock = index, threading.Lock()
        self.ntotal = int(index.ntotal)

    def search(self, packed: UInt8[np.ndarray, "queries bytes"], k: int) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            found: tuple[np.ndarray, np.ndarray] = self._index.search(packed, k)
        return found


MOST_ON_GPU = 1024
"""Neighbours that a GPU finds at most, on any of FAISS's builds."""


def search_with_any_ties(
    index: Any, queries: SplineCodes, k: int, elsewhere: Callable[[SplineCodes], UInt64[np.ndarray, "left k"]]
) -> UInt64[np.ndarray, "queries k"]:
    """The ``k`` least candidates of each query from a FAISS index that is exact, but takes any of codes that tie.

    More than ``k`` are asked for. Where the last of them lies beyond the k-th, all that tie with the k-th are among
    them, and the lowest places can be chosen; the other queries are answered ``elsewhere``.
    """
    asked = min(index.ntotal, max(2 * k, k + 64))
    if asked > MOST_ON_GPU:
        return elsewhere(queries)
    distances, places = index.search(np.ascontiguousarray(queries.packed), asked)
    candidates = np.sort(candidates_of(distances, places), axis=1)
    known = _ties_in_view(np.sort(distances, axis=1), k) | (asked == index.ntotal)
    answer = candidates[:, :k].copy()
    if not known.all():
        answer[~known] = elsewhere(queries[~known])
    return answer


def _ties_in_view(distances: Int32[np.ndarray, "queries asked"], k: int) -> Bool[np.ndarray, " queries"]:
    return distances[:, -1] > distances[:, k - 1]
