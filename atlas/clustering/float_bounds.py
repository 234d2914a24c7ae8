"""Lower bounds of Euclidean distances in 16 bits, and why no bound exceeds its distance.

Where only a few distances matter, as in a spanning tree, matrix products bound all of them, and the few are computed
from a − b by one formula, `_distance`. A bound that is too long would leave out an edge in silence, so each step is
rounded down:

1. *The product.* Let a, b be the points, moved by a common centre and multiplied by a common ``factor``, a power of
   two, so that the longest has a length of about 1. Of ‖a − b‖² = ‖a‖² + ‖b‖² − 2a·b, computed in numbers of unit
   roundoff u, the error is at most γ · (‖a‖² + ‖b‖²) with γ = m·u/(1 − m·u) and m = units + 24, in whatever order the
   product is summed (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1): ``units`` for the
   product, 24 for rounding the vectors, the norms and the sums. So from norms that are shortened by 1 − γ, and
   rounded towards 0, comes no more than ‖a − b‖² (`shortened_norms`).
2. *The last operations*, two sums and a product, each round by u at most: the factor 1 − 2⁻²² (float32) takes more
   than that off. What underflows on the way is less than 2⁻¹⁰⁰, which is subtracted (`bounds_from_products`).
3. *Storing.* The bits of positive floats are ordered as the floats are. Leaving out the lower ``shift`` bits rounds
   down; negative numbers become 0, which excludes nothing (`_stored`).
4. *Comparing.* Take ``distance`` · factor squared, a millionth longer, rounded to float32 and stored, and one more:
   what is stored as that or more bounds a distance that is longer than ``distance`` by more than the roundings of
   `_distance` and of float32 (`excluding`).

So which distances are computed depends on the bounds, and the result does not.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped, UInt16
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from ..errors import NonFinite
from .rows import not_finite

NARROW_SHIFT, WIDE_SHIFT = 12, 14
"""Bits left out of bounds from float32, which keep 11 after the point and a range of 2³², and of those from float64,
which keep 9 and 2¹²⁸, for the sake of points that lie very near to each other."""

_SCANNED = 64  # bounds that are looked at together before each is: nearly always none of them matters
_ROUNDINGS = 24  # beside one for each unit, see step 1
_ROUND_DOWN = 1 - 2.0**-22  # step 2
_LEAST = 2.0**-100  # of a squared distance whose scale is about 1: more than what underflows on the way
_SLACK = 1e-6  # relative: more than float32 and the roundings of a distance can hide, less than what a bound loses
_TINY = 1e-37  # float32 has no normal numbers below: what is smaller might be rounded by more than the slack

# Squared distances are at most 4, as ‖a‖ and ‖b‖ are at most 1, so bits are counted down from those of 4 in 16 bits.
_FOUR = 0x40800000  # the bits of 4 in float32
_MOST = 65534  # that a bound is stored as: 65535 exceeds all of them

# Where more pairs of a sample than this are too near for float32 to tell them from equal points, products are taken
# in float64: a distance from a − b costs twenty times a product in float32, which costs half of one in float64.
_TOO_NEAR = 0.05


# --- from points to bounds -----------------------------------------------------------------------------------------


def relative_error(units: int, kind: type[np.floating[Any]]) -> float:
    """γ of step 1; at most 1, where the bounds say nothing."""
    roundings = (units + _ROUNDINGS) * float(np.finfo(kind).eps) / 2
    return min(1.0, roundings / (1 - roundings)) if roundings < 1 else 1.0


def scaling_factor(
    x: Float[np.ndarray, "n units"], norms: Float64[np.ndarray, " n"], names: Int64[np.ndarray, " n"] | None
) -> float:
    """The power of two that brings the longest of the moved points to a length of 1/2 to 1.

    Points that are all nearly equal (10⁻¹⁰⁰) are not brought so far: their distances underflow anyway. ``norms``:
    squared; ``names``: how an error names the rows, if not from 0. Raises `NonFinite` for NaN, infinity, overflow.
    """
    longest = float(norms.max())
    if not longest < np.finfo(np.float64).max / 4:  # ‖a − b‖² <= 2(‖a‖² + ‖b‖²)
        row = not_finite(x)
        if row is not None:
            named = row if names is None else int(names[row])
            raise NonFinite(f"the activation in row {named} holds NaN or infinity; leave that example out")
        raise NonFinite("squared distances between the activations overflow float64; scale them down")
    return float(2.0 ** min(332, -int(np.frexp(np.sqrt(longest))[1])))


def needs_float64(sample: Float64[np.ndarray, "sample units"]) -> bool:
    """Whether float32 says nothing, or as good as nothing, about the distances of many of these (moved) points."""
    squares = np.einsum("ij,ij->i", sample, sample)
    both = squares[:, None] + squares
    near = both - 2 * sample @ sample.T < 4 * relative_error(sample.shape[1], np.float32) * both
    return bool(near.sum() - near.trace() > _TOO_NEAR * near.size)


def shortened_norms(
    norms: Float64[np.ndarray, " n"], units: int, factor: float, is_narrow: bool
) -> tuple[Float[np.ndarray, " n"], Any]:
    """What `bounds_from_products` adds up, in the type of the products, and what it multiplies the sum by.

    ``norms``: squared, before the points were multiplied by ``factor``. Products in float32 are of points that were,
    those in float64 of points that were not, so these are scaled afterwards.
    """
    kind: Any = np.float32 if is_narrow else np.float64
    low, scale = 1 - relative_error(units, kind), factor**2
    shortened = np.nextafter((norms * (low * scale if is_narrow else low)).astype(kind), kind(-1))
    return shortened, kind(_ROUND_DOWN if is_narrow else _ROUND_DOWN * scale)


@no_type_check
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


@no_type_check
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


@no_type_check
@intrinsic
def _bits(_: Any, x: Any) -> Any:
    """The bits of a float32 as a whole number."""
    return types.int32(x), lambda _context, builder, _signature, arguments: builder.bitcast(
        arguments[0], ir.IntType(32)
    )


@no_type_check
@njit(nogil=True, cache=True)
def _stored(squared: Any, shift: int) -> int:
    """A float32 of at most 4 in 16 bits, rounded down (step 3)."""
    above = (_bits(squared) - (_FOUR - (65535 << shift))) >> shift
    return min(max(above, 0), _MOST)


def lower_bounds(
    products: Float[np.ndarray, "rows columns"],
    a: Float[np.ndarray, " rows"],
    b: Float[np.ndarray, " columns"],
    shrink: Any,
    shift: int,
    out: UInt16[np.ndarray, "rows columns"],
) -> None:
    """Write the bounds that come of inner products and the norms that `shortened_norms` made of the points'."""
    _lower_bounds(products, a, b, shrink, a.dtype.type(_LEAST), shift, out)


