"""Vectors as items of a dataset: rows of numbers, out of a table, a CSV file or a NumPy array."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float32
from PIL import Image

from atlas.errors import BadInput, EmptyDataset
from atlas.network import Kind

from .base import NUMBER, UNBOUNDED, BadItem, InputLimits, Item, Request, ordinals, printable, with_label
from .columns import choose_vector

NUMPY = ".npy"

BROKEN_NUMPY = (
    ValueError,
    OSError,
    EOFError,
    TypeError,
    OverflowError,
    MemoryError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    LookupError,
    TokenError,
    BadZipFile,
    zlib.error,
)
"""What NumPy raises on broken files; it documents the first three, the others are those of the parser of its header,
which flipped bytes brought up, and of zip."""


def vector_item(
    ordinal: int, key: str, label: object, numbers: Any, limits: InputLimits = UNBOUNDED
) -> Item | BadItem:
    """The item for a row of numbers, nested as its shape is, or the reason why it is none.

    Numbers are rounded to float32, in which networks read them.
    """
    if numbers is None:
        return BadItem(ordinal, key, "has no numbers (the field is null)")
    try:
        exact = np.asarray(numbers, dtype=np.float64)
    except (ValueError, TypeError) as error:  # a word, or rows of several lengths
        return BadItem(ordinal, key, f"holds no vector of numbers: {error}")
    if (why := limits.too_large(4 * exact.size)) is not None:
        return BadItem(ordinal, key, why)
    if not exact.size or not exact.ndim:
        return BadItem(ordinal, key, "holds no number")
    with np.errstate(over="ignore"):
        vector = exact.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(vector))
    if len(broken):
        value = exact.flat[broken[0]]
        what = "missing or NaN" if np.isnan(value) else f"{value:g}, which is not finite in single precision"
        return BadItem(ordinal, key, f"holds {vector.size} numbers, of which number {broken[0]} (from 0) is {what}")
    digest = hashlib.sha256(f"{vector.shape}\n".encode() + vector.astype("<f4").tobytes())
    return with_label(Item(ordinal, key, None, vector, digest.hexdigest()), label, limits)


def picture(vector: Float32[np.ndarray, "*shape"]) -> Image.Image | None:
    """The picture of numbers in the shape of an image: rows, columns, or 1 or 3 channels of them.

    The least number is black, the greatest white. None for any other shape.
    """
    pixels = vector[None] if vector.ndim == 2 else vector
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or min(pixels.shape[1:]) < 2:
        return None
    least, greatest = float(pixels.min()), float(pixels.max())
    shades = np.rint((pixels - least) * (255 / ((greatest - least) or 1))).astype(np.uint8)
    return Image.fromarray(shades[0] if len(shades) == 1 else np.moveaxis(shades, 0, 2).copy())


class ArrayRows:
    """The rows of a NumPy array, on the disk: (rows, numbers), or (rows, …) with the shape of a vector."""

    kind: Kind = "vector"
    ignored: Mapping[str, int] = {}

    def __init__(self, path: Path, request: Request, name: str) -> None:
        """Raises `BadInput` for a file that holds no rows of numbers, `EmptyDataset` for one without a row."""
        self.name, self.source, self._limits = name, request.source, request.limits
        self._key = printable(path.name)
        self._path, self._rows = path, _opened(path, self.source)
        if not len(self._rows):
            raise EmptyDataset(f"{self.source} holds no row; its shape is {self._rows.shape}")
        self._columns: list[int] | None = None
        self._label: int | None = None
        if request.label_column is not None or request.vector_columns is not None:
            self._choose(request)
        known = (self._key, path.stat().st_size, self._rows.shape, str(self._rows.dtype), self._columns, self._label)
        self.fingerprint = hashlib.sha256(repr(known).encode()).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        """Where the rows are: another process opens them anew."""
        return {name: value for name, value in vars(self).items() if name != "_rows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._rows = _opened(self._path, self.source)

    def __len__(self) -> int:
        return len(self._rows)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._item, ordinals(len(self), start, stop))

    def _choose(self, request: Request) -> None:
        """Columns of an array have no names but their places, from 0."""
        if self._rows.ndim != 2:
            raise BadInput(
                f"{self.source} has shape {self._rows.shape}; columns can be chosen in an array of two dimensions"
            )
        columns = {str(place): NUMBER for place in range(self._rows.shape[1])}
        label = request.choose_label(columns, self.source)
        self._columns = [int(column) for column in choose_vector(request, columns, self.source)]
        self._label = None if label is None else int(label)

    def _item(self, ordinal: int) -> Item | BadItem:
        row = self._rows[ordinal]
        label = None if self._label is None else row[self._label].item()
        return vector_item(ordinal, f"{self._key}:{ordinal}", whole_label(label), self._chosen(row), self._limits)

    def _chosen(self, row: np.ndarray) -> np.ndarray:
        return row if self._columns is None else row[self._columns]


def whole_label(label: object) -> object:
    """The label 3 where 3.0 is written, since a file of numbers has classes as floats too."""
    return int(label) if isinstance(label, float) and label.is_integer() else label


def _opened(path: Path, source: str) -> np.ndarray:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except BROKEN_NUMPY as error:
        raise BadInput(f"{source} can't be read as a NumPy array: {error}") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf" or array.ndim < 2:
        what = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "several arrays"
        raise BadInput(
            f"{source} holds {what}; expected one array of numbers, (rows, numbers), or (rows, …) with the shape of "
            "a vector"
        )
    return array
