"""How inputs of each kind come out of files and tables, and what an atlas keeps of them: a record a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atlas.network import Kind

from .base import BadItem, Dataset, InputLimits, Item, Request, text_item
from .columns import choose_image, choose_text, choose_vector
from .images import IMAGE_SUFFIXES, image_cell_item, image_item, thumbnail
from .lines import CSV_DELIMITERS, JSON_SUFFIXES, CsvRows, JsonLines
from .vectors import NUMPY, ArrayRows, picture, vector_item

TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".text"})


@dataclass(frozen=True)
class Source:
    """Where inputs of a kind come from.

    ``suffixes``: of files that hold an input each; ``of_file`` reads one, given (ordinal, key, label, bytes, limits).
    ``records``: what opens a file of many, by suffix; Parquet holds all kinds. ``choose``: which columns of a table,
    as in `columns`; ``of_cells`` reads their cells of one row, given (ordinal, key, label, cells, limits).
    ``rows_at_once``: rows of a Parquet file that are held decoded, a few MB. ``kept``: the columns of table inputs
    that hold the content.
    """

    choose: Callable[[Request, Mapping[str, str], str], tuple[str, ...]]
    of_cells: Callable[[int, str, object, Sequence[Any], InputLimits], Item | BadItem]
    rows_at_once: int
    kept: Callable[[Any], dict[str, Any]]
    suffixes: frozenset[str] = frozenset()
    of_file: Callable[[int, str, object, bytes, InputLimits], Item | BadItem] | None = None
    records: Mapping[str, Callable[[Path, Request, str], Dataset]] = field(default_factory=dict)


def _text_file(ordinal: int, key: str, label: object, data: bytes, limits: InputLimits) -> Item | BadItem:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return BadItem(ordinal, key, f"is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}")
    return text_item(ordinal, key, label, text, limits)


def _vector_cells(ordinal: int, key: str, label: object, cells: Sequence[Any], limits: InputLimits) -> Item | BadItem:
    """One cell with a list of numbers, or one a number."""
    numbers = cells[0] if len(cells) == 1 and not _is_scalar(cells[0]) else cells
    return vector_item(ordinal, key, label, numbers, limits)


def _is_scalar(cell: object) -> bool:
    return isinstance(cell, bool | int | float)


def _kept_image(image: Image.Image) -> dict[str, Any]:
    return {"thumbnail": thumbnail(image), "width": image.width, "height": image.height}


def _kept_vector(vector: np.ndarray) -> dict[str, Any]:
    image = picture(vector)
    return {"vector": vector.ravel()} | ({} if image is None else _kept_image(image))


SOURCES: dict[Kind, Source] = {
    "text": Source(
        choose_text,
        lambda ordinal, key, label, cells, limits: text_item(ordinal, key, label, cells[0], limits),
        256,
        lambda text: {"text": text},
        TEXT_SUFFIXES,
        _text_file,
        dict.fromkeys(JSON_SUFFIXES, JsonLines),
    ),
    "image": Source(
        choose_image,
        lambda ordinal, key, label, cells, limits: image_cell_item(ordinal, key, label, cells[0], limits),
        16,
        _kept_image,
        IMAGE_SUFFIXES,
        image_item,
    ),
    "vector": Source(
        choose_vector,
        _vector_cells,
        4096,
        _kept_vector,
        records={**dict.fromkeys(CSV_DELIMITERS, CsvRows), NUMPY: ArrayRows},
    ),
}
