"""A segmented atlas: a small database in versions, over codes and activations in files that never change.

A reader opens the catalog of one version, which nobody ever writes again: no writer keeps it out, and it none. A
writer works in a private copy of the newest catalog. At the end of a transaction the new files are on the disk, then
the catalog, then the file of the version, which either is created, and all of it counts, or nothing does.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import IO, Any, get_args
from weakref import WeakValueDictionary

import duckdb
import pandas as pd
import pyarrow as pa

from ..errors import AtlasLocked, DamagedAtlas, NotAnAtlas, SqlFailed, SqlRefused, UsageError
from .atlas import OPENING, SCHEMA_VERSION, WRITER_CONFIG, Atlas, attach, read_note
from .catalog import Target
from .digests import SiteTable
from .disk import disk_full, first_line, hold, let_go, remove_unfinished, unfinished_path
from .file_system import PROTOCOL, SegmentFileSystem, address_of
from .index_parts import INDEXES, IndexPart, code_parts
from .names import NAMES
from .places import Place, StoredFile, now
from .segment_files import SCHEMAS, empty_name, write_segments
from .user_sql import SANDBOX, Limits, close_files, lock
from .versions import (
    CATALOGS,
    SEGMENTS,
    IndexFile,
    SegmentFile,
    Version,
    about_name,
    commit,
    files_of,
    newest,
    next_token,
    read_version,
    version_name,
    version_numbers,
)

WRITER_LOCK = "writer.lock"
"""Held by the one process of this machine that writes. Between machines the file of the version alone decides."""

_WORKING = "catalog.duckdb"
_VARIABLES: dict[SiteTable, str] = {"codes": "code_files", "activations": "activation_files"}

_FILE_SYSTEMS: WeakValueDictionary[str, SegmentFileSystem] = WeakValueDictionary()
"""Those of the catalogs that this process reads, by path: all that it opens on one share a database."""


def open_segmented(place: Place, *, writable: bool, limits: Limits | None, version: int | None) -> SegmentedAtlas:
    """Open the segmented atlas at a place; see `open`."""
    folder = place.address
    if writable and version is not None:
        raise UsageError(f"version {version} can't be written: a version never changes; open {folder} without one")
    number = newest(place) if version is None else version
    if number is None:
        raise NotAnAtlas(f"{folder} holds no version of an atlas; make one with `polytope ingest {folder} …`")
    if writable:
        return SegmentedWriter(place)
    return SegmentedReader(place, read_version(place, number), limits)


def make_segmented(place: Place, block_size: int) -> None:
    """Commit version 1, which holds nothing, unless somebody has."""
    folder, token = place.local, next_token(1)
    working = _working_folder(folder)
    try:
        database = working / _WORKING
        with duckdb.connect(str(database), config={"default_block_size": block_size}) as connection:
            connection.register_filesystem(SegmentFileSystem(place))
            _show_files(connection, ())
            connection.begin()
            for script in ("schema.sql", "segments.sql"):
                connection.execute((Path(__file__).parents[1] / script).read_text(encoding="utf-8"))
            connection.execute("insert into meta values ('schema_version', ?)", [SCHEMA_VERSION])
            connection.commit()
            connection.execute("checkpoint")
        catalog = _copied(database, folder, token)
        place.put(catalog.name, folder / catalog.name)
        commit(place, Version(1, now(), _command(), catalog, ()))
    finally:
        shutil.rmtree(working, ignore_errors=True)


class SegmentedAtlas(Atlas):
    """What readers and writers share: files are opened by name, and what is wrong with one is said."""

    place: Place
    version: Version
    _files: SegmentFileSystem

    @property
    def address(self) -> str:
        return self.place.address

    _segments: tuple[SegmentFile, ...]
    _indexes: tuple[IndexFile, ...]

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = super()._cursor()
        _show_files(cursor, self._segments)
        return cursor

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with super()._explained():
                yield
        except (duckdb.Error, OSError, DamagedAtlas):
            self._raise_failure()
            raise

    def sql(self, *args: Any, **options: Any) -> pd.DataFrame:
        try:
            return super().sql(*args, **options)
        except (SqlFailed, SqlRefused):
            self._raise_failure()
            raise

    def index_files(self, index: str) -> list[IndexPart]:
        files = sorted((file for file in self._indexes if file.index == index), key=lambda file: file.first)
        return [
            IndexPart(
                self._fetched(file),
                file.digest,
                range(file.first, file.last + 1),
                True,
                f"{self.address}/{file.name}",
            )
            for file in files
        ]

    def _fetched(self, file: IndexFile) -> Path:
        """An index file, and the JSON beside it, on this machine; where it would lie, if it can't be had."""
        with suppress(DamagedAtlas):  # who loads it says so, and it is built again
            about = about_name(file.name)
            if not (self.place.local / about).is_file():
                self.place.fetch_beside(about)
            return self.place.fetch(file)
        return self.place.local / file.name

    def index_parts(self, index: str, target: Target, *, anew: bool = False) -> list[IndexPart]:
        built = {} if anew else {(part.within, part.digest): part for part in self.index_files(index)}
        codes = files_of(self._segments, "codes")
        folder = self.path / SEGMENTS / self._index_token / INDEXES
        return [
            built.get((ids, digest)) or IndexPart(folder / f"{Path(index).stem}-{ids.start}.faiss", digest, ids)
            for ids, digest in code_parts(codes, [site.site_id for site in target.sites])
        ]

    def versions(self) -> list[Version]:
        return [read_version(self.place, number) for number in version_numbers(self.place)]

    def file_faults(self) -> Iterator[tuple[str, str]]:
        for file in self.version.files:
            try:
                with self.place.open(file.name) as opened:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                yield file.name, "" if digest == file.sha256 else "its bytes are not those that were written"
            except OSError as error:
                yield file.name, f"it can't be read ({first_line(error)})"

    @cached_property
    def _index_token(self) -> str:
        """Names the folder of the indexes that are built while this is open."""
        return next_token(self.version.number + 1)

    def _raise_failure(self) -> None:
        failure, self._files.failure = self._files.failure, None
        if failure is not None:
            raise failure from None

    def _damaged(self, error: duckdb.Error) -> DamagedAtlas:
        return DamagedAtlas(
            f"{self.address}, version {self.version.number}, can't be read ({first_line(error)}); `polytope verify` "
            "names the file: restore it, or open an older version"
        )


