"""Compiled loops over blocks of distances: nearest neighbours, and the steps of Prim's and Kruskal's algorithms.

Each runs on one thread and without Python's lock; `threads.in_threads` puts them on all cores. What may read lower
bounds in place of distances stands in `float_bounds`: compiled functions that call each other share a file, because
Numba's cache on disk is only as new as the file of the caller. They are `no_type_check`: a type checker would wrap
what Numba is to compile.
"""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from numba import njit

SCANNED = 64
"""Numbers that are looked at together before each is: their least is found by a few vector instructions, and nearly
always says that none of them matters."""


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
        for c in range(block.shape[1]):
            # Only what is strictly nearer goes before another: of equally near points the first offered stays.
            if block[r, c] >= distances[r, k - 1] or columns[c] == rows[r]:
                continue
            at = k - 1
            while at > 0 and distances[r, at - 1] > block[r, c]:
                distances[r, at], neighbors[r, at] = distances[r, at - 1], neighbors[r, at - 1]
                at -= 1
            distances[r, at], neighbors[r, at] = block[r, c], columns[c]


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
def turn(matrix: Shaped[np.ndarray, "a b"], start: int, stop: int, turned: Shaped[np.ndarray, "b a"]) -> None:
    """Write the columns ``start`` up to ``stop`` as rows of ``turned``, a few rows at a time."""
    for low in range(0, matrix.shape[0], SCANNED):
        high = min(low + SCANNED, matrix.shape[0])
        for j in range(start, stop):
            for i in range(low, high):
                turned[j, i] = matrix[i, j]


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
        stop = min(start + SCANNED, reach.shape[0])
        least = reach[start]
        for j in range(start + 1, stop):
            least = min(least, reach[j])
        if least > best:
            continue
        if least < best:
            best, lowest = least, done
        for j in range(start, stop):
            if reach[j] == best and waiting[j] < lowest:
                lowest, nearest = waiting[j], j
    return nearest


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
    n = len(cores)
    first = len(rows)
    waiting = cores.copy()  # what has joined is farther than anything, so that nothing reaches it
    reach = np.full(n, farthest, cores.dtype)
    nearest = np.zeros(n, np.int32)
    current = 0
    for edge in range(n - 1):
        own = cores[current]
        waiting[current] = farthest
        reach[current] = farthest
        if current < first:
            row, start = rows[current], across
        else:
            row, start = turned[current - first], 0
        for j in range(len(row)):
            at = start + j
            reached = max(max(row[j], waiting[at]), own)
            # Of two edges to one point that are equally long the one with the lower other end comes first, wherever
            # the point stands between the two.
            if reached < reach[at] or (reached == reach[at] and current < nearest[at]):
                reach[at], nearest[at] = reached, current
        best, low, high = farthest, n, n
        for begin in range(0, n, SCANNED):
            stop = min(begin + SCANNED, n)
            least = reach[begin]
            for at in range(begin + 1, stop):
                least = min(least, reach[at])
            if least > best or least == farthest:
                continue
            for at in range(begin, stop):
                if reach[at] != least:
                    continue
                lower, higher = min(nearest[at], at), max(nearest[at], at)
                if least < best or lower < low or (lower == low and higher < high):
                    best, low, high, current = least, lower, higher, at
        source[edge], target[edge], length[edge] = low, high, best


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
