"""Popcounts over packed codes, compiled by Numba: the one place that imports numba.

Every kernel runs on one thread and without Python's lock: `in_threads` puts them on all cores. Numba's own parallel
loops are not used, because a process that starts two of them at once from two threads (an explorer with two
visitors) is ended by Numba's default scheduler.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped, UInt8, UInt16, UInt32, UInt64
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
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


@njit(nogil=True, cache=True, inline="always")
def _differing_words(a: UInt64[np.ndarray, "a words"], i: int, b: UInt64[np.ndarray, "b words"], j: int) -> Any:
    count = np.uint64(0)
    for k in range(a.shape[1]):
        count += _popcount(a[i, k] ^ b[j, k])  # type: ignore[call-arg]  # Numba supplies the first
    return count


@njit(nogil=True, cache=True)
def hamming_block(
    a: UInt64[np.ndarray, "a words"], b: UInt64[np.ndarray, "b words"], out: Shaped[np.ndarray, "a b"]
) -> None:
    """Write the distance, in gates, of every row of ``a`` to every row of ``b`` into ``out``, of an integer type that
    holds them."""
    for i in range(a.shape[0]):
        for j in range(b.shape[0]):
            out[i, j] = _differing_words(a, i, b, j)


def n_threads() -> int:
    """Threads that computations are spread over: the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_in_pool = threading.local()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_threads(), "polytope", initializer=lambda: setattr(_in_pool, "here", True))


if hasattr(os, "register_at_fork"):  # a forked child has the pool but none of its threads, and would wait for ever
    os.register_at_fork(after_in_child=_pool.cache_clear)


def in_threads(work: Callable[[T], Any], pieces: Iterable[T]) -> None:
    """Call ``work`` on every piece, on all cores, and wait. Pieces that have begun are finished when one fails.

    Within such work it calls in turn: the cores are busy already, and to wait for them would be to wait for itself.
    """
    if getattr(_in_pool, "here", False):
        for piece in pieces:
            work(piece)
        return
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


@njit(nogil=True, cache=True)
def hamming_columns(
    a: UInt64[np.ndarray, "a words"],
    b: UInt64[np.ndarray, "b words"],
    out: Shaped[np.ndarray, "a b"],
    start: int,
    stop: int,
) -> None:
    """`hamming_block` for the columns ``start`` up to ``stop``: each code of ``b`` is fetched once for all of ``a``,
    which should be few enough to stay in the cache."""
    for j in range(start, stop):
        for i in range(a.shape[0]):
            out[i, j] = _differing_words(a, i, b, j)


@njit(nogil=True, cache=True)
def mirror(matrix: Shaped[np.ndarray, "n n"], start: int, stop: int) -> None:
    """Copy what lies right of the diagonal in the rows ``start`` up to ``stop`` to the columns below it."""
    for j in range(start, matrix.shape[0]):
        for i in range(start, min(stop, j)):
            matrix[j, i] = matrix[i, j]


@njit(nogil=True, cache=True)
def distances_from_products(
    products: Float64[np.ndarray, "rows columns"],
    norms: Float64[np.ndarray, " n"],
    x: Float[np.ndarray, "n units"],
    kind: Int64[np.ndarray, " n"],
    rows: Int64[np.ndarray, " rows"],
    columns: Int64[np.ndarray, " columns"],
    near: float,
    start: int,
    stop: int,
) -> None:
    """Turn inner products a · b into ‖a − b‖ in place, in the rows ``start`` up to ``stop``.

    Squared distances below ``near`` · (‖a‖² + ‖b‖²) are computed again from the differences of ``x``; they are 0
    between points of one kind.
    """
    for r in range(start, stop):
        i = rows[r]
        for c in range(products.shape[1]):
            j = columns[c]
            scale = norms[i] + norms[j]
            squared = scale - 2 * products[r, c]
            if squared <= near * scale:
                squared = 0.0
                if kind[i] != kind[j]:
                    for k in range(x.shape[1]):
                        difference = np.float64(x[i, k]) - np.float64(x[j, k])
                        squared += difference * difference
            products[r, c] = np.sqrt(squared)


# The triangle: distances of n points, those above the diagonal only, row after row. (i, j) with i < j lies at
# i·(2n − i − 1)/2 + j − i − 1.


