"""Opening an atlas of either form, and making an empty one.

An atlas keeps codes and activations in the tables of one database, or it is *segmented*: a small database and
immutable files, in versions (`segmented`). Whatever opens it need not know which.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from ..errors import NotAnAtlas, UsageError
from .atlas import BLOCK_SIZE, SCHEMA_VERSION, Atlas, connect
from .buckets import Bucket, address_in
from .disk import disk_full, no_file, remove_unfinished, unfinished_path
from .places import Folder, Place
from .segmented import make_segmented, open_segmented
from .statements import DATABASE
from .user_sql import Limits
from .versions import VERSIONS, newest


def open(
    path: str | Path, *, writable: bool = False, limits: Limits | None = None, version: int | None = None
) -> Atlas:
    """Open an atlas, for reading unless ``writable``. Use it as a context manager.

    Args:
        path: its folder, or an address on object storage: s3://lab/gpt2.atlas.
        writable: hold it alone, outside the sandbox. Of a segmented atlas nobody who reads it is kept out.
        limits: what a reader may take, in place of half of the machine's memory.
        version: of a segmented atlas, which one to read; None: the newest.

    Raises:
        NotAnAtlas: there is none, or DuckDB can't open one of this name.
        SchemaVersionError: another version of this project made it, or a newer DuckDB wrote it.
        AtlasLocked: another process, or this one, holds it.
        DamagedAtlas: the database can't be read.
        UnknownName: it has no such version.
        UsageError: a version is asked for that can't be written, or of an atlas that has none.
    """
    if (place := segmented_place(path)) is not None:
        return open_segmented(place, writable=writable, limits=limits, version=version)
    folder = _checked(Path(path))
    for name in (DATABASE, f"{DATABASE}.wal"):
        if (what := no_file(folder / name)) is not None:
            raise NotAnAtlas(f"{folder / name} {what}; remove it, or name another atlas")
    if not (folder / DATABASE).is_file():
        what = "is a folder without an atlas in it" if folder.is_dir() else "does not exist"
        raise NotAnAtlas(f"{folder} {what}; make an atlas with `polytope ingest {folder} …` or `polytope demo`")
    if version is not None:
        raise UsageError(f"{folder} keeps its codes in tables and has no versions; open it without one")
    remove_unfinished(folder / DATABASE)
    return Atlas(folder, connect(folder, writable, limits), writable=writable, limits=limits)


def create(path: str | Path, *, segmented: bool = False, block_size: int = BLOCK_SIZE) -> Atlas:
    """Open an atlas for writing; make an empty one if the folder holds none yet.

    Args:
        path: its folder.
        segmented: the form of a new one.
        block_size: bytes of a block of a new database, a power of 2 from 16,384 to 262,144.

    Raises:
        StoreError: as `open` and `make` do.
    """
    make(path, segmented=segmented, block_size=block_size)
    return open(path, writable=True)


def segmented_place(path: str | Path) -> Place | None:
    """Where the files of a segmented atlas lie; None for another folder. At an address every atlas is segmented."""
    if (address := address_in(path)) is not None:
        return Bucket(address)
    return Folder(_checked(Path(path))) if (Path(path) / VERSIONS).is_dir() else None


def is_segmented(path: str | Path) -> bool:
    """Whether a folder holds an atlas in versions, or an address is given."""
    return address_in(path) is not None or (Path(path) / VERSIONS).is_dir()


def local_folder(path: str | Path) -> Path:
    """The folder of an atlas, or where what is not yet at its address lies on this machine."""
    address = address_in(path)
    return Path(path) if address is None else Bucket(address).local


def exists(path: str | Path) -> bool:
    """Whether a folder, or an address, holds an atlas, of either form."""
    place = segmented_place(path)
    return (Path(path) / DATABASE).exists() if place is None else newest(place) is not None


def changed_at(path: str | Path) -> tuple[int, int]:
    """Two numbers that change when the atlas in a folder does: the number of its newest version, or when its database
    was written and its bytes."""
    if (place := segmented_place(path)) is not None:
        return newest(place) or 0, 0
    status = (Path(path) / DATABASE).stat()
    return status.st_mtime_ns, status.st_size


def make(path: str | Path, *, segmented: bool = False, block_size: int = BLOCK_SIZE) -> None:
    """Make an empty atlas unless the folder holds one. Nothing is locked, so that several workers can begin at once.

    Args:
        path: its folder.
        segmented: whether its codes and activations lie in immutable files, and it has versions.
        block_size: bytes of a block of the new database, a power of 2 from 16,384 to 262,144.

    Raises:
        NotAnAtlas: the path is a file.
        DiskFull: there is no space left.
        StoreError: nothing can be written there.
    """
    if exists(path):
        return
    if (place := segmented_place(path)) is not None:
        make_segmented(place, block_size)
        return
    folder = _checked(Path(path))
    if folder.exists() and not folder.is_dir():
        raise NotAnAtlas(f"{folder} is a file; an atlas is a folder, give the name of one (it is made if need be)")
    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if segmented:
            make_segmented(Folder(folder), block_size)
            return
        remove_unfinished(folder / DATABASE)
        # In a folder beside, with the files that DuckDB adds, so that a kill in between leaves no half-made atlas.
        unfinished = unfinished_path(folder / DATABASE)
        unfinished.mkdir()
        try:
            database = unfinished / DATABASE
            with duckdb.connect(str(database), config={"default_block_size": block_size}) as connection:
                connection.begin()  # alone, each of 300 statements would wait for the disk
                connection.execute((Path(__file__).parents[1] / "schema.sql").read_text(encoding="utf-8"))
                connection.execute("insert into meta values ('schema_version', ?)", [SCHEMA_VERSION])
                connection.commit()
                connection.execute("checkpoint")  # closing would do it too, and keep silent where it fails
            if not (folder / DATABASE).exists():
                database.rename(folder / DATABASE)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _checked(folder: Path) -> Path:
    """The folder, unless DuckDB would take a part of its name for options of an address."""
    if "?" in str(folder.resolve()):
        raise NotAnAtlas(f"{folder}: DuckDB opens no database whose path has a question mark in it; rename it")
    return folder
