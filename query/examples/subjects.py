"""What a question is about: a stored example, a text's token, an image or a code, turned into a code of the target.

A text or an image is read live by the network that the caller hands in. It must be the network of the atlas, weights
and reading alike: a code of other weights names a polytope of another partition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageOps

from atlas import Atlas, Network, Site, SplineCodes
from atlas.errors import BadInput, NonFinite, UnknownName, UsageError, WeightsError, WidthError
from atlas.network import ImageView, TextNetwork, Tokens, TokenWindow
from atlas.search.hamming_index import HammingIndex
from atlas.store.catalog import NetworkRecord, SiteRecord, Target

from .ids import check_network, checked_id, is_span, network_of, with_activation

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Decoders that may see a user's file. Pillow has others, one of which runs a program (EPS)."""


@dataclass(frozen=True)
class Asked:
    """The arguments that name what a question is about; exactly one of example, text, image and code.

    ``token`` is an index into the tokens of ``text``: from 0, or negative from the end; the last one by default.
    ``row`` and ``column`` (each in [0, 1)) say at which relative position of ``image`` its gates are read.
    """

    example: int | None = None
    text: str | None = None
    token: int | None = None
    image: str | Path | Image.Image | None = None
    row: float | None = None
    column: float | None = None
    code: str | SplineCodes | None = None

    def __post_init__(self) -> None:
        given = [name for name in ("example", "text", "image", "code") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(
                f"ask about one of example, text, image or code, got {' and '.join(given) or 'none of them'}"
            )
        if self.token is not None and self.text is None:
            raise UsageError(f"token is {self.token}, but it belongs to a text and {given[0]} was given")
        if (self.row is not None or self.column is not None) and self.image is None:
            raise UsageError(f"row and column belong to an image, but {given[0]} was given")
        for name, value in (("row", self.row), ("column", self.column)):
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"{name} is {value}; expected a number from 0 (top or left) to below 1")

    def target(self, atlas: Atlas, site: str | None, span: str | None, network: str | None) -> Target:
        """What ``site`` or ``span`` means; without a network, in that of the example where one was given."""
        if network is None and self.example is not None and len(atlas.catalog.networks) > 1:
            network = network_of(atlas, self.example)
        return atlas.catalog.target(site=site, span=span, network=network)


@dataclass(frozen=True)
class Subject:
    """What was asked about, with its code of the target (one row).

    ``name``: how to call it in a sentence. ``example``: its id where it is stored. ``activation``: at the site that
    was asked for; None where the atlas doesn't store it, or a code alone was given.
    """

    name: str
    codes: SplineCodes
    example: int | None = None
    activation: Float32[np.ndarray, " units"] | None = None


def find_subject(
    atlas: Atlas,
    target: Target,
    asked: Asked,
    reader: Network | None,
    activation_at: SiteRecord | None,
    index: HammingIndex | None = None,
) -> Subject:
    """Look up or read live what was asked about; its activation at ``activation_at`` too, where that can be had.

    The code of a stored example is taken from ``index``, where that is given and holds it.

    Raises `UnknownName` for an example or site that is not there, `WidthError` for a code of another width,
    `WeightsError` for a reader that is not the network of the atlas, `UsageError`, `BadInput`, `NonFinite`.
    """
    if asked.example is not None:
        return _stored(atlas, target, checked_id(asked.example), activation_at, index)
    if asked.code is not None:
        return Subject("the given code", _given_code(target, asked.code))
    view: TokenWindow | ImageView
    if asked.text is not None:
        name, view = _token_window(target, asked.text, asked.token, reader)
    else:
        name, view = _image_view(atlas, target, asked, reader)
    assert reader is not None  # `check_reader` has refused None
    return _read(target, name, view, reader, activation_at)


def check_reader(network: NetworkRecord, reader: Network | None, kind: str) -> Network:
    """The reader, if it is the network of the atlas and reads inputs of ``kind``."""
    if network.kind != kind:
        raise UsageError(f"a {kind} was given, but network {network.name} reads {network.kind}s")
    if reader is None:
        raise UsageError(
            f"a {kind} that was not ingested must be read by network {network.name} itself: load its weights "
            f"({network.source}, {network.weights}) and hand it in as reader"
        )
    if reader.info.weights_digest != network.weights_digest:
        raise WeightsError(
            f"the reader {reader.info.name} has weights of digest {reader.info.weights_digest}; the codes of network "
            f"{network.name} come from weights of digest {network.weights_digest} ({network.source}, "
            f"{network.weights}): load those"
        )
    read = json.loads(json.dumps(reader.info.reading))
    if read != network.reading:
        differing = {key for key in {*read, *network.reading} if read.get(key) != network.reading.get(key)}
        said = ", ".join(
            f"{key} {read.get(key)!r} instead of {network.reading.get(key)!r}" for key in sorted(differing)
        )
        raise WeightsError(
            f"the reader {reader.info.name} (weights digest {reader.info.weights_digest}) and network {network.name} "
            f"(weights digest {network.weights_digest}) are fed their inputs differently: {said}; load it as it was "
            "ingested"
        )
    return reader


