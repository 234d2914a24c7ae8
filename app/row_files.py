"""Rows as CSV, JSON, Arrow or Parquet, with every digit, every item of a list and every blob.

This is the one writer of all commands and of the explorer's downloads. JSON has no number for what a double can't
hold exactly, nor for infinities and NaN: these are strings. Blobs are base64 in CSV and JSON, and bytes in Arrow and
Parquet. What is missing is nothing at all in CSV, where an empty text is ``""``, and null in the others. DuckDB's
``read_csv(…, allow_quoted_nulls = false)`` and Arrow's ``ConvertOptions(strings_can_be_null=True,
quoted_strings_can_be_null=False)`` tell the two apart; in a table of one column both are ``""``, because readers skip
a line with nothing on it. NaN is missing, too, in pandas' plain floats, which have nothing else for it. Its
``Float64``, lists and structs tell these apart.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from .plain_text import distinct, escaped_json

EXACT = 2**53
"""Integers below are doubles."""

PIECE_ROWS = 1000
"""Rows of JSON that are written at once: the text of a long answer is never there whole."""

_NO_NUMBER = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


DIVIDING = ',"\r\n'
"""What a cell of CSV holds in quotes alone."""

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that a spreadsheet takes for a formula."""


def as_csv(frame: pd.DataFrame, safe: bool = False) -> str:
    """A line of names and a line a row; a list or a struct is written as JSON in its cell.

    ``safe``: an apostrophe stands before texts that a spreadsheet would take for a formula and run.
    """
    names = distinct([str(name) for name in frame.columns])
    columns = [[_csv_cell(value) for value in column] for column in _columns(frame)]
    if len(columns) == 1:  # readers skip a line with nothing on it
        columns = [["" if cell is None else cell for cell in columns[0]]]
    lines = [names, *zip(*columns, strict=True)]
    return "".join(",".join(_field(cell, safe) for cell in line) + "\n" for line in lines)


def _field(cell: Any, safe: bool) -> str:
    """A cell between two commas: nothing for None, quotes around a text that is empty or holds what divides cells."""
    if cell is None:
        return ""
    text = str(cell)
    if safe and isinstance(cell, str) and text.startswith(FORMULA):
        text = f"'{text}"
    quoted = not text or any(letter in text for letter in DIVIDING)
    return '"' + text.replace('"', '""') + '"' if quoted else text


def as_json(frame: pd.DataFrame) -> str:
    """A list of objects, one a row. What a terminal would obey is escaped."""
    return "".join(json_pieces(frame)) + "\n"


def json_pieces(frame: pd.DataFrame, rows: int = PIECE_ROWS, *, indent: int | None = 1) -> Iterator[str]:
    """The text of such a list in pieces of so many rows, without a line's end; on one line without ``indent``."""
    names = distinct([str(name) for name in frame.columns])
    line = "" if indent is None else "\n"
    before = "["
    for start in range(0, len(frame), rows):
        columns = _json_columns(frame.iloc[start : start + rows])
        objects = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        text = json.dumps(objects, ensure_ascii=False, indent=indent, allow_nan=False)
        yield before + escaped_json(text)[1:].removesuffix(f"{line}]")
        before = ","
    yield "[]" if before == "[" else f"{line}]"


def write_parquet(frame: pd.DataFrame, file: Path) -> None:
    """Columns keep their types; values of no one type are written as JSON."""
    pq.write_table(arrow_table(frame), file)


def arrow_table(frame: pd.DataFrame) -> pa.Table:
    """Columns keep their types; values of no one type become JSON."""
    names = distinct([str(name) for name in frame.columns])
    return pa.Table.from_arrays([_arrow(frame.iloc[:, place]) for place in range(len(names))], names)


def _columns(frame: pd.DataFrame) -> list[list[Any]]:
    """By place: a query may give two columns one name."""
    bare = pd.DataFrame(frame, copy=False)  # without attributes, which pandas would copy with every column
    return [cells(column) for _, column in bare.items()]


def _json_columns(frame: pd.DataFrame) -> list[list[Any]]:
    bare = pd.DataFrame(frame, copy=False)
    return [
        column.tolist()
        if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biu"
        else [plain_value(value) for value in cells(column)]
        for _, column in bare.items()
    ]


def _arrow(column: pd.Series) -> pa.Array:
    try:
        array = pa.array(cells(column)) if column.dtype == object else pa.Array.from_pandas(column)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    except (pa.ArrowException, TypeError, OverflowError):
        texts = [None if value is None else _text(value) for value in cells(column)]
        return pa.array(texts, pa.string())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(plain_value(value), ensure_ascii=False, allow_nan=False)


def cells(column: pd.Series) -> list[Any]:
    """The values of a column, with lists for arrays and None for what is missing."""
    nan_is_missing = not isinstance(column.array, pd.arrays.FloatingArray)
    return [None if nan_is_missing and _is_nan(value) else _unmasked(value) for value in column.array]


def _is_nan(value: Any) -> bool:
    return isinstance(value, float | np.floating) and math.isnan(value)


def _unmasked(value: Any) -> Any:
    if value is np.ma.masked:
        return None
    if isinstance(value, np.ndarray | list | tuple):
        return [_unmasked(item) for item in value]
    if isinstance(value, dict):
        return {name: _unmasked(item) for name, item in value.items()}
    return value if _is_nan(value) or not pd.isna(value) else None


def _csv_cell(value: Any) -> Any:
    plain = plain_value(value)
    if isinstance(plain, list | dict):
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)
    if _is_nan(value):
        return "nan"
    return str(value) if isinstance(value, datetime) else plain


def plain_value(value: Any) -> Any:
    """A value of a cell in what JSON has, exactly."""
    match value:
        case None:
            return None
        case bool() | np.bool_() as truth:
            return bool(truth)
        case int() | np.integer() as integer:
            return int(integer)
        case Decimal() as decimal:
            return _decimal(decimal)
        case float() | np.floating() as number:
            # A number of 32 bits in as many digits as tell it from others of 32 bits.
            return float(str(number)) if math.isfinite(number) else _NO_NUMBER[str(float(number))]
        case bytes() | bytearray() | memoryview() as blob:
            return base64.b64encode(blob).decode()
        case datetime() | date() | time() as moment:
            return moment.isoformat()
        case list() as items:
            return [plain_value(item) for item in items]
        case dict() as fields:
            return {str(name): plain_value(item) for name, item in fields.items()}
        case other:
            return str(other)


def _decimal(value: Decimal) -> int | float | str:
    if value == value.to_integral_value() and abs(value) < EXACT:
        return int(value)
    near = float(value)
    return near if Decimal(repr(near)) == value else str(value)
