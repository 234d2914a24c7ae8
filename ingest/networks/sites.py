"""Sites of any network: the blocks that a person recognises, out of where its gates run.

Start with the whole network and open it: each of its parts that holds gates is a block, and so on inward. A container
(`nn.Sequential`) is always opened; a block of a class of its own only where each of its parts hands on one tensor and
nothing flows past it. So ``layer3`` of a ResNet becomes ``layer3.0`` and ``layer3.1``, but a residual block or an
inception block stays whole. A transformer's block is opened to the one part that holds gates, its MLP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from atlas.errors import UnknownName, UnsupportedNetwork, UsageError
from atlas.network import ELSEWHERE, FULL_SUFFIX, GateRange, Scope, Site

from .exactness import breaking_operations
from .gates import Gate, gates_of
from .tape import INPUT, PROBES, Operation, Tape, Times, Value

MOST_BLOCKS = 48
"""Opening stops before there are more: a ResNet-101 is read block by block, a ResNet-152 layer by layer."""

MOST_EXTRA_TOKENS = 8
"""Tokens before those of the patches: a class token, a few registers."""


@dataclass(frozen=True)
class Block:
    """Gates that are read together, and what is handed on after them.

    ``module``: the module whose output that is; None where it is what comes of the one gate, which a module that is
    opened runs itself.
    """

    name: str
    gates: tuple[Gate, ...]
    output: Value
    module: str | None


@dataclass(frozen=True)
class Axes:
    """Where a tensor has its inputs and channels; all other axes are places, as rows and columns.

    ``patches``: where the places are the patches of an image in a row, the patches a side, and how many tokens stand
    before them. ``share``: how many places of an input lie side by side along the axis of inputs, as windows do; the
    axes are those of the tensor in which these have an axis of their own.
    """

    batch: int
    channel: int
    channels: int
    rows: int
    columns: int
    has_places: bool
    patches: tuple[int, int] | None = None
    share: int = 1

    @property
    def grid(self) -> tuple[int, int] | None:
        return (self.rows, self.columns) if self.has_places else None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.rows, self.columns) if self.has_places else (self.channels,)

    def arranged(self, values: Tensor) -> Tensor:
        """The tensor with axes inputs, channels, rows, columns."""
        if values.ndim == 1:
            values = values[:, None]
        if self.share > 1:
            values = values.unflatten(self.batch, (-1, self.share))
        moved = values.movedim((self.batch, self.channel), (0, 1))
        return moved.reshape(len(moved), self.channels, self.rows, self.columns)

    def restored(self, rows: Tensor, shape: tuple[Any, ...]) -> Tensor:
        """The tensor of ``shape`` that is flat in the order inputs, channels, rows, columns."""
        if len(shape) == 1:
            return rows[:, 0]
        apart = _apart(shape, self.batch, self.share)
        places = [size for axis, size in enumerate(apart) if axis not in (self.batch, self.channel)]
        found = rows.reshape(len(rows), self.channels, *places).movedim((0, 1), (self.batch, self.channel))
        return found.flatten(self.batch, self.batch + 1) if self.share > 1 else found

    def cells(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Row and column of relative positions in [0, 1); of patches in a row, the patch that lies there."""
        rows, columns = positions[:, 0], positions[:, 1]
        if self.patches is not None:
            side, extra = self.patches
            place = extra + grid_index(rows, side) * side + grid_index(columns, side)
            return torch.zeros_like(place), place
        return grid_index(rows, self.rows), grid_index(columns, self.columns)


def grid_index(relative: Float[Tensor, " views"], size: int) -> Int64[Tensor, " views"]:
    """The cell of ``size`` in which a relative position in [0, 1) lies: min(⌊relative · size⌋, size − 1)."""
    return (relative * size).long().clamp(max=size - 1)


def find_blocks(tape: Tape, model: nn.Module, gates: Sequence[Gate], at: Sequence[str] | None) -> tuple[Block, ...]:
    """The blocks of a network, in order of their outputs; those of the modules ``at``, if given.

    Raises `UnsupportedNetwork` for a network without gates, `UnknownName` and `UsageError` for an ``at`` that names
    no module that holds gates.
    """
    if not gates:
        ran = sorted({operation.name for operation in tape.operations})
        raise UnsupportedNetwork(
            f"no gates: none of the operations that ran ({', '.join(ran)}) is an element-wise nonlinearity with "
            "known bits (ReLU, GELU, SiLU, hard-tanh, …); a network without them has no spline code"
        )
    finder = _Finder(tape, model, gates)
    return finder.chosen(at) if at is not None else finder.opened()


