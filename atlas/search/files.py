"""Index files: how they are written, mapped into memory, and found to be damaged.

An index is a pair: ``NAME.faiss``, which `faiss.read_index_binary` reads, and ``NAME.json``, which says what it was
built from and what its bytes must be. Both appear under their names complete or not at all, the JSON last.

A flat index is an ``IndexBinaryIDMap`` over an ``IndexBinaryFlat`` (faiss/impl/index_write.cpp), little-endian:

    bytes       what
    25          "IBMp", then of the map: a code's bits and bytes (int32), codes (int64), trained (bool), metric
                (int32)
    25          "IBxF", then the same of the flat index
    8           bytes of all codes (uint64)
    n·bytes     the codes, one after another: from byte 58 on
    8           number of ids (uint64)
    8·n         example ids (int64), ascending
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from ..errors import IndexMissing, UsageError, WidthError
from ..store.disk import no_file, replacing, sealed, unsealed
from ..store.index_parts import INDEXES as INDEXES

T = TypeVar("T")

TARGET_RECALL = 0.99  # recall@10 that an approximate index is built for
FORMAT = 3  # of the JSON beside an index; raised when an older reader would misunderstand it

FULL_CHECK_BYTES = 1 << 26
"""Files up to this size are hashed whole when they are opened: 64 MiB take some 40 ms. Of larger ones samples are."""

REPLACING = 0.1  # seconds between the two renames, generously

SAMPLES, SAMPLE_BYTES = 32, 1 << 16
"""Blocks of a large file that are hashed when it is opened, spread evenly, its first and last bytes among them."""

_HEADER = struct.Struct("<4siiq?i")
_LENGTH = struct.Struct("<Q")
_METRIC = 1  # what FAISS writes for a binary index, where it has no meaning
CODES_START = 2 * _HEADER.size + _LENGTH.size

Block = tuple[Int64[np.ndarray, " codes"], UInt8[np.ndarray, "codes bytes"]]
"""Example ids and packed codes of consecutive examples."""


def write_flat(path: Path, blocks: Iterable[Block], about: dict[str, Any], n_bytes: int) -> int:
    """Write a flat index and its JSON, block by block, holding no more than a block and the ids; returns the codes.

    ``about``: what the JSON says beside count, size and hashes. Raises `UsageError` for no codes, for ids that don't
    ascend or don't name each code, and for another suffix than ``.faiss``; `WidthError` for codes of another width
    than ``n_bytes``; `DiskFull`. Then nothing is written.
    """
    check_suffix(path)
    ids: list[np.ndarray] = []
    with replacing(path) as file:
        file.write(bytes(CODES_START))
        for block, packed in blocks:
            _check_block(block, packed, n_bytes)
            _check_ascending(block, ids[-1][-1:] if ids else None)
            file.write(np.ascontiguousarray(packed).data)
            ids.append(block.astype("<i8"))
        count = sum(map(len, ids))
        if count == 0:
            raise UsageError("an index needs at least one code, got none; ingest examples first")
        file.write(_LENGTH.pack(count))
        for block in ids:
            file.write(block.data)
        file.seek(0)
        file.write(_start(count, n_bytes))
        file.flush()
        about = {**about, "count": count, **hashes(Path(file.name))}
    write_about(path, about)
    return count


def open_flat(
    path: Path, *, thorough: bool = False
) -> tuple[dict[str, Any], UInt8[np.ndarray, "codes bytes"], Int64[np.ndarray, " codes"]]:
    """What the JSON says, the codes and the ids, the latter two mapped: read-only views of the file's pages.

    Takes milliseconds however large the file; its pages are loaded when they are first looked at, and shared with
    every process that maps them. ``thorough``: hash the whole file, not only samples of a large one.

    Raises `IndexMissing` where a file is absent or damaged.
    """
    return read_again(path, lambda: _open_flat(path, thorough))


def read_again(path: Path, read: Callable[[], T], wait: Callable[[], None] = lambda: time.sleep(REPLACING)) -> T:
    """What ``read`` finds of an index, at the second attempt if need be: the first may have met it between the two
    renames that replace it."""
    try:
        return read()
    except IndexMissing:
        if not path.with_suffix(".json").exists():
            raise
    wait()
    return read()


def _open_flat(
    path: Path, thorough: bool
) -> tuple[dict[str, Any], UInt8[np.ndarray, "codes bytes"], Int64[np.ndarray, " codes"]]:
    about = read_about(path)
    if about["kind"] != "flat":
        raise damaged(path, f"its JSON describes no flat index but {about['kind']!r}")
    n_bytes = sum(-(-part // 8) for part in about["parts"])
    ids_start = CODES_START + about["count"] * n_bytes + _LENGTH.size
    mapped = _mapped(path, about, thorough)
    if about["size"] != ids_start + 8 * about["count"] or mapped[:CODES_START] != _start(about["count"], n_bytes):
        raise damaged(path, "it is no flat index of the codes that its JSON describes")
    codes = np.frombuffer(mapped, np.uint8, about["count"] * n_bytes, CODES_START)
    return about, codes.reshape(about["count"], n_bytes), np.frombuffer(mapped, "<i8", about["count"], ids_start)


def check_file(path: Path, about: dict[str, Any], *, thorough: bool = False) -> None:
    """Raise `IndexMissing` unless the index file is there and is what ``about`` says."""
    _refuse_strangers(path)
    try:
        with path.open("rb") as file:
            _check(file, path, about, thorough)
    except FileNotFoundError:
        raise _absent(path) from None


def _refuse_strangers(path: Path) -> None:
    if (what := no_file(path)) is not None:
        raise damaged(path, f"{path.name} {what}")


def _mapped(path: Path, about: dict[str, Any], thorough: bool) -> mmap.mmap:
    _refuse_strangers(path)
    try:
        with path.open("rb") as file:
            _check(file, path, about, thorough)
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise _absent(path) from None


def _check(file: BufferedReader, path: Path, about: dict[str, Any], thorough: bool) -> None:
    size = os.fstat(file.fileno()).st_size
    if size != about["size"] or size == 0:
        raise damaged(path, f"it has {size} bytes, {about['size']} were written")
    if size <= FULL_CHECK_BYTES or thorough:
        intact = hashlib.file_digest(file, "sha256").hexdigest() == about["sha256"]
    else:
        intact = _sampled(file, size) == about["sampled"]
    if not intact:
        raise damaged(path, "its content isn't what was written")


def hashes(path: Path) -> dict[str, Any]:
    """Size of a file, SHA-256 of all of it, and of the samples that a reader of a large file checks."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        return {
            "size": size,
            "sha256": hashlib.file_digest(file, "sha256").hexdigest(),
            "sampled": _sampled(file, size),
        }


