"""Codes and activations out of a run's shards, as batches of rows in the order and columns of the tables.

A site's column is read from every shard in turn, a row group of the file at a time; what is needed of it is handed on
in batches, and digested on the way. So memory is bounded by the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float32, UInt8, UInt32

from atlas.bfloat16 import from_bfloat16
from atlas.codes import words
from atlas.network import PART_UNITS, Site
from atlas.store.atlas import ROW_GROUP_ROWS
from atlas.store.digests import RowsDigest

from .shards import activation_column, code_column

BATCH_ROWS = 2 * ROW_GROUP_ROWS
BATCH_BYTES = 16 << 20
"""A batch ends where either is reached: 8,192 codes of 3,072 gates are 3 MB, a long row is a megabyte by itself."""

CODES = pa.schema(
    [("site_id", pa.uint16()), ("example_id", pa.uint32()), ("code", pa.binary()), ("n_active", pa.uint32())]
)
ACTIVATIONS = pa.schema(
    [
        ("site_id", pa.uint16()),
        ("example_id", pa.uint32()),
        ("part", pa.uint16()),
        ("activation", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Wanted:
    """Which rows of a site go into a table: ``rows`` marks them among all rows of the run.

    ``digest`` takes in what goes by; None where that would not be the digest of all that the site then holds.
    """

    site: Site
    site_id: int
    rows: Bool[np.ndarray, " run"]
    digest: RowsDigest | None


def code_batches(
    files: Sequence[Path], ids: UInt32[np.ndarray, " run"], wanted: Iterable[Wanted]
) -> Iterator[pa.RecordBatch]:
    """Codes of the sites, one site after the other, of the examples ``ids`` of all rows of the ``files``."""
    yield from gathered(_pieces(files, ids, wanted, code_column, _as_they_are), code_batch)


def activation_batches(
    files: Sequence[Path], ids: UInt32[np.ndarray, " run"], wanted: Iterable[Wanted]
) -> Iterator[pa.RecordBatch]:
    """The same of the activations, in parts of at most `PART_UNITS` units."""
    yield from gathered(_pieces(files, ids, wanted, activation_column, _as_numbers), activation_batch)


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one site."""

    site_id: int
    ids: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: slice) -> Piece:
        return Piece(self.site_id, self.ids[rows], self.values[rows])


def _pieces(
    files: Sequence[Path],
    ids: np.ndarray,
    wanted: Iterable[Wanted],
    column_of: Callable[[Site], str],
    values_of: Callable[[UInt8[np.ndarray, "rows bytes"], Site], np.ndarray],
) -> Iterator[Piece]:
    for site in wanted:
        place = 0
        for raw in _read(files, column_of(site.site)):
            here = slice(place, place + len(raw))
            place += len(raw)
            kept = site.rows[here]
            if not kept.any():
                continue
            piece = Piece(site.site_id, ids[here], values_of(raw, site.site))
            if not kept.all():
                piece = Piece(site.site_id, piece.ids[kept], piece.values[kept])
            if site.digest is not None:
                site.digest.update(piece.values)
            yield piece


def _as_they_are(raw: UInt8[np.ndarray, "rows bytes"], site: Site) -> UInt8[np.ndarray, "rows bytes"]:
    return raw


def _as_numbers(raw: UInt8[np.ndarray, "rows bytes"], site: Site) -> Float32[np.ndarray, "rows units"]:
    """Activations as float32, of which they were staged or, in half of the bytes, as bfloat16."""
    if raw.shape[1] == 2 * site.n_units:
        return from_bfloat16(raw.view(np.uint16))
    return raw.view(np.float32)


def _read(files: Sequence[Path], column: str) -> Iterator[UInt8[np.ndarray, "rows bytes"]]:
    """A column of rows of equal width, as it lies in Arrow's buffer."""
    for path in files:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                for chunk in file.read_row_group(group, columns=[column], use_threads=False).column(0).chunks:
                    width = chunk.type.byte_width
                    raw = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, chunk.offset * width)
                    yield raw.reshape(len(chunk), width)


