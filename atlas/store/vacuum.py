"""Removing what no version of a segmented atlas needs any more, and versions that nobody reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from ..errors import UsageError
from .buckets import address_in
from .disk import is_mine, remove_unfinished
from .opening import is_segmented
from .places import Folder
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
    on this machine has open, or on another one has opened within that time. Files of no version, as a killed commit
    leaves them, stay for that time too: their version may yet be committed.

    Args:
        path: the atlas.
        grace: seconds.

    Returns:
        What was removed.

    Raises:
        UsageError: a negative time, or an atlas that keeps its codes in tables.
        AtlasLocked: a process of this machine is writing.
        DamagedAtlas: a version that stays can't be read: what it needs is not known.
    """
    if address_in(path) is not None:
        raise UsageError(f"{path} is an address, and vacuum works on folders; mount it as one")
    folder = Path(path)
    if not grace >= 0:
        raise UsageError(f"the time of grace is {grace:g} s; it can't be negative")
    if not is_segmented(folder):
        raise UsageError(f"{folder} is no segmented atlas and has no versions; nothing is to be removed")
    place, oldest = Folder(folder), time.time() - grace
    with closing(writer_lock(folder)):
        numbers = version_numbers(place)
        versions = {number: read_version(place, number) for number in numbers}
        remove_unfinished(folder / CATALOGS / "catalog.duckdb")
        gone = [
            number
            for number, following in pairwise(numbers)
            if _seconds(versions[following]) < oldest and not _is_read(folder, number, oldest)
        ]
        kept = [version for number, version in versions.items() if number not in gone]
        needed = {name for version in kept for file in version.files for name in (file.name, about_name(file.name))}
        dropped = {
            name for number in gone for file in versions[number].files for name in (file.name, about_name(file.name))
        }
        for number in gone:  # first, so that nobody opens what is being removed
            (folder / version_name(number)).unlink()
        n_files = n_bytes = 0
        for file in _files(folder):
            name, status = file.relative_to(folder).as_posix(), file.stat()
            if name not in needed and (name in dropped or status.st_mtime < oldest):
                file.unlink()
                n_files, n_bytes = n_files + 1, n_bytes + status.st_size
        _remove_empty(folder / SEGMENTS)
    return Vacuumed(tuple(gone), n_files, n_bytes)


def _seconds(version: Version) -> float:
    return datetime.fromisoformat(version.made_at).astimezone(UTC).timestamp()


def _is_read(folder: Path, number: int, oldest: float) -> bool:
    """Whether a living process of this machine has a version open, or another machine has opened it since."""
    name = folder / version_name(number)
    remove_unfinished(name)  # of processes that ended without a word
    return any(
        is_mine(held, name) or held.stat().st_mtime >= oldest for held in name.parent.glob(f".{name.name}.*.tmp")
    )


def _files(folder: Path) -> Iterator[Path]:
    """Catalogs and what is in segments; private copies of writers are no files of the atlas."""
    yield from [file for file in (folder / CATALOGS).glob("*.duckdb") if not file.name.startswith(".")]
    yield from [file for file in (folder / SEGMENTS).rglob("*") if file.is_file()]


def _remove_empty(folder: Path) -> None:
    for below in sorted(folder.rglob("*"), key=lambda file: len(file.parts), reverse=True):
        if below.is_dir() and not any(below.iterdir()):
            below.rmdir()
