"""An atlas on disk: opening it, for one writer or for many readers, and what it can be asked.

A reader's connection is read-only and sandboxed from the start: no file, no network, no other database, and a
configuration that can't be changed. So a user's SQL needs no connection of its own. A writer holds the database
alone, for as long as it publishes; whoever is turned away meanwhile is told by whom.
"""

from __future__ import annotations

import html
import json
import os
import re
import sys
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from copy import copy
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, Int64, UInt8

from ..checks import whole
from ..codes import SplineCodes
from ..errors import AtlasLocked, NotAnAtlas, SchemaVersionError, UnknownName, UsageError
from . import blocks, user_sql
from .catalog import Catalog, SiteRecord, Target
from .disk import disk_full, is_disk_full, is_forbidden, no_file
from .index_parts import INDEXES, IndexPart
from .segment_files import SEGMENT_EXAMPLES
from .statements import DATABASE, Statements, damaged, quoted
from .user_sql import Limits
from .versions import Version

if TYPE_CHECKING:
    from ..search.joined import Searchers

Result = TypeVar("Result")

AskedElsewhere = Callable[[str, Sequence[Any] | dict[str, Any] | None, int | None, float | None], pd.DataFrame]
"""Runs a user's query as `Atlas.sql` does: query, parameters, row limit, timeout in seconds."""

SCHEMA_VERSION = "7"
WRITER_NOTE = "writer.json"
BLOCK_SIZE = 65_536
"""Bytes of a block. DuckDB's default of 262,144 leaves a small atlas half empty and stores codes of 512 gates in 1.15
times their bytes; this needs 1.08 (measured on 100,000 random codes)."""

WRITER_BYTES = 256_000_000
# Publishing streams and spills: more memory would only be cache that grows with the data, more threads more buffers.
WRITER_CONFIG: dict[str, Any] = {"memory_limit": f"{WRITER_BYTES}B", "threads": "2"}
INPUT_BYTES = 400
"""Of memory for each input where inputs are added: their two indexes can't be spilled. A million did not fit into
`WRITER_BYTES` alone."""
LONG_STRING = 4096  # characters on average: where DuckDB by default considers Zstandard
ROW_GROUP_ROWS = 4096
"""Rows that a writer gathers and compresses at once. DuckDB's default of 122,880 would be 2 GB of activations, which
it then spills into a file a block, compresses at the end in one thread, and logs as well."""

FAST_WIDTH = 256
"""Bytes of a code from which on Zstandard takes the place of DuckDB's own string compression. At 384 bytes it writes
2 times (sparse codes) to 10 times (random ones) as fast and compresses as well; narrow codes leave its pages half
empty: 512 gates take 1.27 times their bytes, against 1.08."""

_OPEN_WRITERS: WeakValueDictionary[str, Atlas] = WeakValueDictionary()
"""The atlases that this process writes. To open such a file once more, even in vain, would give up its lock: POSIX
forgets a process's locks on a file as soon as the process closes any handle of it."""
OPENING = threading.Lock()
"""Who opens an atlas for reading, and closes its sandbox: two at once would get in each other's way."""


