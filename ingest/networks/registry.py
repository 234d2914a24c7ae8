"""Which adapter loads what a person names as a network: the one list that a new kind of network is added to.

An adapter is a module of this package with two things in it: ``Options``, a frozen dataclass of what a person may say
about how inputs are read (a default of None says nothing), and ``load(request, options)``, which returns a `Network`.
What `NetworkInfo.reading` records under the name of an option is passed to it again when the network is reloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from atlas.network import Kind

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Adapter:
    """A module that loads networks of one architecture.

    ``calibrated``: its untrained control ``random:SEED`` takes its batch norms' statistics from images (SCIENCE 4).
    """

    name: str
    kind: Kind
    calibrated: bool = False

    @property
    def module(self) -> Any:
        """Imported when it is needed, since it loads torch."""
        return import_module(f".{self.name}", __package__)


_GOOGLENET = Adapter("inceptionv1_weights", "image", calibrated=True)
_LANGUAGE_MODEL = Adapter("gpt2_weights", "text")

_MODULE = Adapter("module_weights", "image")

LIVE = "live"
"""The source, and the weights, of a module that was handed over from Python."""

ADAPTERS = {
    "gpt2": _LANGUAGE_MODEL,
    "inceptionv1": _GOOGLENET,
    "demo:gpt2": _LANGUAGE_MODEL,
    "demo:inceptionv1": _GOOGLENET,
}
"""Adapters by source."""

ANY_OTHER = _LANGUAGE_MODEL
"""What loads a folder in Hugging Face's format, or another name on the hub."""

SOURCES = f"{', '.join(ADAPTERS)}, a folder in Hugging Face's format, or the hub name of a causal language model"
"""What may be named as a network, in words."""


@dataclass(frozen=True)
class LoadRequest:
    """What is asked of an adapter, whichever it is; see `ingest.load_network` for the words."""

    source: str
    weights: str | None = None
    name: str | None = None
    device: str = "auto"
    calibration: Sequence[Image] | Callable[[], Iterable[Image]] | None = None


def adapter_of(source: str) -> Adapter:
    """The adapter that loads ``source``."""
    return _MODULE if source == LIVE else ADAPTERS.get(source, ANY_OTHER)


def network_kind(source: str) -> Kind:
    """What a network reads, without loading it.

    Args:
        source: as for `ingest.load_network`.

    Returns:
        ``text``, ``image`` or ``vector``.
    """
    return adapter_of(source).kind


def example_source(kind: Kind) -> str:
    """A source of this kind, to name in a message."""
    return next(source for source, adapter in ADAPTERS.items() if adapter.kind == kind)
