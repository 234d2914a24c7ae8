"""Piecewise linear tails: what comes after a site, cut into stages of an affine map, ReLU and max-pooling.

Between two stages everything is affine, so the points of a path or plane where a tail bends can be found stage by
stage (SCIENCE 5, 6). A `StagedTail` runs stages, packs the codes of later sites and notes pooling switches; a
`PiecewiseTail` shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int8, UInt8
from torch import Tensor

from atlas.errors import UnknownName, UsageError, WidthError
from atlas.network import GateRange, Site
from atlas.tails import GateSettings, PiecewiseLinearTail, Stage, TailReading

from .packing import pack_bits

State = tuple[Tensor, ...]

BATCH_BYTES = 1 << 26
"""Bytes of preactivations of a batch. From 16 to 256 MB the speed is the same; less leaves cores idle."""

MOST_POINTS = 4096
"""Points of a batch at most, however small the tail: beyond that nothing is gained."""


class StagedTail:
    """Stages between ``enter`` and ``leave`` as a `SettableTail`; what they compute need not be piecewise linear.

    ``names`` are the classes, in the order of the outputs. ``around`` is entered around every computation.
    ``unsettable``: names of sites whose gates can't be set.
    """

    def __init__(
        self,
        site: Site,
        later: Sequence[Site],
        stages: Sequence[Stage],
        enter: Callable[[Tensor], State],
        leave: Callable[[State], Tensor],
        *,
        names: Sequence[str],
        like: Tensor,
        exact: bool,
        remark: str,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        unsettable: Sequence[str] = (),
    ) -> None:
        """``like`` is a weight of the network: what goes in must be of its type, on its device."""
        self.site, self.later, self._stages = site, tuple(later), tuple(stages)
        self._enter, self._leave = enter, leave
        self._names = tuple(names)
        self.device, self.dtype = like.device, like.dtype
        self.exact, self.remark, self._around = exact, remark, around
        self._unsettable = tuple(unsettable)
        widest = max([site.n_units, *(site.n_gates for site in self.later)])
        self.batch = max(1, min(MOST_POINTS, BATCH_BYTES // (like.element_size() * widest)))

    @property
    def n_outputs(self) -> int:
        return len(self._names)

    def output_name(self, output: int) -> str:
        return self._names[output]

    def logits(self, activations: Float[Tensor, "points units"]) -> Float[Tensor, "points outputs"]:
        """Logits; autograd works through it. Raises `WidthError` for activations of another width."""
        with self._around():
            state = self._entered(activations)
            for stage in self._stages:
                state = stage.advance(state, stage.preactivations(state))
            return self._leave(state)

    def preactivations(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site]
    ) -> tuple[Float[Tensor, "points outputs"], dict[str, Float[Tensor, "points gates"]]]:
        """Logits, and the preactivations of the sites' gates in the order of their codes' bits; with gradients."""
        runs: dict[str, list[tuple[int, Tensor]]] = {site.name: [] for site in self._known(codes)}
        with self._around():
            state = self._entered(activations)
            for stage in self._stages:
                values = stage.preactivations(state)
                for name, gates, columns in columns_of(stage):
                    if name in runs:
                        runs[name].append((gates.start, values[:, columns]))
                state = stage.advance(state, values)
            logits = self._leave(state)
        ordered = {name: sorted(parts, key=lambda part: part[0]) for name, parts in runs.items()}
        return logits, {name: torch.cat([part for _, part in parts], dim=1) for name, parts in ordered.items()}

    @torch.no_grad()
    def read(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site], *, switches: bool = False
    ) -> TailReading:
        """Logits, packed codes, and the switches if asked for: those before the last gate of ``codes``, or all where
        they run to the output. A site's gates are packed as soon as all are known."""
        return self._read(activations, codes, switches, None)

    @torch.no_grad()
    def read_set(
        self, activations: Float[Tensor, "points units"], codes: Sequence[Site], settings: GateSettings
    ) -> TailReading:
        """Logits and packed codes with gates set. Raises `WidthError`, `UnknownName`, `UsageError` for settings that
        don't fit."""
        self._known([settings.site])
        if settings.site.name in self._unsettable:
            raise UsageError(
                f"gates of {settings.site.name} ({settings.site.nonlinearity}) can't be set: a unit has several, or "
                "reads half of what its operation reads; choose a site where each unit has one gate of its own"
            )
        return self._read(activations, codes, False, (settings, wanted_of(settings, activations).to(self.device)))

    def _read(
        self,
        activations: Float[Tensor, "points units"],
        codes: Sequence[Site],
        switches: bool,
        settings: tuple[GateSettings, Int8[Tensor, "points gates"]] | None,
    ) -> TailReading:
        unpacked = _Unpacked({site.name: site.n_gates for site in self._known(codes)})
        taken: list[Tensor] = []
        needed = self._before_end_of(codes) if switches else 0
        with self._around():
            state = self._entered(activations)
            for number, stage in enumerate(self._stages):
                values = stage.preactivations(state)
                for name, gates, columns in columns_of(stage):
                    if settings is not None and name == settings[0].site.name:
                        wanted = settings[1][:, gates.start : gates.start + gates.count]
                        values[:, columns] = as_wanted(values[:, columns], wanted, settings[0].epsilon)
                    unpacked.put(name, gates, values[:, columns])
                if number < needed:
                    taken.append(stage.switches(state))
                state = stage.advance(state, values)
            logits = self._leave(state)
        none = torch.zeros((len(activations), 0), dtype=torch.uint8)
        return TailReading(
            logits.to(torch.float32).cpu().numpy(),
            {site.name: unpacked.packed[site.name].cpu().numpy() for site in codes},
            torch.cat([none.to(self.device), *taken], dim=1).cpu().numpy() if switches else None,
        )

    def _before_end_of(self, codes: Sequence[Site]) -> int:
        """How many stages it takes to the last gate of some sites; all, if they are none or hold the last of all."""
        names = {site.name for site in codes}
        if not names or self.later[-1].name in names:
            return len(self._stages)
        return 1 + max(i for i, stage in enumerate(self._stages) if any(name in names for name, _ in stage.gates))

    def _entered(self, activations: Float[Tensor, "points units"]) -> State:
        if activations.ndim != 2 or activations.shape[1] != self.site.n_units:
            raise WidthError(
                f"activations of {self.site.name} are rows of {self.site.n_units} numbers, got shape "
                f"{tuple(activations.shape)}"
            )
        return self._enter(activations.to(self.device, self.dtype))

    def _known(self, codes: Sequence[Site]) -> Sequence[Site]:
        names = [site.name for site in self.later]
        for site in codes:
            if site.name not in names:
                raise UnknownName(
                    f"no codes of {site.name} after {self.site.name}; the sites after it are "
                    f"{', '.join(names) or 'none'}"
                )
        return codes


