"""Rates of margins along unit vectors, block by block: what is 0 is neither held nor multiplied.

Near the start of a span a unit moves what is under a few kernels; further on only what is on moves. A convolution, at
one place of its output, is a dense block (`atlas.tails.Block`): of its rows those are taken whose entries move along
some unit of a batch. Entries lie in rows, units in columns, so that to take some is to copy rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int64

from atlas.tails import Block, BlockStage, PiecewiseLinearTail, Stage

if TYPE_CHECKING:
    from torch import Tensor

UNITS = 512
"""Units of a batch: 256 take half as long again, since rows of weights are copied for each batch."""


@dataclass(frozen=True, eq=False)
class At:
    """A stage at a point, in double precision."""

    stage: Stage
    state: tuple[Tensor, ...]
    preactivations: Tensor


@dataclass(frozen=True, eq=False)
class Moved:
    """Of a stage: preactivations that move along some units, and entries of the state before it, each with its rates
    by unit."""

    gates: Int64[np.ndarray, " some"]
    rates: Float[Tensor, "some units"]
    entries: Int64[np.ndarray, " moving"]
    tangents: Float[Tensor, "moving units"]


@dataclass(frozen=True, eq=False)
class _Step:
    """A stage's blocks, and what each entry of the state after it is: entry i of the state before, preactivation
    i − ``entries``, or 0 (−1)."""

    blocks: tuple[Block, ...]
    entries: int
    gates: int
    sources: Int64[np.ndarray, " entries_after"]


class BlockWalk:
    """The way from the units of a site through stages whose blocks are known."""

    def __init__(self, tail: PiecewiseLinearTail, stages: Sequence[BlockStage], at: Sequence[At], units: int) -> None:
        """``stages``: those of ``tail``, in whose precision rates are computed; ``at``: the same at the point."""
        import torch

        self._like = torch.empty(0, dtype=tail.dtype, device=tail.device)
        self._steps = [
            _Step(
                tuple(stage.blocks(here.state)),
                sum(part[0].numel() for part in here.state),
                here.preactivations.shape[1],
                _sources(here),
            )
            for stage, here in zip(stages, at, strict=True)
        ]
        numbers = torch.arange(units, dtype=torch.float64)[None]
        [entered] = _flat(tail.enter(numbers.to(tail.device)))
        self._entry_of = np.argsort(entered)  # by unit

    def together(self, units: Int64[np.ndarray, " units"]) -> Int64[np.ndarray, " units"]:
        """The units, those beside each other that are read by the same blocks."""
        first, entry = np.zeros(len(self._entry_of), np.int64), np.arange(len(self._entry_of))
        for step in self._steps:
            for number, block in reversed([*enumerate(step.blocks)]):
                first[entry[block.inputs]] = number
            if step.blocks:
                break
            entry = entry[step.sources]  # pooling alone: what it takes
        order: Int64[np.ndarray, " units"] = units[np.argsort(first[self._entry_of[units]], kind="stable")]
        return order

    def along(self, units: Int64[np.ndarray, " units"]) -> Iterator[Moved]:
        """What moves in each stage along each of the unit vectors."""
        import torch

        entries, tangents = self._entry_of[units], torch.eye(len(units)).to(self._like)
        with torch.no_grad():
            for step in self._steps:
                gates, rates = self._multiplied(step, entries, tangents)
                yield Moved(gates, rates, entries, tangents)
                entries, tangents = self._after(step, gates, rates, entries, tangents)

    def _multiplied(
        self, step: _Step, entries: Int64[np.ndarray, " moving"], tangents: Tensor
    ) -> tuple[Int64[np.ndarray, " some"], Tensor]:
        import torch

        row = _rows(entries, step.entries)
        reading = [(block, np.flatnonzero(row[block.inputs] >= 0)) for block in step.blocks]
        reading = [(block, moving) for block, moving in reading if len(moving)]
        gates = np.concatenate([np.empty(0, np.int64), *(block.outputs for block, _ in reading)])
        rates = self._like.new_empty((len(gates), tangents.shape[1]))
        first = 0
        for block, moving in reading:
            weight = block.weight.index_select(0, self._index(block.rows[moving]))
            under = tangents.index_select(0, self._index(row[block.inputs[moving]]))
            torch.mm(weight.T, under, out=rates[first : first + len(block.outputs)])
            first += len(block.outputs)
        return gates, rates

    def _after(
        self, step: _Step, gates: Int64[np.ndarray, " some"], rates: Tensor, entries: np.ndarray, tangents: Tensor
    ) -> tuple[Int64[np.ndarray, " moving"], Tensor]:
        import torch

        after, parts = [], []
        for numbers, values in ((entries, tangents), (step.entries + gates, rates)):
            row = _rows(numbers, step.entries + step.gates)
            moving = np.flatnonzero((step.sources >= 0) & (row[step.sources] >= 0))
            after.append(moving)
            parts.append(values.index_select(0, self._index(row[step.sources[moving]])))
        return np.concatenate(after), torch.cat(parts)

    def _index(self, numbers: Int64[np.ndarray, " some"]) -> Tensor:
        import torch

        return torch.from_numpy(numbers).to(self._like.device)


def _rows(numbers: Int64[np.ndarray, " some"], n: int) -> Int64[np.ndarray, " n"]:
    """Of the numbers up to n the place at which each stands; −1 of the others."""
    row = np.full(n, -1)
    row[numbers] = np.arange(len(numbers))
    return row


def _sources(at: At) -> Int64[np.ndarray, " entries_after"]:
    """Which entry or preactivation each entry of the state after a stage is: with these numbered along a direction,
    its derivative is the number."""
    import torch
    from torch.func import jvp

    parts = (*at.state, at.preactivations)
    along, first = [], 1
    for part in parts:
        along.append(
            torch.arange(first, first + part.numel(), dtype=part.dtype, device=part.device).reshape(part.shape)
        )
        first += part.numel()
    numbers = jvp(at.stage.advance, (at.state, at.preactivations), (tuple(along[:-1]), along[-1]))[1]
    return _flat(numbers)[0].astype(np.int64) - 1


def _flat(state: tuple[Tensor, ...]) -> Float[np.ndarray, "points entries"]:
    import torch

    found: np.ndarray = torch.cat([part.flatten(1) for part in state], dim=1).detach().cpu().numpy()
    return found
