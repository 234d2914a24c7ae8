"""Popcounts over packed codes, compiled by Numba: the one place that imports numba.

Every kernel runs on one thread and without Python's lock: `in_threads` puts them on all cores. Numba's own parallel
loops are not used, because a process that starts two of them at once from two threads (an explorer with two
visitors) is ended by Numba's default scheduler.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Shaped, UInt8, UInt64
from numba import njit
from numba.extending import intrinsic

T = TypeVar("T")


@intrinsic
def _popcount(_: Any, x: Any) -> Any:
    """Bits set in ``x``: LLVM's ``ctpop``, which becomes one vector instruction where the processor has it."""
    return x(x), lambda _context, builder, _signature, arguments: builder.ctpop(arguments[0])


def words(packed: UInt8[np.ndarray, "codes bytes"]) -> UInt64[np.ndarray, "codes words"]:
    """The same bits, eight bytes a word; rows are padded with zeros, in a copy, where the bytes don't divide."""
    n, n_bytes = packed.shape
    padding = -n_bytes % 8
    if padding or not packed.flags.c_contiguous or packed.ctypes.data % 8:
        padded = np.zeros((n, n_bytes + padding), dtype=np.uint8)
        padded[:, :n_bytes] = packed
        packed = padded
    return packed.view(np.uint64)


@njit(nogil=True, cache=True)
def hamming_block(
    a: UInt64[np.ndarray, "a words"], b: UInt64[np.ndarray, "b words"], out: Shaped[np.ndarray, "a b"]
) -> None:
    """Write the distance, in gates, of every row of ``a`` to every row of ``b`` into ``out``, of an integer type that
    holds them."""
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            count = np.uint64(0)
            for k in range(a.shape[1]):
                count += _popcount(a[i, k] ^ b[j, k])  # type: ignore[call-arg]  # Numba supplies the first
            out[i, j] = count


def n_threads() -> int:
    """Threads that computations are spread over: the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads(), thread_name_prefix="polytope")


def in_threads(work: Callable[[T], Any], pieces: Iterable[T]) -> None:
    """Call ``work`` on every piece, on all cores, and wait. Pieces that have begun are finished when one fails."""
    tasks = [_pool().submit(work, piece) for piece in pieces]
    try:
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            if not task.cancelled():
                task.exception()


def slices(n: int, at_most: int) -> list[slice]:
    """[0, n) cut into consecutive slices of equal length, of ``at_most`` each, and at least one a thread."""
    step = max(1, min(at_most, -(-n // n_threads())))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
