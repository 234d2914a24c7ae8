"""Digests of what an atlas holds: they depend on the rows alone, not on how many are read at a time.

Each column is hashed for itself, in order of the table's key: SHA-256 over three others, of which rows hold a value
(a byte each), of the lengths of texts, blobs and lists (int64), and of the values end to end, little-endian. Codes
and activations are digested by site (`sites.codes_digest`, `sites.activations_digest`), over ids and values, piece by
piece. All other tables but ``meta`` are digested by what their rows belong to, a run or a clustering for example, in
table ``digests``; what is appended later has digests of its own. Times are not digested: a plan gives the same again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Integer, Shaped

from ..errors import DamagedAtlas, UsageError
from .blocks import activation_blocks, code_blocks
from .catalog import SiteRecord
from .statements import Statements, quoted

BLOCK_IDS = 8192
"""Values of the key that are read at a time, so that what is sorted is bounded. Digests don't depend on it."""

BATCH_ROWS = 8192

PIECE_IDS = 1 << 14
"""Ids whose rows of a site are digested together: 6 MB of codes of 3,072 gates, the most an append reads again."""

ROWS = "rows"
"""What stands for a column where whole rows of a site are digested."""

SiteTable = Literal["codes", "activations"]


@dataclass(frozen=True)
class Digested:
    """A table whose rows are digested together where they agree in the columns ``owner``, in order of ``key``."""

    table: str
    owner: tuple[str, ...]
    key: tuple[str, ...]
    block_ids: int = BLOCK_IDS


TABLES = [
    Digested("networks", (), ("network_id",)),
    Digested("sites", (), ("site_id",)),
    Digested("spans", (), ("span_id",)),
    Digested("datasets", (), ("dataset_id",)),
    Digested("indexes", (), ("network_id", "target", "kind")),
    Digested("runs", ("run_id",), ("run_id",)),
    Digested("shards", ("run_id",), ("shard",)),
    Digested("bad_inputs", ("run_id",), ("key", "reason")),
    Digested("inputs", ("run_id",), ("input_id",), block_ids=512),  # whole texts and thumbnails
    Digested("dataset_inputs", ("run_id",), ("ordinal",)),
    Digested("examples", ("run_id",), ("example_id",)),
    Digested("clusterings", ("clustering_id",), ("clustering_id",)),
    Digested("cluster_labels", ("clustering_id",), ("example_id",)),
    Digested("clusters", ("clustering_id",), ("label",)),
    Digested("condensed_trees", ("clustering_id",), ("child",)),
    Digested("layouts", ("layout_id",), ("layout_id",)),
    Digested("layout_points", ("layout_id",), ("example_id",)),
    Digested("neighborhoods", ("network_id", "target"), ("network_id",)),
    Digested("neighbors", ("network_id", "target"), ("example_id", "rank")),
    Digested("bounded_spans", ("network_id", "span"), ("network_id",)),
    Digested("boundaries", ("network_id", "span"), ("example_id", "rank")),
    Digested("experiments", ("experiment_id",), ("experiment_id",)),
    Digested("experiment_columns", ("experiment_id",), ("ordinal",)),
    Digested("experiment_rows", ("experiment_id",), ("row_number", "table_name")),
    Digested("directions", ("experiment_id",), ("site_id", "method", "component")),
]


def seal(atlas: Statements, *tables: str, **owner: int | str) -> None:
    """Digest what was just written, in place of what was known of it; in the transaction that wrote it.

    Args:
        atlas: open for writing.
        tables: those that are digested whole.
        owner: what the rows belong to, as ``run_id=3`` or ``network_id=1, target="blocks.0.mlp"``: the rows of every
            table that is digested by it.
    """
    sealed = [each for each in TABLES if each.table in tables or (owner and each.owner == tuple(owner))]
    columns = _columns(atlas)
    rows: list[tuple[str, str, str, int, str]] = []
    for digested in sealed:
        belongs = owner if digested.owner else {}
        n_rows, found = _digests(atlas, digested, belongs, _with_digest(digested, columns))
        rows += [(digested.table, json.dumps(belongs), name, n_rows, digest) for name, digest in found.items()]
    if not rows:
        return
    # In two statements: each table and column in one of its own took a third of all that a small run writes.
    written = [list(values) for values in zip(*rows, strict=True)]
    atlas.execute(
        'delete from digests where ("table", owner) in (select (unnest($1), unnest($2)))', [written[0], written[1]]
    )
    atlas.execute("insert into digests select unnest($1), unnest($2), unnest($3), unnest($4), unnest($5)", written)


