"""An atlas in the other form: from tables to segments, or from segments to tables, with the same digests."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import chain, groupby
from pathlib import Path

import numpy as np

import atlas
from atlas.errors import DamagedAtlas, UsageError
from atlas.store.atlas import FAST_WIDTH, Atlas
from atlas.store.buckets import Bucket, address_in
from atlas.store.catalog import Catalog, SiteRecord
from atlas.store.digests import activations_digest, changes, codes_digest
from atlas.store.disk import disk_full, remove_unfinished, unfinished_path
from atlas.store.names import NAMES
from atlas.store.opening import exists, is_segmented, make
from atlas.store.segment_files import SEGMENT_EXAMPLES
from atlas.store.statements import quoted

from ..derived.index_files import IndexKind
from ..derived.indexes import build_indexes
from ..progress import Progress
from ..run.batches import ACTIVATIONS, CODES, Piece, activation_batch, code_batch, gathered

Rows = tuple[np.ndarray, np.ndarray]
"""Example ids, and a row of bytes or numbers for each."""

ROWS = 1024
"""Of small tables that are copied at once; inputs may hold whole texts and thumbnails."""

NOT_COPIED = ("meta", "indexes", "codes", "activations")
"""What a new atlas has of its own, what is built again, and what is copied by site."""


def convert(
    old: str | Path, new: str | Path, *, segment_examples: int = SEGMENT_EXAMPLES, progress: Progress | None = None
) -> Path:
    """Make an atlas of the other form that holds the same, and hold all of it against the digests.

    The new folder appears once that is done; what is stopped before leaves nothing. Indexes are built anew.

    Args:
        old: an atlas that keeps codes in tables, or a segmented one, of which the newest version is read.
        new: folder of the new atlas, which does not exist yet.
        segment_examples: of a segmented atlas, examples in a file at most.
        progress: is told how far it is.

    Returns:
        The new folder.

    Raises:
        UsageError: the new folder exists.
        DamagedAtlas: what was written is not what the old atlas says that it holds; `polytope verify` says more.
        StoreError: as `atlas.open`, and where nothing can be written.
        DiskFull: there is no space left.
    """
    progress, place = progress or Progress(), Path(new)
    made = address_in(new) or str(new)
    if place.exists() or exists(new):
        raise UsageError(f"{made} exists already; give the name of a new folder")
    with atlas.open(old) as source:
        if is_segmented(new):  # an address, where a version counts or doesn't
            if is_segmented(old):
                raise UsageError(
                    f"{source.address} is segmented already; copy its files to {made}, folder versions last"
                )
            if (source.path / NAMES).exists():  # which are only read there
                Bucket(made).create(NAMES, (source.path / NAMES).read_bytes())
            _make(source, place, segment_examples, progress)
            return place
        with disk_full(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            remove_unfinished(place)
            unfinished = unfinished_path(place)
            try:
                _make(source, unfinished, segment_examples, progress)
                if (source.path / NAMES).exists():
                    shutil.copyfile(source.path / NAMES, unfinished / NAMES)
                unfinished.rename(place)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    return place


def _make(source: Atlas, place: Path, segment_examples: int, progress: Progress) -> None:
    make(place, segmented=not is_segmented(source.address))
    with atlas.open(place, writable=True) as target:
        target.segment_examples = segment_examples
        _copy(source, target, progress)
    _rebuild_indexes(source, place, progress)


def _copy(source: Atlas, target: Atlas, progress: Progress) -> None:
    sites = Catalog(source).sites
    total = sum(site.n_codes * site.n_bytes + 4 * site.n_activations * site.n_units for site in sites)
    with progress.step("convert", total=total // 1000, unit="kB") as step, target.transaction():
        done = 0

        def told(piece: Piece) -> Piece:
            nonlocal done
            done += piece.values.nbytes
            step.update(done // 1000, total // 1000)
            return piece

        target.expect_inputs(source.value("select count(*) from inputs"))
        for table in source.tables():
            if table not in NOT_COPIED:
                _copy_table(source, target, table)
        # Narrow codes first, as a run stores them: how they are compressed stays as it is for the wide ones.
        ordered = sorted(sites, key=lambda site: site.n_bytes >= FAST_WIDTH)
        for _, alike in groupby(ordered, key=lambda site: site.n_bytes >= FAST_WIDTH):
            some = list(alike)
            target.expect_codes_of(max(site.n_bytes for site in some))
            target.insert_stream("codes", CODES, gathered(_pieces(some, source.code_blocks, told), code_batch))
        activations = _pieces(sites, source.activation_blocks, told)
        target.insert_stream("activations", ACTIVATIONS, gathered(activations, activation_batch))
        _check(target)


def _copy_table(source: Atlas, target: Atlas, table: str) -> None:
    where = "where \"table\" <> 'indexes'" if table == "digests" else ""
    batches = source.batches(f"from {quoted(table)} {where} order by rowid", [], ROWS)
    if (first := next(batches, None)) is not None:
        target.insert_stream(table, first.schema, chain([first], batches))


def _pieces(
    sites: list[SiteRecord], blocks: Callable[[SiteRecord], Iterator[Rows]], told: Callable[[Piece], Piece]
) -> Iterator[Piece]:
    for site in sites:
        for ids, values in blocks(site):
            yield told(Piece(site.site_id, ids, values))


def _check(target: Atlas) -> None:
    """Raise `DamagedAtlas` where what was written is not what the digests say."""
    for name, detail in changes(target):
        if detail:
            raise DamagedAtlas(f"{name} of the old atlas: {detail}; `polytope verify` names all that did")
    for site in Catalog(target).sites:
        held = codes_digest(target, site), activations_digest(target, site)
        if held != ((site.n_codes, site.codes_digest), (site.n_activations, site.activations_digest)):
            raise DamagedAtlas(
                f"site {site.name} of network {site.network} does not hold what it held when it was written; "
                "`polytope verify` of the old atlas says more"
            )


def _rebuild_indexes(source: Atlas, place: Path, progress: Progress) -> None:
    """Those that the old atlas has, of either kind."""
    held = source.rows(
        "select networks.name, target, indexes.kind from indexes join networks using (network_id) order by all"
    )
    kinds: tuple[IndexKind, ...] = ("flat", "ivf")
    for kind in kinds:
        for network in dict.fromkeys(name for name, _, _ in held):
            targets = [target for owner, target, other in held if (owner, other) == (network, kind)]
            if targets:
                build_indexes(place, network=network, targets=targets, kind=kind, progress=progress)