class PiecewiseTail(StagedTail):
    """Stages of affine maps, ReLU and the like, and max-pooling alone, as a `PiecewiseLinearTail`.

    ``precise_tail`` makes the same tail in double precision; ``remark`` adds to what is said of all of them.
    """

    def __init__(
        self,
        site: Site,
        later: Sequence[Site],
        stages: Sequence[Stage],
        enter: Callable[[Tensor], State],
        leave: Callable[[State], Tensor],
        *,
        names: Sequence[str],
        like: Tensor,
        precise_tail: Callable[[], PiecewiseLinearTail],
        remark: str = "",
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
        unsettable: Sequence[str] = (),
    ) -> None:
        said = (
            f"from {site.name} to the output the network is piecewise linear: between boundaries (gates and "
            "max-pooling switches) it is an affine map, up to float error"
        )
        super().__init__(
            site,
            later,
            stages,
            enter,
            leave,
            names=names,
            like=like,
            exact=True,
            remark=f"{said}; {remark}" if remark else said,
            around=around,
            unsettable=unsettable,
        )
        self.stages, self.enter, self._precise_tail = self._stages, enter, precise_tail

    def precise(self) -> PiecewiseLinearTail:
        return self._precise_tail()


def wanted_of(settings: GateSettings, activations: Tensor) -> Int8[Tensor, "points gates"]:
    """The settings of each point; `WidthError` unless there is one row a point, one column a gate."""
    expected = len(activations), settings.site.n_gates
    if settings.wanted.shape != expected:
        raise WidthError(
            f"settings of {settings.site.name} have shape {settings.wanted.shape}; {expected[0]} points of its "
            f"{expected[1]} gates need {expected}"
        )
    return torch.from_numpy(settings.wanted)


def as_wanted(
    preactivations: Float[Tensor, "*points gates"], wanted: Int8[Tensor, "*points gates"], epsilon: float
) -> Float[Tensor, "*points gates"]:
    """The preactivations, those on the wrong side of zero moved to ±epsilon."""
    wrong = ((wanted > 0) & (preactivations <= 0)) | ((wanted < 0) & (preactivations > 0))
    return torch.where(wrong, epsilon * wanted.to(preactivations.dtype), preactivations)