@contextmanager
def changing(atlas: Statements, table: str, *columns: str, **owner: int | str) -> Iterator[None]:
    """Digest columns of rows that are changed inside, once that is done; in the transaction that changes them.

    Raises `DamagedAtlas` where they are not as they were written: the new digest would be of what is wrong.
    """
    [digested] = [digested for digested in TABLES if digested.table == table]
    known = [table, json.dumps(owner)]
    of_column = 'where "table" = $1 and owner = $2 and "column" = $3'
    for column, digest in _digests(atlas, digested, owner, columns)[1].items():
        if atlas.value(f"select digest from digests {of_column}", [*known, column]) != digest:
            belongs = ", ".join(f"{name} {value}" for name, value in owner.items())
            raise DamagedAtlas(
                f"{column} of {table} ({belongs}) changed since it was written; `polytope verify` names all that did"
            )
    yield
    for column, digest in _digests(atlas, digested, owner, columns)[1].items():
        atlas.execute(f"update digests set digest = $4 {of_column}", [*known, column, digest])


def changes(atlas: Statements) -> Iterator[tuple[str, str]]:
    """What every digested part of the atlas is called, and what is wrong with it or nothing. Reads all of it."""
    all_columns = _columns(atlas)
    for digested in TABLES:
        stored: dict[str, dict[str, tuple[int, str]]] = {}
        query = 'select owner, "column", n_rows, digest from digests where "table" = $1 order by rowid'
        for owner, column, n_rows, digest in atlas.rows(query, [digested.table]):
            stored.setdefault(owner, {})[column] = (n_rows, digest)
        present = owners(atlas, digested)
        for owner in dict.fromkeys([*present, *stored]):
            belongs = json.loads(owner)
            of = "".join(f", {name} {value}" for name, value in belongs.items())
            if owner not in stored:
                yield digested.table + of, "what is stored has no digest: it was not written by this project"
                continue
            n_rows, columns = _digests(atlas, digested, belongs, _with_digest(digested, all_columns))
            [n_stored] = {n for n, _ in stored[owner].values()}
            changed = [name for name in columns if columns[name] != stored[owner].get(name, (0, ""))[1]]
            detail = f"{', '.join(changed)} changed since it was written" if changed else ""
            if n_rows != n_stored:
                detail = f"{n_stored} rows were written, there are {n_rows}"
            yield digested.table + of, detail


def owners(atlas: Statements, digested: Digested) -> list[str]:
    """What the rows of a table belong to, each as table ``digests`` has it."""
    if not digested.owner:
        return ["{}"] if atlas.value(f"select count(*) from {quoted(digested.table)}") else []
    columns = ", ".join(map(quoted, digested.owner))
    rows = atlas.rows(f"select distinct {columns} from {quoted(digested.table)} order by all")
    return [json.dumps(dict(zip(digested.owner, row, strict=True))) for row in rows]


def _digests(
    atlas: Statements, digested: Digested, owner: dict[str, int | str], names: Sequence[str]
) -> tuple[int, dict[str, str]]:
    """The number of rows that belong to an owner, and the digest of each of the columns ``names``."""
    columns = {name: ColumnDigest() for name in names}
    n_rows = 0
    for batch in batches_of(atlas, digested, list(columns), owner):
        if len(batch) == 0:  # of a list it would make an empty list of items
            continue
        n_rows += len(batch)
        for (name, _), values in zip(columns.items(), batch.columns, strict=True):
            columns[name].update(values)
    return n_rows, {name: column.hexdigest() for name, column in columns.items()}


def digested_columns(atlas: Statements, digested: Digested) -> list[str]:
    """Columns of a table that have a digest, in order."""
    return _with_digest(digested, _columns(atlas))


def _columns(atlas: Statements) -> dict[str, list[tuple[str, str]]]:
    """Names and types of the columns of every table, in order. They stay as they are while it is open."""
    if atlas.columns_of_tables:
        return atlas.columns_of_tables
    columns: dict[str, list[tuple[str, str]]] = {}
    query = "select table_name, column_name, data_type from duckdb_columns() where not internal order by column_index"
    for table, name, kind in atlas.rows(query):
        columns.setdefault(table, []).append((name, kind))
    atlas.columns_of_tables = columns
    return columns


