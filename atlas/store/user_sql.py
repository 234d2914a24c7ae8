"""One read-only query of a user: what it may do, how long it may take, and how its failure is told.

DuckDB itself closes what a query could reach: the database is opened read-only, and once it is open no file can be
opened any more (``disabled_filesystems``), not even the database's own; nothing is loaded, and no setting changed.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import duckdb
import pandas as pd

from ..errors import SqlFailed, SqlRefused, SqlTimeout
from . import sql_mistakes
from .disk import first_line
from .exact_rows import fetch
from .statements import Statements, quoted

QUERIES = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}

SANDBOX = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",  # else `from df` would read the caller's variables
    # Nothing is spilled or stored, and no message says where it would be.
    "temp_directory": "",
    "secret_directory": "none",
    # Of all that one process reads at a time: a query that needs more fails, and nothing else on the machine does.
    "memory_limit": "50%",
}
"""Settings of a database that is opened for reading; `close_files` and `lock` complete them."""

HIDDEN = frozenset(
    {
        "current_setting",
        "database_list",
        "duckdb_databases",
        "duckdb_extensions",
        "duckdb_external_file_cache",
        "duckdb_profiling_settings",
        "duckdb_secrets",
        "duckdb_settings",
        "pg_settings",
        "pragma_database_list",
    }
)
"""Names in a query of what says where on the machine something lies."""

INDIRECT = frozenset(
    {
        "arrow_scan",
        "arrow_scan_dumb",
        "json_execute_serialized_sql",
        "json_serialize_plan",
        "pandas_scan",
        "python_arrow_scan",
        "python_map_function",
        "query",
        "query_table",
    }
)
"""Functions that take SQL or a name in a string, in which one of `HIDDEN` may stand, or a place in memory."""

LONGEST_QUERY = 64_000
"""Bytes of a query. What is longer is text pasted by mistake, or made to bring down the parser; values are bound."""

LONGEST_CONDITION = 10_000
"""Bytes of a condition on examples."""

INTERRUPT_EVERY = 0.02
"""Seconds between two interrupts of a query whose time is over: one that comes before it has begun is lost."""

NEWS_WIDTH = 400
"""Characters of the database's words that an error repeats: it may echo the query, or list all that it knows."""
CANDIDATES = 3
"""Functions listed of those that were perhaps meant."""
_SAID_OF_WRITING = ("read-only", "has been locked", "base table")
"""By errors about statements that would change something; codes may be a view, of which there is no base table."""
_SAID_BY_FILES = "Traceback (most recent call last)"
"""By the file system of a segmented atlas, which writes nothing."""
_A_FILE = "it would open a file"
_PLACE = re.compile(r"\n\s*LINE (\d+): ([^\n]*)\n( *)\^.*\Z", re.DOTALL)
_FUNCTIONS = re.compile(r"\A(.*\n\s*Candidate (?:functions|macros):)\n(.*)\Z", re.DOTALL)


@dataclass(frozen=True)
class Limits:
    """What the database of a process that opens one atlas, once, may take: bytes of memory, and threads. Such an
    atlas also knows how much of a user's query is done."""

    memory: int
    threads: int


