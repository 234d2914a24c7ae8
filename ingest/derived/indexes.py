"""Building the Hamming indexes beside the database, from nothing but the codes in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import quote

import numpy as np

from atlas.errors import HammingIndexError, NotStored, UsageError
from atlas.search.files import INDEXES, TARGET_RECALL, Block
from atlas.search.hamming_index import HammingIndex
from atlas.store.atlas import Atlas
from atlas.store.catalog import SiteRecord, Target
from atlas.store.digests import seal
from atlas.store.disk import disk_full

from ..progress import Progress, Step
from .job import check_unchanged, path_of, reading, storing

IndexKind = Literal["flat", "ivf"]
"""flat is exact and always there; ivf, which is approximate, may stand beside it."""


@dataclass(frozen=True)
class Built:
    """An index that was built. ``recall``: recall@10 as measured on ``sample`` stored codes, ties as hits;
    ``recall_in_order``: of the very ten nearest, by (distance, id). None where exact."""

    network: str
    target: str
    kind: IndexKind
    n_codes: int
    recall: float | None = None
    recall_in_order: float | None = None
    sample: int | None = None
    parameters: dict[str, int] | None = None


def build_indexes(
    path: str | Path | Atlas,
    *,
    network: str | None = None,
    targets: list[str] | None = None,
    kind: IndexKind | None = None,
    recall: float = TARGET_RECALL,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Built]:
    """Bring indexes up to date. One whose digest is that of the codes is left alone, unless ``force``.

    Args:
        path: the atlas, or an `Atlas` that is open for writing.
        network: whose sites and spans; None: of all networks.
        targets: sites and spans; None: every site with codes, and every span that was asked for at ingestion or has
            an index.
        kind: None brings up to date what there is, and builds the flat indexes that are missing. ``flat`` also
            removes what stands beside it; ``ivf`` is built beside the flat index, in place of what is there.
        recall: share of 10 found by an approximate index that must be no farther than the tenth nearest, with the
            least search effort.
        force: build also those that are up to date.
        progress: is told how far it is.

    Returns:
        The indexes that were built.

    Raises:
        UnknownName: no such site, span or network.
        UsageError: another kind, or a recall outside (0, 1].
        RunInterrupted: the target got new examples meanwhile.
        AtlasLocked: somebody else has the atlas open.
        DiskFull: an index does not fit.
    """
    if kind is not None and kind not in get_args(IndexKind):
        raise UsageError(f"kind is {kind!r}; expected {', '.join(get_args(IndexKind))}")
    if not 0 < recall <= 1:
        raise UsageError(f"the recall to reach is {recall}; expected a share above 0, at most 1")
    progress = progress or Progress()
    with reading(path) as a:
        wanted = _targets(a, network, targets)
        flat = [target for target in wanted if force or not _is_current(a, target, "flat")]
        beside = [target for target in wanted if kind == "ivf" or (kind is None and _has_approximate(a, target))]
        beside = [target for target in beside if force or not _is_current(a, target, "ivf")]
        dropped = [target for target in wanted if kind == "flat" and _has_approximate(a, target)]
        built = _build_flat(a, flat, progress)
    if flat:
        with storing(path, progress) as a:
            for target, index in zip(flat, built, strict=True):
                _record(a, target, index)
            seal(a, "indexes")
    for target in beside:
        index = _build_approximate(path_of(path), target, recall, progress)
        with storing(path, progress) as a:
            _record(a, target, index)
            gone = _forget_beside(a, target, but="ivf")
            seal(a, "indexes")
        _remove(path_of(path), gone)
        built.append(index)
    if dropped:
        with storing(path, progress) as a:
            gone = [file for target in dropped for file in _forget_beside(a, target)]
            seal(a, "indexes")
        _remove(path_of(path), gone)
    return built


def index_file(target: Target, kind: IndexKind = "flat") -> str:
    """File name of a target's index: unique, readable, and safe on every file system."""
    beside = "" if kind == "flat" else f"@{kind}"
    return f"{target.network.network_id}.{quote(target.name, safe='')}{beside}.faiss"


def span_blocks(a: Atlas, sites: Sequence[SiteRecord]) -> Iterator[Block]:
    """Ids and codes of the examples that have a code at every one of the sites, in order of id, block by block.

    A code is the sites' codes one after another, as in `SplineCodes`.
    """
    readers = [a.code_blocks(site) for site in sites]
    held = [next(reader, None) for reader in readers]
    while True:
        blocks = [block for block in held if block is not None]
        if len(blocks) < len(held):
            return  # one of the sites has no more
        last = min(int(ids[-1]) for ids, _ in blocks)
        parts = [(ids[ids <= last], packed[ids <= last]) for ids, packed in blocks]
        common = parts[0][0]
        for ids, _ in parts[1:]:
            common = np.intersect1d(common, ids, assume_unique=True)
        if len(common):
            rows = [packed[np.searchsorted(ids, common)] for ids, packed in parts]
            yield common, np.concatenate(rows, axis=1)
        held = [
            (ids[ids > last], packed[ids > last]) if ids[-1] > last else next(reader, None)
            for (ids, packed), reader in zip(blocks, readers, strict=True)
        ]


