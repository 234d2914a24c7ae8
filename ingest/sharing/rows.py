"""The rows of an atlas as they are pushed, and the digests of what goes by."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atlas.errors import DamagedAtlas
from atlas.store.atlas import Atlas
from atlas.store.catalog import SiteRecord
from atlas.store.digests import (
    TABLES,
    ColumnDigest,
    Digested,
    SiteDigest,
    batches_of,
    digested_columns,
    owners,
)

from .manifest import BASE, BY_SITE, GROUPS

DIGESTED = {digested.table: digested for digested in TABLES}

INPUTS = ("text", "thumbnail", "vector")
"""Columns of table ``inputs`` that hold what was read; without inputs they are null. Of an example the key of its
input stands for token and context, as where codes came without texts; labels and hashes stay."""

QUOTING = ("experiments", "experiment_columns", "experiment_rows", "directions")
"""Tables whose cells may quote texts; without inputs they stay behind."""

GROUP_ROWS = {"inputs": 128, "experiment_rows": 4096}
"""Rows of a row group where they are long: whole texts and pictures."""

GROUP_BYTES = 16 << 20
MOST_ROWS = 32_768

_TYPES = {
    "BIGINT": pa.int64(),
    "BLOB": pa.binary(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "FLOAT": pa.float32(),
    "INTEGER": pa.int32(),
    "JSON": pa.string(),
    "TIMESTAMP": pa.timestamp("us"),
    "UBIGINT": pa.uint64(),
    "UINTEGER": pa.uint32(),
    "USMALLINT": pa.uint16(),
    "VARCHAR": pa.string(),
}


def table_schema(atlas: Atlas, table: str) -> pa.Schema:
    """Columns and types of a table, as its files have them; of codes and activations `site_schema` says."""
    rows = atlas.rows(
        "select column_name, data_type from duckdb_columns() where table_name = $1 order by column_index", [table]
    )
    return pa.schema([(name, _arrow(kind)) for name, kind in rows])


def _arrow(kind: str) -> pa.DataType:
    return pa.list_(_TYPES[kind.removesuffix("[]")]) if kind.endswith("[]") else _TYPES[kind]


def site_schema(table: str, site: SiteRecord) -> pa.Schema:
    """Columns and types of the codes, or activations, of a site: values of one width, which the type tells."""
    value = (
        pa.field("code", pa.binary(site.n_bytes))
        if table == "codes"
        else pa.field("activation", pa.list_(pa.field("element", pa.float32()), site.n_units))
    )
    return pa.schema([("site_id", pa.uint16()), ("example_id", pa.uint32()), value])


def site_group_rows(row_bytes: int, shard_bytes: int) -> int:
    """Rows of a row group of codes or activations, where all rows are of one size."""
    return max(1, min(MOST_ROWS, min(GROUP_BYTES, shard_bytes) // row_bytes))


def site_batches(atlas: Atlas, table: str, site: SiteRecord, told: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
    """Codes or activations of a site in order of id. Raises `DamagedAtlas` at their end where they are not what was
    stored."""
    schema, digest = site_schema(table, site), SiteDigest()
    for ids, values in atlas.code_blocks(site) if table == "codes" else atlas.activation_blocks(site):
        digest.update(ids, values)
        flat = pa.py_buffer(np.ascontiguousarray(values))
        if table == "codes":
            column = pa.Array.from_buffers(schema.field("code").type, len(ids), [None, flat])
        else:
            kind = schema.field("activation").type
            numbers = pa.Array.from_buffers(pa.float32(), values.size, [None, flat])
            column = pa.FixedSizeListArray.from_arrays(numbers, type=kind)
        site_ids = pa.array(np.full(len(ids), site.site_id, np.uint16))
        yield pa.RecordBatch.from_arrays([site_ids, pa.array(ids.astype(np.uint32)), column], schema=schema)
        told(len(ids))
    stored = getattr(site, f"n_{table}"), getattr(site, f"{table}_digest")
    if digest.result() != stored:
        raise _changed(atlas, f"{table} of {site.network} {site.name}")


@dataclass
class Rows:
    """The rows of a table, as they are pushed. ``digests``: rows of table ``digests`` for them, once all went by."""

    atlas: Atlas
    table: str
    inputs: bool
    told: Callable[[int], None]
    digests: list[tuple[str, str, str, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.schema = table_schema(self.atlas, self.table)
        self._keys = _keys(self.atlas) if self.table == "examples" and not self.inputs else None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Rows in the order in which they are digested. Raises `DamagedAtlas` where they are not what was stored."""
        digested = DIGESTED[self.table]
        known = self.atlas.rows('select distinct owner from digests where "table" = $1 order by owner', [self.table])
        for owner in dict.fromkeys([*owners(self.atlas, digested), *(owner for (owner,) in known)]):
            yield from self._belonging(digested, owner)

    def _belonging(self, digested: Digested, owner: str) -> Iterator[pa.RecordBatch]:
        names = digested_columns(self.atlas, digested)
        read, sent = ({name: ColumnDigest() for name in names} for _ in range(2))
        n_rows = 0
        for batch in batches_of(self.atlas, digested, self.schema.names, json.loads(owner)):
            if not len(batch):
                continue
            rows = self._without_inputs(batch.cast(self.schema))
            for name in names:
                read[name].update(batch.column(name))
                sent[name].update(rows.column(name))
            n_rows += len(rows)
            yield rows
            self.told(len(rows))
        stored = self.atlas.rows(
            'select "column", n_rows, digest from digests where "table" = $1 and owner = $2', [self.table, owner]
        )
        if {*stored} != {(name, n_rows, digest.hexdigest()) for name, digest in read.items()}:
            raise _changed(self.atlas, self.table)
        self.digests += [(self.table, owner, name, n_rows, digest.hexdigest()) for name, digest in sent.items()]

    def _without_inputs(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """The rows with all that they may hold, or without what was read."""
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        if self.table == "inputs" and not self.inputs:
            columns |= {name: pa.nulls(len(rows), rows.schema.field(name).type) for name in INPUTS}
        if self._keys is not None:
            ids, keys = self._keys
            places = np.searchsorted(ids, columns["input_id"].to_numpy())
            texts = columns["token"].is_valid()
            named = pc.if_else(texts, keys.take(pa.array(places)), pa.scalar(None, pa.string()))
            columns |= {"token": named, "context": named}
            columns["context_offset"] = pc.if_else(texts, pa.scalar(0, pa.uint32()), pa.scalar(None, pa.uint32()))
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema)


def _keys(atlas: Atlas) -> tuple[np.ndarray, pa.Array]:
    """Ids of the inputs, in order, and the first key of each."""
    found = atlas.frame(
        "select input_id, arg_min(key, (dataset_id, ordinal)) as key from dataset_inputs "
        "group by all order by input_id"
    )
    return found["input_id"].to_numpy(), pa.array(found["key"], pa.string())


def _changed(atlas: Atlas, what: str) -> DamagedAtlas:
    return DamagedAtlas(
        f"{what} in {atlas.address} changed since they were written; `polytope verify {atlas.address}` says where"
    )


def digest_batch(rows: list[tuple[str, str, str, int, str]], schema: pa.Schema) -> pa.RecordBatch:
    """Rows of table ``digests``."""
    columns = [
        pa.array(list(column), kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def tables_of(*, inputs: bool) -> list[str]:
    """The tables that are pushed as they are, in order; codes and activations go by site."""
    return [
        table
        for table in (*BASE, *(table for group in GROUPS for table in group))
        if table not in BY_SITE and (inputs or table not in QUOTING)
    ]