class _Unpacked:
    """Gates of the sites that are not complete yet, and the packed codes of those that are."""

    def __init__(self, n_gates: dict[str, int]) -> None:
        self.packed: dict[str, UInt8[Tensor, "points bytes"]] = {}
        self._n_gates = n_gates
        self._gates: dict[str, Bool[Tensor, "points gates"]] = {}
        self._missing = dict(n_gates)

    def put(self, name: str, gates: GateRange, preactivations: Float[Tensor, "points gates"]) -> None:
        if name not in self._n_gates:
            return
        if name not in self._gates:
            shape = len(preactivations), self._n_gates[name]
            self._gates[name] = torch.empty(shape, dtype=torch.bool, device=preactivations.device)
        torch.gt(preactivations, 0, out=self._gates[name][:, gates.start : gates.start + gates.count])
        self._missing[name] -= gates.count
        if self._missing[name] == 0:
            self.packed[name] = pack_bits(self._gates.pop(name))


def columns_of(stage: Stage) -> list[tuple[str, GateRange, slice]]:
    """Whose preactivations the columns of a stage are: (site name, range of its bits, columns)."""
    found, start = [], 0
    for name, gates in stage.gates:
        found.append((name, gates, slice(start, start + gates.count)))
        start += gates.count
    return found


class NoPooling:
    """The half of a stage that pools nothing."""

    def windows(self, state: State) -> Float[Tensor, "points windows choices"]:
        return state[0].new_zeros((len(state[0]), 0, 1))

    def switches(self, state: State) -> UInt8[Tensor, "points windows"]:
        return torch.zeros((len(state[0]), 0), dtype=torch.uint8, device=state[0].device)


@dataclass(frozen=True)
class Pooling:
    """A max-pooling layer over rows and columns, without dilation."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool

    @classmethod
    def of(cls, pool: torch.nn.MaxPool2d) -> Pooling:
        """That of a module."""
        return cls(_pair(pool.kernel_size), _pair(pool.stride), _pair(pool.padding), pool.ceil_mode)

    def __call__(
        self, values: Float[Tensor, "points channels rows columns"]
    ) -> Float[Tensor, "points channels fewer_rows fewer_columns"]:
        return torch.nn.functional.max_pool2d(
            values, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode
        )

    def windows(
        self, values: Float[Tensor, "points channels rows columns"]
    ) -> Float[Tensor, "points windows choices"]:
        """What each window chooses from, −inf beyond the edges; windows ordered as the output."""
        points, channels, *grid = values.shape
        outputs = self.size(grid)
        # Windows may begin before the grid (padding) and reach over its end (ceil_mode).
        bottom, right = (
            max(0, (n - 1) * self.stride[axis] + self.kernel[axis] - self.padding[axis] - grid[axis])
            for axis, n in enumerate(outputs)
        )
        edges = self.padding[1], right, self.padding[0], bottom
        padded = torch.nn.functional.pad(values, edges, value=float("-inf"))
        tiles = padded.unfold(2, self.kernel[0], self.stride[0]).unfold(3, self.kernel[1], self.stride[1])
        tiles = tiles[:, :, : outputs[0], : outputs[1]]
        return tiles.reshape(points, channels * outputs[0] * outputs[1], self.kernel[0] * self.kernel[1])

    def switches(self, values: Float[Tensor, "points channels rows columns"]) -> UInt8[Tensor, "points windows"]:
        """Which input each window takes: row · columns of the kernel + column, as the pooling itself breaks ties."""
        pooled, index = torch.nn.functional.max_pool2d(
            values, self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode, return_indices=True
        )
        index = index.to(torch.int32)  # half the bytes of what follows
        rows, columns = (
            torch.arange(n, device=values.device, dtype=torch.int32) * self.stride[axis] - self.padding[axis]
            for axis, n in enumerate(pooled.shape[2:])
        )
        row = index // values.shape[3]
        column = index - row * values.shape[3]
        return ((row - rows[:, None]) * self.kernel[1] + (column - columns)).flatten(1).to(torch.uint8)

    def size(self, grid: Sequence[int]) -> tuple[int, int]:
        """Rows and columns of the output, by torch's rule."""
        rows, columns = (self._size(size, axis) for axis, size in enumerate(grid))
        return rows, columns

    def _size(self, size: int, axis: int) -> int:
        kernel, stride, padding = self.kernel[axis], self.stride[axis], self.padding[axis]
        span = size + 2 * padding - kernel
        count = (-(-span // stride) if self.ceil_mode else span // stride) + 1
        # With ceil_mode the last window must still begin inside the input or its left padding.
        return count - 1 if self.ceil_mode and (count - 1) * stride >= size + padding else count


def _pair(number: int | tuple[int, ...]) -> tuple[int, int]:
    rows, columns = (number, number) if isinstance(number, int) else number
    return rows, columns
