"""Work beside the network: batches are made before it asks for them, and written while it reads the next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

WAITING = 1
"""Items that are not finished when the next is made: each is a batch in memory, and writing is the faster half."""


class Background(Generic[T]):
    """Calls ``work`` with each item that it is given, in order, one at a time, in a thread of its own.

    What ``work`` raises is raised by the next `put`, or at the end. When the block is left by an exception, items
    that were not begun are dropped. In either case nothing runs any more afterwards.
    """

    def __init__(self, work: Callable[[T], None], waiting: int = WAITING) -> None:
        self._work, self._waiting = work, waiting
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="polytope-background")
        self._given: deque[Future[None]] = deque()

    def put(self, item: T) -> None:
        """Hand over an item; waits while ``waiting`` of them are not finished."""
        while self._given and (self._given[0].done() or len(self._given) >= self._waiting):
            self._given[0].result()
            self._given.popleft()
        self._given.append(self._pool.submit(self._work, item))

    def __enter__(self) -> Background[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            while self._given and error is None:
                self._given[0].result()
                self._given.popleft()
        finally:
            _stop(self._pool, self._given)


def ahead(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items, each made in another thread while the one before it is in use."""
    end: Any = object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="polytope-ahead")
    coming = pool.submit(next, items, end)
    try:
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item
    finally:
        _stop(pool, [coming])


def _stop(pool: ThreadPoolExecutor, given: Collection[Future[Any]]) -> None:
    """Drop what has not begun and wait for what has, however often Ctrl-C is pressed: it uses what the caller is
    about to close."""
    interrupted = False
    while True:
        try:
            pool.shutdown(wait=False, cancel_futures=True)
            # Not for the thread: Python 3.11 takes one for ended whose join was interrupted.
            wait([future for future in given if not future.cancel()])
            break
        except KeyboardInterrupt:
            interrupted = True
    if interrupted:
        raise KeyboardInterrupt
