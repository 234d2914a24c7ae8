"""What the tables of a result hold, column by column, declared beside the experiment that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

KINDS = {bool: "b", int: "iu", float: "fiu", str: "O", list: "O"}
"""Kinds of NumPy's types that a declared type stands for; a list's cells are lists, or of several types."""


@dataclass(frozen=True)
class Column:
    """``unit`` is empty for names, counts and shares. ``optional``: left out where it would say nothing."""

    name: str
    type: type
    meaning: str
    unit: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """``row``: what a row is about."""

    row: str
    columns: tuple[Column, ...]
    optional: bool = False


def table_of(row: str, *columns: Column, optional: bool = False) -> Table:
    """A table whose rows are about ``row``; ``optional``: some results lack it."""
    return Table(row, columns, optional)


def with_interval(name: str, meaning: str, unit: str = "") -> tuple[Column, Column, Column]:
    """A number and the ends of its interval; those of ``x`` and of ``x_mean`` are ``x_low`` and ``x_high``."""
    stem = name.removesuffix("_mean")
    return (
        Column(name, float, meaning, unit),
        Column(f"{stem}_low", float, f"lower end of the interval of {name}", unit),
        Column(f"{stem}_high", float, f"upper end of the interval of {name}", unit),
    )


def check_tables(kind: str, tables: Mapping[str, pd.DataFrame], declared: Mapping[str, Table]) -> None:
    """Raises `TypeError` where a result's tables are not those that its experiment declares."""
    needed = [name for name, of in declared.items() if not of.optional]
    if not set(needed) <= set(tables) <= set(declared):
        raise TypeError(f"{kind} made tables {', '.join(tables)}; it declares {', '.join(declared)}")
    for name, frame in tables.items():
        columns = {column.name: column for column in declared[name].columns}
        needed = [column.name for column in columns.values() if not column.optional]
        made = frame.columns.tolist()
        if [column for column in columns if column in made] != made or not set(needed) <= set(made):
            raise TypeError(f"table {name} of {kind} has columns {made}; it declares {list(columns)}")
        for column in made if len(frame) else ():
            if not _fits(frame[column], columns[column].type):
                raise TypeError(
                    f"column {column} of table {name} of {kind} is {frame[column].dtype}; it declares "
                    f"{columns[column].type.__name__}"
                )


def _fits(values: pd.Series, declared: type) -> bool:
    """Whether the values that are there are of the declared type: whole numbers with gaps are floats to pandas."""
    present = values.dropna().infer_objects()
    whole = declared is int and len(present) < len(values) and present.dtype.kind == "f"
    return present.empty or whole or present.dtype.kind in KINDS[declared]