class _Finder:
    def __init__(self, tape: Tape, model: nn.Module, gates: Sequence[Gate]) -> None:
        self.tape, self.gates = tape, gates
        self.modules = dict(model.named_modules())
        self.flow = Flow(tape)

    def opened(self) -> tuple[Block, ...]:
        open_ = {""}
        blocks = self._blocks(open_)
        while True:
            further = {b.module for b in blocks if b.module is not None and self._opens(b, open_, len(blocks) == 1)}
            finer = self._blocks(open_ | further)
            if not further or len(finer) > max(MOST_BLOCKS, len(blocks)):
                return blocks
            open_, blocks = open_ | further, finer

    def chosen(self, at: Sequence[str]) -> tuple[Block, ...]:
        usual = {block.name: block for block in self.opened()}
        found = []
        for name in at:
            inside = tuple(gate for gate in self.gates if _within(gate.module, name))
            if name in usual:
                found.append(usual[name])
            elif name not in self.modules:
                raise UnknownName(f"no module {name!r} to read a site at; the sites are {', '.join(usual)}")
            elif not inside:
                raise UsageError(f"module {name} runs no gate; the sites are {', '.join(usual)}")
            else:
                found.append(self._block(name, inside))
        for first, second in pairwise(found):
            if set(first.gates) & set(second.gates):
                raise UsageError(f"sites {first.name} and {second.name} share gates; name one of them")
        return _in_order(found)

    def _blocks(self, open_: set[str]) -> tuple[Block, ...]:
        """What lies below the modules that are open."""
        groups: dict[str, list[Gate]] = {}
        single: list[tuple[str, Gate]] = []
        for gate in self.gates:
            # A list of modules is never run itself, so it is no block: what runs are the modules in it.
            owner = next((p for p in _paths(gate.module) if p not in open_ and p in self.tape.calls), None)
            again = owner is not None and len(self.tape.calls[owner]) > 1 and not list(self.modules[owner].children())
            if owner is None or again:
                single.append((gate.module if owner is None else owner.rpartition(".")[0], gate))
            else:
                groups.setdefault(owner, []).append(gate)
        found = [self._block(name, tuple(members)) for name, members in groups.items()]
        names = set(groups)
        for parent, gate in single:
            name = _unused(self._producer(parent, gate), names)
            names.add(name)
            found.append(Block(name, (gate,), self._handed_on(gate), None))
        return _in_order(found)

    def _block(self, name: str, members: tuple[Gate, ...]) -> Block:
        output = self.tape.calls[name][-1].output
        if output is None:
            raise UnsupportedNetwork(
                f"module {name} returns no tensor that depends on the input; name other sites (--sites-at)"
            )
        return Block(name, members, output, name)

    def _handed_on(self, gate: Gate) -> Value:
        """The output of a gate; where it only weighs z, as in z · (z > t) and in z · σ(z), the product."""
        value, z = Value(gate.operation), self.tape.operations[gate.operation].args[0]
        readers = [i for i, operation in enumerate(self.tape.operations) if value in operation.inputs]
        if len(readers) != 1:
            return value
        [reader] = readers
        weighs = self.tape.operations[reader].name == "mul" and z in self.tape.operations[reader].inputs
        return Value(reader) if gate.course == "steps" or weighs else value

    def _producer(self, parent: str, gate: Gate) -> str:
        """A name for a gate that ``parent`` runs itself: the module that z comes from."""
        value = next(iter(self.tape.operations[gate.operation].inputs))
        while value != INPUT:
            operation = self.tape.operations[value.operation]
            if operation.module != parent and _within(operation.module, parent):
                return operation.module
            value = operation.inputs[0]
        return f"{parent}.{gate.name}".lstrip(".")

    def _opens(self, block: Block, open_: set[str], trunk: bool) -> bool:
        assert block.module is not None
        module = self.modules[block.module]
        parts = [part for part in self._blocks(open_ | {block.module}) if set(part.gates) <= set(block.gates)]
        if len(parts) == 1:
            [part] = parts
            if part.module is None or not list(self.modules[part.module].children()):
                return False  # a single activation: the block is the better name for it
            inside = dict(self.modules[part.module].named_parameters())
            beside = len(list(module.parameters())) > len(inside) + len(list(module.parameters(recurse=False)))
            return trunk or beside or _is_container(module)
        return trunk or _is_container(module) or not any(self.flow.past(part.output) for part in parts)