class Atlas(Statements):
    """An open atlas. `atlas.open` and `atlas.create` make one."""

    segment_examples = SEGMENT_EXAMPLES
    """Examples in a file at most, of what is added to a segmented atlas."""

    def __init__(
        self, path: Path, connection: duckdb.DuckDBPyConnection, *, writable: bool, limits: Limits | None = None
    ) -> None:
        super().__init__(path, connection, writable=writable)
        self.elsewhere: AskedElsewhere | None = None
        self.searchers: Searchers | None = None
        self.written_by = os.getpid() if writable else None
        self._limits = limits
        self._inputs = 0
        self._tables: list[str] = []  # known to be there
        self._kept: dict[Hashable, Any] = {}
        self._keeping: dict[Hashable, threading.RLock] = {}
        if writable:
            _OPEN_WRITERS[_identity(path)] = self
        try:
            if limits is not None:
                user_sql.lock(self._connection)
            self._check_version()
            if writable:
                self._leave_note()
            self._catalog: Catalog | None = Catalog(self)
        except BaseException:
            self.close()
            raise

    @property
    def catalog(self) -> Catalog:
        """A snapshot of the atlas's small tables: of when it was opened or, after a transaction, first asked for."""
        if self._catalog is None:
            self._catalog = Catalog(self)
        return self._catalog

    def __enter__(self) -> Atlas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def _repr_html_(self) -> str:
        """What it holds, in a notebook: a row a network."""
        head = "".join(f"<th>{name}</th>" for name in ("network", "kind", "sites with codes", "codes"))
        rows = ""
        for network in self.catalog.networks:
            held = [site.n_codes for site in self.catalog.sites_of(network) if site.n_codes]
            cells = (html.escape(network.name), network.kind, len(held), f"{sum(held):,}")
            rows += f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        how = "open for writing" if self.writable else "open for reading"
        return f"<p><b>{html.escape(self.address)}</b>, {how}</p><table><tr>{head}</tr>{rows}</table>"

    def close(self) -> None:
        """Let go of the database. Closing twice is allowed."""
        if self.writable:
            with suppress(OSError):  # the note only explains: no reason to fail
                (self.path / WRITER_NOTE).unlink(missing_ok=True)
            _OPEN_WRITERS.pop(_identity(self.path), None)
        self._kept.clear()
        super().close()

    @contextmanager
    def beside(self) -> Iterator[Atlas]:
        """The same open atlas for another thread, until it is left: an atlas is asked by one thread at a time.

        Its statements run beside those of others, and `interrupt` ends them alone; indexes and all else that is kept
        are shared. Raises `UsageError` where this one is open for writing.
        """
        if self.writable:
            raise UsageError(f"{self.address} is open for writing, by one thread alone; open it for reading to share")
        other = copy(self)
        other._connection = self._cursor()
        other._running, other._interrupted = set(), False
        try:
            yield other
        finally:
            other._connection.close()

    def keep(self, key: Hashable, look_up: Callable[[], Result]) -> Result:
        """What ``look_up`` returns, asked once for as long as the atlas is open for reading.

        Nobody writes to it meanwhile: DuckDB's lock sees to that. A writer looks up anew each time.
        """
        if self.writable:
            return look_up()
        if key not in self._kept:
            # One thread looks up, for all who ask meanwhile: an index of a million codes is loaded once.
            with self._keeping.setdefault(key, threading.RLock()):
                if key not in self._kept:
                    self._kept[key] = look_up()
        kept: Result = self._kept[key]
        return kept

    # --- a user's SQL ------------------------------------------------------------------------------------------

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | dict[str, Any] | None = None,
        *,
        row_limit: int | None = None,
        timeout: float | None = None,
    ) -> pd.DataFrame:
        """Run one query of a user in the sandbox. Where the attribute ``elsewhere`` is set, that runs it instead.

        Args:
            query: select, with, from, describe, summarize or explain.
            parameters: values of $1, $2, …, or of $name.
            row_limit: rows that are fetched at most; None for all.
            timeout: seconds; None for no limit. DuckDB looks at the clock between two vectors of rows: what takes
                long within one, as ``len(range(40000000))`` does, fails only once it has come to its end. `polytope`
                and the explorer ask a process of its own, which is ended; this one also ends with a database that
                fails at a hostile query.

        Returns:
            The rows. ``frame.attrs["truncated"]`` says whether there were more than ``row_limit``.
            Numbers that a double would round are `decimal.Decimal`, in lists too. Floats that hold NaN are of pandas'
            ``Float64`` or ``Float32``, which tell it from what is missing; in other columns NaN is what is missing.

        Raises:
            SqlRefused: it is not a query, has more than 64,000 bytes, or leaves the sandbox.
            SqlFailed: with the database's message in one line; also where it needs too much memory.
            SqlTimeout: it ran longer than ``timeout``.
            UsageError: an impossible limit.
        """
        if row_limit is not None:
            row_limit = whole("row_limit", row_limit)
        if timeout is not None and not timeout > 0:
            raise UsageError(f"timeout is {timeout} s; it must be positive")
        if self.elsewhere is not None:
            return self.elsewhere(query, parameters, row_limit, timeout)
        with closing(self._cursor()) as cursor:
            return user_sql.answer(
                self, cursor, query, parameters, row_limit=row_limit, timeout=timeout, limits=self._limits
            )

    # --- codes and activations ---------------------------------------------------------------------------------

    def codes(
        self, sites: Sequence[SiteRecord], examples: Sequence[int] | np.ndarray | None = None
    ) -> tuple[Int64[np.ndarray, " codes"], SplineCodes]:
        """Codes of one site, or of the sites of a span end to end.

        Args:
            sites: one site, or those of a span in order.
            examples: ids of the examples; None for all that have a code at every one of the sites.

        Returns:
            The example ids and their codes: in the order of ``examples``, or in order of id.

        Raises:
            UnknownName: one of ``examples`` has no code at one of the sites.
            DamagedAtlas: a code has another width than its site.
        """
        return blocks.codes(self, sites, examples)

    def activations(
        self, site: SiteRecord, examples: Sequence[int] | np.ndarray | None = None
    ) -> tuple[Int64[np.ndarray, " examples"], Float32[np.ndarray, "examples units"]]:
        """Activations of a site, after the nonlinearity.

        Args:
            site: the site.
            examples: ids of the examples; None for all that have an activation there.

        Returns:
            The example ids and a row of ``site.n_units`` numbers each: in the order of ``examples``, or in order of
            id.

        Raises:
            NotStored: the site stores none, or none of one of the examples.
            DamagedAtlas: an activation has another length than its site.
        """
        return blocks.activations(self, site, examples)

    def code_blocks(
        self, site: SiteRecord, rows: int = blocks.BLOCK_ROWS, within: range | None = None
    ) -> Iterator[tuple[Int64[np.ndarray, " rows"], UInt8[np.ndarray, "rows bytes"]]]:
        """Example ids and packed codes of a site in order of id, at most ``rows`` at a time; of all ids, or of those
        ``within``."""
        return blocks.code_blocks(self, site, rows, within)

    def activation_blocks(
        self, site: SiteRecord
    ) -> Iterator[tuple[Int64[np.ndarray, " rows"], Float32[np.ndarray, "rows units"]]]:
        """Example ids and activations of a site in order of id, some megabytes at a time."""
        return blocks.activation_blocks(self, site)

    # --- indexes -----------------------------------------------------------------------------------------------

    def index_files(self, index: str) -> list[IndexPart]:
        """The files of an index, by the name that table ``indexes`` has."""
        return [IndexPart(self.path / INDEXES / index, "", is_built=True)]

    def index_parts(self, index: str, target: Target, *, anew: bool = False) -> list[IndexPart]:
        """The files of which such an index of the codes that a target has now is made; ``anew``: all are written."""
        return [IndexPart(self.path / INDEXES / index, target.digest)]

    def record_index(self, index: str, files: Sequence[tuple[IndexPart, int, str]]) -> None:
        """Say of which files an index is made, in the transaction that writes of it into table ``indexes``: each with
        its bytes and their SHA-256. Where there is but one, of a name that tells it, nothing need be said."""

    def versions(self) -> list[Version]:
        """The versions of a segmented atlas that there are now, ascending. `UsageError` for an atlas in tables."""
        raise UsageError(
            f"{self.path} keeps its codes in tables and has no versions; `polytope convert` makes a segmented one"
        )

    def file_faults(self) -> Iterator[tuple[str, str]]:
        """Names of the files of this version, and what is wrong with each or nothing; reads all of them. An atlas
        without versions has none that never change."""
        yield from ()

    # --- writing -----------------------------------------------------------------------------------------------

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append an Arrow table to a table of the schema, matching columns by name."""
        self._insert(table, rows.column_names, rows)

    def insert_stream(self, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
        """Append record batches, one at a time as they come, in their order; columns are matched by name.

        Batches of `ROW_GROUP_ROWS` rows, or of a multiple, are compressed side by side. What raises while a batch is
        made is raised here, and nothing is appended.
        """
        failure: list[BaseException] = []

        def kept() -> Iterator[pa.RecordBatch]:
            try:
                yield from batches
            except BaseException as error:
                failure.append(error)
                raise

        try:
            self._insert(table, schema.names, pa.RecordBatchReader.from_batches(schema, kept()))
        except duckdb.Error:
            if failure:  # DuckDB would only repeat its words
                raise failure[0] from None
            raise

    def _insert(self, table: str, names: Sequence[str], rows: pa.Table | pa.RecordBatchReader) -> None:
        if table not in self._tables:
            self._tables = self.tables()
            if table not in self._tables:
                raise UnknownName(f"no table {table!r}; the atlas has {', '.join(self._tables)}")
        columns = ", ".join(map(quoted, names))
        self._connection.register("appended_rows", rows)
        try:
            self.execute(f"insert into {quoted(table)} ({columns}) select {columns} from appended_rows")
        finally:
            self._connection.unregister("appended_rows")

    def expect_codes_of(self, n_bytes: int) -> None:
        """Set up for codes of up to ``n_bytes`` that are appended from now on: how they are compressed (see
        `FAST_WIDTH`), and the memory that a row group of them takes."""
        fast = n_bytes >= FAST_WIDTH
        self.execute(f"set disabled_compression_methods = '{'dict_fsst' if fast else ''}'")
        self.execute(f"set zstd_min_string_length = {FAST_WIDTH if fast else LONG_STRING}")
        # With less, a fifth of the row group spare, DuckDB gives up on codes of 100 kB that it could spill.
        self._needs(max(WRITER_BYTES, ROW_GROUP_ROWS * n_bytes * 5 // 4))

    def expect_inputs(self, n: int) -> None:
        """Set up for ``n`` inputs that are added from now on, or looked for among those that there are."""
        self._inputs = n + self.value("select count(*) from inputs")
        self._needs(WRITER_BYTES)

    def _needs(self, n_bytes: int) -> None:
        self.execute(f"set memory_limit = '{n_bytes + INPUT_BYTES * self._inputs}B'")

    def tables(self) -> list[str]:
        """Names of the base tables."""
        return [
            name
            for (name,) in self.rows(
                "select table_name from duckdb_tables() where not internal and not temporary order by table_oid"
            )
        ]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: whatever is written inside is committed at the end, or undone when an error leaves it."""
        self.execute("begin transaction")
        try:
            yield
            self.execute("commit")
        except BaseException:
            # A statement that failed for want of space has already ended the transaction, or even the connection.
            with suppress(duckdb.Error):
                self._connection.execute("rollback")
            raise
        finally:
            self._catalog = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """The transactions inside are one version of a segmented atlas, which is committed at the end; also where an
        error ends it, with those that were complete. Others see an atlas in tables once it is closed anyway."""
        yield

    # --- opening -----------------------------------------------------------------------------------------------

    def _check_version(self) -> None:
        try:
            version = self.value("select value from meta where key = 'schema_version'")
        except duckdb.CatalogException:
            raise NotAnAtlas(f"{self.path / DATABASE} is a DuckDB database, but not an atlas") from None
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{self.address} has schema version {version}; this polytope-atlas reads version "
                f"{SCHEMA_VERSION}. Ingest again, or use the release that wrote it (docs/FORMAT.md)"
            )

    def _leave_note(self) -> None:
        note = {
            "pid": os.getpid(),
            "command": " ".join(map(str, [Path(sys.argv[0]).name, *sys.argv[1:]])),
            "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        }
        with disk_full(self.path):
            (self.path / WRITER_NOTE).write_text(json.dumps(note), encoding="utf-8")


def connect(path: Path, writable: bool, limits: Limits | None) -> duckdb.DuckDBPyConnection:
    holder = _OPEN_WRITERS.get(_identity(path))
    try:
        if holder is not None and holder.written_by == os.getpid():
            raise duckdb.ConnectionException("written in this process")
        return _write(path / DATABASE) if writable else _read(path / DATABASE, limits)
    except (duckdb.ConnectionException, duckdb.ResourceInUseException):
        doing = "writing" if holder is not None else "reading"
        raise AtlasLocked(f"{path} is already open in this process, for {doing}; close it first") from None
    except duckdb.Error as error:
        if versions := re.search(r"version number (\d+), .* versions between (\d+) and (\d+)", str(error)):
            written, first, last = versions.groups()
            raise SchemaVersionError(
                f"{path / DATABASE} was written by another version of DuckDB, in storage version {written}; DuckDB "
                f"{duckdb.__version__} reads {first} to {last}. Install the one that wrote it (pip install duckdb), "
                "or ingest again"
            ) from None
        if "set lock on file" in str(error):
            raise AtlasLocked(_who_holds(path, str(error), writable)) from None
        with disk_full(path):
            if is_disk_full(error) or is_forbidden(error):
                raise
        raise damaged(path, error) from None


def _read(database: Path, limits: Limits | None) -> duckdb.DuckDBPyConnection:
    """A connection in the sandbox; with ``limits`` its configuration is not locked yet."""
    config: dict[str, Any] = dict(user_sql.SANDBOX)
    if limits is not None:
        config |= {"memory_limit": f"{limits.memory}B", "threads": str(limits.threads)}
    with OPENING:
        connection = duckdb.connect(str(database), read_only=True, config=config)
        # All that a process opens on one file share a database, which its first opening has closed off.
        [(locked,)] = connection.execute("select current_setting('lock_configuration')").fetchall()
        if not locked:
            user_sql.close_files(connection)
            if limits is None:
                user_sql.lock(connection)
    return connection


def _write(database: Path) -> duckdb.DuckDBPyConnection:
    """A connection that writes."""
    connection = duckdb.connect(config=WRITER_CONFIG)
    try:
        attach(connection, database)
    except BaseException:
        connection.close()
        raise
    return connection


def attach(connection: duckdb.DuckDBPyConnection, database: Path) -> None:
    """Let a connection write a database. The size of row groups can be said to ``attach`` alone."""
    connection.execute(f"set temp_directory = {_literal(f'{database}.tmp')}")
    connection.execute(f"attach {_literal(str(database))} as atlas (row_group_size {ROW_GROUP_ROWS})")
    connection.execute("use atlas")


def _literal(text: str) -> str:
    """A string as SQL writes it, where a statement takes no parameter."""
    return "'" + text.replace("'", "''") + "'"


def _identity(path: Path) -> str:
    return str(path.resolve())


def _who_holds(path: Path, message: str, writable: bool) -> str:
    found = re.search(r"PID (\d+)", message)
    holder = f"process {found.group(1)}" if found else "another process"
    note = read_note(path)
    if found and str(note.get("pid")) == found.group(1):
        holder += f" (`{note['command']}`, since {note['since']})"
        return f"{path} is being written by {holder}; wait until it has finished, or stop it, and try again"
    doing = "read or written" if writable else "written"
    return f"{path} is being {doing} by {holder}; wait until it has finished, or close it, and try again"


def read_note(path: Path) -> dict[str, Any]:
    if no_file(path / WRITER_NOTE) is not None:
        return {}
    try:
        note = json.loads((path / WRITER_NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # just removed, or just being written
        return {}
    return note if isinstance(note, dict) else {}
