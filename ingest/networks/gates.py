"""Which operations are gates, at which thresholds, and a mode that sees them where they run (SCIENCE 15).

A gate is a scalar with an element-wise nonlinearity; it has a bit for each threshold: z > t. An operation in place
overwrites z, so a gate is read before its operation runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

# Where torch documents it, in "Extending PyTorch"; there is no other name for it.
from torch.utils._python_dispatch import TorchDispatchMode

from atlas.errors import UnsupportedNetwork

from .tape import INPUT, Repeated, Tape, Value, hooked, plain

Threshold = float | Tensor

NORMS = ("norm", "linalg_vector_norm", "linalg_norm")
"""Lengths of vectors: none is below the small number that keeps it from 0, so that such a threshold is no gate."""

Course = Literal["affine", "steps", "smooth"]
"""What a nonlinearity is where no gate changes: affine in z, constant, or neither."""


@dataclass(frozen=True)
class Nonlinearity:
    """``thresholds`` and ``z``, what is compared with them, from the arguments of an operation. ``name``: what sites
    call it, where that is not the operation's name. ``jumps``: it is not continuous at its thresholds."""

    course: Course
    thresholds: Callable[[Sequence[Any]], tuple[Any, ...]]
    name: str | None = None
    z: Callable[[Sequence[Any]], Any] = lambda args: args[0]
    jumps: bool = False


def _fixed(*thresholds: float) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    return lambda args: thresholds


def _given(*defaults: float | None) -> Callable[[Sequence[Any]], tuple[Any, ...]]:
    """The arguments after z that are thresholds; those that are None are none."""

    def thresholds(args: Sequence[Any]) -> tuple[Any, ...]:
        said = [*args[1 : 1 + len(defaults)], *defaults[len(args) - 1 :]]
        return tuple(threshold for threshold in said if threshold is not None)

    return thresholds


def _both_ways(args: Sequence[Any]) -> tuple[Any, ...]:
    width = float(args[1]) if len(args) > 1 else 0.5
    return -width, width


def _constant_operand(args: Sequence[Any]) -> tuple[Any, ...]:
    """Of ``maximum(x, y)`` the y that depends on no input; the dimension of ``max(x, dim)`` is none."""
    return tuple(arg for arg in args[1:2] if isinstance(arg, Tensor | Repeated))


_STEP = Nonlinearity("steps", _given(None), "step", jumps=True)
_EXTREME = Nonlinearity("affine", _constant_operand, "clamp")
_SMOOTH = Nonlinearity("smooth", _fixed(0.0))

NONLINEARITIES = {
    "relu": Nonlinearity("affine", _fixed(0.0)),
    "leaky_relu": Nonlinearity("affine", _fixed(0.0)),
    "prelu": Nonlinearity("affine", _fixed(0.0)),
    "rrelu": Nonlinearity("affine", _fixed(0.0)),
    "abs": Nonlinearity("affine", _fixed(0.0)),
    "relu6": Nonlinearity("affine", _fixed(0.0, 6.0)),
    "hardtanh": Nonlinearity("affine", _given(-1.0, 1.0)),
    "hardsigmoid": Nonlinearity("affine", _fixed(-3.0, 3.0)),
    "clamp": Nonlinearity("affine", _given(None, None)),
    "clamp_min": Nonlinearity("affine", _given(None), "clamp"),
    "clamp_max": Nonlinearity("affine", _given(None), "clamp"),
    "threshold": Nonlinearity("affine", _given(None), jumps=True),
    "hardshrink": Nonlinearity("affine", _both_ways, jumps=True),
    "softshrink": Nonlinearity("affine", _both_ways),
    **dict.fromkeys(("maximum", "minimum", "max", "min"), _EXTREME),
    "sign": Nonlinearity("steps", _fixed(0.0), jumps=True),
    "heaviside": Nonlinearity("steps", _fixed(0.0), jumps=True),
    **dict.fromkeys(("gt", "ge", "lt", "le"), _STEP),
    "hardswish": Nonlinearity("smooth", _fixed(-3.0, 3.0)),
    "glu": Nonlinearity("smooth", _fixed(0.0), None, lambda args: args[0].chunk(2, *args[1:] or (-1,))[1]),
    **dict.fromkeys(
        ["gelu", "silu", "mish", "softplus", "elu", "celu", "selu", "tanh", "sigmoid", "log_sigmoid", "erf"],
        _SMOOTH,
    ),
}
"""By the name of the operation."""

HIDING = {
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell"), "a recurrent network"),
    "_transformer_encoder_layer_fwd": "a fused transformer layer",
}
"""Operations that hold gates which can't be seen, and what they are."""


