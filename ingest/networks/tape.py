"""What a network computes from its inputs: its operations, recorded as they run, with the modules that ran them.

A `Tape` is recorded from two batches, of 2 and of 3 inputs. Whole numbers in them that are 2·k and 3·k stand for k
times the batch, so that the tape can be run for any; operations that differ otherwise depend on the inputs, and the
network is refused. What depends on no input is a constant of the tape.

Under ``torch.inference_mode`` composite operations reach a dispatch mode whole: a convolution, a layer norm, an
attention is one operation, with a name that a person knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

# Where torch documents it, in "Extending PyTorch"; there is no other name for it.
from torch.utils._python_dispatch import TorchDispatchMode

from atlas.errors import UnsupportedNetwork

PROBES = (2, 3)
"""Inputs of the two batches: with 1, an axis of the batch could not be told from others of one element."""

READS_VALUES = ("_local_scalar_dense", "item", "nonzero", "is_nonzero", "masked_select", "equal")
"""Operations by which the values of a tensor decide what runs next, or how large a tensor is."""

READS_SHAPE = ("zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty")
"""Operations that read the shape of a tensor alone: what they make is a constant."""


@dataclass(frozen=True)
class Value:
    """A tensor that depends on the input: output ``item`` of an operation; operation −1 is the input itself."""

    operation: int
    item: int = 0


INPUT = Value(-1)


@dataclass(frozen=True)
class Times:
    """``factor`` times the batch, as a whole number."""

    factor: int


@dataclass(frozen=True)
class Repeated:
    """A constant that the network repeats for each input along ``axis``: one of the repetitions."""

    tensor: Tensor
    axis: int


@dataclass(frozen=True)
class Operation:
    """One call of an operation of torch on something that depends on the input.

    ``name`` is torch's (``conv2d``), without the underscore of one that works in place; ``function`` is the form that
    does not. ``args`` and ``kwargs`` hold `Value`, `Times`, `Repeated`, constants, and lists of them. ``module`` is
    the path of the innermost module that ran it. ``nth`` counts all calls of that name, on constants too, from 0.
    ``shapes`` are those of its outputs, with `Times` for the batch.
    """

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    module: str
    nth: int
    shapes: tuple[tuple[Any, ...], ...]

    @cached_property
    def inputs(self) -> tuple[Value, ...]:
        """What it reads that depends on the input, in order."""
        return tuple(leaf for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Value))


@dataclass(frozen=True)
class Call:
    """One call of a module: its operations [start, stop), and the first tensor that it returned."""

    start: int
    stop: int
    output: Value | None


@dataclass(frozen=True)
class Tape:
    """All operations in the order in which they ran, the calls of every module, and what the network returned.

    ``counts``: how often operations of each name ran, on constants too.
    ``blurred``: why tensors can't be followed from operation to operation, None where they can.
    """

    operations: tuple[Operation, ...]
    calls: dict[str, tuple[Call, ...]]
    output: Value | None
    input_shape: tuple[Any, ...]
    counts: dict[str, int]
    blurred: str | None

    def shape(self, value: Value) -> tuple[Any, ...]:
        return self.input_shape if value == INPUT else self.operations[value.operation].shapes[value.item]


def leaves(tree: Any) -> Iterator[Any]:
    """All that lies in nested lists, tuples and dictionaries, in order."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list | tuple):
        for branch in tree:
            yield from leaves(branch)
    else:
        yield tree


def mapped(change: Callable[..., Any], *trees: Any) -> Any:
    """Nested lists, tuples and dictionaries of the same form with ``change`` of what lies at each place in them."""
    first = trees[0]
    if isinstance(first, dict):
        if any(tree.keys() != first.keys() for tree in trees):
            raise _Differs
        return {key: mapped(change, *(tree[key] for tree in trees)) for key in first}
    if isinstance(first, list | tuple):
        if any(not isinstance(tree, list | tuple) or len(tree) != len(first) for tree in trees):
            raise _Differs
        # A torch.Size or a named tuple is taken as the tuple that it is.
        kind = list if isinstance(first, list) else tuple
        return kind(mapped(change, *branches) for branches in zip(*trees, strict=True))
    return change(*trees)


