"""Rows to Parquet files of bounded size, and back. The same rows give the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atlas.errors import DamagedAtlas

from .manifest import Shard, shard_path

SHARD_BYTES = 450_000_000
"""A file ends with the row group in which it gets this large, so that it stays below 500 MB."""

GROUP_BYTES = 1 << 30
"""Of a row group when it is unpacked: thirty times what is written here, and little enough to refuse what is made to
fill the memory."""


def write_shards(
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    folder: Path,
    *,
    table: str,
    site_id: int | None = None,
    group_rows: int,
    shard_bytes: int = SHARD_BYTES,
) -> Iterator[tuple[Path, Shard]]:
    """Write rows into one file after the other, each of which may be removed before the next is asked for.

    Args:
        batches: rows in order; how many come at a time makes no difference.
        schema: their columns.
        folder: where the files are written.
        table: whose rows they are.
        site_id: of what site, for codes and activations.
        group_rows: rows of a row group.
        shard_bytes: a file ends with the row group in which it gets this large.
    """
    writer: pq.ParquetWriter | None = None
    number = rows = 0
    path = folder / f"{table}.parquet"
    try:
        for group in _groups(batches, group_rows):
            if writer is None:
                file = path.open("wb")
                # Codes and floats gain nothing from a dictionary; names and labels do, and get it by their type.
                texts = [field.name for field in schema if pa.types.is_string(field.type)]
                writer = pq.ParquetWriter(
                    file, schema, compression="zstd", use_dictionary=texts, write_page_checksum=True
                )
            writer.write_table(group, row_group_size=group_rows)
            rows += len(group)
            if file.tell() >= shard_bytes:
                yield _closed(writer, file, path, table, site_id, number, rows)
                writer, number, rows = None, number + 1, 0
        if writer is not None:
            yield _closed(writer, file, path, table, site_id, number, rows)
            writer = None
    finally:
        if writer is not None:
            writer.close()
            file.close()


def _closed(
    writer: pq.ParquetWriter, file: object, path: Path, table: str, site_id: int | None, number: int, rows: int
) -> tuple[Path, Shard]:
    writer.close()
    file.close()  # type: ignore[attr-defined]
    return path, Shard(shard_path(table, site_id, number, file_digest(path)), rows, path.stat().st_size)


def _groups(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly so many rows, but for the last."""
    pending: list[pa.RecordBatch] = []
    held = 0
    for batch in batches:
        while held + len(batch) >= rows:
            yield pa.Table.from_batches([*pending, batch.slice(0, rows - held)])
            batch, pending, held = batch.slice(rows - held), [], 0
        if len(batch):
            pending.append(batch)
            held += len(batch)
    if pending:
        yield pa.Table.from_batches(pending)


def read_shard(path: Path, shard: Shard, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a file whose digest was looked at, a row group at a time.

    Raises:
        DamagedAtlas: it has other columns, another number of rows, or rows that would fill the memory.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(schema) or file.metadata.num_rows != shard.rows:
                raise DamagedAtlas(
                    f"{shard.path} has {file.metadata.num_rows} rows of {file.schema_arrow.names}; expected "
                    f"{shard.rows} of {schema.names}, of the types that docs/FORMAT.md has; push the atlas again"
                )
            for group in range(file.num_row_groups):
                if file.metadata.row_group(group).total_byte_size > GROUP_BYTES:
                    raise DamagedAtlas(
                        f"{shard.path} has a row group of more than {GROUP_BYTES:,} bytes; push the atlas again"
                    )
                yield from file.read_row_group(group).to_batches()
    except (pa.ArrowException, OSError) as error:
        raise DamagedAtlas(f"{shard.path} is no Parquet file ({error}); push the atlas again") from None


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
