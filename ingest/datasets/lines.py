"""Datasets out of files with a record a line: JSON lines of texts, CSV of vectors."""

from __future__ import annotations

import csv
import hashlib
import json
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from atlas.errors import BadInput, EmptyDataset
from atlas.network import Kind
from atlas.store.disk import no_file

from .base import NUMBER, TEXT, BadItem, Item, Request, ordinals, printable, text_item
from .columns import choose_text, choose_vector
from .vectors import vector_item

JSON_SUFFIXES = frozenset({".jsonl", ".json"})
CSV_DELIMITERS = {".csv": ",", ".tsv": "\t"}


ESCAPED = 4
"""Bytes of a line for each of the text in it: JSON may write a letter of two bytes as six, beside other fields."""

PIECE_BYTES = 1 << 20
"""Of a line that are held at once while lines are looked for."""


class Lines(ABC):
    """A file with a record a line; blank lines are none. Holds a byte offset and a line number for each record."""

    ignored: Mapping[str, int] = {}

    def __init__(self, path: Path, request: Request, name: str, expected: str) -> None:
        """Read the file once for the offsets and its digest; `EmptyDataset` for a file without records."""
        self.name, self.source, self._limits = name, request.source, request.limits
        self._longest = ESCAPED * request.limits.n_bytes
        self._path = path
        self._offsets, self._lines, self._digest = _scan_lines(path, self.source)
        if not len(self._offsets):
            raise EmptyDataset(f"{self.source} holds no record; expected {expected}")

    def __len__(self) -> int:
        return len(self._offsets)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return self._read(ordinals(len(self), start, stop))

    def _read(self, wanted: range) -> Iterator[Item | BadItem]:
        with _opened(self._path, self.source) as file:
            for ordinal in wanted:
                file.seek(self._offsets[ordinal])
                line = file.readline(self._longest + 1)
                if len(line) > self._longest:
                    reason = f"is a line of more than {self._longest / 1e6:g} MB; none is read (--max-input-mb)"
                    yield BadItem(ordinal, self._key(ordinal), reason)
                else:
                    yield self._item(ordinal, line)

    @abstractmethod
    def _item(self, ordinal: int, line: bytes) -> Item | BadItem:
        """The input of a record, from its line."""

    def _key(self, ordinal: int) -> str:
        return f"{printable(self._path.name)}:{self._lines[ordinal]}"

    def _line(self, ordinal: int) -> bytes:
        with _opened(self._path, self.source) as file:
            file.seek(self._offsets[ordinal])
            return bytes(file.readline(self._longest + 1))


class JsonLines(Lines):
    """One JSON object a line; blank lines are none. Holds a byte offset and a line number for each record."""

    kind: Kind = "text"

    def __init__(self, path: Path, request: Request, name: str) -> None:
        """Raises `EmptyDataset` for a file without records, and `BadInput` where it is no file of JSON lines or its
        first record lacks one of the columns: then most likely the column is misspelt, not the record broken."""
        super().__init__(path, request, name, "one JSON object a line")
        self._check_first_record(request)
        self._text_column, self._label_column = request.text_column, request.label_column or "label"
        self._required = [column for column in (request.text_column, request.label_column) if column is not None]
        identity = f"{self._digest}\0{self._text_column}\0{self._label_column}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def _item(self, ordinal: int, line: bytes) -> Item | BadItem:
        key = self._key(ordinal)
        record = _parse(line)
        if isinstance(record, str):
            return BadItem(ordinal, key, record)
        for column in self._required:
            if column not in record:
                return BadItem(ordinal, key, f"has no field {column!r}; it has: {', '.join(record) or 'none'}")
        return text_item(ordinal, key, record.get(self._label_column), record[self._text_column], self._limits)

    def _check_first_record(self, request: Request) -> None:
        line = self._line(0)
        if line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
            raise BadInput(
                f"{self.source} holds a JSON array; expected one object a line. Convert it, for example "
                f"with `jq -c '.[]' {self._path.name} > {self._path.stem}.jsonl`"
            )
        record = _parse(line)
        if isinstance(record, dict):  # else `items` reports it, and other lines may be whole
            choose_text(request, dict.fromkeys(record, TEXT), self.source)
            request.choose_label(record, self.source)


