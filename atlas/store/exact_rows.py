"""Rows of a query in pandas, with no number, moment or missing value changed on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from .statements import quoted

_ROUNDED = re.compile(r"(U?HUGEINT|DECIMAL\(\d+,\d+\))((?:\[\d*\])*)")
_LONGEST_MOMENT = len("2026-01-02 03:04:05.123456+00:00:00")


def fetch(rows: duckdb.DuckDBPyRelation, row_limit: int | None) -> pd.DataFrame:
    """All rows, or so many and in ``attrs["truncated"]`` whether there are more."""
    # pandas has no type for bits, intervals of months and the like, and would round decimals and whole numbers of 128
    # bits, in lists as well: they are fetched as text. It makes NaN of a missing float: a column more says which are
    # missing. Columns go by number, because a user's query may give two of them the same name.
    kinds = [str(kind) for kind in rows.types]
    shown = [
        f"{_readable(kind, f'#{place}')} as {quoted(name)}"
        for place, (kind, name) in enumerate(zip(rows.types, rows.columns, strict=True), start=1)
    ]
    floats = [place for place, kind in enumerate(kinds) if kind in ("FLOAT", "DOUBLE")]
    missing = [f"#{place + 1} is null" for place in floats]
    readable = rows.project(", ".join(shown + missing))
    frame = readable.df() if row_limit is None else readable.limit(row_limit + 1).df()
    for place, missed in zip(floats, range(len(kinds), frame.shape[1]), strict=True):
        frame.isetitem(place, _with_missing(frame.iloc[:, place], frame.iloc[:, missed]))
    frame = frame.iloc[:, : len(kinds)]
    if row_limit is not None:
        more = len(frame) > row_limit
        frame = frame.iloc[:row_limit].reset_index(drop=True)
        frame.attrs["truncated"] = more
    for place, kind in enumerate(kinds):
        if exact := _ROUNDED.fullmatch(kind):
            convert = _numbers_in_lists if exact[2] else _numbers
            frame.isetitem(place, convert(frame.iloc[:, place], whole="HUGEINT" in kind))
        elif kind in _MOMENTS:
            frame.isetitem(place, _moments(frame.iloc[:, place], kind))
    return frame


_TEXTS = frozenset(
    {"bignum", "bit", "geometry", "interval", "time with time zone", "time_ns", "uhugeint", "hugeint", "union"}
)
"""Types that pandas would not hold as they are."""

_NESTED_TEXTS = _TEXTS | {
    "date",
    "timestamp",
    "timestamp with time zone",
    "timestamp_ms",
    "timestamp_ns",
    "timestamp_s",
    "uuid",
}
"""The same in lists, structs and maps, where pandas cuts nanoseconds off and makes a time of a day."""

_MOMENTS = frozenset({"DATE", "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"})
"""Types of which some values, infinity and years before 1 and after 9999 among them, have no moment in pandas."""


def _readable(kind: Any, column: str) -> str:
    """A column of such a type as it is fetched."""
    name = str(kind)
    if exact := _ROUNDED.fullmatch(name):
        return f"cast({column} as varchar{exact[2]})"
    if name in _MOMENTS:
        return f"cast({column} as varchar)"
    readable = _readable_type(kind, _TEXTS)
    return column if readable == name else f"cast({column} as {readable})"


def _readable_type(kind: Any, texts: frozenset[str]) -> str:
    """The type as which one is fetched: itself, with text in place of what pandas does not hold as it is."""
    match kind.id:
        case name if name in texts:
            return "VARCHAR"
        case "list":
            [(_, item)] = kind.children
            return f"{_readable_type(item, _NESTED_TEXTS)}[]"
        case "array":
            (_, item), (_, size) = kind.children
            return f"{_readable_type(item, _NESTED_TEXTS)}[{size}]"
        case "struct":
            fields = (f"{quoted(name)} {_readable_type(item, _NESTED_TEXTS)}" for name, item in kind.children)
            readable = f"STRUCT({', '.join(fields)})"
            plain = ", ".join(f"{quoted(name)} {item}" for name, item in kind.children)
            return str(kind) if readable == f"STRUCT({plain})" else readable
        case "map":
            (_, key), (_, value) = kind.children
            return f"MAP({_readable_type(key, _NESTED_TEXTS)}, {_readable_type(value, _NESTED_TEXTS)})"
        case _:
            return str(kind)


def _moments(texts: pd.Series, kind: str) -> pd.Series:
    """Days and moments from their texts; the texts themselves where pandas has none for one of them."""
    if texts.str.contains("BC|infinity", regex=True, na=False).any() or (texts.str.len() > _LONGEST_MOMENT).any():
        return texts
    if kind == "DATE":
        days = [None if pd.isna(text) else date.fromisoformat(text) for text in texts]
        return pd.Series(days, dtype=object, index=texts.index)
    zone = kind == "TIMESTAMP WITH TIME ZONE"
    moments = pd.to_datetime(texts, format="ISO8601", utc=zone)
    return moments.astype("datetime64[us, UTC]" if zone else "datetime64[us]")


def _with_missing(floats: pd.Series, missing: pd.Series) -> pd.Series:
    """The same column, or one that tells what is missing from NaN, if it holds NaN."""
    if not (floats.isna() & ~missing).any():
        return floats
    return pd.Series(pd.arrays.FloatingArray(floats.to_numpy(), missing.to_numpy()), index=floats.index)


def _numbers_in_lists(lists: pd.Series, whole: bool) -> pd.Series:
    """As `_numbers`, of lists however deep; all numbers of a column are of one type."""
    texts = pd.Series([text for cell in lists for text in _leaves(cell)], dtype=object)
    numbers = iter(_numbers(texts, whole))
    return pd.Series([_with_leaves(cell, numbers) for cell in lists], dtype=object, index=lists.index)


def _leaves(cell: Any) -> Iterator[Any]:
    if isinstance(cell, np.ndarray):
        for item in cell:
            yield from _leaves(item)
    else:
        yield cell


def _with_leaves(cell: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(cell, np.ndarray):
        return [_with_leaves(item, leaves) for item in cell]
    leaf = next(leaves)
    return None if pd.isna(leaf) else leaf


def _numbers(texts: pd.Series, whole: bool) -> pd.Series:
    """Numbers from their texts: of 64 bits where all of them are exactly such, else `decimal.Decimal`."""
    numbers = [None if pd.isna(text) else Decimal(text) for text in texts]
    if whole and all(abs(number) < 2**63 for number in numbers if number is not None):
        integers = [None if number is None else int(number) for number in numbers]
        return pd.Series(integers, dtype="Int64" if None in integers else "int64", index=texts.index)
    if not whole and all(Decimal(repr(float(number))) == number for number in numbers if number is not None):
        return pd.Series(numbers, dtype="float64", index=texts.index)
    return pd.Series(numbers, dtype=object, index=texts.index)