@no_type_check
@njit(nogil=True, cache=True)
def _lower_bounds(
    products: Float[np.ndarray, "rows columns"],
    a: Float[np.ndarray, " rows"],
    b: Float[np.ndarray, " columns"],
    shrink: Any,
    least: Any,
    shift: int,
    out: UInt16[np.ndarray, "rows columns"],
) -> None:
    """Store (a_i + b_j − 2 · products_ij) · shrink − least, computed in the type of all of these (steps 1 to 3)."""
    for r in range(products.shape[0]):
        for c in range(products.shape[1]):
            # Doubling is exact; so two sums and a product are rounded.
            value = ((a[r] + b[c]) - (products[r, c] + products[r, c])) * shrink - least
            out[r, c] = _stored(np.float32(value), shift)


# --- core distances, from distances or from bounds -----------------------------------------------------------------


@no_type_check
@njit(nogil=True, cache=True)
def sift_down(values: Shaped[np.ndarray, " n"], places: Int64[np.ndarray, " n"], value: Any, place: int) -> None:
    """Replace the largest of a heap, which is at its root; the place of each value goes along with it."""
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


@no_type_check
@njit(nogil=True, cache=True)
def write_ranked(
    values: Shaped[np.ndarray, " heap"],
    places: Int64[np.ndarray, " heap"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    out: Shaped[np.ndarray, "2 all"],
    column: int,
) -> None:
    """Write into ``out[0]`` and ``out[1]`` the values that stand at ``rank`` − 1 and at ``rank`` (from 1) when the
    value of place j is counted ``weights[j]`` times.

    ``rank`` values suffice, whatever the weights, for each counts once at least. With rank = ``samples`` + 1, and the
    point itself the first, the second is its core distance, and the first that with the point counted.
    """
    total, before = 0, False
    for at in np.argsort(values):
        total += weights[places[at]]
        if not before and total >= rank - 1:
            out[0, column], before = values[at], True
        if total >= rank:
            out[1, column] = values[at]
            break


@no_type_check
@njit(nogil=True, cache=True)
def smallest(
    rows: Shaped[np.ndarray, "rows n"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    out: Shaped[np.ndarray, "2 all"],
    first: int,
) -> None:
    """`write_ranked` of each row of distances, row 0 in column ``first``. A heap holds the ``rank`` least values met
    so far."""
    n = rows.shape[1]
    size = min(rank, n)
    values, places = np.empty(size, rows.dtype), np.empty(size, np.int64)
    for r in range(rows.shape[0]):
        for j in range(size):  # sift up: the heap grows by one
            at = j
            while at > 0 and values[(at - 1) // 2] < rows[r, j]:
                values[at], places[at] = values[(at - 1) // 2], places[(at - 1) // 2]
                at = (at - 1) // 2
            values[at], places[at] = rows[r, j], j
        for start in range(size, n, _SCANNED):
            stop = min(start + _SCANNED, n)
            least = rows[r, start]
            for j in range(start + 1, stop):
                least = min(least, rows[r, j])
            if least >= values[0]:
                continue
            for j in range(start, stop):
                if rows[r, j] < values[0]:
                    sift_down(values, places, rows[r, j], j)
        write_ranked(values, places, weights, rank, out, first + r)


# --- from bounds to the distances that matter ----------------------------------------------------------------------


@no_type_check
@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _distance(x: Float[np.ndarray, "n units"], i: int, j: int) -> float:
    """‖x_i − x_j‖ in float64: one formula for every pair, the same for (i, j) and (j, i)."""
    squared = 0.0
    for k in range(x.shape[1]):
        difference = np.float64(x[i, k]) - np.float64(x[j, k])
        squared += difference * difference
    return np.sqrt(squared)


@no_type_check
@njit(nogil=True, cache=True)
def excluding(distance: float, factor: float, shift: int) -> int:
    """Nothing that is stored as this or more is, as computed, less than ``distance`` (step 4)."""
    scaled = distance * factor
    return _stored(np.float32(min(scaled * scaled * (1 + _SLACK) + _TINY, 4.0)), shift) + 1


@no_type_check
@njit(nogil=True, cache=True)
def _holds(places: Int64[np.ndarray, " n"], place: int) -> bool:
    for each in places:  # noqa: SIM110 - compiled
        if each == place:
            return True
    return False


@no_type_check
@njit(nogil=True, cache=True)
def smallest_exact(
    rows: UInt16[np.ndarray, "rows n"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    out: Float64[np.ndarray, "2 all"],
    first: int,
    x: Float[np.ndarray, "all units"],
    factor: float,
    shift: int,
) -> None:
    """`smallest` of distances of which ``rows`` are the bounds: those of the least bounds are computed, then
    those whose bounds are below the largest of them."""
    n = rows.shape[1]
    size = min(rank, n)
    bounds, guessed = np.empty(size, np.uint16), np.empty(size, np.int64)
    values, places = np.empty(size), np.empty(size, np.int64)
    for r in range(rows.shape[0]):
        row, i = rows[r], first + r
        bounds[:], guessed[:] = _MOST + 1, -1
        for start in range(0, n, _SCANNED):
            stop = min(start + _SCANNED, n)
            below = 0
            for j in range(start, stop):
                below += row[j] < bounds[0]
            if below > 0:
                for j in range(start, stop):
                    if row[j] < bounds[0]:
                        sift_down(bounds, guessed, row[j], j)
        last = bounds[0]
        # The distances of the guessed are upper bounds of the least ones: nothing beyond their largest can matter,
        # and that falls as nearer points are met.
        values[:], places[:] = np.inf, -1
        for j in guessed:
            sift_down(values, places, _distance(x, i, j), j)
        limit = excluding(values[0], factor, shift)
        for start in range(0, n, _SCANNED):
            stop = min(start + _SCANNED, n)
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
                    sift_down(values, places, value, j)
                    limit = excluding(values[0], factor, shift)
        write_ranked(values, places, weights, rank, out, i)


@no_type_check
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
    """`kernels.offer` where ``row`` holds bounds. ``wanted``: bounds from here on tell nothing new about a point's
    reach; 0 where nothing can: for points that don't wait, and those whose reach is their core distance."""
    own = cores[current]
    for start in range(0, row.shape[0], _SCANNED):
        stop = min(start + _SCANNED, row.shape[0])
        below = 0
        for j in range(start, stop):
            below += row[j] < wanted[j]
        if below == 0:
            continue
        for j in range(start, stop):
            # No edge from ``current`` is shorter than its own core distance.
            if row[j] >= wanted[j] or own >= reach[j]:
                continue
            length = max(max(_distance(x, current, j), cores[j]), own)
            if length < reach[j]:
                reach[j], reached_from[j] = length, source
                # A reach that is the point's core distance is the least that there can be.
                wanted[j] = excluding(length, factor, shift) if length > cores[j] else 0