def _with_digest(digested: Digested, columns: dict[str, list[tuple[str, str]]]) -> list[str]:
    return [name for name, kind in columns[digested.table] if name not in digested.owner and kind != "TIMESTAMP"]


def batches_of(
    atlas: Statements, digested: Digested, columns: Sequence[str], owner: dict[str, int | str]
) -> Iterator[pa.RecordBatch]:
    """The columns of the rows that belong to an owner, in order of the key; a whole number as the first of the key
    is read block by block."""
    table, key = quoted(digested.table), quoted(digested.key[0])
    where = " and ".join([f"{quoted(name)} = ${at}" for at, name in enumerate(owner, start=1)] or ["true"])
    selected = f"select {', '.join(map(quoted, columns))} from {table} where {where}"
    order = f"order by {', '.join(map(quoted, digested.key))}"
    [(first, last)] = atlas.rows(f"select min({key}), max({key}) from {table} where {where}", list(owner.values()))
    if first is None:  # no rows
        return
    if not isinstance(first, int):
        yield from atlas.batches(f"{selected} {order}", list(owner.values()), BATCH_ROWS)
        return
    at = len(owner)
    block = f"{selected} and {key} between ${at + 1} and ${at + 2} {order}"
    for start in range(first, last + 1, digested.block_ids):
        yield from atlas.batches(block, [*owner.values(), start, start + digested.block_ids - 1], BATCH_ROWS)


class ColumnDigest:
    """The digest of a column whose values come batch by batch."""

    def __init__(self) -> None:
        self._present, self._lengths, self._values = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
        self._items: ColumnDigest | None = None  # of lists

    def update(self, column: pa.Array) -> None:
        """Take in the next values; not of an empty batch, which would make an empty list of what holds lists."""
        self._present.update(_bytes(column.is_valid()))
        column = column.drop_null()
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            self._lengths.update(_bytes(column.value_lengths().cast(pa.int64())))
            self._items = self._items or ColumnDigest()
            self._items.update(column.flatten())
        elif pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            self._lengths.update(_bytes(pc.binary_length(column).cast(pa.int64())))
            self._values.update(_end_to_end(column))
        else:
            self._values.update(_bytes(column))

    def hexdigest(self) -> str:
        """The digest of what came until now."""
        parts = [part.digest() for part in (self._present, self._lengths, self._values)]
        if self._items is not None:
            parts[-1] = bytes.fromhex(self._items.hexdigest())
        return hashlib.sha256(b"".join(parts)).hexdigest()


def _bytes(column: pa.Array) -> bytes:
    values = column.to_numpy(zero_copy_only=False)
    return values.astype(values.dtype.newbyteorder("<")).tobytes()


def _end_to_end(column: pa.Array) -> memoryview:
    """The bytes of texts or blobs without nulls, one after the other."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if data is not None and len(column) else memoryview(b"")


# --- codes and activations of a site ---------------------------------------------------------------------------


class SiteDigest:
    """The digest of a site's codes or activations, by pieces: the rows of `PIECE_IDS` consecutive ids are one.

    A piece's is the SHA-256 over two others, of the ids (int64) and of their values in order of id; the site's is
    that over those of its pieces. So what is appended leaves the pieces before it as they are, and it makes no
    difference in how many goes rows came.
    """

    def __init__(self) -> None:
        self.pieces: dict[int, tuple[int, str]] = {}
        """Rows and digest of every piece, by its number: that of its first id over `PIECE_IDS`."""
        self._number: int | None = None

    def update(self, ids: Integer[np.ndarray, " rows"], values: Shaped[np.ndarray, "rows width"]) -> None:
        """Take in the next rows, in order of id."""
        numbers = ids // PIECE_IDS
        for number in np.unique(numbers).tolist():
            if number != self._number:
                self._end_piece()
                self._number, self._count = number, 0
                self._ids, self._values = hashlib.sha256(), hashlib.sha256()
            first, stop = np.searchsorted(numbers, [number, number + 1])
            self._ids.update(ids[first:stop].astype("<i8").data)
            self._values.update(np.ascontiguousarray(values[first:stop]).data)
            self._count += int(stop - first)

    def _end_piece(self) -> None:
        if self._number is not None:
            digest = hashlib.sha256(self._ids.digest() + self._values.digest()).hexdigest()
            self.pieces[self._number] = self._count, digest
            self._number = None

    def result(self) -> tuple[int, str | None]:
        """The number of rows and their digest, once all were taken in; None where there were none."""
        self._end_piece()
        return whole(self.pieces)


def whole(pieces: Mapping[int, tuple[int, str]]) -> tuple[int, str | None]:
    """The number of rows of a site's pieces, and the digest of all; None where there are none."""
    together = "".join(digest for _, (_, digest) in sorted(pieces.items()))
    digest = hashlib.sha256(bytes.fromhex(together)).hexdigest() if pieces else None
    return sum(count for count, _ in pieces.values()), digest


