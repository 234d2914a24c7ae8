"""Any module of torch from a site onward, as a function of that site's activation: its tape, cut there.

The activation takes the place of the site's tensor. What else later operations read, computed before it (a skip
connection that flows past the site), is held as it is for one input. Where nothing is held, no input is needed.

Stages (`atlas.tails.Stage`) are made from the tape. A stage's state holds *entries*: tensors that gates and pooling
gave out in earlier stages, or that affine operations made of those. From the state follow, by the operations between,
the preactivations of the stage's gates; pooling reads entries as they are. Operations that are needed later still run
where they can first, so that no stage computes what an earlier one could hand on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from atlas.errors import UnsupportedNetwork, UsageError
from atlas.network import FULL_SUFFIX, GateRange, Site, View, whole_scope
from atlas.network import INPUT as INPUT_SITE
from atlas.tails import PiecewiseLinearTail

from .exactness import SWITCHING, breaking_operations
from .gates import Gate, Threshold
from .inceptionv1 import float32_convolutions
from .replay import Replay, repeated
from .sites import Axes, axes
from .tails import PiecewiseTail, Pooling, StagedTail, State
from .tape import INPUT, Operation, Tape, Times, Value

if TYPE_CHECKING:
    from .module import ModuleNetwork

MOST_CHOICES = 256
"""Inputs of a pooling window, of which a byte says one."""


def module_tail(network: ModuleNetwork, site: Site, work: View | None) -> StagedTail:
    """The part of a network after a whole site, or after its inputs.

    Raises `UsageError` or `UnsupportedNetwork` where the network can't be cut there, and the first where an input is
    needed and none given.
    """
    return _Cut(network, site).tail(network, work, torch.float32)


def cut_in_words(network: ModuleNetwork, site: Site) -> str:
    """How the network can be run onward from a site: ``yes``, ``with add held``, or why not."""
    try:
        cut = _Cut(network, site)
    except (UsageError, UnsupportedNetwork) as error:
        return str(error)
    return f"yes, {site.bypassed_by} held" if cut.carried else "yes"


class _Cut:
    """A tape cut at the tensor of a site."""

    def __init__(self, network: ModuleNetwork, site: Site) -> None:
        tape = network.tape
        if site.scope != whole_scope(network.sites):
            raise UsageError(
                f"the activation at {site.name} is one position's, and what comes after reads all of them; start at "
                f"{site.name}{FULL_SUFFIX}"
            )
        if tape.blurred:
            raise UsageError(f"{network.info.name} can't be run on from {site.name}: {tape.blurred}")
        self.site, self.tape = site, tape
        self.later = tuple(s for s in network.sites if s.scope == site.scope and s.ordinal > site.ordinal)
        self.start, self.axes = _start(network, site)
        self.output = _scores(tape)
        self.gates = {gate.operation: gate for later in self.later for gate in network.block(later).gates}
        self.ranges = {
            gate.operation: (later, ranges) for later in self.later for gate, ranges in _ranges(network, later)
        }
        self.gate_axes = network.gate_axes
        self._find_needed(network.info.name)
        breaking = breaking_operations(tape, network.gates, set(self.gates), self.start)
        self.broken_by = next((breaking[i] for i in sorted(self.needed) if i in breaking), "")

    def _find_needed(self, name: str) -> None:
        """Operations that run again, and what they read that does not depend on the activation."""
        live: set[int] = set()
        for index, operation in enumerate(self.tape.operations):
            if index in self.gates or any(v == self.start or v.operation in live for v in operation.inputs):
                live.add(index)
        self.needed = set[int]()
        carried: dict[Value, None] = {}
        pending, seen = [self.output, *(self.tape.operations[i].args[0] for i in self.gates)], {self.start}
        reached = self.output == self.start
        while pending:
            value = pending.pop()
            reached |= value == self.start
            if value in seen:
                continue
            seen.add(value)
            if value.operation in live:
                self.needed.add(value.operation)
                pending += self.tape.operations[value.operation].inputs
            else:
                carried[value] = None
        self.carried = {
            value: axes(self.tape.shape(value), 0, f"what flows past {self.site.name}")
            for value in sorted(carried, key=lambda value: (value.operation, value.item))
        }
        if not reached:
            raise UsageError(f"{name} can't be run on from {self.site.name}: nothing that comes after reads it")

    @cached_property
    def pools(self) -> dict[int, Pooling]:
        """Max-pooling that can be followed window by window."""
        found = {index: _pooling(self.tape, self.tape.operations[index]) for index in self.needed}
        return {index: pooling for index, pooling in found.items() if pooling is not None}

    @property
    def is_staged(self) -> bool:
        """Whether it can be followed stage by stage: it is piecewise linear and continuous, and states have rows."""
        others = [i for i in self.needed - set(self.pools) if SWITCHING.fullmatch(self.tape.operations[i].name)]
        return (
            not self.broken_by
            and not others
            and not any(gate.jumps for gate in self.gates.values())
            and all(_rows(self.tape, value) is not None for part in self.plan.states for value in part)
        )

    @cached_property
    def plan(self) -> _Plan:
        return _planned(self)

    def tail(self, network: ModuleNetwork, work: View | None, dtype: torch.dtype) -> StagedTail:
        """The tail in single or double precision."""
        if self.carried and work is None:
            raise UsageError(
                f"what comes after {self.site.name} also reads what was computed before it "
                f"({self.site.bypassed_by}); give an example's input, for which that is held as it is"
            )
        replay = Replay(self.tape, dtype)
        held = self._held(network, work, replay)
        stages = [_Stage(self, replay, held, number) for number in range(self.plan.n_stages)]
        shape = self.tape.shape(self.start)
        last = self.plan.states[-1]

        def enter(activations: Tensor) -> State:
            return (_as_rows(self.tape, self.start, self.axes.restored(activations, shape)),)

        def leave(state: State) -> Tensor:
            batch = _batch(self.tape, last[0], state[0])
            [scores] = replay.run(_known(self, held, last, state, batch), [self.output], batch)
            return _as_rows(self.tape, self.output, scores).reshape(batch, -1)

        common: dict[str, Any] = {
            "names": _names(network, self.tape, self.output),
            "like": torch.empty(0, dtype=dtype, device=network.device),
            "around": float32_convolutions,
            "unsettable": [
                later.name for later in self.later if not all(g.is_settable for g in network.block(later).gates)
            ],
        }
        fixed = f"what flows past {self.site.name} ({self.site.bypassed_by}) is held as it is for one input"
        remark = fixed if self.carried else ""
        if self.is_staged:

            def precise() -> PiecewiseLinearTail:
                tail = self.tail(network, work, torch.float64)
                assert isinstance(tail, PiecewiseTail)
                return tail

            return PiecewiseTail(
                self.site, self.later, stages, enter, leave, precise_tail=precise, remark=remark, **common
            )
        said = [
            f"from {self.site.name} to the output the network is not piecewise linear ({self.broken_by}): codes are "
            "signs of preactivations, not exact regions"
            if self.broken_by
            else f"from {self.site.name} to the output the network is affine where no gate and no pooling switch "
            "changes; boundaries are found by sampling"
        ]
        remark = "; ".join([*said, remark] if remark else said)
        return StagedTail(
            self.site, self.later, stages, enter, leave, exact=not self.broken_by, remark=remark, **common
        )

    @torch.no_grad()
    def _held(self, network: ModuleNetwork, work: View | None, replay: Replay) -> dict[Value, Tensor]:
        if not self.carried:
            return {}
        with float32_convolutions():
            found = replay.run({INPUT: network.prepare([work]).to(replay.dtype)}, list(self.carried), batch=1)
        return dict(zip(self.carried, found, strict=True))


def _start(network: ModuleNetwork, site: Site) -> tuple[Value, Axes]:
    """The tensor that the activations of a site are, and its axes."""
    if site.name == INPUT_SITE:
        shape = network.tape.shape(INPUT)
        return INPUT, axes(shape, min(1, len(shape) - 1), "the input")
    block = network.block(site)
    return block.output, network.output_axes[block.name]


def _scores(tape: Tape) -> Value:
    """What the network returns; of probabilities the logits."""
    if tape.output is None:
        raise UsageError("the network returns no tensor that depends on its input, so nothing can be run onward")
    last = tape.output.operation
    if last >= 0 and tape.operations[last].name in ("softmax", "log_softmax"):
        [logits] = tape.operations[last].inputs
        return logits
    return tape.output


def _ranges(network: ModuleNetwork, site: Site) -> list[tuple[Gate, list[GateRange]]]:
    """The bits of each gate of a site, a range a threshold."""
    ranges = iter(site.layout)
    return [(gate, [next(ranges) for _ in gate.thresholds]) for gate in network.block(site).gates]


def _names(network: ModuleNetwork, tape: Tape, output: Value) -> tuple[str, ...]:
    shape = tape.shape(output)
    numbers = 1
    for size in shape:
        numbers *= 1 if isinstance(size, Times) else size
    if len(network.classes) == numbers:
        return network.classes
    return tuple(f"output {number}" for number in range(numbers))


# --- where operations run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """``states``: what the state before each stage holds, and after the last. ``gates`` and ``pools``: by stage, the
    operations that are those."""

    states: tuple[tuple[Value, ...], ...]
    gates: tuple[tuple[int, ...], ...]
    pools: tuple[tuple[int, ...], ...]

    @property
    def n_stages(self) -> int:
        return len(self.gates)


def _planned(cut: _Cut) -> _Plan:
    """Each operation at the first stage where all it reads is known.

    ``ready``: the first stage whose state, or what affine operations make of it, has a value. ``kept``: the first
    whose state can hold it.
    """
    ready, kept = {cut.start: 0}, {cut.start: 0}
    used: dict[Value, int] = {}  # the last stage that reads a value
    gates: dict[int, list[int]] = {}
    pools: dict[int, list[int]] = {}
    reached: dict[int, int] = {}  # by ordinal of a site, the last stage of its gates
    for index in sorted({*cut.needed, *cut.gates}):
        operation = cut.tape.operations[index]
        inputs = [value for value in operation.inputs if value in ready]
        stage = max((ready[value] for value in inputs), default=0)
        if index in cut.gates:
            # No gate before those of an earlier site: a span that ends there holds the first stages alone.
            ordinal = cut.ranges[index][0].ordinal
            stage = max([stage, *(1 + last for other, last in reached.items() if other < ordinal)])
            reached[ordinal] = max(stage, reached.get(ordinal, 0))
            gates.setdefault(stage, []).append(index)
        elif index in cut.pools:
            stage = max(stage, kept[inputs[0]])
            pools.setdefault(stage, []).append(index)
        for value in inputs:
            used[value] = max(stage, used.get(value, 0))
        is_entry = index in cut.gates or index in cut.pools
        for item in range(len(operation.shapes)):
            ready[Value(index, item)] = stage + is_entry
            kept[Value(index, item)] = stage + 1
    n_stages = 1 + max([-1, *gates, *pools])
    used[cut.output] = n_stages
    states = tuple(
        tuple(
            v
            for v, last in sorted(used.items(), key=lambda u: (u[0].operation, u[0].item))
            if _lies(v, s, last, kept)
        )
        for s in range(n_stages + 1)
    )
    return _Plan(
        states,
        tuple(tuple(gates.get(stage, ())) for stage in range(n_stages)),
        tuple(tuple(pools.get(stage, ())) for stage in range(n_stages)),
    )


def _lies(value: Value, stage: int, last: int, kept: Mapping[Value, int]) -> bool:
    """Whether a value lies in the state before a stage: it can, and that stage or a later one reads it."""
    return value in kept and kept[value] <= stage <= last


class _Stage:
    """A stage of a tape: `atlas.tails.Stage`, where what it computes is piecewise linear."""

    def __init__(self, cut: _Cut, replay: Replay, held: Mapping[Value, Tensor], number: int) -> None:
        self._cut, self._replay, self._held = cut, replay, held
        self._before, self._after = cut.plan.states[number : number + 2]
        self._gates = [cut.gates[index] for index in cut.plan.gates[number]]
        self._z: list[Value] = [cut.tape.operations[gate.operation].args[0] for gate in self._gates]
        self._pools = [(cut.tape.operations[i].inputs[0], cut.pools[i]) for i in cut.plan.pools[number]]
        self.gates = tuple(
            (cut.ranges[gate.operation][0].name, ranges)
            for gate in self._gates
            for ranges in cut.ranges[gate.operation][1]
        )

    def preactivations(self, state: State) -> Float[Tensor, "points gates"]:
        batch = self._batch(state)
        columns = [state[0].new_zeros((batch, 0))]
        found = self._replay.run(self._known(state, batch), self._z, batch)
        for gate, values in zip(self._gates, found, strict=True):
            z = gate.z([values, *self._cut.tape.operations[gate.operation].args[1:]])
            axes = self._cut.gate_axes[gate.operation]
            for threshold in gate.thresholds:
                beyond = z if _is_zero(threshold) else z - self._replay.constant(threshold)
                columns.append(axes.arranged(beyond).flatten(1))
        return torch.cat(columns, dim=1)

    def windows(self, state: State) -> Float[Tensor, "points windows choices"]:
        tiles = [pooling.windows(values) for values, pooling in self._pooled(state)]
        most = max((tile.shape[2] for tile in tiles), default=1)
        none = state[0].new_zeros((self._batch(state), 0, most))
        fit = [torch.nn.functional.pad(tile, (0, most - tile.shape[2]), value=float("-inf")) for tile in tiles]
        return torch.cat([none, *fit], dim=1)

    def switches(self, state: State) -> UInt8[Tensor, "points windows"]:
        none = torch.zeros((self._batch(state), 0), dtype=torch.uint8, device=state[0].device)
        return torch.cat([none, *(pooling.switches(values) for values, pooling in self._pooled(state))], dim=1)

    def advance(self, state: State, preactivations: Float[Tensor, "points gates"]) -> State:
        batch = self._batch(state)
        known, start = self._known(state, batch), 0
        for gate, value in zip(self._gates, self._z, strict=True):
            _, ranges = self._cut.ranges[gate.operation]
            for threshold, run in zip(gate.thresholds, ranges, strict=True):
                columns = preactivations[:, start : start + run.count]
                start += run.count
                # Beyond another threshold z has lost digits: where it can't be set, it is computed once more.
                if gate.is_settable or (_is_zero(threshold) and not gate.is_halved):
                    beyond = self._cut.gate_axes[gate.operation].restored(columns, self._cut.tape.shape(value))
                    known[value] = beyond if _is_zero(threshold) else beyond + self._replay.constant(threshold)
        found = self._replay.run(known, self._after, batch)
        return tuple(_as_rows(self._cut.tape, v, tensor) for v, tensor in zip(self._after, found, strict=True))

    def _batch(self, state: State) -> int:
        return _batch(self._cut.tape, self._before[0], state[0])

    def _known(self, state: State, batch: int) -> dict[Value, Tensor]:
        return _known(self._cut, self._held, self._before, state, batch)

    def _pooled(self, state: State) -> list[tuple[Tensor, Pooling]]:
        """What each pooling layer reads, as a grid."""
        at = [(state[self._before.index(value)], pooling) for value, pooling in self._pools]
        return [(values if values.ndim == 4 else values[:, :, None], pooling) for values, pooling in at]


def _is_zero(threshold: Threshold) -> bool:
    return not isinstance(threshold, Tensor) and threshold == 0


def _known(
    cut: _Cut, held: Mapping[Value, Tensor], values: Sequence[Value], state: State, batch: int
) -> dict[Value, Tensor]:
    """All that a stage can compute from."""
    known = {value: repeated(tensor, cut.carried[value].batch, batch) for value, tensor in held.items()}
    for value, rows in zip(values, state, strict=True):
        axis = _rows(cut.tape, value)
        known[value] = rows if axis is None else rows.movedim(0, axis)
    return known


def _rows(tape: Tape, value: Value) -> int | None:
    """The axis of a tensor along which its inputs lie; None where they share it with something else."""
    batches = [(axis, size.factor) for axis, size in enumerate(tape.shape(value)) if isinstance(size, Times)]
    return batches[0][0] if len(batches) == 1 and batches[0][1] == 1 else None


def _as_rows(tape: Tape, value: Value, tensor: Tensor) -> Tensor:
    """A tensor with a row an input, where it has an axis for them."""
    axis = _rows(tape, value)
    return tensor if axis is None else tensor.movedim(axis, 0)


def _batch(tape: Tape, value: Value, tensor: Tensor) -> int:
    """How many inputs a tensor of a state is of."""
    if _rows(tape, value) is not None:
        return len(tensor)
    [axis, size] = next((axis, size) for axis, size in enumerate(tape.shape(value)) if isinstance(size, Times))
    return tensor.shape[axis] // int(size.factor)


def _pooling(tape: Tape, operation: Operation) -> Pooling | None:
    """The windows of a max-pooling operation; None of another, and of one that can't be followed."""
    dims = {"max_pool1d": 1, "max_pool2d": 2}.get(operation.name)
    if dims is None or len(tape.shape(operation.inputs[0])) != dims + 2 or _rows(tape, operation.inputs[0]) != 0:
        return None
    said = [*operation.args[1:], *([], 0, 1, False)[len(operation.args) - 2 :]]
    kernel, stride, padding, dilation = (
        _both(numbers, dims) for numbers in (said[0], said[1] or said[0], *said[2:4])
    )
    if dilation[2 - dims :] != (1,) * dims or kernel[0] * kernel[1] > MOST_CHOICES:
        return None
    if dims == 1:
        padding = (0, padding[1])
    return Pooling(kernel, stride, padding, bool(said[4]))


def _both(numbers: int | Sequence[int], dims: int) -> tuple[int, int]:
    """A number for rows and one for columns; of one dimension, a row."""
    given = [numbers] * dims if isinstance(numbers, int) else [*numbers] * (dims if len(numbers) == 1 else 1)
    return (1, given[0]) if dims == 1 else (given[0], given[1])
