"""From files in a place to an atlas with the same digests, in one transaction."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa

from atlas.errors import DamagedAtlas, NotAnAtlas, UsageError
from atlas.store.atlas import FAST_WIDTH, Atlas
from atlas.store.catalog import Catalog, SiteRecord
from atlas.store.digests import changes, read_pieces, seal, store_pieces, whole
from atlas.store.disk import disk_full, replacing
from atlas.store.names import NAMES, read_names
from atlas.store.opening import local_folder, make
from atlas.store.segmented import SegmentedAtlas

from ..derived.indexes import build_indexes
from ..derived.job import patiently
from ..progress import Progress
from ..run.batches import ACTIVATIONS, CODES, Piece, activation_batch, code_batch, gathered
from .files import file_digest, read_shard
from .manifest import BY_SITE, MANIFEST, Manifest, Part, Shard, chosen_tables, read_manifest
from .place import Place
from .push import SMALL_BYTES
from .rows import site_schema, table_schema

FETCHED = "pulled"
"""Folder of the atlas in which files lie until they are in its tables."""


@dataclass(frozen=True)
class Pulled:
    """``tables``: those that the atlas has now; ``files``, ``bytes``: what was fetched for them, and not before."""

    tables: tuple[str, ...]
    examples: int
    files: int
    bytes: int


def pull(
    source: str,
    path: str | Path,
    *,
    tables: Sequence[str] | None = None,
    indexes: bool = True,
    progress: Progress | None = None,
) -> Pulled:
    """Make an atlas from what `push` wrote. It appears whole, or not at all; an interrupted pull goes on.

    Every file is held against its SHA-256 before it is read, and every table, once it is written, against the digests
    that were pushed.

    Args:
        source: the folder or address.
        path: folder, or address, of the new atlas.
        tables: names of those to pull, with what they rest on; None for all.
        indexes: build the Hamming indexes as well, which are not pushed.
        progress: is told how far it is.

    Returns:
        What the atlas holds, and how much was fetched for it.

    Raises:
        NotAnAtlas: nothing was pushed there.
        SchemaVersionError: another version of this project pushed it.
        DamagedAtlas: a file is not as it was pushed.
        UsageError: the folder holds another atlas, or no such table was pushed.
        StoreError: the place refuses; what was fetched is kept.
        DiskFull: no space left.
    """
    progress = progress or Progress()
    place, folder = Place(source), Path(path)
    content = place.read(MANIFEST, SMALL_BYTES)
    if content is None:
        raise NotAnAtlas(f"{source} holds no {MANIFEST}: no atlas was pushed there, or not yet all of it")
    manifest = read_manifest(content, source)
    chosen = chosen_tables(tables, {part.table for part in manifest.parts})
    parts = [part for part in manifest.parts if part.table in chosen]
    make(folder)
    fetched = local_folder(folder) / FETCHED
    fetching = _Fetching(place, fetched)
    with patiently(folder, progress, writable=True) as a:
        digests = fetching.table(a, next(part for part in parts if part.table == "digests"))
        digests = digests.filter(pa.compute.is_in(digests["table"], pa.array(sorted(chosen))))
        if not _is_there(a, digests, chosen):
            _store(a, fetching, parts, digests, manifest, progress)
    shutil.rmtree(fetched, ignore_errors=True)
    if indexes and "codes" in chosen:
        build_indexes(folder, progress=progress)
    held = tuple(part.table for part in parts if part.shards)
    return Pulled(tuple(dict.fromkeys(held)), manifest.rows("examples"), fetching.files, fetching.bytes)


def _is_there(a: Atlas, digests: pa.Table, chosen: set[str]) -> bool:
    """Whether an atlas holds just what is to be pulled. Raises `UsageError` where it holds something else."""
    if not a.value("select count(*) from networks"):
        return False
    # Codes and activations are digested by piece, which is not pushed. What was pulled in part says of its sites that
    # they have no codes, or no activations: by its own digest.
    own = {"indexes", *BY_SITE, *(() if {*BY_SITE} <= chosen else ("sites", "spans"))}
    held = {row for row in a.rows("select * from digests") if row[0] not in own}
    if held != {
        row for row in zip(*(column.to_pylist() for column in digests.columns), strict=True) if row[0] not in own
    }:
        raise UsageError(f"{a.address} holds another atlas already; give the name of a new folder")
    return True


def _store(
    a: Atlas,
    fetching: _Fetching,
    parts: Sequence[Part],
    digests: pa.Table,
    manifest: Manifest,
    progress: Progress,
) -> None:
    total = sum(part.bytes for part in parts)
    with progress.step("pull", total=total // 1000, unit="kB") as step, a.transaction():
        done = 0

        def told(n_bytes: int) -> None:
            nonlocal done
            done += n_bytes
            step.update(done // 1000, total // 1000)

        a.expect_inputs(sum(part.rows for part in parts if part.table == "inputs"))
        for part in parts:
            if part.table not in (*BY_SITE, "digests"):
                schema = table_schema(a, part.table)
                a.insert_stream(part.table, schema, fetching.rows(part, schema, told))
        a.insert("digests", digests)
        sites = {site.site_id: site for site in Catalog(a).sites}
        _store_codes(a, fetching, [part for part in parts if part.table == "codes"], sites, told)
        pieces = (
            piece
            for part in parts
            if part.table == "activations"
            for piece in fetching.pieces(part, _site_of(part, sites), told)
        )
        a.insert_stream("activations", ACTIVATIONS, gathered(pieces, activation_batch))
        absent = {*BY_SITE} - {part.table for part in parts}
        for table in absent:
            a.execute(f"update sites set n_{table} = 0, {table}_digest = null")
        if "codes" in absent:
            a.execute("delete from spans")  # each would want an index
        if absent:
            seal(a, "sites", "spans")
        _check(a)
        if manifest.names is not None:
            fetching.names(manifest.names, a.path)
            if isinstance(a, SegmentedAtlas):
                a.place.put(NAMES, a.path / NAMES)


def _store_codes(
    a: Atlas, fetching: _Fetching, parts: Sequence[Part], sites: dict[int, SiteRecord], told: Callable[[int], None]
) -> None:
    """Narrow codes first, as a run stores them: how they are compressed stays as it is for the wide ones."""
    pairs = sorted(((_site_of(part, sites), part) for part in parts), key=lambda pair: pair[0].n_bytes >= FAST_WIDTH)
    for _, group in groupby(pairs, key=lambda pair: pair[0].n_bytes >= FAST_WIDTH):
        alike = list(group)
        a.expect_codes_of(max(site.n_bytes for site, _ in alike))
        pieces = (piece for site, part in alike for piece in fetching.pieces(part, site, told))
        a.insert_stream("codes", CODES, gathered(pieces, code_batch))


def _site_of(part: Part, sites: dict[int, SiteRecord]) -> SiteRecord:
    if part.site_id not in sites:
        raise DamagedAtlas(
            f"{MANIFEST} lists {part.table} of site {part.site_id}, which no network has; push it again"
        )
    return sites[part.site_id]


def _check(a: Atlas) -> None:
    """Raise `DamagedAtlas` where what is in the tables now is not what was pushed; digests of its pieces are kept."""
    for name, detail in changes(a):
        if detail:
            raise DamagedAtlas(f"what was pulled is not what was pushed: {name}: {detail}; push the atlas again")
    for site in Catalog(a).sites:
        stored = {"codes": (site.n_codes, site.codes_digest)}
        stored["activations"] = site.n_activations, site.activations_digest
        held = {table: read_pieces(a, table, site) for table in BY_SITE}
        for table, pieces in held.items():
            store_pieces(a, table, site.site_id, pieces)
        if {table: whole(pieces) for table, pieces in held.items()} != stored:
            raise DamagedAtlas(
                f"what was pulled of site {site.name} of network {site.network} is not what was pushed; push the "
                "atlas again"
            )


class _Fetching:
    """Files from a place, which lie in a folder until the transaction is over."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.files = self.bytes = 0

    def table(self, a: Atlas, part: Part) -> pa.Table:
        """All rows of a small table."""
        schema = table_schema(a, part.table)
        return pa.Table.from_batches(self.rows(part, schema, lambda n_bytes: None), schema)

    def rows(self, part: Part, schema: pa.Schema, told: Callable[[int], None]) -> Iterator[pa.RecordBatch]:
        """The rows of a part, file by file."""
        for shard in part.shards:
            yield from read_shard(self._file(shard), shard, schema)
            told(shard.bytes)

    def pieces(self, part: Part, site: SiteRecord, told: Callable[[int], None]) -> Iterator[Piece]:
        """Codes or activations of a site."""
        dtype = np.uint8 if part.table == "codes" else np.float32
        for batch in self.rows(part, site_schema(part.table, site), told):
            if (
                batch.column("site_id").null_count
                or batch.column("example_id").null_count
                or batch.column(2).null_count
            ):
                raise DamagedAtlas(f"{part.table} of site {site.name} lack a value; push the atlas again")
            if set(batch.column("site_id").unique().to_pylist()) - {site.site_id}:
                raise DamagedAtlas(
                    f"{part.table} of site {site.name} hold rows of another site; push the atlas again"
                )
            column = batch.column(2)
            if part.table == "codes":
                width = site.n_bytes
                raw = np.frombuffer(column.buffers()[1], np.uint8, len(batch) * width, column.offset * width)
            else:
                raw = column.flatten().to_numpy(zero_copy_only=False)
            ids = batch.column("example_id").to_numpy()
            yield Piece(site.site_id, ids, raw.view(dtype).reshape(len(ids), -1))

    def _file(self, shard: Shard) -> Path:
        """A file, whole and as it was pushed; fetched unless an earlier attempt did."""
        local = self.folder / f"{shard.digest}.parquet"
        with disk_full(local):
            self.folder.mkdir(exist_ok=True)
            if local.is_file() and file_digest(local) == shard.digest:
                return local
            self.place.get(shard.path, local)
            size = local.stat().st_size
            if size != shard.bytes or file_digest(local) != shard.digest:
                local.unlink()
                raise DamagedAtlas(
                    f"{self.place.address}/{shard.path} is not as it was pushed ({size:,} bytes, {shard.bytes:,} are "
                    "expected); remove it and push the atlas again"
                )
        self.files, self.bytes = self.files + 1, self.bytes + size
        return local

    def names(self, pushed: tuple[int, str], folder: Path) -> None:
        """The names that people gave, beside the database."""
        content = self.place.read(NAMES, SMALL_BYTES)
        if content is None or (len(content), hashlib.sha256(content).hexdigest()) != pushed:
            raise DamagedAtlas(f"{self.place.address}/{NAMES} is not as it was pushed; push the atlas again")
        with replacing(folder / NAMES) as file:
            file.write(content)
        read_names(folder)  # raises what is wrong with them
