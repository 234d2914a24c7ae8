"""What a dataset is made of: items, items that can't be read, and the protocol that every kind of source fills."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32
from PIL import Image

from atlas.errors import BadInput, UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import Kind

from ..networks.registry import example_source

TEXT, IMAGE, NUMBER, NUMBERS = "text", "image", "a number a row", "a list of numbers a row"
"""What a column of a table holds; whatever else it holds is called by its type."""


@dataclass(frozen=True)
class Item:
    """One input, read and complete.

    ``key`` names it for people and stays the same as long as the data does: a relative path, ``reviews.jsonl:17``
    (lines count from 1, as in an editor), ``reviews.parquet:17`` or ``train:17`` (rows count from 0, as in pandas and
    ``datasets``), or a builtin's own key. ``content`` is the text, the image upright in mode L or RGB, or the numbers
    of a vector in their shape.

    ``content_hash`` is a SHA-256 in hex: of the text as UTF-8; of the encoded bytes of an image (the file, or the
    cell of a table), so that it does not depend on the decoder; of mode, size and pixels where an image was never
    encoded; of shape and numbers (float32) of a vector.
    """

    ordinal: int
    key: str
    label: str | None
    content: str | Image.Image | Float32[np.ndarray, "*shape"]
    content_hash: str


@dataclass(frozen=True)
class BadItem:
    """One input that can't be read, and why, in words that follow the key: ``a/3.txt: is empty``."""

    ordinal: int
    key: str
    reason: str


@runtime_checkable
class Dataset(Protocol):
    """Inputs in a fixed order, numbered from 0. Memory grows with their names or offsets, not with their content."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @property
    def source(self) -> str:
        """What the user typed."""
        ...

    @property
    def ignored(self) -> Mapping[str, int]:
        """Files of a folder that are no inputs: how many, by suffix; ``hidden`` also counts hidden folders."""
        ...

    @property
    def fingerprint(self) -> str:
        """A SHA-256 in hex over the inputs' identity, the same on every machine that holds the same data.

        JSON lines, CSV files and builtins: over their content. Folders, Parquet and NumPy files: over names and
        sizes, since reading a terabyte to name it is too dear; the content hashes of the items tell the rest. Hugging
        Face datasets: that library's own fingerprint, which knows the revision on the hub. Tables: the chosen columns
        as well.
        """
        ...

    def __len__(self) -> int: ...

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        """The inputs ``start`` to ``stop`` (excluded; None: to the end), in order, one for each ordinal.

        What lies before ``start`` is not read. Raises `UsageError` for a range that the dataset does not have, and
        `BadInput` where the file that holds the items can no longer be read at all.
        """
        ...


@dataclass(frozen=True)
class InputLimits:
    """What one input may take; what is larger can't be used. Read, a text takes up to 340 times its size."""

    megabytes: float
    """Of a text as UTF-8, of the file or cell of an image, of the numbers of a vector."""

    megapixels: float = 89.0
    """Of a decoded image, each of 3 bytes or more."""

    label_length: int = 1000
    """Characters."""

    @property
    def n_bytes(self) -> int:
        return int(min(self.megabytes, 1e9) * 1e6)

    def too_large(self, n_bytes: int) -> str | None:
        """Why an input of such a size can't be used; None where it can."""
        if n_bytes <= self.n_bytes:
            return None
        return f"has {n_bytes / 1e6:.3g} MB; at most {self.megabytes:g} are read (--max-input-mb)"


MEGABYTES: dict[Kind, float] = {"text": 3.0, "image": 64.0, "vector": 64.0}
"""Of an input, unless the user says otherwise."""

UNBOUNDED = InputLimits(1e9, 1e9, 2**31)
"""For what we made ourselves."""


@dataclass(frozen=True)
class Request:
    """What the user asked `ingest.datasets.sources.open_dataset` for."""

    source: str
    kind: Kind
    text_column: str = "text"
    label_column: str | None = None
    split: str = "train"
    name: str | None = None
    vector_columns: Sequence[str] | None = None
    limits: InputLimits = InputLimits(3.0)

    def choose_label(self, columns: Collection[str], where: str) -> str | None:
        """The column of the labels: the one asked for, else ``label`` where there is one."""
        if self.label_column is None:
            return "label" if "label" in columns else None
        if self.label_column not in columns:
            raise missing_column(where, self.label_column, columns, "--label-column")
        return self.label_column


