"""Our own SQL statements on one connection: they can be stopped, and they say what is wrong with the atlas."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import DamagedAtlas, StoreError
from .disk import disk_full, first_line
from .names import grouped, read_names, read_tags

Result = TypeVar("Result")

DATABASE = "atlas.duckdb"
INTERRUPTED = "Query interrupted"  # DuckDB's RuntimeError where Python itself would raise KeyboardInterrupt


class Statements:
    """Runs statements on a connection to the database of the atlas at ``path``.

    Every method raises `DamagedAtlas` where the database can't be read, `DiskFull` where there is no space left, and
    `KeyboardInterrupt` after `interrupt` or Ctrl-C.
    """

    def __init__(self, path: Path, connection: duckdb.DuckDBPyConnection, *, writable: bool) -> None:
        self.path = path
        self.writable = writable
        self._connection = connection
        self._waited_for = ThreadPoolExecutor(max_workers=1)
        self._running: set[duckdb.DuckDBPyConnection] = set()
        self._interrupted = False
        self.columns_of_tables: dict[str, list[tuple[str, str]]] = {}
        """Names and types, once a digest has asked for them."""

    @property
    def address(self) -> str:
        """Its folder, or where else it lies, as `atlas.open` takes it."""
        return str(self.path)

    def close(self) -> None:
        """Let go of the database. Closing twice is allowed."""
        self._connection.close()
        self._waited_for.shutdown(wait=False)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """Another connection to the same database, for a statement beside others."""
        return self._connection.cursor()

    def interrupt(self) -> None:
        """From another thread: end what runs with `KeyboardInterrupt`, and any statement begun after it."""
        self._interrupted = True
        for connection in list(self._running):
            connection.interrupt()

    # --- results in various forms ------------------------------------------------------------------------------

    def frame(self, query: str, parameters: Sequence[Any] = ()) -> pd.DataFrame:
        """The rows of a query as a data frame."""
        return self._run(lambda connection: self._execute(connection, query, parameters).df())

    def rows(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of a query as tuples."""
        return self._run(lambda connection: self._execute(connection, query, parameters).fetchall())

    def records(self, query: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """The rows of a query as dictionaries, column name to value."""

        def fetch(connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
            cursor = self._execute(connection, query, parameters)
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        return self._run(fetch)

    def value(self, query: str, parameters: Sequence[Any] = ()) -> Any:
        """The single value of a query that has one row and one column."""
        # All of them: a result that is not exhausted would block the next query of a writer.
        rows = self.rows(query, parameters)
        return rows[0][0] if rows else None

    def columns(self, query: str, parameters: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """The columns of a query, by name."""
        columns = self._run(lambda connection: self._execute(connection, query, parameters).fetchnumpy())
        return {name: np.asarray(column) for name, column in columns.items()}

    def batches(self, query: str, parameters: Sequence[Any], rows: int) -> Iterator[pa.RecordBatch]:
        """The rows of a query as Arrow batches of up to ``rows``, fetched as they are asked for."""
        # A cursor, so that a reader that is not yet exhausted survives the next query.
        cursor = self._connection if self.writable else self._cursor()
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

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement that writes."""
        self._run(lambda connection: connection.execute(statement, list(parameters)))

    def _execute(
        self, connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any]
    ) -> duckdb.DuckDBPyConnection:
        if "cluster_names" in query or "named_clusters" in query:
            self.show_written(connection)
        return connection.execute(query, list(parameters))

    def show_written(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Let views ``cluster_names`` and ``tags`` show on a connection what people have written until now."""
        names = json.dumps([asdict(name) for name in read_names(self.path)])
        connection.execute("set variable cluster_names = $1", [names])
        connection.execute("set variable tags = $1", [json.dumps(grouped(read_tags(self.path)))])

    # --- running and stopping ----------------------------------------------------------------------------------

    def _run(self, work: Callable[[duckdb.DuckDBPyConnection], Result]) -> Result:
        with self._explained():
            return self.stoppable(self._connection, lambda: work(self._connection))

    def stoppable(self, connection: duckdb.DuckDBPyConnection, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, which runs a statement on ``connection``; Ctrl-C stops it.

        DuckDB doesn't look for signals while it fetches, and Python can't raise while it waits in there: so the main
        thread, which alone gets them, waits for another.
        """
        self._running.add(connection)
        try:
            self._go_on()
            if threading.current_thread() is not threading.main_thread():
                return work()
            running = self._waited_for.submit(work)
            try:
                return running.result()
            except KeyboardInterrupt:
                while not running.done():  # what comes before the statement has begun is lost
                    connection.interrupt()
                    wait([running], timeout=0.05)
                raise
        finally:
            self._running.discard(connection)

    def _go_on(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

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
        except duckdb.OutOfMemoryException as error:
            raise StoreError(
                f"{self.address} needs more memory than one of its rows, or what is done at once, may take "
                f"({first_line(error)}); of what is ingested, --max-input-mb and --max-label bound a row"
            ) from None
        except duckdb.InterruptException:
            raise KeyboardInterrupt from None
        except duckdb.Error as error:
            if _is_damage(error):
                raise self._damaged(error) from None
            raise

    def _damaged(self, error: duckdb.Error) -> DamagedAtlas:
        return damaged(self.path, error)


_SAID_OF_DAMAGE = ("corrupt", "invalid unicode")
"""By errors of other kinds, which a wrong statement would raise as well."""


def _is_damage(error: duckdb.Error) -> bool:
    known = (duckdb.IOException, duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)
    return isinstance(error, known) or any(said in str(error).lower() for said in _SAID_OF_DAMAGE)


def damaged(path: Path, error: duckdb.Error) -> DamagedAtlas:
    """What to raise where the database of the atlas at ``path`` can't be read."""
    return DamagedAtlas(
        f"{path / DATABASE} can't be read as a database ({first_line(error)}); "
        "restore it from a backup, or ingest again into a new folder"
    )


def quoted(name: str) -> str:
    """A table or column name as SQL writes it; the one way a name gets into a statement. Values are bound."""
    return '"' + name.replace('"', '""') + '"'
