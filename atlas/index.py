"""Exact Hamming search over packed codes, on FAISS: the one place that imports faiss.

FAISS compares whole bytes. Padding bits are zero in every code (see `codes`), so a FAISS distance is the number of
gates that differ. Nothing here is approximate: every code is compared with every query.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from jaxtyping import Int32, Int64

from .codes import SplineCodes
from .errors import DiskFull, IndexMismatch, IndexMissing, UsageError, WidthError

FORMAT = 1  # of the JSON beside an index; raised when an older reader would misunderstand it
_BLOCK_BYTES = 1 << 25  # of distances computed between two looks at Ctrl-C; the speed is flat from 2**18 up


@dataclass(frozen=True, eq=False)
class HammingIndex:
    """A flat index of the codes of one site or span, searched by Hamming distance, answering in example ids.

    ``parts``: gates of each part of a code, as in `SplineCodes`; ``ids``: the example of each code, ascending;
    ``digest``: names the codes that the index was built from, so that it can refuse to answer for others.
    """

    parts: tuple[int, ...]
    ids: Int64[np.ndarray, " codes"]
    digest: str
    _faiss: Any  # faiss.IndexBinaryIDMap over IndexBinaryFlat

    @classmethod
    def build(cls, codes: SplineCodes, ids: Int64[np.ndarray, " codes"], digest: str) -> HammingIndex:
        """Index ``codes`` (copied) under example ``ids``, which must ascend: ties are answered in their order.

        Raises `UsageError` for no codes, for another number of ids than codes, and for ids that don't ascend.
        """
        if len(codes) == 0:
            raise UsageError("an index needs at least one code, got none; ingest examples first")
        if len(ids) != len(codes):
            raise UsageError(f"every code needs one example id, got {len(codes)} codes and {len(ids)} ids")
        if np.any(np.diff(ids) <= 0):
            raise UsageError("example ids must be strictly increasing; sort codes and ids by id, without repeats")
        index = faiss.IndexBinaryIDMap(faiss.IndexBinaryFlat(8 * codes.n_bytes))
        index.add_with_ids(np.ascontiguousarray(codes.packed), np.ascontiguousarray(ids))
        return cls(codes.parts, ids.copy(), digest, index)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_bits(self) -> int:
        """Gates of a code, padding not counted."""
        return sum(self.parts)

    def search(
        self, queries: SplineCodes, k: int
    ) -> tuple[Int64[np.ndarray, "queries k"], Int64[np.ndarray, "queries k"]]:
        """The ``k`` nearest codes of each query: example ids, and distances in gates.

        Ordered by (distance, id); where several codes are at the distance of the k-th, the lowest ids are kept.
        FAISS's heap breaks ties by position (faiss/utils/Heap.h, cmp2), and positions ascend with ids.

        Raises `WidthError` for queries of other parts, `UsageError` for k < 1 or more than there are codes.
        """
        self._check_width(queries)
        if k < 1:
            raise UsageError(f"the number of neighbours must be at least 1, got {k}")
        if k > len(self):
            raise UsageError(f"{k} neighbours were asked for; the index holds {len(self)} codes: ask for fewer")
        distances, ids = self._faiss.search(np.ascontiguousarray(queries.packed), k)
        return ids, distances.astype(np.int64)

    def within(
        self, queries: SplineCodes, radius: int
    ) -> list[tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]]:
        """For each query every code at most ``radius`` gates away: (ids, distances), ordered by (distance, id).

        Raises `WidthError` for queries of other parts, `UsageError` for a negative radius.
        """
        self._check_width(queries)
        if radius < 0:
            raise UsageError(f"the radius is a number of gates and can't be negative, got {radius}")
        # FAISS finds distances *below* its radius. No distance exceeds n_bits, and FAISS's radius is a C int.
        bound = min(radius, self.n_bits) + 1
        limits, distances, ids = self._faiss.range_search(np.ascontiguousarray(queries.packed), bound)
        found = []
        for low, high in zip(limits[:-1].astype(int), limits[1:].astype(int), strict=True):
            near, counts = ids[low:high], distances[low:high].astype(np.int64)  # range_search gives float32
            order = np.lexsort((near, counts))
            found.append((near[order], counts[order]))
        return found

    def check(self, n_codes: int, digest: str) -> None:
        """Raise `IndexMismatch` unless the index was built from ``n_codes`` codes with this ``digest``."""
        if len(self) != n_codes or self.digest != digest:
            raise IndexMismatch(
                f"the index was built from {len(self)} codes with digest {self.digest}; "
                f"the atlas holds {n_codes} codes with digest {digest}. Rebuild it with `polytope index`"
            )

    def save(self, path: Path) -> None:
        """Write ``path`` (``*.faiss``, readable by ``faiss.read_index_binary``) and its ``*.json`` sidecar.

        Each is written under a temporary name and renamed. The sidecar comes last and holds the index file's hash:
        a pair that was torn apart by a crash does not load. Raises `UsageError` for another suffix, `DiskFull`.
        """
        if path.suffix != ".faiss":
            raise UsageError(f"an index file is named *.faiss, got {path.name}")
        # Serialised in memory, at the size of the codes, because FAISS's own writer hides why a write failed.
        content = faiss.serialize_index_binary(self._faiss).tobytes()
        about = {
            "format": FORMAT,
            "count": len(self),
            "n_bits": self.n_bits,
            "parts": list(self.parts),
            "digest": self.digest,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        _replace_file(path, content)
        _replace_file(path.with_suffix(".json"), json.dumps(about, indent=1).encode())

    @classmethod
    def load(cls, path: Path) -> HammingIndex:
        """Read what `save` wrote.

        Raises `IndexMissing` where a file is absent or damaged. Whether it is the index of the codes at hand is
        for `check` to say.
        """
        about = _read_sidecar(path)
        try:
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise IndexMissing(f"there is no index at {path}; build it with `polytope index`") from None
        # FAISS trusts the sizes written in a file, so bytes that aren't the ones saved never reach it.
        if sha256 != about["sha256"]:
            raise _damaged(path, "its content isn't what was written")
        index: Any = faiss.read_index_binary(str(path))
        return cls(tuple(about["parts"]), faiss.vector_to_array(index.id_map), about["digest"], index)

    def _check_width(self, queries: SplineCodes) -> None:
        if queries.parts != self.parts:
            raise WidthError(
                f"the query has {queries.n_bits} gates in parts {queries.parts}; the index holds codes of "
                f"{self.n_bits} gates in parts {self.parts}. Ask with a code of the same site or span"
            )


def hamming_matrix(a: SplineCodes, b: SplineCodes) -> Int32[np.ndarray, "a b"]:
    """Hamming distance, in gates, of every code of ``a`` to every code of ``b``. Takes 4·a·b bytes.

    Raises `WidthError` for codes of different parts.
    """
    if a.parts != b.parts:
        raise WidthError(f"codes of {a.n_bits} and {b.n_bits} gates can't be compared (parts {a.parts}, {b.parts})")
    left, right = np.ascontiguousarray(a.packed), np.ascontiguousarray(b.packed)
    out = np.empty((len(a), len(b)), dtype=np.int32)
    if out.size == 0:
        return out
    step = max(1, _BLOCK_BYTES // (4 * len(b)))
    for start in range(0, len(a), step):
        rows = left[start : start + step]
        faiss.hammings(  # type: ignore[attr-defined]  # FAISS's type stubs leave it out
            faiss.swig_ptr(rows), faiss.swig_ptr(right), len(rows), len(b), a.n_bytes,
            faiss.swig_ptr(out[start : start + step]),
        )  # fmt: skip
    return out


def pairwise_hamming(codes: SplineCodes) -> Int32[np.ndarray, "n n"]:
    """All pairwise Hamming distances, in gates. Takes 4·n² bytes."""
    return hamming_matrix(codes, codes)


def _replace_file(path: Path, content: bytes) -> None:
    """Write ``content`` so that ``path`` holds either what it held before or all of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFull(
                f"no space left to write {path} ({len(content)} bytes); free some and run again"
            ) from error
        raise


def _read_sidecar(path: Path) -> dict[str, Any]:
    sidecar = path.with_suffix(".json")
    try:
        about = json.loads(sidecar.read_bytes())
    except FileNotFoundError:
        raise IndexMissing(f"there is no index at {path} ({sidecar.name} is absent); "
                           "build it with `polytope index`") from None  # fmt: skip
    except ValueError:
        raise _damaged(path, f"{sidecar.name} isn't JSON") from None
    if not isinstance(about, dict) or not {"parts", "digest", "sha256"} <= about.keys():
        raise _damaged(path, f"{sidecar.name} doesn't say what the index was built from")
    if about.get("format") != FORMAT:
        raise IndexMissing(f"the index at {path} has format {about.get('format')}, this version reads {FORMAT}; "
                           "rebuild it with `polytope index`")  # fmt: skip
    return about


def _damaged(path: Path, why: str) -> IndexMissing:
    return IndexMissing(f"the index at {path} is damaged ({why}); rebuild it with `polytope index`")
