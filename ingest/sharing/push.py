"""From an atlas to files in a place: what is there already is not sent again, and the manifest comes last."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from atlas.errors import StoreError, UsageError
from atlas.store.atlas import Atlas
from atlas.store.catalog import SiteRecord
from atlas.store.disk import disk_full, no_file
from atlas.store.names import NAMES, read_names

from ..derived.job import reading
from ..progress import Progress
from .card import CROISSANT, MARK, README, croissant, readme
from .files import SHARD_BYTES, write_shards
from .manifest import BY_SITE, MANIFEST, Manifest, Part, Shard, is_shard
from .place import Place
from .rows import (
    GROUP_ROWS,
    MOST_ROWS,
    Rows,
    digest_batch,
    site_batches,
    site_group_rows,
    site_schema,
    table_schema,
    tables_of,
)

SMALL_BYTES = 64_000_000
"""Of a manifest or a README, which are read whole."""


@dataclass(frozen=True)
class Pushed:
    """``files`` and ``bytes``: all that the place now holds of the atlas; ``sent`` and ``sent_bytes``: of them, what
    was not there already."""

    address: str
    files: int
    bytes: int
    sent: int
    sent_bytes: int


def push(
    path: str | Path | Atlas,
    destination: str,
    *,
    license: str | None = None,
    title: str | None = None,
    inputs: bool = True,
    shard_bytes: int = SHARD_BYTES,
    progress: Progress | None = None,
) -> Pushed:
    """Write an atlas as a dataset of Parquet files, in the layout of Hugging Face.

    Every row is held against the digests of the atlas on its way. Files are named by their SHA-256: pushed again,
    after an interruption or not, only what is not there is sent, and what belongs to an earlier state is taken away.

    Args:
        path: the atlas.
        destination: a folder, or an address that fsspec reaches: s3://…, gs://…, hf://datasets/….
        license: of the data, as the card is to state it.
        title: of the card; by default the name of the atlas.
        inputs: texts, images and vectors too. Without, tokens and contexts stay behind as well, and the results of
            experiments, which may quote them; keys, labels and hashes go along.
        shard_bytes: size of a file, in bytes, roughly.
        progress: is told how far it is, in rows.

    Returns:
        What lies there now, and how much of it was sent.

    Raises:
        UsageError: the address can't be reached from here, or holds a README of something else.
        DamagedAtlas: rows are not those that were written.
        StoreError: the place refuses; what was complete is kept.
        DiskFull: no space is left there, or here for one file at a time.
    """
    if shard_bytes < 1:
        raise UsageError(f"shard_bytes is {shard_bytes}; expected a number of bytes, at least 1")
    place = Place(destination)
    card = place.read(README, SMALL_BYTES)
    if card is not None and MARK.encode() not in card:
        raise UsageError(f"{destination} holds a {README} of something else; give an address where nothing is")
    with reading(path) as a, TemporaryDirectory() as folder, disk_full(Path(folder)):
        sending = _Sending(a, place, Path(folder), place.sizes(), shard_bytes)
        total = sum(n for (n,) in a.rows('select max(n_rows) from digests group by "table", owner'))
        total += sum(site.n_codes + site.n_activations for site in a.catalog.sites)
        with (progress or Progress()).step("push", total=total, unit="rows") as step:
            parts = sending.parts(inputs=inputs, told=step.advance)
            names = sending.names()
            manifest = Manifest(title or Path(a.address).resolve().stem, license, inputs, tuple(parts), names)
            sending.small(CROISSANT, croissant(a, manifest))
            sending.small(README, readme(a, manifest).encode())
            sending.small(MANIFEST, manifest.to_bytes())
        kept = {shard.path for part in parts for shard in part.shards}
        kept |= set() if names is None else {NAMES}
        place.remove(path for path in sending.there if (is_shard(path) or path == NAMES) and path not in kept)
        kept.discard(NAMES)
    n_bytes = sum(part.bytes for part in parts) + sending.small_bytes
    return Pushed(destination, len(kept) + sending.small_files, n_bytes, sending.sent, sending.sent_bytes)


class _Sending:
    """``there``: what the place held before, by path, with its bytes."""

    def __init__(self, atlas: Atlas, place: Place, folder: Path, there: dict[str, int], shard_bytes: int) -> None:
        self.atlas, self.place, self.folder, self.there = atlas, place, folder, there
        self.shard_bytes = shard_bytes
        self.sent = self.sent_bytes = self.small_files = self.small_bytes = 0

    def parts(self, *, inputs: bool, told: Callable[[int], None]) -> list[Part]:
        """Every table, and last the digests of what went by."""
        parts, digests = [], []
        for table in tables_of(inputs=inputs):
            rows = Rows(self.atlas, table, inputs, told)
            write = partial(write_shards, rows.batches(), rows.schema, self.folder, table=table)
            parts.append(
                Part(
                    table,
                    self._sent(write(group_rows=GROUP_ROWS.get(table, MOST_ROWS), shard_bytes=self.shard_bytes)),
                )
            )
            digests += rows.digests
        for table in BY_SITE:
            parts += [
                self._site(table, site, told) for site in self.atlas.catalog.sites if getattr(site, f"n_{table}")
            ]
        schema = table_schema(self.atlas, "digests")
        rows_of = [digest_batch(digests, schema)] if digests else []
        written = write_shards(
            rows_of,
            schema,
            self.folder,
            table="digests",
            group_rows=MOST_ROWS,
            shard_bytes=self.shard_bytes,
        )
        return [*parts, Part("digests", self._sent(written))]

    def _site(self, table: str, site: SiteRecord, told: Callable[[int], None]) -> Part:
        schema = site_schema(table, site)
        shards = write_shards(
            site_batches(self.atlas, table, site, told),
            schema,
            self.folder,
            table=table,
            site_id=site.site_id,
            group_rows=site_group_rows(site.n_bytes if table == "codes" else 4 * site.n_units, self.shard_bytes),
            shard_bytes=self.shard_bytes,
        )
        width = site.n_gates if table == "codes" else site.n_units
        digest = getattr(site, f"{table}_digest")
        return Part(table, self._sent(shards), site.site_id, site.network, site.name, width, digest)

    def _sent(self, written: Iterable[tuple[Path, Shard]]) -> tuple[Shard, ...]:
        shards = []
        for local, shard in written:
            if self.there.get(shard.path) != shard.bytes:
                self._put(local, shard.path)
            local.unlink()
            shards.append(shard)
        return tuple(shards)

    def names(self) -> tuple[int, str] | None:
        """Send the names that people gave; returns the file's bytes and SHA-256."""
        file = self.atlas.path / NAMES
        if no_file(file) is not None or not file.exists():
            return None
        read_names(self.atlas.path)  # raises what is wrong with them
        content = file.read_bytes()
        self.small(NAMES, content)
        return len(content), hashlib.sha256(content).hexdigest()

    def small(self, path: str, content: bytes) -> None:
        """Send a small file unless the same is there."""
        self.small_files, self.small_bytes = self.small_files + 1, self.small_bytes + len(content)
        if len(content) > SMALL_BYTES:
            raise StoreError(f"{path} would have {len(content):,} bytes; at most {SMALL_BYTES:,} can be read again")
        if self.there.get(path) == len(content) and self.place.read(path, SMALL_BYTES) == content:
            return
        local = self.folder / path
        local.write_bytes(content)
        self._put(local, path)

    def _put(self, local: Path, path: str) -> None:
        self.place.put(local, path)
        self.sent, self.sent_bytes = self.sent + 1, self.sent_bytes + local.stat().st_size