def write_about(path: Path, about: dict[str, Any]) -> None:
    """Write the JSON beside the index at ``path``."""
    with replacing(path.with_suffix(".json")) as file:
        file.write(sealed({"format": FORMAT, **about}))


def read_about(path: Path) -> dict[str, Any]:
    """The JSON beside the index at ``path``. Raises `IndexMissing` where that is absent, damaged or of old format."""
    sidecar = path.with_suffix(".json")
    if (what := no_file(sidecar)) is not None:
        raise damaged(path, f"{sidecar.name} {what}")
    try:
        about = json.loads(content := sidecar.read_bytes())
    except FileNotFoundError:
        raise IndexMissing(
            f"there is no index at {path} ({sidecar.name} is absent); build it with `polytope index`"
        ) from None
    except ValueError:
        raise damaged(path, f"{sidecar.name} isn't JSON") from None
    if isinstance(about, dict) and about.get("format", FORMAT) != FORMAT:
        raise IndexMissing(
            f"the index at {path} has format {about['format']}, this version reads {FORMAT}; rebuild it with "
            "`polytope index`"
        )
    about = unsealed(content)
    if about is None:
        raise damaged(path, f"{sidecar.name} isn't what was written")
    if not all(name in about and fits(about[name]) for name, fits in _FIELDS.items()):
        raise damaged(path, f"{sidecar.name} doesn't say what the index was built from")
    return about


def is_number(value: object) -> bool:
    """A whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_FIELDS: dict[str, Callable[[Any], bool]] = {
    "kind": _is_text,
    "digest": _is_text,
    "sha256": _is_text,
    "sampled": _is_text,
    "count": is_number,
    "size": lambda value: value == 0 or is_number(value),
    "parts": lambda value: isinstance(value, list) and len(value) > 0 and all(map(is_number, value)),
}
"""What the JSON must hold; anyone may have edited it."""


def check_suffix(path: Path) -> None:
    if path.suffix != ".faiss":
        raise UsageError(f"an index file is named *.faiss, got {path.name}")


def damaged(path: Path, why: str) -> IndexMissing:
    return IndexMissing(f"the index at {path} is damaged ({why}); rebuild it with `polytope index`")


def _start(count: int, n_bytes: int) -> bytes:
    """The bytes before the codes."""
    header = (8 * n_bytes, n_bytes, count, True, _METRIC)
    return _HEADER.pack(b"IBMp", *header) + _HEADER.pack(b"IBxF", *header) + _LENGTH.pack(count * n_bytes)


def _check_block(ids: np.ndarray, packed: np.ndarray, n_bytes: int) -> None:
    if packed.dtype != np.uint8 or packed.ndim != 2 or packed.shape[1] != n_bytes:
        raise WidthError(
            f"packed codes are rows of {n_bytes} bytes (uint8), got an array of shape {packed.shape} and type "
            f"{packed.dtype}"
        )
    if ids.shape != (len(packed),) or ids.dtype.kind not in "iu":
        raise UsageError(
            f"every code needs one example id, a whole number; got {len(packed)} codes and ids of shape {ids.shape} "
            f"and type {ids.dtype}"
        )


def _check_ascending(ids: np.ndarray, before: np.ndarray | None) -> None:
    joined = ids if before is None else np.concatenate([before, ids])
    if np.any(np.diff(joined) <= 0):
        raise UsageError("example ids must be strictly increasing; sort codes and ids by id, without repeats")


def _sampled(file: BufferedReader, size: int) -> str:
    # Read rather than mapped, which would bring in pages around those that are looked at.
    digest = hashlib.sha256()
    for start in np.linspace(0, max(0, size - SAMPLE_BYTES), SAMPLES, dtype=np.int64).tolist():
        file.seek(start)
        digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _absent(path: Path) -> IndexMissing:
    return IndexMissing(f"there is no index at {path}; build it with `polytope index`")
