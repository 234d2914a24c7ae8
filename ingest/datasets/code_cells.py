"""What the cells of a column of codes or activations hold, and the arrays that they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Decoded = Sequence[Any] | np.ndarray
"""A value a row: an array, or in words why it is none."""


def _value(type_: Any) -> Any:
    """The type within a list of Arrow's, else None."""
    lists = pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list
    return type_.value_type if isinstance(type_, pa.DataType) and any(each(type_) for each in lists) else None


def is_packed(type_: Any) -> bool:
    if isinstance(type_, tuple):
        return bool(type_[0] == np.uint8 and type_[1] == 2)
    binaries = pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary
    value = _value(type_)
    return any(each(type_) for each in binaries) or (value is not None and pa.types.is_uint8(value))


def holds_codes(type_: Any) -> bool:
    if isinstance(type_, tuple):
        return type_[1] == 2 and type_[0] in (np.bool_, np.uint8)
    value = _value(type_)
    return is_packed(type_) or (value is not None and pa.types.is_boolean(value))


def holds_numbers(type_: Any) -> bool:
    if isinstance(type_, tuple):
        return bool(type_[1] == 2 and type_[0].kind == "f")
    value = _value(type_)
    return value is not None and pa.types.is_floating(value)


def plain(cells: Any) -> Decoded:
    if isinstance(cells, np.ndarray):
        return cells if cells.ndim > 1 else cells.tolist()
    found: list[Any] = cells.to_pylist()
    return found


def bits_of(width: int, packed: bool) -> Callable[[Any], Decoded]:
    """Codes of ``width`` gates out of cells, as packed bytes."""
    n_bytes, padding = -(-width // 8), (1 << -width % 8) - 1

    def decode(cells: Any) -> Decoded:
        rows = _matrix(cells, n_bytes if packed else width, np.uint8 if packed else np.bool_)
        if rows is None:
            return [_code(cell, width, packed) for cell in cells.to_pylist()]
        codes = rows if packed else np.packbits(rows, axis=1)
        if not packed or not (codes[:, -1] & padding).any():
            return codes
        return [_code(row.tobytes(), width, packed) for row in codes]

    return decode


def _code(cell: Any, width: int, packed: bool) -> np.ndarray | str:
    """A code of one row, or why it is none."""
    if cell is None:
        return "has no code"
    length = 8 * len(cell) if packed else len(cell)
    if length != (-(-width // 8) * 8 if packed else width):
        return f"has a code of {length} gates where the first row has {width}"
    if not packed and None in cell:
        return f"has no bit for gate {cell.index(None)}"
    code = np.frombuffer(bytes(cell), np.uint8) if packed else np.packbits(np.array(cell, bool))
    if packed and code[-1] & ((1 << -width % 8) - 1):
        return f"has padding that is not zero after the {width} gates of its code"
    return code


def numbers_of(length: int) -> Callable[[Any], Decoded]:
    """Activations out of cells, in single precision."""

    def decode(cells: Any) -> Decoded:
        rows = _matrix(cells, length, None)
        if rows is None:
            return [_activation(cell, length) for cell in cells.to_pylist()]
        with np.errstate(over="ignore"):
            points = rows.astype(np.float32)
        return points if np.isfinite(points).all() else [_activation(row, length) for row in points]

    return decode


def _activation(cell: Any, length: int) -> np.ndarray | str:
    if cell is None:
        return "has no activation"
    if len(cell) != length:
        return f"has an activation of {len(cell)} numbers where the first row has {length}"
    with np.errstate(over="ignore"):
        point = np.array(cell, np.float64).astype(np.float32)  # None is NaN
    broken = np.flatnonzero(~np.isfinite(point))
    return f"has NaN or infinity as number {broken[0]} of its activation" if len(broken) else point


def _matrix(cells: Any, length: int, dtype: Any) -> np.ndarray | None:
    """Cells of equal length as rows; None where one is missing, or has another length or a missing value."""
    if isinstance(cells, np.ndarray):
        return cells
    if cells.null_count:
        return None
    if _value(cells.type) is None:  # bytes
        if set(pc.binary_length(cells).to_pylist()) != {length}:
            return None
        return np.frombuffer(b"".join(cells.to_pylist()), np.uint8).reshape(len(cells), length)
    values = cells.flatten()
    if values.null_count or set(pc.list_value_length(cells).to_pylist()) != {length}:
        return None
    found: np.ndarray = values.to_numpy(zero_copy_only=False).reshape(len(cells), length)
    return found if dtype is None else found.astype(dtype, copy=False)
