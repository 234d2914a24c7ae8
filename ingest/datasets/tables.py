"""Datasets out of files of records: JSON lines and Parquet."""

from __future__ import annotations

import hashlib
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from atlas.errors import BadInput, EmptyDataset

from .base import BadItem, Item, Kind, Request, named_class, ordinals, printable, text_item
from .images import image_cell_item

JSON_SUFFIXES = frozenset({".jsonl", ".json"})
PARQUET = ".parquet"

ROWS_AT_ONCE = {"text": 256, "image": 16}
"""Rows of a Parquet file that are held decoded: a few MB of either kind."""


class JsonLines:
    """One JSON object a line; blank lines are no records. Holds a byte offset and a line number for each record."""

    kind: Kind = "text"
    ignored: Mapping[str, int] = {}

    def __init__(self, path: Path, request: Request, name: str) -> None:
        """Read the file once for the offsets and its digest.

        Raises `EmptyDataset` for a file without records, and `BadInput` where it is no file of JSON lines or its
        first record lacks one of the columns: then most likely the column is misspelt, not the record broken.
        """
        self.name, self.source = name, request.source
        self._path = path
        self._offsets, self._lines, digest = _scan_lines(path, self.source)
        if not len(self._offsets):
            raise EmptyDataset(f"{self.source} holds no record; expected one JSON object a line")
        self._check_first_record(request)
        self._text_column, self._label_column = request.text_column, request.label_column or "label"
        self._required = [column for column in (request.text_column, request.label_column) if column is not None]
        identity = f"{digest}\0{self._text_column}\0{self._label_column}"
        self.fingerprint = hashlib.sha256(identity.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._offsets)

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return self._read(ordinals(len(self), start, stop))

    def _read(self, wanted: range) -> Iterator[Item | BadItem]:
        with _opened(self._path, self.source) as file:
            for ordinal in wanted:
                file.seek(self._offsets[ordinal])
                yield self._item(ordinal, file.readline())

    def _item(self, ordinal: int, line: bytes) -> Item | BadItem:
        key = f"{printable(self._path.name)}:{self._lines[ordinal]}"
        record = _parse(line)
        if isinstance(record, str):
            return BadItem(ordinal, key, record)
        for column in self._required:
            if column not in record:
                return BadItem(ordinal, key, f"has no field {column!r}; it has: {', '.join(record) or 'none'}")
        return text_item(ordinal, key, record.get(self._label_column), record[self._text_column])

    def _check_first_record(self, request: Request) -> None:
        with _opened(self._path, self.source) as file:
            file.seek(self._offsets[0])
            line = file.readline()
        if line.lstrip(b"\xef\xbb\xbf \t").startswith(b"["):
            raise BadInput(
                f"{self.source} holds a JSON array; expected one object a line. Convert it, for example "
                f"with `jq -c '.[]' {self._path.name} > {self._path.stem}.jsonl`"
            )
        record = _parse(line)
        if isinstance(record, dict):  # else `items` reports it, and other lines may be whole
            request.choose_content(dict.fromkeys(record, "text"), self.source)
            request.choose_label(record, self.source)


def _scan_lines(path: Path, source: str) -> tuple[Int64[np.ndarray, " records"], Int64[np.ndarray, " records"], str]:
    """Byte offset and line number (from 1) of every line that is not blank, and the SHA-256 of the file."""
    offsets, lines, digest = array("q"), array("q"), hashlib.sha256()
    offset = 0
    with _opened(path, source) as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            if not line.isspace():
                offsets.append(offset)
                lines.append(number)
            offset += len(line)
    return np.array(offsets, np.int64), np.array(lines, np.int64), digest.hexdigest()


def _opened(path: Path, source: str) -> Any:
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