def first_tensor(output: Any) -> Tensor | None:
    """The first tensor of what a module returned; ``logits``, where it has some."""
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    return next((leaf for leaf in leaves(output) if isinstance(leaf, Tensor)), None)


@contextmanager
def hooked(
    modules: dict[str, nn.Module],
    enter: Callable[[str], None],
    leave: Callable[[str, Any], None],
) -> Iterator[None]:
    """Tell of every call of the modules: their path before it, their path and what they returned after it."""

    def before(path: str) -> Callable[[nn.Module, Any], None]:
        return lambda _module, _inputs: enter(path)

    def after(path: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: leave(path, output)

    with ExitStack() as stack:
        for path, module in modules.items():
            stack.callback(module.register_forward_pre_hook(before(path)).remove)
            stack.callback(module.register_forward_hook(after(path)).remove)
        yield


def record(model: nn.Module, example: Callable[[int], Tensor]) -> Tape:
    """The tape of a network in evaluation mode; ``example`` makes a batch of that many different inputs.

    Raises `UnsupportedNetwork` where what runs depends on the values of inputs, or otherwise on how many there are.
    """
    scripted = [path for path, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if scripted:
        raise UnsupportedNetwork(
            f"{scripted[0] or 'the network'} is a ScriptModule, which lets nobody see what it runs; pass the "
            "nn.Module that it was made from"
        )
    with torch.no_grad():
        model(example(PROBES[0]))  # what it makes once and keeps, positions say, is made now
    return _merged(*(_recorded(model, example(n)) for n in PROBES))


@dataclass
class _Raw:
    """A tape of one batch; ``args`` of operations still hold numbers where the batch is meant."""

    operations: list[Operation] = field(default_factory=list)
    calls: dict[str, list[Call]] = field(default_factory=dict)
    output: Value | None = None
    input_shape: tuple[int, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    blurred: str | None = None


class _Recorder(TorchDispatchMode):
    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.raw = _Raw(input_shape=tuple(inputs.shape))
        self._values = {id(inputs): INPUT}
        self._current: dict[
            int, set[int]
        ] = {}  # by storage that was written to in place: tensors not older than that
        self._alive: list[Any] = [inputs]  # an id is a tensor's as long as it lives
        self._stack = [("", 0)]

    def value_of(self, tensor: Any) -> Value | None:
        return self._values.get(id(tensor)) if isinstance(tensor, Tensor) else None

    def enter(self, path: str) -> None:
        self._stack.append((path, len(self.raw.operations)))

    def leave(self, path: str, output: Any) -> None:
        _, start = self._stack.pop()
        value = self.value_of(first_tensor(output))
        self.raw.calls.setdefault(path, []).append(Call(start, len(self.raw.operations), value))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = [leaf for leaf in leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        name, function, in_place = plain(func)
        nth = self.raw.counts.get(name, 0)
        self.raw.counts[name] = nth + 1
        depends = name not in READS_SHAPE and any(id(tensor) in self._values for tensor in read)
        module = self._stack[-1][0]
        if depends and name in READS_VALUES:
            raise UnsupportedNetwork(
                f"{module or 'the network'} reads values of a tensor ({name}) to decide what runs next, as a mixture "
                "of experts does; its gates differ from input to input, so they have no code of one length"
            )
        # As they are before an operation in place overwrites them.
        inputs = mapped(lambda leaf: self.value_of(leaf) or leaf, (tuple(args), kwargs))
        if any(id(tensor) not in self._current.get(_storage(tensor), {id(tensor)}) for tensor in read):
            self.raw.blurred = f"part of a tensor was changed in place before {name} in {module or 'the network'}"
        result = func(*args, **kwargs)
        if not depends:
            return result
        outputs = [leaf for leaf in leaves(result) if isinstance(leaf, Tensor)]
        index = len(self.raw.operations)
        shapes = tuple(tuple(tensor.shape) for tensor in outputs)
        self.raw.operations.append(Operation(name, function, inputs[0], inputs[1], module, nth, shapes))
        if in_place:
            self._current[_storage(args[0])] = set()
        for item, tensor in enumerate(outputs):
            self._values[id(tensor)] = Value(index, item)
            self._current.get(_storage(tensor), set()).add(id(tensor))
        self._alive.append(outputs)
        return result


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def plain(func: Any) -> tuple[str, Any, bool]:
    """The name of an operation, its form that changes nothing in place, and whether ``func`` itself does."""
    space, name, overload = str(func).split(".")
    if not name.endswith("_") or name.endswith("__"):
        return name, func, False
    packet = getattr(getattr(torch.ops, space), name[:-1], None)
    return name[:-1], func if packet is None else getattr(packet, overload, func), True


@contextmanager
def plain_attention() -> Iterator[None]:
    """Within, attention is not fused into one operation with all around it, which hides gates and has no gradient."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _recorded(model: nn.Module, inputs: Tensor) -> _Raw:
    recorder = _Recorder(inputs)
    modules = {path: module for path, module in model.named_modules() if path}
    with torch.inference_mode(), plain_attention(), hooked(modules, recorder.enter, recorder.leave), recorder:
        output = first_tensor(model(inputs))
    recorder.raw.output = recorder.value_of(output)
    return recorder.raw


class _Differs(Exception):
    """Two recordings that are not of the same operations."""


def _merged(two: _Raw, three: _Raw) -> Tape:
    """One tape for any batch."""
    operations = []
    for first, second in zip(two.operations, three.operations, strict=False):
        try:
            if (first.name, first.module, first.nth) != (second.name, second.module, second.nth):
                raise _Differs
            args, kwargs, shapes = (
                mapped(_for_any_batch, getattr(first, part), getattr(second, part))
                for part in ("args", "kwargs", "shapes")
            )
        except _Differs:
            raise _dynamic(f"{_told(first)} of one batch is {_told(second)} of another") from None
        operations.append(Operation(first.name, first.function, args, kwargs, first.module, first.nth, shapes))
    if len(two.operations) != len(three.operations):
        raise _dynamic(f"{len(two.operations)} operations of one batch are {len(three.operations)} of another")
    calls = {path: tuple(found) for path, found in two.calls.items()}
    shape = mapped(_for_any_batch, two.input_shape, three.input_shape)
    return Tape(tuple(operations), calls, two.output, shape, two.counts, two.blurred)


def _told(operation: Operation) -> str:
    return f"{operation.name} in {operation.module or 'the network'} (shapes {operation.shapes})"


def _dynamic(how: str) -> UnsupportedNetwork:
    return UnsupportedNetwork(
        f"what the network runs depends on the values or the number of its inputs: {how}; its gates have no code of "
        "one length. Pass a network that runs the same operations for any input of one shape"
    )


def _for_any_batch(first: Any, second: Any) -> Any:
    """What stands for the same thing in a batch of 2 and in one of 3."""
    n, m = PROBES
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        if first.shape == second.shape:
            return first
        axes = [
            axis for axis, sizes in enumerate(zip(first.shape, second.shape, strict=False)) if len(set(sizes)) > 1
        ]
        if first.ndim == second.ndim and len(axes) == 1 and (first.shape[axes[0]], second.shape[axes[0]]) == PROBES:
            return Repeated(first.narrow(axes[0], 0, 1), axes[0])
        raise _Differs
    if type(first) is int and type(second) is int and first != second:
        if first % n or second % m or first // n != second // m:
            raise _Differs
        return Times(first // n)
    if type(first) is not type(second) or (first != second and first == first):
        raise _Differs
    return first
