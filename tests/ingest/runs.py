"""Small real runs: a folder of texts, a NumPy network, children that are killed, and the tables that come out."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow.parquet as pq

import atlas
from atlas.errors import PolytopeError, RunInterrupted
from atlas.network import Network
from atlas.store.buckets import address_in
from atlas.store.statements import Statements
from ingest.datasets.base import Dataset
from ingest.datasets.sources import open_dataset
from ingest.progress import Progress, Step
from ingest.run.plan import Choices
from ingest.run.run import Outcome, ingest
from ingest.run.sampling import TokenSampling
from tests.atlases import begin
from tests.forked import children
from tests.networks import word_network, word_texts

SITES = ("blocks.0.mlp", "blocks.1.mlp", "blocks.2.mlp", "blocks.3.mlp")
TOKENS = TokenSampling(per_sequence=2, skip_first=1)
"""Texts have 12 words, sequences 5: each text gives 4 examples, at words 1, 3, 6 and 8."""

SMALL = Choices(
    tokens=TOKENS, batch_size=2, shard_examples=12, sites=SITES[:2], spans=("blocks.0.mlp->blocks.1.mlp",)
)
"""Three texts a shard, three batches a shard."""

CLOCK = {"runs": ["started_at", "published_at"]}

Texts = Sequence[tuple[str, str | None, str]]


def write_texts(folder: Path, texts: Texts) -> Path:
    """A folder of texts; the keys are paths, their first part is the label."""
    for key, _, text in texts:
        path = folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def small_texts(folder: Path, n_texts: int = 9) -> Path:
    return write_texts(folder, word_texts(n_texts))


def texts(folder: Path, name: str | None = None) -> Dataset:
    return open_dataset(str(folder), kind="text", name=name)


def tables(path: Path) -> dict[str, str]:
    """A digest of the rows of every table, all columns but those of the clock."""
    digests = {}
    with atlas.open(path) as a:
        for table in a.tables():
            exclude = f"exclude ({', '.join(CLOCK[table])})" if table in CLOCK else ""
            rows = a.rows(f'select * {exclude} from "{table}" order by all')
            digests[table] = f"{len(rows)} rows {hashlib.sha256(repr(rows).encode()).hexdigest()}"
    return digests


def rows(path: Path, query: str) -> list[tuple[Any, ...]]:
    with atlas.open(path) as a:
        return a.rows(query)


def leftovers(path: Path) -> list[str]:
    """What should not lie in an atlas whose run is over."""
    return [str(file.relative_to(path)) for file in path.rglob("*") if file.suffix in (".tmp", ".wal")]


class Watching(Progress):
    """Calls ``happens(step, number)`` when a step begins (number 0) and whenever it gets on (1, 2, …)."""

    def __init__(self, happens: Callable[[str, int], None]) -> None:
        self.happens = happens

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        self.happens(name, 0)
        yield _Watched(name, self.happens)


class _Watched(Step):
    def __init__(self, name: str, happens: Callable[[str, int], None]) -> None:
        self.name, self.happens, self.number = name, happens, 0

    def advance(self, amount: int) -> None:
        self.number += 1
        self.happens(self.name, self.number)

    def update(self, done: int, total: int) -> None:
        self.advance(0)


@dataclass(frozen=True)
class Stop:
    """A signal that a run sends to itself: at event ``number`` of a step, or ``statements`` after that."""

    step: str
    number: int
    signal: int = signal.SIGKILL
    statements: int | None = None

    def __call__(self, name: str, number: int) -> None:
        if not name.startswith(self.step) or number != self.number:
            return
        if self.statements is None:
            os.kill(os.getpid(), self.signal)
        else:
            sys.setprofile(partial(self._count, itertools.count()))

    def _count(self, statements: Iterator[int], frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is Statements.stoppable.__code__ and next(statements) == self.statements:
            sys.setprofile(None)
            os.kill(os.getpid(), self.signal)


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (minus the signal that killed it), and what it raised."""

    code: int | None
    error: tuple[str, str] | None


def run_in_child(path: Path, data: Path, stop: Stop | None = None, **options: Any) -> Ended:
    """The run of `SMALL` over ``data`` in a process of its own."""
    return finish(start_child(path, data, stop, **options))


def start_child(path: Path, data: Path, stop: Stop | None = None, **options: Any) -> tuple[Any, Connection]:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    begin(path)  # here, where the first is kept: each child makes its own
    process = children().Process(target=_child, args=(theirs, path, data, stop, options))
    process.start()
    theirs.close()
    return process, ours


def finish(child: tuple[Any, Connection]) -> Ended:
    process, pipe = child
    process.join(60)
    assert process.exitcode is not None, "the child hangs"
    try:
        error = pipe.recv()
    except EOFError:  # it ended without a word
        error = None
    return Ended(process.exitcode, error)


def _child(pipe: Connection, path: Path, data: Path, stop: Stop | None, options: dict[str, Any]) -> None:
    progress = Watching(stop) if stop else None
    try:
        small_run(path, data, progress=progress, **options)
    except PolytopeError as error:
        pipe.send((type(error).__name__, str(error)))


def small_run(
    path: Path, data: Path, choices: Choices = SMALL, network: Network | None = None, **options: Any
) -> Outcome:
    if not options.get("segmented") and address_in(path) is None:
        begin(path)
    return ingest(path, network or word_network(), texts(data), choices, **options)


def raising(step: str, number: int) -> Callable[[str, int], None]:
    """What interrupts a run, as Ctrl-C does, at event ``number`` of a step."""

    def happens(name: str, at: int) -> None:
        if (name, at) == (step, number):
            raise KeyboardInterrupt

    return happens


def only_read(path: Path, data: Path) -> None:
    """The run of `SMALL` as far as all its shards are complete and nothing is published."""
    try:
        small_run(path, data, progress=Watching(raising("publish", 0)))
    except RunInterrupted:
        return
    raise AssertionError("the run was there already")


@contextmanager
def held(path: Path, *, writable: bool) -> Iterator[int]:
    """Another process has the atlas open; gives its id."""
    ours, theirs = multiprocessing.Pipe()
    process = children().Process(target=_hold, args=(theirs, path, writable))
    process.start()
    assert ours.recv() == "open"
    try:
        yield process.pid
    finally:
        ours.send("close")
        process.join(60)


def _hold(pipe: Connection, path: Path, writable: bool) -> None:
    with atlas.open(path, writable=writable):
        pipe.send("open")
        pipe.recv()


def shard_rows(folder: Path) -> int:
    """Examples in the complete shards of a staging folder."""
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("[0-9]*[0-9].parquet"))