class RowsDigest:
    """A `SiteDigest` of rows all of whose ids are known beforehand, so that values are digested on their way."""

    def __init__(self, ids: Integer[np.ndarray, " rows"]) -> None:
        """``ids`` ascend, each once; `UsageError` otherwise."""
        if (ids[1:] <= ids[:-1]).any():
            raise UsageError(f"{len(ids)} ids that do not ascend were given; rows are digested in order of id")
        self._waiting, self._digest = ids, SiteDigest()

    def update(self, values: Shaped[np.ndarray, "rows width"]) -> None:
        """Take in the values of the next rows."""
        n, left = len(values), len(self._waiting)
        if n > left:
            raise UsageError(f"{n} rows were given; {left} are left")
        self._digest.update(self._waiting[:n], values)
        self._waiting = self._waiting[n:]

    @property
    def pieces(self) -> dict[int, tuple[int, str]]:
        """As `SiteDigest.pieces`, once all rows were given; `UsageError` before."""
        if len(self._waiting):
            raise UsageError(f"{len(self._waiting)} rows were not given")
        self._digest.result()
        return self._digest.pieces


def codes_digest(atlas: Statements, site: SiteRecord) -> tuple[int, str | None]:
    """Number of codes of a site and their digest, as `SiteDigest` has it; None where there are none."""
    return whole(read_pieces(atlas, "codes", site))


def activations_digest(atlas: Statements, site: SiteRecord) -> tuple[int, str | None]:
    """The same of its activations (float32)."""
    return whole(read_pieces(atlas, "activations", site))


def read_pieces(
    atlas: Statements, table: SiteTable, site: SiteRecord, numbers: Sequence[int] | None = None
) -> dict[int, tuple[int, str]]:
    """Rows and digest of a site's pieces, all of them or those of the ``numbers``, as the table holds them now."""
    blocks = code_blocks if table == "codes" else activation_blocks
    if numbers is None:
        return _digested(blocks(atlas, site))
    found: dict[int, tuple[int, str]] = {}
    for number in numbers:
        found |= _digested(blocks(atlas, site, within=range(number * PIECE_IDS, (number + 1) * PIECE_IDS)))
    return found


def _digested(blocks: Iterator[tuple[np.ndarray, np.ndarray]]) -> dict[int, tuple[int, str]]:
    digest = SiteDigest()
    for ids, values in blocks:
        digest.update(ids, values)
    digest.result()
    return digest.pieces


def stored_pieces(atlas: Statements, table: SiteTable, site_id: int) -> dict[int, tuple[int, str]]:
    """Rows and digest of the pieces of a site, as they were written down; an atlas that was pulled has none."""
    query = 'select owner, n_rows, digest from digests where "table" = $1 and starts_with(owner, $2)'
    rows = atlas.rows(query, [table, _piece(site_id).removesuffix("null}")])
    return {json.loads(owner)["piece"]: (n_rows, digest) for owner, n_rows, digest in rows}


def store_pieces(atlas: Statements, table: SiteTable, site_id: int, pieces: Mapping[int, tuple[int, str]]) -> None:
    """Write down pieces of a site, in place of what is known of the same."""
    if not pieces:
        return
    owners = [_piece(site_id, number) for number in pieces]
    atlas.execute('delete from digests where "table" = $1 and owner in (select unnest($2))', [table, owners])
    counts, digests = (list(column) for column in zip(*pieces.values(), strict=True))
    atlas.execute(
        "insert into digests select $1, unnest($2), $3, unnest($4), unnest($5)",
        [table, owners, ROWS, counts, digests],
    )


def _piece(site_id: int, number: int | None = None) -> str:
    """What table ``digests`` calls the owner of a piece; without a number it ends in null."""
    return json.dumps({"site_id": site_id, "piece": number})