def _stored(
    atlas: Atlas, target: Target, example: int, activation_at: SiteRecord | None, index: HammingIndex | None
) -> Subject:
    ids = np.array([example])
    place = np.empty(0, np.int64) if index is None else index.places(ids)
    if index is not None and len(place):
        codes = index.codes(place)
    else:
        check_network(atlas, example, target.network)
        ids, codes = atlas.codes(target.sites, [example])
    activation = None
    if activation_at is not None and len(with_activation(atlas, activation_at, ids)):
        activation = atlas.activations(activation_at, ids)[1][0]
    return Subject(f"example {example}", codes, example, activation)


def _given_code(target: Target, code: str | SplineCodes) -> SplineCodes:
    if isinstance(code, SplineCodes):
        if len(code) != 1:
            raise UsageError(f"ask about one code at a time, got {len(code)}")
        n_bits, right = code.n_bits, code.parts == target.parts
    else:
        n_bits, right = len(code), len(code) == target.n_gates
    if not right:
        what = "span" if is_span(target) else "site"
        parts = f", in parts {target.parts}" if len(target.sites) > 1 else ""
        raise WidthError(
            f"the code has {n_bits} bits; {what} {target.name} has {target.n_gates} gates{parts} "
            "(`polytope info` lists sites)"
        )
    return code if isinstance(code, SplineCodes) else SplineCodes.from_string(code, target.parts)


def _token_window(target: Target, text: str, token: int | None, reader: Network | None) -> tuple[str, TokenWindow]:
    """The token's name and the sequence to run: the same window of the text that ingestion would have cut."""
    network = check_reader(target.network, reader, "text")
    if not isinstance(network, TextNetwork):
        raise UsageError(f"the reader {network.info.name} can't tokenise; a text needs a TextNetwork")
    tokens = network.tokenize(text)
    place = _token_index(tokens, -1 if token is None else token)
    window = next(window for window in network.windows(len(tokens.ids)) if place in window)
    following = int(tokens.ids[window.stop]) if window.stop < len(tokens.ids) else None
    characters = text[int(tokens.starts[place]) : int(tokens.ends[place])]
    return f"token {place} ({characters!r}) of the text", TokenWindow(
        tokens.ids[window.start : window.stop], np.array([place - window.start], dtype=np.int64), following
    )


def _token_index(tokens: Tokens, token: int) -> int:
    n_tokens = len(tokens.ids)
    if n_tokens == 0:
        raise UsageError("the text has no token; give one with at least one")
    if not isinstance(token, Integral) or isinstance(token, bool):
        raise UsageError(f"token is the index of a token, a whole number, got {token!r}")
    if not -n_tokens <= token < n_tokens:
        raise UsageError(
            f"token is {token}; the text has {n_tokens} tokens: give 0 to {n_tokens - 1}, "
            f"or -{n_tokens} to -1 from the end"
        )
    return int(token) % n_tokens


def _image_view(atlas: Atlas, target: Target, asked: Asked, reader: Network | None) -> tuple[str, ImageView]:
    check_reader(target.network, reader, "image")
    assert asked.image is not None
    if isinstance(asked.image, Image.Image):
        name, image = "the image", asked.image
    else:
        name, image = f"the image {asked.image}", _open_image(Path(asked.image))
    if image.mode not in ("L", "RGB"):
        raise BadInput(
            f"{name} has mode {image.mode}; expected L or RGB (transparency has no one colour): convert it first"
        )
    row, column = _image_position(atlas, target, asked)
    return name, ImageView(image, row, column)


def _open_image(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise BadInput(f"no image file {path}; check the path") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadInput(f"{path} can't be read as an image ({error}); expected {', '.join(IMAGE_FORMATS)}") from error


def _image_position(atlas: Atlas, target: Target, asked: Asked) -> tuple[float, float]:
    """Where to read position codes: where asked, else where all ingested images were read.

    Full codes cover all positions, so any will do.
    """
    if asked.row is not None and asked.column is not None:
        return asked.row, asked.column
    if (asked.row is None) != (asked.column is None):
        raise UsageError("row and column are given together or not at all")
    places = atlas.rows(
        'select distinct "row", "column" from examples where network_id = $1 order by all',
        [target.network.network_id],
    )
    if len(places) == 1:
        return places[0]
    if all(site.scope == "full" for site in target.sites):
        return 0.5, 0.5
    raise UsageError(
        f"images of network {target.network.name} were read at {len(places)} positions; say which one with row and "
        "column"
    )


def _read(
    target: Target, name: str, view: TokenWindow | ImageView, reader: Network, activation_at: SiteRecord | None
) -> Subject:
    sites = _reader_sites(reader, target.sites)
    wanted = _reader_sites(reader, [activation_at]) if activation_at is not None else []
    reading = reader.read([view], codes=sites, activations=wanted)
    for site in dict.fromkeys(site.name for site in [*sites, *wanted]):
        if not reading.finite[site][0]:
            raise NonFinite(f"{name} gives NaN or infinity at site {site} of network {target.network.name}")
    packed = np.concatenate([reading.codes[site.name] for site in sites], axis=1)
    activation = reading.activations[wanted[0].name][0] if wanted else None
    return Subject(name, SplineCodes(packed, target.parts), None, activation)


def _reader_sites(reader: Network, records: Sequence[SiteRecord]) -> list[Site]:
    """The reader's own sites of those names."""
    own: dict[str, Any] = {site.name: site for site in reader.sites}
    for record in records:
        if record.name not in own:
            raise UnknownName(f"the reader {reader.info.name} has no site {record.name}; it has {', '.join(own)}")
    return [own[record.name] for record in records]
