"""The operations of a tape, run again: from other values than the input, for any batch, in either precision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .tape import Operation, Repeated, Tape, Times, Value, leaves, mapped

UNTRACKED = "detach"
"""Leaves a tensor as it is, but stops gradients: run again, nothing stops them."""


class Replay:
    """A tape with its constants in one precision. Autograd works through what it runs."""

    def __init__(self, tape: Tape, dtype: torch.dtype) -> None:
        self.tape, self.dtype = tape, dtype
        self._prepared: dict[int, Operation] = {}
        self._plans: dict[tuple[frozenset[Value], tuple[Value, ...]], list[tuple[int, list[Value]]]] = {}

    def run(self, known: Mapping[Value, Tensor], wanted: Sequence[Value], batch: int) -> list[Tensor]:
        """The wanted values, from those that are known, of so many inputs."""
        values = dict(known)
        for index, forgotten in self._plan(frozenset(known), tuple(wanted)):
            for item, output in enumerate(self._run(index, values, batch)):
                values.setdefault(Value(index, item), output)
            for value in forgotten:
                del values[value]
        return [values[value] for value in wanted]

    def constant(self, item: Any) -> Any:
        """What an operation reads that is no value: tensors and types in this precision."""
        if isinstance(item, Repeated):
            return Repeated(self.constant(item.tensor), item.axis)
        if isinstance(item, torch.dtype):
            return self.dtype if item == torch.float32 else item
        if not isinstance(item, Tensor):
            return item
        held = item.detach()
        if held.is_inference():  # made on the way, where gradients were out of the question
            held = held.clone()
        return held.to(self.dtype) if held.dtype == torch.float32 else held

    def operation(self, index: int) -> Operation:
        """An operation of the tape with its constants prepared."""
        if index not in self._prepared:
            recorded = self.tape.operations[index]
            args, kwargs = mapped(self.constant, (recorded.args, recorded.kwargs))
            self._prepared[index] = replace(recorded, args=args, kwargs=kwargs)
        return self._prepared[index]

    def _run(self, index: int, values: Mapping[Value, Tensor], batch: int) -> Sequence[Tensor]:
        operation = self.operation(index)
        if operation.name == UNTRACKED:
            return (values[operation.args[0]],)

        def leaf(item: Any) -> Any:
            if isinstance(item, Value):
                return values[item]
            if isinstance(item, Times):
                return item.factor * batch
            if isinstance(item, Repeated):
                return repeated(item.tensor, item.axis, batch)
            return item

        args, kwargs = mapped(leaf, (operation.args, operation.kwargs))
        return [output for output in leaves(operation.function(*args, **kwargs)) if isinstance(output, Tensor)]

    def _plan(self, known: frozenset[Value], wanted: tuple[Value, ...]) -> list[tuple[int, list[Value]]]:
        """The operations to run, in order, and what may be forgotten after each."""
        if (known, wanted) not in self._plans:
            needed: set[int] = set()
            pending = [value for value in wanted if value not in known]
            while pending:
                value = pending.pop()
                if value.operation not in needed:
                    needed.add(value.operation)
                    pending += [v for v in self.tape.operations[value.operation].inputs if v not in known]
            last: dict[Value, int] = {}
            for index in sorted(needed):
                last |= dict.fromkeys(self.tape.operations[index].inputs, index)
                n_outputs = len(self.tape.operations[index].shapes)
                last |= {Value(index, item): index for item in range(n_outputs) if Value(index, item) not in known}
            kept = {*known, *wanted}
            forgotten: dict[int, list[Value]] = {}
            for value, index in last.items():
                if value not in kept:
                    forgotten.setdefault(index, []).append(value)
            self._plans[known, wanted] = [(index, forgotten.get(index, [])) for index in sorted(needed)]
        return self._plans[known, wanted]


def repeated(tensor: Tensor, axis: int, batch: int) -> Tensor:
    """What is held of one input along an axis, for a batch of inputs."""
    if tensor.shape[axis] == 1:
        return tensor.expand(*(batch if a == axis else -1 for a in range(tensor.ndim)))
    return tensor.repeat(*(batch if a == axis else 1 for a in range(tensor.ndim)))
