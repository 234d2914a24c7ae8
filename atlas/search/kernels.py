"""Compiled loops over packed codes: packing gates, counting those that differ, keeping the nearest.

Each runs on one thread and without Python's lock; `threads.in_threads` puts them on all cores. Codes are bytes that
lie end to end, wherever they begin: an index file is mapped as it stands on disk, where neither codes nor words are
aligned. Compiled functions are `no_type_check`: a type checker would wrap what Numba is to compile.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float32, Int64, Integer, UInt8, UInt64
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.lib.stride_tricks import as_strided

from ..threads import in_threads, slices
from .candidates import PLACE_BITS

# Numba reads its globals as constants, of the type that they have here.
_PLACE_BITS = np.uint64(PLACE_BITS)


@no_type_check
@intrinsic
def _popcount(_: Any, x: Any) -> Any:
    """Bits set in ``x``: LLVM's ``ctpop``, which becomes one vector instruction where the processor has it."""
    return x(x), lambda _context, builder, _signature, arguments: builder.ctpop(arguments[0])


@no_type_check
@intrinsic
def _word(_: Any, packed: Any, _at: Any) -> Any:
    """Eight bytes of a flat array from byte ``at`` on, as one word."""

    def load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.bitcast(builder.gep(array.data, [arguments[1]]), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)  # without this LLVM may assume that words are aligned

    return types.uint64(packed, types.int64), load


_LANES = 32
"""Numbers of 16 bits in a vector: what AVX-512 holds. LLVM cuts it into pieces where the processor has less."""

_VECTORS = 8
_TILE = _LANES * _VECTORS
"""Codes that a query is compared with at once: their counts stay in registers, their words, of up to some thousand
gates, in the L1 cache."""


@no_type_check
@intrinsic
def _count_tile(_: Any, queries: Any, _at: Any, turned: Any, _n: Any, counts: Any) -> Any:
    """Write into ``counts`` in how many gates the query of ``n`` half-words from byte ``at`` on differs from each of
    `_TILE` codes, whose half-words are the columns of ``turned``.

    A lane is a code, so nothing is added up across a vector, as it would be were a lane a piece of one code.
    """

    def count(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        half, vector = ir.IntType(16), ir.VectorType(ir.IntType(16), _LANES)
        query, tile, out = (
            context.make_array(signature.args[place])(context, builder, arguments[place]).data for place in (0, 2, 4)
        )
        popcount = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{_LANES}i16"
        )
        sums = [cgutils.alloca_once_value(builder, ir.Constant(vector, [0] * _LANES)) for _ in range(_VECTORS)]
        query = builder.bitcast(builder.gep(query, [arguments[1]]), half.as_pointer())
        tile, out = (builder.bitcast(place, vector.as_pointer()) for place in (tile, out))
        undefined, first = ir.Constant(vector, ir.Undefined), ir.Constant(ir.IntType(32), 0)
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES)
        with cgutils.for_range(builder, arguments[3]) as loop:
            word = builder.load(builder.gep(query, [loop.index]), align=1)
            word = builder.shuffle_vector(builder.insert_element(undefined, word, first), undefined, everywhere)
            row = builder.mul(loop.index, ir.Constant(loop.index.type, _VECTORS))
            for number, total in enumerate(sums):
                place = builder.gep(tile, [builder.add(row, ir.Constant(row.type, number))])
                differing = builder.call(popcount, [builder.xor(builder.load(place, align=2), word)])
                builder.store(builder.add(builder.load(total), differing), total)
        for number, total in enumerate(sums):
            builder.store(builder.load(total), builder.gep(out, [ir.Constant(ir.IntType(64), number)]), align=2)
        return context.get_dummy_value()

    return types.void(queries, types.int64, turned, types.int64, counts), count


def flat(packed: UInt8[np.ndarray, "codes bytes"]) -> UInt8[np.ndarray, " all_bytes"]:
    """The codes end to end, a copy only where they don't lie so already.

    Read-only, so that Numba compiles each kernel for one type of array: a mapped file can be nothing else.
    """
    view = np.ascontiguousarray(packed).reshape(-1).view()
    view.flags.writeable = False
    return view


@no_type_check
@njit(nogil=True, cache=True, inline="always")
def _differing(
    a: UInt8[np.ndarray, " a_bytes"], i: int, b: UInt8[np.ndarray, " b_bytes"], j: int, n_bytes: int
) -> Any:
    """Gates in which the code at byte ``i`` of ``a`` differs from that at byte ``j`` of ``b``.

    Padding is zero on both sides, so it never counts.
    """
    count = np.uint64(0)
    whole = n_bytes // 8 * 8
    for at in range(0, whole, 8):
        count += _popcount(_word(a, i + at) ^ _word(b, j + at))
    # Never eight bytes at once here: the last word of a mapped file would reach beyond its end.
    for at in range(whole, n_bytes):
        count += _popcount(np.uint64(a[i + at] ^ b[j + at]))
    return count


