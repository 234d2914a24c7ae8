"""The atlas on disk: the one place that imports duckdb.

A reader's connection is read-only and sandboxed from the start: no file, no network, no other database, and a
configuration that can't be changed. So a user's SQL needs no connection of its own. A writer holds the database
alone, for as long as it publishes; whoever is turned away meanwhile is told by whom.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, Int64, UInt8

from ..codes import SplineCodes, concatenate
from ..errors import (
    AtlasLocked,
    DamagedAtlas,
    DiskFull,
    NotAnAtlas,
    NotStored,
    SchemaVersionError,
    SqlFailed,
    SqlRefused,
    SqlTimeout,
    StoreError,
    UnknownName,
    UsageError,
)
from .catalog import Catalog, SiteRecord

Result = TypeVar("Result")

AskedElsewhere = Callable[[str, Sequence[Any] | dict[str, Any] | None, int | None, float | None], pd.DataFrame]
"""Runs a user's query as `Atlas.sql` does: query, parameters, row limit, timeout in seconds."""

SCHEMA_VERSION = "3"
DATABASE = "atlas.duckdb"
WRITER_NOTE = "writer.json"
BLOCK_ROWS = 8192  # codes fetched at a time: 3 MB of those of 3,072 gates
VECTOR_ROWS = 2048  # activations fetched at a time: DuckDB decodes no fewer, 25 MB of those of 3,072 units
BLOCK_SIZE = 65_536
"""Bytes of a block. DuckDB's default of 262,144 leaves a small atlas half empty and stores codes of 512 gates in 1.15
times their bytes; this needs 1.08 (measured on 100,000 random codes)."""

_SANDBOX = {
    "enable_external_access": "false",
    "lock_configuration": "true",
    "python_enable_replacements": "false",  # else `from df` would read the caller's variables
    # Of all that one process reads at a time: a query that needs more fails, and nothing else on the machine does.
    "memory_limit": "50%",
    "max_temp_directory_size": "10GB",
}
WRITER_BYTES = 256_000_000
# Publishing streams and spills: more memory would only be cache that grows with the data, more threads more buffers.
_WRITER = {"memory_limit": f"{WRITER_BYTES}B", "threads": "2"}
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
INTERRUPTED = "Query interrupted"  # DuckDB's RuntimeError where Python itself would raise KeyboardInterrupt
_QUERIES = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}

# DuckDB's sandbox leaves open the files of the database itself and the folder to which it spills, for reading and for
# writing. So what a query may call and contain is said here; what a later DuckDB brings is refused until it is added.
_TABLE_FUNCTIONS = {
    "generate_series",
    "json_each",
    "json_tree",
    "range",
    "repeat",
    "repeat_row",
    "summary",
    "test_all_types",
    "test_vector_types",
    "unnest",
    "duckdb_approx_database_count",
    "duckdb_available_metrics",
    "duckdb_columns",
    "duckdb_connection_count",
    "duckdb_constraints",
    "duckdb_coordinate_systems",
    "duckdb_databases",
    "duckdb_dependencies",
    "duckdb_dialects",
    "duckdb_eviction_queues",
    "duckdb_functions",
    "duckdb_grammar_extensions",
    "duckdb_indexes",
    "duckdb_keywords",
    "duckdb_memory",
    "duckdb_optimizers",
    "duckdb_prepared_statements",
    "duckdb_schemas",
    "duckdb_sequences",
    "duckdb_settings",
    "duckdb_table_sample",
    "duckdb_tables",
    "duckdb_triggers",
    "duckdb_types",
    "duckdb_variables",
    "duckdb_views",
    "icu_calendar_names",
    "pg_timezone_names",
    "pragma_collations",
    "pragma_database_size",
    "pragma_metadata_info",
    "pragma_platform",
    "pragma_show",
    "pragma_storage_info",
    "pragma_table_info",
    "pragma_user_agent",
    "pragma_version",
}
"""DuckDB's table functions that a query may call: those that compute, and those that tell what is in memory."""
_NODES = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
"""Parts of a parsed query that only read. A ``with`` may also hold a ``copy`` into a file."""

