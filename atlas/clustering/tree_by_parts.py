"""The minimum spanning tree of codes by parts: nobody holds distances between more than two of them.

Codes are cut into parts. Every edge lies within a part or between two, and an edge of the whole's minimum spanning
tree is one of its block's minimum spanning forest: a shorter way around it in the block would be one in the whole. So
the blocks' forests, an edge or so a point each, hold the tree, and each distance is computed once. Core distances
come first, since those of a part depend on all others; they take each distance from both ends.

Edges are ordered by (length, lower end, higher end). No two are equal then, so there is one tree, however the codes
were cut and in whatever order, on whatever machines, their blocks were done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isqrt
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int64, Shaped

from ..codes import SplineCodes
from ..errors import TooManyPoints
from ..threads import in_threads, slices
from .distances import Codes, Points, TorchCodes
from .hierarchy import Metric
from .jaccard import JaccardCodes
from .kernels import grow_by_order, keep_nearest, spanning_forest, turn
from .limits import BLOCK_BYTES
from .neighbor_graph import distances_at
from .rows import same_rows
from .spanning_tree import SpanningTree

LARGEST = 1 << 15
"""Codes of a part, at most: a block is done in a minute or so, and what is lost by a kill is no more."""

SMALLEST = 1 << 11
"""Codes of a part, at least, where there is memory for them: of fewer, what is begun costs more than what is done."""

PARTS = 8
"""Parts where the number of codes allows it: 36 blocks, enough for some workers."""

_LEAST = 16  # codes of a part whose budget is too small for anything else
_PIECE = 64  # rows of a block that one thread takes at a time
_TILE_ROWS = 1 << 10
_TILE_BYTES = 1 << 20
"""Distances that one thread computes at a time, so that they are in its cache when they are read."""

Tell = Callable[[int], None]


class Edges(NamedTuple):
    """``source`` is the lower end, ``length`` in the unit of the points' distances."""

    source: Int64[np.ndarray, " edges"]
    target: Int64[np.ndarray, " edges"]
    length: Shaped[np.ndarray, " edges"]