def missing_column(where: str, column: str, columns: Collection[str], option: str) -> BadInput:
    """The error for a column that was asked for with ``option``."""
    there = ", ".join(columns) or "none"
    return BadInput(f"{where} has no column {column!r}; it has: {there}. Name one with {option}")


def advice_for(kind: Kind) -> str:
    """What to do with inputs of this kind."""
    return f"use {INPUT_KINDS[kind].network} such as {example_source(kind)} for {kind}s"


def refuse_label_column(request: Request, why: str) -> None:
    """`UsageError` where a column of labels was asked for and there are no columns."""
    if request.label_column is not None:
        raise UsageError(f"--label-column {request.label_column} is for tables, and {request.source} is none: {why}")


def ordinals(length: int, start: int, stop: int | None) -> range:
    """``range(start, stop)`` within a dataset of ``length`` items; `UsageError` where it reaches outside."""
    end = length if stop is None else stop
    if not 0 <= start <= end <= length:
        raise UsageError(f"items {start} to {end} were asked for; there are {length}, and start comes before stop")
    return range(start, end)


def text_item(ordinal: int, key: str, label: object, text: object, limits: InputLimits = UNBOUNDED) -> Item | BadItem:
    """The item for a text out of a file or table, or the reason why it is none."""
    if text is None:
        return BadItem(ordinal, key, "has no text (the field is null)")
    if not isinstance(text, str):
        return BadItem(ordinal, key, f"holds {named_type(text)} where a text is expected")
    if (why := limits.too_large(len(text))) is not None:  # in bytes it has no fewer
        return BadItem(ordinal, key, why)
    if not text.strip():
        return BadItem(ordinal, key, "is empty" if not text else "holds nothing but white space")
    try:
        encoded = text.encode()
    except UnicodeEncodeError as error:  # "\ud800" is legal JSON, yet no character
        return BadItem(ordinal, key, f"holds half a surrogate pair at character {error.start}")
    if (why := limits.too_large(len(encoded))) is not None:
        return BadItem(ordinal, key, why)
    return with_label(Item(ordinal, key, None, text, hashlib.sha256(encoded).hexdigest()), label, limits)


def with_label(item: Item, label: object, limits: InputLimits = UNBOUNDED) -> Item | BadItem:
    """The item with a label out of a table, as text (docs/FORMAT.md, Labels); null and NaN become None."""
    if label is None or label != label:
        return item
    match label:
        case str() | bool() | int() | float() | datetime() | timedelta():
            text = str(label)
        case Decimal():
            text = f"{label:f}"  # all its digits, no exponent
        case date() | time():
            text = label.isoformat()
        case _:
            reason = f"has {named_type(label)} as its label; expected a text, a number or a time"
            return BadItem(item.ordinal, item.key, reason)
    if len(text) > limits.label_length:
        reason = f"has a label of {len(text):,} characters; at most {limits.label_length:,} are read (--max-label)"
        return BadItem(item.ordinal, item.key, reason)
    return Item(item.ordinal, item.key, text, item.content, item.content_hash)


def named_class(label: object, names: Sequence[str] | None) -> object:
    """The name behind an integer label where classes have ``names``; None for -1, Hugging Face's "no label"."""
    if names is None or not isinstance(label, int):
        return label
    if label == -1:
        return None
    return names[label] if 0 <= label < len(names) else label


def suffix_of(path: str) -> str:
    """The suffix of a file in lower case: ``.jpeg`` for ``v1.2/Dog.JPEG``, empty for ``v1.2/LICENSE``."""
    stem, dot, suffix = path.rpartition("/")[2].rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def printable(path: str) -> str:
    """A path as text that can be stored: bytes of a file name that are not UTF-8 are written as ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def named_type(value: object) -> str:
    """A value's type in words that a person who never saw Python understands."""
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"a value of type {type(value).__name__}")