def _build_flat(a: Atlas, targets: Sequence[Target], progress: Progress) -> list[Built]:
    counts = [min(site.n_codes for site in target.sites) for target in targets]  # a span may have fewer
    built, before = [], 0
    with progress.step("index", total=sum(counts), unit="codes") as step:
        for target, count in zip(targets, counts, strict=True):
            file = a.path / INDEXES / index_file(target)
            with disk_full(a.path):
                file.parent.mkdir(exist_ok=True)
                blocks = a.code_blocks(target.sites[0]) if len(target.sites) == 1 else span_blocks(a, target.sites)
                tell = partial(_tell, step, before, sum(counts))
                n_codes = HammingIndex.write(file, _counted(blocks, tell), target.parts, target.digest)
            built.append(Built(target.network.name, target.name, "flat", n_codes))
            before += count
            step.update(before, sum(counts))
    return built


def _tell(step: Step, before: int, total: int, done: int) -> None:
    step.update(before + done, total)


def _counted(blocks: Iterable[Block], tell: Callable[[int], None]) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += len(block[0])
        tell(done)


def _build_approximate(path: Path, target: Target, recall: float, progress: Progress) -> Built:
    from atlas.search.approximate import ApproximateIndex

    exact = HammingIndex.load(path / INDEXES / index_file(target))
    with progress.step(f"build ivf of {target.name}", total=len(exact), unit="codes") as step, disk_full(path):
        index = ApproximateIndex.build(exact, target_recall=recall, progress=step.update)
        index.save(path / INDEXES / index_file(target, "ivf"))
    measured = index.recall, index.recall_in_order, index.sample
    return Built(target.network.name, target.name, "ivf", len(exact), *measured, index.parameters)


def _record(a: Atlas, target: Target, built: Built) -> None:
    """Note what was built in the table of indexes."""
    check_unchanged(a, target, "codes", target.digest, "it was indexed")
    a.execute(
        "insert or replace into indexes values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        [
            target.network.network_id,
            target.name,
            built.kind,
            index_file(target, built.kind),
            built.n_codes,
            target.digest,
            built.recall,
            built.recall_in_order,
            built.sample,
            None if built.parameters is None else json.dumps(built.parameters),
        ],
    )


def _forget_beside(a: Atlas, target: Target, but: IndexKind = "flat") -> list[str]:
    """Take out of the table what stands beside a flat index, all or all ``but`` one kind; returns the files."""
    others = "network_id = $1 and target = $2 and kind not in ('flat', $3)"
    values = [target.network.network_id, target.name, but]
    files = [file for (file,) in a.rows(f"select file from indexes where {others}", values)]
    a.execute(f"delete from indexes where {others}", values)
    return files


def _remove(path: Path, files: Sequence[str]) -> None:
    for file in files:
        for name in (path / INDEXES / file, (path / INDEXES / file).with_suffix(".json")):
            name.unlink(missing_ok=True)


def _targets(a: Atlas, network: str | None, names: list[str] | None) -> list[Target]:
    if names is not None:
        return [a.catalog.target(site=name, network=network) for name in names]
    chosen = [record for record in a.catalog.networks if network in (None, record.name)]
    if network is not None and not chosen:
        a.catalog.network(network)  # says which there are
    found = []
    for record in chosen:
        named = [span for holder, span in a.catalog.spans if holder == record.name]
        indexed = a.rows(
            "select distinct target from indexes where network_id = $1 and contains(target, '->') order by all",
            [record.network_id],
        )
        spans = dict.fromkeys([*named, *(span for (span,) in indexed)])
        for name in [*(site.name for site in a.catalog.sites_of(record) if site.n_codes), *spans]:
            found.append(a.catalog.target(site=name, network=record.name))
    if not found:
        raise NotStored(f"{a.path} holds no codes to index; `polytope ingest` adds some")
    return found


def _has_approximate(a: Atlas, target: Target) -> bool:
    """Whether an index stands beside the flat one, be it of a kind that is no longer built."""
    return bool(
        a.value(
            "select count(*) from indexes where network_id = $1 and target = $2 and kind <> 'flat'",
            [target.network.network_id, target.name],
        )
    )


def _is_current(a: Atlas, target: Target, kind: IndexKind) -> bool:
    known = a.rows(
        "select file, digest from indexes where network_id = $1 and target = $2 and kind = $3",
        [target.network.network_id, target.name, kind],
    )
    if not known or known[0][1] != target.digest:
        return False
    with suppress(HammingIndexError):  # gone or damaged: build it again
        exact = HammingIndex.load(a.path / INDEXES / index_file(target))
        if kind == "flat":
            return exact.digest == target.digest
        from atlas.search.approximate import ApproximateIndex

        return ApproximateIndex.load(a.path / INDEXES / known[0][0], exact).exact.digest == target.digest
    return False
