"""Any `torch.nn.Module`: its gates found where they run, its sites the blocks that a person recognises.

A *position site* ``layer3.1`` reads its gates at the one place of each grid that holds the example's relative
position; of patches in a row, at the patch that lies there. A *full site* ``layer3.1:full`` reads them everywhere. A
network without places (a perceptron) has the first alone, which are then whole codes.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor, nn

from atlas.errors import PolytopeError, UnknownName, UnsupportedNetwork, UsageError
from atlas.network import FULL_SUFFIX, NetworkInfo, Reading, Site, View

from .gates import Gate, gates_of, watched
from .inceptionv1 import float32_convolutions
from .loading import off_device
from .packing import BITS, finite_rows, pack_bits, pack_positive
from .replay import Replay
from .sites import Axes, Block, axes, axes_of, find_blocks, make_sites
from .tape import INPUT, PROBES, Tape, first_tensor, plain_attention, record

if TYPE_CHECKING:
    from .tails import StagedTail

Prepare = Callable[[Sequence[Any]], Tensor]


class ModuleNetwork:
    """A module of torch as a `Network`. Made by `ingest.network` and `ingest.load_network`.

    ``model`` is the live module in evaluation mode, ``feed`` makes examples its input, ``tape`` holds its operations
    and ``gates`` those that are gates, ``n_inputs`` says how many numbers one input has.
    """

    def __init__(
        self,
        model: nn.Module,
        info: NetworkInfo,
        prepare: Prepare,
        shape: tuple[int, ...],
        *,
        classes: Sequence[str] | None = None,
        at: Sequence[str] | None = None,
    ) -> None:
        """``prepare`` makes a batch of examples the input, on the CPU; ``shape`` is that of one. ``at``: modules to
        read sites at. Raises `UnsupportedNetwork`, `UnknownName`, `UsageError`."""
        self.model, self.info, self.feed = model, info, prepare
        self._shape, self._at = shape, at
        self.n_inputs = math.prod(shape)
        self.device = device_of(model)
        if model.training:
            warnings.warn(f"{info.name} was in training mode; it is read in evaluation mode", stacklevel=3)
            model.eval()
        self.tape = _recorded(model, shape, self.device)
        self.gates = gates_of(self.tape)
        blocks = find_blocks(self.tape, model, self.gates, at)
        channels = axes_of(self.tape)
        self.gate_axes = {
            gate.operation: axes(*_z(self.tape, gate, channels), f"what {gate.name} in {gate.module} reads")
            for block in blocks
            for gate in block.gates
        }
        self._outputs = [
            (block, axes(self.tape.shape(block.output), channels[block.output], f"the output of {block.name}"))
            for block in blocks
        ]
        self.output_axes = {block.name: found for block, found in self._outputs}
        self._check_outermost()
        self.blocks = {block.name: block for block in blocks}
        self.sites = make_sites(self.tape, blocks, self.gate_axes, self.output_axes)
        self.classes = _class_names(self.tape, classes)
        unambiguous = {name for name, count in Counter(self.classes).items() if count == 1}
        self._class_index = {name: i for i, name in enumerate(self.classes) if name in unambiguous}

    def _check_outermost(self) -> None:
        """Raise `UnsupportedNetwork` unless, where parts of inputs share an axis, the first input's come first."""
        operations = self.tape.operations
        sharing = {operations[number].args[0]: found for number, found in self.gate_axes.items() if found.share > 1}
        sharing |= {block.output: found for block, found in self._outputs if found.share > 1}
        if not sharing:
            return
        two = _noise(PROBES[0], self._shape).to(self.device)
        replay = Replay(self.tape, torch.float32)
        with torch.inference_mode(), float32_convolutions():
            together = replay.run({INPUT: two}, list(sharing), batch=PROBES[0])
            alone = replay.run({INPUT: two[:1]}, list(sharing), batch=1)
        for (value, found), both, one in zip(sharing.items(), together, alone, strict=True):
            first = both.narrow(found.batch, 0, one.shape[found.batch])
            if not torch.allclose(first, one, rtol=1e-3, atol=1e-4 * float(one.abs().max())):
                operation = operations[value.operation]
                raise UnsupportedNetwork(
                    f"{operation.name} in {operation.module or 'the network'} puts parts of several inputs between "
                    "each other along one axis, so that they can't be told apart; name sites elsewhere (--sites-at)"
                )

    def block(self, site: Site) -> Block:
        """What a site reads."""
        return self.blocks[site.name.removesuffix(FULL_SUFFIX)]

    def prepare(self, batch: Sequence[Any]) -> Float[Tensor, "views ..."]:
        """The examples as the network takes them, on its device."""
        return self.feed(batch).to(self.device)

    def beside(self, model: nn.Module, info: NetworkInfo) -> ModuleNetwork:
        """Another network of the same architecture, fed the same way and read at the same sites."""
        return ModuleNetwork(model, info, self.feed, self._shape, classes=self.classes or None, at=self._at)

    def elsewhere(self) -> Callable[..., ModuleNetwork]:
        """The module itself, whose class must be known there."""
        classes = self.classes or None
        return partial(_again, off_device(self.model), self.info, self.feed, self._shape, classes, self._at)

    def read(self, batch: Sequence[Any], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        """Run examples together and read the given sites, position sites at each view's place.

        Raises `UsageError` for a position outside [0, 1), `UnknownName` for a foreign site, `UnsupportedNetwork`
        where the network runs other operations than it was found to.
        """
        probe = _Probe(self, batch, codes, activations)
        prediction, probability, loss = self._outcome(self._run(batch, probe), batch)
        return Reading(
            codes={name: packed.cpu().numpy() for name, packed in probe.codes().items()},
            activations={name: values.float().cpu().numpy() for name, values in probe.activations.items()},
            finite={name: finite.cpu().numpy() for name, finite in probe.finite.items()},
            prediction=prediction,
            probability=probability,
            loss=loss,
        )

    def preactivations(
        self, batch: Sequence[Any], sites: Sequence[Site]
    ) -> dict[str, Float32[np.ndarray, "views gates"]]:
        """Preactivations less their thresholds, in the order of the codes' bits. Raises as `read` does."""
        probe = _Distances(self, batch, sites, [])
        self._run(batch, probe)
        return {site.name: torch.cat(probe.taken[site.name], dim=1).float().cpu().numpy() for site in sites}

    def tail(self, site: Site, work: View | None = None) -> StagedTail:
        """What comes after a whole site, as a function of its activation; of vectors also after ``input``.

        ``work``: the input for which all else is held as it is, where something flows past the site.
        Raises `UsageError` where the network can't be cut there, or needs an input and got none.
        """
        from .module_tail import module_tail

        return module_tail(self, site, work)

    def cut(self, site: Site) -> str:
        """Whether the network can be run onward from a site, in words: yes, with what is held, or why not."""
        from .module_tail import cut_in_words

        return cut_in_words(self, site)

    def _run(self, batch: Sequence[Any], probe: _Probe) -> Any:
        inputs = self.prepare(batch)
        watch = watched(
            self.model,
            self.tape,
            self.gates,
            probe.outputs,
            probe.before,
            probe.after,
            probe.modules,
            probe.leave,
        )
        with torch.inference_mode(), float32_convolutions(), plain_attention(), watch:
            return self.model(inputs)

    def _outcome(
        self, output: Any, batch: Sequence[Any]
    ) -> tuple[list[str], Float32[np.ndarray, " views"], Float32[np.ndarray, " views"]]:
        """The likeliest class, its probability, and −log p(label) in nats; of no classes '' and NaN."""
        nothing = np.full(len(batch), np.nan, np.float32)
        if not self.classes:
            return [""] * len(batch), nothing, nothing
        logits = first_tensor(output)
        assert logits is not None  # its shape told the number of classes
        log_probability = logits.log() if _ends_in_softmax(self.tape) else logits.log_softmax(dim=1)
        best, predicted = log_probability.max(dim=1)
        target = [self._class_index.get(view.label, -1) for view in batch]
        rows = [(row, column) for row, column in enumerate(target) if column >= 0]
        for row, column in rows:
            nothing[row] = -float(log_probability[row, column])
        return [self.classes[index] for index in predicted.tolist()], best.exp().float().cpu().numpy(), nothing


class _Probe:
    """Takes gates and activations while a forward pass still holds them.

    An operation in place may overwrite whatever was taken, so what is kept are copies: bits, or values at one place.
    """

    def __init__(
        self, network: ModuleNetwork, batch: Sequence[Any], codes: Sequence[Site], activations: Sequence[Site]
    ) -> None:
        _check(network, batch, (*codes, *activations))
        # Double: in single precision 0.99999999 would be 1, outside the grid.
        places = [(getattr(view, "row", 0.0), getattr(view, "column", 0.0)) for view in batch]
        self._positions = torch.tensor(places, dtype=torch.float64, device=network.device).reshape(-1, 2)
        self._views = torch.arange(len(batch), device=network.device)
        self._network, self._sites = network, codes
        self._coded: dict[int, list[Site]] = {}
        for site in codes:
            for gate in network.block(site).gates:
                self._coded.setdefault(gate.operation, []).append(site)
        self.modules: dict[str, list[Site]] = {}
        self.outputs: dict[int, list[Site]] = {}
        for site in activations:
            block = network.block(site)
            if block.module is None:
                self.outputs.setdefault(block.output.operation, []).append(site)
            else:
                self.modules.setdefault(block.module, []).append(site)
        self.taken: dict[str, list[Tensor]] = {site.name: [] for site in codes}
        self.activations: dict[str, Tensor] = {}
        self.finite: dict[str, Bool[Tensor, " views"]] = {}

    def before(self, gate: Gate, z: Tensor) -> None:
        """Take the bits of a gate from its preactivation."""
        for site in self._coded.get(gate.operation, ()):
            values = self._at(site, self._network.gate_axes[gate.operation], z)
            self._note(site, values)
            for threshold in gate.thresholds:
                if isinstance(threshold, Tensor):  # one a channel, as z lies
                    bits = self._at(site, self._network.gate_axes[gate.operation], z > threshold)
                    self.taken[site.name].append(pack_bits(bits) if _fills_bytes(site) else bits)
                elif not _fills_bytes(site):
                    self.taken[site.name].append(values > threshold)
                else:
                    packed = pack_positive(values) if threshold == 0 else pack_bits(values > threshold)
                    self.taken[site.name].append(packed)

    def after(self, operation: int, output: Any) -> None:
        """Take the activation of sites that hand on what this operation gives."""
        for site in self.outputs[operation]:
            self._take(site, first_tensor(output))

    def leave(self, path: str, output: Any) -> None:
        """Take the activation of sites that hand on what this module gives."""
        for site in self.modules[path]:
            self._take(site, first_tensor(output))

    def codes(self) -> dict[str, UInt8[Tensor, "views bytes"]]:
        """What was taken of every site as packed codes."""
        joined = {site: torch.cat(self.taken[site.name], dim=1) for site in self._sites}
        return {site.name: bits if _fills_bytes(site) else pack_bits(bits) for site, bits in joined.items()}

    def _take(self, site: Site, output: Any) -> None:
        values = self._at(site, self._network.output_axes[self._network.block(site).name], output).float()
        self.activations[site.name] = values.clone() if site.scope == "full" else values
        if site.name not in self.taken:
            self._note(site, values)

    def _at(self, site: Site, axes: Axes, tensor: Tensor) -> Tensor:
        arranged = axes.arranged(tensor)
        if site.scope == "full" or not axes.has_places:
            return arranged.flatten(1)
        rows, columns = axes.cells(self._positions)
        return arranged[self._views, :, rows, columns]

    def _note(self, site: Site, values: Tensor) -> None:
        finite = finite_rows(values)
        self.finite[site.name] = self.finite[site.name] & finite if site.name in self.finite else finite


class _Distances(_Probe):
    """Takes how far preactivations are beyond their thresholds, in place of bits."""

    def before(self, gate: Gate, z: Tensor) -> None:
        for site in self._coded.get(gate.operation, ()):
            axes = self._network.gate_axes[gate.operation]
            self.taken[site.name] += [self._at(site, axes, z - threshold).clone() for threshold in gate.thresholds]


def _check(network: ModuleNetwork, batch: Sequence[Any], sites: Sequence[Site]) -> None:
    names = {site.name for site in network.sites}
    for site in sites:
        if site.name not in names:
            raise UnknownName(
                f"{network.info.name} has no site {site.name!r}; it has {', '.join(s.name for s in network.sites)}"
            )
    for view in batch:
        if not (0 <= getattr(view, "row", 0) < 1 and 0 <= getattr(view, "column", 0) < 1):
            raise UsageError(
                f"position ({view.row}, {view.column}) lies outside the image; expected row and column from 0 up to, "
                "not including, 1"
            )


def _fills_bytes(site: Site) -> bool:
    """Whether the gates of every range begin at a byte of the code, so that each can be packed by itself."""
    return all(gates.start % BITS == 0 for gates in site.layout)


def _again(
    model: nn.Module,
    info: NetworkInfo,
    feed: Prepare,
    shape: tuple[int, ...],
    classes: Sequence[str] | None,
    at: Sequence[str] | None,
    *,
    device: str,
) -> ModuleNetwork:
    return ModuleNetwork(model.to(device), info, feed, shape, classes=classes, at=at)


def _recorded(model: nn.Module, shape: tuple[int, ...], device: torch.device) -> Tape:
    try:
        with float32_convolutions():
            return record(model, lambda n: _noise(n, shape).to(device))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if isinstance(error, PolytopeError):
            raise
        raise UsageError(
            f"the network can't be run on {PROBES[0]} inputs of shape {shape}: {error}. Give the size that it takes "
            "(image_size, mean and std of as many channels; shape, of a vector)"
        ) from error


def _noise(n: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn((n, *shape), generator=torch.Generator().manual_seed(n))


def _z(tape: Tape, gate: Gate, channels: dict[Any, int]) -> tuple[tuple[Any, ...], int]:
    """Shape and axis of channels of what a gate compares with its thresholds."""
    operation = tape.operations[gate.operation]
    source = operation.inputs[0]
    # Of a gated linear unit, half; its other operations give what they read the shape that it had.
    return (operation.shapes[0] if gate.is_halved else tape.shape(source)), channels[source]


def device_of(model: nn.Module) -> torch.device:
    """Where a network is. Raises `UsageError` where its parts are on several devices or not in float32."""
    tensors = {name: t for name, t in (*model.named_parameters(), *model.named_buffers()) if t.is_floating_point()}
    devices = sorted({str(tensor.device) for tensor in tensors.values()})
    if len(devices) > 1:
        raise UsageError(
            f"the network is on several devices ({', '.join(devices)}); move all of it to one: model.to(…)"
        )
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise UsageError(f"{name} is {tensor.dtype}; networks are read in torch.float32: pass model.float()")
    return torch.device(devices[0] if devices else "cpu")


def _class_names(tape: Tape, names: Sequence[str] | None) -> tuple[str, ...]:
    """A name for each class that the output scores; none where it is no vector of scores."""
    shape = () if tape.output is None else tape.shape(tape.output)
    n_classes = shape[1] if len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 1 else 0
    if names is None and (math.prod(tape.input_shape[1:]) == n_classes or not n_classes):
        return ()  # as many outputs as inputs: what an autoencoder makes of them again
    if names is None:
        return tuple(f"class {index}" for index in range(n_classes))
    if len(names) != n_classes:
        raise UsageError(
            f"{len(names)} class names for an output of shape {shape}; expected one for each of its scores"
        )
    return tuple(names)


def _ends_in_softmax(tape: Tape) -> bool:
    return tape.output is not None and tape.operations[tape.output.operation].name == "softmax"
