"""InceptionV1: torchvision's GoogLeNet, read at its twelve blocks.

The gates of an inception block are those of its branches in the order branch1, branch2.0, branch2.1, branch3.0,
branch3.1, branch4.1; the 1x1 reduce convolutions (branch2.0, branch3.0) are gates of the block but no part of its
output. A *position site* ``inception4c`` reads every module of the block at one place of the block's own grid, the
one that holds the example's relative position; a *full site* ``inception4c:full`` reads them everywhere.

Equal full codes of all blocks after a site mean the same affine map from there to the logits, provided that the
max-pooling layers between also pick the same inputs (inside each block, and after conv1, conv3, 3b, 4e): codes do not
hold these switches. Position codes leave the other places out and so are never ``exact``.

torchvision's weights are those of TF-slim's InceptionV1 with batch norm, and its "5x5" branches are 3x3. Unit numbers
do not match OpenAI Microscope or the Circuits articles, which show the original network without batch norm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from torch import Tensor, nn

from atlas.errors import UnknownName, UsageError
from atlas.network import FULL_SUFFIX, GateRange, ImageView, NetworkInfo, Reading, Scope, Site, View

from .image_inputs import preprocess
from .loading import off_device
from .packing import BITS, finite_rows, pack_bits, pack_positive

if TYPE_CHECKING:
    from .tails import PiecewiseTail

STEM = ("conv1", "conv2", "conv3")
BRANCHES = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
"""The convolutions of an inception block, in the order of the bits of its code."""
INCEPTION = tuple(f"inception{letters}" for letters in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"))
BLOCKS = (*STEM, *INCEPTION)


def modules_of(block: str) -> tuple[str, ...]:
    """The convolution modules of a block, in the order of its code's bits."""
    return (block,) if block in STEM else tuple(f"{block}.{branch}" for branch in BRANCHES)


