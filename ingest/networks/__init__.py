"""Adapters: one module for each kind of network that can be ingested, and the functions that load them all.

Importing this package loads neither torch nor transformers; loading a network does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from atlas.errors import UsageError, WeightsError
from atlas.kinds import INPUT_KINDS
from atlas.network import Network, NetworkInfo

from .registry import LIVE, LoadRequest, adapter_of, is_built, network_kind

__all__ = ["load_control", "load_network", "network_kind", "reload_network"]


def load_network(
    source: str,
    *,
    weights: str | None = None,
    name: str | None = None,
    device: str = "auto",
    calibration: Sequence[Any] | Callable[[], Iterable[Any]] | None = None,
    **options: Any,
) -> Network:
    """Load a network to ingest.

    Args:
        source: ``demo:gpt2``, ``demo:inceptionv1`` and ``demo:two-moons`` (shipped), ``inceptionv1``, a folder in
            Hugging Face's format, or the hub name of a causal language model: ``gpt2``. ``torchvision:NAME``,
            ``timm:NAME``, or ``MODULE:FACTORY``: a function of your own, without arguments, that returns a
            `torch.nn.Module`. ``sae:PATH``: a sparse autoencoder as SAELens saves it, over what ``of`` names.
        weights: None or ``hub``: those of the source. A file (``.safetensors``, ``.pt``, ``.pth``; for language
            models also a folder). ``random:SEED`` or ``random-raw:SEED``: an untrained control (SCIENCE 4).
        name: what the atlas calls the network; default the source's last part, with ``-random-0`` for a control.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``. Everything runs in float32 on any of them.
        calibration: inputs: what a ``random:SEED`` control is calibrated on (or a function that gives it).
        options: how inputs are read, by the names of the adapter's ``Options``; None says nothing.
            Text: ``prepend_bos`` (whether a beginning-of-sequence token comes before every window), ``max_length``
            (tokens of a window, that token included). Images: ``image_size`` (pixels a side), ``mean`` and ``std``
            (of each channel's 0..1 values), ``transform_input`` (whether ImageNet's normalisation is turned into
            TF-slim's), ``classes`` (names in the order of outputs, or a text file with one a line). Modules:
            ``inputs`` (image or vector), ``shape`` (of a vector), ``outputs`` (how many a network of a library is
            built with), ``sites_at`` (modules to read sites at). Sparse autoencoders: ``of`` (a source),
            ``of_weights`` and ``site``, whose activations they read.

    Returns:
        The network, on the device.

    Raises:
        UsageError: an argument is impossible, or none of this kind of network.
        WeightsError: weights or class names that do not fit, or can't be read.
        HubUnavailable: a hub is needed and does not answer (within seconds).
        UnknownName: the hub has no such model.
        UnsupportedNetwork: no spline code can be read from this architecture.
    """
    _refuse_exported(source)
    _refuse_exported(weights or "")
    adapter = adapter_of(source)
    given = {option: value for option, value in options.items() if value is not None}
    if calibration is not None and not adapter.calibrated:
        given["calibration"] = calibration
    # To ignore what is of no use to this network would be a silent guess.
    foreign = [option for option in given if option not in _option_names(adapter.module)]
    if foreign:
        what = "a module" if adapter.kind is None else INPUT_KINDS[adapter.kind].network
        raise UsageError(f"{source} is {what}; it has no {', '.join(foreign)}")
    request = LoadRequest(source, weights, name, device, calibration)
    network: Network = adapter.module.load(request, adapter.module.Options(**given))
    return network


def _refuse_exported(path: str) -> None:
    """`WeightsError` for an exported program, which can run code when it is loaded."""
    if path.endswith(".pt2"):
        raise WeightsError(
            f"{path} is an exported program, and `torch.export.load` may unpickle code in it; save "
            "`model.state_dict()` as .safetensors, and name the function that builds the network"
        )


def reload_network(
    info: NetworkInfo,
    weights: str | None = None,
    device: str = "auto",
    calibration: Sequence[Any] | Callable[[], Iterable[Any]] | None = None,
) -> Network:
    """Load the network that an atlas was made with again, and make sure that it is the same.

    Args:
        info: what the atlas recorded of it.
        weights: where they are now, if not where ``info`` says.
        device: as for `load_network`.
        calibration: what a calibrated control was calibrated on.

    Returns:
        The network, on the device.

    Raises:
        WeightsError: the weights have another digest. Besides, all that `load_network` raises.
        UsageError: the network is built by a function that the atlas names and the user has not.
    """
    for source in (info.source, info.reading.get("of") or ""):  # that of a sparse autoencoder's network too
        if is_built(source):
            from .module_sources import check_trusted

            check_trusted(source)
    chosen = weights or info.weights
    network = load_network(
        info.source,
        weights=chosen,
        name=info.name,
        device=device,
        calibration=calibration,
        **recorded_options(info.source, info.reading),
    )
    from .loading import check_digest  # with torch, which a network that can't be run does without

    check_digest(info.name, info.weights_digest, network.info.weights_digest, info.weights, chosen)
    return network


def load_control(
    network: Network,
    weights: str,
    device: str = "auto",
    calibration: Sequence[Any] | Callable[[], Iterable[Any]] | None = None,
) -> Network:
    """Load an untrained network of the same architecture, fed the same way (SCIENCE 4).

    Args:
        network: the trained one.
        weights: ``random:SEED`` or ``random-raw:SEED``.
        device: as for `load_network`.
        calibration: inputs, for ``random:SEED`` of a network with batch norm.

    Returns:
        The control, on the device.

    Raises:
        UsageError: the source draws another architecture than the network has (a file of narrower weights, say).
            Besides, all that `load_network` raises.
    """
    from .module_weights import live_control

    info = network.info
    if info.source == LIVE:
        return live_control(network, weights, calibration)
    control = load_network(
        info.source,
        weights=weights,
        device=device,
        calibration=calibration,
        **recorded_options(info.source, info.reading),
    )
    if [(site.name, site.n_gates) for site in control.sites] != [(site.name, site.n_gates) for site in network.sites]:
        raise UsageError(
            f"{info.source} with weights {weights} has other sites than {info.name}, so it is no control of it; go "
            "on without controls"
        )
    return control


def _option_names(module: Any) -> list[str]:
    return [option.name for option in fields(module.Options)]


def recorded_options(source: str, reading: Mapping[str, Any]) -> dict[str, Any]:
    """The options that an atlas recorded; other entries of ``reading`` are facts, not options."""
    names = _option_names(adapter_of(source).module)
    return {name: reading[name] for name in names if name in reading}
