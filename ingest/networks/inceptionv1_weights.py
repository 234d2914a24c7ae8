"""A GoogLeNet from a choice of weights, and how images are fed to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from atlas.errors import UsageError, WeightsError
from atlas.network import NetworkInfo

from .controls import calibrate, calibration_inputs
from .demo import INCEPTIONV1_WEIGHTS
from .googlenet import RGB_CHANNELS, SMALLEST_IMAGE, build_googlenet, width_of
from .hub import fetch_torchvision
from .image_inputs import IMAGE_SIZE, ImageOptions, class_names, first, preprocess, settled
from .inceptionv1 import InceptionV1
from .loading import COUNTER, WeightsChoice, check_fit, read_state_dict, resolve_device, weights_digest
from .registry import LoadRequest

DEMO = "demo:inceptionv1"

IMAGENET_CLASSES = 1000

AUXILIARY = ("aux1.", "aux2.")
"""Classifiers that only training uses; torchvision's own are not even trained. Dropped from every state dict."""


@dataclass(frozen=True)
class Options(ImageOptions):
    """How images are read. ``transform_input`` undoes ImageNet's statistics for TF-slim's (0.5, 0.5), as
    torchvision's own weights need; None: as the weights say, else not."""

    transform_input: bool | None = None


@dataclass(frozen=True)
class _Material:
    """Weights, or their absence (a control is drawn), with what is known about how to use them."""

    state: Mapping[str, Tensor] | None
    width: float
    origin: str
    reading: Options = Options()
    classes: tuple[str, ...] | None = None


def load(request: LoadRequest, options: Options) -> InceptionV1:
    """Load ``inceptionv1`` or ``demo:inceptionv1`` with the chosen weights.

    ``request.calibration`` gives the images that set the batch-norm statistics of a ``random:SEED`` control.
    Raises `WeightsError` for weights or class names that do not fit, `HubUnavailable` where torchvision's can't be
    had, `UsageError` for an impossible argument or a missing calibration.
    """
    source, calibration = request.source, request.calibration
    target = resolve_device(request.device)
    own = "demo" if source == DEMO else "hub"
    choice = WeightsChoice.parse(request.weights, own)
    if calibration is not None and choice.kind != "random":
        chosen = request.weights or "its own"
        raise UsageError(f"calibration images are for random:SEED weights; {source} has {chosen}")
    material = _material(source, choice)
    reading = settled(options, material.reading)
    if len(reading["mean"]) != RGB_CHANNELS:
        raise UsageError(f"mean {reading['mean']} is impossible; {source} reads red, green and blue: three numbers")
    if reading["image_size"] < SMALLEST_IMAGE:
        raise UsageError(
            f"image_size {reading['image_size']} is impossible for {source}, whose pooling leaves nothing of images "
            f"below {SMALLEST_IMAGE} pixels; {IMAGE_SIZE} is usual"
        )
    reading["transform_input"] = first(options.transform_input, material.reading.transform_input, False)
    model, classes = _model(material, choice, reading, named=class_names(options.classes))
    if choice.kind == "random":
        pass_on = partial(preprocess, size=reading["image_size"], mean=reading["mean"], std=reading["std"])
        calibrate(model, calibration_inputs(calibration, f"{choice.kind}:{choice.seed}"), pass_on)
    info = NetworkInfo(
        name=request.name or source.replace(":", "-") + choice.name_suffix,
        architecture="GoogLeNet" if material.width == 1 else f"GoogLeNet, width {material.width:g}",
        kind="image",
        source=source,
        weights=choice.recorded(own),
        weights_digest=weights_digest(model.state_dict()),
        # Names that come with the weights will come with them again.
        reading=reading | {"classes": None if options.classes is None else list(classes)},
    )
    return InceptionV1(model.to(target), classes, info)


def _material(source: str, choice: WeightsChoice) -> _Material:
    if choice.path is not None:
        return _from_file(choice.path)
    if source == DEMO:
        shipped = _from_file(INCEPTIONV1_WEIGHTS)
        return replace(shipped, state=None) if choice.is_control else shipped
    if choice.is_control:
        return _Material(None, 1.0, source)
    return _Material(
        fetch_torchvision(_torchvision_weights(), source),
        1.0,
        "hub",
        Options(transform_input=True),
        _imagenet_classes(),
    )


