"""All cores of this process on work that doesn't hold Python's lock: compiled loops, NumPy, hashing.

One pool serves the whole process. Numba's parallel loops are not used, because a process that starts two of them at
once from two threads (an explorer with two visitors) is ended by Numba's default scheduler.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

T = TypeVar("T")


def n_threads() -> int:
    """Threads that work is spread over: the cores that this process may use, or as many as `use_threads` says."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _limit[0])


def use_threads(count: int) -> None:
    """Spread work over ``count`` threads at most from now on: of a process that has other processes beside it."""
    _limit[0] = count


def in_threads(work: Callable[[T], Any], pieces: Iterable[T]) -> None:
    """Call ``work`` on every piece, on all cores, this thread's among them, and return when all are done.

    Nothing waits for a core that is busy elsewhere: this thread goes on with what the others have not taken. Pieces
    that have begun are finished when one fails or Ctrl-C comes; then the first failure is raised. Called within such
    work, it does its pieces in turn: the cores are busy already.
    """
    if getattr(_this_thread, "is_busy", False):
        for piece in pieces:
            work(piece)
        return
    left = deque(pieces)
    task = [work]  # emptied at the end: a helper that never began stays in the pool's queue, with all that it holds

    def take() -> None:
        try:
            while left:
                try:
                    piece = left.popleft()
                except IndexError:  # another thread took the last
                    return
                task[0](piece)
        except BaseException:
            left.clear()
            raise

    helpers = [_pool().submit(take) for _ in range(min(n_threads(), len(left)) - 1)]
    _this_thread.is_busy = True
    try:
        take()
    finally:
        _this_thread.is_busy = False
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        task.clear()


def slices(n: int, at_most: int) -> list[slice]:
    """[0, n) cut into consecutive slices of equal length, of ``at_most`` each, and at least one a thread."""
    step = max(1, min(at_most, -(-n // n_threads())))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


_limit = [1 << 30]
"""Threads at most."""

_this_thread = threading.local()
"""``is_busy`` while it does pieces of such work: always, in the threads of the pool."""


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads(), "polytope", initializer=lambda: setattr(_this_thread, "is_busy", True))


if hasattr(os, "register_at_fork"):  # a forked child has the pool but none of its threads, and would wait for ever
    os.register_at_fork(after_in_child=_pool.cache_clear)
