"""Building the Hamming indexes beside the database, from nothing but the codes in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

import numpy as np

from atlas.errors import HammingIndexError, NotStored, UsageError
from atlas.search.files import INDEXES, TARGET_RECALL, Block, check_file, read_about
from atlas.search.hamming_index import HammingIndex
from atlas.search.joined import JoinedApproximate, JoinedIndex, load_index
from atlas.store.atlas import Atlas
from atlas.store.catalog import SiteRecord, Target
from atlas.store.digests import seal
from atlas.store.disk import disk_full
from atlas.store.index_parts import IndexPart

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
        made = _build_flat(a, flat, progress, force)
    built = [index for index, _ in made]
    if flat:
        with storing(path, progress) as a:
            for target, (index, files) in zip(flat, made, strict=True):
                _record(a, target, index, files)
            seal(a, "indexes")
    for target in beside:
        index, files = _build_approximate(path, target, recall, progress, force)
        with storing(path, progress) as a:
            _record(a, target, index, files)
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


def span_blocks(a: Atlas, sites: Sequence[SiteRecord], within: range | None = None) -> Iterator[Block]:
    """Ids and codes of the examples that have a code at every one of the sites, in order of id, block by block.

    A code is the sites' codes one after another, as in `SplineCodes`. ``within``: consecutive ids; None: all.
    """
    readers = [a.code_blocks(site, within=within) for site in sites]
    if len(readers) == 1:
        yield from readers[0]
        return
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


Files = list[tuple[IndexPart, int, str]]
"""Files of an index, with their bytes and SHA-256."""


def _build_flat(a: Atlas, targets: Sequence[Target], progress: Progress, force: bool) -> list[tuple[Built, Files]]:
    counts = [min(site.n_codes for site in target.sites) for target in targets]  # a span may have fewer
    built, before = [], 0
    with progress.step("index", total=sum(counts), unit="codes") as step:
        for target, count in zip(targets, counts, strict=True):
            n_codes, files = 0, Files()
            for part in _parts(a, target, "flat", force):
                about = _about(part) if part.is_built else None
                if about is None:
                    about = _write_flat(a, target, part, partial(_tell, step, before + n_codes, sum(counts)))
                if about is not None:
                    n_codes += about["count"]
                    files.append((part, about["size"], about["sha256"]))
            if not files:
                raise NotStored(f"no example of {a.path} has a code at every site of {target.name}")
            built.append((Built(target.network.name, target.name, "flat", n_codes), files))
            before += count
            step.update(before, sum(counts))
    return built


def _parts(a: Atlas, target: Target, kind: IndexKind, force: bool) -> list[IndexPart]:
    """The files of an index; those that need not be built are there, and sound."""
    index = index_file(target, kind)
    anew = a.index_parts(index, target, anew=True)
    if force:
        return anew
    held = a.index_parts(index, target)
    return [part if part.is_built and _about(part) else new for part, new in zip(held, anew, strict=True)]


def _about(part: IndexPart) -> dict[str, Any] | None:
    """What the JSON beside the file of an index says; None where either is gone or damaged."""
    with suppress(HammingIndexError):
        about = read_about(part.path)
        check_file(part.path, about)
        return about
    return None


def _write_flat(a: Atlas, target: Target, part: IndexPart, tell: Callable[[int], None]) -> dict[str, Any] | None:
    """Write a file of a flat index, and say what the JSON beside it says; None where it would hold no code."""
    with disk_full(a.path):
        blocks = iter(span_blocks(a, target.sites, part.within))
        first = next(blocks, None)
        if first is None:
            return None
        part.path.parent.mkdir(parents=True, exist_ok=True)
        HammingIndex.write(part.path, _counted(chain([first], blocks), tell), target.parts, part.digest)
        return read_about(part.path)


def _tell(step: Step, before: int, total: int, done: int) -> None:
    step.update(before + done, total)


def _counted(blocks: Iterable[Block], tell: Callable[[int], None]) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += len(block[0])
        tell(done)


def _build_approximate(
    place: str | Path | Atlas, target: Target, recall: float, progress: Progress, force: bool
) -> tuple[Built, Files]:
    from atlas.search.approximate import ApproximateIndex, measured

    with reading(place) as a:
        exact = load_index(a.index_files(index_file(target)), target.digest)
        parts = _parts(a, target, "ivf", force)
    files: Files = []
    with (
        progress.step(f"build ivf of {target.name}", total=len(exact), unit="codes") as step,
        disk_full(path_of(place)),
    ):
        if not isinstance(exact, JoinedIndex):
            index = ApproximateIndex.build(exact, target_recall=recall, progress=step.update)
            index.save(parts[0].path)
            said = index.recall, index.recall_in_order, index.sample, index.parameters
            return Built(target.network.name, target.name, "ivf", len(exact), *said), files
        loaded: list[ApproximateIndex | None] = []
        for part, some, start in zip(parts, exact.joined, exact.starts.tolist(), strict=False):
            if len(some) < 2:
                loaded.append(None)
                continue
            if not part.is_built:
                tell = partial(_tell_part, step, start, len(exact))
                part.path.parent.mkdir(parents=True, exist_ok=True)
                ApproximateIndex.build(some, target_recall=recall, progress=tell).save(part.path)
            about = read_about(part.path)
            loaded.append(ApproximateIndex.load(part.path, some))
            files.append((part, about["size"], about["sha256"]))
        joined = measured(JoinedApproximate(tuple(loaded), exact))
    said = joined.recall, joined.recall_in_order, joined.sample, joined.parameters
    return Built(target.network.name, target.name, "ivf", len(exact), *said), files


def _tell_part(step: Step, before: int, total: int, done: int, _: int) -> None:
    step.update(before + done, total)


def _record(a: Atlas, target: Target, built: Built, files: Files) -> None:
    """Note what was built in the table of indexes."""
    check_unchanged(a, target, "codes", target.digest, "it was indexed")
    a.record_index(index_file(target, built.kind), files)
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
    for file in files:
        a.record_index(file, [])
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
        exact = load_index(a.index_files(index_file(target)), target.digest)
        if kind == "flat":
            return exact.digest == target.digest
        from atlas.search.approximate import load_approximate

        return load_approximate(a.index_files(known[0][0]), exact).exact.digest == target.digest
    return False