def _from_file(path: Path) -> _Material:
    """Weights in a file; one that tells in its metadata how to be fed (the shipped one does) is believed.

    torchvision's own file is known by its hash, whatever it is called: it needs ``transform_input``.
    """
    state, metadata = read_state_dict(path)
    try:
        width = width_of(state)
    except ValueError as error:
        raise WeightsError(f"weights {path} don't fit inceptionv1: {error}") from error
    if _is_hub_file(path):
        return _Material(state, width, str(path), Options(transform_input=True), _imagenet_classes())
    classes = tuple(metadata["classes"].split()) if "classes" in metadata else None
    return _Material(state, width, str(path), _metadata_reading(path, metadata), classes)


def _torchvision_weights() -> Any:
    """torchvision's entry for its one set of GoogLeNet weights: address, class names, how to feed it."""
    from torchvision.models import GoogLeNet_Weights

    return GoogLeNet_Weights.IMAGENET1K_V1


def _is_hub_file(path: Path) -> bool:
    # torch hub names a file after the first digits of its SHA-256.
    digits = Path(_torchvision_weights().url).stem.rpartition("-")[2]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(digits)


def _imagenet_classes() -> tuple[str, ...]:
    return tuple(_torchvision_weights().meta["categories"])


def _metadata_reading(path: Path, metadata: Mapping[str, str]) -> Options:
    try:
        return Options(
            image_size=int(metadata["size"]) if "size" in metadata else None,
            mean=tuple(map(float, metadata["mean"].split())) if "mean" in metadata else None,
            std=tuple(map(float, metadata["std"].split())) if "std" in metadata else None,
        )
    except ValueError as error:
        raise WeightsError(
            f"weights {path}: their metadata can't be understood ({error}); expected `size` as a "
            "whole number, `mean` and `std` as three numbers"
        ) from error


def _model(
    material: _Material, choice: WeightsChoice, reading: Mapping[str, Any], named: tuple[str, ...] | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network on the CPU in evaluation mode, and the names of its classes."""
    known = material.classes if named is None else named
    n_classes = _n_classes(material, known)
    if known is not None and len(known) != n_classes:
        raise WeightsError(
            f"{len(known)} class names for {n_classes} outputs of weights {material.origin}; expected "
            "one name an output, in order"
        )
    build = partial(build_googlenet, n_classes, material.width, transform_input=reading["transform_input"])
    try:
        if material.state is None:
            # A forked generator leaves the caller's random numbers alone.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(choice.seed)
                model = build()
        else:
            with torch.device("meta"):  # shapes alone: the numbers are those of the file
                model = build()
            _fill(model, material.state, material.origin)
    except ValueError as error:
        raise WeightsError(f"weights {material.origin} don't fit inceptionv1: {error}") from error
    return model.eval(), known or tuple(f"class {index}" for index in range(n_classes))


def _n_classes(material: _Material, known: tuple[str, ...] | None) -> int:
    if material.state is None:
        return len(known) if known else IMAGENET_CLASSES
    last = material.state.get("fc.weight")
    if last is None or last.ndim != 2:
        raise WeightsError(
            f"weights {material.origin} don't fit inceptionv1: no matrix 'fc.weight', which tells the number "
            "of classes. Pass a state dict of torchvision's GoogLeNet"
        )
    return len(last)


def _fill(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Give weights to a network of shapes, auxiliary classifiers left out; `WeightsError` unless the rest fits."""
    state = {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY)}
    own = model.state_dict()
    misshapen = [
        (name, state[name].shape, own[name].shape)
        for name in state.keys() & own.keys()
        if state[name].shape != own[name].shape
    ]
    counters = {name: torch.zeros_like(own[name], device="cpu") for name in own if name.endswith(COUNTER)}
    state = counters | state
    check_fit(origin, "inceptionv1", own.keys() - state.keys(), state.keys() - own.keys(), misshapen)
    model.load_state_dict({name: tensor.to(own[name].dtype) for name, tensor in state.items()}, assign=True)
