"""Which operations keep a network piecewise affine, and the first that does not (SCIENCE 15)."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set

from .gates import Gate
from .tape import INPUT, Operation, Tape, Value

LINEAR = re.compile(
    r"conv(_transpose)?[123]d|linear|matmul|mm|bmm|mv|dot|addmm|baddbmm|einsum|mul|div|batch_norm|embedding"
)
"""Operations that are affine in one operand where the others are constants."""

ADDITIVE = re.compile(
    r"add|sub|rsub|neg|cat|concat|[hvd]?stack|sum|mean|cumsum|trace|(adaptive_)?avg_pool[123]d|"
    r"upsample_(nearest[123]d|linear1d|bilinear2d|bicubic2d|trilinear3d)"
)
"""Operations that are affine in all operands together."""

MOVING = re.compile(
    r"(view|reshape|expand|type)(_as)?|flatten|unflatten|ravel|permute|transpose|t|movedim|swap(axes|dims)|squeeze|"
    r"unsqueeze|broadcast_to|repeat|repeat_interleave|tile|select|slice|narrow|chunk|(tensor_)?split(_with_sizes)?|unbind|"
    r"index|index_select|gather|pad|constant_pad_nd|(reflection|replication)_pad[123]d|pixel_(un)?shuffle|"
    r"(native_)?channel_shuffle|roll|flip|rot90|diagonal|tril|triu|unfold|im2col|col2im|as_strided|contiguous|clone|"
    r"detach|alias|to|_to_copy|lift_fresh|positive|copy|fill|(feature_|alpha_)?dropout"
)
"""Operations that move elements to other places, as they are; dropout in evaluation leaves all where it is."""

SWITCHING = re.compile(r"max_pool[123]d")
"""Pooling that takes one of its inputs: affine between changes of its switches."""

WORDS = {
    "layer_norm": "layer norm",
    "group_norm": "group norm",
    "instance_norm": "instance norm",
    "rms_norm": "RMS norm",
    "batch_norm": "batch norm by statistics of the input",
    "scaled_dot_product_attention": "attention",
    "_native_multi_head_attention": "attention",
    "mul": "a product of activations",
    "matmul": "a product of activations",
    "bmm": "a product of activations",
    "einsum": "a product of activations",
    "div": "a quotient of activations",
}
"""What breaks exactness, where the operation's name is not the word for it."""


def breaking_operations(tape: Tape, gates: Sequence[Gate], coded: Set[int], start: Value = INPUT) -> dict[int, str]:
    """The operations that are not piecewise affine in what they read, each in words: ``layer norm in encoder.0``.

    Where they stand is all that counts: what follows one may be affine again, in its output. ``coded``: operations
    whose gates are part of some site's code. ``start``: what varies; all else that
    does not depend on it is constant.
    """
    by_operation = {gate.operation: gate for gate in gates}
    steps = set[Value]() if start == INPUT else {INPUT}  # constant where no gate changes
    found: dict[int, str] = {}
    for index, operation in enumerate(tape.operations):
        gate = by_operation.get(index)
        varying = [value for value in operation.inputs if value not in steps]
        if gate is not None and gate.course != "smooth" and index in coded:
            breaks, constant = False, gate.course == "steps" or not varying
        else:
            breaks = bool(varying) and (gate is not None or not _is_affine(operation, varying))
            constant = not varying
        if breaks:
            word = gate.name if gate is not None else WORDS.get(operation.name, operation.name.strip("_"))
            outside = "" if gate is None or index in coded else ", which no site reads,"
            found[index] = f"{word.replace('_', ' ')}{outside} in {operation.module or 'the network itself'}"
        elif constant:
            steps.update({Value(index, item) for item in range(len(operation.shapes))} - {start})
    return found


def _is_affine(operation: Operation, varying: Sequence[Value]) -> bool:
    """Whether the outputs are affine in the values that vary, and the switches of pooling."""
    name, args = operation.name, operation.args
    if ADDITIVE.fullmatch(name):
        return True
    if MOVING.fullmatch(name):
        # What names places must be constant; of what is only looked at for its shape nothing depends.
        return varying == [args[0]] or isinstance(args[0], list | tuple) or name.endswith("_as") or name == "copy"
    if name == "batch_norm":  # training is its sixth argument
        return varying == [args[0]] and not args[5]
    if name == "div":
        return varying == [args[0]]
    if name == "where":
        return args[0] not in varying
    if name == "masked_fill":
        return args[1] not in varying
    if LINEAR.fullmatch(name):
        return len(varying) == 1
    return SWITCHING.fullmatch(name) is not None
