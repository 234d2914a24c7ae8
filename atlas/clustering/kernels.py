"""Compiled loops over blocks of distances: nearest neighbours, and the steps of Prim's and Kruskal's algorithms.

Each runs on one thread and without Python's lock; `threads.in_threads` puts them on all cores. What may read lower
bounds in place of distances stands in `float_bounds`: compiled functions that call each other share a file, because
Numba's cache on disk is only as new as the file of the caller. They are `no_type_check`: a type checker would wrap
what Numba is to compile.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped, UInt16
from numba import njit

SCANNED = 64
"""Numbers that are looked at together before each is: their least is found by a few vector instructions, and nearly
always says that none of them matters."""

GROUP = 256
"""Points of which Prim's algorithm remembers the best."""


# --- neighbours ----------------------------------------------------------------------------------------------------


@no_type_check
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
            # The error of ‖a‖² + ‖b‖² − 2a·b grows with the norms, not with the distance: where little is left of
            # them, most of that is error.
            if squared <= near * scale:
                squared = 0.0
                if kind[i] != kind[j]:
                    for k in range(x.shape[1]):
                        difference = np.float64(x[i, k]) - np.float64(x[j, k])
                        squared += difference * difference
            products[r, c] = np.sqrt(squared)


@no_type_check
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
        for start in range(0, block.shape[1], SCANNED):
            row = block[r, start : start + SCANNED]  # of which Numba knows that no place is below 0
            least = row[0]
            for c in range(row.shape[0]):
                least = min(least, row[c])
            if least >= distances[r, k - 1]:
                continue
            for c in range(row.shape[0]):
                # Only what is strictly nearer goes before another: of equally near points the first offered stays.
                if row[c] >= distances[r, k - 1] or columns[start + c] == rows[r]:
                    continue
                at = k - 1
                while at > 0 and distances[r, at - 1] > row[c]:
                    distances[r, at], neighbors[r, at] = distances[r, at - 1], neighbors[r, at - 1]
                    at -= 1
                distances[r, at], neighbors[r, at] = row[c], columns[start + c]


# --- Prim's algorithm ----------------------------------------------------------------------------------------------


@no_type_check
@njit(nogil=True, cache=True)
def mirror(matrix: Shaped[np.ndarray, "n n"], start: int, stop: int) -> None:
    """Copy what lies right of the diagonal in the rows ``start`` up to ``stop`` to the columns below it."""
    for j in range(start, matrix.shape[0]):
        for i in range(start, min(stop, j)):
            matrix[j, i] = matrix[i, j]


@no_type_check
@njit(nogil=True, cache=True)
def turn(matrix: Shaped[np.ndarray, "a b"], turned: Shaped[np.ndarray, "b a"]) -> None:
    """Write the columns as rows of ``turned``, a few rows at a time."""
    for low in range(0, matrix.shape[0], SCANNED):
        some = matrix[low : low + SCANNED]
        for j in range(some.shape[1]):
            row = turned[j, low : low + SCANNED]
            for i in range(some.shape[0]):
                row[i] = some[i, j]


@no_type_check
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
        if length < reach[j] and waiting[j] < done:  # of equal edges the one that came first stays, as in hdbscan
            reach[j], reached_from[j] = length, source


@no_type_check
@njit(nogil=True, cache=True)
def nearest_waiting(reach: Shaped[np.ndarray, " n"], waiting: Int64[np.ndarray, " n"], done: int) -> int:
    """Of the points of least reach, the one with the lowest number ``waiting``; −1 where none waits.

    Points that don't wait (``waiting[j] == done``) must have the largest reach there is.
    """
    best, lowest, nearest = reach[0], done, -1
    for start in range(0, reach.shape[0], SCANNED):
        group = reach[start : start + SCANNED]  # of which Numba knows that no place is below 0
        least = group[0]
        for at in range(group.shape[0]):
            least = min(least, group[at])
        if least > best:
            continue
        if least < best:
            best, lowest = least, done
        for at in range(group.shape[0]):
            if group[at] == best and waiting[start + at] < lowest:
                lowest, nearest = waiting[start + at], start + at
    return nearest


