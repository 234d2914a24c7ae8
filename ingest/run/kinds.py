"""How inputs of each kind are fed to a network, and what that takes: a record a kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from PIL import Image

from atlas.errors import BadInput, SequenceTooShort
from atlas.network import (
    ImageView,
    Kind,
    Network,
    NetworkInfo,
    TextNetwork,
    Tokens,
    TokenWindow,
    VectorNetwork,
    VectorView,
    View,
)

from ..datasets.base import BadItem, Item
from ..datasets.coded import CodedItem
from ..networks.registry import RECORDED
from .sampling import ImageSampling, TokenSampling, WholeSampling, context, token_windows, too_short


@dataclass(frozen=True)
class Place:
    """Where an example comes from, and what a person is shown of it."""

    ordinal: int
    key: str
    position: int | None = None
    row: float | None = None
    column: float | None = None
    token: str | None = None
    context: str | None = None
    context_offset: int | None = None

    def __str__(self) -> str:
        return self.key if self.position is None else f"{self.key}, token {self.position} ({self.token!r})"


@dataclass(frozen=True)
class Unit:
    """What the network runs at once, one of a batch, and the examples that it gives."""

    work: View
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Feeding:
    """How inputs of a kind are fed to a network.

    ``sampling``: says which examples an input gives; ``chosen`` is the field of `Choices` that holds one. ``units``:
    what is run of an input, given (network, ordinal, item, sampling). ``count``: how many examples it gives, given
    (network, sampling, item), where the input must be read to know: all are, once, before any is run. ``ahead``:
    whether inputs are made ready beside the network. ``batch``: views of a forward pass; on a CPU larger batches gain
    nothing.

    Measured, in bytes: ``example_bytes`` of an example in the database besides codes and activations,
    ``staged_bytes`` of one in a shard, uncompressed; ``stored`` for each byte of the contents.
    """

    chosen: str | None
    sampling: type[TokenSampling] | type[ImageSampling] | type[WholeSampling]
    units: Callable[[Any, int, Item, Any], Iterator[Unit]]
    count: Callable[[Any, Any, Item], int | BadItem] | None
    ahead: bool
    batch: int
    example_bytes: int
    staged_bytes: int
    stored: float


def text_windows(
    network: TextNetwork, item: Item, tokens: Tokens, sampling: TokenSampling
) -> list[tuple[range, TokenWindow]]:
    """The sequences of a tokenised text that give examples; `SequenceTooShort` if none does."""
    windows = token_windows(tokens, network.windows(len(tokens.ids)), sampling)
    if not windows:
        raise too_short(item.key, len(tokens.ids), network.windows(len(tokens.ids)), sampling)
    return windows


def _text_units(network: TextNetwork, ordinal: int, item: Item, sampling: TokenSampling) -> Iterator[Unit]:
    text = cast(str, item.content)
    tokens = network.tokenize(text)
    for window, work in text_windows(network, item, tokens, sampling):
        places = []
        for position in work.positions + window.start:
            start, end = int(tokens.starts[position]), int(tokens.ends[position])
            around, offset = context(text, start, end)
            places.append(Place(ordinal, item.key, int(position), None, None, text[start:end], around, offset))
        yield Unit(work, tuple(places))


def _text_count(network: TextNetwork, sampling: TokenSampling, item: Item) -> int | BadItem:
    try:
        tokens = network.tokenize(cast(str, item.content))
        return sum(len(window.positions) for _, window in text_windows(network, item, tokens, sampling))
    except SequenceTooShort as error:
        reason = str(error).removeprefix(f"{item.key} ").partition(": lower --skip-first")[0]
        return BadItem(item.ordinal, item.key, reason)  # what to do about it is said once, for all of them
    except BadInput as error:
        return BadItem(item.ordinal, item.key, str(error))


def _image_units(network: Network, ordinal: int, item: Item, sampling: ImageSampling) -> Iterator[Unit]:
    view = ImageView(cast(Image.Image, item.content), sampling.row, sampling.column, item.label)
    yield Unit(view, (Place(ordinal, item.key, row=sampling.row, column=sampling.column),))


def _vector_units(network: Network, ordinal: int, item: Item, sampling: WholeSampling) -> Iterator[Unit]:
    yield Unit(VectorView(item.content.ravel(), item.label), (Place(ordinal, item.key),))  # type: ignore[union-attr]


def _vector_count(network: VectorNetwork, sampling: WholeSampling, item: Item) -> int | BadItem:
    width = item.content.size  # type: ignore[union-attr]
    if width == network.n_inputs:
        return 1
    numbers = "1 number" if width == 1 else f"{width} numbers"
    return BadItem(item.ordinal, item.key, f"has {numbers}; network {network.info.name} reads {network.n_inputs}")


NAMED = 60
"""Characters of a text with codes from elsewhere that stand in place of a token."""


def _recorded_units(network: Network, ordinal: int, item: Item, sampling: WholeSampling) -> Iterator[Unit]:
    assert isinstance(item, CodedItem)  # such a network is given no other
    if not isinstance(item.content, str):
        yield Unit(item.view, (Place(ordinal, item.key),))
        return
    around, offset = context(item.content, 0, min(NAMED, len(item.content)))
    yield Unit(item.view, (Place(ordinal, item.key, 0, token=around[:NAMED], context=around, context_offset=offset),))


FEEDINGS: dict[Kind, Feeding] = {
    # Texts are tokenised by what the network also decodes with, which is not made for two threads at once. An example
    # has a context of 220 characters; texts are stored under Zstandard.
    "text": Feeding("tokens", TokenSampling, _text_units, _text_count, False, 8, 150, 290, 0.5),
    "image": Feeding("view", ImageSampling, _image_units, None, True, 32, 60, 30, 1.0),
    "vector": Feeding(None, WholeSampling, _vector_units, _vector_count, False, 256, 60, 30, 1.0),
}

_RECORDED = Feeding(
    None, WholeSampling, _recorded_units, lambda network, sampling, item: 1, False, 256, 150, 290, 0.5
)


def feeding_of(network: NetworkInfo) -> Feeding:
    """How inputs are fed to a network; to one whose codes something else computed, with these."""
    return _RECORDED if network.source == RECORDED else FEEDINGS[network.kind]
