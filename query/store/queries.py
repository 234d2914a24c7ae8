"""A user's SQL over an atlas: read-only, in a sandbox, with a limit of rows and of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from atlas import Atlas
from atlas.errors import UsageError

DEFAULT_LIMIT = 1000
"""Rows fetched unless asked otherwise: more than anyone reads, and little to hold."""

DEFAULT_TIMEOUT = 30.0
"""Seconds: long enough for a pass over a large atlas, short enough to wait for."""


def sql(
    atlas: Atlas,
    query: str,
    parameters: Sequence[Any] | dict[str, Any] | None = None,
    *,
    limit: int | None = DEFAULT_LIMIT,
    timeout: float | None = DEFAULT_TIMEOUT,
) -> pd.DataFrame:
    """Run one query (select, with, from, describe, summarize, explain) and return its rows.

    Args:
        atlas: open for reading.
        query: one statement.
        parameters: bound to $1, $2, … or $name.
        limit: rows that are fetched at most; None for all.
        timeout: in seconds; None for no limit.

    Returns:
        The rows; ``frame.attrs["truncated"]`` says whether there were more.

    Raises:
        SqlRefused: it is no query, or leaves the sandbox.
        SqlFailed: with the database's message.
        SqlTimeout: it ran for longer than ``timeout``.
        UsageError: the atlas is open for writing; that connection has no sandbox.
    """
    if atlas.writable:
        raise UsageError(
            f"{atlas.address} is open for writing, outside the sandbox; open it for reading to run SQL on it"
        )
    return atlas.sql(query, parameters, row_limit=limit, timeout=timeout)


def schema(atlas: Atlas) -> pd.DataFrame:
    """What every column of every table and view means: table, column, type, comment."""
    return atlas.frame('select "table", "column", type, comment from documentation')
