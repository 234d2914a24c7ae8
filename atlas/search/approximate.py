"""Approximate Hamming search by FAISS: each query is compared with the codes near it only.

Codes lie in lists around centres that k-means found (an inverted file, Jégou, Douze & Schmid 2011); a query looks
through the lists whose centres are nearest. An `ApproximateIndex` stands on a `HammingIndex`, by which everything is
measured: it says how often it finds what the exact search finds, and turns to that for what it can't answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import faiss
import numpy as np
from jaxtyping import Int64, UInt8

from ..codes import SplineCodes
from ..errors import IndexMismatch, IndexMissing, UsageError
from ..progress import Progress, Tell
from ..store.disk import replacing
from ..store.index_parts import IndexPart
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
from .hamming_index import Found, HammingIndex
from .joined import JoinedApproximate, JoinedIndex, completed

RECALL_AT = 10
"""Neighbours that recall is measured on: recall@10."""

SAMPLE = 1000
"""Codes that recall is measured on; as many others choose the search parameter, so that the one can't flatter the
other."""

_TRAINED_PER_LIST = 40  # codes per list that k-means sees; FAISS warns below 39
_TRAINING_FLOATS = 1 << 28  # numbers that k-means may take for gates at once: 1 GB
_ADDED = 8192  # codes added between two looks at Ctrl-C
_TRUTHS = 64  # codes whose nearest are looked for between two looks
_SHARED_QUERIES = 16  # from here on threads share them

# Shares of the time up to the end of each step: looking for the truth, training, filling; trying efforts is the rest.
_UNTIL_TRUTH, _UNTIL_TRAINED, _UNTIL_FILLED = 0.2, 0.44, 0.68


@dataclass(frozen=True, eq=False)
class ApproximateIndex:
    """A FAISS index that compares a query with some of the codes of ``exact`` only.

    ``parameters``: ``nlist`` lists, of which a search looks through ``nprobe``. Measured on ``sample`` stored codes,
    each looking for others, ``recall`` is recall@10 with ties as hits: the share of the ten found that are no farther
    than the tenth nearest truly is. ``recall_in_order``: the share of the very ten that the exact search gives, by
    (distance, id), so never more.
    """

    kind: ClassVar[str] = "ivf"
    parameters: dict[str, int]
    recall: float
    recall_in_order: float
    sample: int
    exact: HammingIndex
    _faiss: Any

    @classmethod
    def build(
        cls,
        exact: HammingIndex,
        *,
        target_recall: float = TARGET_RECALL,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> ApproximateIndex:
        """Index the codes of ``exact``, and choose the least search effort whose recall@10 reaches ``target_recall``,
        ties as hits.

        Where none does, the best is kept; ``recall`` says how good that is.

        Args:
            exact: the codes, and what their nearest truly are.
            target_recall: a share above 0, at most 1.
            seed: draws the codes that are measured on, and those that k-means sees.
            progress: told (codes done, codes), where what comes before and after they are added counts as some.

        Raises:
            UsageError: for a recall outside (0, 1], or fewer than two codes.
        """
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

        choosing = _Truth.of(exact, np.sort(drawn[:size]), lambda share: tell(share * _UNTIL_TRUTH / 2))
        measuring = _Truth.of(exact, np.sort(drawn[size:]), lambda share: tell((1 + share) * _UNTIL_TRUTH / 2))
        lists = _trained(exact, generator)
        tell(_UNTIL_TRAINED)
        _fill(lists, exact, lambda share: tell(_UNTIL_TRAINED + share * (_UNTIL_FILLED - _UNTIL_TRAINED)))
        best: ApproximateIndex | None = None
        efforts = _efforts(lists.nlist)
        for trial, probes in enumerate(efforts):
            tell(_UNTIL_FILLED + (1 - _UNTIL_FILLED) * trial / len(efforts))
            lists.nprobe = probes
            tried = cls({"nlist": lists.nlist, "nprobe": probes}, 0.0, 0.0, size, exact, lists)
            recall, _ = choosing.recalls(tried)
            if best is None or recall > best.recall:
                best = replace(tried, recall=recall)
            if recall >= target_recall:
                break
        assert best is not None  # one list at least is probed
        lists.nprobe = best.parameters["nprobe"]
        tell(1.0)
        recall, in_order = measuring.recalls(best)
        return replace(best, recall=recall, recall_in_order=in_order, sample=len(measuring.places))

    def __len__(self) -> int:
        return len(self.exact)

    def search(self, queries: SplineCodes, k: int) -> Found:
        """As `HammingIndex.search`, but some of the neighbours may be missed, and farther ones stand for them.

        Always ``k`` of them: a query for which FAISS finds fewer is answered exactly.
        """
        return completed(self.exact, queries, k, *self._nearest(queries, k))

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
    ) -> list[tuple[Int64[np.ndarray, " near"], Int64[np.ndarray, " near"]]]:
        """As `HammingIndex.within`, but some of the codes may be missed."""
        self.exact.check_radius(queries, radius)
        if len(queries) == 0:
            return []
        # FAISS finds distances *below* its radius. No distance exceeds n_bits, and FAISS's radius is a C int.
        bound = min(radius, self.exact.n_bits) + 1
        with _few_threads(len(queries)):
            limits, distances, places = self._faiss.range_search(np.ascontiguousarray(queries.packed), bound)
        answers = []
        for low, high in zip(limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            near, counts = places[low:high], distances[low:high].astype(np.int64)  # range_search gives float32
            order = np.lexsort((near, counts))
            answers.append((self.exact.ids[near[order]], counts[order]))
        return answers

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
            "recall_in_order": self.recall_in_order,
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
        """Map what `save` wrote. Checked as `HammingIndex.load` does.

        Raises `IndexMissing` where a file is absent or damaged, and `IndexMismatch` where it was built from other
        codes than ``exact``.
        """
        return read_again(path, lambda: cls._load(path, exact, thorough))

    @classmethod
    def _load(cls, path: Path, exact: HammingIndex, thorough: bool) -> ApproximateIndex:
        about = read_about(path)
        if about["kind"] != cls.kind or not _describes(about):
            raise damaged(path, f"its JSON describes no approximate index of kind {cls.kind}")
        if (about["count"], about["digest"], tuple(about["parts"])) != (len(exact), exact.digest, exact.parts):
            raise IndexMismatch(
                f"the {cls.kind} index at {path} was built from {about['count']} codes with digest "
                f"{about['digest']}; the flat one holds {len(exact)} with digest {exact.digest}. Rebuild it with "
                "`polytope index`"
            )
        # FAISS trusts the sizes written in a file, so bytes that aren't the ones saved never reach it.
        check_file(path, about, thorough=thorough)
        lists: Any = faiss.read_index_binary(str(path), faiss.IO_FLAG_MMAP)
        lists.nprobe = about["parameters"]["nprobe"]
        recalls = about["recall"], about["recall_in_order"]
        return cls(about["parameters"], *recalls, about["sample"], exact, lists)

    def check(self, n_codes: int, digest: str) -> None:
        """As `HammingIndex.check`."""
        self.exact.check(n_codes, digest)


def load_approximate(
    parts: Sequence[IndexPart], exact: HammingIndex, *, thorough: bool = False
) -> ApproximateIndex | JoinedApproximate:
    """What stands beside a flat index, in as many files as that. Of several nobody says how good they are together
    but who measured it (`measured`).

    Raises `IndexMissing` where a file is absent or damaged, `IndexMismatch` where one was built from other codes.
    """
    if not isinstance(exact, JoinedIndex):
        return ApproximateIndex.load(parts[0].path, exact, thorough=thorough)
    if not parts:
        raise IndexMissing("the index has no files in this version of the atlas; build it with `polytope index`")
    by_first = {part.within.start: part for part in parts if part.within is not None}
    loaded: list[ApproximateIndex | None] = []
    for some in exact.joined:
        part = next((by_first[first] for first in sorted(by_first, reverse=True) if first <= some.ids[0]), None)
        inside = part is not None and part.within is not None and int(some.ids[-1]) in part.within
        if part is None or not inside:
            loaded.append(None)
            continue
        with part.called():
            loaded.append(ApproximateIndex.load(part.path, some, thorough=thorough))
    return JoinedApproximate(tuple(loaded), exact)


def measured(index: JoinedApproximate, seed: int = 0) -> JoinedApproximate:
    """The same with its recall, on stored codes of all parts."""
    exact = index.exact
    size = min(SAMPLE, max(1, len(exact) // 2))
    drawn = np.sort(np.random.default_rng(seed).permutation(len(exact))[:size])
    recall, in_order = _Truth.of(exact, drawn, lambda share: None).recalls(index)
    held = [part.parameters for part in index.approximate if part is not None]
    parameters = {name: sum(part[name] for part in held) for name in ("nlist", "nprobe")}
    return replace(index, recall=recall, recall_in_order=in_order, sample=size, parameters=parameters)


def _describes(about: dict[str, Any]) -> bool:
    """Whether the JSON beside an index says how it is searched and how well that does."""
    parameters, in_order, recall = (about.get(name) for name in ("parameters", "recall_in_order", "recall"))
    return (
        isinstance(parameters, dict)
        and "nprobe" in parameters
        and all(isinstance(value, int) and 0 <= value < 1 << 31 for value in parameters.values())
        and isinstance(recall, int | float)
        and isinstance(in_order, int | float)
        and 0 <= in_order <= recall <= 1
        and is_number(about.get("sample"))
    )


@dataclass(frozen=True)
class _Truth:
    """Stored codes, their places, and the places and distances of the k nearest other codes of each, in order."""

    codes: SplineCodes
    places: Int64[np.ndarray, " sample"]
    nearest: Int64[np.ndarray, "sample k"]
    distances: Int64[np.ndarray, "sample k"]

    @classmethod
    def of(cls, exact: HammingIndex, places: Int64[np.ndarray, " sample"], tell: Tell) -> _Truth:
        k, found = min(RECALL_AT, len(exact) - 1), []
        for start in range(0, len(places), _TRUTHS):
            found.append(exact.others(places[start : start + _TRUTHS], k))
            tell(min(1.0, (start + _TRUTHS) / len(places)))
        ids, distances = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return cls(exact.codes(places), places, np.searchsorted(exact.ids, ids), distances)

    def recalls(self, index: ApproximateIndex | JoinedApproximate) -> tuple[float, float]:
        """Share of k neighbours found that are no farther than the k-th should be, and that are the very k nearest;
        what was not found is not."""
        k = self.nearest.shape[1]
        places, distances = index._nearest(self.codes, k + 1)
        others = (places >= 0) & (places != self.places[:, None])
        others &= others.cumsum(axis=1) <= k  # the code itself need not be among them
        near = others & (distances <= self.distances[:, -1:])
        very = others & (places[:, :, None] == self.nearest[:, None, :]).any(axis=2)
        return float(near.sum(axis=1).mean() / k), float(very.sum(axis=1).mean() / k)


@contextmanager
def _few_threads(n_queries: int) -> Iterator[None]:
    """OpenMP shares queries out to threads, and to wait for one that another program holds up takes 10 ms."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1 if n_queries < _SHARED_QUERIES else before)  # of this thread alone
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _trained(exact: HammingIndex, generator: np.random.Generator) -> Any:
    """Empty lists, √n of them where there are codes enough for each.

    k-means takes a number for every gate of the codes that it sees. Where those of all lists would be too many, it
    first finds as many groups as needed, and then the lists of each group for itself.
    """
    n_lists = max(1, min(round(np.sqrt(len(exact))), len(exact) // _TRAINED_PER_LIST))
    width = 8 * exact.packed.shape[1]
    seen = generator.choice(len(exact), min(len(exact), _TRAINED_PER_LIST * n_lists), replace=False)
    centres = _centres(np.ascontiguousarray(exact.packed[np.sort(seen)]), n_lists, exact.n_bits)
    quantizer = faiss.IndexBinaryFlat(width)
    quantizer.add(centres)
    lists = faiss.IndexBinaryIVF(quantizer, width, len(centres))
    lists.train(centres)  # there is nothing left to train, but it must be called
    return lists


def _centres(codes: UInt8[np.ndarray, "codes bytes"], n: int, n_bits: int) -> UInt8[np.ndarray, "centres bytes"]:
    """``n`` centres of codes, or a few less or more where they are found group by group."""
    at_once = max(3 * _TRAINED_PER_LIST, _TRAINING_FLOATS // n_bits)
    if len(codes) <= at_once:
        return _means(codes, n)
    groups = min(-(-len(codes) // at_once), at_once // _TRAINED_PER_LIST)
    middles = faiss.IndexBinaryFlat(8 * codes.shape[1])
    middles.add(_means(codes[:: -(-len(codes) // at_once)], groups))
    group = middles.search(codes, 1)[1][:, 0]
    found = []
    for number in range(groups):
        members = np.ascontiguousarray(codes[group == number])
        if len(members) == len(codes):  # all alike: they can't be told apart any further
            return _means(codes[:at_once], min(n, at_once // _TRAINED_PER_LIST))
        if len(members):
            found.append(_centres(members, max(1, round(n * len(members) / len(codes))), n_bits))
    return np.concatenate(found)


def _means(codes: UInt8[np.ndarray, "codes bytes"], n: int) -> UInt8[np.ndarray, "centres bytes"]:
    """``n`` centres that k-means finds among codes, all of which it takes at once."""
    width = 8 * codes.shape[1]
    quantizer = faiss.IndexBinaryFlat(width)
    faiss.IndexBinaryIVF(quantizer, width, n).train(np.ascontiguousarray(codes))
    centres: UInt8[np.ndarray, "centres bytes"] = quantizer.reconstruct_n(0, n)
    return centres


def _fill(lists: Any, exact: HammingIndex, tell: Tell) -> None:
    for start in range(0, len(exact), _ADDED):
        lists.add(np.ascontiguousarray(exact.packed[start : start + _ADDED]))
        tell(min(1.0, (start + _ADDED) / len(exact)))


def _efforts(n_lists: int) -> list[int]:
    """Numbers of lists to look through, doubling up to all of them."""
    doubled = [1 << power for power in range(n_lists.bit_length()) if 1 << power < n_lists]
    return [*doubled, n_lists]