class InceptionV1:
    """A GoogLeNet as an `ImageNetwork`. Made by `ingest.networks.load_network`.

    ``model`` is the live torchvision network in evaluation mode, for experiments that run parts of it.
    """

    def __init__(self, model: nn.Module, classes: Sequence[str], info: NetworkInfo) -> None:
        """``info.reading`` says how images are fed: ``image_size``, ``mean``, ``std``."""
        self.model = model.to(memory_format=_layout(next(model.parameters()).device))
        self._classes = tuple(classes)
        # A label that names two classes (ImageNet has such names) has no one target.
        unambiguous = {name for name, count in Counter(self._classes).items() if count == 1}
        self._class_index = {name: index for index, name in enumerate(self._classes) if name in unambiguous}
        self._info = info
        self._sites = _find_sites(model, int(info.reading["image_size"]), self.device)

    @property
    def info(self) -> NetworkInfo:
        return self._info

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._sites

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return next(self.model.parameters()).device

    def elsewhere(self) -> Callable[..., InceptionV1]:
        """Its weights, and what is known of it: a control may be calibrated on inputs that are not there."""
        return partial(_again, off_device(self.model), self._classes, self._info)

    def prepare(self, batch: Sequence[ImageView]) -> Float[Tensor, "views 3 size size"]:
        """The images as the network takes them, on its device."""
        reading = self._info.reading
        pixels = preprocess([view.image for view in batch], reading["image_size"], reading["mean"], reading["std"])
        return pixels.to(self.device, memory_format=_layout(self.device))

    def read(self, batch: Sequence[ImageView], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        """Run images together and read the given sites, position sites at each view's place.

        Raises `UsageError` for a position outside [0, 1) and `UnknownName` for a foreign site.
        """
        self._check(batch, codes, activations)
        probe = _Probe(_positions(batch).to(self.device), {site.name for site in codes})
        with torch.inference_mode(), float32_convolutions(), ExitStack() as hooks:
            for site in codes:
                for module in modules_of(_block(site)):
                    batch_norm = self.model.get_submodule(f"{module}.bn")
                    hooks.enter_context(_hooked(batch_norm, probe.gates_of(site)))
                hooks.enter_context(_hooked(self.model.get_submodule(_block(site)), probe.pack(site)))
            for site in activations:
                hooks.enter_context(_hooked(self.model.get_submodule(_block(site)), probe.activation_of(site)))
            logits = self.model(self.prepare(batch))
        predicted, probability, loss = _outcome(logits, self._targets(batch))
        return Reading(
            codes={name: packed.cpu().numpy() for name, packed in probe.codes.items()},
            activations={name: values.cpu().numpy() for name, values in probe.activations.items()},
            finite={name: finite.cpu().numpy() for name, finite in probe.finite.items()},
            prediction=[self._classes[index] for index in predicted.tolist()],
            probability=probability.cpu().numpy(),
            loss=loss.cpu().numpy(),
        )

    def preactivations(
        self, batch: Sequence[ImageView], sites: Sequence[Site]
    ) -> dict[str, Float32[np.ndarray, "views gates"]]:
        """Preactivations of the sites' gates in the order of their codes' bits. Raises as `read` does."""
        self._check(batch, sites, [])
        probe = _Probe(_positions(batch).to(self.device), set())
        with torch.inference_mode(), float32_convolutions(), ExitStack() as hooks:
            for site in sites:
                for module in modules_of(_block(site)):
                    batch_norm = self.model.get_submodule(f"{module}.bn")
                    hooks.enter_context(_hooked(batch_norm, probe.values_of(site)))
            self.model(self.prepare(batch))
        return {name: torch.cat(values, dim=1).float().cpu().numpy() for name, values in probe.values.items()}

    def tail(self, site: Site, work: View | None = None) -> PiecewiseTail:
        """What comes after a full site, as a function of its whole activation tensor; no image is needed for that.

        Raises `UnknownName` for a foreign site, `UsageError` for a position site.
        """
        from .inceptionv1_tail import inceptionv1_tail

        self._check([], [], [site])
        return inceptionv1_tail(self.model, self._sites, self._classes, site)

    def _targets(self, batch: Sequence[ImageView]) -> Int64[Tensor, " views"]:
        """The class of each view's label, −1 where it has none or one that names no single class of this network."""
        known = [-1 if view.label is None else self._class_index.get(view.label, -1) for view in batch]
        return torch.tensor(known, dtype=torch.int64, device=self.device)

    def _check(self, batch: Sequence[ImageView], codes: Sequence[Site], activations: Sequence[Site]) -> None:
        names = {site.name for site in self._sites}
        for site in (*codes, *activations):
            if site.name not in names:
                raise UnknownName(
                    f"{self._info.name} has no site {site.name!r}; its sites: {', '.join(BLOCKS)}, "
                    f"each also with {FULL_SUFFIX}"
                )
        for view in batch:
            if not (0 <= view.row < 1 and 0 <= view.column < 1):
                raise UsageError(
                    f"position ({view.row}, {view.column}) lies outside the image; expected row and "
                    "column from 0 up to, not including, 1"
                )


def _again(model: nn.Module, classes: Sequence[str], info: NetworkInfo, *, device: str) -> InceptionV1:
    return InceptionV1(model.to(device), classes, info)


def _layout(device: torch.device) -> torch.memory_format:
    """How tensors of images lie in memory; no shape and no order of a code depends on it.

    On a processor oneDNN's float32 convolutions take about half the time with the channels of a place side by side;
    on a GPU that helps half precision alone.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def _block(site: Site) -> str:
    return site.name.removesuffix(FULL_SUFFIX)


def _fill_bytes(site: Site) -> bool:
    """Whether every module's gates begin at a byte of the code, so that each can be packed by itself."""
    return all(run.start % BITS == 0 for run in site.layout)


def _positions(batch: Sequence[ImageView]) -> Float[Tensor, "views 2"]:
    # Double: in single precision 0.99999999 would be 1, outside the grid.
    return torch.tensor([(view.row, view.column) for view in batch], dtype=torch.float64).reshape(-1, 2)


@dataclass
class _Probe:
    """Hooks that read gates and activations while the forward pass still holds them.

    BasicConv2d applies its ReLU in place, onto the tensor that its batch norm gave out: preactivations are there for
    the batch norm's hook alone, and what it keeps must be a copy. What a block's hooks took waits in ``_taken`` until
    the block is done: preactivations at one place, or whole tensors of gates, packed where each module's fill bytes.
    """

    positions: Float[Tensor, "views 2"]
    coded: set[str]
    codes: dict[str, UInt8[Tensor, "views bytes"]] = field(default_factory=dict)
    activations: dict[str, Float[Tensor, "views units"]] = field(default_factory=dict)
    finite: dict[str, Bool[Tensor, " views"]] = field(default_factory=dict)
    values: dict[str, list[Float[Tensor, "views gates"]]] = field(default_factory=dict)
    _taken: dict[str, list[Tensor]] = field(default_factory=dict)
    _cells: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)

    def gates_of(self, site: Site) -> Callable[[Tensor], None]:
        """A hook for the output of a batch norm. The modules of a block run in the order of its bits."""

        def take(preactivations: Float[Tensor, "views channels rows columns"]) -> None:
            read = self._at(site, preactivations)
            if site.scope == "full":
                self._note(site, read)
                read = pack_positive(read) if _fill_bytes(site) else read > 0
            self._taken.setdefault(site.name, []).append(read)

        return take

    def values_of(self, site: Site) -> Callable[[Tensor], None]:
        """A hook for the output of a batch norm that keeps a copy of it, before the ReLU overwrites it."""

        def take(preactivations: Float[Tensor, "views channels rows columns"]) -> None:
            self.values.setdefault(site.name, []).append(self._at(site, preactivations).clone())

        return take

    def pack(self, site: Site) -> Callable[[Tensor], None]:
        """A hook for the output of a block, by when all its gates are known."""

        def take(_: Tensor) -> None:
            taken = torch.cat(self._taken.pop(site.name), dim=1)
            if site.scope == "position":
                self._note(site, taken)
                taken = pack_positive(taken)
            elif not _fill_bytes(site):
                taken = pack_bits(taken)
            self.codes[site.name] = taken

        return take

    def activation_of(self, site: Site) -> Callable[[Tensor], None]:
        """A hook for the output of a block."""

        def take(output: Float[Tensor, "views channels rows columns"]) -> None:
            self.activations[site.name] = self._at(site, output)
            # ReLU maps finite to finite, so where the gates were looked at, the activations need not be.
            if site.name not in self.coded:
                self._note(site, self.activations[site.name])

        return take

    def _at(self, site: Site, values: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views units"]:
        if site.scope == "full":
            return values.flatten(1)
        views, rows, columns = self._cell(*values.shape[2:])
        return values[views, :, rows, columns]

    def _cell(self, n_rows: int, n_columns: int) -> tuple[Tensor, Tensor, Tensor]:
        """Indexes of each view's place on a grid; five grids serve 57 modules."""
        if (n_rows, n_columns) not in self._cells:
            rows, columns = grid_index(self.positions[:, 0], n_rows), grid_index(self.positions[:, 1], n_columns)
            views = torch.arange(len(self.positions), device=self.positions.device)
            self._cells[n_rows, n_columns] = views, rows, columns
        return self._cells[n_rows, n_columns]

    def _note(self, site: Site, values: Float[Tensor, "views units"]) -> None:
        finite = finite_rows(values)
        self.finite[site.name] = self.finite[site.name] & finite if site.name in self.finite else finite


def grid_index(relative: Float[Tensor, " views"], size: int) -> Int64[Tensor, " views"]:
    """The cell in which a relative position in [0, 1) lies, of ``size`` cells: min(⌊relative · size⌋, size − 1)."""
    return (relative * size).long().clamp(max=size - 1)


@contextmanager
def _hooked(module: nn.Module, take: Callable[[Tensor], None]) -> Iterator[None]:
    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        take(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """No TF32 (cuDNN's default for convolutions, with 10 bits of mantissa), and the same algorithm each time."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _outcome(
    logits: Float[Tensor, "views classes"], targets: Int64[Tensor, " views"]
) -> tuple[Int64[Tensor, " views"], Float[Tensor, " views"], Float[Tensor, " views"]]:
    """The likeliest class, its probability, and −log p(target) in nats (NaN where the target is −1)."""
    log_probability = logits.log_softmax(dim=1)
    best, predicted = log_probability.max(dim=1)
    loss = -log_probability.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    return predicted, best.exp(), loss.masked_fill(targets < 0, float("nan"))


def _find_sites(model: nn.Module, image_size: int, device: torch.device) -> tuple[Site, ...]:
    """All sites, position sites first; grids are found by running one black image."""
    shapes = _shapes(model, image_size, device)
    position = [_site(block, ordinal, shapes, "position") for ordinal, block in enumerate(BLOCKS)]
    full = [_site(block, ordinal, shapes, "full") for ordinal, block in enumerate(BLOCKS)]
    return (*position, *full)


def _shapes(model: nn.Module, image_size: int, device: torch.device) -> dict[str, tuple[int, int, int]]:
    """Channels, rows and columns of the output of every block and every convolution module."""
    shapes: dict[str, tuple[int, int, int]] = {}

    def note(name: str) -> Callable[[Tensor], None]:
        def take(output: Tensor) -> None:
            _, channels, rows, columns = output.shape
            shapes[name] = (channels, rows, columns)

        return take

    names = {name for block in BLOCKS for name in (block, *modules_of(block))}
    with torch.inference_mode(), ExitStack() as hooks:
        for name in sorted(names):
            hooks.enter_context(_hooked(model.get_submodule(name), note(name)))
        model(torch.zeros(1, 3, image_size, image_size, device=device))
    return shapes


def _site(block: str, ordinal: int, shapes: dict[str, tuple[int, int, int]], scope: Scope) -> Site:
    layout, start = [], 0
    for module in modules_of(block):
        channels, rows, columns = shapes[module]
        count = channels * rows * columns if scope == "full" else channels
        layout.append(GateRange(module, start, count, (rows, columns) if scope == "full" else None))
        start += count
    unit_shape = shapes[block] if scope == "full" else shapes[block][:1]
    return Site(
        name=block + FULL_SUFFIX if scope == "full" else block,
        ordinal=ordinal,
        n_units=int(np.prod(unit_shape)),
        n_gates=start,
        nonlinearity="relu",
        exact=scope == "full",
        scope=scope,
        unit_shape=unit_shape,
        layout=tuple(layout),
    )