NEWS_WIDTH = 400
"""Characters of the database's words that an error repeats: it may echo the query, or list all that it knows."""
CANDIDATES = 3
"""Functions listed of those that were perhaps meant."""
_PLACE = re.compile(r"\n\s*LINE (\d+): ([^\n]*)\n( *)\^.*\Z", re.DOTALL)
_FUNCTIONS = re.compile(r"\A(.*\n\s*Candidate (?:functions|macros):)\n(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """What the database of a process that opens one atlas, once, may take: bytes of memory, the folder to which goes
    what does not fit, and threads. Such an atlas also knows how much of a user's query is done."""

    memory: int
    spill: Path
    threads: int


def open(path: str | Path, *, writable: bool = False, limits: Limits | None = None) -> Atlas:
    """Open an atlas, for reading unless ``writable``. Use it as a context manager.

    ``limits``, of a reader: in place of half of the machine's memory, and of a folder beside the database.
    Raises `NotAnAtlas`, `SchemaVersionError`, `AtlasLocked` or `DamagedAtlas`.
    """
    folder = Path(path)
    if not (folder / DATABASE).is_file():
        what = "is a folder without an atlas in it" if folder.is_dir() else "does not exist"
        raise NotAnAtlas(f"{folder} {what}; make an atlas with `polytope ingest {folder} …` or `polytope demo`")
    return Atlas(folder, writable=writable, limits=limits)


def create(path: str | Path, *, block_size: int = BLOCK_SIZE) -> Atlas:
    """Open the atlas for writing; make an empty one if the folder holds none yet. Raises as `open` and `make` do."""
    make(path, block_size=block_size)
    return open(path, writable=True)


def make(path: str | Path, *, block_size: int = BLOCK_SIZE) -> None:
    """Make an empty atlas unless the folder holds one. Nothing is locked, so that several workers can begin at once.

    ``block_size``: bytes of a block of the new database, a power of 2 from 16,384 to 262,144.
    Raises `NotAnAtlas` for a file, `DiskFull`, `StoreError` where nothing can be written.
    """
    folder = Path(path)
    if (folder / DATABASE).exists():
        return
    if folder.exists() and not folder.is_dir():
        raise NotAnAtlas(f"{folder} is a file; an atlas is a folder, give the name of one (it is made if need be)")
    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Elsewhere until its schema is complete, so that a kill in between leaves no half-made atlas.
        with tempfile.TemporaryDirectory(dir=folder, prefix="new-") as unfinished:
            database = Path(unfinished) / DATABASE
            with duckdb.connect(str(database), config={"default_block_size": block_size}) as connection:
                connection.execute((Path(__file__).parents[1] / "schema.sql").read_text(encoding="utf-8"))
                connection.execute("insert into meta values ('schema_version', ?)", [SCHEMA_VERSION])
                connection.execute("checkpoint")  # closing would do it too, and keep silent where it fails
            if not (folder / DATABASE).exists():
                database.rename(folder / DATABASE)


class Atlas:
    """An open atlas. `atlas.open` and `atlas.create` make one."""

    def __init__(self, path: Path, *, writable: bool, limits: Limits | None = None) -> None:
        self.path = path
        self.writable = writable
        self.elsewhere: AskedElsewhere | None = None
        self._limits = limits
        self._pid = os.getpid()
        self._connection = _connect(path, writable, limits)
        if writable:
            _OPEN_WRITERS[_identity(path)] = self
        self._statements = ThreadPoolExecutor(max_workers=1)
        self._kept: dict[Hashable, Any] = {}
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._interrupted = False
        self._user: duckdb.DuckDBPyConnection | None = None
        try:
            if limits is not None:
                self._user = self._cursor_that_counts()
            self._check_version()
            if writable:
                self._leave_note()
            self.catalog = Catalog(self)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Atlas:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database. Closing twice is allowed."""
        if self.writable:
            with suppress(OSError):  # the note only explains: no reason to fail
                (self.path / WRITER_NOTE).unlink(missing_ok=True)
            _OPEN_WRITERS.pop(_identity(self.path), None)
        self._kept.clear()
        self._connection.close()
        self._statements.shutdown(wait=False)

    def interrupt(self) -> None:
        """From another thread: end what runs with `KeyboardInterrupt`, and any statement begun after it."""
        self._interrupted = True
        for connection in list(self._running):
            connection.interrupt()

    def keep(self, key: Hashable, look_up: Callable[[], Result]) -> Result:
        """What ``look_up`` returns, asked once for as long as the atlas is open for reading.

        Nobody writes to it meanwhile: DuckDB's lock sees to that. A writer looks up anew each time.
        """
        if self.writable:
            return look_up()
        if key not in self._kept:
            self._kept[key] = look_up()
        found: Result = self._kept[key]
        return found

    # --- a user's SQL ------------------------------------------------------------------------------------------

    def sql(
        self,
        query: str,
        parameters: Sequence[Any] | dict[str, Any] | None = None,
        *,
        row_limit: int | None = None,
        timeout: float | None = None,
    ) -> pd.DataFrame:
        """Run one query (select, with, from, describe, summarize, explain) and return its rows.

        ``row_limit`` rows at most are fetched; ``frame.attrs["truncated"]`` says whether there were more.
        ``timeout`` in seconds. DuckDB looks at the clock between two vectors of rows: what takes long within one, as
        ``len(range(40000000))`` does, is `SqlTimeout` only once it has come to its end. Raises `SqlRefused` for
        anything that is not a query or leaves the sandbox, `SqlFailed` with the database's message in one line,
        `SqlTimeout`.

        Where the attribute ``elsewhere`` is set, the query is handed to that instead.
        """
        if row_limit is not None and row_limit <= 0:
            raise UsageError(f"row_limit is {row_limit}; it must be at least 1")
        if timeout is not None and timeout <= 0:
            raise UsageError(f"timeout is {timeout} s; it must be positive")
        if self.elsewhere is not None:
            return self.elsewhere(query, parameters, row_limit, timeout)
        cursor = self._user or self._connection.cursor()
        try:
            self._check_is_query(query)
            with _interrupted_after(cursor, timeout) as timed_out:
                try:
                    frame = self._stoppable(cursor, lambda: _fetch(cursor.sql(query, params=parameters), row_limit))
                    if timed_out.is_set():
                        raise took_too_long(timeout)
                except duckdb.InterruptException:
                    if not timed_out.is_set():
                        raise KeyboardInterrupt from None
                    raise took_too_long(timeout) from None
                except duckdb.PermissionException as error:
                    raise _outside(_first_line(error)) from None
                except (duckdb.OutOfMemoryException, MemoryError):
                    raise too_much_memory(self._limits) from None
                except duckdb.Error as error:
                    raise _failed(error, query) from None
        finally:
            if cursor is not self._user:
                cursor.close()
        return frame

    def check_condition(self, table: str, condition: str) -> None:
        """Raise `SqlRefused` unless a user's SQL is one condition on the rows of a table: what closes the parenthesis
        around it to go on with ``union`` or ``limit`` is none, although the database would take it.

        Raises `SqlFailed`, with the database's message, for what is no SQL.
        """

        def parsed(before: str, condition: str) -> dict[str, Any]:
            return self._parsed(f"select 1 from {quoted(table)} where {before}(\n{condition}\n)")

        try:
            given, plain = parsed("", condition), parsed("", "true")
            # Alone, because ``coalesce`` is grammar, which nothing can follow: no ``over``, ``filter`` or alias.
            alone = parsed("coalesce", condition)
        except RecursionError:
            raise SqlRefused("that condition is nested too deeply to be checked; write a flatter one") from None
        if given["error"]:
            raise _unparsed(given)
        expected, found, _ = map(_conditions_of, (given, alone, plain))
        one = [(part.get("type"), part.get("children")) for part in found]
        if one != [("OPERATOR_COALESCE", [part]) for part in expected] or not given == alone == plain:
            raise SqlRefused("that is not one condition; give what can stand alone after `where`, without parameters")

    def done(self) -> float | None:
        """Share of the user's query that is done, from 0 to 1, as far as the database knows it. From any thread."""
        percent = -1.0 if self._user is None else self._user.query_progress()
        return None if percent < 0 else min(percent / 100, 1.0)

    def _check_is_query(self, query: str) -> None:
        """Raise `SqlRefused` unless a user's SQL is one query, which reads and calls nothing that it may not.

        DuckDB's own parser says what is in it: what looks like a call may be an alias, a string or a comment.
        """
        cursor = self._connection.cursor()  # for a query that runs beside this, the connection's would be lost
        try:
            try:
                statements = cursor.extract_statements(query)
            except duckdb.Error as error:
                raise _failed(error, query) from None
            if len(statements) != 1:
                raise SqlRefused(f"one query at a time, got {len(statements)} statements")
            if statements[0].type == duckdb.StatementType.MULTI:
                raise SqlRefused(
                    "one query at a time, and a pivot that looks up its columns takes two; "
                    "list them, as in `on label in ('a', 'b')`"
                )
            if statements[0].type not in _QUERIES:
                raise _no_query(_first_word(query))
            if statements[0].type == duckdb.StatementType.EXPLAIN:
                query = _what_is_explained(cursor, query)
            tree = _serialized(cursor, query)
        finally:
            cursor.close()
        if tree.startswith('{"error":true'):
            raise _unparsed(json.loads(tree))
        # As text, because a sum of hundreds is nested deeper than Python reads. Inside of a string quotes are
        # escaped, so nothing that a user writes looks like a key.
        types = _values("type", tree)
        for node in sorted(types):
            if node.endswith("_NODE") and node not in _NODES:
                raise _no_query(node.removesuffix("_NODE").removesuffix("_QUERY"))
        for name in sorted(_values("table_name", tree) - _values("key", tree)):  # the latter: named in a ``with``
            if os.sep in name or name.endswith(Path(DATABASE).suffix):
                raise _outside(f"{name} is a file")
        if "TABLE_FUNCTION" in types:
            for name in sorted(_values("function_name", tree)):
                if name.lower() not in _TABLE_FUNCTIONS and name.lower() in self._table_functions():
                    raise _outside(f"the function {name} is none that a query may call")

    def _table_functions(self) -> frozenset[str]:
        """Names of all of DuckDB's; a name that is none of them is a macro, or a mistake that DuckDB explains."""
        query = "select distinct lower(function_name) from duckdb_functions() where function_type = 'table'"
        return self.keep("table functions", lambda: frozenset(name for (name,) in self.rows(query)))

    def _parsed(self, query: str) -> dict[str, Any]:
        """A query as DuckDB's parser sees it, without the places in its text."""

        def without_places(part: dict[str, Any]) -> dict[str, Any]:
            return {key: value for key, value in part.items() if not key.startswith("query_location")}

        tree = self.value("select json_serialize_sql($1)", [query])
        found: dict[str, Any] = json.loads(tree, object_hook=without_places)
        return found

    def _cursor_that_counts(self) -> duckdb.DuckDBPyConnection:
        """For a user's queries; what it counts can be asked for only before the configuration is locked."""
        cursor = self._connection.cursor()
        cursor.execute("set enable_progress_bar = true")
        cursor.execute("set enable_progress_bar_print = false")
        cursor.execute("set lock_configuration = true")
        return cursor

    # --- our own SQL -------------------------------------------------------------------------------------------

    def frame(self, query: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The rows of one of our own queries."""
        return self._run(lambda connection: connection.execute(query, list(parameters)).df())

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._run(lambda connection: connection.execute(query, list(parameters)).fetchall())

    def records(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows as dictionaries, column name to value."""

        def fetch(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
            cursor = connection.execute(query, list(parameters))
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return self._run(fetch)

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        """The single value of a query that has one row and one column."""
        # All of them: a result that is not exhausted would block the next query of a writer.
        found = self.rows(query, parameters)
        return found[0][0] if found else None

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that writes. A full disk is `DiskFull`."""
        self._run(lambda connection: connection.execute(statement, list(parameters)))

    def columns(self, query: str, parameters: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """The columns of one of our own queries, by name."""
        found = self._run(lambda connection: connection.execute(query, list(parameters)).fetchnumpy())
        return {name: np.asarray(column) for name, column in found.items()}

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
        if table not in self.tables():
            raise UnknownName(f"no table {table!r}; the atlas has {', '.join(self.tables())}")
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
        self.execute(f"set memory_limit = '{max(WRITER_BYTES, ROW_GROUP_ROWS * n_bytes * 5 // 4)}B'")

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
                self.catalog = Catalog(self)
            raise
        self.catalog = Catalog(self)

    # --- blocks of codes and activations -----------------------------------------------------------------------

    def code_blocks(self, site: SiteRecord, rows: int = BLOCK_ROWS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Example ids (int64) and packed codes (uint8, rows × bytes) of a site in order of id, block by block.

        A block holds at most ``rows`` codes.
        """
        query = (
            "select example_id, cast(code as blob) as code from codes "
            "where site_id = $1 and example_id between $2 and $3 order by example_id"
        )
        for first in self._block_starts("codes", site, rows):
            for batch in self._batches(query, [site.site_id, first, first + rows - 1], rows):
                yield _int64(batch.column("example_id")), _packed(batch.column("code"), site)

    def activation_blocks(self, site: SiteRecord) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Example ids (int64) and activations (float32, rows × units) of a site in order of id, block by block."""
        rows = activation_block_rows(site.n_parts)
        for first in self._block_starts("activations", site, rows):
            ids, values = self._whole_activations(site, "between $2 and $3", [first, first + rows - 1])
            if len(ids):
                yield ids, values

    def codes(
        self, sites: Sequence[SiteRecord], examples: Sequence[int] | np.ndarray | None = None
    ) -> tuple[Int64[np.ndarray, " codes"], SplineCodes]:
        """Codes of one site, or of a span's sites in order, with the example ids they belong to.

        Without ``examples``: of all examples that have a code at every one of the sites, in order of id. With: of
        those, in the order given; `UnknownName` if one has no code there.
        """
        wanted = None if examples is None else np.asarray(examples, dtype=np.int64)
        read = [self._site_codes(site, wanted) for site in sites]
        if wanted is None:
            common = read[0][0]
            for ids, _ in read[1:]:
                common = np.intersect1d(common, ids, assume_unique=True)
        else:
            common = wanted
        parts = []
        for site, (ids, codes) in zip(sites, read, strict=True):
            order = np.searchsorted(ids, common)
            found = order < len(ids)
            found[found] = ids[order[found]] == common[found]
            if not found.all():
                raise UnknownName(
                    f"example {common[~found][0]} has no code at site {site.name} of network "
                    f"{site.network}; `polytope info` says which examples a site holds"
                )
            parts.append(codes[order])
        return common, concatenate(parts)

    def activations(
        self, site: SiteRecord, examples: Sequence[int] | np.ndarray | None = None
    ) -> tuple[Int64[np.ndarray, " examples"], Float32[np.ndarray, "examples units"]]:
        """Activations of a site and their example ids; of all examples in order of id, or of those given, in order.

        Raises `NotStored` if the site stores none, or none of one of the examples.
        """
        if site.n_activations == 0:
            raise NotStored(
                f"no activations are stored for site {site.name} of network {site.network}; "
                "ingest with --store-activations"
            )
        if examples is None:
            blocks = list(self.activation_blocks(site))
        else:
            wanted_ids = [[int(example) for example in examples]]
            blocks = [self._whole_activations(site, "in (select unnest($2::uinteger[]))", wanted_ids)]
        ids = np.concatenate([ids for ids, _ in blocks]) if blocks else np.empty(0, np.int64)
        values = np.concatenate([x for _, x in blocks]) if blocks else np.empty((0, site.n_units), np.float32)
        if examples is None:
            return ids, values
        wanted = np.asarray(examples, dtype=np.int64)
        missing = np.setdiff1d(wanted, ids)
        if len(missing):
            raise NotStored(f"example {missing[0]} has no activation at site {site.name} of network {site.network}")
        return wanted, values[np.searchsorted(ids, wanted)]

    def codes_digest(self, site: SiteRecord) -> tuple[int, str]:
        """Number of codes of a site and the SHA-256 over (example id as int64, packed code) in order of id."""
        digest, count = hashlib.sha256(), 0
        for ids, packed in self.code_blocks(site):
            digest.update(ids.data)
            digest.update(packed.data)
            count += len(ids)
        return count, digest.hexdigest()

    def activations_digest(self, site: SiteRecord) -> tuple[int, str | None]:
        """The same over (example id as int64, activation as float32); None where nothing is stored."""
        digest, count = hashlib.sha256(), 0
        for ids, values in self.activation_blocks(site):
            digest.update(ids.data)
            digest.update(values.data)
            count += len(ids)
        return count, digest.hexdigest() if count else None

    def _site_codes(self, site: SiteRecord, wanted: np.ndarray | None) -> tuple[np.ndarray, SplineCodes]:
        if wanted is None:
            blocks = list(self.code_blocks(site))
        else:
            query = (
                "select example_id, cast(code as blob) as code from codes "
                "where site_id = $1 and example_id in (select unnest($2::uinteger[])) order by example_id"
            )
            parameters = [site.site_id, [int(example) for example in np.unique(wanted)]]
            blocks = [
                (_int64(batch.column("example_id")), _packed(batch.column("code"), site))
                for batch in self._batches(query, parameters, BLOCK_ROWS)
            ]
        ids = np.concatenate([ids for ids, _ in blocks]) if blocks else np.empty(0, np.int64)
        packed = np.concatenate([x for _, x in blocks]) if blocks else np.empty((0, site.n_bytes), np.uint8)
        return ids, SplineCodes(packed, (site.n_gates,))

    def _whole_activations(
        self, site: SiteRecord, which: str, parameters: list[Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and activations of the examples ``which`` says, in order of id, put together from their parts."""
        query = (
            "select example_id, part, activation from activations "
            f"where site_id = $1 and example_id {which} order by example_id, part"
        )
        ids, values = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for batch in self._batches(query, [site.site_id, *parameters], VECTOR_ROWS):
            ids.append(_int64(batch.column("example_id"))[_int64(batch.column("part")) == 0])
            flat = batch.column("activation").flatten().to_numpy(zero_copy_only=False)
            values.append(flat.astype(np.float32, copy=False))
        found, numbers = np.concatenate(ids), np.concatenate(values)
        if len(numbers) != len(found) * site.n_units:
            raise DamagedAtlas(
                f"site {site.name} of network {site.network} has {site.n_units} units, but {len(found)} activations "
                f"hold {len(numbers)} numbers; `polytope verify` says where"
            )
        return found, numbers.reshape(len(found), site.n_units)

    def _block_starts(self, table: str, site: SiteRecord, rows: int) -> range:
        """First ids of blocks of ``rows`` ids. To sort a block at a time takes the memory of a block; rows lie nearly
        in order of id, so little is read twice."""
        query = f"select min(example_id), max(example_id) from {quoted(table)} where site_id = $1"
        [(first, last)] = self.rows(query, [site.site_id])
        return range(0) if first is None else range(first, last + 1, rows)

    def _batches(self, query: str, parameters: list[Any], rows: int) -> Iterator[pa.RecordBatch]:
        # An own cursor, so that a reader that is not yet exhausted survives the next query.
        cursor = self._connection if self.writable else self._connection.cursor()
        self._running.add(cursor)
        try:
            with self._explained():
                self._go_on()
                for batch in cursor.sql(query, params=parameters).to_arrow_reader(rows):
                    self._go_on()
                    yield batch
        except (OSError, duckdb.Error):  # Arrow's reader and DuckDB's statement, which were interrupted
            self._go_on()
            raise
        finally:
            self._running.discard(cursor)

    def _go_on(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def _run(self, work: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        """Run a statement of our own."""
        with self._explained():
            return self._stoppable(self._connection, lambda: work(self._connection))

    def _stoppable(self, connection: duckdb.DuckDBPyConnection, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, which runs a statement on ``connection``; Ctrl-C stops it.

        DuckDB doesn't look for signals while it fetches, and Python can't raise while it waits in there: so the main
        thread, which alone gets them, waits for another.
        """
        self._running.add(connection)
        try:
            self._go_on()
            return self._awaited(connection, work)
        finally:
            self._running.discard(connection)

    def _awaited(self, connection: duckdb.DuckDBPyConnection, work: Callable[[], Result]) -> Result:
        if threading.current_thread() is not threading.main_thread():
            return work()
        running = self._statements.submit(work)
        try:
            return running.result()
        except KeyboardInterrupt:
            while not running.done():  # what comes before the statement has begun is lost
                connection.interrupt()
                wait([running], timeout=0.05)
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Our own statements are right, so what they fail of is the disk, the file or Ctrl-C."""
        try:
            with disk_full(self.path):
                yield
        except RuntimeError as error:
            if str(error) == INTERRUPTED:
                raise KeyboardInterrupt from None
            raise
        except duckdb.Error as error:
            if _is_damage(error):
                raise _damaged(self.path, error) from None
            raise

    # --- opening -----------------------------------------------------------------------------------------------

    def _check_version(self) -> None:
        try:
            version = self.value("select value from meta where key = 'schema_version'")
        except duckdb.CatalogException:
            raise NotAnAtlas(f"{self.path / DATABASE} is a DuckDB database, but not an atlas") from None
        if version != SCHEMA_VERSION:
            raise SchemaVersionError(
                f"{self.path} has schema version {version}; this polytope-atlas reads version "
                f"{SCHEMA_VERSION}. Ingest again, or use the release that wrote it"
            )

    def _leave_note(self) -> None:
        note = {
            "pid": os.getpid(),
            "command": " ".join(map(str, [Path(sys.argv[0]).name, *sys.argv[1:]])),
            "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        }
        with disk_full(self.path):
            (self.path / WRITER_NOTE).write_text(json.dumps(note), encoding="utf-8")


def activation_block_rows(n_parts: int) -> int:
    """Ids in a block of activations of so many parts."""
    return max(1, VECTOR_ROWS // n_parts)


def _connect(path: Path, writable: bool, limits: Limits | None) -> duckdb.DuckDBPyConnection:
    holder = _OPEN_WRITERS.get(_identity(path))
    try:
        if holder is not None and holder._pid == os.getpid():
            raise duckdb.ConnectionException("written in this process")
        return _attach(path / DATABASE) if writable else _read(path / DATABASE, limits)
    except (duckdb.ConnectionException, duckdb.ResourceInUseException):
        doing = "writing" if holder is not None else "reading"
        raise AtlasLocked(f"{path} is already open in this process, for {doing}; close it first") from None
    except duckdb.Error as error:
        if "set lock on file" in str(error):
            raise AtlasLocked(_who_holds(path, str(error), writable)) from None
        with disk_full(path):
            if _is_disk_full(error) or _is_forbidden(error):
                raise
        raise _damaged(path, error) from None


def _read(database: Path, limits: Limits | None) -> duckdb.DuckDBPyConnection:
    config: dict[str, Any] = dict(_SANDBOX)
    if limits is not None:
        config |= {
            "memory_limit": f"{limits.memory}B",
            "temp_directory": str(limits.spill),
            "threads": str(limits.threads),
        }
        del config["lock_configuration"]  # `Atlas._cursor_that_counts` locks it
    return duckdb.connect(str(database), read_only=True, config=config)


def _attach(database: Path) -> duckdb.DuckDBPyConnection:
    """A connection that writes. The size of row groups can be said to ``attach`` alone."""
    connection = duckdb.connect(config={**_WRITER, "temp_directory": f"{database}.tmp"})
    try:
        connection.execute(f"attach {_literal(str(database))} as atlas (row_group_size {ROW_GROUP_ROWS})")
        connection.execute("use atlas")
    except BaseException:
        connection.close()
        raise
    return connection


def _literal(text: str) -> str:
    """A string as SQL writes it, where a statement takes no parameter."""
    return "'" + text.replace("'", "''") + "'"


def _identity(path: Path) -> str:
    return str(path.resolve())


def _who_holds(path: Path, message: str, writable: bool) -> str:
    found = re.search(r"PID (\d+)", message)
    holder = f"process {found.group(1)}" if found else "another process"
    note = _read_note(path)
    if found and str(note.get("pid")) == found.group(1):
        holder += f" (`{note['command']}`, since {note['since']})"
        return f"{path} is being written by {holder}; wait until it has finished, or stop it, and try again"
    doing = "read or written" if writable else "written"
    return f"{path} is being {doing} by {holder}; wait until it has finished, or close it, and try again"


def _read_note(path: Path) -> dict[str, Any]:
    try:
        note = json.loads((path / WRITER_NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # just removed, or just being written
        return {}
    return note if isinstance(note, dict) else {}


def took_too_long(seconds: float | None) -> SqlTimeout:
    return SqlTimeout(
        f"the query ran longer than {seconds:g} s and was stopped; narrow it with where or limit, or raise the time "
        "limit"
    )


def too_much_memory(limits: Limits | None) -> SqlFailed:
    allowed = (
        "half of this machine's, which is what reading an atlas may take"
        if limits is None
        else f"the {limits.memory / 1e9:.1f} GB that a query may take here"
    )
    return SqlFailed(
        f"the query needs more memory than {allowed}; narrow it with where or limit, or aggregate in steps"
    )


def _conditions_of(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions of a parsed query, taken out of it: one a statement, none where it is no SQL."""
    return [statement["node"].pop("where_clause", None) or {} for statement in tree.get("statements", [])]


def _what_is_explained(cursor: duckdb.DuckDBPyConnection, query: str) -> str:
    """The query of an ``explain``, which DuckDB doesn't take apart: the first rest of it that is a statement.

    Raises `SqlRefused` for one of another statement.
    """
    text = query.encode()  # as the places of tokens count
    first, *others = [place for place, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment]
    for place in others:
        # DuckDB's tokens run on over spaces outside of ASCII, its parser doesn't, and would see another statement.
        if not text[first:place].isascii():
            break
        rest = text[place:].decode()
        try:
            statements = cursor.extract_statements(rest)
        except duckdb.Error:
            continue
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise _no_query(_first_word(rest))
        return rest
    raise SqlRefused("explain what? start with explain or explain analyze, and go on with one query")


def _serialized(cursor: duckdb.DuckDBPyConnection, query: str) -> str:
    """A query as DuckDB's parser sees it, in JSON."""
    try:
        [[tree]] = cursor.execute("select json_serialize_sql($1)", [query]).fetchall()
    except duckdb.Error as error:
        raise _failed(error, query) from None
    return str(tree)


def _values(key: str, tree: str) -> set[str]:
    """The strings that are called so anywhere in DuckDB's JSON."""
    return {json.loads(value) for value in set(re.findall(rf'"{key}":("[^"\\]*(?:\\.[^"\\]*)*")', tree))}


def _first_word(query: str) -> str:
    text = query.encode()
    places = [place for place, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment]
    word = re.match(r"\w+", text[places[0] :].decode()) if places else None
    return word.group() if word else "that"


def _no_query(what: str) -> SqlRefused:
    return SqlRefused(
        f"SQL on an atlas is read-only: {what.upper()} is not a query; "
        "start with select, with, from, describe, summarize or explain"
    )


def _outside(why: str) -> SqlRefused:
    return SqlRefused(f"SQL on an atlas reads its own tables only, no files or network: {why}")


def _unparsed(tree: dict[str, Any]) -> SqlFailed:
    return _failed(f"{str(tree['error_type']).title()} Error: {tree['error_message']}")


def _failed(error: duckdb.Error | str, query: str = "") -> SqlFailed:
    """The database's message as one short paragraph: what is wrong, what was perhaps meant, and where in the query.

    DuckDB echoes the line, with a caret below, and lists all functions that could have been meant.
    """
    text = str(error)
    place = _PLACE.search(text)
    text = text[: place.start()] if place else text
    # Advice on a setting helps nobody: a user's query can't change any.
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith('Use "SET ')]
    if listed := _FUNCTIONS.match("\n".join(lines)):
        head, functions = listed.group(1).split("\n"), listed.group(2).split("\n")
        lines = [*head, "; ".join(functions[:CANDIDATES]) + ("; …" if len(functions) > CANDIDATES else "")]
    words = " ".join(lines)
    if len(words) > NEWS_WIDTH:
        words = words[:NEWS_WIDTH].rsplit(" ", 1)[0] + " …"
    if place is None:
        return SqlFailed(words)
    number, line, indent = place.groups()
    if line.strip(". ") not in "".join(query.split("\n")[int(number) - 1 : int(number)]):
        return SqlFailed(words)  # a line of what we made of the query
    # Of a long line DuckDB echoes a part, which starts with dots.
    column = len(indent) - len(f"LINE {number}: ") + 1
    where = f"line {number}" if line.startswith("...") else f"line {number}, column {column}"
    return SqlFailed(f"{words} ({where})")


def _fetch(rows: duckdb.DuckDBPyRelation, row_limit: int | None) -> pd.DataFrame:
    # pandas has no type for bits: as text they read like the codes that `nearest` takes. Columns go by number,
    # because a user's query may give two of them the same name.
    readable = rows.project(
        ", ".join(
            f"{f'cast(#{place} as varchar)' if kind == 'BIT' else f'#{place}'} as {quoted(name)}"
            for place, (name, kind) in enumerate(zip(rows.columns, rows.types, strict=True), start=1)
        )
    )
    if row_limit is None:
        return readable.df()
    fetched = readable.limit(row_limit + 1).df()
    frame = fetched.iloc[:row_limit].reset_index(drop=True)
    frame.attrs["truncated"] = len(fetched) > row_limit
    return frame


@contextmanager
def _interrupted_after(cursor: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[threading.Event]:
    timed_out = threading.Event()

    def stop() -> None:
        timed_out.set()
        cursor.interrupt()

    timer = threading.Timer(seconds, stop) if seconds is not None else None
    if timer:
        timer.start()
    try:
        yield timed_out
    finally:
        if timer:
            timer.cancel()


def quoted(name: str) -> str:
    """A table or column name as SQL writes it; the one way a name gets into a statement. Values are bound."""
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def disk_full(path: Path) -> Iterator[None]:
    """Turn a full disk, whoever notices it, into `DiskFull`, and one that can't be written into `StoreError`."""
    try:
        yield
    except (duckdb.Error, OSError) as error:
        if _is_forbidden(error):
            raise StoreError(
                f"{path} can't be written ({_first_line(error)}); make it writable for you, or give another folder"
            ) from error
        if _is_disk_full(error):
            raise DiskFull(
                f"no space left on the device that holds {path}; free some and give the same command "
                "again: what was complete is kept"
            ) from error
        raise


def _is_disk_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error)


def _is_forbidden(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    return any(os.strerror(code) in str(error) for code in (errno.EACCES, errno.EPERM, errno.EROFS))


def _is_damage(error: duckdb.Error) -> bool:
    known = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)
    return isinstance(error, known) or "Corrupt database file" in str(error)


def _damaged(path: Path, error: duckdb.Error) -> DamagedAtlas:
    return DamagedAtlas(
        f"{path / DATABASE} can't be read as a database ({_first_line(error)}); "
        "restore it from a backup, or ingest again into a new folder"
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0]


def _int64(column: pa.Array) -> Int64[np.ndarray, " rows"]:
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def _packed(column: pa.Array, site: SiteRecord) -> UInt8[np.ndarray, "rows bytes"]:
    """Rows of equal width lie end to end in Arrow's buffer: no copy a row."""
    offsets = np.frombuffer(column.buffers()[1], dtype=_offset_type(column))[column.offset :][: len(column) + 1]
    if (np.diff(offsets) != site.n_bytes).any():
        raise DamagedAtlas(
            f"site {site.name} of network {site.network} has {site.n_gates} gates ({site.n_bytes} "
            "bytes), but holds codes of another width; `polytope verify` says which"
        )
    if len(column) == 0:
        return np.empty((0, site.n_bytes), np.uint8)
    data = np.frombuffer(column.buffers()[2], dtype=np.uint8)
    return data[offsets[0] : offsets[-1]].reshape(len(column), site.n_bytes)


def _offset_type(column: pa.Array) -> type[np.int32] | type[np.int64]:
    large = pa.types.is_large_binary(column.type) or pa.types.is_large_list(column.type)
    return np.int64 if large else np.int32