class Flow:
    """What flows where on a tape."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.needed: set[int] = set()
        """Operations that the output of the network depends on."""
        pending = [] if tape.output is None else [tape.output]
        while pending:
            value = pending.pop()
            if value != INPUT and value.operation not in self.needed:
                self.needed.add(value.operation)
                pending.extend(tape.operations[value.operation].inputs)

    def past(self, value: Value) -> Operation | None:
        """The first operation after ``value`` that also reads what was computed before it; None where nothing flows
        past."""
        for index in sorted(self.needed):
            operation = self.tape.operations[index]
            if index > value.operation and any(
                v != value and v.operation <= value.operation for v in operation.inputs
            ):
                return operation
        return None


def _is_container(module: nn.Module) -> bool:
    """Whether a module does nothing but run its children, one after the other."""
    return type(module).forward is nn.Sequential.forward or type(module) in (nn.ModuleList, nn.ModuleDict)


def _paths(path: str) -> list[str]:
    """The path itself and all above it, outermost first: '', 'a', 'a.b'."""
    parts = path.split(".") if path else []
    return ["", *(".".join(parts[: n + 1]) for n in range(len(parts)))]


def _within(path: str, module: str) -> bool:
    return not module or path == module or path.startswith(f"{module}.")


def _unused(name: str, names: set[str]) -> str:
    same = 1
    while (found := name if same == 1 else f"{name}#{same}") in names:
        same += 1
    return found


def _in_order(blocks: Sequence[Block]) -> tuple[Block, ...]:
    return tuple(sorted(blocks, key=lambda block: block.output.operation))


def axes_of(tape: Tape) -> dict[Value, int]:
    """The axis of channels of every tensor, from what made it: of a convolution the second, of a linear layer the
    last, of what moves axes where it went."""
    first = tape.shape(INPUT)
    found = {INPUT: min(1, len(first) - 1)}
    for index, operation in enumerate(tape.operations):
        for item, shape in enumerate(operation.shapes):
            found[Value(index, item)] = _channel(tape, operation, shape, found)
    return found


SECOND = (
    "conv",
    "batch_norm",
    "instance_norm",
    "group_norm",
    "avg_pool",
    "max_pool",
    "adaptive_",
    "upsample_",
    "pixel_",
)
"""Beginnings of the names of operations that have channels second."""

LAST = (
    "linear",
    "layer_norm",
    "rms_norm",
    "matmul",
    "bmm",
    "scaled_dot_product_attention",
    "_native_multi_head_attention",
)


def _channel(tape: Tape, operation: Operation, shape: tuple[Any, ...], known: dict[Value, int]) -> int:
    name, source = operation.name, operation.inputs[0]
    before, channel = tape.shape(source), known[source]
    if name.startswith(SECOND):
        return 1
    if name in LAST:
        return len(shape) - 1
    if name == "permute":
        return [dim % len(shape) for dim in operation.args[1]].index(channel)
    if name in ("transpose", "swapaxes", "swapdims"):
        a, b = (dim % len(shape) for dim in operation.args[1:3])
        return {a: b, b: a}.get(channel, channel)
    if len(shape) == len(before) and shape[channel] == before[channel]:
        return channel
    # Axes were split, merged, added or taken away: the channels are where as many lie, with as much before them.
    sizes, old = _sizes(shape), _sizes(before)
    for axis, size in enumerate(sizes):
        if size == old[channel] and math.prod(sizes[:axis]) == math.prod(old[:channel]):
            return axis
    return len(shape) - 1 if len(shape) == 3 else min(1, len(shape) - 1)


def _sizes(shape: tuple[Any, ...]) -> list[int]:
    return [size.factor * PROBES[0] if isinstance(size, Times) else size for size in shape]


def axes(shape: tuple[Any, ...], channel: int, what: str) -> Axes:
    """The axes of a tensor; `UnsupportedNetwork` where no one axis is that of the inputs."""
    batches = [axis for axis, size in enumerate(shape) if isinstance(size, Times)]
    if len(batches) != 1:
        raise UnsupportedNetwork(
            f"{what} has shape {shape}, in which no one axis is that of the inputs, so that it can't be told apart "
            "by input; name sites elsewhere (--sites-at)"
        )
    [batch] = batches
    share = shape[batch].factor
    if share > 1:
        shape, channel = _apart(shape, batch, share), channel + (channel > batch)
    if channel == batch:
        channel = len(shape) - 1 if batch == 0 else 0
    places = [size for axis, size in enumerate(shape) if axis not in (batch, channel)]
    channels = 1 if len(shape) == 1 else shape[channel]
    rows, columns = (math.prod(places[:-1]), places[-1]) if places else (1, 1)
    patches = None
    if len(places) == 1 and channel == len(shape) - 1:
        side = math.isqrt(columns)
        extra = columns - side * side
        patches = (side, extra) if side > 1 and extra <= MOST_EXTRA_TOKENS else None
    return Axes(batch, channel, channels, rows, columns, bool(places), patches, share)


def _apart(shape: tuple[Any, ...], batch: int, share: int) -> tuple[Any, ...]:
    """The shape in which what shares the axis of inputs has an axis of its own."""
    return shape if share == 1 else (*shape[:batch], Times(1), share, *shape[batch + 1 :])


def make_sites(
    tape: Tape, blocks: Sequence[Block], gate_axes: Mapping[int, Axes], output_axes: Mapping[str, Axes]
) -> tuple[Site, ...]:
    """Sites that read blocks at one place, then sites that read them whole; the first alone where nothing has places.

    A site is exact where everything since the one before it is piecewise affine.
    """
    flow = Flow(tape)
    coded = {gate.operation for block in blocks for gate in block.gates}
    breaking = breaking_operations(tape, gates_of(tape), coded)
    broken_by, bypassed_by, start = [], [], -1
    for block in blocks:
        stop = block.output.operation
        reasons = [breaking[i] for i in sorted(breaking) if start < i <= stop and i in flow.needed]
        broken_by.append(tape.blurred or next(iter(reasons), ""))
        past = flow.past(block.output)
        bypassed_by.append("" if past is None else f"{past.name} in {past.module or 'the network itself'}")
        start = stop
    whole: Scope = "full" if any(a.has_places for a in (*gate_axes.values(), *output_axes.values())) else "position"
    scopes: list[Scope] = ["position", "full"] if whole == "full" else ["position"]
    return tuple(
        _site(
            block, ordinal, scope, gate_axes, output_axes[block.name], broken_by[ordinal], bypassed_by[ordinal], whole
        )
        for scope in scopes
        for ordinal, block in enumerate(blocks)
    )


def _site(
    block: Block,
    ordinal: int,
    scope: Scope,
    gate_axes: Mapping[int, Axes],
    output: Axes,
    broken_by: str,
    bypassed_by: str,
    whole: Scope,
) -> Site:
    layout: list[GateRange] = []
    start = 0
    for gate in block.gates:
        axes = gate_axes[gate.operation]
        count = math.prod(axes.shape) if scope == "full" else axes.channels
        for label in gate.labels:
            layout.append(GateRange(label or block.name, start, count, axes.grid if scope == "full" else None))
            start += count
    shape = output.shape if scope == "full" else output.shape[:1]
    return Site(
        name=block.name + FULL_SUFFIX if scope == "full" else block.name,
        ordinal=ordinal,
        n_units=math.prod(shape),
        n_gates=start,
        nonlinearity=", ".join(dict.fromkeys(gate.name for gate in block.gates)),
        exact=scope == whole and not broken_by,
        scope=scope,
        unit_shape=shape,
        layout=tuple(layout),
        broken_by=broken_by or ("" if scope == whole else ELSEWHERE),
        bypassed_by=bypassed_by,
    )
