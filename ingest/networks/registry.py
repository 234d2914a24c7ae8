"""Which adapter loads what a person names as a network: the one list that a new kind of network is added to.

An adapter is a module of this package with two things in it: ``Options``, a frozen dataclass of what a person may say
about how inputs are read (a default of None says nothing), and ``load(request, options)``, which returns a `Network`.
What `NetworkInfo.reading` records under the name of an option is passed to it again when the network is reloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from atlas.network import Kind, Network, NetworkInfo, PortableNetwork


@dataclass(frozen=True)
class Adapter:
    """A module that loads networks of one architecture.

    ``kind``: what they read; None where ``kind_of(source)`` of the module says. ``calibrated``: their untrained
    control ``random:SEED`` takes its batch norms' statistics, if it has any, from inputs (SCIENCE 4).
    """

    name: str
    kind: Kind | None
    calibrated: bool = False

    @property
    def module(self) -> Any:
        """Imported when it is needed, since it loads torch."""
        return import_module(f".{self.name}", __package__)


_GOOGLENET = Adapter("inceptionv1_weights", "image", calibrated=True)
_LANGUAGE_MODEL = Adapter("gpt2_weights", "text")

_MODULE = Adapter("module_weights", None, calibrated=True)

LIVE = "live"
"""The source, and the weights, of a module that was handed over from Python."""

TORCHVISION, TIMM = "torchvision:", "timm:"
"""What the sources of networks of these libraries begin with."""

FACTORY = r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*"
"""A function of the user's own, ``package.module:function``."""

SAE = "sae:"
"""What the source of a sparse autoencoder begins with; its path follows."""

RECORDED = "--codes"
"""The source of codes that something else computed, given in place of a network."""

ADAPTERS = {
    "gpt2": _LANGUAGE_MODEL,
    "inceptionv1": _GOOGLENET,
    "demo:gpt2": _LANGUAGE_MODEL,
    "demo:inceptionv1": _GOOGLENET,
    "demo:two-moons": Adapter("module_weights", "vector"),
}
"""Adapters by source."""

ANY_OTHER = _LANGUAGE_MODEL
"""What loads a folder in Hugging Face's format, or another name on the hub."""

SOURCES = (
    f"{', '.join(ADAPTERS)}, torchvision:NAME, timm:NAME, MODULE:FACTORY (a function of yours), sae:PATH (SAELens's, "
    "with --of), a folder in Hugging Face's format, or the hub name of a causal language model"
)
"""What may be named as a network, in words."""


@dataclass(frozen=True)
class LoadRequest:
    """What is asked of an adapter, whichever it is; see `ingest.load_network` for the words."""

    source: str
    weights: str | None = None
    name: str | None = None
    device: str = "auto"
    calibration: Sequence[Any] | Callable[[], Iterable[Any]] | None = None


def adapter_of(source: str) -> Adapter:
    """The adapter that loads ``source``."""
    if source == RECORDED:
        return Adapter("recorded", "text")
    if source.startswith(SAE):
        return Adapter("sae", "text")  # or whatever the network reads whose activations it takes
    if source in ADAPTERS:
        return ADAPTERS[source]
    built = source == LIVE or source.startswith((TORCHVISION, TIMM)) or re.fullmatch(FACTORY, source)
    return _MODULE if built else ANY_OTHER


def network_kind(source: str) -> Kind:
    """What a network reads, without loading its weights.

    Args:
        source: as for `ingest.load_network`.

    Returns:
        ``text``, ``image`` or ``vector``.

    Raises:
        UsageError: for a module that was handed over live. Besides, for a function of one's own, what `load_network`
            raises: it is called.
    """
    adapter = adapter_of(source)
    kind: Kind = adapter.module.kind_of(source) if adapter.kind is None else adapter.kind
    return kind


def is_built(source: str) -> bool:
    """Whether a function of the user's own builds the network."""
    return adapter_of(source) is _MODULE and not source.startswith((TORCHVISION, TIMM))


def is_calibrated(network: NetworkInfo) -> bool:
    """Whether the untrained control ``random:SEED`` of a network is another than ``random-raw:SEED``."""
    return adapter_of(network.source).calibrated and bool(network.reading.get("batch_norm", True))


def again_of(network: Network) -> Callable[..., Network]:
    """What makes a network again in another process, called with ``device``: one that is no adapter's comes as it is,
    and runs where it runs."""
    return network.elsewhere() if isinstance(network, PortableNetwork) else partial(_same, network)


def _same(network: Network, *, device: str) -> Network:
    return network


def example_source(kind: Kind) -> str:
    """A source of this kind, to name in a message."""
    return next((source for source, adapter in ADAPTERS.items() if adapter.kind == kind), "MODULE:FACTORY")
