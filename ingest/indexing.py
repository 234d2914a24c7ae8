"""Building the Hamming indexes beside the database, from nothing but the codes in it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import atlas
from atlas.catalog import Target
from atlas.errors import HammingIndexError, NotStored
from atlas.index import HammingIndex
from atlas.store import Atlas, disk_full

from .progress import Progress

INDEXES = "indexes"


def build_indexes(
    path: str | Path,
    *,
    network: str | None = None,
    targets: list[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> list[str]:
    """Bring indexes up to date; returns the names of those that were built.

    Default: every site with codes and every span that was asked for at ingestion, of ``network`` or of all networks.
    An index whose digest is that of the codes is left alone unless ``force``. Raises `UnknownName` for a target that
    is not there, `AtlasLocked`, `DiskFull`.
    """
    path, progress, built = Path(path), progress or Progress(), []
    with atlas.open(path) as a:
        wanted = [target for target in _targets(a, network, targets) if force or not _is_current(a, target)]
    with progress.step("index", total=len(wanted), unit="indexes") as step:
        for target in wanted:
            with atlas.open(path) as a:
                ids, codes = a.codes(target.sites)
            file = path / INDEXES / index_file(target)
            with disk_full(path):
                file.parent.mkdir(exist_ok=True)
                HammingIndex.build(codes, ids, target.digest).save(file)
            with atlas.open(path, writable=True) as a:
                a.execute(
                    "insert or replace into indexes values ($1, $2, 'flat', $3, $4, $5)",
                    [target.network.network_id, target.name, file.name, len(ids), target.digest],
                )
            built.append(target.name)
            step.advance(1)
    return built


def index_file(target: Target) -> str:
    """File name of a target's index: unique, readable, and safe on every file system."""
    return f"{target.network.network_id}.{quote(target.name, safe='')}.faiss"


def _targets(a: Atlas, network: str | None, names: list[str] | None) -> list[Target]:
    if names is not None:
        return [a.catalog.target(site=name, network=network) for name in names]
    chosen = [record for record in a.catalog.networks if network in (None, record.name)]
    if network is not None and not chosen:
        a.catalog.network(network)  # says which there are
    found = []
    for record in chosen:
        spans = [span for holder, span in a.catalog.spans if holder == record.name]
        for name in [*(site.name for site in a.catalog.sites_of(record) if site.n_codes), *spans]:
            found.append(a.catalog.target(site=name, network=record.name))
    if not found:
        raise NotStored(f"{a.path} holds no codes to index; `polytope ingest` adds some")
    return found


def _is_current(a: Atlas, target: Target) -> bool:
    known = a.rows(
        "select file, digest from indexes where network_id = $1 and target = $2",
        [target.network.network_id, target.name],
    )
    if not known or known[0][1] != target.digest:
        return False
    try:
        return HammingIndex.load(a.path / INDEXES / known[0][0]).digest == target.digest
    except HammingIndexError:
        return False  # gone or damaged: build it again
