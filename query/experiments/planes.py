"""A plane through an activation space: the polytopes it meets, and where boundaries cut it (SCIENCE 6).

The plane is sampled on a grid. Codes are hashed point by point, a strip of the grid at a time. A boundary is found in
the cells between grid points: in a cell that no boundary of an earlier stage cuts, a preactivation is affine, so its
zero set is a straight line given by the four corners (marching squares; Lorensen & Cline 1987): exact. In a cell that
is cut, the same line is an interpolation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, UInt8

from atlas.errors import UsageError
from atlas.network import Site
from atlas.tails import PiecewiseLinearTail, Tail

from ..polytope.crossings import needed_stages, span_codes

if TYPE_CHECKING:
    from torch import Tensor

ON_A_LINE = 1e-6
"""Distance of the third point from the line through the others, relative to the longer side, below which they fix no
plane: single precision leaves about that much noise."""

STRIP_BYTES = 1 << 28
"""Bytes of preactivations of a strip of the grid."""

DIGEST_BYTES = 16
"""Bytes that stand for a code: two unequal ones among a million share them with a probability of 10⁻²⁷."""


@dataclass(frozen=True)
class Plane:
    """origin + u·e₁ + v·e₂, with orthonormal e₁ and e₂: u and v are distances in the activation space."""

    origin: Float64[np.ndarray, " units"]
    basis: Float64[np.ndarray, "2 units"]

    @classmethod
    def through(
        cls, origin: np.ndarray, first: np.ndarray, second: np.ndarray, what: str = "the three points"
    ) -> Plane:
        """The plane through ``origin`` along two directions; `UsageError` where they lie on one line."""
        origin, first, second = (np.asarray(values, dtype=np.float64) for values in (origin, first, second))
        longest = max(np.linalg.norm(first), np.linalg.norm(second))
        e1 = first / np.linalg.norm(first) if np.linalg.norm(first) > 0 else first
        rest = second - (second @ e1) * e1
        if np.linalg.norm(first) <= ON_A_LINE * longest or np.linalg.norm(rest) <= ON_A_LINE * longest:
            raise UsageError(f"{what} lie on one line, so many planes go through them; choose others")
        return cls(origin, np.stack([e1, rest / np.linalg.norm(rest)]))

    def coordinates(self, points: np.ndarray) -> Float64[np.ndarray, "points 2"]:
        """u and v of each point's projection."""
        return (points.astype(np.float64) - self.origin) @ self.basis.T

    def distance(self, points: np.ndarray) -> Float64[np.ndarray, " points"]:
        """How far each point is from the plane."""
        offsets = points.astype(np.float64) - self.origin
        return np.linalg.norm(offsets - (offsets @ self.basis.T) @ self.basis, axis=1)


@dataclass(frozen=True)
class Grid:
    """``size`` × ``size`` points of a plane; row i is at v = ``v[i]``, column j at u = ``u[j]``."""

    plane: Plane
    u: Float64[np.ndarray, " columns"]
    v: Float64[np.ndarray, " rows"]

    @property
    def size(self) -> int:
        return len(self.u)

    @property
    def step(self) -> float:
        """Distance of neighbouring points."""
        return float(self.u[1] - self.u[0])

    @property
    def resolution(self) -> float:
        """The distance that single precision tells apart: the spacing of its numbers at the largest coordinate of the
        window's middle (`rows` rounds to it)."""
        middle = self.plane.origin + np.array([self.u.mean(), self.v.mean()]) @ self.plane.basis
        return float(np.spacing(np.float32(np.abs(middle).max(initial=0.0))))

    def rows(self, first: int, last: int, tail: Tail) -> Tensor:
        """The points of rows first to last (excluded), row by row, as a tail takes them."""
        import torch

        origin, (e1, e2) = self.plane.origin, self.plane.basis
        along = (origin + self.u[:, None] * e1).astype(np.float32)
        across = (self.v[first:last, None] * e2).astype(np.float32)
        points = torch.from_numpy(across)[:, None].to(tail.device, tail.dtype) + torch.from_numpy(along).to(
            tail.device, tail.dtype
        )
        return points.flatten(0, 1)