@njit(nogil=True, cache=True)
def into_triangle(
    triangle: Shaped[np.ndarray, " pairs"],
    n: int,
    first: int,
    block: Shaped[np.ndarray, "rows columns"],
    start: int,
    stop: int,
) -> None:
    """Store rows ``start`` up to ``stop`` of ``block``, whose element (0, 0) is the distance of point ``first`` to
    itself and whose columns run to n."""
    for r in range(start, stop):
        i = first + r
        at = i * (2 * n - i - 1) // 2
        for c in range(r + 1, block.shape[1]):
            triangle[at] = block[r, c]
            at += 1


@njit(nogil=True, cache=True)
def triangle_row(triangle: Shaped[np.ndarray, " pairs"], n: int, i: int, out: Shaped[np.ndarray, " n"]) -> None:
    """Write the distances of point ``i`` to all points into ``out``."""
    at = i - 1
    for j in range(i):
        out[j] = triangle[at]
        at += n - j - 2
    out[i] = 0
    at = i * (2 * n - i - 1) // 2
    for j in range(i + 1, n):
        out[j] = triangle[at]
        at += 1


@njit(nogil=True, cache=True)
def triangle_rows(
    triangle: Shaped[np.ndarray, " pairs"], n: int, start: int, stop: int, out: Shaped[np.ndarray, "rows n"]
) -> None:
    """`triangle_row` for the points ``start`` up to ``stop``, which reads what lies left of them in runs."""
    for j in range(start):
        at = j * (2 * n - j - 1) // 2 + start - j - 1
        for r in range(stop - start):
            out[r, j] = triangle[at + r]
    for i in range(start, stop):
        out[i - start, i] = 0
        at = i * (2 * n - i - 1) // 2
        for j in range(i + 1, n):
            out[i - start, j] = triangle[at]
            if j < stop:
                out[j - start, i] = triangle[at]
            at += 1


@njit(nogil=True, cache=True)
def _sift_down(values: Shaped[np.ndarray, " n"], places: Int64[np.ndarray, " n"], value: Any, place: int) -> None:
    """Replace the largest of a heap; what goes with each value (its place, its weight) goes along."""
    at, size = 0, len(values)
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and values[child + 1] > values[child]:
            child += 1
        if values[child] <= value:
            break
        values[at], places[at] = values[child], places[child]
        at = child
    values[at], places[at] = value, place


