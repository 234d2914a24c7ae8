"""Codes and activations of a site, whole or block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64, UInt8

from ..codes import SplineCodes, concatenate
from ..errors import DamagedAtlas, NotStored, UnknownName
from .catalog import SiteRecord
from .statements import Statements, quoted

BLOCK_ROWS = 8192  # codes fetched at a time: 3 MB of those of 3,072 gates
VECTOR_ROWS = 2048  # activations fetched at a time: DuckDB decodes no fewer, 25 MB of those of 3,072 units


def code_blocks(
    atlas: Statements, site: SiteRecord, rows: int = BLOCK_ROWS, within: range | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Example ids (int64) and packed codes (uint8, rows × bytes) of a site in order of id, block by block.

    A block holds at most ``rows`` codes. ``within``: consecutive ids; None: all.
    """
    query = (
        "select example_id, cast(code as blob) as code from codes "
        "where site_id = $1 and example_id between $2 and $3 order by example_id"
    )
    for first, last in _block_ends(atlas, "codes", site, rows, within):
        # Read to its end before any of it is handed on: a writer's connection has one open result at a time.
        for batch in list(atlas.batches(query, [site.site_id, first, last], rows)):
            yield _int64(batch.column("example_id")), _packed(batch.column("code"), site)


def activation_blocks(
    atlas: Statements, site: SiteRecord, within: range | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Example ids (int64) and activations (float32, rows × units) of a site in order of id, block by block.

    ``within``: consecutive ids; None: all.
    """
    rows = activation_block_rows(site.n_parts)
    for first, last in _block_ends(atlas, "activations", site, rows, within):
        ids, values = _whole_activations(atlas, site, "between $2 and $3", [first, last])
        if len(ids):
            yield ids, values


def codes(
    atlas: Statements, sites: Sequence[SiteRecord], examples: Sequence[int] | np.ndarray | None = None
) -> tuple[Int64[np.ndarray, " codes"], SplineCodes]:
    """Codes of one site, or of a span's sites in order, with the example ids they belong to.

    Without ``examples``: of all examples that have a code at every one of the sites, in order of id. With: of
    those, in the order given; `UnknownName` if one has no code there.
    """
    wanted = None if examples is None else np.asarray(examples, dtype=np.int64)
    read = [_site_codes(atlas, site, wanted) for site in sites]
    if wanted is None:
        common = read[0][0]
        for ids, _ in read[1:]:
            common = np.intersect1d(common, ids, assume_unique=True)
    else:
        common = wanted
    parts = []
    for site, (ids, codes) in zip(sites, read, strict=True):
        order = np.searchsorted(ids, common)
        found = order < len(ids)
        found[found] = ids[order[found]] == common[found]
        if not found.all():
            raise UnknownName(
                f"example {common[~found][0]} has no code at site {site.name} of network "
                f"{site.network}; `polytope info` says which examples a site holds"
            )
        parts.append(codes[order])
    return common, concatenate(parts)


def activations(
    atlas: Statements, site: SiteRecord, examples: Sequence[int] | np.ndarray | None = None
) -> tuple[Int64[np.ndarray, " examples"], Float32[np.ndarray, "examples units"]]:
    """Activations of a site and their example ids; of all examples in order of id, or of those given, in order.

    Raises `NotStored` if the site stores none, or none of one of the examples.
    """
    if site.n_activations == 0:
        raise NotStored(
            f"no activations are stored for site {site.name} of network {site.network}; "
            "ingest with --store-activations"
        )
    if examples is None:
        blocks = list(activation_blocks(atlas, site))
    else:
        wanted_ids = [[int(example) for example in examples]]
        blocks = [_whole_activations(atlas, site, "in (select unnest($2::uinteger[]))", wanted_ids)]
    ids = np.concatenate([ids for ids, _ in blocks]) if blocks else np.empty(0, np.int64)
    values = np.concatenate([x for _, x in blocks]) if blocks else np.empty((0, site.n_units), np.float32)
    if examples is None:
        return ids, values
    wanted = np.asarray(examples, dtype=np.int64)
    missing = np.setdiff1d(wanted, ids)
    if len(missing):
        raise NotStored(f"example {missing[0]} has no activation at site {site.name} of network {site.network}")
    return wanted, values[np.searchsorted(ids, wanted)]


def _site_codes(atlas: Statements, site: SiteRecord, wanted: np.ndarray | None) -> tuple[np.ndarray, SplineCodes]:
    if wanted is None:
        blocks = list(code_blocks(atlas, site))
    else:
        query = (
            "select example_id, cast(code as blob) as code from codes "
            "where site_id = $1 and example_id in (select unnest($2::uinteger[])) order by example_id"
        )
        parameters = [site.site_id, [int(example) for example in np.unique(wanted)]]
        blocks = [
            (_int64(batch.column("example_id")), _packed(batch.column("code"), site))
            for batch in atlas.batches(query, parameters, BLOCK_ROWS)
        ]
    ids = np.concatenate([ids for ids, _ in blocks]) if blocks else np.empty(0, np.int64)
    packed = np.concatenate([x for _, x in blocks]) if blocks else np.empty((0, site.n_bytes), np.uint8)
    return ids, SplineCodes(packed, (site.n_gates,))


def _whole_activations(
    atlas: Statements, site: SiteRecord, which: str, parameters: list[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Ids and activations of the examples ``which`` says, in order of id, put together from their parts."""
    query = (
        "select example_id, part, activation from activations "
        f"where site_id = $1 and example_id {which} order by example_id, part"
    )
    ids, values = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
    for batch in atlas.batches(query, [site.site_id, *parameters], VECTOR_ROWS):
        ids.append(_int64(batch.column("example_id"))[_int64(batch.column("part")) == 0])
        flat = batch.column("activation").flatten().to_numpy(zero_copy_only=False)
        values.append(flat.astype(np.float32, copy=False))
    found, numbers = np.concatenate(ids), np.concatenate(values)
    if len(numbers) != len(found) * site.n_units:
        raise DamagedAtlas(
            f"site {site.name} of network {site.network} has {site.n_units} units, but {len(found)} activations "
            f"hold {len(numbers)} numbers; `polytope verify` says where"
        )
    return found, numbers.reshape(len(found), site.n_units)


def _block_ends(
    atlas: Statements, table: str, site: SiteRecord, rows: int, within: range | None
) -> Iterator[tuple[int, int]]:
    """First and last ids of blocks of ``rows`` ids. To sort a block at a time takes the memory of a block; rows lie
    nearly in order of id, so little is read twice."""
    among = range(1 << 32) if within is None else within
    query = (
        f"select min(example_id), max(example_id) from {quoted(table)} "
        "where site_id = $1 and example_id between $2 and $3"
    )
    [(first, last)] = atlas.rows(query, [site.site_id, among.start, among.stop - 1])
    if first is None:
        return
    for start in range(first, last + 1, rows):
        yield start, min(start + rows - 1, last)


def activation_block_rows(n_parts: int) -> int:
    """Ids in a block of activations of so many parts."""
    return max(1, VECTOR_ROWS // n_parts)


def _int64(column: pa.Array) -> Int64[np.ndarray, " rows"]:
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def _packed(column: pa.Array, site: SiteRecord) -> UInt8[np.ndarray, "rows bytes"]:
    """Rows of equal width lie end to end in Arrow's buffer: no copy a row."""
    offsets = np.frombuffer(column.buffers()[1], dtype=_offset_type(column))[column.offset :][: len(column) + 1]
    if (np.diff(offsets) != site.n_bytes).any():
        raise DamagedAtlas(
            f"site {site.name} of network {site.network} has {site.n_gates} gates ({site.n_bytes} "
            "bytes), but holds codes of another width; `polytope verify` says which"
        )
    if len(column) == 0:
        return np.empty((0, site.n_bytes), np.uint8)
    data = np.frombuffer(column.buffers()[2], dtype=np.uint8)
    return data[offsets[0] : offsets[-1]].reshape(len(column), site.n_bytes)


def _offset_type(column: pa.Array) -> type[np.int32] | type[np.int64]:
    large = pa.types.is_large_binary(column.type) or pa.types.is_large_list(column.type)
    return np.int64 if large else np.int32
