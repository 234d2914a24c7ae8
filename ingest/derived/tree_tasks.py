"""The spanning tree of a target's codes by parts, as tasks that any engine does and whose results are files.

What is staged for it lies in ``staging/clustering-…`` of the atlas: the codes, mapped by every process, then a file
for the core distances of each part and one for the forest of each pair of parts. Each is written whole or not at all,
so a run that was stopped goes on at the first that is missing.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped

from atlas.clustering.hierarchy import Metric
from atlas.codes import SplineCodes
from atlas.devices import Device, chosen_device
from atlas.errors import HammingIndexError, RunInterrupted, StoreError
from atlas.search.files import Block
from atlas.search.hamming_index import HammingIndex
from atlas.store.disk import disk_full, remove_stranger, replacing, sealed, unsealed

from ..progress import Step
from ..run.engines import Engine, Tell

CODES, CORES, CUT = "codes.faiss", "cores.npz", "parts.json"

UNIT = 10**6
"""Distances that progress counts as one."""

ATTEMPTS = 3
"""How often what is found to be damaged is done again."""


@dataclass(frozen=True)
class PartTask:
    """``a`` and ``b``: places of parts; the core distances of part ``a`` where ``b`` is None, else a forest.

    ``size``: millions of distances.
    """

    number: int
    size: int
    a: int
    b: int | None

    @property
    def file(self) -> str:
        return f"cores-{self.a:06d}.npz" if self.b is None else f"forest-{self.a:06d}-{self.b:06d}.npz"


@dataclass(frozen=True)
class TreeByParts:
    """Does any of the tasks of a tree. ``bounds``: where parts begin, and the last one ends, among distinct codes."""

    unit: ClassVar[str] = "task"

    folder: Path
    bounds: tuple[int, ...]
    metric: Metric
    samples: int
    device: Device = "auto"

    @property
    def described(self) -> str:
        return "a clustering by parts"

    def elsewhere(self) -> Callable[[str], TreeByParts]:
        """As `Work.elsewhere` says."""
        return partial(TreeByParts, self.folder.absolute(), self.bounds, self.metric, self.samples)

    @property
    def parts(self) -> list[slice]:
        return [slice(start, stop) for start, stop in zip(self.bounds, self.bounds[1:], strict=False)]

    @cached_property
    def tasks(self) -> tuple[list[PartTask], list[PartTask]]:
        """Core distances, and the forests that come after them."""
        sizes = np.diff(self.bounds).tolist()
        n, count = self.bounds[-1], len(sizes)
        cores = [PartTask(a, _millions(sizes[a] * n), a, None) for a in range(count)]
        pairs = [(a, b) for a in range(count) for b in range(a, count)]
        return cores, [
            PartTask(count + number, _millions(sizes[a] * sizes[b] // (1 + (a == b))), a, b)
            for number, (a, b) in enumerate(pairs)
        ]

    @cached_property
    def codes(self) -> Any:
        """A `DistinctCodes` over the mapped file."""
        from atlas.clustering.distances import TorchCodes
        from atlas.clustering.tree_by_parts import DistinctCodes

        codes = self.held
        largest = 2 * int(np.diff(self.bounds).max())
        device = "cpu"
        if self.metric != "jaccard":
            device = chosen_device(self.device, TorchCodes.device_bytes(largest, codes.n_bits))
        return DistinctCodes.of(codes, self.metric, device)

    @cached_property
    def index(self) -> HammingIndex:
        return HammingIndex.load(self.folder / CODES)

    @property
    def held(self) -> SplineCodes:
        """All codes, as they are mapped."""
        return SplineCodes(self.index.packed, self.index.parts)

    def __call__(self, task: PartTask, progress: Tell) -> None:
        """Do a task and write its file."""
        from atlas.clustering.tree_by_parts import block_forest, core_distances

        tell, parts = _Millions(progress), self.parts
        if task.b is None:
            found = {"cores": core_distances(self.codes, parts[task.a], parts, self.samples, tell)}
        else:
            found = block_forest(self.codes, parts[task.a], parts[task.b], self.cores[1], tell)._asdict()
        self.write(task.file, found)
        progress(task.size - tell.told)

    @cached_property
    def cores(self) -> Shaped[np.ndarray, "2 kinds"]:
        """Those of all codes, once all tasks that find them are done."""
        return self.read(CORES)["cores"]

    def write(self, name: str, arrays: dict[str, np.ndarray]) -> None:
        remove_stranger(self.folder / name)
        with replacing(self.folder / name) as file:
            np.savez(file, allow_pickle=False, **arrays)

    def read(self, name: str) -> dict[str, np.ndarray]:
        """What `write` wrote; a file that is damaged is removed, and `_Damaged` raised."""
        path = self.folder / name
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return dict(arrays.items())
        except (zipfile.BadZipFile, ValueError, EOFError, KeyError) as error:
            remove_stranger(path)
            path.unlink(missing_ok=True)
            raise _Damaged(path) from error

    def missing(self, tasks: Sequence[PartTask]) -> list[PartTask]:
        return [task for task in tasks if not (self.folder / task.file).is_file()]


class _Damaged(Exception):
    """A file is not what was written."""


class _Millions:
    """Distances that are computed, told by the million."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._distances, self.told = tell, 0, 0

    def __call__(self, distances: int) -> None:
        self._distances += distances
        whole = self._distances // UNIT
        self._tell(whole - self.told)
        self.told = whole


