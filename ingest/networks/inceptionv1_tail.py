"""InceptionV1 from any block onward, as a function of that block's output tensor.

An inception block is two stages. The first holds branch1, branch2.0 and branch3.0 and the pooling of branch 4; the
second branch2.1, branch3.1 and branch4.1, whose inputs the first has made. A convolution of the stem is one stage,
and so is a pooling layer between two blocks. After 5b come average pooling and the linear classifier: affine.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from atlas.errors import UsageError
from atlas.network import FULL_SUFFIX, GateRange, Site
from atlas.tails import Block, PiecewiseLinearTail, Stage

from .blocks import convolution_blocks, normed_weight
from .inceptionv1 import BLOCKS, STEM, float32_convolutions
from .tails import NoPooling, PiecewiseTail, Pooling, State

POOL_AFTER = {"conv1": "maxpool1", "conv3": "maxpool2", "inception3b": "maxpool3", "inception4e": "maxpool4"}
"""The pooling layer behind a block, where there is one."""


def inceptionv1_tail(model: nn.Module, sites: Sequence[Site], classes: Sequence[str], site: Site) -> PiecewiseTail:
    """The part of a GoogLeNet after a full site. Raises `UsageError` for a position site, which does not fix it."""
    full = {other.name: other for other in sites if other.scope == "full"}
    if site.name not in full:
        raise UsageError(
            f"the activation at {site.name} is one position's, and what comes after reads all of them; start at "
            f"{site.name}{FULL_SUFFIX}"
        )
    block = site.name.removesuffix(FULL_SUFFIX)
    after = BLOCKS[BLOCKS.index(block) + 1 :]
    stages: list[Stage] = _pooling(model, block)
    for later in after:
        stages += [*_block_stages(model, full[later + FULL_SUFFIX]), *_pooling(model, later)]
    head, shape = _Head(model), site.unit_shape

    def precise() -> PiecewiseLinearTail:
        return inceptionv1_tail(copy.deepcopy(model).double(), sites, classes, site)

    return PiecewiseTail(
        site,
        [full[later + FULL_SUFFIX] for later in after],
        stages,
        lambda activations: (activations.unflatten(1, shape),),
        head,
        names=classes,
        like=next(model.parameters()),
        precise_tail=precise,
        around=float32_convolutions,
    )


def _pooling(model: Any, block: str) -> list[Stage]:
    return [_PoolStage(Pooling.of(model.get_submodule(POOL_AFTER[block])))] if block in POOL_AFTER else []


def _block_stages(model: nn.Module, site: Site) -> list[Stage]:
    block = site.name.removesuffix(FULL_SUFFIX)
    module = model.get_submodule(block)
    return [_ConvStage(module, site)] if block in STEM else [_FirstStage(module, site), _SecondStage(module, site)]


def _preactivation(convolution: Any, values: Tensor) -> Tensor:
    """What a BasicConv2d computes before its ReLU."""
    result: Tensor = convolution.bn(convolution.conv(values))
    return result


def _ranges(site: Site, modules: Sequence[str]) -> tuple[tuple[str, GateRange], ...]:
    """The bits of a full site that belong to the modules, named within the block ('' is the block itself)."""
    block = site.name.removesuffix(FULL_SUFFIX)
    named = {gates.module.removeprefix(block).removeprefix("."): gates for gates in site.layout}
    return tuple((site.name, named[module]) for module in modules)


def _grids(preactivations: Tensor, ranges: Sequence[tuple[str, GateRange]]) -> list[Tensor]:
    """Flat preactivations as a tensor a module: points, channels, rows, columns."""
    runs = preactivations.split([gates.count for _, gates in ranges], dim=1)
    return [run.unflatten(1, (-1, *(gates.grid or ()))) for run, (_, gates) in zip(runs, ranges, strict=True)]


class _ConvStage(NoPooling):
    """A convolution of the stem. State before and after: its input, its output."""

    def __init__(self, module: Any, site: Site) -> None:
        self._module = module
        self.gates = _ranges(site, [""])

    def preactivations(self, state: State) -> Float[Tensor, "points gates"]:
        return _preactivation(self._module, state[0]).flatten(1)

    def blocks(self, state: State) -> Iterator[Block]:
        weight, padding = normed_weight(self._module), self._module.conv.padding
        return convolution_blocks(weight, state[0].shape[1:], padding=padding)

    def advance(self, state: State, preactivations: Float[Tensor, "points gates"]) -> State:
        return (_grids(preactivations, self.gates)[0].relu(),)


class _PoolStage:
    """A max-pooling layer between two blocks. State before and after: its input, its output."""

    gates: tuple[tuple[str, GateRange], ...] = ()

    def __init__(self, pool: Pooling) -> None:
        self._pool = pool

    def preactivations(self, state: State) -> Float[Tensor, "points gates"]:
        return state[0].new_zeros((len(state[0]), 0))

    def blocks(self, state: State) -> tuple[Block, ...]:
        return ()

    def windows(self, state: State) -> Float[Tensor, "points windows choices"]:
        return self._pool.windows(state[0])

    def switches(self, state: State) -> UInt8[Tensor, "points windows"]:
        return self._pool.switches(state[0])

    def advance(self, state: State, preactivations: Float[Tensor, "points gates"]) -> State:
        return (self._pool(state[0]),)


class _FirstStage:
    """The 1x1 convolutions that read a block's input, and branch 4's pooling of it.

    State before: the block's input. After: outputs of branch1, branch2.0 and branch3.0, and the pooled input.
    """

    def __init__(self, block: Any, site: Site) -> None:
        self._convolutions = block.branch1, block.branch2[0], block.branch3[0]
        self._pool = Pooling.of(block.branch4[0])
        self.gates = _ranges(site, ["branch1", "branch2.0", "branch3.0"])

    def preactivations(self, state: State) -> Float[Tensor, "points gates"]:
        return torch.cat([_preactivation(module, state[0]).flatten(1) for module in self._convolutions], dim=1)

    def blocks(self, state: State) -> Iterator[Block]:
        return convolution_blocks(torch.cat([normed_weight(m) for m in self._convolutions]), state[0].shape[1:])

    def windows(self, state: State) -> Float[Tensor, "points windows choices"]:
        return self._pool.windows(state[0])

    def switches(self, state: State) -> UInt8[Tensor, "points windows"]:
        return self._pool.switches(state[0])

    def advance(self, state: State, preactivations: Float[Tensor, "points gates"]) -> State:
        return (*(grid.relu() for grid in _grids(preactivations, self.gates)), self._pool(state[0]))


class _SecondStage(NoPooling):
    """The last convolutions of branches 2, 3 and 4. State before: as the first stage leaves it. After: the output."""

    def __init__(self, block: Any, site: Site) -> None:
        self._convolutions = block.branch2[1], block.branch3[1], block.branch4[1]
        self.gates = _ranges(site, ["branch2.1", "branch3.1", "branch4.1"])

    def preactivations(self, state: State) -> Float[Tensor, "points gates"]:
        inputs = zip(self._convolutions, state[1:], strict=True)
        return torch.cat([_preactivation(module, values).flatten(1) for module, values in inputs], dim=1)

    def blocks(self, state: State) -> Iterator[Block]:
        starts = accumulate(part[0].numel() for part in state)
        output = 0
        for module, part, start in zip(self._convolutions, state[1:], starts, strict=False):
            weight = normed_weight(module)
            yield from convolution_blocks(
                weight, part.shape[1:], padding=module.conv.padding, first_input=start, first_output=output
            )
            output += len(weight) * part.shape[2] * part.shape[3]

    def advance(self, state: State, preactivations: Float[Tensor, "points gates"]) -> State:
        return (torch.cat([state[0], *(grid.relu() for grid in _grids(preactivations, self.gates))], dim=1),)


class _Head:
    """Average pooling and the linear classifier. The dropout before it does nothing in evaluation mode."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, state: State) -> Float[Tensor, "points outputs"]:
        logits: Tensor = self._model.fc(self._model.avgpool(state[0]).flatten(1))
        return logits
