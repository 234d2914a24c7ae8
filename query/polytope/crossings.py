"""Where a segment crosses polytope boundaries: exactly, stage by stage, or by sampling until no more are found.

Exact, for piecewise linear tails. On a segment x(t), t in [0, 1], every state of the network is a piecewise affine
function of t. Going through the network, keep the points t₀ < t₁ < … between which the state is affine: within each
interval a preactivation is affine and crosses zero at most once, at a root given by its two ends; there the next
state bends, and so it does where a max-pooling window switches. This is ExactLine (Sotoudeh & Thakur 2019, "Computing
linear restrictions of neural networks"). It finds every crossing, however short the stay beyond it.

Sampled, for any tail: codes at points of the path, neighbours compared. What flips twice between two points is
missed, so all steps are halved until the total grows by no more than a tolerance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Float64, Int64

from atlas import SplineCodes, hamming
from atlas.codes import concatenate
from atlas.errors import TooManyPoints
from atlas.network import Site
from atlas.tails import PiecewiseLinearTail, Stage, Tail, TailReading

if TYPE_CHECKING:
    from torch import Tensor

STATE_BYTES = 1 << 27
"""Bytes of what a stage looks at in one go (preactivations and pooling windows): the memory of the exact way."""

MOST_CROSSINGS = 100_000
"""Crossings after which the exact way gives up on a segment: minutes on two cores."""

Told = Callable[[float], None]
"""Told again and again what share is done, 0 to 1; what it raises ends the work."""


@dataclass(frozen=True)
class Crossings:
    """The boundaries that a segment crosses, in order.

    ``at`` is t in [0, 1]; ``gate`` counts over the gates of all sites in order, padding left out. ``switches`` are
    the places where a max-pooling window takes another input: no gate flips there, but the affine map changes.
    """

    at: Float64[np.ndarray, " crossings"]
    gate: Int64[np.ndarray, " crossings"]
    switches: Float64[np.ndarray, " switches"]

    def per_step(self, edges: Float64[np.ndarray, " edges"]) -> Int64[np.ndarray, " steps"]:
        """How many crossings lie in each step between neighbouring ``edges``, which run from 0 to 1."""
        return np.histogram(self.at, bins=edges)[0].astype(np.int64)


@dataclass(frozen=True)
class Sampled:
    """Crossings counted between sampled points: never more than there are.

    ``per_step``: of each step asked for, all finer ones in it summed. ``totals``: of each refinement, from the steps
    asked for to the finest. ``growth``: the share by which the last halving raised the total. ``points`` sampled in
    the finest.
    """

    per_step: Int64[np.ndarray, " steps"]
    totals: tuple[int, ...]
    points: int
    converged: bool

    @property
    def growth(self) -> float:
        before, after = self.totals[-2:] if len(self.totals) > 1 else (self.totals[-1], self.totals[-1])
        return (after - before) / max(before, 1)


# --- exact -----------------------------------------------------------------------------------------------------


def exact_crossings(
    tail: PiecewiseLinearTail,
    start: Float32[np.ndarray, " units"] | Float64[np.ndarray, " units"],
    end: Float32[np.ndarray, " units"] | Float64[np.ndarray, " units"],
    sites: Sequence[Site],
    *,
    most: int = MOST_CROSSINGS,
    state_bytes: int = STATE_BYTES,
    told: Told = lambda share: None,
) -> Crossings:
    """All gates of ``sites`` that flip between ``start`` and ``end``, and where; computed in double precision.

    ``tail`` should be a `precise` one: in single precision a gate that barely touches zero may count twice.
    Memory grows with ``state_bytes``. Raises `TooManyPoints` where more than ``most`` boundaries are crossed.
    """
    import torch

    with torch.no_grad():
        ends = torch.from_numpy(np.stack([start, end])).to(tail.device, tail.dtype)
        walk = _Walk(tail, sites, most, state_bytes, told)
        walk.through(0, torch.tensor([0.0, 1.0], device=tail.device, dtype=torch.float64), tail.enter(ends))
    order = np.argsort(at := np.concatenate([np.empty(0), *walk.at]), kind="stable")
    gates = np.concatenate([np.empty(0, np.int64), *walk.gates])
    return Crossings(at[order], gates[order], np.sort(np.concatenate([np.empty(0), *walk.switches])))


class _Walk:
    """A walk through the stages of a tail, depth first: a piece of the segment is taken to the end before the next,
    so that only a piece's states are held at each stage."""

    def __init__(
        self,
        tail: PiecewiseLinearTail,
        sites: Sequence[Site],
        most: int,
        state_bytes: int,
        told: Told,
    ) -> None:
        starts = starts_of(sites)
        self._stages = needed_stages(tail, starts)
        self._starts, self._most, self._bytes, self._told = starts, most, state_bytes, told
        self._found, self._done = 0, 0.0
        self.at: list[Float64[np.ndarray, " crossings"]] = []
        self.gates: list[Int64[np.ndarray, " crossings"]] = []
        self.switches: list[Float64[np.ndarray, " switches"]] = []

    def through(self, number: int, t: Tensor, state: tuple[Tensor, ...]) -> None:
        """Go on from stage ``number``; the state is affine between neighbouring ``t``, a row of it each."""
        if number == len(self._stages):
            return
        stage = self._stages[number]
        rows = max(2, self._bytes // _bytes_of_a_point(stage, tuple(part[:1] for part in state)))
        for first in range(0, len(t) - 1, rows):
            piece = slice(first, min(first + rows, len(t) - 1) + 1)
            further = self._stage(stage, t[piece], tuple(part[piece] for part in state))
            self._done += float(t[piece][-1] - t[first]) / len(self._stages)
            self._told(min(self._done, 1.0))
            self.through(number + 1, *further)

    def _stage(self, stage: Stage, t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Note what flips and switches in a stage; the finer points, and the state after the stage at them."""
        import torch

        values = stage.preactivations(state)
        flips = self._flips(stage, t, values)
        switches = _switches(stage, t, state)
        self.switches.append(switches.cpu().numpy())
        finer = torch.unique(torch.cat([t, flips, switches]))
        left = torch.searchsorted(t, finer, right=True).sub_(1).clamp_(max=len(t) - 2)
        share = ((finer - t[left]) / (t[left + 1] - t[left])).to(values.dtype)
        there = tuple(_between(part, left, share) for part in state)
        return finer, stage.advance(there, _between(values, left, share))

    def _flips(self, stage: Stage, t: Tensor, values: Tensor) -> Tensor:
        """Where the gates of a stage flip; those of the sites asked for are noted."""
        on = values > 0
        step, column = (on[1:] != on[:-1]).nonzero(as_tuple=True)
        low, high = values[step, column].double(), values[step + 1, column].double()
        at = t[step] + (t[step + 1] - t[step]) * (low / (low - high))
        numbers = gate_numbers(stage, self._starts)[column.cpu().numpy()]
        asked = numbers >= 0
        self.at.append(at.cpu().numpy()[asked])
        self.gates.append(numbers[asked])
        self._found += len(at)
        if self._found > self._most:
            raise TooManyPoints(
                f"the segment crosses more than {self._most} boundaries, the most that are located exactly; count "
                "them by sampling (method sampled), or choose a later site"
            )
        return at


def starts_of(sites: Sequence[Site]) -> dict[str, int]:
    """The number of each site's first gate among the gates of all, by its name."""
    return dict(zip((s.name for s in sites), accumulate((s.n_gates for s in sites), initial=0), strict=False))


def needed_stages(tail: PiecewiseLinearTail, names: Any) -> tuple[Stage, ...]:
    """The stages up to the last one that holds a gate of the named sites."""
    holding = [i for i, stage in enumerate(tail.stages) if any(name in names for name, _ in stage.gates)]
    return tail.stages[: holding[-1] + 1] if holding else ()


def _bytes_of_a_point(stage: Stage, state: tuple[Tensor, ...]) -> int:
    """Bytes, in double precision, of what a stage holds of a point: state, preactivations and pooling windows."""
    windows = stage.windows(state)
    width = stage.preactivations(state).shape[1] + windows.shape[1] * windows.shape[2]
    return 8 * (width + sum(part[0].numel() for part in state))


def _between(values: Tensor, left: Tensor, share: Tensor) -> Tensor:
    """Rows between rows: (1 − share) · values[left] + share · values[left + 1]."""
    weight = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[left] * (1 - weight) + values[left + 1] * weight


def gate_numbers(stage: Stage, starts: dict[str, int]) -> Int64[np.ndarray, " gates"]:
    """Numbers of a stage's gates among the gates of all sites asked for; −1 for those of another site."""
    numbers = [
        starts[name] + np.arange(gates.start, gates.start + gates.count, dtype=np.int64)
        if name in starts
        else np.full(gates.count, -1, np.int64)
        for name, gates in stage.gates
    ]
    return np.concatenate([np.empty(0, np.int64), *numbers])


def _switches(stage: Stage, t: Tensor, state: tuple[Tensor, ...]) -> Tensor:
    """Where max-pooling windows take another input, strictly between neighbouring ``t``.

    A window is the maximum of affine functions, so convex: one that takes the same input at both ends of an interval
    takes it all the way. Where the ends differ, follow the upper envelope from the left: among the inputs that rise
    faster than the one taken, the first to reach it takes over.
    """
    import torch

    windows = stage.windows(state)
    none = t.new_empty(0)
    if not windows.shape[1]:
        return none
    taken = stage.switches(state)
    step, window = (taken[1:] != taken[:-1]).nonzero(as_tuple=True)
    value = windows[step, window]
    slope = torch.nan_to_num(windows[step + 1, window] - value, nan=0.0)  # −inf beyond the edges stays below
    # Of several that are largest at the left end, the one that rises fastest is taken just after it.
    largest = value == value.amax(1, keepdim=True)
    current = torch.where(largest, slope, -torch.inf).argmax(1)
    share = torch.zeros_like(step, dtype=value.dtype)
    found = [none]
    while len(step):
        rows = torch.arange(len(step), device=t.device)
        faster = slope - slope[rows, current, None]
        gap = (value[rows, current] + share * slope[rows, current])[:, None] - (value + share[:, None] * slope)
        wait = torch.where((faster > 0) & gap.isfinite(), gap.clamp(min=0) / faster, torch.inf)
        least, following = wait.min(1)
        share = share + least
        going = share < 1
        step, value, slope, share, current = (x[going] for x in (step, value, slope, share, following))
        inside = share > 0
        found.append(t[step[inside]] + (t[step[inside] + 1] - t[step[inside]]) * share[inside].double())
    return torch.cat(found)


# --- sampled ---------------------------------------------------------------------------------------------------


def sampled_crossings(
    tail: Tail,
    start: Float32[np.ndarray, " units"],
    end: Float32[np.ndarray, " units"],
    sites: Sequence[Site],
    edges: Float64[np.ndarray, " edges"],
    *,
    tolerance: float,
    most_points: int,
    told: Told = lambda share: None,
) -> Sampled:
    """Crossings in each step between ``edges`` (t from 0 to 1), every step halved again and again.

    Stops when halving raises the total by no more than ``tolerance`` (a share), or when the next would take more
    than ``most_points`` points: then it has not converged. Halved once in any case. Codes are held packed, a batch
    at a time. ``told`` hears the share of all points that may have to be read; most paths converge long before.
    """
    times = _halved(edges)
    read, may_read = 0, _points_at_most(len(times), most_points)

    def one_more(points: int) -> None:
        nonlocal read
        read += points
        told(read / may_read)

    counts, coarser = _count(tail, start, end, sites, times, one_more)
    totals = [coarser, int(counts.sum())]
    while not (converged := totals[-1] - totals[-2] <= tolerance * totals[-2]) and 2 * len(times) - 1 <= most_points:
        times = _halved(times)
        counts, _ = _count(tail, start, end, sites, times, one_more)
        totals.append(int(counts.sum()))
    per_step = counts.reshape(len(edges) - 1, -1).sum(axis=1)
    return Sampled(per_step, tuple(totals), len(times), converged)


def _points_at_most(points: int, most: int) -> int:
    """Points of all refinements together, from the first, which is read in any case, to the finest allowed."""
    total = points
    while (points := 2 * points - 1) <= most:
        total += points
    return total


def _halved(times: Float64[np.ndarray, " points"]) -> Float64[np.ndarray, " 2*points-1"]:
    """The points, and one in the middle of every step."""
    finer = np.empty(2 * len(times) - 1)
    finer[::2], finer[1::2] = times, (times[1:] + times[:-1]) / 2
    return finer


def _count(
    tail: Tail,
    start: np.ndarray,
    end: np.ndarray,
    sites: Sequence[Site],
    times: np.ndarray,
    read: Callable[[int], None],
) -> tuple[Int64[np.ndarray, " steps"], int]:
    """Gates that differ between neighbouring points, and in all between every second point, from the first.

    ``read`` is told how many points each batch had.
    """
    counts = np.empty(len(times) - 1, np.int64)
    coarser = 0
    before: SplineCodes | None = None  # the point before this batch
    even: SplineCodes | None = None  # the last point so far with an even number
    for rows, reading in read_along(tail, start, end, sites, times):
        codes = span_codes(reading, sites)
        if before is not None:
            counts[rows.start - 1] = int(hamming(before, codes[:1])[0])
        counts[rows.start : rows.stop - 1] = hamming(codes[:-1], codes[1:]) if len(codes) > 1 else 0
        evens = codes[rows.start % 2 :: 2]
        if even is not None and len(evens):
            coarser += int(hamming(even, evens[:1])[0])
        coarser += int(hamming(evens[:-1], evens[1:]).sum()) if len(evens) > 1 else 0
        before, even = codes[-1:], evens[-1:] if len(evens) else even
        read(len(codes))
    return counts, coarser


def read_along(
    tail: Tail, start: np.ndarray, end: np.ndarray, sites: Sequence[Site], times: np.ndarray
) -> Iterator[tuple[slice, TailReading]]:
    """Read the points (1 − t) · start + t · end, batch by batch: (rows of ``times``, reading)."""
    import torch

    low, high = (torch.from_numpy(np.asarray(point)).to(tail.device, tail.dtype) for point in (start, end))
    for first in range(0, len(times), tail.batch):
        rows = slice(first, min(first + tail.batch, len(times)))
        t = torch.from_numpy(times[rows]).to(tail.device, tail.dtype)[:, None]
        yield rows, tail.read((1 - t) * low + t * high, sites)


def span_codes(reading: TailReading, sites: Sequence[Site]) -> SplineCodes:
    """The codes of a span out of a reading."""
    return concatenate([SplineCodes(reading.codes[site.name], (site.n_gates,)) for site in sites])
