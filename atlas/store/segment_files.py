"""Codes and activations as Parquet files: a site of a segment is one file, or several of `SEGMENT_EXAMPLES` each.

A code is a binary of as many bytes as the site needs, an activation a list of float32; site_id stands in the name, as
Hive writes it, so that a query about one site opens the files of that site alone.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .digests import SiteTable
from .disk import disk_full
from .places import SharedFile
from .versions import SEGMENTS, SegmentFile

SEGMENT_EXAMPLES = 4_000_000
"""Examples in a file at most."""

ROW_GROUP_ROWS = 8192
ROW_GROUP_BYTES = 16 << 20
"""A row group ends where either is reached: as many codes of 3,072 gates are 3 MB."""

PAGE_BYTES = 1 << 20
DEFAULT_WRITE_BATCH = 1024

SCHEMAS: dict[SiteTable, pa.Schema] = {
    "codes": pa.schema([("example_id", pa.uint32()), ("code", pa.binary()), ("n_active", pa.uint32())]),
    "activations": pa.schema(
        [("example_id", pa.uint32()), ("part", pa.uint16()), ("activation", pa.list_(pa.float32()))]
    ),
}
"""Columns of a file; the codes of one are all of one width, which is that of its type."""


@dataclass(frozen=True)
class Empty:
    """A file without rows, which stands for those of an atlas that has none yet."""

    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def opened(self) -> Any:
        return _InMemory(self.content)


class _InMemory(SharedFile):
    def __init__(self, content: bytes) -> None:
        super().__init__(len(content))
        self._content = content

    def read_at(self, start: int, length: int) -> bytes:
        return self._content[start : start + length]


def _empty(table: SiteTable) -> Empty:
    file = io.BytesIO()
    pq.write_table(SCHEMAS[table].empty_table(), file)
    return Empty(file.getvalue())


def empty_name(table: SiteTable) -> str:
    return f"{SEGMENTS}/empty/{table}/site_id=0/0.parquet"


EMPTY = {empty_name("codes"): _empty("codes"), empty_name("activations"): _empty("activations")}


def write_segments(
    root: Path,
    token: str,
    table: SiteTable,
    batches: Iterable[pa.RecordBatch],
    first_number: int = 0,
    most: int = SEGMENT_EXAMPLES,
) -> list[SegmentFile]:
    """Write rows of a table into the files of a segment below the folder ``root``, one site after the other.

    Args:
        root: folder of the atlas.
        token: names the segment.
        table: codes or activations.
        batches: rows with their site_id, all of a site together.
        first_number: of the first file.
        most: examples in a file at most.

    Returns:
        What was written.

    Raises:
        DiskFull: it does not fit. What was written until then is left.
    """
    written: list[SegmentFile] = []
    open_file: _File | None = None
    with disk_full(root):
        try:
            for batch in batches:
                for site_id, rows in _by_site(batch):
                    while len(rows):
                        if open_file is not None and (
                            open_file.site_id != site_id or not (room := open_file.room(rows, most))
                        ):
                            written.append(open_file.finished())
                            open_file = None
                        if open_file is None:
                            number = first_number + len(written)
                            name = f"{SEGMENTS}/{token}/{table}/site_id={site_id}/{number}.parquet"
                            open_file = _File(root, name, table, site_id, rows)
                            room = open_file.room(rows, most)
                        open_file.add(rows[:room])
                        rows = rows[room:]
            if open_file is not None:
                written.append(open_file.finished())
                open_file = None
        finally:
            if open_file is not None:
                open_file.close()
    return written


def _by_site(batch: pa.RecordBatch) -> Iterable[tuple[int, pa.RecordBatch]]:
    sites = batch.column("site_id").to_numpy(zero_copy_only=False)
    starts = [0, *(np.flatnonzero(sites[1:] != sites[:-1]) + 1).tolist()]
    for start, stop in zip(starts, [*starts[1:], len(batch)], strict=True):
        if stop > start:
            yield int(sites[start]), batch.slice(start, stop - start)


_NUMBERS = "activation.list.element"
"""What Parquet calls the numbers of an activation."""


class _File:
    """A file that is being written, hashed on the way."""

    def __init__(self, root: Path, name: str, table: SiteTable, site_id: int, rows: pa.RecordBatch) -> None:
        self.name, self.table, self.site_id, self.n_examples = name, table, site_id, 0
        self._path = root / name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._raw = self._path.open("xb")
        self._hash = hashlib.sha256()
        self._rows, self._first, self._last = 0, 2**32, -1
        schema, width = SCHEMAS[table], 0
        if table == "codes":
            width = pc.binary_length(rows.column("code")[:1])[0].as_py()
            schema = schema.set(1, pa.field("code", pa.binary(width)))
        self._schema = schema
        # Codes are repetitive as often as not. Of activations the first bytes are alike, and the last ones zero where
        # they were rounded to bfloat16: byte by byte they compress to 3.4 of 4 bytes, 2.2 after ReLU, and rounded to
        # 1.4 and 0.95. Only ids are ever looked for.
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self, "w"),
            schema,
            compression="zstd",
            compression_level=1,
            use_byte_stream_split=[_NUMBERS] if table == "activations" else False,
            use_dictionary=False,
            write_statistics=["example_id"],
            write_page_checksum=True,
            write_batch_size=max(1, min(DEFAULT_WRITE_BATCH, PAGE_BYTES // max(1, width))),
        )

    # What Arrow asks of a file.
    closed = False

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._raw.write(data)

    def tell(self) -> int:
        return self._raw.tell()

    def flush(self) -> None:
        self._raw.flush()

    def room(self, rows: pa.RecordBatch, most: int) -> int:
        """How many of the rows fit in, of which an example may have several."""
        left = most - self.n_examples
        starts = self._starts(rows)
        if len(starts) > left:
            return int(starts[left])
        return len(rows)

    def _starts(self, rows: pa.RecordBatch) -> np.ndarray:
        """Where an example begins."""
        if self.table == "codes":
            return np.arange(len(rows))
        return np.flatnonzero(rows.column("part").to_numpy(zero_copy_only=False) == 0)

    def add(self, rows: pa.RecordBatch) -> None:
        ids = rows.column("example_id")
        self._first = min(self._first, pc.min(ids).as_py())
        self._last = max(self._last, pc.max(ids).as_py())
        self._rows += len(rows)
        self.n_examples += len(self._starts(rows))
        columns = [rows.column(name) for name in self._schema.names]
        if self.table == "codes":
            columns[1] = columns[1].cast(self._schema.field("code").type)
        step = max(1, min(ROW_GROUP_ROWS, ROW_GROUP_BYTES * len(rows) // max(1, rows.nbytes)))
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema), row_group_size=step)

    def finished(self) -> SegmentFile:
        self._writer.close()
        size = self._raw.tell()
        self._raw.close()
        return SegmentFile(
            self.name, size, self._hash.hexdigest(), self.table, self.site_id, self._rows, self._first, self._last
        )

    def close(self) -> None:
        """Let go of a file that is not finished."""
        self._raw.close()
