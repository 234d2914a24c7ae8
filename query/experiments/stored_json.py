"""Parameters and rows of tables as JSON that SQL reads, and back to exactly what they were."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

FLOAT = "$float"
"""Key that marks a number which JSON cannot write, outside of columns of numbers: ``{"$float": "nan"}``."""

KINDS = "biufO"
"""Kinds of NumPy that come back as they were: booleans, integers, floats, objects that JSON can hold."""


def dumps(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def loads(text: str) -> Any:
    return json.loads(text, object_hook=lambda value: float(value[FLOAT]) if set(value) == {FLOAT} else value)


def plain(value: Any) -> Any:
    """NumPy's scalars and arrays, tuples, NaN and infinities as what JSON knows."""
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else {FLOAT: str(value)}
    if isinstance(value, Mapping):
        if FLOAT in value or not all(isinstance(key, str) for key in value):
            raise TypeError(f"a stored mapping has strings as keys, and not {FLOAT!r}; got {list(value)}")
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | int | bool):
        return value
    raise TypeError(f"JSON can't hold {value!r} ({type(value).__name__})")


def dtypes_of(name: str, table: pd.DataFrame) -> dict[str, str]:
    """The type of each column, as pandas calls it. Raises `TypeError` for one that is not stored."""
    if not all(isinstance(column, str) for column in table.columns) or not table.columns.is_unique:
        raise TypeError(f"table {name!r} needs distinct column names, all strings, got {list(table.columns)}")
    types = {}
    for column, values in table.items():
        categorical = isinstance(values.dtype, pd.CategoricalDtype)
        dtype = values.cat.categories.dtype if categorical else values.dtype
        if dtype.kind not in KINDS:
            raise TypeError(f"column {column!r} of table {name!r} is {dtype}, which is not stored")
        types[str(column)] = str(dtype)
    return types


def rows_of(table: pd.DataFrame, dtypes: Mapping[str, str]) -> list[str]:
    """Each row as a JSON object. In a column of numbers NaN and infinities are the strings nan, inf and -inf, which
    SQL casts to the number that they mean."""
    columns = [_cells(table[name], dtype) for name, dtype in dtypes.items()]
    return [dumps(dict(zip(dtypes, row, strict=True))) for row in zip(*columns, strict=True)]


def _cells(column: pd.Series, dtype: str) -> list[Any]:
    if dtype == "object":
        return list(column)
    if np.dtype(dtype if dtype != "str" else object).kind == "f":
        return [value if math.isfinite(value) else str(value) for value in column.astype(float)]
    return [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]


def table_of_rows(rows: Sequence[str], dtypes: Mapping[str, str]) -> pd.DataFrame:
    """What `rows_of` wrote."""
    objects = loads(f"[{','.join(rows)}]")
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in objects], dtype=dtype) for name, dtype in dtypes.items()}
    )
