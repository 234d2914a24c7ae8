"""The margins of a polytope: an affine function for each of its boundaries, positive inside (SCIENCE 14).

    P(x) = { y : m_j(y) ≥ 0 for every boundary j },    m_j(y) = m_j(x) + g_j·(y − x)

Of a gate m = s ẑ, s = +1 where it is on at x and −1 where it is off. Of a max-pooling window that takes input i* and
not i, m = û_i* − û_i; two inputs make one boundary, in however many windows they meet. All else follows from

    values m_j(x)         in double precision
    rates g_j·v           of all boundaries along some directions v: one forward-mode pass a direction
    gradients g_j         of some boundaries, in double precision: one backward pass each
    lengths ‖g_j‖₂        sums of squares of the rates along all unit vectors, a batch of these at a time

so that no more than a batch of rates is held. A tail that is not piecewise linear is linearised at x.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from atlas.network import Site
from atlas.tails import BlockStage, PiecewiseLinearTail, Stage, Tail

from .block_walk import UNITS, At, BlockWalk
from .crossings import Told, gate_numbers, needed_stages, starts_of

if TYPE_CHECKING:
    from torch import Tensor

DIRECTIONS = 256
"""Directions of a forward-mode pass, at most: from 128 to 1,024 the speed is the same."""

PASS_BYTES = 1 << 28
"""Bytes of the directions of a pass and of the rates of all boundaries along them, at most."""

ROWS = 64
"""Gradients of a backward pass."""

MOST_UNITS, MOST_IN_BLOCKS = 1 << 15, 1 << 16
"""Units up to which lengths are summed up over all of them unless asked otherwise: of stages as a whole, and of such
whose blocks are known, which leave out what is 0."""

LONG = 2.0**10
"""Directions are taken so long, and rates divided by it: of a short v too few digits of f(v) − f(0) would be left."""

BESIDE = {"torch.float64": 2.0**-42, "torch.float32": 2.0**-80}
"""How far along a direction of that length ties are broken: in double precision all, nearer than any boundary that
x does not lie on; in single precision such a step moves only what is 0."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of inputs of max-pooling windows, one of them ``taken`` (i*) and the ``other`` not (i).

    Both are numbers of entries of the state before the stage that pools, its parts of these ``shapes`` one after the
    other. ``site``: whose gates come next.
    """

    site: str
    taken: Int64[np.ndarray, " pairs"]
    other: Int64[np.ndarray, " pairs"]
    shapes: tuple[tuple[int, ...], ...]


class Margins(ABC):
    """The boundaries around a point: the gates of ``sites`` in the order of their code, then the pooling pairs.

    ``values`` are the margins at the point, ``on`` says which gates are on, ``exact`` whether the tail is affine
    inside the boundaries. ``precise``: the tail in double precision, where it is piecewise linear.
    """

    exact: bool
    precise: Tail
    pairs: tuple[Pairs, ...] = ()

    def __init__(self, tail: Tail, sites: Sequence[Site], point: Float[np.ndarray, " units"], dtype: object) -> None:
        import torch

        self.tail, self.sites, self.point = tail, tuple(sites), point.astype(np.float64)
        self.n_gates = sum(site.n_gates for site in self.sites)
        self._x = torch.from_numpy(self.point[None]).to(tail.device, dtype).requires_grad_()  # type: ignore[call-overload]
        self._graphs: list[tuple[Int64[np.ndarray, " columns"], Tensor]] = []
        """Numbers of boundaries, and what the gradients of their margins are taken of: 1 × columns."""

    values: Float64[np.ndarray, " boundaries"]
    on: Bool[np.ndarray, " gates"]

    @property
    def at_once(self) -> int:
        """Directions of a pass."""
        return max(1, min(DIRECTIONS, PASS_BYTES // (8 * (len(self.point) + len(self.values)))))

    @property
    def is_large(self) -> bool:
        """Whether all lengths take minutes, so that they are better estimated."""
        return False

    @abstractmethod
    def rates(
        self, directions: Float[np.ndarray, "directions units"], *, precise: bool = False
    ) -> Float64[np.ndarray, "directions boundaries"]:
        """g_j·v, computed in the precision of the tail, or in double.

        Where x lies on boundaries, of the polytope that the ray enters: a direction then decides what is off and
        which of its tied inputs a window takes.
        """

    @abstractmethod
    def lengths(
        self, grow: Bool[np.ndarray, " units"], told: Told, sketch: int | None = None, seed: int = 0
    ) -> Float64[np.ndarray, " boundaries"]:
        """‖g_j‖₂, computed in the precision of the tail; of a pooling pair ‖∇û_i*‖ + ‖∇û_i‖, which is no less.

        Units that are to ``grow`` only count where they bring the boundary nearer by growing (see `only_growing`).
        ``sketch``: estimated from so many Gaussian directions, E(g_j·v)² = ‖g_j‖², as if no unit were to grow only.
        """

    def gradients(self, boundaries: Int64[np.ndarray, " some"]) -> Float64[np.ndarray, "some units"]:
        """g_j, a row a boundary."""
        import torch

        rows = np.empty((len(boundaries), len(self.point)))
        for numbers, margins in self._graphs:
            column = np.full(len(self.values), -1)
            column[numbers] = np.arange(len(numbers))
            chosen = np.flatnonzero(column[boundaries] >= 0)
            for first in range(0, len(chosen), ROWS):
                some = chosen[first : first + ROWS]
                picked = torch.zeros((len(some), *margins.shape), dtype=margins.dtype, device=margins.device)
                picked[np.arange(len(some)), 0, column[boundaries[some]]] = 1
                [found] = torch.autograd.grad(margins, self._x, picked, retain_graph=True, is_grads_batched=True)
                rows[some] = found[:, 0].double().cpu().numpy()
        return rows

    def _signed(self, preactivations: Tensor, numbers: Int64[np.ndarray, " columns"]) -> None:
        """Note the margins of some gates: s ẑ."""
        self.on[numbers] = (preactivations[0] > 0).cpu().numpy()
        signs = (preactivations > 0).to(preactivations.dtype) * 2 - 1
        self._add(preactivations * signs, numbers)

    def _add(self, margins: Tensor, numbers: Int64[np.ndarray, " columns"]) -> None:
        self.values[numbers] = margins[0].detach().double().cpu().numpy()
        self._graphs.append((numbers, margins))


def margins_at(tail: Tail, sites: Sequence[Site], point: Float[np.ndarray, " units"]) -> Margins:
    """The margins at a point: of the polytope itself for a piecewise linear tail, else of the linearisation there."""
    kind = StagedMargins if isinstance(tail, PiecewiseLinearTail) else SmoothMargins
    return kind(tail, sites, point)  # type: ignore[arg-type]


def only_growing(
    gradients: Float64[np.ndarray, "some units"], grow: Bool[np.ndarray, " units"]
) -> Float64[np.ndarray, "some units"]:
    """Gradients without the entries by which a margin falls as a unit that is to grow only shrinks.

    The nearest point of a boundary that is reached from x by steps in which these units do not shrink lies along
    −g with those entries 0: the projection of −g on the cone of such steps.
    """
    return np.where(grow & (gradients > 0), 0.0, gradients)


# --- piecewise linear --------------------------------------------------------------------------------------------


_Squares = tuple[Float64[np.ndarray, " gates"], dict[int, Float64[np.ndarray, " entries"]]]


@dataclass(frozen=True, eq=False)
class _Step(At):
    """A stage at the point, in one precision. ``offset``: its preactivations of a state that is 0."""

    offset: Tensor

    def rates(self, tangent: tuple[Tensor, ...]) -> Tensor:
        """Of the preactivations, an affine function of the state: f(v) − f(0)."""
        return self.stage.preactivations(tangent) - self.offset

    def after(self, tangent: tuple[Tensor, ...], rates: Tensor, leaving: bool) -> tuple[Tensor, ...]:
        """Of the state that the stage leaves: ReLU and max-pooling as they are at the point, or, with ``leaving``,
        as they are just beside it, on the way along each direction."""
        from torch.func import jvp, vmap

        def derivative(along: tuple[Tensor, ...], rate: Tensor) -> tuple[Tensor, ...]:
            at, values = self.state, self.preactivations
            if leaving:
                step = BESIDE[str(rate.dtype)]
                at = tuple(part + step * change for part, change in zip(at, along, strict=True))
                values = values + step * rate
            found: tuple[Tensor, ...] = jvp(self.stage.advance, (at, values), (along, rate))[1]
            return found

        parts = vmap(derivative)(tuple(part[:, None] for part in tangent), rates[:, None])
        return tuple(_laid_out(part[:, 0]) for part in parts)


class StagedMargins(Margins):
    """Of a piecewise linear tail, stage by stage."""

    exact = True

    def __init__(self, tail: PiecewiseLinearTail, sites: Sequence[Site], point: Float[np.ndarray, " units"]) -> None:
        import torch

        super().__init__(tail, sites, point, torch.float64)
        self.precise = precise = tail.precise()
        starts = starts_of(self.sites)
        self._numbers = [gate_numbers(stage, starts) for stage in needed_stages(precise, starts)]
        self.values, self.on = np.empty(self.n_gates), np.empty(self.n_gates, bool)
        self._pairs: list[Pairs | None] = []
        self._tied_above = False  # whether inputs of a window are tied that are not 0
        self._steps: dict[bool, list[_Step]] = {False: [], True: []}  # by whether they are precise
        state = precise.enter(self._x)
        # Two entries are one function of the activation if they have one value and one rate in a random direction.
        along = precise.enter(torch.randn(self._x.shape, generator=torch.Generator().manual_seed(0)).to(self._x))
        known = np.empty(0, complex)
        for stage, quick, numbers in zip(precise.stages, tail.stages, self._numbers, strict=False):
            values = stage.preactivations(state)
            self._signed(values, numbers)
            pairs = _pairs(stage, state, along, known)
            for steps, kind, like in ((self._steps[True], stage, precise), (self._steps[False], quick, tail)):
                steps.append(_step(kind, state, values, like.dtype))
            rates = self._steps[True][-1].rates(along)
            known = np.concatenate([known, _as_complex(values[0], rates[0])[self.on[numbers]]])
            along = self._steps[True][-1].after(along, rates, leaving=False)
            self._pairs.append(pairs)
            if pairs is not None:
                places = len(self.values) + np.arange(len(pairs.taken))
                self.values = np.append(self.values, np.empty(len(places)))
                self._add(_differences(state, pairs), places)
                tied = pairs.taken[self.values[places] == 0]
                self._tied_above |= bool((_flat(state)[0].detach().cpu().numpy()[tied] != 0).any())
            state = stage.advance(state, values)
        self.pairs = tuple(
            _named(pairs, self.precise.stages[i:]) for i, pairs in enumerate(self._pairs) if pairs is not None
        )

    @property
    def is_large(self) -> bool:
        return len(self._felt) > (MOST_UNITS if self._block_walk is None else MOST_IN_BLOCKS)

    def rates(
        self, directions: Float[np.ndarray, "directions units"], *, precise: bool = False
    ) -> Float64[np.ndarray, "directions boundaries"]:
        found = np.empty((len(directions), len(self.values)))
        precise = precise or self._tied_above
        signs = np.where(self.on, 1.0, -1.0)
        for first in range(0, len(directions), self.at_once):
            rows = slice(first, first + self.at_once)
            place = self.n_gates
            for number, rates, tangent in self._walk(
                LONG * directions[rows], precise, bool((self.values == 0).any())
            ):
                gates, pairs = self._numbers[number], self._pairs[number]
                found[rows, gates] = rates.cpu().numpy() * (signs[gates] / LONG)
                if pairs is not None:
                    columns = slice(place, place := place + len(pairs.taken))
                    found[rows, columns] = _differences(tangent, pairs).cpu().numpy() / LONG
        return found

    def lengths(
        self, grow: Bool[np.ndarray, " units"], told: Told, sketch: int | None = None, seed: int = 0
    ) -> Float64[np.ndarray, " boundaries"]:
        walk = None if sketch else self._block_walk
        if walk is None:
            squares, entries = self._squares(grow, told, sketch, seed)
        else:
            squares, entries = self._squares_by_blocks(walk, grow, told)
        found = [np.sqrt(squares)]
        for number, pairs in enumerate(self._pairs):
            if pairs is not None and number:
                each = np.sqrt(entries[number])
                found.append(each[pairs.taken] + each[pairs.other])
            elif pairs is not None:  # entries of the first state are units: ‖e_i* − e_i‖
                found.append(np.full(len(pairs.taken), 2**0.5))
        return np.concatenate(found)

    def _squares(self, grow: Bool[np.ndarray, " units"], told: Told, sketch: int | None, seed: int) -> _Squares:
        """‖g_j‖² of the gates, and by the number of a stage ‖∇û‖² of the entries of the state that it pools."""
        import torch

        signs = torch.from_numpy(np.where(self.on, 1, -1)).to(self.tail.device, self.tail.dtype)
        squares = torch.zeros(self.n_gates, dtype=torch.float64, device=self.tail.device)
        entries: dict[int, Tensor] = {}
        for directions, growing in self._directions(grow, told, sketch, seed):
            for number, rates, tangent in self._walk(LONG * directions):
                gates = self._numbers[number]
                if growing.any():
                    rates[growing] = (rates[growing] * signs[gates]).clamp(max=0)
                squares[gates] += rates.square().sum(0).double()
                if number and self._pairs[number] is not None:
                    entries[number] = entries.get(number, 0) + _flat(tangent).square().sum(0).double()
        return (squares / LONG**2).cpu().numpy(), {
            number: (each / LONG**2).cpu().numpy() for number, each in entries.items()
        }

    def _squares_by_blocks(self, walk: BlockWalk, grow: Bool[np.ndarray, " units"], told: Told) -> _Squares:
        """The same, of all units."""
        import torch

        squares, units = np.zeros(self.n_gates), walk.together(self._felt)
        entries = {
            number: np.zeros(sum(int(np.prod(shape)) for shape in pairs.shapes))
            for number, pairs in enumerate(self._pairs)
            if pairs is not None
        }
        for first in range(0, len(units), UNITS):
            told(first / len(units))
            some = units[first : first + UNITS]
            growing = torch.from_numpy(grow[some]).to(self.tail.device)
            for number, moved in enumerate(walk.along(some)):
                gates = self._numbers[number][moved.gates]
                if growing.any():
                    signs = torch.from_numpy(np.where(self.on[gates], 1, -1)[:, None]).to(moved.rates)
                    moved.rates[:, growing] = (moved.rates[:, growing] * signs).clamp(max=0)
                squares[gates] += _squared_norms(moved.rates)
                if number in entries:
                    entries[number][moved.entries] += _squared_norms(moved.tangents)
        return squares, entries

    @cached_property
    def _block_walk(self) -> BlockWalk | None:
        """The way by blocks, where those of all stages are known."""
        tail = self.tail
        assert isinstance(tail, PiecewiseLinearTail)
        stages = tail.stages[: len(self._numbers)]
        if not all(isinstance(stage, BlockStage) for stage in stages):
            return None
        return BlockWalk(tail, stages, self._steps[True], len(self.point))  # type: ignore[arg-type]

    def _directions(
        self, grow: Bool[np.ndarray, " units"], told: Told, sketch: int | None, seed: int
    ) -> Iterator[tuple[Float64[np.ndarray, "directions units"], Bool[np.ndarray, " directions"]]]:
        """Directions whose squared rates sum up to squared lengths, in batches: the unit vectors of all units that
        are felt, or Gaussian ones; and which of them are of a unit that is to grow only."""
        n, units = len(self.point), np.empty(0, np.int64) if sketch else self._felt
        rng, total = np.random.default_rng([seed, 14]), sketch or len(units)
        for first in range(0, total, self.at_once):
            told(first / total)
            count = min(self.at_once, total - first)
            if sketch:
                yield rng.standard_normal((count, n)) / np.sqrt(sketch), np.zeros(count, bool)
                continue
            basis = np.zeros((count, n))
            some = units[first : first + count]
            basis[np.arange(count), some] = 1
            yield basis, grow[some]

    def _walk(
        self, directions: Float[np.ndarray, "directions units"], precise: bool = False, leaving: bool = False
    ) -> Iterator[tuple[int, Tensor, tuple[Tensor, ...]]]:
        """Of each stage its number, the rates of its preactivations, and those of the state before it."""
        import torch

        tail = self.precise if precise else self.tail
        with torch.no_grad():
            entered = tail.enter(torch.from_numpy(directions).to(tail.device, tail.dtype))  # type: ignore[attr-defined]
            tangent = tuple(_laid_out(part) for part in entered)
            for number, step in enumerate(self._steps[precise]):
                rates = step.rates(tangent)
                yield number, rates, tangent
                if number + 1 < len(self._numbers):
                    tangent = step.after(tangent, rates, leaving)

    @cached_property
    def _felt(self) -> Int64[np.ndarray, " units"]:
        """Units on which some margin beyond the first pooling depends: the others have no rates to sum up. Of a
        random sum of margins the derivative by any other unit is 0."""
        import torch

        random = torch.Generator().manual_seed(0)
        first = self._pairs[0] is not None
        graphs = [g for i, g in enumerate(self._graphs) if not (first and i == 1)]
        total = sum((torch.randn(g.shape, generator=random).to(g) * g).sum() for _, g in graphs)
        [slope] = torch.autograd.grad(total, self._x, retain_graph=True)  # type: ignore[arg-type]
        return np.flatnonzero(slope[0].cpu().numpy())


def _step(stage: Stage, state: tuple[Tensor, ...], values: Tensor, dtype: object) -> _Step:
    import torch

    with torch.no_grad():
        at = tuple(part.detach().to(dtype) for part in state)  # type: ignore[call-overload]
        return _Step(
            stage,
            at,
            values.detach().to(dtype),  # type: ignore[call-overload]
            stage.preactivations(tuple(torch.zeros_like(part) for part in at)),
        )


def _squared_norms(rows: Tensor) -> Float64[np.ndarray, " rows"]:
    import torch

    return torch.linalg.vector_norm(rows, dim=1).double().square().cpu().numpy()


def _laid_out(part: Tensor) -> Tensor:
    """Grids with their channels last: convolutions of many small ones are twice as fast."""
    import torch

    return part.contiguous(memory_format=torch.channels_last) if part.ndim == 4 else part


def _flat(state: tuple[Tensor, ...]) -> Tensor:
    """All entries of a state, a row a point."""
    import torch

    return torch.cat([part.flatten(1) for part in state], dim=1)


def _differences(state: tuple[Tensor, ...], pairs: Pairs) -> Tensor:
    """û_i* − û_i."""
    import torch

    flat = _flat(state)
    taken, other = (torch.from_numpy(entry).to(flat.device) for entry in (pairs.taken, pairs.other))
    return flat.index_select(1, taken) - flat.index_select(1, other)


def _as_complex(values: Tensor, rates: Tensor) -> np.ndarray:
    found: np.ndarray = values.detach().cpu().numpy() + 1j * rates.detach().cpu().numpy()
    return found


def _pairs(stage: Stage, state: tuple[Tensor, ...], along: tuple[Tensor, ...], gates: np.ndarray) -> Pairs | None:
    """The pairs of a stage's windows; ``along``: rates of the state; ``gates``: values and rates of all on.

    No boundary: an input that is the same function as the one taken; and one that is off, thus 0 all over the
    polytope, where the one taken is the output of a gate, for that gate's boundary is the same.
    """
    import torch

    ends = [0, *accumulate(part[0].numel() for part in state)]
    numbered = [
        torch.arange(end - part[0].numel(), end).to(part).reshape(part.shape)
        for part, end in zip(state, ends[1:], strict=True)
    ]
    choices = stage.windows(tuple(numbered))[0].cpu().numpy()
    if not len(choices):
        return None
    switches = stage.switches(state)[0].cpu().numpy().astype(np.int64)
    entries = np.maximum(choices, 0).astype(np.int64)  # −inf over an edge
    taken = np.broadcast_to(np.take_along_axis(entries, switches[:, None], axis=1), entries.shape)
    function = _as_complex(_flat(state)[0], _flat(along)[0])
    redundant = (function[entries] == 0) & np.isin(function, gates)[taken]
    kept = (choices >= 0) & (function[entries] != function[taken]) & ~redundant
    found = np.unique(taken[kept] * ends[-1] + entries[kept])
    return Pairs("", found // ends[-1], found % ends[-1], tuple(tuple(part.shape[1:]) for part in state))


def _named(pairs: Pairs, stages: Sequence[Stage]) -> Pairs:
    site = next(name for stage in stages for name, _ in stage.gates)
    return Pairs(site, pairs.taken, pairs.other, pairs.shapes)


# --- smooth ------------------------------------------------------------------------------------------------------


class SmoothMargins(Margins):
    """Of the linearisation of any tail at the point, from its gradients."""

    exact = False

    def __init__(self, tail: Tail, sites: Sequence[Site], point: Float[np.ndarray, " units"]) -> None:
        super().__init__(tail, sites, point, tail.dtype)
        self.precise = tail
        self.values, self.on = np.empty(self.n_gates), np.empty(self.n_gates, bool)
        _, preactivations = tail.preactivations(self._x, self.sites)
        for name, start in starts_of(self.sites).items():
            self._signed(preactivations[name], np.arange(start, start + preactivations[name].shape[1]))

    def rates(
        self, directions: Float[np.ndarray, "directions units"], *, precise: bool = False
    ) -> Float64[np.ndarray, "directions boundaries"]:
        return np.concatenate([directions @ rows.T for rows in self._rows(lambda share: None)], axis=1)

    def lengths(
        self, grow: Bool[np.ndarray, " units"], told: Told, sketch: int | None = None, seed: int = 0
    ) -> Float64[np.ndarray, " boundaries"]:
        return np.concatenate([np.linalg.norm(only_growing(rows, grow), axis=1) for rows in self._rows(told)])

    def _rows(self, told: Told) -> Iterator[Float64[np.ndarray, "some units"]]:
        for first in range(0, self.n_gates, ROWS):
            told(first / self.n_gates)
            yield self.gradients(np.arange(first, min(first + ROWS, self.n_gates)))
