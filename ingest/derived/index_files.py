"""The files of Hamming indexes: written one by one, as tasks that any engine does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import quote

import numpy as np

import atlas
from atlas.errors import HammingIndexError
from atlas.search.files import Block, check_file, read_about
from atlas.search.hamming_index import HammingIndex
from atlas.search.joined import JoinedIndex, load_index
from atlas.store.atlas import Atlas
from atlas.store.buckets import address_in
from atlas.store.catalog import SiteRecord, Target
from atlas.store.disk import disk_full
from atlas.store.index_parts import IndexPart

from ..run.engines import Tell

IndexKind = Literal["flat", "ivf"]
"""flat is exact and always there; ivf, which is approximate, may stand beside it."""


@dataclass(frozen=True)
class IndexTask:
    """``place``: of the part among those of its index. ``size``: its codes, about."""

    number: int
    size: int
    network: str
    target: str
    kind: IndexKind
    part: IndexPart
    place: int


@dataclass(frozen=True)
class IndexFiles:
    """Writes any file of some indexes of the atlas at ``place``, a folder or an address.

    ``folder``: for what is handed to other processes.
    """

    unit: ClassVar[str] = "index"

    place: str
    folder: Path
    recall: float

    @property
    def described(self) -> str:
        return "the building of indexes"

    def elsewhere(self) -> Callable[[str], IndexFiles]:
        """As `Work.elsewhere` says."""
        place = self.place if address_in(self.place) else str(Path(self.place).absolute())
        return partial(_again, place, self.folder.absolute(), self.recall)

    def __call__(self, task: IndexTask, progress: Tell) -> None:
        """Write a file, unless it would hold no code."""
        done = 0

        def tell(codes: int, _: int = 0) -> None:
            nonlocal done
            progress(codes - done)
            done = codes

        with atlas.open(self.place) as a:
            target = a.catalog.target(site=task.target, network=task.network)
            if task.kind == "flat":
                write_flat(a, target, task.part, tell)
            else:
                exact = load_index(a.index_files(index_file(target)), target.digest)
                write_approximate(part_of(exact, task.place), task.part, self.recall, tell)


def _again(place: str, folder: Path, recall: float, device: str) -> IndexFiles:
    return IndexFiles(place, folder, recall)


def part_of(exact: HammingIndex, place: int) -> HammingIndex:
    """The flat index of a part."""
    return exact.joined[place] if isinstance(exact, JoinedIndex) else exact


def write_approximate(exact: HammingIndex, part: IndexPart, recall: float, tell: Callable[[int, int], None]) -> None:
    """Write the file of an ``ivf`` index of the codes of a flat one."""
    from atlas.search.approximate import ApproximateIndex

    part.path.parent.mkdir(parents=True, exist_ok=True)
    with disk_full(part.path):
        ApproximateIndex.build(exact, target_recall=recall, progress=tell).save(part.path)


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


def about_file(part: IndexPart) -> dict[str, Any] | None:
    """What the JSON beside the file of an index says; None where either is gone or damaged."""
    with suppress(HammingIndexError):
        about = read_about(part.path)
        check_file(part.path, about)
        return about
    return None


def write_flat(a: Atlas, target: Target, part: IndexPart, tell: Callable[[int], None]) -> dict[str, Any] | None:
    """Write a file of a flat index, and say what the JSON beside it says; None where it would hold no code."""
    with disk_full(a.path):
        blocks = iter(span_blocks(a, target.sites, part.within))
        first = next(blocks, None)
        if first is None:
            return None
        part.path.parent.mkdir(parents=True, exist_ok=True)
        HammingIndex.write(part.path, _counted(chain([first], blocks), tell), target.parts, part.digest)
        return read_about(part.path)


def _counted(blocks: Iterable[Block], tell: Callable[[int], None]) -> Iterator[Block]:
    done = 0
    for block in blocks:
        yield block
        done += len(block[0])
        tell(done)
