"""Modules of torch to ingest: handed over live, built by torchvision or timm, or by a function of the user's own."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from atlas.errors import UsageError
from atlas.network import ImageView, Kind, Network, NetworkInfo, VectorView, View

from .controls import Calibration, calibrate, calibration_inputs, has_batch_norm, reset_by_itself
from .image_inputs import ImageOptions, class_names, preprocess, settled
from .loading import WeightsChoice, read_state_dict, resolve_device, weights_digest
from .module import ModuleNetwork, device_of
from .module_sources import Known, ModuleSource, classes_of, filled, module_source
from .registry import LIVE, is_built

if TYPE_CHECKING:
    from .registry import LoadRequest


@dataclass(frozen=True)
class Options(ImageOptions):
    """How inputs are read. ``inputs``: image or vector; by default images where the first layer is a convolution.
    ``shape``: of one vector, as the network takes it. ``outputs``: how many a network of a library is built with.
    ``sites_at``: modules to read sites at, in place of the blocks that are found.

    Images for a network of one channel are read in grey, 0..1, unless ``mean`` and ``std`` say otherwise.
    """

    inputs: Kind | None = None
    shape: Sequence[int] | None = None
    outputs: int | None = None
    sites_at: Sequence[str] | None = None


@dataclass(frozen=True)
class _Feed:
    """How a batch of examples becomes the input, the shape of one, and what an atlas records of that."""

    prepare: Callable[[Sequence[Any]], Tensor]
    shape: tuple[int, ...]
    reading: dict[str, Any]
    view: Callable[[Any], View]


Transform = Callable[[Image.Image], Tensor]


def network(
    model: nn.Module,
    *,
    inputs: Kind | None = None,
    name: str | None = None,
    classes: str | Path | Sequence[str] | None = None,
    transform: Transform | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    shape: Sequence[int] | None = None,
    sites_at: Sequence[str] | None = None,
) -> ModuleNetwork:
    """Any module of torch, to ingest and to ask with: its gates are found where they run (SCIENCE 15).

    Args:
        model: the module. It is put into evaluation mode, and read on the device where it is.
        inputs: what it reads, ``image`` or ``vector``; default images where its first layer is a convolution.
        name: what the atlas calls it; default the name of its class, in lower case.
        classes: names of its outputs in order, or a text file with one a line; default ``class 0`` and so on.
        transform: makes an image the input, without the axis of the batch; images of any size must give one shape.
            Default: RGB, squeezed to ``image_size`` pixels a side, 0..1, less ``mean``, over ``std``.
        image_size: pixels a side; default 224.
        mean: of each channel; default ImageNet's. A single number: images are made grey.
        std: the same.
        shape: of one vector; default one axis, as long as the first linear layer is wide.
        sites_at: modules to read sites at (``["layer1", "layer2"]``); default: the blocks that hold gates.

    Returns:
        The network, a `ModuleNetwork`.

    Raises:
        UsageError: an argument is impossible, or the weights are not all float32 and on one device.
        UnknownName: ``sites_at`` names no module.
        UnsupportedNetwork: it has no gates, or some that can't be read.
    """
    options = Options(image_size, mean, std, class_names(classes), inputs, shape, None, sites_at)
    architecture = type(model).__name__
    info = NetworkInfo(name or architecture.lower(), architecture, _kind(model, options), LIVE, LIVE, "")
    return _network(model, info, _feed(model, options, ImageOptions(), transform), options)


def load(request: LoadRequest, options: Options) -> ModuleNetwork:
    """A network of torchvision or timm, or one that a function of the user's own builds, with the chosen weights.

    Raises `UsageError` for a module that was handed over live, which nothing says how to build again; and all that
    `ingest.load_network` raises.
    """
    if request.source == LIVE:
        raise UsageError(
            f"network {request.name} was handed over from Python, and nothing says how to build it again: hand it "
            "over as `reader=ingest.network(model, …)`"
        )
    device = resolve_device(request.device)
    source = module_source(request.source)
    choice = WeightsChoice.parse(request.weights, source.own)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(choice.seed)
        model, known = _with_weights(source, choice, options.outputs)
    model.eval()
    if known is not None and known.undoes_imagenet:
        model.transform_input = True  # type: ignore[assignment]
    feed = _feed(model, options, source.fed, None)
    if choice.kind == "random" and has_batch_norm(model):
        inputs = calibration_inputs(request.calibration, f"{choice.kind}:{choice.seed}")
        calibrate(model, inputs, lambda some: feed.prepare([feed.view(content) for content in some]))
    info = NetworkInfo(
        request.name or source.name + choice.name_suffix,
        source.architecture,
        _kind(model, options),
        request.source,
        choice.recorded(source.own),
        "",
    )
    # Names that come with the weights will come with them again.
    named = class_names(options.classes)
    network = _network(model.to(device), info, feed, options, classes_of(known, named))
    return network


def live_control(network: Network, weights: str, calibration: Calibration | None) -> ModuleNetwork:
    """An untrained control of a module that was handed over: a copy with initial weights, fed the same way."""
    assert isinstance(network, ModuleNetwork)  # no other is handed over
    choice, info = WeightsChoice.parse(weights, LIVE), network.info
    model = copy.deepcopy(network.model).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(choice.seed)
        reset_by_itself(model, info.name)
    if choice.kind == "random" and has_batch_norm(model):
        view = VIEWS[info.kind]
        inputs = calibration_inputs(calibration, weights)
        calibrate(model, inputs, lambda some: network.feed([view(content) for content in some]))
    model.to(network.device)
    digest = weights_digest(model.state_dict())
    name = info.name + choice.name_suffix
    return network.beside(model, replace(info, name=name, weights=choice.recorded(LIVE), weights_digest=digest))


def _with_weights(source: ModuleSource, choice: WeightsChoice, outputs: int | None) -> tuple[nn.Module, Known | None]:
    """The network on the CPU, and what is known of its weights."""
    if choice.is_control:
        model = source.build(outputs)
        source.initial()(model)
        return model, None
    if choice.path is not None:
        state, _ = read_state_dict(choice.path)
        return filled(source, state, str(choice.path), outputs), source.recognised(choice.path)
    known = source.own_weights()
    model = source.build(outputs) if known is None else filled(source, known.state, source.own, outputs)
    return model, known


def _network(
    model: nn.Module, info: NetworkInfo, feed: _Feed, options: Options, classes: Sequence[str] | None = None
) -> ModuleNetwork:
    device_of(model)  # before its weights are read
    named, at = class_names(options.classes), options.sites_at
    facts = {
        "classes": None if named is None else list(named),
        "inputs": options.inputs,
        "outputs": options.outputs,
        "sites_at": None if at is None else list(at),
        "batch_norm": has_batch_norm(model),
    }
    info = replace(info, weights_digest=weights_digest(model.state_dict()), reading=feed.reading | facts)
    names = named if named is not None else classes
    return ModuleNetwork(model, info, feed.prepare, feed.shape, classes=names, at=at)


VIEWS: dict[Kind, Callable[[Any], View]] = {
    "image": ImageView,
    "vector": lambda numbers: VectorView(np.asarray(numbers, np.float32).ravel()),
}
"""What a network reads of an input of each kind."""


def _kind(model: nn.Module, options: Options) -> Kind:
    """What a network reads: what the user says, else images where its first layer is a convolution."""
    if options.inputs is not None:
        if options.inputs not in VIEWS:
            raise UsageError(f"inputs is {options.inputs!r}; a module reads {' or '.join(map(repr, VIEWS))}")
        return options.inputs
    return "image" if isinstance(_first_layer(model), nn.Conv2d) else "vector"


def kind_of(source: str) -> Kind:
    """What a network reads: of a library images, of a function of the user's own what it builds says."""
    if not is_built(source):
        return "image"
    if source == LIVE:
        raise UsageError("a module that was handed over live says itself what it reads: its info.kind")
    return _kind(module_source(source).build(), Options())


LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _first_layer(model: nn.Module) -> nn.Module | None:
    return next((module for module in model.modules() if isinstance(module, LAYERS)), None)


def _feed(model: nn.Module, options: Options, known: ImageOptions, transform: Transform | None) -> _Feed:
    return FEEDS[_kind(model, options)](model, options, known, transform)


def _images(model: nn.Module, options: Options, known: ImageOptions, transform: Transform | None) -> _Feed:
    first = _first_layer(model)
    if isinstance(first, nn.Conv2d) and first.in_channels == 1:
        known = replace(known, mean=(0.0,), std=(1.0,))
    reading = settled(options, known)
    size = reading["image_size"]
    if transform is None:

        def prepare(batch: Sequence[ImageView]) -> Tensor:
            return preprocess([view.image for view in batch], size, reading["mean"], reading["std"])

        return _Feed(prepare, (len(reading["mean"]), size, size), reading, VIEWS["image"])

    def transformed(batch: Sequence[ImageView]) -> Tensor:
        return torch.stack([transform(view.image) for view in batch])

    example = transformed([ImageView(Image.new("RGB", (size, size)))])
    return _Feed(transformed, tuple(example.shape[1:]), {"transform": _in_words(transform)}, VIEWS["image"])


def _vectors(model: nn.Module, options: Options, *of_images: object) -> _Feed:
    shape = options.shape
    if shape is None:
        linear = _first_layer(model)
        if not isinstance(linear, nn.Linear):
            raise UsageError(
                "the network does not begin with a linear layer, which tells how long a vector is; give shape"
            )
        shape = (linear.in_features,)

    def prepare(batch: Sequence[VectorView]) -> Tensor:
        return torch.from_numpy(np.stack([view.numbers for view in batch])).float().reshape(-1, *shape)

    return _Feed(prepare, tuple(shape), {"shape": list(shape)}, VIEWS["vector"])


FEEDS: dict[Kind, Callable[[nn.Module, Options, ImageOptions, Transform | None], _Feed]] = {
    "image": _images,
    "vector": _vectors,
}


def _in_words(transform: Transform) -> str:
    """What an atlas records of a function, the same whenever it is called."""
    name = getattr(transform, "__qualname__", None)
    if name is not None:
        return f"{transform.__module__}.{name}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(transform))