@no_type_check
@njit(nogil=True, cache=True, inline="always")
def _comes_before(a: int, b: int, reach: Shaped[np.ndarray, " n"], nearest: UInt16[np.ndarray, " n"]) -> bool:
    """Whether the edge from ``a`` to its nearest comes before that from ``b``: by (length, lower end, higher end)."""
    if reach[a] != reach[b]:
        return reach[a] < reach[b]
    lower, other = min(a, nearest[a]), min(b, nearest[b])
    return lower < other or (lower == other and max(a, nearest[a]) < max(b, nearest[b]))


@no_type_check
@njit(nogil=True, cache=True)
def _best_of(reach: Shaped[np.ndarray, " group"], nearest: UInt16[np.ndarray, " group"], begin: int) -> int:
    """Of a group, whose first point is ``begin``, the place of the point whose edge comes first."""
    least = reach[0]
    for at in range(reach.shape[0]):
        least = min(least, reach[at])
    best, low, high = -1, 0, 0
    for at in range(reach.shape[0]):
        if reach[at] != least:
            continue
        lower, higher = min(begin + at, nearest[at]), max(begin + at, nearest[at])
        if best < 0 or lower < low or (lower == low and higher < high):
            best, low, high = at, lower, higher
    return best


@no_type_check
@njit(nogil=True, cache=True)
def _reach(
    row: Shaped[np.ndarray, " group"],
    waiting: Shaped[np.ndarray, " group"],
    own: Any,
    joined: Any,
    reach: Shaped[np.ndarray, " group"],
    nearest: UInt16[np.ndarray, " group"],
) -> bool:
    """Offer the edges from the point ``joined``, whose core distance is ``own``, to a group of points; whether any of
    them is better than what there was.

    Of two edges to one point that are equally long the one with the lower other end is, wherever the point stands
    between the two.
    """
    better = np.uint16(0)
    for at in range(row.shape[0]):
        length = max(max(row[at], waiting[at]), own)
        better |= np.uint16(length < reach[at]) | (np.uint16(length == reach[at]) & np.uint16(joined < nearest[at]))
    if not better:
        return False
    for at in range(row.shape[0]):
        length = max(max(row[at], waiting[at]), own)
        if length < reach[at] or (length == reach[at] and joined < nearest[at]):
            reach[at], nearest[at] = length, joined
    return True


@no_type_check
@njit(nogil=True, cache=True, inline="always")
def _group(group: int, before: int, split: int, n: int) -> tuple[int, int]:
    """First point of a group, and where it ends, of which ``before`` are of the points up to ``split``."""
    begin, end = (group * GROUP, split) if group < before else (split + (group - before) * GROUP, n)
    return begin, min(begin + GROUP, end)


