"""Modules of torch to ingest: handed over live, built by torchvision or timm, or by a function of the user's own."""

from __future__ import annotations

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
from atlas.network import ImageView, Kind, NetworkInfo, VectorView

from .image_inputs import ImageOptions, class_names, preprocess, settled
from .loading import weights_digest
from .module import ModuleNetwork, device_of
from .registry import LIVE

if TYPE_CHECKING:
    from .registry import LoadRequest


@dataclass(frozen=True)
class Options(ImageOptions):
    """How inputs are read. ``shape``: of one vector, as the network takes it. ``sites_at``: modules to read sites at,
    in place of the blocks that are found."""

    shape: Sequence[int] | None = None
    sites_at: Sequence[str] | None = None


@dataclass(frozen=True)
class _Feed:
    """How a batch of examples becomes the input, the shape of one, and what an atlas records of that."""

    prepare: Callable[[Sequence[Any]], Tensor]
    shape: tuple[int, ...]
    reading: dict[str, Any]


Transform = Callable[[Image.Image], Tensor]


def network(
    model: nn.Module,
    *,
    inputs: Kind = "image",
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
        inputs: what it reads, ``image`` or ``vector``.
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
    if inputs not in ("image", "vector"):
        raise UsageError(f"inputs is {inputs!r}; a module reads 'image' or 'vector'")
    options = Options(image_size, mean, std, class_names(classes), shape, sites_at)
    feed = _vectors(model, options) if inputs == "vector" else _images(options, ImageOptions(), transform)
    architecture = type(model).__name__
    info = NetworkInfo(name or architecture.lower(), architecture, inputs, LIVE, LIVE, "")
    return _network(model, info, feed, options)


def load(request: LoadRequest, options: Options) -> ModuleNetwork:
    """Raises `UsageError`: nothing says how to build a module that was handed over live."""
    raise UsageError(
        f"network {request.name} was handed over from Python, and nothing says how to build it again: hand it over "
        "as `reader=ingest.network(model, …)`"
    )


def _network(model: nn.Module, info: NetworkInfo, feed: _Feed, options: Options) -> ModuleNetwork:
    device_of(model)  # before its weights are read
    classes, at = class_names(options.classes), options.sites_at
    said = {"classes": None if classes is None else list(classes), "sites_at": None if at is None else list(at)}
    info = replace(info, weights_digest=weights_digest(model.state_dict()), reading=feed.reading | said)
    return ModuleNetwork(model, info, feed.prepare, feed.shape, classes=classes, at=at)


def _images(options: Options, known: ImageOptions, transform: Transform | None) -> _Feed:
    reading = settled(options, known)
    size = reading["image_size"]
    if transform is None:

        def prepare(batch: Sequence[ImageView]) -> Tensor:
            return preprocess([view.image for view in batch], size, reading["mean"], reading["std"])

        return _Feed(prepare, (len(reading["mean"]), size, size), reading)

    def transformed(batch: Sequence[ImageView]) -> Tensor:
        return torch.stack([transform(view.image) for view in batch])

    example = transformed([ImageView(Image.new("RGB", (size, size)))])
    return _Feed(transformed, tuple(example.shape[1:]), {"transform": _in_words(transform)})


def _vectors(model: nn.Module, options: Options) -> _Feed:
    shape = options.shape
    if shape is None:
        linear = next((module for module in model.modules() if isinstance(module, nn.Linear)), None)
        if linear is None:
            raise UsageError("the network has no linear layer that tells how long a vector is; give shape=(n,)")
        shape = (linear.in_features,)

    def prepare(batch: Sequence[VectorView]) -> Tensor:
        return torch.from_numpy(np.stack([view.numbers for view in batch])).float().reshape(-1, *shape)

    return _Feed(prepare, tuple(shape), {"shape": list(shape)})


def _in_words(transform: Transform) -> str:
    """What an atlas records of a function, the same whenever it is called."""
    name = getattr(transform, "__qualname__", None)
    if name is not None:
        return f"{transform.__module__}.{name}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(transform))