class SegmentedReader(SegmentedAtlas):
    """One version, to read. A file beside that of the version says that it is being read."""

    def __init__(self, place: Place, version: Version, limits: Limits | None) -> None:
        self.place, self.version = place, version
        self._segments, self._indexes = version.segments, version.indexes
        self._holding = hold(place.local / version_name(version.number))
        try:
            connection, self._files = _read(place, version, limits)
            super().__init__(place.local, connection, writable=False, limits=limits)
        except BaseException:
            let_go(self._holding)
            raise

    def close(self) -> None:
        super().close()
        let_go(self._holding)


class SegmentedWriter(SegmentedAtlas):
    """The newest version, in a private copy. A transaction commits a version."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._lock = writer_lock(place)
        self._token: str | None = None
        self._changed = False
        self._working: Path | None = None
        try:
            connection = duckdb.connect(config=WRITER_CONFIG)
            self._files = SegmentFileSystem(place)
            connection.register_filesystem(self._files)
            self._take(connection, read_version(place, newest(place) or 0))
            super().__init__(place.local, connection, writable=True)
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        super().close()
        self._let_go()

    def _let_go(self) -> None:
        if self._working is not None:
            shutil.rmtree(self._working, ignore_errors=True)
            self._working = None
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: whatever is written inside is committed as the next version, or undone.

        Raises `AtlasLocked` where somebody else, who does not share this machine, committed one meanwhile.
        """
        if self._token is None:
            with self.together(), self.transaction():
                yield
            return
        segments, indexes = self._segments, self._indexes
        try:
            with super().transaction():
                yield
        except BaseException:
            for file in self._segments[len(segments) :]:
                (self.path / file.name).unlink(missing_ok=True)
            self._show(segments)
            self._indexes = indexes
            raise
        self._changed = True

    @contextmanager
    def together(self) -> Iterator[None]:
        if self._token is not None:
            yield
            return
        latest = newest(self.place)
        if latest is not None and latest != self.version.number:
            self._take_again(read_version(self.place, latest))
        self._token, self._changed = next_token(self.version.number + 1), False
        committed = False
        try:
            try:
                yield
            finally:
                if self._changed:
                    self._commit(self._token)
                    committed = True
        finally:
            token, self._token = self._token, None
            if not committed:
                shutil.rmtree(self.path / SEGMENTS / token, ignore_errors=True)
                if self._changed:  # in the private copy, and nowhere else
                    beaten = isinstance(sys.exception(), AtlasLocked)  # else this one's, which lies here, will do
                    self._take_again(read_version(self.place, newest(self.place) or 0) if beaten else self.version)

    def insert(self, table: str, rows: pa.Table) -> None:
        if table in SCHEMAS:
            self.insert_stream(table, rows.schema, rows.to_batches())
        else:
            super().insert(table, rows)

    def insert_stream(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        if table not in get_args(SiteTable):
            super().insert_stream(table, schema, batches)
            return
        if self._token is None:
            raise UsageError(f"{table} of a segmented atlas are added in a transaction")
        before = sum(file.name.startswith(f"{SEGMENTS}/{self._token}/") for file in self._segments)
        of_site: SiteTable = "codes" if table == "codes" else "activations"
        written = write_segments(self.path, self._token, of_site, batches, before, self.segment_examples)
        self._show((*self._segments, *written))

    def record_index(self, index: str, files: Sequence[tuple[IndexPart, int, str]]) -> None:
        made = []
        for part, size, sha256 in files:
            assert part.within is not None  # as `index_parts` has it
            name = part.path.relative_to(self.path).as_posix()
            made.append(IndexFile(name, size, sha256, index, part.within.start, part.within.stop - 1, part.digest))
        self._indexes = (*(file for file in self._indexes if file.index != index), *made)

    def _commit(self, token: str) -> None:
        assert self._working is not None
        self.execute("checkpoint")
        with disk_full(self.path):
            for file in self._segments[len(self.version.segments) :]:
                self.place.put(file.name, self.path / file.name)
            known = {file.name for file in self.version.indexes}
            for index in self._indexes:
                if index.name not in known:
                    for name in (index.name, about_name(index.name)):
                        self.place.put(name, self.path / name)
            catalog = _copied(self._working / _WORKING, self.path, token)
            self.place.put(catalog.name, self.path / catalog.name)
            made = replace(
                self.version,
                number=self.version.number + 1,
                made_at=now(),
                made_by=_command(),
                catalog=catalog,
                segments=self._segments,
                indexes=self._indexes,
            )
            if not commit(self.place, made):
                (self.path / catalog.name).unlink(missing_ok=True)
                raise AtlasLocked(
                    f"somebody else committed version {made.number} of {self.address} meanwhile; give the same "
                    "command again, to add to what there is now"
                )
        self.version = made

    def _take_again(self, version: Version) -> None:
        """Go on from another version. What is in the private copy is given up."""
        self._connection.execute("use memory")
        self._connection.execute("detach atlas")
        self._take(self._connection, version)
        self._catalog = None

    def _take(self, connection: duckdb.DuckDBPyConnection, version: Version) -> None:
        before = self._working
        self._working = _working_folder(self.place.local)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        working = self._working / _WORKING
        with disk_full(self.place.local):
            shutil.copyfile(self.place.fetch(version.catalog), working)
        attach(connection, working)
        self.version, self._indexes = version, version.indexes
        self._show(version.segments, connection)

    def _show(self, segments: tuple[SegmentFile, ...], connection: duckdb.DuckDBPyConnection | None = None) -> None:
        """Let SQL see these files, and no others."""
        self._segments = segments
        self._files.files = {file.name: file for file in segments}
        _show_files(connection or self._connection, segments)


def _show_files(connection: duckdb.DuckDBPyConnection, segments: Iterable[SegmentFile]) -> None:
    """Tell the views of a connection which files they stand for."""
    held = list(segments)
    for table, variable in _VARIABLES.items():
        names = [file.name for file in files_of(held, table)] or [empty_name(table)]
        connection.execute(f"set variable {variable} = $1", [list(map(address_of, names))])


def _read(
    place: Place, version: Version, limits: Limits | None
) -> tuple[duckdb.DuckDBPyConnection, SegmentFileSystem]:
    """A connection in the sandbox, in which files of the version alone can be opened, to read."""
    place.fetch_beside(NAMES)
    database = str(place.fetch(version.catalog).resolve())
    config: dict[str, Any] = {name: value for name, value in SANDBOX.items() if name != "enable_external_access"}
    if limits is not None:
        config |= {"memory_limit": f"{limits.memory}B", "threads": str(limits.threads)}
    with OPENING:
        try:
            connection = duckdb.connect(database, read_only=True, config=config)
        except duckdb.Error as error:
            raise DamagedAtlas(
                f"{place.address}/{version.catalog.name} can't be read as a database ({first_line(error)}); "
                "open an older version, or restore it"
            ) from None
        if connection.filesystem_is_registered(PROTOCOL):
            files = _FILE_SYSTEMS[database]
        else:
            files = _FILE_SYSTEMS[database] = SegmentFileSystem(place, version.segments)
            connection.register_filesystem(files)
            connection.execute(f"set allowed_directories = ['{address_of('')}']")
            connection.execute("set enable_external_access = false")
            close_files(connection)
            if limits is None:
                lock(connection)
    _show_files(connection, version.segments)
    return connection, files


def writer_lock(place: Place) -> IO[bytes]:
    """The lock of the one who writes on this machine, until it is closed. Raises `AtlasLocked`."""
    folder = place.local
    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / WRITER_LOCK).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        note = read_note(folder)
        holder = f"process {note['pid']} (`{note['command']}`, since {note['since']})" if note else "another process"
        if note.get("pid") == os.getpid():
            raise AtlasLocked(
                f"{place.address} is already open in this process, for writing; close it first"
            ) from None
        raise AtlasLocked(
            f"{place.address} is being written by {holder}; wait until it has finished, or stop it, and try again"
        ) from None
    return file


def _working_folder(folder: Path) -> Path:
    """A folder for a private copy; those that killed processes left are removed."""
    place = folder / CATALOGS / _WORKING
    place.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(place)
    working = unfinished_path(place)
    working.mkdir()
    return working


def _copied(database: Path, folder: Path, token: str) -> StoredFile:
    """The catalog of a commit, copied from the private one to where it belongs."""
    name = f"{CATALOGS}/{token}.duckdb"
    shutil.copyfile(database, folder / name)
    with (folder / name).open("rb") as file:
        return StoredFile(name, os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())


def _command() -> str:
    return " ".join(map(str, [Path(sys.argv[0]).name, *sys.argv[1:]]))
