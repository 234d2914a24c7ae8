"""Data at an address, fetched into the cache to be read from there."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ..errors import StoreError, UsageError
from .buckets import Bucket
from .cache import CACHE_GB, DATA, cache_folder, is_unfinished, most_bytes, trim
from .disk import hold, let_go


def brought(address: str) -> tuple[Path, Path | None]:
    """The file or folder at an address, on this machine; of a folder what is here already is not fetched again.

    Returns:
        The path, and the file that says that this process uses it (`disk.hold`): nothing of it is removed until that
        is let go, however much is fetched beside it.

    Raises:
        FileNotFoundError: nothing is there.
        StoreError: it can't be read.
        UsageError: it is more than the cache keeps, or has room for beside what is used.
    """
    above, _, name = address.rpartition("/")
    is_root = above.endswith(":/")
    bucket = Bucket(address if is_root else above)
    root = bucket.local / DATA
    place = root if is_root else root / name
    held = hold(place)
    try:
        wanted = _file(bucket, name, place) if not is_root else None
        if wanted is None:
            wanted = _folder(bucket, "" if is_root else name, place)
        _bring(bucket, address, place, wanted)
    except BaseException:
        let_go(held)
        raise
    return place, held


Wanted = dict[Path, tuple[str, int, float]]
"""Files that are to be here: of each the object, its bytes, and when it was written."""


def _file(bucket: Bucket, name: str, place: Path) -> Wanted | None:
    """The one object of that very name, if there is one; when it was written is not asked."""
    try:
        return {place: (name, bucket.size(name), 0.0)}
    except FileNotFoundError:
        return None


def _folder(bucket: Bucket, name: str, place: Path) -> Wanted:
    """All objects below; what is here and no longer there is removed."""
    wanted: Wanted = {}
    for key, size, written in bucket.files(name):
        file = bucket.local / DATA / key
        if key.endswith("/"):  # stands for a folder
            continue
        if not file.resolve().is_relative_to(place.resolve()):
            raise StoreError(f"{bucket.address} has an object named {key!r}, which leads out of the folder")
        wanted[file] = key, size, written
    if not wanted:
        raise FileNotFoundError(name)
    for file in [file for file in place.rglob("*") if file.is_file() and file not in wanted]:
        if not is_unfinished(file.name):
            file.unlink()
    return wanted


def _bring(bucket: Bucket, address: str, place: Path, wanted: Wanted) -> None:
    missing = {file: about for file, about in wanted.items() if not _is_here(file, *about[1:])}
    total = sum(size for _, size, _ in wanted.values())
    coming = sum(size for _, size, _ in missing.values())
    if (over := trim(cache_folder(), place, coming)) > 0:
        raise UsageError(
            f"{address} holds {total / 1e9:.3g} GB; the cache has room for {max(0.0, total - over) / 1e9:.3g}, for "
            f"it keeps {most_bytes() / 1e9:g} ({CACHE_GB}), and what is being read stays. Raise that, or give a part "
            "of the data"
        )
    for file, (key, size, written) in wanted.items():
        if file in missing:
            bucket.bring(key, size, file)
        os.utime(file, (time.time(), written))


def _is_here(file: Path, size: int, written: float) -> bool:
    if not written or not file.is_file():
        return False
    status = file.stat()
    return status.st_size == size and status.st_mtime == written
