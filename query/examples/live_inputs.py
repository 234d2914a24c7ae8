"""Inputs that were never ingested, read by the network of the atlas: a token of a text, an image or a vector.

It must be that very network, weights and reading alike: a code of other weights names a polytope of another
partition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Float64
from PIL import Image

from atlas import Atlas, Network, Site, SplineCodes
from atlas.checks import is_whole
from atlas.errors import BadInput, NonFinite, UnknownName, UsageError, WeightsError
from atlas.images import decode_image
from atlas.kinds import INPUT_KINDS
from atlas.network import ImageView, Kind, TextNetwork, Tokens, TokenWindow, VectorNetwork, VectorView, View
from atlas.store.catalog import NetworkRecord, SiteRecord, Target
from atlas.store.disk import no_file

Numbers = Sequence[float] | Float32[np.ndarray, "..."] | Float64[np.ndarray, "..."]
"""A vector as a caller gives it."""


class LiveInput(NamedTuple):
    """What a network is fed; ``tokens`` and ``token`` are those of a text, else None."""

    name: str
    view: View
    tokens: tuple[str, ...] | None = None
    token: int | None = None


def check_reader(network: NetworkRecord, reader: Network | None, kind: Kind) -> Network:
    """The reader, if it is the network of the atlas and reads inputs of ``kind``."""
    if network.kind != kind:
        raise UsageError(f"{INPUT_KINDS[kind].one} was given, but network {network.name} reads {network.kind}s")
    if reader is None:
        raise UsageError(
            f"{INPUT_KINDS[kind].one} that was not ingested must be read by network {network.name} itself: load its "
            f"weights ({network.source}, {network.weights}) and hand it in as reader"
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


def text_input(target: Target, text: str, token: int | None, reader: Network | None) -> LiveInput:
    """The token's name and the sequence to run: the same window of the text that ingestion would have cut."""
    network = check_reader(target.network, reader, "text")
    if not isinstance(network, TextNetwork):
        raise UsageError(f"the reader {network.info.name} can't tokenise; a text needs a TextNetwork")
    tokens = network.tokenize(text)
    place = _token_index(tokens, -1 if token is None else token)
    window = next(window for window in network.windows(len(tokens.ids)) if place in window)
    following = int(tokens.ids[window.stop]) if window.stop < len(tokens.ids) else None
    view = TokenWindow(
        tokens.ids[window.start : window.stop], np.array([place - window.start], dtype=np.int64), following
    )
    characters = tuple(text[start:end] for start, end in zip(tokens.starts, tokens.ends, strict=True))
    return LiveInput(f"token {place} ({characters[place]!r}) of the text", view, characters, place)


def _token_index(tokens: Tokens, token: int) -> int:
    n_tokens = len(tokens.ids)
    if n_tokens == 0:
        raise UsageError("the text has no token; give one with at least one")
    if not is_whole(token):
        raise UsageError(f"token is the index of a token, a whole number, got {token!r}")
    if not -n_tokens <= token < n_tokens:
        raise UsageError(
            f"token is {token}; the text has {n_tokens} tokens: give 0 to {n_tokens - 1}, "
            f"or -{n_tokens} to -1 from the end"
        )
    return int(token) % n_tokens


def image_input(
    atlas: Atlas,
    target: Target,
    given: str | Path | Image.Image,
    row: float | None,
    column: float | None,
    reader: Network | None,
) -> LiveInput:
    """The image and where to read position codes of it, each of ``row`` and ``column`` in [0, 1)."""
    check_reader(target.network, reader, "image")
    if isinstance(given, Image.Image):
        name, image = "the image", given
    else:
        name, image = f"the image {given}", open_image(Path(given))
    if image.mode not in ("L", "RGB"):
        raise BadInput(
            f"{name} has mode {image.mode}; expected L or RGB (transparency has no one colour): convert it first"
        )
    return LiveInput(name, ImageView(image, *_image_position(atlas, target, row, column)))


def open_image(path: Path) -> Image.Image:
    """The pixels of an image file; `BadInput`, with its name, where it can't be read."""
    if (what := no_file(path)) is not None:
        raise BadInput(f"{path} {what}; expected an image")
    try:
        return decode_image(path.read_bytes())
    except FileNotFoundError:
        raise BadInput(f"no image file {path}; check the path") from None
    except OSError as error:
        raise BadInput(f"{path} can't be read ({error.strerror})") from error
    except BadInput as error:
        raise BadInput(f"{path} {error}") from error


def _image_position(atlas: Atlas, target: Target, row: float | None, column: float | None) -> tuple[float, float]:
    """Where to read position codes: where the caller says, else where all ingested images were read.

    Full codes cover all positions, so any will do.
    """
    if row is not None and column is not None:
        return row, column
    if (row is None) != (column is None):
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


def vector_input(target: Target, given: Numbers, reader: Network | None) -> LiveInput:
    """The numbers of a vector; `BadInput` unless all are finite and as many as the network reads."""
    network = check_reader(target.network, reader, "vector")
    if not isinstance(network, VectorNetwork):
        raise UsageError(f"the reader {network.info.name} has no n_inputs; a vector needs a VectorNetwork")
    try:
        with np.errstate(over="ignore"):  # told below
            numbers = np.asarray(given, dtype=np.float32).ravel()
    except (ValueError, TypeError) as error:
        raise BadInput(f"the vector is {given!r}; expected a list of {network.n_inputs} numbers") from error
    if len(numbers) != network.n_inputs:
        raise BadInput(f"the vector has {len(numbers)} numbers; network {network.info.name} reads {network.n_inputs}")
    if not np.isfinite(numbers).all():
        raise BadInput(
            f"number {int(np.argmin(np.isfinite(numbers)))} (from 0) of the vector is NaN or infinite; give numbers"
        )
    return LiveInput("the vector", VectorView(numbers))


class LiveReading(NamedTuple):
    """What a network did with an input: its code of each target, activations by their site, and what it predicts."""

    codes: list[SplineCodes]
    activations: dict[str, Float32[np.ndarray, " _"]]
    prediction: str
    probability: float


def read_live(
    targets: Sequence[Target], given: LiveInput, reader: Network, activations_at: Sequence[SiteRecord]
) -> LiveReading:
    """One forward pass for the codes of targets of a network and the activations at some of its sites."""
    records = {site.name: site for target in targets for site in target.sites}
    sites, wanted = _reader_sites(reader, list(records.values())), _reader_sites(reader, activations_at)
    reading = reader.read([given.view], codes=sites, activations=wanted)
    for site in dict.fromkeys(site.name for site in [*sites, *wanted]):
        if not reading.finite[site][0]:
            raise NonFinite(f"{given.name} gives NaN or infinity at site {site} of network {targets[0].network.name}")
    codes = [
        SplineCodes(np.concatenate([reading.codes[site.name] for site in target.sites], axis=1), target.parts)
        for target in targets
    ]
    activations = {site.name: reading.activations[site.name][0] for site in wanted}
    return LiveReading(codes, activations, str(reading.prediction[0]), float(reading.probability[0]))


def _reader_sites(reader: Network, records: Sequence[SiteRecord]) -> list[Site]:
    """The reader's own sites of those names."""
    by_name: dict[str, Any] = {site.name: site for site in reader.sites}
    for record in records:
        if record.name not in by_name:
            raise UnknownName(f"the reader {reader.info.name} has no site {record.name}; it has {', '.join(by_name)}")
    return [by_name[record.name] for record in records]