@dataclass(frozen=True)
class Regions:
    """What the network says at every point of a grid.

    ``code``: number of the code, from 0 in order of first sight, row by row. ``polytope``: the same of the code with
    the pooling switches of the span. ``output``: the likeliest. ``varies``: gates, counted over all sites, that are
    on at some points and off at others.
    """

    code: Int64[np.ndarray, "rows columns"]
    polytope: Int64[np.ndarray, "rows columns"]
    output: Int64[np.ndarray, "rows columns"]
    varies: Int64[np.ndarray, " gates"]


def read_regions(
    tail: Tail, grid: Grid, sites: Sequence[Site], told: Callable[[int, int], None] = lambda done, total: None
) -> Regions:
    """Code, switches and output at every point. A strip of packed codes is held, and a digest a point."""
    digests: list[tuple[bytes, bytes]] = []
    outputs: list[np.ndarray] = []
    ever: UInt8[np.ndarray, " bytes"] | None = None
    always: UInt8[np.ndarray, " bytes"] | None = None
    step = max(1, tail.batch // grid.size)
    for first in range(0, grid.size, step):
        told(first, grid.size)
        points = grid.rows(first, min(first + step, grid.size), tail)
        for part in range(0, len(points), tail.batch):
            reading = tail.read(points[part : part + tail.batch], sites, switches=True)
            codes = span_codes(reading, sites)
            assert reading.switches is not None
            digests += [(_digest(c), _digest(c, s)) for c, s in zip(codes.packed, reading.switches, strict=True)]
            outputs.append(reading.logits.argmax(axis=1))
            some, all_ = np.bitwise_or.reduce(codes.packed), np.bitwise_and.reduce(codes.packed)
            ever, always = (some, all_) if ever is None or always is None else (ever | some, always & all_)
    assert ever is not None and always is not None
    parts = tuple(site.n_gates for site in sites)
    varies = type(codes)((ever & ~always)[None], parts).unpack()[0]
    shape = grid.size, grid.size
    return Regions(
        _numbered([code for code, _ in digests]).reshape(shape),
        _numbered([code for _, code in digests]).reshape(shape),
        np.concatenate(outputs).astype(np.int64).reshape(shape),
        np.flatnonzero(varies).astype(np.int64),
    )


def _digest(*parts: np.ndarray) -> bytes:
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for part in parts:
        digest.update(np.ascontiguousarray(part).data)
    return digest.digest()


def _numbered(digests: list[bytes]) -> Int64[np.ndarray, " points"]:
    numbers: dict[bytes, int] = {}
    return np.array([numbers.setdefault(digest, len(numbers)) for digest in digests], dtype=np.int64)


# --- boundaries ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Segments:
    """Pieces of boundaries, one a row, each from one edge of a cell to another.

    ``gate`` counts over all sites. ``edge``: the two edges of the grid that it joins, by number. ``at``: u and v of
    its ends. ``exact``: no boundary of an earlier stage cuts the cell.
    """

    gate: Int64[np.ndarray, " segments"]
    edge: Int64[np.ndarray, "segments 2"]
    at: Float64[np.ndarray, "segments 2 2"]
    exact: Bool[np.ndarray, " segments"]


@dataclass(frozen=True)
class _Layer:
    """Preactivations at the points of a strip, a stage's or a site's; -1 as the number of a gate not asked for."""

    values: Float32[np.ndarray, "rows columns gates"]
    gates: Int64[np.ndarray, " gates"]
    switches: UInt8[np.ndarray, "rows columns windows"]


def find_boundaries(
    tail: Tail,
    grid: Grid,
    sites: Sequence[Site],
    gates: Int64[np.ndarray, " gates"],
    told: Callable[[int, int], None] = lambda done, total: None,
    *,
    strip_bytes: int = STRIP_BYTES,
) -> Segments:
    """Where the preactivations of ``gates`` (counted over all sites) are zero, cell by cell.

    Exact only where the tail is piecewise linear and the cell uncut. Memory grows with ``strip_bytes``.
    """
    widest = max(site.n_gates for site in sites) + tail.site.n_units
    rows = max(1, strip_bytes // (4 * widest * grid.size) - 1)
    found: list[Segments] = []
    for first in range(0, grid.size - 1, rows):
        told(first, grid.size)
        last = min(first + rows, grid.size - 1) + 1
        cut = np.zeros((last - first - 1, grid.size - 1), dtype=bool)
        for layer in _layers(tail, grid, sites, first, last):
            wanted = np.isin(layer.gates, gates)
            segments = _march(layer.values[:, :, wanted], layer.gates[wanted], grid, first)
            row, column = segments.cell
            found.append(segments.with_exact(~cut[row - first, column] & tail.exact))
            cut |= _differ(layer.values > 0) | _differ(layer.switches)
    return Segments(*(np.concatenate([getattr(s, name) for s in found]) for name in ("gate", "edge", "at", "exact")))


def _layers(tail: Tail, grid: Grid, sites: Sequence[Site], first: int, last: int) -> Iterator[_Layer]:
    """The preactivations in the strip, in an order in which none depends on a later one."""
    import torch

    starts = dict(zip((s.name for s in sites), accumulate((s.n_gates for s in sites), initial=0), strict=False))
    points = grid.rows(first, last, tail)
    shape = last - first, grid.size
    with torch.no_grad():
        if not isinstance(tail, PiecewiseLinearTail):
            parts = [tail.preactivations(part, sites)[1] for part in points.split(tail.batch)]
            for site in sites:
                values = torch.cat([part[site.name] for part in parts])
                numbers = starts[site.name] + np.arange(site.n_gates, dtype=np.int64)
                yield _layer(values, numbers, torch.zeros((len(points), 0), dtype=torch.uint8), shape)
            return
        state = tail.enter(points)
        for stage in needed_stages(tail, starts):
            values = stage.preactivations(state)
            numbers = np.concatenate(
                [
                    np.empty(0, np.int64),
                    *(
                        np.arange(gates.count) + starts[name] + gates.start
                        if name in starts
                        else np.full(gates.count, -1)
                        for name, gates in stage.gates
                    ),
                ]
            )
            yield _layer(values, numbers, stage.switches(state), shape)
            state = stage.advance(state, values)


def _layer(values: Tensor, numbers: Int64[np.ndarray, " gates"], switches: Tensor, shape: tuple[int, int]) -> _Layer:
    return _Layer(
        values.float().cpu().numpy().reshape(*shape, -1), numbers, switches.cpu().numpy().reshape(*shape, -1)
    )


def _differ(values: np.ndarray) -> Bool[np.ndarray, "rows columns"]:
    """For each cell, whether anything differs between its corners."""
    across = (values[:, 1:] != values[:, :-1]).any(axis=2)
    down = (values[1:] != values[:-1]).any(axis=2)
    return across[1:] | across[:-1] | down[:, 1:] | down[:, :-1]


@dataclass(frozen=True)
class _Marched:
    """Segments of a layer with the (row, column) of their cells."""

    gate: Int64[np.ndarray, " segments"]
    edge: Int64[np.ndarray, "segments 2"]
    at: Float64[np.ndarray, "segments 2 2"]
    cell: tuple[Int64[np.ndarray, " segments"], Int64[np.ndarray, " segments"]]

    def with_exact(self, exact: Bool[np.ndarray, " segments"]) -> Segments:
        return Segments(self.gate, self.edge, self.at, exact)


def _march(
    values: Float32[np.ndarray, "rows columns gates"], gates: Int64[np.ndarray, " gates"], grid: Grid, first: int
) -> _Marched:
    """Marching squares. Corners of a cell, in a circle: (0, 0), (0, 1), (1, 1), (1, 0); edge k joins corner k to the
    next. Where all four edges are crossed, the mean of the corners decides which two pairs belong together."""
    on = values > 0
    corner_on = np.stack([on[:-1, :-1], on[:-1, 1:], on[1:, 1:], on[1:, :-1]], axis=-1)
    row, column, which = np.nonzero(corner_on.any(axis=-1) & ~corner_on.all(axis=-1))
    corners = np.stack([values[row + dr, column + dc, which] for dr, dc in _CORNERS], axis=1).astype(np.float64)
    signs = corners > 0
    crossed = signs != np.roll(signs, -1, axis=1)
    saddle = crossed.all(axis=1)
    # Edges in order: of two, both; of four, (0, 1) and (2, 3) cut off corners 1 and 3, (3, 0) and (1, 2) the others.
    alone = signs[:, 1] != (corners.mean(axis=1) > 0)
    order = np.argsort(~crossed, axis=1, kind="stable")
    order[saddle & ~alone] = [3, 0, 1, 2]
    number, left, right = (
        np.concatenate([x, y])
        for x, y in (
            (np.arange(len(row)), np.flatnonzero(saddle)),
            (order[:, 0], order[saddle, 2]),
            (order[:, 1], order[saddle, 3]),
        )
    )
    cell = row[number] + first, column[number]
    ends = [_edge(grid, *cell, edge, corners[number]) for edge in (left, right)]
    return _Marched(
        gates[which[number]],
        np.stack([edge for edge, _ in ends], axis=1),
        np.stack([at for _, at in ends], axis=1),
        cell,
    )


_CORNERS = ((0, 0), (0, 1), (1, 1), (1, 0))


def _edge(
    grid: Grid, row: np.ndarray, column: np.ndarray, edge: np.ndarray, corners: Float64[np.ndarray, "segments 4"]
) -> tuple[Int64[np.ndarray, " segments"], Float64[np.ndarray, "segments 2"]]:
    """Number of an edge in the whole grid, the same from both of its cells, and u and v of the zero on it."""
    lines = np.arange(len(edge))
    low, high = corners[lines, edge], corners[lines, (edge + 1) % 4]
    share = low / (low - high)
    steps = np.array(_CORNERS)
    position = np.stack([row, column], axis=1) + steps[edge] + share[:, None] * (steps[(edge + 1) % 4] - steps[edge])
    # Edges along a row come first (0 and 2), then those along a column (1 and 3).
    flat = edge % 2 == 0
    number = np.where(
        flat,
        (row + (edge == 2)) * grid.size + column,
        grid.size**2 + row * grid.size + column + (edge == 1),
    )
    v, u = (
        np.interp(position[:, axis], np.arange(grid.size), values) for axis, values in enumerate((grid.v, grid.u))
    )
    return number.astype(np.int64), np.stack([u, v], axis=1)


@dataclass(frozen=True)
class Polyline:
    """A boundary followed as far as it goes: points (u, v) in order, and the share of its pieces that are exact."""

    gate: int
    points: Float64[np.ndarray, "points 2"]
    exact: float


def polylines(segments: Segments, slack: float) -> list[Polyline]:
    """Segments joined at shared edges, gate by gate; points that lie within ``slack`` of the line between their
    neighbours are left out."""
    if not len(segments.gate):
        return []
    order = np.argsort(segments.gate, kind="stable")
    gates, starts = np.unique(segments.gate[order], return_index=True)
    found = []
    for gate, rows in zip(gates, np.split(order, starts[1:]), strict=True):
        found += _join(int(gate), segments, rows, slack)
    return found


def _join(gate: int, segments: Segments, rows: Int64[np.ndarray, " segments"], slack: float) -> list[Polyline]:
    meeting: dict[int, list[int]] = {}
    for row in rows.tolist():
        for edge in segments.edge[row].tolist():
            meeting.setdefault(edge, []).append(row)
    left = set(rows.tolist())
    # Open lines first, from an end; what is left then are closed ones.
    ends = [edge for edge, there in meeting.items() if len(there) == 1]
    found = []
    for start in [*ends, *meeting]:
        here = [row for row in meeting[start] if row in left]
        if not here:
            continue
        points: list[np.ndarray] = []
        exact, edge = [], start
        while here:
            row = here[0]
            left.discard(row)
            side = 0 if segments.edge[row, 0] == edge else 1
            if not points:
                points.append(segments.at[row, side])
            points.append(segments.at[row, 1 - side])
            exact.append(bool(segments.exact[row]))
            edge = int(segments.edge[row, 1 - side])
            here = [row for row in meeting[edge] if row in left]
        found.append(Polyline(gate, simplified(np.array(points), slack), float(np.mean(exact))))
    return found


def simplified(points: Float64[np.ndarray, "points 2"], slack: float) -> Float64[np.ndarray, "kept 2"]:
    """A polyline with fewer points, nowhere farther than ``slack`` from the given one (Douglas & Peucker 1973)."""
    keep = np.zeros(len(points), dtype=bool)
    keep[[0, -1]] = True
    pending = [(0, len(points) - 1)]
    while pending:
        first, last = pending.pop()
        if last - first < 2:
            continue
        along, between = points[last] - points[first], points[first + 1 : last] - points[first]
        length = np.hypot(*along)
        away = np.abs(between @ [-along[1], along[0]]) / length if length else np.hypot(*between.T)
        farthest = int(away.argmax())
        if away[farthest] > slack:
            middle = first + 1 + farthest
            keep[middle] = True
            pending += [(first, middle), (middle, last)]
    return points[keep]