class CsvRows(Lines):
    """Rows of numbers with commas (``.csv``) or tabs (``.tsv``) between them, under a header or not.

    A header is a first line without a number in it; without one, columns are called by their place, from 0.
    """

    kind: Kind = "vector"

    def __init__(self, path: Path, request: Request, name: str) -> None:
        """Raises `EmptyDataset` for a file without rows, and `BadInput` where a column is not there or its first row
        holds no number: then most likely the wrong columns were named, not the row broken."""
        super().__init__(path, request, name, "a row of numbers a line")
        self._delimiter = CSV_DELIMITERS[path.suffix.lower()]
        first = self._checked_fields(0)
        header = not any(map(_is_number, first))
        if header:
            self._offsets, self._lines = self._offsets[1:], self._lines[1:]
            if not len(self):
                raise EmptyDataset(f"{self.source} holds no row of numbers below its header")
        self._columns = first if header else [str(place) for place in range(len(first))]
        row = self._checked_fields(0)
        # A field that is missing says nothing of its column.
        columns = {
            column: NUMBER if not field.strip() or _is_number(field) else f"{field!r}"
            for column, field in zip(self._columns, row, strict=False)
        }
        label = request.choose_label(columns, self.source)
        chosen = choose_vector(request, columns, self.source)
        self._chosen = [self._columns.index(column) for column in chosen]
        self._label = None if label is None else self._columns.index(label)
        identity = f"{self._digest}\0{self._chosen}\0{self._label}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def _item(self, ordinal: int, line: bytes) -> Item | BadItem:
        key = self._key(ordinal)
        fields = self._fields(line)
        if isinstance(fields, str):
            return BadItem(ordinal, key, fields)
        if len(fields) != len(self._columns):
            has = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            return BadItem(ordinal, key, f"has {has}; expected {len(self._columns)}")
        label = None if self._label is None else fields[self._label].strip() or None
        numbers = [fields[place].strip() or "nan" for place in self._chosen]
        return vector_item(ordinal, key, label, numbers, self._limits)

    def _checked_fields(self, ordinal: int) -> list[str]:
        fields = self._fields(self._line(ordinal))
        if isinstance(fields, str):
            raise BadInput(f"{self._key(ordinal)} {fields}")
        return fields

    def _fields(self, line: bytes) -> list[str] | str:
        """The fields of a line, or the reason why there are none."""
        try:
            text = line.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return f"is not UTF-8: byte {error.start} of the line is 0x{line[error.start]:02x}"
        try:
            return next(csv.reader([text], delimiter=self._delimiter), [])
        except csv.Error as error:
            return f"is no line of fields: {error}"


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _scan_lines(path: Path, source: str) -> tuple[Int64[np.ndarray, " records"], Int64[np.ndarray, " records"], str]:
    """Byte offset and line number (from 1) of every line that is not blank, and the SHA-256 of the file."""
    offsets, lines, digest = array("q"), array("q"), hashlib.sha256()
    offset, start, number, blank = 0, 0, 1, True
    with _opened(path, source) as file:
        while piece := file.readline(PIECE_BYTES):
            digest.update(piece)
            blank = blank and piece.isspace()
            offset += len(piece)
            if piece.endswith(b"\n"):
                if not blank:
                    offsets.append(start)
                    lines.append(number)
                start, number, blank = offset, number + 1, True
    if not blank:  # the last line has no line break
        offsets.append(start)
        lines.append(number)
    return np.array(offsets, np.int64), np.array(lines, np.int64), digest.hexdigest()


def _opened(path: Path, source: str) -> Any:
    if (what := no_file(path)) is not None:
        raise BadInput(f"{source} {what}")
    try:
        return path.open("rb")
    except OSError as error:
        raise BadInput(f"{source} can't be read: {error.strerror}") from error


def _parse(line: bytes) -> dict[str, Any] | str:
    """The object on a line, or the reason why there is none."""
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return f"is not UTF-8: byte {error.start} of the line is 0x{line[error.start]:02x}"
    except (ValueError, RecursionError) as error:
        return f"is no JSON: {error}"
    return record if isinstance(record, dict) else "is JSON, but no object with named fields"