@dataclass(frozen=True)
class Gate:
    """An operation of a tape that is a gate for each element of z.

    ``use`` counts the gates of its module, from 1: a module that is used again has other gates each time.
    """

    operation: int
    function: str
    nth: int
    name: str
    module: str
    use: int
    course: Course
    thresholds: tuple[Threshold, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """A name for each threshold's bits: the module, which use of it, the threshold where there are several."""
        name = self.module if self.use == 1 else f"{self.module}#{self.use}"
        if len(self.thresholds) == 1:
            return (name,)
        return tuple(f"{name}>{t:g}" if isinstance(t, int | float) else f"{name}>t" for t in self.thresholds)

    @property
    def is_halved(self) -> bool:
        """Whether z is half of what its operation reads, as of a gated linear unit."""
        return self.function == "glu"

    @property
    def is_settable(self) -> bool:
        """Whether one bit says where z lies, and z is all that its operation reads."""
        return len(self.thresholds) == 1 and not self.is_halved

    @property
    def jumps(self) -> bool:
        """Whether it is not continuous at its thresholds."""
        return NONLINEARITIES[self.function].jumps

    def z(self, args: Sequence[Any]) -> Any:
        """What its thresholds are compared with, of the arguments of its operation."""
        return NONLINEARITIES[self.function].z(args)


def gates_of(tape: Tape) -> tuple[Gate, ...]:
    """The gates of a network, in the order in which they run; `UnsupportedNetwork` where some can't be seen."""
    found: list[Gate] = []
    uses: Counter[str] = Counter()
    for index, operation in enumerate(tape.operations):
        if operation.name in HIDING:
            raise UnsupportedNetwork(
                f"{operation.module or 'the network'} runs {HIDING[operation.name]} as one operation "
                f"({operation.name}), whose gates can't be read; write it out in operations of its own"
            )
        kind = NONLINEARITIES.get(operation.name)
        if kind is None or not isinstance(operation.args[0], Value):
            continue
        thresholds = tuple(t.tensor if isinstance(t, Repeated) else t for t in kind.thresholds(operation.args))
        if not thresholds or any(isinstance(threshold, Value) for threshold in thresholds):
            continue  # compared with another activation
        source = operation.args[0]
        if source != INPUT and tape.operations[source.operation].name in NORMS:
            continue
        name = kind.name or operation.name
        if (name, thresholds) == ("hardtanh", (0, 6)):
            name = "relu6"
        uses[operation.module] += 1
        use = uses[operation.module]
        found.append(Gate(index, operation.name, operation.nth, name, operation.module, use, kind.course, thresholds))
    return tuple(found)


Before = Callable[[Gate, Tensor], None]
After = Callable[[int, Any], None]


class _Watch(TorchDispatchMode):
    """Hands z of every gate to ``before``, and what the operations ``outputs`` give to ``after``, with their number
    on the tape, if the gates run as on it."""

    def __init__(
        self,
        gates: Mapping[tuple[str, int], Gate],
        outputs: Mapping[tuple[str, int], int],
        before: Before,
        after: After,
    ) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()
        self.path = [""]
        self.is_aside = False
        self._gates, self._outputs, self._before, self._after = gates, outputs, before, after
        self._counted = {*NONLINEARITIES, *(name for name, _ in outputs)}
        self._names: dict[Any, str] = {}

    def enter(self, path: str) -> None:
        self.path.append(path)

    def leave(self, path: str, output: Any) -> None:
        self.path.pop()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.is_aside:
            return func(*args, **(kwargs or {}))
        if func not in self._names:
            self._names[func] = plain(func)[0]
        name = self._names[func]
        if name not in self._counted:
            return func(*args, **(kwargs or {}))
        call = name, self.counts[name]
        self.counts[name] += 1
        gate = self._gates.get(call)
        if gate is not None:
            if self.path[-1] != gate.module:
                raise _other_course(f"{name} ran in {self.path[-1] or 'the network'}, expected it in {gate.module}")
            self._before(gate, gate.z(args))
        result = func(*args, **(kwargs or {}))
        if call in self._outputs:
            self._after(self._outputs[call], result)
        return result


@contextmanager
def watched(
    model: nn.Module,
    tape: Tape,
    gates: Sequence[Gate],
    outputs: Collection[int],
    before: Before,
    after: After,
    modules: Collection[str],
    leave: Callable[[str, Any], None],
) -> Iterator[None]:
    """Within, a forward pass of ``model`` hands over z of each gate before it is overwritten, what the operations
    ``outputs`` of the tape give, and what the ``modules`` return, to ``leave``.

    Raises `UnsupportedNetwork` where other gates run than on the tape.
    """
    named = {(tape.operations[index].name, tape.operations[index].nth): index for index in outputs}
    watch = _Watch({(gate.function, gate.nth): gate for gate in gates}, named, before, after)

    def aside(path: str, output: Any) -> None:
        watch.is_aside = True  # what is computed there is none of the network's
        leave(path, output)
        watch.is_aside = False

    told = {path: model.get_submodule(path) for path in modules}
    running = {gate.module: model.get_submodule(gate.module) for gate in gates if gate.module}
    with hooked(told, lambda path: None, aside), hooked(running, watch.enter, watch.leave), watch:
        yield
    for name in NONLINEARITIES:
        if watch.counts[name] != tape.counts.get(name, 0):
            raise _other_course(f"{name} ran {watch.counts[name]} times, expected {tape.counts.get(name, 0)}")


def _other_course(how: str) -> UnsupportedNetwork:
    return UnsupportedNetwork(
        f"the network took another course than for the inputs that its gates were found with: {how}; what it runs "
        "depends on the values of its inputs, so its gates have no code of one length"
    )
