"""Answers as bytes, exactly: what a server of an atlas sends a Python program, which has the very same answer then.

A table travels as an Arrow stream. What Arrow and pandas would change on the way (lists, decimals, values of several
types, attributes) travels in it as tagged JSON; so do records, tuples, arrays and all else that a function returns.
Reading builds data alone: numbers, text, tables, and records that are defined in `atlas` and `query`.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from . import errors
from .errors import PolytopeError

FRAME = "application/vnd.polytope.frame"
"""Media type of a table: an Arrow stream with what pandas needs besides."""

ANSWER = "application/vnd.polytope.answer+json"
"""Media type of any other answer: tagged JSON."""

PROBLEM = "application/problem+json"
"""Media type of an error (RFC 9457)."""

URN = "urn:polytope-atlas:"
"""Before the name of an error in the type of a problem."""

PACKAGES = ("atlas", "query")
"""Where the records are defined that an answer may hold."""

BATCH_ROWS = 10_000
_ABOUT = b"polytope"


# --- tables ----------------------------------------------------------------------------------------------------


def frame_bytes(frame: pd.DataFrame) -> bytes:
    """A table as an Arrow stream."""
    return b"".join(frame_pieces(frame))


def frame_pieces(frame: pd.DataFrame) -> Iterator[bytes]:
    """The same in pieces of some rows."""
    bare = pd.DataFrame(frame, copy=False)  # without attributes, which pandas would copy with every column
    parts = [_column(column) for _, column in bare.items()]
    about = {
        "columns": [
            [encoded(name), kind, str(dtype) if kind == "pandas" else ""]
            for name, dtype, (kind, _) in zip(frame.columns, bare.dtypes, parts, strict=True)
        ],
        "rows": len(frame),
        "index": None if _is_plain_index(frame.index) else encoded(list(frame.index)),
        "attrs": encoded(frame.attrs),
    }
    schema = pa.schema(
        [pa.field(str(place), array.type) for place, (_, array) in enumerate(parts)],
        metadata={_ABOUT: json.dumps(about).encode()},
    )
    batch = pa.RecordBatch.from_arrays([array for _, array in parts], schema=schema)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, max(1, len(frame)), BATCH_ROWS):  # one at least: it has the categories
            writer.write_batch(batch.slice(start, BATCH_ROWS))
            yield _drained(sink)
    yield _drained(sink)


def read_frame(data: bytes) -> pd.DataFrame:
    """The table that `frame_bytes` wrote. Raises `ValueError` for anything else."""
    with pa.ipc.open_stream(data) as reader:
        table = reader.read_all()
    about = json.loads(table.schema.metadata[_ABOUT])
    columns = [_values(table.column(place), kind, dtype) for place, (_, kind, dtype) in enumerate(about["columns"])]
    index = None if about["index"] is None else decoded(about["index"])
    frame = pd.DataFrame(dict(enumerate(columns)), index=range(about["rows"]) if not columns else None, copy=False)
    names = [decoded(name) for name, _, _ in about["columns"]]
    frame.columns = pd.Index(names) if names else pd.RangeIndex(0)
    if index is not None:
        frame.index = pd.Index(index)
    frame.attrs.update(decoded(about["attrs"]))
    return frame


def _drained(sink: io.BytesIO) -> bytes:
    data = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return data


def _is_plain_index(index: pd.Index) -> bool:
    return isinstance(index, pd.RangeIndex) and index.start == 0 and index.step == 1


def _column(column: pd.Series) -> tuple[str, pa.Array]:
    """How a column travels, and as what: ``numpy`` values, pandas' own (``pandas``), ``plain`` objects, or JSON."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return "numpy", pa.array(column.to_numpy(), from_pandas=False)
    if column.dtype != object:
        # pandas' nullable types become Arrow's by themselves, NaN and missing told apart; of others NaT is missing.
        nullable = hasattr(column.array, "__arrow_array__")
        array = pa.array(column.array) if nullable else pa.Array.from_pandas(column)
        return "pandas", array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    kinds = {type(value) for value in column}
    if kinds <= {str, type(None)} or kinds <= {bytes, type(None)}:
        return "plain", pa.array(list(column), pa.large_string() if str in kinds else pa.large_binary())
    return "json", pa.array([json.dumps(encoded(value)) for value in column], pa.large_string())


def _values(column: pa.ChunkedArray, kind: str, dtype: str) -> Any:
    if kind == "numpy":
        return column.to_numpy().copy()
    if kind == "pandas" and dtype in ("Float32", "Float64"):  # of which pandas itself would take NaN for missing
        missing = column.is_null().to_numpy(zero_copy_only=False)
        return pd.arrays.FloatingArray(column.fill_null(0).to_numpy(), missing)
    if kind == "pandas":
        values = column.to_pandas(types_mapper=_mapper(dtype))
        return (values if str(values.dtype) == dtype else values.astype(dtype)).array
    values = column.to_pylist()
    held = np.empty(len(values), dtype=object)
    for place, value in enumerate(values):
        held[place] = decoded(json.loads(value)) if kind == "json" else value
    return pd.Series(held, dtype=object)  # of an array alone pandas would guess the type


@cache
def _mapper(dtype: str) -> Callable[[pa.DataType], Any]:
    """Has Arrow make pandas' nullable types at once, which tell NaN from what is missing."""
    made = pd.api.types.pandas_dtype(dtype)
    return lambda given: made if isinstance(made, pd.api.extensions.ExtensionDtype) else None


# --- errors ----------------------------------------------------------------------------------------------------


def type_of(error: type[PolytopeError]) -> str:
    """The stable type of an error: ``UnknownName`` is ``urn:polytope-atlas:unknown-name``."""
    return URN + re.sub(r"(?<!^)(?=[A-Z])", "-", error.__name__).lower()


