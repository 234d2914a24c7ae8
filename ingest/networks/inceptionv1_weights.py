"""A GoogLeNet from a choice of weights, and how images are fed to it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from atlas.errors import UsageError, WeightsError
from atlas.network import NetworkInfo

from .demo import INCEPTIONV1_WEIGHTS
from .googlenet import build_googlenet, preprocess, width_of
from .hub import fetch_torchvision
from .inceptionv1 import InceptionV1
from .loading import WeightsChoice, check_fit, read_state_dict, resolve_device, weights_digest
from .registry import LoadRequest

DEMO = "demo:inceptionv1"

IMAGE_SIZE = 224
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""How ImageNet images are fed to torchvision's networks (its `ImageClassification` preset)."""
IMAGENET_CLASSES = 1000

AUXILIARY = ("aux1.", "aux2.")
"""Classifiers that only training uses; torchvision's own are not even trained. Dropped from every state dict."""

CALIBRATION_BATCH = 32
"""Images of one step of the calibration. Part of the definition of a control: another number, other statistics."""

CalibrationImages = Sequence[Image] | Callable[[], Iterable[Image]]


@dataclass(frozen=True)
class Options:
    """How images are read. None: as the weights say, else 224 pixels and ImageNet's statistics, no more transform.

    ``classes`` is a text file with one name a line, or the names. ``transform_input`` undoes ImageNet's statistics
    for TF-slim's (0.5, 0.5), as torchvision's own weights need.
    """

    image_size: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    transform_input: bool | None = None
    classes: Path | Sequence[str] | None = None


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
    settled = _settle(options, material.reading)
    model, classes = _model(material, choice, settled, named=_class_names(options.classes))
    if choice.kind == "random":
        _calibrate(model, _calibration_images(calibration, f"{choice.kind}:{choice.seed}"), settled)
    info = NetworkInfo(
        name=request.name or source.replace(":", "-") + choice.name_suffix,
        architecture="GoogLeNet" if material.width == 1 else f"GoogLeNet, width {material.width:g}",
        kind="image",
        source=source,
        weights=choice.recorded(own),
        weights_digest=weights_digest(model.state_dict()),
        # Names that come with the weights will come with them again.
        reading=settled | {"classes": None if options.classes is None else list(classes)},
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


def _settle(asked: Options, known: Options) -> dict[str, Any]:
    """What `NetworkInfo.reading` holds besides class names: the user's word, then the weights', then the default."""

    def first(*choices: Any) -> Any:
        return next(choice for choice in choices if choice is not None)

    size = first(asked.image_size, known.image_size, IMAGE_SIZE)
    if size < 1:
        raise UsageError(f"image_size {size} is impossible; expected a number of pixels, {IMAGE_SIZE} by default")
    settled = {
        "image_size": size,
        "mean": list(first(asked.mean, known.mean, IMAGENET_MEAN)),
        "std": list(first(asked.std, known.std, IMAGENET_STD)),
        "transform_input": first(asked.transform_input, known.transform_input, False),
    }
    for field in ("mean", "std"):
        if len(settled[field]) != 3 or (field == "std" and min(settled[field]) <= 0):
            raise UsageError(
                f"{field} {settled[field]} is impossible; expected three numbers"
                f"{' above 0' if field == 'std' else ''}, for red, green and blue"
            )
    return settled


def _class_names(classes: Path | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names that the user gave, all different; None if he gave none."""
    if classes is None:
        return None
    names = tuple(_class_lines(Path(classes)) if isinstance(classes, (str, Path)) else classes)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise UsageError(f"class names must differ; {repeated[0]!r} occurs more than once")
    return names


def _class_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"class names {path} can't be read ({error}); expected a text file, a name a line"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _model(
    material: _Material, choice: WeightsChoice, settled: Mapping[str, Any], named: tuple[str, ...] | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The network on the CPU in evaluation mode, and the names of its classes."""
    known = material.classes if named is None else named
    n_classes = _n_classes(material, known)
    if known is not None and len(known) != n_classes:
        raise WeightsError(
            f"{len(known)} class names for {n_classes} outputs of weights {material.origin}; expected "
            "one name an output, in order"
        )
    # Weights overwrite what is drawn here, but a forked generator leaves the caller's random numbers alone.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(choice.seed)
        try:
            model = build_googlenet(n_classes, material.width, transform_input=settled["transform_input"])
        except ValueError as error:
            raise WeightsError(f"weights {material.origin} don't fit inceptionv1: {error}") from error
    if material.state is not None:
        _fill(model, material.state, material.origin)
    return model.eval(), known or tuple(f"class {index}" for index in range(n_classes))


def _n_classes(material: _Material, known: tuple[str, ...] | None) -> int:
    if material.state is None:
        return len(known) if known else IMAGENET_CLASSES
    if "fc.weight" not in material.state:
        raise WeightsError(
            f"weights {material.origin} don't fit inceptionv1: no 'fc.weight', which tells the number "
            "of classes. Pass a state dict of torchvision's GoogLeNet"
        )
    return int(material.state["fc.weight"].shape[0])


def _fill(model: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Copy weights into the network, auxiliary classifiers left out; `WeightsError` unless all the rest fits."""
    state = {name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY)}
    own = model.state_dict()
    misshapen = [
        (name, state[name].shape, own[name].shape)
        for name in state.keys() & own.keys()
        if state[name].shape != own[name].shape
    ]
    check_fit(origin, "inceptionv1", own.keys() - state.keys(), state.keys() - own.keys(), misshapen)
    model.load_state_dict(state)


def _calibration_images(calibration: CalibrationImages | None, weights: str) -> list[Image]:
    if calibration is None:
        raise UsageError(
            f"weights {weights} need images to calibrate the batch-norm statistics of an untrained network; pass "
            f"`calibration`, or take {weights.replace('random', 'random-raw')} (its activations shrink to nothing)"
        )
    images = list(calibration() if callable(calibration) else calibration)
    if len(images) < 2:
        raise UsageError(f"calibration of {weights} got {len(images)} images; expected 2 or more, better hundreds")
    return images


def _calibrate(model: nn.Module, images: Sequence[Image], settled: Mapping[str, Any]) -> None:
    """Set the running statistics of all batch norms by one pass over ``images`` in training mode, dropout off.

    The statistics are the mean over batches (``momentum=None``). Computed in double precision, so that the sums'
    order, which differs between machines, does not show in the float32 result: the digest stays the same.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    model.double().eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()  # the norms alone: dropout stays off
    n_batches = -(-len(images) // CALIBRATION_BATCH)
    with torch.no_grad():
        # Nearly equal batches: a last one of a single image would have no variance.
        for rows in torch.arange(len(images)).tensor_split(n_batches):
            chosen = [images[row] for row in rows.tolist()]
            model(preprocess(chosen, settled["image_size"], settled["mean"], settled["std"]).double())
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.float().eval()
