"""Reading and writing one atlas from the many threads of the explorer.

DuckDB lets a process open a file for reading any number of times, or for writing once, never both. Every run of a
page and every job reads; a name or note that someone saves is written between them. A job may read for minutes: what
is saved meanwhile is refused, and nobody who opens a page waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import atlas
from atlas import Atlas
from atlas.errors import AtlasLocked

PATIENCE = 0.8
"""Seconds that a writer waits in all for those who read: a page reads for less, and who saves waits for an answer."""

AGAIN_EVERY = 0.05
"""Seconds between two attempts to open an atlas that another process reads, which may be just for a moment."""


class _Gate:
    """Many readers or one writer. Who comes to read while a writer waits for pages waits for it; while it waits for
    jobs, nobody does."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: list[str] = []  # labels of those that read
        self._pages = 0  # that read
        self._writers = 0  # that write, or wait for pages
        self._writing = False

    @contextmanager
    def read(self, job: str | None) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._writers == 0)
            self._count(job, 1)
        try:
            yield
        finally:
            with self._changed:
                self._count(job, -1)
                self._changed.notify_all()

    def _count(self, job: str | None, change: int) -> None:
        if job is None:
            self._pages += change
        elif change > 0:
            self._jobs.append(job)
        else:
            self._jobs.remove(job)

    def _free(self) -> bool:
        return not (self._pages or self._jobs or self._writing)

    @contextmanager
    def write(self, path: Path, until: float) -> Iterator[None]:
        """``until``: the time, of the monotonic clock, after which it is given up."""
        with self._changed:
            self._changed.wait_for(lambda: not self._jobs, until - time.monotonic())
            if self._jobs:
                raise AtlasLocked(
                    f"{path} is being read by a computation in this explorer ({', '.join(sorted(set(self._jobs)))}); "
                    "save again when it is done, or stop it on its page"
                )
            self._writers += 1
            try:
                if not self._changed.wait_for(self._free, until - time.monotonic()):
                    raise AtlasLocked(f"{path} is being read by pages of this explorer; save again in a moment")
            except BaseException:
                self._writers -= 1
                self._changed.notify_all()
                raise
            self._writing = True
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._writers -= 1
                self._changed.notify_all()


_gates: dict[str, _Gate] = {}
_finding = threading.Lock()


def _gate(path: Path) -> _Gate:
    with _finding:
        return _gates.setdefault(str(path.resolve()), _Gate())


@contextmanager
def reading(path: Path, job: str | None = None) -> Iterator[Atlas]:
    """The atlas, open for reading: for a job of that label, or for a page. Raises what `atlas.open` raises."""
    with _gate(path).read(job), atlas.open(path) as a:
        yield a


@contextmanager
def writing(path: Path) -> Iterator[Atlas]:
    """The atlas, open for writing, once nothing reads it.

    Call it where the caller holds no reader itself: in a widget's callback, which runs before the page does. Raises
    `AtlasLocked` after `PATIENCE` seconds; its sentence says who holds the atlas.
    """
    until = time.monotonic() + PATIENCE
    while True:
        with _gate(path).write(path, until):
            try:
                a = atlas.open(path, writable=True)
            except AtlasLocked:  # by another process
                if time.monotonic() > until:
                    raise
            else:
                with a:
                    yield a
                return
        time.sleep(AGAIN_EVERY)