@dataclass(frozen=True, eq=False)
class DistinctCodes:
    """Codes, which may be mapped from a file, of which equal ones count as one.

    ``first``: the first row of each kind of code, in order; ``kind``: of every row; ``device``: where distances are
    computed.
    """

    codes: SplineCodes
    first: Int64[np.ndarray, " kinds"]
    kind: Int64[np.ndarray, " n"]
    metric: Metric
    device: str = "cpu"

    @classmethod
    def of(cls, codes: SplineCodes, metric: Metric, device: str = "cpu") -> DistinctCodes:
        return cls(codes, *same_rows(codes.packed), metric, device)

    def __len__(self) -> int:
        return len(self.first)

    @cached_property
    def weights(self) -> Int64[np.ndarray, " kinds"]:
        """How many codes of each kind there are."""
        return np.bincount(self.kind, minlength=len(self.first))

    def points(self, *parts: slice) -> Points:
        """The codes of some parts, one after the other: a copy of no others."""
        rows = np.concatenate([self.first[part] for part in parts])
        if self.metric == "jaccard":
            return JaccardCodes.of(self.codes[rows])
        return Codes.of(self.codes, rows) if self.device == "cpu" else TorchCodes.of(self.codes, self.device, rows)

    def tiles(self, rows: int, columns: int, kind: np.dtype[Any]) -> tuple[list[slice], list[slice]]:
        """Rows and columns of what is computed at once of so many distances; on a device all columns."""
        if self.device == "cpu":
            return slices(rows, min(_TILE_ROWS, -(-rows // 8))), slices(
                columns, _TILE_BYTES // (_TILE_ROWS * kind.itemsize)
            )
        return slices(rows, max(1, BLOCK_BYTES // (8 * kind.itemsize * columns))), [slice(0, columns)]

    def do(self, work: Callable[[slice], None], pieces: list[slice]) -> None:
        """Call ``work`` on every piece, on all cores unless a device computes."""
        if self.device == "cpu":
            in_threads(work, pieces)
            return
        for piece in pieces:
            work(piece)

    def cut(self, budget: int) -> list[slice]:
        """Parts of about equal size, of which a process that holds ``budget`` bytes can work on two at once.

        Raises `TooManyPoints` for a budget of less than a few codes.
        """
        n, item = len(self), np.dtype(np.float64 if self.metric == "jaccard" else np.uint16).itemsize
        held = 4 * (8 * -(-self.codes.n_bytes // 8) + 32)  # two parts, as they are and as they are compared
        # Distances are held twice, so that each part can be read row by row: 2 · item · m² + held · m. A quarter is
        # for blocks of distances that are on their way, and for what an allocator keeps of them.
        room = budget - min(budget // 4, BLOCK_BYTES)
        fits = (isqrt(held * held + 8 * item * room) - held) // (4 * item)
        if fits < min(_LEAST, n):
            least = 4 * (2 * item * _LEAST**2 + held * _LEAST) // 3
            raise TooManyPoints(
                f"a part of {_LEAST} codes takes {least:,} bytes; the budget is {budget:,}. Raise memory_budget "
                "(--memory)"
            )
        size = max(1, min(fits, LARGEST, max(SMALLEST, -(-n // PARTS))))
        bounds = np.linspace(0, n, -(-n // size) + 1).astype(int).tolist()
        return [slice(start, stop) for start, stop in pairwise(bounds)]


def core_distances(
    codes: DistinctCodes, part: slice, parts: Sequence[slice], samples: int, tell: Tell
) -> Shaped[np.ndarray, "2 part"]:
    """Distances of the codes of a part to the neighbour ``samples`` among all codes, themselves counted, and not.

    ``tell``: how many more distances are computed.
    """
    m, k = part.stop - part.start, min(samples, len(codes) - 1)
    nearest, neighbors = np.full((m, k), np.inf), np.full((m, k), -1)
    kind = np.dtype(np.uint16)
    for other in parts:
        points = codes.points(part, other)
        kind = points.dtype
        names = np.arange(other.start, other.stop)
        rows, columns = codes.tiles(m, len(names), kind)

        def keep(mine: slice, points: Points = points, names: np.ndarray = names, columns: list = columns) -> None:
            for some in columns:
                block = points.between(mine, slice(m + some.start, m + some.stop))

                def nearer(piece: slice, block: np.ndarray = block, some: slice = some) -> None:
                    of = slice(mine.start + piece.start, mine.start + piece.stop)
                    own = np.arange(part.start + of.start, part.start + of.stop)
                    keep_nearest(block[piece], own, names[some], nearest[of], neighbors[of])

                in_threads(nearer, slices(len(block), _PIECE))

        if k:
            codes.do(keep, rows)
        tell(m * len(names))
    own = codes.weights[part]
    ranks = (samples, samples + 1)
    return np.stack([distances_at(own, neighbors, nearest, codes.weights, rank) for rank in ranks]).astype(kind)


def block_forest(codes: DistinctCodes, a: slice, b: slice, cores: Shaped[np.ndarray, " kinds"], tell: Tell) -> Edges:
    """The minimum spanning forest of the edges between the parts ``a`` and ``b``, which comes after it, or of those
    within a part where they are the same. ``cores``: of all codes; ``tell``: as in `core_distances`."""
    points = codes.points(a) if a == b else codes.points(a, b)
    n, split = len(points), a.stop - a.start
    across = slice(0 if a == b else split, n)
    rows = np.empty((split, across.stop - across.start), dtype=points.dtype)
    turned = rows if a == b else np.empty(rows.shape[::-1], dtype=rows.dtype)
    pieces, columns = codes.tiles(split, rows.shape[1], rows.dtype)

    def fill(mine: slice) -> None:
        for some in columns:
            tile = points.between(mine, slice(across.start + some.start, across.start + some.stop))
            rows[mine, some] = tile
            if a != b:

                def over(at: slice, tile: np.ndarray = tile, others: np.ndarray = turned[some, mine]) -> None:
                    turn(tile[:, at], others[at])

                in_threads(over, slices(tile.shape[1], _PIECE))

    codes.do(fill, pieces)
    tell(n * (n + 1) // 2 if a == b else rows.size)
    reached = np.concatenate([cores[a]] if a == b else [cores[a], cores[b]])
    names = np.concatenate([np.arange(part.start, part.stop) for part in ([a] if a == b else [a, b])])
    source, target = np.empty((2, n - 1), dtype=np.int64)
    length = np.empty(n - 1, dtype=reached.dtype)
    grow_by_order(rows, turned, across.start, reached, _farthest(reached.dtype), source, target, length)
    return Edges(names[source], names[target], length)


def _farthest(kind: np.dtype) -> int | float:
    return np.iinfo(kind).max if kind.kind == "u" else np.inf


def least_forest(forests: Iterable[Edges], n: int) -> Edges:
    """The minimum spanning forest of n points among the edges of some forests, of which one is held at a time beside
    as many edges as points."""
    held: list[Edges] = []
    for forest in forests:
        held.append(forest)
        if sum(len(edges.length) for edges in held) > 4 * n:
            held = [_kept(held, n)]
    return _kept(held, n)


def _kept(forests: Sequence[Edges], n: int) -> Edges:
    edges = Edges(*(np.concatenate(column) for column in zip(*forests, strict=True)))
    order = np.lexsort((edges.target, edges.source, edges.length))
    kept, nothing = np.zeros((2, len(order)), dtype=np.bool_)
    spanning_forest(
        order, edges.source, edges.target, edges.length.astype(np.float64), nothing, np.zeros(n), kept, nothing.copy()
    )
    return Edges(*(column[kept] for column in edges))


def whole_tree(codes: DistinctCodes, edges: Edges, cores: Shaped[np.ndarray, "2 kinds"]) -> SpanningTree:
    """The tree of all n codes, equal ones included, in the order of its edges.

    ``edges``: those between kinds; ``cores``: as `core_distances` has them, of all kinds.
    """
    # What is equal hangs on the first of its kind: no edge there is shorter than a core, nor is this one longer.
    others = np.flatnonzero(codes.first[codes.kind] != np.arange(len(codes.kind)))
    source = np.concatenate([codes.first[codes.kind[others]], codes.first[edges.source]])
    target = np.concatenate([others, codes.first[edges.target]])
    length = np.concatenate([cores[1][codes.kind[others]], edges.length])
    order = np.lexsort((target, source, length))
    return SpanningTree(source[order], target[order], length[order], cores[1][codes.kind], cores[0][codes.kind])


def tree_by_parts(
    codes: DistinctCodes, samples: int, budget: int, tell: Tell = lambda distances: None
) -> SpanningTree:
    """The spanning tree of codes, one block after the other. ``tell``: as in `core_distances`, some
    3/2 · kinds² in all."""
    parts = codes.cut(budget)
    cores = np.concatenate([core_distances(codes, part, parts, samples, tell) for part in parts], axis=1)
    forests = (block_forest(codes, a, b, cores[1], tell) for place, a in enumerate(parts) for b in parts[place:])
    return whole_tree(codes, least_forest(forests, len(codes)), cores)