def gathered(pieces: Iterator[Piece], batch_of: Callable[[list[Piece]], pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of exactly `BATCH_ROWS` rows where these are short: they cross from one site to the next, so that every
    row group is full and the writer's threads have one each."""
    pending: list[Piece] = []
    rows = n_bytes = 0
    for piece in pieces:
        while len(piece):
            room = min(BATCH_ROWS - rows, max(1, (BATCH_BYTES - n_bytes) // piece.values[0].nbytes))
            pending.append(piece[:room])
            rows, n_bytes = rows + len(pending[-1]), n_bytes + pending[-1].values.nbytes
            piece = piece[room:]
            if rows == BATCH_ROWS or n_bytes + pending[-1].values[0].nbytes > BATCH_BYTES:
                yield batch_of(pending)
                pending, rows, n_bytes = [], 0, 0
    if pending:
        yield batch_of(pending)


def _bits_set(packed: UInt8[np.ndarray, "codes bytes"]) -> UInt32[np.ndarray, " codes"]:
    counts: UInt32[np.ndarray, " codes"] = np.bitwise_count(words(packed)).sum(axis=1, dtype=np.uint32)
    return counts


def code_batch(pieces: list[Piece]) -> pa.RecordBatch:
    """Rows of table ``codes``."""
    n_active = np.concatenate([_bits_set(piece.values) for piece in pieces])
    widths = np.repeat([piece.values.shape[1] for piece in pieces], [len(piece) for piece in pieces])
    code = pa.Array.from_buffers(pa.binary(), len(n_active), [None, _ends(widths), _end_to_end(pieces)])
    site_ids, example_ids = _labels(pieces, [1] * len(pieces))
    return pa.RecordBatch.from_arrays([site_ids, example_ids, code, pa.array(n_active)], schema=CODES)


def activation_batch(pieces: list[Piece]) -> pa.RecordBatch:
    """Rows of table ``activations``, one a part: the units of an activation from part · PART_UNITS on."""
    lengths, parts, repeats = [], [], []
    for piece in pieces:
        units = piece.values.shape[1]
        starts = np.arange(0, units, PART_UNITS)
        lengths.append(np.tile(np.diff(starts, append=units), len(piece)))
        parts.append(np.tile(np.arange(len(starts), dtype=np.uint16), len(piece)))
        repeats.append(len(starts))
    part = np.concatenate(parts)
    numbers = pa.Array.from_buffers(
        pa.float32(), sum(piece.values.size for piece in pieces), [None, _end_to_end(pieces)]
    )
    ends = pa.Array.from_buffers(pa.int32(), len(part) + 1, [None, _ends(np.concatenate(lengths))])
    site_ids, example_ids = _labels(pieces, repeats)
    columns = [site_ids, example_ids, pa.array(part), pa.ListArray.from_arrays(ends, numbers)]
    return pa.RecordBatch.from_arrays(columns, schema=ACTIVATIONS)


def _labels(pieces: list[Piece], repeats: list[int]) -> tuple[pa.Array, pa.Array]:
    """Site and example of every row, each example ``repeats`` times."""
    site_ids = np.repeat(
        [piece.site_id for piece in pieces],
        [len(piece) * times for piece, times in zip(pieces, repeats, strict=True)],
    )
    ids = np.concatenate([np.repeat(piece.ids, times) for piece, times in zip(pieces, repeats, strict=True)])
    return pa.array(site_ids.astype(np.uint16)), pa.array(ids.astype(np.uint32))


def _end_to_end(pieces: list[Piece]) -> pa.Buffer:
    return pa.py_buffer(np.concatenate([piece.values.reshape(-1) for piece in pieces]))


def _ends(lengths: np.ndarray) -> pa.Buffer:
    """Arrow's offsets of rows of these lengths."""
    return pa.py_buffer(np.append(0, np.cumsum(lengths)).astype(np.int32))
