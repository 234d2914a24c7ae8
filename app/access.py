"""Reading and writing one atlas from the many threads of the explorer.

DuckDB lets a process open a file for reading any number of times, or for writing once, never both. Every run of a
page and every job reads; a name or note that someone saves is written between them.
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

PATIENCE = 5.0
"""Seconds that a writer waits for this explorer's readers to finish. Pages read for a second or less, jobs longer."""


class _Gate:
    """Many readers or one writer; who comes to read after a writer has asked waits for it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writers = 0  # that write or wait for it
        self._writing = False

    @contextmanager
    def read(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: self._writers == 0)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def write(self, path: Path) -> Iterator[None]:
        with self._changed:
            self._writers += 1
            try:
                free = self._changed.wait_for(lambda: not self._readers and not self._writing, PATIENCE)
                if not free:
                    raise AtlasLocked(
                        f"{path} is being read by a computation in this explorer; save again when it is done, or "
                        "stop it"
                    )
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
def reading(path: Path) -> Iterator[Atlas]:
    """The atlas, open for reading. Raises what `atlas.open` raises."""
    with _gate(path).read(), atlas.open(path) as a:
        yield a


@contextmanager
def writing(path: Path) -> Iterator[Atlas]:
    """The atlas, open for writing, once nothing in this process reads it.

    Call it where the caller holds no reader itself: in a widget's callback, which runs before the page does. Raises
    `AtlasLocked` after `PATIENCE` seconds; its sentence says who holds the atlas.
    """
    with _gate(path).write(path), _opened(path) as a:
        yield a


@contextmanager
def _opened(path: Path) -> Iterator[Atlas]:
    """Another process may read just for a moment: tried for as long as its readers would be waited for."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            a = atlas.open(path, writable=True)
            break
        except AtlasLocked:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    with a:
        yield a
