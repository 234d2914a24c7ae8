"""Adapters: one module for each kind of network that can be ingested, and the one function that loads them all.

>>> network = load_network("demo:gpt2")
>>> tokens = network.tokenize("The quick brown fox")

Importing this package loads neither torch nor transformers; loading a network does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atlas.errors import UsageError
from atlas.network import Network, NetworkInfo

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["IMAGE_SOURCES", "load_control", "load_network", "reload_network"]

IMAGE_SOURCES = ("inceptionv1", "demo:inceptionv1")
"""Sources that are image networks; every other one is a causal language model."""


def load_network(
    source: str,
    *,
    weights: str | None = None,
    name: str | None = None,
    device: str = "auto",
    prepend_bos: bool | None = None,
    max_length: int | None = None,
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    transform_input: bool | None = None,
    classes: Path | Sequence[str] | None = None,
    calibration: Sequence[Image] | Callable[[], Iterable[Image]] | None = None,
) -> Network:
    """Load a network to ingest.

    Args:
        source: ``demo:gpt2`` and ``demo:inceptionv1`` (shipped), ``inceptionv1``, a folder in Hugging Face's format,
            or the hub name of a causal language model, such as ``gpt2``.
        weights: None or ``hub``: those of the source. A file (``.safetensors``, ``.pt``, ``.pth``; for language
            models also a folder). ``random:SEED`` or ``random-raw:SEED``: an untrained control (SCIENCE 4).
        name: what the atlas calls the network; default the source's last part, with ``-random-0`` for a control.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``. Everything runs in float32 on any of them.
        prepend_bos: text: put a beginning-of-sequence token before every window. None: as TransformerLens does.
        max_length: text: tokens of a window, that token included. None: the model's context, at most 1,024.
        image_size: images: pixels a side. None: what the weights' metadata says, else 224.
        mean: images: subtracted from each channel's 0..1 values. None: the metadata's, else ImageNet's.
        std: images: divides each channel after that. None: the metadata's, else ImageNet's.
        transform_input: images: turn ImageNet's normalisation into TF-slim's. None: only for torchvision's weights.
        classes: images: class names in the order of outputs, or a text file with one a line.
        calibration: images: what a ``random:SEED`` control is calibrated on (or a function that gives it).

    Raises:
        UsageError: an argument is impossible, or meant for the other kind of network.
        WeightsError: weights or class names that do not fit, or can't be read.
        HubUnavailable: a hub is needed and does not answer (within seconds).
        UnknownName: the hub has no such model.
        UnsupportedNetwork: no spline code can be read from this architecture.
    """
    text = {"prepend_bos": prepend_bos, "max_length": max_length}
    image = {
        "image_size": image_size,
        "mean": mean,
        "std": std,
        "transform_input": transform_input,
        "classes": classes,
        "calibration": calibration,
    }
    if source in IMAGE_SOURCES:
        _refuse(text, source, "image network")
        from .inceptionv1_weights import ImageReading, load_inceptionv1

        reading = ImageReading(image_size, mean, std, transform_input, classes)
        return load_inceptionv1(source, weights, name, device, reading, calibration)
    _refuse(image, source, "language model")
    from .gpt2_weights import TextReading, load_causal_lm

    return load_causal_lm(source, weights, name, device, TextReading(prepend_bos, max_length))


def reload_network(
    info: NetworkInfo,
    weights: str | None = None,
    device: str = "auto",
    calibration: Sequence[Image] | Callable[[], Iterable[Image]] | None = None,
) -> Network:
    """Load the network that an atlas was made with again, and make sure that it is the same.

    ``weights`` says where they are now, if not where ``info`` says. ``calibration`` is needed for a calibrated
    control of an image network, and must be what it was then. Raises `WeightsError` for other weights, by digest,
    besides all that `load_network` raises.
    """
    from .loading import check_digest

    reading = _recorded_reading(info)
    chosen = weights or info.weights
    network = load_network(
        info.source, weights=chosen, name=info.name, device=device, calibration=calibration, **reading
    )
    check_digest(info.name, info.weights_digest, network.info.weights_digest, info.weights, chosen)
    return network


def load_control(
    network: Network,
    weights: str,
    device: str = "auto",
    calibration: Sequence[Image] | Callable[[], Iterable[Image]] | None = None,
) -> Network:
    """An untrained network of the same architecture, fed the same way: ``random:SEED`` or ``random-raw:SEED``.

    ``calibration`` is needed for ``random:SEED`` of an image network. Raises `UsageError` where the source draws
    another architecture than the network has (a file of narrower weights, say), and all that `load_network` raises.
    """
    reading = _recorded_reading(network.info)
    control = load_network(network.info.source, weights=weights, device=device, calibration=calibration, **reading)
    if [(site.name, site.n_gates) for site in control.sites] != [(s.name, s.n_gates) for s in network.sites]:
        raise UsageError(
            f"{network.info.source} with weights {weights} has other sites than {network.info.name}, so it is no "
            "control of it; go on without controls"
        )
    return control


def _recorded_reading(info: NetworkInfo) -> dict[str, Any]:
    """The options of `load_network` that an atlas recorded; other entries of ``reading`` are facts, not options."""
    if info.kind == "image":
        from .inceptionv1_weights import ImageReading as Options
    else:
        from .gpt2_weights import TextReading as Options  # type: ignore[assignment]
    return {option.name: info.reading[option.name] for option in fields(Options) if option.name in info.reading}


def _refuse(options: dict[str, Any], source: str, kind: str) -> None:
    """`UsageError` for options that are not of this kind of network: to ignore them would be a silent guess."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise UsageError(f"{source} is {'an' if kind[0] in 'aeiou' else 'a'} {kind}; it has no {', '.join(given)}")