@no_type_check
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
    """Put the least candidates (see `candidates`) of each query into its heap, whose root is the largest of them.

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
                candidate = (np.uint64(count) << _PLACE_BITS) | np.uint64(place)
                # No two candidates of a query are equal, so the k that stay don't depend on the order of offers,
                # and threads may take pieces as they come.
                if candidate < heap[0]:
                    hole = 0
                    while True:  # sift down: the larger child moves up until the new one fits into the hole
                        child = 2 * hole + 1
                        if child + 1 < k and heap[child + 1] > heap[child]:
                            child += 1
                        if child >= k or heap[child] <= candidate:
                            break
                        heap[hole] = heap[child]
                        hole = child
                    heap[hole] = candidate


@no_type_check
@njit(nogil=True, cache=True)
def hamming_block(
    queries: UInt8[np.ndarray, " queries_bytes"],
    codes: UInt8[np.ndarray, " codes_bytes"],
    n_bytes: int,
    places: Int64[np.ndarray, " allowed"],
    start: int,
    stop: int,
    out: Integer[np.ndarray, "queries candidates"],
) -> None:
    """Write the distance, in gates, of every query to the candidates ``start`` up to ``stop`` (as in `nearest_codes`)
    into ``out``, whose column 0 is candidate ``start`` and whose type holds them.

    Each code is fetched once for all queries, which should be few enough to stay in the cache.
    """
    for at in range(start, stop):
        place = places[at] if len(places) else at
        for query in range(out.shape[0]):
            out[query, at - start] = _differing(queries, query * n_bytes, codes, place * n_bytes, n_bytes)


@no_type_check
@njit(nogil=True, cache=True)
def _compare_all(
    a: UInt8[np.ndarray, " a_bytes"],
    b: UInt8[np.ndarray, " b_bytes"],
    n_bytes: int,
    start: int,
    stop: int,
    out: Integer[np.ndarray, " a_times_spread"],
    spread: int,
) -> None:
    """Write the distance, in gates, of every code of ``a`` to the codes ``start`` up to ``stop`` of ``b``, where
    those of the next code of ``a`` stand ``spread`` numbers further.

    Codes have an even number of bytes, and fewer gates than 16 bits count.
    """
    halves = n_bytes // 2
    turned, counts = np.zeros((halves, _TILE), np.uint16), np.empty(_TILE, np.uint16)
    for low in range(start, stop, _TILE):
        width = min(_TILE, stop - low)
        for lane in range(width):
            code = (low + lane) * n_bytes
            for half in range(halves):
                at = code + 2 * half
                turned[half, lane] = np.uint16(b[at]) | (np.uint16(b[at + 1]) << np.uint16(8))
        for query in range(len(a) // n_bytes):
            _count_tile(a, query * n_bytes, turned, halves, counts)
            row = out[query * spread + low : query * spread + low + width]
            for lane in range(width):
                row[lane] = counts[lane]


QUERIES_AT_ONCE = 64
"""Queries of one thread: their codes of 3,072 gates take 24 kB, which the L1 cache holds."""

_CODES_AT_ONCE = 1 << 14  # codes that one thread takes at a time where few are compared with many
_FEW = 256  # codes, for which to turn those that they are compared with would cost more than it spares
_COUNTED_IN_16_BITS = 1 << 13  # bytes of a code, less than


def all_distances(
    a: UInt8[np.ndarray, "a bytes"], b: UInt8[np.ndarray, "b bytes"], out: Integer[np.ndarray, "a b"]
) -> None:
    """Write the distance, in gates, of every code of ``a`` to every code of ``b`` into ``out``, on all cores."""
    n_bytes = a.shape[1]
    if len(a) < _FEW or n_bytes >= _COUNTED_IN_16_BITS or out.strides[1] != out.itemsize:
        _few_distances(a, b, out)
        return
    if n_bytes % 2:
        a, b = (np.pad(codes, ((0, 0), (0, 1))) for codes in (a, b))
        n_bytes += 1
    left, right, spread = flat(a), flat(b), out.strides[0] // out.itemsize
    rows = as_strided(
        out, ((len(out) - 1) * spread + out.shape[1],), (out.itemsize,)
    )  # end to end, and what is between
    in_threads(
        lambda columns: _compare_all(left, right, n_bytes, columns.start, columns.stop, rows, spread),
        slices(len(b), _TILE),
    )


def _few_distances(
    a: UInt8[np.ndarray, "a bytes"], b: UInt8[np.ndarray, "b bytes"], out: Integer[np.ndarray, "a b"]
) -> None:
    """`all_distances` of a few codes, or of very wide ones."""
    n_bytes, every = a.shape[1], np.empty(0, np.int64)
    every.flags.writeable = False
    left, right = flat(a), flat(b)

    def work(piece: tuple[slice, slice]) -> None:
        rows, columns = piece
        some = left[rows.start * n_bytes : rows.stop * n_bytes]
        hamming_block(some, right, n_bytes, every, columns.start, columns.stop, out[rows, columns])

    stripes = [slice(start, min(start + QUERIES_AT_ONCE, len(a))) for start in range(0, len(a), QUERIES_AT_ONCE)]
    in_threads(work, [(stripe, piece) for stripe in stripes for piece in slices(len(b), _CODES_AT_ONCE)])


@no_type_check
@njit(nogil=True, cache=True)
def _pack_positive(values: Float32[np.ndarray, "codes gates"], out: UInt8[np.ndarray, "codes bytes"]) -> None:
    whole = values.shape[1] // 8
    for i in range(values.shape[0]):
        for b in range(whole):
            byte = np.uint8(0)
            for k in range(8):  # gate 8b is the most significant bit, as `codes` has it
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