class ParquetRows:
    """The rows of one or more Parquet files, in the order of the files. Holds where each row group starts.

    A row group can only be decoded from its start, so the last batch stays open: reading on from where the last call
    stopped costs nothing, however small the calls are. One thread at a time.
    """

    def __init__(
        self, files: Sequence[tuple[Path, str]], request: Request, name: str, ignored: Mapping[str, int]
    ) -> None:
        """Read the footers of ``files``, given as (path, name within the dataset).

        Raises `BadInput` for a file that is no Parquet or lacks a column, `EmptyDataset` where there is no row.
        """
        self.name, self.source, self.kind, self.ignored = name, request.source, request.kind, ignored
        self._groups: list[_RowGroup] = []
        self._starts = [0]  # of each row group, among all rows; at the end, the number of rows
        self._batches: _OpenBatches | None = None
        identity = hashlib.sha256()
        for path, key in files:
            where = self.source if Path(self.source).name == key else f"{self.source}: {key}"
            with _opened_parquet(path, where) as file:
                table = _Table.of(path, key, where, file.schema_arrow, request)
                self._add_groups(table, file.metadata)
                known = (key, path.stat().st_size, file.metadata.num_rows, table.content, table.label)
                identity.update(f"{known}\n".encode())
        self.fingerprint = identity.hexdigest()
        if not len(self):
            raise EmptyDataset(f"{self.source} holds no row; its Parquet files: {len(files)}")

    def __len__(self) -> int:
        return self._starts[-1]

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._item, ordinals(len(self), start, stop))

    def _item(self, ordinal: int) -> Item | BadItem:
        number = bisect_right(self._starts, ordinal) - 1
        group, row = self._groups[number], ordinal - self._starts[number]
        if self._batches is None or self._batches.group is not group or row < self._batches.first_row:
            if self._batches is not None:
                self._batches.close()
            self._batches = _OpenBatches(group, ROWS_AT_ONCE[self.kind])
        table = group.table
        key = f"{table.key}:{group.first_row + row}"
        batch, i = self._batches.seek(row)
        try:
            content = batch.column(table.content)[i].as_py()
            label = batch.column(table.label)[i].as_py() if table.label else None
        except UnicodeDecodeError as error:
            return BadItem(ordinal, key, f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}")
        label = named_class(label, table.class_names)
        item = text_item if self.kind == "text" else image_cell_item
        return item(ordinal, key, label, content)

    def _add_groups(self, table: _Table, metadata: Any) -> None:
        row = 0
        for number in range(metadata.num_row_groups):
            self._groups.append(_RowGroup(table, number, row))
            row += metadata.row_group(number).num_rows
            self._starts.append(self._starts[-1] + metadata.row_group(number).num_rows)


@dataclass(frozen=True)
class _Table:
    """One Parquet file: its name in keys and in errors, its columns, and the names of integer labels."""

    path: Path
    key: str
    where: str
    content: str
    label: str | None
    class_names: Sequence[str] | None

    @classmethod
    def of(cls, path: Path, key: str, where: str, schema: pa.Schema, request: Request) -> _Table:
        content = request.choose_content({field.name: _holds(field.type) for field in schema}, where)
        label = request.choose_label(schema.names, where)
        return cls(path, key, where, content, label, _class_names(schema, label))


@dataclass(frozen=True)
class _RowGroup:
    """A row group of a file, and the row of the file that it starts with."""

    table: _Table
    number: int
    first_row: int


class _OpenBatches:
    """A row group, being decoded batch by batch; rows count from its start."""

    def __init__(self, group: _RowGroup, rows_at_once: int) -> None:
        self.group = group
        self.first_row = 0  # of the batch at hand
        columns = [group.table.content] + ([group.table.label] if group.table.label else [])
        self._batch: pa.RecordBatch | None = None
        self._file = _opened_parquet(group.table.path, group.table.where)
        self._rest = self._file.iter_batches(rows_at_once, row_groups=[group.number], columns=columns)

    def seek(self, row: int) -> tuple[pa.RecordBatch, int]:
        """The batch that holds ``row``, at or after the one at hand, and the place of the row in it."""
        while self._batch is None or row >= self.first_row + len(self._batch):
            self.first_row += 0 if self._batch is None else len(self._batch)
            try:
                self._batch = next(self._rest)
            except (StopIteration, pa.ArrowException, OSError) as error:
                first = self.group.first_row + self.first_row
                raise BadInput(
                    f"{self.group.table.where} is damaged from row {first} on, or changed while it was "
                    f"read: {error or 'it ends there'}"
                ) from error
        return self._batch, row - self.first_row

    def close(self) -> None:
        self._file.close()


def _opened_parquet(path: Path, where: str) -> pq.ParquetFile:
    try:
        # Pre-buffering would fetch a whole row group before its first row is seen.
        return pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{where} can't be read as Parquet: {error}") from error


def _holds(type_: pa.DataType) -> str:
    """What a column holds, in the words of `Request.choose_content`."""
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value):
        return "text"
    if pa.types.is_struct(type_) and type_.get_field_index("bytes") >= 0:
        type_ = type_.field("bytes").type
    return "image" if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) else str(type_)


def _class_names(schema: pa.Schema, label: str | None) -> Sequence[str] | None:
    """The names behind integer labels, which Hugging Face writes into the schema's metadata; None without them."""
    written = (schema.metadata or {}).get(b"huggingface")
    if written is None or label is None:
        return None
    try:
        names = json.loads(written)["info"]["features"][label]["names"]
    except (ValueError, LookupError, TypeError):  # another version's metadata, or a label that is no class
        return None
    return names if isinstance(names, list) else None