@no_type_check
@njit(nogil=True, cache=True)
def grow_by_order(
    rows: Shaped[np.ndarray, "a columns"],
    turned: Shaped[np.ndarray, "b a"],
    across: int,
    cores: Shaped[np.ndarray, " n"],
    farthest: Any,
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Shaped[np.ndarray, " edges"],
) -> None:
    """Prim's algorithm over mutual reachability between two sets of points, with edges in the order of (length, lower
    end, higher end): of all spanning trees it finds the one that Kruskal's algorithm finds in that order.

    Points are those of ``rows`` and then, from ``across`` on, those of ``turned``, its transpose; where ``across`` is
    0 both are one set, and distances those within it. ``farthest``: more than any length. ``source``: the lower end.
    """
    n, first = len(cores), len(rows)
    waiting = cores.copy()  # what has joined is farther than anything, so that nothing reaches it
    reach = np.full(n, farthest, cores.dtype)
    nearest = np.zeros(n, np.uint16)  # of two parts, of 2^15 codes at most
    # Some points at a time are a group, all of one part: of most a step reaches none anew, and their best stays.
    split = across if across else n
    before = -(-split // GROUP)
    count = before + -(-(n - split) // GROUP)
    bests = np.zeros(count, np.int64)
    current = 0
    for edge in range(n - 1):
        own, joined = cores[current], np.uint16(current)
        waiting[current] = reach[current] = farthest
        nearest[current] = 0  # nothing comes before it, so that it is not reached once more
        group = current // GROUP if current < split else before + (current - split) // GROUP
        begin, stop = _group(group, before, split, n)
        bests[group] = begin + _best_of(reach[begin:stop], nearest[begin:stop], begin)
        if current < first:
            row, start, groups = rows[current], across, range(before if across else 0, count)
        else:
            row, start, groups = turned[current - first], 0, range(before)
        for group in groups:
            begin, stop = _group(group, before, split, n)
            if _reach(
                row[begin - start : stop - start],
                waiting[begin:stop],
                own,
                joined,
                reach[begin:stop],
                nearest[begin:stop],
            ):
                bests[group] = begin + _best_of(reach[begin:stop], nearest[begin:stop], begin)
        current = bests[0]
        for group in range(1, count):
            if _comes_before(bests[group], current, reach, nearest):
                current = bests[group]
        source[edge], target[edge] = min(current, nearest[current]), max(current, nearest[current])
        length[edge] = reach[current]


# --- Kruskal's algorithm -------------------------------------------------------------------------------------------


@no_type_check
@njit(nogil=True, cache=True)
def _root(above: Int64[np.ndarray, " n"], node: int) -> int:
    """Where the way up from ``node`` ends; each node on the way is then led past one (path halving, Tarjan & van
    Leeuwen 1984)."""
    while above[node] != node:
        above[node] = above[above[node]]
        node = above[node]
    return node


@no_type_check
@njit(nogil=True, cache=True)
def spanning_forest(
    order: Int64[np.ndarray, " edges"],
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
    sure: Bool[np.ndarray, " edges"],
    bound: Float64[np.ndarray, " n"],
    kept: Bool[np.ndarray, " edges"],
    proven: Bool[np.ndarray, " edges"],
) -> None:
    """Kruskal's algorithm. No edge that is missing at point p is shorter than ``bound[p]``; ``bound`` is overwritten.

    An edge that joins two trees is proven where its length is ``sure`` and one of the trees can be left by no shorter
    edge, known or missing: then it is a shortest edge across a cut, and such an edge belongs to a minimum spanning
    tree. Known edges come in the order of their length, so no shorter one leaves either tree; the bound of a tree,
    the least of its points', speaks for the missing ones.
    """
    root = np.arange(len(bound))
    for edge in order:
        a, b = _root(root, source[edge]), _root(root, target[edge])
        kept[edge] = a != b
        if a == b:
            continue
        proven[edge] = sure[edge] and max(bound[a], bound[b]) >= length[edge]
        root[b] = a
        bound[a] = min(bound[a], bound[b])


@no_type_check
@njit(nogil=True, cache=True)
def merge_edges(
    order: Int64[np.ndarray, " edges"],
    source: Int64[np.ndarray, " edges"],
    target: Int64[np.ndarray, " edges"],
    length: Float64[np.ndarray, " edges"],
    merges: Float64[np.ndarray, "edges 4"],
) -> None:
    """The single-linkage tree in SciPy's form: a row (left, right, distance, size) for each edge, in ``order``.

    Points are 0 … n − 1; what row r merges is called n + r.
    """
    n = len(order) + 1
    above, size = np.arange(2 * n - 1), np.ones(2 * n - 1, np.int64)
    for row in range(len(order)):
        edge, merged = order[row], n + row
        left, right = _root(above, source[edge]), _root(above, target[edge])
        above[left] = above[right] = merged
        size[merged] = size[left] + size[right]
        merges[row, 0], merges[row, 1], merges[row, 2], merges[row, 3] = left, right, length[edge], size[merged]
