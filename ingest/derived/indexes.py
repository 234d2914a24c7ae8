"""Building the Hamming indexes beside the database, from nothing but the codes in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from atlas.errors import HammingIndexError, NotStored, UsageError
from atlas.search.files import INDEXES, TARGET_RECALL, read_about
from atlas.search.hamming_index import HammingIndex
from atlas.search.joined import JoinedApproximate, JoinedIndex, load_index
from atlas.store.atlas import Atlas
from atlas.store.catalog import Target
from atlas.store.digests import seal
from atlas.store.disk import disk_full
from atlas.store.index_parts import IndexPart

from ..progress import Progress, Step
from ..run.engines import Engine
from .index_files import (
    IndexFiles,
    IndexKind,
    IndexTask,
    about_file,
    index_file,
    part_of,
    write_approximate,
    write_flat,
)
from .job import STAGING, check_unchanged, folder_of, name_of, reading, storing


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
    engine: Engine | None = None,
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
        engine: who builds them: None for this process; `RayEngine` for several, a file each. Then ``path`` is a path.
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
    if engine is not None and isinstance(path, Atlas):
        raise UsageError("other processes open the atlas themselves: with an engine, give its path and close it")
    progress = progress or Progress()
    with reading(path) as a:
        wanted = _targets(a, network, targets)
        flat = [target for target in wanted if force or not _is_current(a, target, "flat")]
        beside = [target for target in wanted if kind == "ivf" or (kind is None and _has_approximate(a, target))]
        beside = [target for target in beside if force or not _is_current(a, target, "ivf")]
        dropped = [target for target in wanted if kind == "flat" and _has_approximate(a, target)]
        made = _build_flat(a, flat, progress, force, engine)
    built = [index for index, _ in made]
    if flat:
        with storing(path, progress) as a:
            for target, (index, files) in zip(flat, made, strict=True):
                _record(a, target, index, files)
            seal(a, "indexes")
    for target, exact, parts in _unbuilt(path, beside, recall, progress, force, engine):
        index, files = _build_approximate(target, exact, parts, recall, progress)
        with storing(path, progress) as a:
            _record(a, target, index, files)
            gone = _forget_beside(a, target, but="ivf")
            seal(a, "indexes")
        _remove(folder_of(path), gone)
        built.append(index)
    if dropped:
        with storing(path, progress) as a:
            gone = [file for target in dropped for file in _forget_beside(a, target)]
            seal(a, "indexes")
        _remove(folder_of(path), gone)
    return built


Files = list[tuple[IndexPart, int, str]]
"""Files of an index, with their bytes and SHA-256."""


def _build_flat(
    a: Atlas, targets: Sequence[Target], progress: Progress, force: bool, engine: Engine | None
) -> list[tuple[Built, Files]]:
    counts = [min(site.n_codes for site in target.sites) for target in targets]  # a span may have fewer
    parts_of = [_parts(a, target, "flat", force) for target in targets]
    built, before = [], 0
    with progress.step("index", total=sum(counts), unit="codes") as step:
        if engine is not None:
            sizes = [[count // len(parts) for _ in parts] for count, parts in zip(counts, parts_of, strict=True)]
            _have_built(a, engine, _tasks(targets, parts_of, sizes, "flat"), 1.0, step)
        for target, count, parts in zip(targets, counts, parts_of, strict=True):
            n_codes, files = 0, Files()
            for part in parts:
                about = about_file(part) if part.is_built or engine is not None else None
                if about is None:
                    tell = partial(_tell, step, before + n_codes, sum(counts))
                    about = write_flat(a, target, part, tell)
                if about is not None:
                    n_codes += about["count"]
                    files.append((part, about["size"], about["sha256"]))
            if not files:
                raise NotStored(f"no example of {a.address} has a code at every site of {target.name}")
            built.append((Built(target.network.name, target.name, "flat", n_codes), files))
            before += count
            step.update(before, sum(counts))
    return built


def _tasks(
    targets: Sequence[Target], parts_of: Sequence[list[IndexPart]], sizes: Sequence[list[int]], kind: IndexKind
) -> list[IndexTask]:
    """What is to be built of some indexes, a file a task; ``sizes``: codes of each part."""
    wanted = [
        (sizes[row][place], target.network.name, target.name, kind, part, place)
        for row, target in enumerate(targets)
        for place, part in enumerate(parts_of[row])
        if not part.is_built
    ]
    return [IndexTask(number, *each) for number, each in enumerate(wanted)]


def _have_built(
    place: str | Path | Atlas, engine: Engine, tasks: Sequence[IndexTask], recall: float, step: Step
) -> None:
    folder = folder_of(place) / STAGING / "indexes"
    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    total = sum(task.size for task in tasks)
    try:
        engine.run(tasks, IndexFiles(name_of(place), folder, recall), lambda done: step.update(done, total))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tell(step: Step, before: int, total: int, done: int, _: int = 0) -> None:
    step.update(before + done, total)


def _parts(a: Atlas, target: Target, kind: IndexKind, force: bool) -> list[IndexPart]:
    """The files of an index; those that need not be built are there, and sound."""
    index = index_file(target, kind)
    anew = a.index_parts(index, target, anew=True)
    if force:
        return anew
    held = a.index_parts(index, target)
    return [part if part.is_built and about_file(part) else new for part, new in zip(held, anew, strict=True)]


def _unbuilt(
    place: str | Path | Atlas,
    targets: Sequence[Target],
    recall: float,
    progress: Progress,
    force: bool,
    engine: Engine | None,
) -> Iterator[tuple[Target, HammingIndex, list[IndexPart]]]:
    """Targets whose ``ivf`` index is to be recorded, with their flat index and the files; where an engine builds
    these, they are there."""
    if not targets:
        return
    with reading(place) as a:
        files_of = [a.index_files(index_file(target)) for target in targets]
        flat = [load_index(files, target.digest) for files, target in zip(files_of, targets, strict=True)]
        parts_of = [  # beside every flat file; a part of a span in which no example has all sites has none
            [part for part in _parts(a, target, "ivf", force) if part.within in [file.within for file in files]]
            for files, target in zip(files_of, targets, strict=True)
        ]
    if engine is not None:
        held = [
            [len(part_of(exact, at)) for at in range(len(parts))] for exact, parts in zip(flat, parts_of, strict=True)
        ]
        tasks = [task for task in _tasks(targets, parts_of, held, "ivf") if task.size >= LEAST]
        with progress.step("build ivf", total=sum(task.size for task in tasks), unit="codes") as step:
            _have_built(place, engine, tasks, recall, step)
        there = {task.part.path for task in tasks}
        parts_of = [
            [replace(part, is_built=part.is_built or part.path in there) for part in parts] for parts in parts_of
        ]
    yield from zip(targets, flat, parts_of, strict=True)


LEAST = 2
"""Codes that an approximate index can be built of."""


def _build_approximate(
    target: Target, exact: HammingIndex, parts: Sequence[IndexPart], recall: float, progress: Progress
) -> tuple[Built, Files]:
    from atlas.search.approximate import ApproximateIndex, measured

    files: Files = []
    loaded: list[ApproximateIndex | None] = []
    with progress.step(f"build ivf of {target.name}", total=len(exact), unit="codes") as step:
        before = 0
        for place, part in enumerate(parts):
            some = part_of(exact, place)
            if len(some) < LEAST and isinstance(exact, JoinedIndex):
                loaded.append(None)
                continue
            if not part.is_built:
                write_approximate(some, part, recall, partial(_tell, step, before, len(exact)))
            about = read_about(part.path)
            loaded.append(ApproximateIndex.load(part.path, some))
            files.append((part, about["size"], about["sha256"]))
            before += len(some)
        index: Any = (
            measured(JoinedApproximate(tuple(loaded), exact)) if isinstance(exact, JoinedIndex) else loaded[0]
        )
    said = index.recall, index.recall_in_order, index.sample, index.parameters
    return Built(target.network.name, target.name, "ivf", len(exact), *said), files


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
        raise NotStored(f"{a.address} holds no codes to index; `polytope ingest` adds some")
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