def error_of(status: int, form: str, data: bytes, address: str) -> PolytopeError:
    """The error that a server at an address answered with; `ServerFailed` for an answer that is none of ours."""
    try:
        problem = json.loads(data) if form == PROBLEM else {}
        return _ERRORS[problem["type"]](str(problem["detail"]))
    except (ValueError, LookupError, TypeError):
        return errors.ServerFailed(f"{address} answered with status {status} and no word of a server of atlases")


# --- everything else -------------------------------------------------------------------------------------------


def answer_bytes(answer: Any) -> bytes:
    """Any answer as tagged JSON."""
    return json.dumps(encoded(answer), ensure_ascii=False).encode(errors="surrogatepass")


def read_answer(data: bytes) -> Any:
    """The answer that `answer_bytes` wrote. Raises `ValueError` for anything else."""
    return decoded(json.loads(data.decode(errors="surrogatepass")))


def encoded(value: Any) -> Any:
    """A value as JSON; what JSON does not have is an object of one member, whose name begins with a dollar sign.

    Raises `TypeError` for a value of a type that no answer holds.
    """
    match value:
        case pd.DataFrame():
            return {"$frame": _packed(frame_bytes(value))}
        case np.generic():
            return {"$number": [value.dtype.str, _packed(value.tobytes())]}
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else {"$float": repr(value)}
        case np.ndarray() if value.dtype == object:
            return {"$objects": [encoded(one) for one in value]}
        case np.ndarray():
            return {"$array": [value.dtype.str, list(value.shape), _packed(np.ascontiguousarray(value).tobytes())]}
        case list():
            return [encoded(one) for one in value]
        case tuple() if hasattr(value, "_fields"):
            return _record(value, _fields_of(value))
        case tuple():
            return {"$tuple": [encoded(one) for one in value]}
        case Mapping():
            if all(isinstance(key, str) and not key.startswith("$") for key in value):
                return {key: encoded(one) for key, one in value.items()}
            return {"$mapping": [[encoded(key), encoded(one)] for key, one in value.items()]}
        case bytes() | bytearray() | memoryview():
            return {"$bytes": _packed(bytes(value))}
        case Decimal():
            return {"$decimal": str(value)}
        case PurePath():
            return {"$path": str(value)}
        case pd.Timestamp():
            return {"$timestamp": value.isoformat()}
        case datetime() | date() | time():
            return {f"${type(value).__name__}": value.isoformat()}
        case timedelta():
            return {"$seconds": [value.days, value.seconds, value.microseconds]}
        case _ if value is pd.NA or value is pd.NaT:
            return {"$missing": "NA" if value is pd.NA else "NaT"}
        case _ if is_dataclass(value) and not isinstance(value, type):
            held = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
            return _record(value, {name: one for name, one in held.items() if not callable(one)})
    raise TypeError(f"no answer holds a {type(value).__name__}")


def decoded(value: Any) -> Any:
    """The value that `encoded` made JSON of. Raises `ValueError` for JSON that it does not make."""
    if isinstance(value, list):
        return [decoded(one) for one in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "")
    if not tag.startswith("$"):
        return {name: decoded(one) for name, one in value.items()}
    if tag not in _DECODERS:
        raise ValueError(f"an answer holds {tag}, which this version does not know")
    return _DECODERS[tag](value[tag])


def _fields_of(named: Any) -> dict[str, Any]:
    return dict(named._asdict())


def _record(value: Any, held: Mapping[str, Any]) -> dict[str, Any]:
    kind = type(value)
    return {"$record": [kind.__module__, kind.__qualname__, {name: encoded(one) for name, one in held.items()}]}


def _decoded_record(parts: list[Any]) -> Any:
    module, name, held = parts
    if module.split(".")[0] not in PACKAGES or not name.isidentifier():
        raise ValueError(f"an answer holds a record {module}.{name}, which is none of {', '.join(PACKAGES)}")
    try:
        kind = getattr(import_module(module), name, None)
    except ModuleNotFoundError:
        kind = None
    if kind is None:
        raise ValueError(f"an answer holds a record {module}.{name}, which this version does not have")
    if not (isinstance(kind, type) and (is_dataclass(kind) or hasattr(kind, "_fields"))):
        raise ValueError(f"{module}.{name} is no record")
    return kind(**{field: decoded(one) for field, one in held.items()})


def _array(parts: list[Any]) -> np.ndarray:
    dtype, shape, data = parts
    return np.frombuffer(_unpacked(data), np.dtype(dtype)).reshape(shape).copy()


def _objects(values: list[Any]) -> np.ndarray:
    held = np.empty(len(values), dtype=object)
    held[:] = [decoded(one) for one in values]
    return held


def _packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unpacked(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_DECODERS: dict[str, Callable[[Any], Any]] = {
    "$frame": lambda data: read_frame(_unpacked(data)),
    "$number": lambda parts: np.frombuffer(_unpacked(parts[1]), np.dtype(parts[0]))[0],
    "$float": float,
    "$objects": _objects,
    "$array": _array,
    "$tuple": lambda parts: tuple(decoded(one) for one in parts),
    "$mapping": lambda pairs: {decoded(key): decoded(one) for key, one in pairs},
    "$bytes": _unpacked,
    "$decimal": Decimal,
    "$path": Path,
    "$timestamp": pd.Timestamp,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$seconds": lambda parts: timedelta(*parts),
    "$missing": lambda name: {"NA": pd.NA, "NaT": pd.NaT}[name],
    "$record": _decoded_record,
}

_ERRORS = {type_of(kind): kind for kind in vars(errors).values() if isinstance(kind, type)}
