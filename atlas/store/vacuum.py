"""Removing what no version of a segmented atlas needs any more, and versions that nobody reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from ..errors import NotAnAtlas, UsageError
from .disk import is_held, remove_unfinished
from .opening import segmented_place
from .places import Folder, Place
from .segmented import writer_lock
from .versions import (
    CATALOGS,
    SEGMENTS,
    Version,
    about_name,
    read_version,
    version_name,
    version_numbers,
)

GRACE = 7 * 86400.0
"""Seconds for which a version is kept after the next one was committed: who began to read it may not be done."""


@dataclass(frozen=True)
class Vacuumed:
    """What was removed: numbers of versions, files, and their bytes."""

    versions: tuple[int, ...]
    files: int
    bytes: int


def vacuum(path: str | Path, *, grace: float = GRACE) -> Vacuumed:
    """Remove old versions of a segmented atlas, and files that no version left needs.

    The newest version stays, and so do those that were the newest within the time of grace, and those that somebody
    on this machine has open, or on another one that shares the folder has opened within that time. Files of no
    version, as a killed commit leaves them, stay for that time too: their version may yet be committed. At an address
    the time of grace alone protects who reads on another machine.

    Args:
        path: the atlas, or its address.
        grace: seconds.

    Returns:
        What was removed.

    Raises:
        UsageError: a negative time, or an atlas that keeps its codes in tables.
        AtlasLocked: a process of this machine is writing.
        StoreError: what lies at an address can't be listed or removed.
        DamagedAtlas: a version that stays can't be read: what it needs is not known.
    """
    if not grace >= 0:
        raise UsageError(f"the time of grace is {grace:g} s; it can't be negative")
    place = segmented_place(path)
    if place is None:
        raise UsageError(f"{path} is no segmented atlas and has no versions; nothing is to be removed")
    oldest = time.time() - grace
    with closing(writer_lock(place)):
        numbers = version_numbers(place)
        if not numbers:
            raise NotAnAtlas(f"{place.address} holds no version of an atlas; nothing is to be removed")
        versions = {number: read_version(place, number) for number in numbers}
        remove_unfinished(place.local / CATALOGS / "catalog.duckdb")
        gone = [
            number
            for number, following in pairwise(numbers)
            if _seconds(versions[following]) < oldest and not is_held(place.local / version_name(number), oldest)
        ]
        kept = [version for number, version in versions.items() if number not in gone]
        needed = {name for version in kept for file in version.files for name in (file.name, about_name(file.name))}
        dropped = {
            name for number in gone for file in versions[number].files for name in (file.name, about_name(file.name))
        }
        for number in gone:  # first, so that nobody opens what is being removed
            place.remove(version_name(number))
        n_files = n_bytes = 0
        for name, size, written in _files(place):
            if name not in needed and (name in dropped or written < oldest):
                place.remove(name)
                n_files, n_bytes = n_files + 1, n_bytes + size
        _clear(place.local, oldest, is_sent=not isinstance(place, Folder))
    return Vacuumed(tuple(gone), n_files, n_bytes)


def _seconds(version: Version) -> float:
    return datetime.fromisoformat(version.made_at).astimezone(UTC).timestamp()


def _files(place: Place) -> Iterator[tuple[str, int, float]]:
    """Catalogs and what is in segments; private copies of writers are no files of the atlas."""
    for about in place.files(CATALOGS):
        parent, _, name = about[0].rpartition("/")
        if parent == CATALOGS and name.endswith(".duckdb") and not name.startswith("."):
            yield about
    yield from place.files(SEGMENTS)


def _clear(folder: Path, oldest: float, *, is_sent: bool) -> None:
    """Take away what a killed commit left on this machine to be sent to an address, and folders without a file."""
    for below in sorted((folder / SEGMENTS).rglob("*"), key=lambda file: len(file.parts), reverse=True):
        if below.is_dir() and not any(below.iterdir()):
            below.rmdir()
        elif is_sent and below.suffix == ".parquet" and below.stat().st_mtime < oldest:
            below.unlink()