def _millions(distances: int) -> int:
    return max(1, -(-distances // UNIT))


def staging_of(staging: Path, parameters: dict[str, Any]) -> Path:
    """The folder for the tree of a clustering with these parameters, which name the codes by their digest."""
    known = {
        name: parameters[name] for name in ("network_id", "target", "metric", "min_samples", "sample", "data_digest")
    }
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()
    return staging / f"clustering-{digest[:16]}"


def stage_codes(folder: Path, blocks: Iterable[Block], gates: tuple[int, ...], digest: str) -> HammingIndex:
    """Write codes down, so that they can be mapped, or take what an earlier run of the same has left.

    Args:
        folder: what `staging_of` names.
        blocks: ids and packed codes in order of id; not read where they lie there already.
        gates: of each site.
        digest: of the codes.

    Raises:
        DiskFull: there is too little space.
    """
    if (folder / CODES).exists():
        with suppress(HammingIndexError):  # damaged: what was made of it is as well
            index = HammingIndex.load(folder / CODES, thorough=True)
            index.check(len(index), digest)
            return index
        remove(folder)
    with disk_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
    HammingIndex.write(folder / CODES, blocks, gates, digest)
    return HammingIndex.load(folder / CODES)


def stage(folder: Path, codes: SplineCodes, metric: Metric, samples: int, budget: int, device: Device) -> TreeByParts:
    """Cut what `stage_codes` wrote, so that a process that holds ``budget`` bytes can work on two parts at once; or
    take the parts that an earlier run of the same has made, with what they gave.

    Raises `TooManyPoints` where the budget is too small for any part.
    """
    from atlas.clustering.tree_by_parts import DistinctCodes

    known = unsealed((folder / CUT).read_bytes()) if (folder / CUT).is_file() else None
    if known is None or known["budget"] > budget:
        for task_file in folder.glob("*.npz"):
            task_file.unlink()
        parts = DistinctCodes.of(codes, metric).cut(budget)
        known = {"bounds": [0, *(part.stop for part in parts)], "budget": budget}
        with replacing(folder / CUT) as file:
            file.write(sealed(known))
    return TreeByParts(folder, tuple(known["bounds"]), metric, samples, device)


def grow(work: TreeByParts, engine: Engine, step: Step) -> Any:
    """Have the tasks that are missing done, and put the `SpanningTree` together.

    Raises:
        RunInterrupted: Ctrl-C; what is complete is kept.
        WorkersLost: the engine's processes end again and again.
        StoreError: the disk gives back other bytes than it was given.
    """
    from atlas.clustering.tree_by_parts import whole_tree

    cores, forests = work.tasks
    try:
        for _ in range(ATTEMPTS):
            try:
                _have_done(work, engine, cores, 0, step)
                found = np.concatenate([work.read(task.file)["cores"] for task in cores], axis=1)
                work.write(CORES, {"cores": found})
                _have_done(work, engine, forests, sum(task.size for task in cores), step)
                return whole_tree(work.codes, _joined(work, forests), found)
            except _Damaged:
                continue
    except KeyboardInterrupt:
        tasks = [*cores, *forests]
        done = len(tasks) - len(work.missing(tasks))
        raise RunInterrupted(
            f"stopped with {done} of {len(tasks)} tasks complete in {work.folder}; give the same command again to go "
            "on"
        ) from None
    raise StoreError(
        f"what is written to {work.folder} is not what is read from it, {ATTEMPTS} times over; check the disk"
    )


def _have_done(work: TreeByParts, engine: Engine, tasks: Sequence[PartTask], before: int, step: Step) -> None:
    total = sum(task.size for of_kind in work.tasks for task in of_kind)
    missing = work.missing(tasks)
    before += sum(task.size for task in tasks) - sum(task.size for task in missing)
    step.update(before, total)
    engine.run(missing, work, lambda done: step.update(before + done, total))


def _joined(work: TreeByParts, tasks: Sequence[PartTask]) -> Any:
    from atlas.clustering.tree_by_parts import Edges, least_forest

    return least_forest((Edges(**work.read(task.file)) for task in tasks), work.bounds[-1])


def size_of(work: TreeByParts) -> tuple[int, int]:
    """Millions of distances that are computed in all, and of those what is there already."""
    tasks = [task for of_kind in work.tasks for task in of_kind]
    total = sum(task.size for task in tasks)
    return total, total - sum(task.size for task in work.missing(tasks))


def remove(folder: Path) -> None:
    """Forget what is staged, under another name first, so that a kill leaves nothing that looks complete."""
    if folder.exists():
        removed = folder.with_name(f".removed-{secrets.token_hex(4)}-{folder.name}")
        folder.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
