"""The exact minimum spanning tree of the mutual-reachability graph, within a budget of memory.

The mutual-reachability distance of points i and j is

    d_mreach(i, j) = max(core(i), core(j), d(i, j))

where core(i) is the distance to the ``min_samples``-th neighbour of i, i itself not counted (Campello, Moulavi &
Sander 2013; McInnes & Healy 2017, arXiv 1705.07321). Prim's algorithm visits every point once and needs one row of
distances at a time.

Memory. Where the budget holds them, all distances are stored, n² in 2·n² bytes (uint16, of codes up to 65,534 gates).
Where it doesn't, rows are computed again in blocks: with the point that joins come those that are nearest to the
tree, because they join next, and rows that wait for their turn are kept while there is room.

Of activations not distances are kept but lower bounds of them (`float_bounds`). A distance is computed, in float64
and by one formula, only where its bound is below the last of a point's nearest, or below what the point is away from
the tree: about 20 a point. So the result depends neither on how the bounds were computed nor on the budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from ..errors import TooManyPoints
from ..progress import Progress
from ..threads import in_threads, n_threads, slices
from .distances import Points
from .float_bounds import offer_exact, smallest, smallest_exact
from .kernels import mirror, nearest_waiting, offer
from .limits import BLOCK_BYTES, ROWS_AHEAD, least_row_bytes

_SQUARE = 2048  # rows and columns of products: 16 MB in float32
_BLOCK_ROWS = 256  # a product of fewer rows is slower than what it saves
_PIECE = 64  # rows that one thread takes at a time
_TELL_EVERY = 256  # edges


@dataclass(frozen=True, eq=False)
class SpanningTree:
    """n − 1 edges over n points in the order in which they grew, from point 0.

    ``source``: the end that was in the tree; ``target``: the point that joined; ``length``: mutual reachability, in
    the unit of the points' distances. ``cores``: distance of each point to its ``samples``-th neighbour, itself not
    counted; ``prediction_cores``: itself counted.
    """

    source: Int64[np.ndarray, " edges"]
    target: Int64[np.ndarray, " edges"]
    length: Shaped[np.ndarray, " edges"]
    cores: Shaped[np.ndarray, " n"]
    prediction_cores: Shaped[np.ndarray, " n"]


def spanning_tree(
    points: Points, kind: Int64[np.ndarray, " n"], samples: int, budget: int, progress: Progress | None = None
) -> SpanningTree:
    """The tree of n points of which equal ones are merged: ``points`` holds each kind once, in the order in which
    ``kind`` first names it, and the others carry their weight.

    Of equally near points the first joins, through the edge that came first, as if nothing were merged. hdbscan's
    dense algorithm does the same, so the trees are equal, not just equally long.

    Args:
        points: each kind of point once.
        kind: of each of the n points, its place in ``points``.
        samples: core distances are to this neighbour.
        budget: bytes for distances, for blocks of them and for copies of the points.
        progress: told (steps done, 2·n).

    Raises:
        TooManyPoints: where not even the rows that are computed together fit, before anything is allocated.
    """
    n = len(points)
    is_stored = points.dtype.itemsize * n * n <= budget - points.n_bytes - 4 * BLOCK_BYTES
    if not is_stored and _least_bytes(points) > budget:
        raise TooManyPoints(
            f"{ROWS_AHEAD} rows of distances between {len(points):,} points take {_least_bytes(points):,} bytes with "
            f"what goes with them; the budget is {budget:,} bytes, in which {budget * n // _least_bytes(points):,} "
            "would fit. Cluster so many examples, cluster from some neighbors of each (--approximate 15), or raise "
            "memory_budget (--memory)"
        )
    tell = _Steps(len(kind), progress)
    rows: _Stored | _Recomputed = _Stored(points, tell) if is_stored else _Recomputed(points, budget, tell)
    cores = rows.cores(np.bincount(kind, minlength=len(points)), samples)
    source, target, length = _grow(points, rows, kind, cores[1], tell)
    return SpanningTree(source, target, length, cores[1][kind], cores[0][kind])


def _least_bytes(points: Points) -> int:
    return len(points) * least_row_bytes(points.dtype.itemsize) + points.n_bytes


class _Steps:
    """Progress in points: as many steps for the distances and cores as for joining the tree."""

    def __init__(self, n: int, progress: Progress | None) -> None:
        self.n, self.progress, self.told = n, progress, 0

    def measured(self, share: float) -> None:
        self._tell(int(share * self.n))

    def joined(self, points: int) -> None:
        self._tell(self.n + points)

    def _tell(self, done: int) -> None:
        if self.progress is not None and done > self.told:
            self.told = done
            self.progress(done, 2 * self.n)


class _Stored:
    """All n² distances, or bounds of them, computed once and kept: a row is at hand without a copy."""

    def __init__(self, points: Points, tell: _Steps) -> None:
        n = len(points)
        self.points, self.matrix = points, np.empty((n, n), dtype=points.dtype)
        # Blocks reach from the diagonal to the right: the more there are, the less lies below it in vain. But
        # products are the faster the nearer they are to squares, and a matrix times its own transpose, as on the
        # diagonal, is computed at half the cost.
        rows = max(_BLOCK_ROWS, n // 16) if points.coordinates is None else _SQUARE
        step = max(1, min(rows, BLOCK_BYTES // (points.dtype.itemsize * n)))
        for start in range(0, n, step):
            stop = min(start + step, n)
            points.bounds(slice(start, stop), slice(start, n), out=self.matrix[start:stop, start:])

            def below(piece: slice, start: int = start) -> None:
                mirror(self.matrix, start + piece.start, start + piece.stop)

            in_threads(below, slices(stop - start, _PIECE))
            tell.measured(1 - (1 - stop / n) ** 2)

    def cores(self, weights: Int64[np.ndarray, " n"], samples: int) -> Shaped[np.ndarray, "2 n"]:
        """Distances to the neighbour ``samples``, the point itself counted and not counted."""
        n = len(self.matrix)
        cores = np.empty((2, n), dtype=_of_distances(self.points))
        step = max(1, min(_PIECE, BLOCK_BYTES // (self.matrix.itemsize * n * n_threads())))
        in_threads(
            lambda piece: _smallest(self.points, self.matrix[piece], weights, samples + 1, cores, piece.start),
            slices(n, step),
        )
        return cores

    def row(
        self, i: int, reach: Shaped[np.ndarray, " n"], joined: Bool[np.ndarray, " n"]
    ) -> Shaped[np.ndarray, " n"]:
        return self.matrix[i]


class _Recomputed:
    """Rows computed in blocks, for the point that joins and for those that will probably join next."""

    def __init__(self, points: Points, budget: int, tell: _Steps) -> None:
        self.points, self.tell = points, tell
        self.row_bytes = len(points) * points.dtype.itemsize
        self.block_bytes = min(BLOCK_BYTES, (budget - points.n_bytes) // 4)
        self.room = max(ROWS_AHEAD, (budget - _least_bytes(points)) // self.row_bytes)  # rows that may wait
        self.waiting: dict[int, Shaped[np.ndarray, " n"]] = {}

    def cores(self, weights: Int64[np.ndarray, " n"], samples: int) -> Shaped[np.ndarray, "2 n"]:
        """As `_Stored.cores`."""
        n = len(self.points)
        cores = np.empty((2, n), dtype=_of_distances(self.points))
        step = max(1, self.block_bytes // self.row_bytes)
        for start in range(0, n, step):
            block = self.points.bounds(slice(start, min(start + step, n)), slice(0, n))

            def work(piece: slice, block: np.ndarray = block, start: int = start) -> None:
                _smallest(self.points, block[piece], weights, samples + 1, cores, start + piece.start)

            in_threads(work, slices(len(block), _PIECE))
            self.tell.measured(min(start + step, n) / n)
        return cores

    def row(
        self, i: int, reach: Shaped[np.ndarray, " n"], joined: Bool[np.ndarray, " n"]
    ) -> Shaped[np.ndarray, " n"]:
        if i not in self.waiting:
            self._compute(i, reach, joined)
        return self.waiting.pop(i)

    def _compute(self, i: int, reach: Shaped[np.ndarray, " n"], joined: Bool[np.ndarray, " n"]) -> None:
        """The row of ``i``, and those of the points nearest to the tree whose rows are not at hand."""
        not_wanted = joined.copy()
        not_wanted[list(self.waiting)] = not_wanted[i] = True
        candidates = np.flatnonzero(~not_wanted)
        if len(candidates) > ROWS_AHEAD - 1:
            candidates = candidates[np.argpartition(reach[candidates], ROWS_AHEAD - 2)[: ROWS_AHEAD - 1]]
        for far in sorted(self.waiting, key=reach.__getitem__)[max(0, self.room - len(candidates) - 1) :]:
            del self.waiting[far]  # they were expected too early
        wanted = np.append(candidates, i)
        # A copy of each: a view of the block would keep all of it until the last row is used.
        for point, row in zip(wanted.tolist(), self.points.bounds(wanted, slice(0, len(joined))), strict=True):
            self.waiting[point] = row.copy()


def _of_distances(points: Points) -> np.dtype[Any]:
    return points.dtype if points.coordinates is None else np.dtype(np.float64)


def _smallest(
    points: Points,
    rows: Shaped[np.ndarray, "rows n"],
    weights: Int64[np.ndarray, " n"],
    rank: int,
    out: Shaped[np.ndarray, "2 n"],
    first: int,
) -> None:
    if points.coordinates is None:
        smallest(rows, weights, rank, out, first)
    else:
        smallest_exact(rows, weights, rank, out, first, points.coordinates, points.factor, points.shift)


def _grow(
    points: Points,
    rows: _Stored | _Recomputed,
    kind: Int64[np.ndarray, " n"],
    cores: Shaped[np.ndarray, " kinds"],
    tell: _Steps,
) -> tuple[Int64[np.ndarray, " edges"], Int64[np.ndarray, " edges"], Shaped[np.ndarray, " edges"]]:
    """Prim's algorithm. Points of one kind are equally far from all others and from the tree, so they share a row, a
    reach and the end that reaches them; each joins when it is its turn, the lowest first."""
    n, kinds = len(kind), len(cores)
    members = np.argsort(kind, kind="stable")
    place = np.zeros(kinds, dtype=np.int64)
    place[1:] = np.cumsum(np.bincount(kind, minlength=kinds))[:-1]
    end = np.append(place[1:], n)
    next_member = members[place]  # of each kind, the first that is not in the tree; n where all are
    farthest = np.iinfo(cores.dtype).max if cores.dtype.kind == "u" else np.inf
    reach = np.full(kinds, farthest, dtype=cores.dtype)
    reached_from, joined = np.zeros(kinds, dtype=np.int64), np.zeros(kinds, dtype=np.bool_)
    wanted = np.full(kinds, np.iinfo(np.uint16).max, dtype=np.uint16)  # bounds from here on tell nothing new
    source, target = np.empty((2, n - 1), dtype=np.int64)
    length = np.empty(n - 1, dtype=cores.dtype)
    current, point = 0, 0
    for edge in range(n - 1):
        place[current] += 1
        next_member[current] = members[place[current]] if place[current] < end[current] else n
        if next_member[current] == n:
            wanted[current], reach[current] = 0, farthest
        if not joined[current]:  # else it tells nothing new
            joined[current] = True
            row = rows.row(current, reach, joined)
            if points.coordinates is None:
                offer(row, current, point, cores, reach, reached_from, next_member, n)
            else:
                offer_exact(
                    row,
                    current,
                    point,
                    cores,
                    reach,
                    reached_from,
                    wanted,
                    points.coordinates,
                    points.factor,
                    points.shift,
                )
        current = nearest_waiting(reach, next_member, n)
        point = int(next_member[current])
        source[edge], target[edge], length[edge] = reached_from[current], point, reach[current]
        if edge % _TELL_EVERY == 0:
            tell.joined(edge)
    tell.joined(n)
    return source, target, length