def close_files(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on no statement opens a file. So nothing is spilled to one either."""
    connection.execute("set disabled_filesystems = 'LocalFileSystem'")


def lock(connection: duckdb.DuckDBPyConnection) -> None:
    """From now on no statement changes a setting."""
    connection.execute("set lock_configuration = true")


def answer(
    statements: Statements,
    cursor: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Sequence[Any] | dict[str, Any] | None,
    *,
    row_limit: int | None,
    timeout: float | None,
    limits: Limits | None,
) -> pd.DataFrame:
    """The rows of a user's query on a cursor of a database in the sandbox; see `Atlas.sql`."""
    check_length("the query", query, LONGEST_QUERY)
    _check_is_query(cursor, query)
    statements.show_written(cursor)
    try:
        cursor.execute("begin transaction read only")
        with _interrupted_after(cursor, timeout) as timed_out:
            frame = statements.stoppable(cursor, lambda: fetch(cursor.sql(query, params=parameters), row_limit))
    except duckdb.InterruptException:
        if not timed_out.is_set():
            raise KeyboardInterrupt from None
        raise took_too_long(timeout) from None
    except duckdb.PermissionException as error:
        raise _outside(_A_FILE if "LocalFileSystem" in str(error) else first_line(error)) from None
    except (duckdb.OutOfMemoryException, MemoryError):
        raise too_much_memory(limits) from None
    except duckdb.Error as error:
        if any(said in str(error) for said in _SAID_OF_WRITING):  # what is explained is no query
            raise SqlRefused(f"SQL on an atlas is read-only: {first_line(error)}") from None
        if _SAID_BY_FILES in str(error):
            raise _outside(_A_FILE) from None
        raise _failed(error, query) from None
    finally:
        with suppress(duckdb.Error):  # nothing is left of what was explained
            cursor.rollback()
    if timed_out.is_set():
        raise took_too_long(timeout)
    return frame


def check_length(what: str, text: str, most: int) -> None:
    """Raise `SqlRefused` for SQL of more than so many bytes, before anything parses it."""
    size = len(text.encode(errors="replace"))
    if size > most:
        raise SqlRefused(
            f"{what} has {size:,} bytes, and at most {most:,} are parsed; bind long values as parameters"
        )


def _check_is_query(cursor: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise `SqlRefused` unless a user's SQL is one query, as DuckDB's own parser sees it."""
    try:
        query.encode()
    except UnicodeEncodeError as error:
        raise SqlRefused(f"character {error.start + 1} of the query is none that a text can hold") from None
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
    if statements[0].type not in QUERIES:
        raise SqlRefused(
            f"SQL on an atlas is read-only: {_first_word(query).upper()} is not a query; "
            "start with select, with, from, describe, summarize or explain"
        )
    _check_names(query)


def _check_names(query: str) -> None:
    """Raise `SqlRefused` for a query that names one of `HIDDEN`, or calls one of `INDIRECT`."""
    words = ["", *_words(query), ""]
    for before, word, following in zip(words, words[1:], words[2:], strict=False):
        called = following.startswith("(") and before not in ("as", "with", "recursive")  # else it is a name given
        if word in HIDDEN or (word in INDIRECT and called):
            raise SqlRefused(f"SQL on an atlas reads its own tables only: {word} is not among them")


def _words(query: str) -> Iterator[str]:
    """Names, keywords and signs of a query in lower case, without quotes; neither comments nor strings."""
    text = query.encode()
    tokens = duckdb.tokenize(query)
    for (start, kind), (end, _) in pairwise([*tokens, (len(text), duckdb.token_type.comment)]):
        if kind not in (duckdb.token_type.comment, duckdb.token_type.string_const):
            yield text[start:end].decode(errors="replace").strip().strip('"').casefold()


def check_condition(ask: Callable[[str, list[str]], pd.DataFrame], table: str, condition: str) -> None:
    """Raise `SqlRefused` unless a user's SQL is one condition on the rows of a table: what closes the parenthesis
    around it to go on with ``union`` or ``limit`` is none, although the database would take it.

    ``ask`` runs a query as `Atlas.sql` does: DuckDB's parser, which a hostile text may bring down, works in there.
    Raises `SqlFailed`, with the database's message, for what is no SQL.
    """
    check_length("the condition", condition, LONGEST_CONDITION)
    # The last is alone, because ``coalesce`` is grammar, which nothing can follow: no ``over``, ``filter`` or alias.
    parts = [("", condition), ("", "true"), ("coalesce", condition)]
    queries = [f"select 1 from {quoted(table)} where {before}(\n{text}\n)" for before, text in parts]
    [texts] = ask("select " + ", ".join(f"json_serialize_sql(${n})" for n in (1, 2, 3)), queries).values.tolist()
    try:
        given, plain, alone = map(_without_places, texts)
        if given["error"]:
            raise _failed(f"{str(given['error_type']).title()} Error: {given['error_message']}")
        expected, coalesced, _ = map(_conditions_of, (given, alone, plain))
        one = [(part.get("type"), part.get("children")) for part in coalesced]
        if one == [("OPERATOR_COALESCE", [part]) for part in expected] and given == alone == plain:
            return
    except RecursionError:
        raise SqlRefused("that condition is nested too deeply to be checked; write a flatter one") from None
    raise SqlRefused("that is not one condition; give what can stand alone after `where`, without parameters")


def _without_places(tree: str) -> dict[str, Any]:
    """A query as DuckDB's parser sees it, without the places in its text."""

    def without_places(part: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in part.items() if not key.startswith("query_location")}

    parsed: dict[str, Any] = json.loads(tree, object_hook=without_places)
    return parsed


def _conditions_of(tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions of a parsed query, taken out of it: one a statement, none where it is no SQL."""
    return [statement["node"].pop("where_clause", None) or {} for statement in tree.get("statements", [])]


def _first_word(query: str) -> str:
    text = query.encode()
    places = [place for place, kind in duckdb.tokenize(query) if kind != duckdb.token_type.comment]
    word = re.match(r"\w+", text[places[0] :].decode()) if places else None
    return word.group() if word else "that"


def _outside(why: str) -> SqlRefused:
    return SqlRefused(f"SQL on an atlas reads its own tables only, no files or network: {why}")


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
    words = sql_mistakes.told(" ".join(lines), query) or " ".join(lines)
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


@contextmanager
def _interrupted_after(cursor: duckdb.DuckDBPyConnection, seconds: float | None) -> Iterator[threading.Event]:
    """Interrupts what runs inside once its time is over, until it ends; says whether it did."""
    timed_out, ended = threading.Event(), threading.Event()

    def stop() -> None:
        if not ended.wait(min(seconds or 0.0, threading.TIMEOUT_MAX)):
            timed_out.set()
            while not ended.wait(INTERRUPT_EVERY):
                cursor.interrupt()

    timer = threading.Thread(target=stop, name="time of a query", daemon=True)
    if seconds is not None:
        timer.start()
    try:
        yield timed_out
    finally:
        ended.set()
        if seconds is not None:
            timer.join()
