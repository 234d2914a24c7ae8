"""Datasets out of Parquet files."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import BadInput, EmptyDataset

from .base import IMAGE, NUMBER, NUMBERS, TEXT, BadItem, InputLimits, Item, Request, named_class, ordinals
from .kinds import SOURCES

PARQUET = ".parquet"

BATCH_BYTES = 32 << 20
"""Of rows that are decoded at once."""

NUMBER_BYTES = 8

BOMB_INPUTS, BOMB_RATIO = 64, 200
"""A column that unpacks to more than so many of the largest inputs, and to so many times its bytes, is a bomb: of
texts that repeat one another a fiftieth is left, of others a tenth."""


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
        self._limits = request.limits
        self._groups: list[_RowGroup] = []
        self._starts = [0]  # of each row group, among all rows; at the end, the number of rows
        self._batches: _OpenBatches | None = None
        identity = hashlib.sha256()
        for path, key in files:
            where = self.source if Path(self.source).name == key else f"{self.source}: {key}"
            with _opened_parquet(path, where) as file:
                try:
                    table = _Table.of(path, key, where, file.schema_arrow, request)
                    self._add_groups(table, file.metadata)
                except UnicodeDecodeError as error:
                    raise BadInput(f"{where} can't be read as Parquet: its footer is not UTF-8 ({error})") from error
                known = (key, path.stat().st_size, file.metadata.num_rows, table.content, table.label)
                identity.update(f"{known}\n".encode())
        self.fingerprint = identity.hexdigest()
        if not len(self):
            raise EmptyDataset(f"{self.source} holds no row; its Parquet files: {len(files)}")

    def __getstate__(self) -> dict[str, Any]:
        """In another process nothing is open yet."""
        return vars(self) | {"_batches": None}

    def __len__(self) -> int:
        return self._starts[-1]

    def items(self, start: int = 0, stop: int | None = None) -> Iterator[Item | BadItem]:
        return map(self._item, ordinals(len(self), start, stop))

    def _item(self, ordinal: int) -> Item | BadItem:
        number = bisect_right(self._starts, ordinal) - 1
        group, row = self._groups[number], ordinal - self._starts[number]
        table = group.table
        key = f"{table.key}:{group.first_row + row}"
        if group.bomb is not None:
            return BadItem(ordinal, key, group.bomb)
        if self._batches is None or self._batches.group is not group or row < self._batches.first_row:
            if self._batches is not None:
                self._batches.close()
            self._batches = _OpenBatches(group, SOURCES[self.kind].rows_at_once)
        batch, i = self._batches.seek(row)
        try:
            cells = [batch.column(column)[i].as_py() for column in table.content]
            label = batch.column(table.label)[i].as_py() if table.label else None
        except UnicodeDecodeError as error:
            return BadItem(ordinal, key, f"is not UTF-8: byte {error.start} is 0x{error.object[error.start]:02x}")
        label = named_class(label, table.class_names)
        return SOURCES[self.kind].of_cells(ordinal, key, label, cells, self._limits)

    def _add_groups(self, table: _Table, metadata: Any) -> None:
        row = 0
        for number in range(metadata.num_row_groups):
            columns = {*table.content, table.label}
            self._groups.append(_row_group(table, number, row, metadata.row_group(number), columns, self._limits))
            row += metadata.row_group(number).num_rows
            self._starts.append(self._starts[-1] + metadata.row_group(number).num_rows)


@dataclass(frozen=True)
class _Table:
    """One Parquet file: its name in keys and in errors, its columns, and the names of integer labels."""

    path: Path
    key: str
    where: str
    content: tuple[str, ...]
    label: str | None
    class_names: Sequence[str] | None

    @classmethod
    def of(cls, path: Path, key: str, where: str, schema: pa.Schema, request: Request) -> _Table:
        content = SOURCES[request.kind].choose(request, {field.name: _holds(field.type) for field in schema}, where)
        label = request.choose_label(schema.names, where)
        for column in (*content, *([label] if label else [])):
            if (times := schema.names.count(column)) > 1:
                raise BadInput(f"{where} has {times} columns called {column!r}; rename all but one")
        return cls(path, key, where, content, label, _class_names(schema, label))


@dataclass(frozen=True)
class _RowGroup:
    """A row group of a file, and the row of the file that it starts with."""

    table: _Table
    number: int
    first_row: int
    row_bytes: int
    """Of a row, about, decoded; texts that occur again are not."""
    texts: tuple[str, ...]
    """Paths of its columns of texts or bytes."""
    bomb: str | None
    """Why nothing of it is decoded."""


def _row_group(
    table: _Table, number: int, first_row: int, metadata: Any, columns: set[str | None], limits: InputLimits
) -> _RowGroup:
    unpacked, bomb = 0, None
    texts: list[str] = []
    for place in range(metadata.num_columns):
        chunk = metadata.column(place)
        if chunk.path_in_schema.split(".")[0] not in columns:
            continue
        if chunk.physical_type == "BYTE_ARRAY":
            texts.append(chunk.path_in_schema)
        unpacked += max(chunk.total_uncompressed_size, NUMBER_BYTES * chunk.num_values)
        large = chunk.total_uncompressed_size > BOMB_INPUTS * limits.n_bytes
        if large and chunk.total_uncompressed_size > BOMB_RATIO * chunk.total_compressed_size:
            bomb = (
                f"is in a part of the file of which {chunk.total_compressed_size / 1e6:.3g} MB unpack to "
                f"{chunk.total_uncompressed_size / 1e6:.3g}; none is unpacked (--max-input-mb)"
            )
    return _RowGroup(table, number, first_row, unpacked // max(1, metadata.num_rows), tuple(texts), bomb)


class _OpenBatches:
    """A row group, being decoded batch by batch; rows count from its start."""

    def __init__(self, group: _RowGroup, rows_at_once: int) -> None:
        self.group = group
        self.first_row = 0  # of the batch at hand
        columns = [*group.table.content] + ([group.table.label] if group.table.label else [])
        self._batch: pa.RecordBatch | None = None
        # As a dictionary: what occurs again and again would be gigabytes, written out.
        self._file = _opened_parquet(group.table.path, group.table.where, read_dictionary=group.texts)
        rows = max(1, min(rows_at_once, BATCH_BYTES // max(1, group.row_bytes)))
        self._rest = self._file.iter_batches(rows, row_groups=[group.number], columns=columns)

    def seek(self, row: int) -> tuple[pa.RecordBatch, int]:
        """The batch that holds ``row``, at or after the one at hand, and the place of the row in it."""
        while self._batch is None or row >= self.first_row + len(self._batch):
            self.first_row += 0 if self._batch is None else len(self._batch)
            try:
                self._batch = next(self._rest)
            except (StopIteration, pa.ArrowException, OSError, KeyError) as error:
                first = self.group.first_row + self.first_row
                raise BadInput(
                    f"{self.group.table.where} is damaged from row {first} on, or changed while it was "
                    f"read: {error or 'it ends there'}"
                ) from error
        return self._batch, row - self.first_row

    def close(self) -> None:
        self._file.close()


def _opened_parquet(path: Path, where: str, read_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    try:
        # Pre-buffering would fetch a whole row group before its first row is seen.
        return pq.ParquetFile(
            path, pre_buffer=False, page_checksum_verification=True, read_dictionary=[*read_dictionary]
        )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:  # the last of a column's name
        raise BadInput(f"{where} can't be read as Parquet: {error}") from error


def _holds(type_: pa.DataType) -> str:
    """What a column holds, in the words of `base`; any other type by its name."""
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    if pa.types.is_string(value) or pa.types.is_large_string(value) or pa.types.is_string_view(value):
        return TEXT
    if _is_number(value):
        return NUMBER
    while _is_list(value):
        value = value.value_type
        if _is_number(value):
            return NUMBERS
    if pa.types.is_struct(type_) and type_.get_field_index("bytes") >= 0:
        type_ = type_.field("bytes").type
    return IMAGE if pa.types.is_binary(type_) or pa.types.is_large_binary(type_) else str(type_)


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_boolean(type_)


def _is_list(type_: pa.DataType) -> bool:
    return pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_fixed_size_list(type_)


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
