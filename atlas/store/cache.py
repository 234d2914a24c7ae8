"""What is fetched from object storage is kept on this machine, within a limit: what was used last stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import UsageError
from .disk import is_held

CACHE = "POLYTOPE_CACHE"
"""Environment: the folder in which fetched files are kept; by default below ``~/.cache``."""
CACHE_GB = "POLYTOPE_CACHE_GB"
"""Environment: how much of them, in GB."""
DEFAULT_GB = 20.0

DATA = "data"
"""Folder of an address's data, whose files keep their names."""

_SUFFIXES = (".duckdb", ".faiss")
"""Of an atlas's files, those that are fetched whole."""

_ELSEWHERE = 7 * 86400.0
"""Seconds for which it counts that another machine, which shares the cache, has said that it uses data."""


def cache_folder() -> Path:
    """Where fetched files are kept on this machine."""
    given = os.environ.get(CACHE)
    return Path(given) if given else Path.home() / ".cache" / "polytope-atlas"


def most_bytes() -> float:
    """How much is kept. Raises `UsageError` where the environment has no number."""
    try:
        return float(os.environ.get(CACHE_GB, DEFAULT_GB)) * 1e9
    except ValueError:
        raise UsageError(f"{CACHE_GB} is {os.environ[CACHE_GB]!r}; it is a number of GB") from None


def trim(folder: Path, keep: Path, coming: int = 0) -> float:
    """Remove what was used longest ago, until the rest is within the limit, and so many bytes that are ``coming``.

    Nothing is removed of ``keep``, a file or a folder, and of data that a process uses (`disk.hold`). A catalog or an
    index that a process has open stays open to it.

    Returns:
        Bytes that are too many all the same; 0 or less where there is room.
    """
    kept = sorted(_kept(folder))
    staying = {keep, *_in_use(folder)}
    over = coming + sum(size for _, size, _ in kept) - most_bytes()
    for _, size, file in kept:
        if over <= 0:
            break
        if staying.isdisjoint((file, *file.parents)):
            file.unlink(missing_ok=True)
            over -= size
    return over


def _kept(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """Files that count, without those that are being written: when each was last used, and its bytes."""
    for file in folder.rglob("*"):
        parts = file.relative_to(folder).parts
        if (parts[1:2] != (DATA,) and file.suffix not in _SUFFIXES) or any(map(is_unfinished, parts)):
            continue
        with suppress(FileNotFoundError):  # somebody else removed it
            if file.is_file():
                status = file.stat()
                yield status.st_atime, status.st_size, file


def is_unfinished(name: str) -> bool:
    """Whether a file of that name is being written, or says that something is used."""
    return name.startswith(".") and name.endswith(".tmp")


def _in_use(folder: Path) -> Iterator[Path]:
    since = time.time() - _ELSEWHERE
    for root in folder.glob(f"*/{DATA}"):
        yield from (place for place in (root, *root.iterdir()) if is_held(place, since))