@njit(nogil=True, cache=True)
def smallest(
    rows: Shaped[np.ndarray, "rows n"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    out: Shaped[np.ndarray, "2 all"],
    first: int,
) -> None:
    """For each row the values that stand at ``rank`` − 1 and at ``rank`` (from 1) when value j is counted
    ``weights[j]`` times: ``out[0]`` and ``out[1]``, row 0 in column ``first``. A heap holds the ``rank`` least values
    met so far."""
    n = rows.shape[1]
    size = min(rank, n)
    values, counts = np.empty(size, rows.dtype), np.empty(size, np.int64)
    for r in range(rows.shape[0]):
        for j in range(size):  # sift up
            at = j
            while at > 0 and values[(at - 1) // 2] < rows[r, j]:
                values[at], counts[at] = values[(at - 1) // 2], counts[(at - 1) // 2]
                at = (at - 1) // 2
            values[at], counts[at] = rows[r, j], weights[j]
        for start in range(size, n, 64):
            stop = min(start + 64, n)
            least = rows[r, start]
            for j in range(start + 1, stop):
                least = min(least, rows[r, j])
            if least >= values[0]:
                continue  # nearly always: the least of many values is found faster than each is looked at
            for j in range(start, stop):
                if rows[r, j] < values[0]:
                    _sift_down(values, counts, rows[r, j], weights[j])
        order = np.argsort(values)
        total, before = 0, False
        for place in order:
            total += counts[place]
            if not before and total >= rank - 1:
                out[0, first + r], before = values[place], True
            if total >= rank:
                out[1, first + r] = values[place]
                break


@njit(nogil=True, cache=True)
def offer(
    row: Shaped[np.ndarray, " n"],
    current: int,
    source: int,
    cores: Shaped[np.ndarray, " n"],
    reach: Shaped[np.ndarray, " n"],
    reached_from: Int64[np.ndarray, " n"],
    waiting: Int64[np.ndarray, " n"],
    done: int,
) -> None:
    """A step of Prim's algorithm over mutual reachability: ``current`` has joined, ``row`` holds its distances.

    Point j, while it waits (``waiting[j] < done``), is now at most max(row[j], cores[j], cores[current]) away.
    """
    own = cores[current]
    for j in range(row.shape[0]):
        length = max(max(row[j], cores[j]), own)
        if length < reach[j] and waiting[j] < done:
            reach[j], reached_from[j] = length, source


@njit(nogil=True, cache=True)
def nearest_waiting(reach: Shaped[np.ndarray, " n"], waiting: Int64[np.ndarray, " n"], done: int) -> int:
    """Of the points of least reach, the one with the lowest number ``waiting``; −1 where none waits.

    Points that don't wait (``waiting[j] == done``) must have the largest reach there is.
    """
    best, lowest, found = reach[0], done, -1
    for start in range(0, reach.shape[0], 64):
        stop = min(start + 64, reach.shape[0])
        least = reach[start]
        for j in range(start + 1, stop):
            least = min(least, reach[j])
        if least > best:
            continue  # nearly always: the least of many is found faster than each is looked at
        if least < best:
            best, lowest = least, done
        for j in range(start, stop):
            if reach[j] == best and waiting[j] < lowest:
                lowest, found = waiting[j], j
    return found


# Activations under the Euclidean distance. What is stored is a lower bound of each (distance · factor)², which is at
# most 4: the upper bits of its float32, of which ``shift`` are left out, counted down from those of 4 in 16 bits. So
# the order is kept. Distances are computed from the coordinates where the bounds leave something open.

_FOUR = 0x40800000  # the bits of 4 in float32
_MOST = 65534  # that a bound is stored as: 65535 exceeds all of them


@intrinsic
def _bits(_: Any, x: Any) -> Any:
    """The bits of a float32 as a whole number."""
    return types.int32(x), lambda _context, builder, _signature, arguments: builder.bitcast(
        arguments[0], ir.IntType(32)
    )


@njit(nogil=True, cache=True)
def _stored(squared: Any, shift: int) -> int:
    above = (_bits(squared) - (_FOUR - (65535 << shift))) >> shift  # type: ignore[call-arg]
    return min(max(above, 0), _MOST)


_SLACK = 1e-6  # relative: more than float32 and the roundings of a distance can hide, less than what a bound loses


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _distance(x: Float[np.ndarray, "n units"], i: int, j: int) -> float:
    """‖x_i − x_j‖ in float64: one formula for every pair, the same for (i, j) and (j, i)."""
    squared = 0.0
    for k in range(x.shape[1]):
        difference = np.float64(x[i, k]) - np.float64(x[j, k])
        squared += difference * difference
    return np.sqrt(squared)


@njit(nogil=True, cache=True)
def _above(distance: float, factor: float, shift: int) -> int:
    """What is stored as this or more excludes every distance, as computed, that is less than ``distance``."""
    scaled = distance * factor
    return _stored(np.float32(min(scaled * scaled * (1 + _SLACK) + 1e-37, 4.0)), shift) + 1


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def squared_norms(
    x: Float[np.ndarray, "n units"],
    centre: Float64[np.ndarray, " units"],
    out: Float64[np.ndarray, " n"],
    start: int,
    stop: int,
) -> None:
    """Write ‖x − centre‖² for the rows ``start`` up to ``stop``; NaN and infinity come through."""
    for i in range(start, stop):
        squared = 0.0
        for k in range(x.shape[1]):
            difference = np.float64(x[i, k]) - centre[k]
            squared += difference * difference
        out[i] = squared


@njit(nogil=True, cache=True)
def centre_and_scale(
    x: Float[np.ndarray, "n units"],
    centre: Float64[np.ndarray, " units"],
    factor: float,
    out: Float32[np.ndarray, "n units"],
    start: int,
    stop: int,
) -> None:
    """Write (x − centre) · factor, computed in float64, for the rows ``start`` up to ``stop``."""
    for i in range(start, stop):
        for k in range(x.shape[1]):
            out[i, k] = np.float32((np.float64(x[i, k]) - centre[k]) * factor)


@njit(nogil=True, cache=True)
def bounds_from_products(
    products: Float[np.ndarray, "rows columns"],
    a: Float[np.ndarray, " rows"],
    b: Float[np.ndarray, " columns"],
    shrink: Any,
    least: Any,
    shift: int,
    out: UInt16[np.ndarray, "rows columns"],
) -> None:
    """Store (a_i + b_j − 2 · products_ij) · shrink − least, computed in the type of all of these."""
    for r in range(products.shape[0]):
        for c in range(products.shape[1]):
            value = ((a[r] + b[c]) - (products[r, c] + products[r, c])) * shrink - least
            out[r, c] = _stored(np.float32(value), shift)


@njit(nogil=True, cache=True)
def _holds(places: Int64[np.ndarray, " n"], place: int) -> bool:
    for each in places:  # noqa: SIM110 - compiled
        if each == place:
            return True
    return False


@njit(nogil=True, cache=True)
def smallest_exact(
    rows: UInt16[np.ndarray, "rows n"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    out: Float64[np.ndarray, "2 all"],
    first: int,
    x: Float[np.ndarray, "n units"],
    factor: float,
    shift: int,
) -> None:
    """`smallest` of distances of which ``rows`` are the bounds: those of the least bounds are computed, then those
    whose bounds are below the largest of them."""
    n = rows.shape[1]
    size = min(rank, n)
    bounds, guessed = np.empty(size, np.uint16), np.empty(size, np.int64)
    values, places = np.empty(size), np.empty(size, np.int64)
    for r in range(rows.shape[0]):
        row, i = rows[r], first + r
        bounds[:], guessed[:] = _MOST + 1, -1
        for start in range(0, n, 64):
            stop = min(start + 64, n)
            below = 0
            for j in range(start, stop):
                below += row[j] < bounds[0]
            if below > 0:  # seldom: many are compared faster than each is looked at
                for j in range(start, stop):
                    if row[j] < bounds[0]:
                        _sift_down(bounds, guessed, row[j], j)
        last = bounds[0]
        values[:], places[:] = np.inf, -1
        for j in guessed:
            _sift_down(values, places, _distance(x, i, j), j)
        limit = _above(values[0], factor, shift)
        for start in range(0, n, 64):
            stop = min(start + 64, n)
            below = 0
            for j in range(start, stop):
                below += row[j] < limit
            if below == 0:
                continue
            for j in range(start, stop):
                if row[j] >= limit or (row[j] <= last and _holds(guessed, j)):
                    continue
                value = _distance(x, i, j)
                if value < values[0]:
                    _sift_down(values, places, value, j)
                    limit = _above(values[0], factor, shift)
        total, before = 0, False
        for place in np.argsort(values):
            total += weights[places[place]]
            if not before and total >= rank - 1:
                out[0, i], before = values[place], True
            if total >= rank:
                out[1, i] = values[place]
                break


@njit(nogil=True, cache=True)
def offer_exact(
    row: UInt16[np.ndarray, " n"],
    current: int,
    source: int,
    cores: Float64[np.ndarray, " n"],
    reach: Float64[np.ndarray, " n"],
    reached_from: Int64[np.ndarray, " n"],
    wanted: UInt16[np.ndarray, " n"],
    x: Float[np.ndarray, "n units"],
    factor: float,
    shift: int,
) -> None:
    """`offer` where ``row`` holds bounds. ``wanted``: bounds from here on tell nothing new about a point's reach; 0
    where nothing can: for points that don't wait, and those whose reach is their core distance."""
    own = cores[current]
    for start in range(0, row.shape[0], 64):
        stop = min(start + 64, row.shape[0])
        below = 0
        for j in range(start, stop):
            below += row[j] < wanted[j]
        if below == 0:
            continue
        for j in range(start, stop):
            if row[j] >= wanted[j] or own >= reach[j]:
                continue
            length = max(max(_distance(x, current, j), cores[j]), own)
            if length < reach[j]:
                reach[j], reached_from[j] = length, source
                wanted[j] = _above(length, factor, shift) if length > cores[j] else 0


@njit(nogil=True, cache=True)
def keep_nearest(
    block: Shaped[np.ndarray, "rows columns"],
    rows: Int64[np.ndarray, " rows"],
    columns: Int64[np.ndarray, " columns"],
    distances: Float64[np.ndarray, "rows k"],
    neighbors: Int64[np.ndarray, "rows k"],
) -> None:
    """Merge a block of distances into each row's k nearest so far, which stand in ascending order; a point is not its
    own neighbour. ``rows`` and ``columns`` name the points of the block."""
    k = distances.shape[1]
    for r in range(block.shape[0]):
        for c in range(block.shape[1]):
            if block[r, c] >= distances[r, k - 1] or columns[c] == rows[r]:
                continue
            at = k - 1
            while at > 0 and distances[r, at - 1] > block[r, c]:
                distances[r, at], neighbors[r, at] = distances[r, at - 1], neighbors[r, at - 1]
                at -= 1
            distances[r, at], neighbors[r, at] = block[r, c], columns[c]


@njit(nogil=True, cache=True)
def spanning_forest(
    order: Int64[np.ndarray, " edges"],
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
    sure: Shaped[np.ndarray, " edges"],
    bound: Float64[np.ndarray, " n"],
    kept: Shaped[np.ndarray, " edges"],
    proven: Shaped[np.ndarray, " edges"],
    root: Int64[np.ndarray, " n"],
) -> None:
    """Kruskal's algorithm. No edge that is missing at point p is shorter than ``bound[p]``; ``bound`` is overwritten.

    An edge that joins two trees is proven where its length is ``sure`` and one of the trees can be left by no shorter
    edge, known or missing: then it is a shortest edge across a cut. ``root``: the tree of each point.
    """
    for p in range(len(bound)):
        root[p] = p
    for edge in order:
        a, b = source[edge], target[edge]
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        while root[b] != b:
            root[b] = root[root[b]]
            b = root[b]
        kept[edge] = a != b
        if a == b:
            continue
        proven[edge] = sure[edge] and max(bound[a], bound[b]) >= length[edge]
        root[b] = a
        bound[a] = min(bound[a], bound[b])
    for p in range(len(bound)):
        top = p
        while root[top] != top:
            top = root[top]
        root[p] = top


@njit(nogil=True, cache=True)
def merge_edges(
    order: Int64[np.ndarray, " edges"],
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
    merges: Float64[np.ndarray, "edges 4"],
) -> None:
    """The single-linkage tree in SciPy's form: a row (left, right, distance, size) for each edge, in ``order``."""
    n = len(order) + 1
    above, size = np.arange(2 * n - 1), np.ones(2 * n - 1, np.int64)
    for row in range(len(order)):
        edge, merged = order[row], n + row
        ends = (source[edge], target[edge])
        total = 0
        for side in range(2):
            node = ends[side]
            while above[node] != node:
                above[node] = above[above[node]]
                node = above[node]
            merges[row, side] = node
            total += size[node]
            above[node] = merged
        size[merged] = total
        merges[row, 2], merges[row, 3] = length[edge], total


# Search over packed bytes that lie end to end, wherever they begin: an index file is mapped as it stands on disk,
# where neither codes nor words are aligned.

PLACE_BITS = 36
"""A candidate is one number: gates that differ above, its place among the codes in the lower 36 bits. So the order of
numbers is the order of (distance, place). 68 billion places, 268 million gates."""


@intrinsic
def _word(_: Any, packed: Any, _at: Any) -> Any:
    """Eight bytes of a flat array from byte ``at`` on, as one word."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(packed, types.int64), load


@njit(nogil=True, cache=True, inline="always")
def _differing(a: UInt8[np.ndarray, " a"], i: int, b: UInt8[np.ndarray, " b"], j: int, n_bytes: int) -> Any:
    """Gates in which the code at byte ``i`` of ``a`` differs from that at byte ``j`` of ``b``."""
    count = np.uint64(0)
    whole = n_bytes // 8 * 8
    for at in range(0, whole, 8):
        count += _popcount(_word(a, i + at) ^ _word(b, j + at))  # type: ignore[call-arg]
    for at in range(whole, n_bytes):
        count += _popcount(np.uint64(a[i + at] ^ b[j + at]))  # type: ignore[call-arg]
    return count


@njit(nogil=True, cache=True)
def nearest_codes(
    queries: UInt8[np.ndarray, " queries_bytes"],
    codes: UInt8[np.ndarray, " codes_bytes"],
    n_bytes: int,
    places: Int64[np.ndarray, " allowed"],
    start: int,
    stop: int,
    block: int,
    heaps: UInt64[np.ndarray, "queries k"],
) -> None:
    """Put the least candidates (see `PLACE_BITS`) of each query into its heap, whose root is the largest of them.

    Candidates are the codes at ``places[start:stop]``, or, if ``places`` is empty, at places ``start`` to ``stop``.
    ``block`` of them are compared with all queries before the next: few enough to stay in the cache.
    """
    k = heaps.shape[1]
    for low in range(start, stop, block):
        for query in range(heaps.shape[0]):
            heap = heaps[query]
            for at in range(low, min(low + block, stop)):
                place = places[at] if len(places) else at
                count = _differing(queries, query * n_bytes, codes, place * n_bytes, n_bytes)
                candidate = (np.uint64(count) << np.uint64(PLACE_BITS)) | np.uint64(place)
                if candidate < heap[0]:
                    hole = 0
                    while True:  # sift down
                        child = 2 * hole + 1
                        if child + 1 < k and heap[child + 1] > heap[child]:
                            child += 1
                        if child >= k or heap[child] <= candidate:
                            break
                        heap[hole] = heap[child]
                        hole = child
                    heap[hole] = candidate


@njit(nogil=True, cache=True)
def hamming_bytes(
    queries: UInt8[np.ndarray, " queries_bytes"],
    codes: UInt8[np.ndarray, " codes_bytes"],
    n_bytes: int,
    places: Int64[np.ndarray, " allowed"],
    start: int,
    stop: int,
    out: Shaped[np.ndarray, "queries codes"],
) -> None:
    """Write the distance of every query to the candidates ``start`` up to ``stop`` (as in `nearest_codes`) into
    ``out``, whose column 0 is candidate ``start``."""
    for at in range(start, stop):
        place = places[at] if len(places) else at
        for query in range(out.shape[0]):
            out[query, at - start] = _differing(queries, query * n_bytes, codes, place * n_bytes, n_bytes)


@njit(nogil=True, cache=True)
def _count_bits(rows: UInt64[np.ndarray, "codes words"], out: UInt32[np.ndarray, " codes"]) -> None:
    for i in range(rows.shape[0]):
        count = np.uint64(0)
        for k in range(rows.shape[1]):
            count += _popcount(rows[i, k])  # type: ignore[call-arg]  # Numba supplies the first
        out[i] = count


def count_bits(rows: UInt64[np.ndarray, "codes words"]) -> UInt32[np.ndarray, " codes"]:
    """Bits that are set in each row: the gates that are on."""
    out = np.empty(len(rows), dtype=np.uint32)
    _count_bits(rows, out)
    return out


def share(work: Callable[[int], Any], pieces: int) -> None:
    """Call ``work`` on 0 … ``pieces`` − 1, on all cores, this thread's own among them.

    For what is over in a millisecond: where the other cores are busy, nothing waits for them, unlike in `in_threads`.
    Pieces that have begun are finished when one fails or Ctrl-C comes.
    """
    left = deque(range(pieces))

    def take() -> None:
        try:
            while left:
                try:
                    piece = left.popleft()
                except IndexError:  # another thread took the last
                    return
                work(piece)
        except BaseException:
            left.clear()
            raise

    helpers = [_pool().submit(take) for _ in range(min(n_threads(), pieces) - 1)]
    try:
        take()
    finally:
        for helper in helpers:
            if not helper.cancel():
                helper.result()


@njit(nogil=True, cache=True)
def _pack_positive(values: Float32[np.ndarray, "codes gates"], out: UInt8[np.ndarray, "codes bytes"]) -> None:
    whole = values.shape[1] // 8
    for i in range(values.shape[0]):
        for b in range(whole):
            byte = np.uint8(0)
            for k in range(8):
                byte |= np.uint8(np.uint8(values[i, 8 * b + k] > 0) << (7 - k))
            out[i, b] = byte
        if whole < out.shape[1]:
            byte = np.uint8(0)
            for k in range(values.shape[1] - 8 * whole):
                byte |= np.uint8(np.uint8(values[i, 8 * whole + k] > 0) << (7 - k))
            out[i, whole] = byte


PACKED_AT_ONCE = 1 << 20  # values that one thread packs in 0.2 ms; starting another for fewer gains nothing


def pack_positive(values: Float32[np.ndarray, "codes gates"]) -> UInt8[np.ndarray, "codes bytes"]:
    """``numpy.packbits(values > 0, axis=1)`` in one pass, four times as fast."""
    values = np.ascontiguousarray(values)
    out = np.empty((len(values), -(-values.shape[1] // 8)), dtype=np.uint8)
    if values.size <= PACKED_AT_ONCE:
        _pack_positive(values, out)
    else:
        in_threads(lambda rows: _pack_positive(values[rows], out[rows]), slices(len(values), len(values)))
    return out
