"""What a question is about: a stored example, an input that is read now or a code, read once for all that asks.

>>> with atlas.open("gpt2.atlas") as a:
...     s = query.subject(a, text="The bank of the river", site="blocks.5.mlp", reader=network)
...     query.nearest(a, subject=s, k=5), query.membership(a, subject=s)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32, Int64
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas import open as open_atlas
from atlas.errors import NotStored, StoreError, UsageError, WidthError
from atlas.network import Kind
from atlas.search.hamming_index import HammingIndex
from atlas.store.catalog import SiteRecord, Target

from ..notebook import facts, plain, table, token_in_context
from ..pairs.density import space_before
from .description import describe
from .ids import check_network, checked_id, is_span, network_of, with_activation
from .kinds import EXAMPLES
from .live_inputs import Numbers, read_live

SubjectKind = Kind | Literal["example", "code"]

Neighbors = tuple[Int64[np.ndarray, " neighbors"], Int64[np.ndarray, " neighbors"]]
"""Example ids and distances in gates, ordered by (distance, id)."""


@dataclass(frozen=True, eq=False)
class Subject:
    """An example, a token, an image, a vector or a code, with its code of a site or span (one row).

    ``atlas``: where it was looked up. ``target``: the site or span. ``kind``: what was given. ``name``: how to call
    it in a sentence. ``example``: its id where it is stored. ``activations``: of what was read live, by site.
    ``tokens``: the characters of each token of a text, ``token`` the index of the one that is meant. ``prediction``:
    the most probable next token, or class, of what was read live, and its ``probability``. ``nearest``: the nearest
    codes that a search has found already, by what was searched.
    """

    atlas: Path
    target: Target
    kind: SubjectKind
    name: str
    codes: SplineCodes
    example: int | None = None
    activations: Mapping[str, Float32[np.ndarray, " _"]] = field(default_factory=dict)
    tokens: tuple[str, ...] | None = None
    token: int | None = None
    prediction: str | None = None
    probability: float | None = None
    nearest: dict[str, Neighbors] = field(default_factory=dict, repr=False)

    def _repr_html_(self) -> str:
        """What it is, in a notebook: the token in its context or the picture, where the atlas can be read."""
        n_active, n_gates = int(self.codes.n_active()[0]), self.codes.n_bits
        pairs = [("", self.name), ("at", self.target.name), ("of", self.target.network.name)]
        head = f"<p>{facts([*pairs, ('gates on', f'{n_active} of {n_gates}')])}</p>"
        if self.tokens is not None and self.token is not None:
            start = len("".join(self.tokens[: self.token]))
            return head + token_in_context("".join(self.tokens), self.tokens[self.token], start)
        if self.example is None:
            return head
        try:
            with open_atlas(self.atlas) as a:
                return head + table(describe(a, self.target.network, [self.example]))
        except StoreError as error:  # moved, or being written: what is known is shown all the same
            return f"{head}<p>{plain(error)}</p>"

    def activation(self, atlas: Atlas, site: SiteRecord) -> Float32[np.ndarray, " units"] | None:
        """At a site of the network: as it was read live, or as it is stored; None where it is neither."""
        if self.example is None:
            return self.activations.get(site.name)
        ids = np.array([self.example])
        return atlas.activations(site, ids)[1][0] if len(with_activation(atlas, site, ids)) else None


def subject(
    atlas: Atlas,
    *,
    example: int | None = None,
    text: str | None = None,
    token: int | None = None,
    image: str | Path | Image.Image | None = None,
    vector: Numbers | None = None,
    row: float | None = None,
    column: float | None = None,
    code: str | SplineCodes | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    reader: Network | None = None,
) -> Subject:
    """Read an example, a text's token, an image, a vector or a code once, to ask several questions about it.

    A text is tokenised once, and an input run through the network once, for its code and for the
    activations that `nearest` (its density) and `membership` (in a clustering of activations) may want.

    Args:
        atlas: an open atlas.
        example: id of a stored example. Exactly one of example, text, image, vector and code is given.
        text: a text that need not be ingested; ``reader`` reads it.
        token: which of its tokens: from 0, or negative from the end; the last by default.
        image: a file or an image of mode L or RGB; ``reader`` reads it.
        vector: as many numbers as the network reads; ``reader`` reads them.
        row: relative position in [0, 1) from the top at which position codes of the image are read.
        column: the same from the left. By default both are where all ingested images were read.
        code: a code of the site or span, as a string of 0 and 1 or as one row of packed codes.
        site: the site whose code is meant; or a span:
        span: such as ``blocks.1.mlp->blocks.2.mlp``.
        network: its network, where several have such a site.
        reader: the network itself, with the weights of the atlas, for an input that is read.

    Returns:
        The `Subject`, to be handed to `nearest` and `membership` of the same atlas.

    Raises:
        UsageError: for none or several of example, text, image, vector and code, and for impossible parameters.
        UnknownName: for an example, site or network that is not there.
        WidthError: for a code of another width.
        NotStored: for a site whose codes were not ingested.
        WeightsError: for a reader that is not the network of the atlas.
        BadInput: for an image that can't be read, or a vector of another width.
        NonFinite: for an input that gives NaN or infinity.
    """
    given = Given(example, text, token, image, vector, row, column, code)
    target = given.target(atlas, site, span, network)
    return given.read(atlas, target, reader, sites_with_activations(target))


@dataclass(frozen=True)
class Given:
    """The arguments that name a subject; exactly one of example, text, image, vector, code and subject."""

    example: int | None = None
    text: str | None = None
    token: int | None = None
    image: str | Path | Image.Image | None = None
    vector: Numbers | None = None
    row: float | None = None
    column: float | None = None
    code: str | SplineCodes | None = None
    subject: Subject | None = None

    def __post_init__(self) -> None:
        named = ("example", *EXAMPLES, "code")
        given = [name for name in (*named, "subject") if getattr(self, name) is not None]
        if len(given) != 1:
            raise UsageError(
                f"ask about one of {', '.join(named[:-1])} or code, got {' and '.join(given) or 'none of them'}"
            )
        if self.token is not None and self.text is None:
            raise UsageError(f"token is {self.token}, but it belongs to a text and {given[0]} was given")
        if (self.row is not None or self.column is not None) and self.image is None:
            raise UsageError(f"row and column belong to an image, but {given[0]} was given")
        for name, value in (("row", self.row), ("column", self.column)):
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"{name} is {value}; expected a number from 0 (top or left) to below 1")

    @property
    def stored(self) -> int | None:
        """Id of the example that is asked about; None where it is no stored one."""
        return self.example if self.subject is None else self.subject.example

    @property
    def is_code(self) -> bool:
        """Whether a code alone was given."""
        return self.code is not None or (self.subject is not None and self.subject.kind == "code")

    def target(self, atlas: Atlas, site: str | None, span: str | None, network: str | None) -> Target:
        """What ``site`` or ``span`` means; without a network, in that of the example where one was given.

        A subject knows its own; `UsageError` where it was read in another atlas, or another target is named.
        """
        if self.subject is not None:
            if self.subject.atlas != atlas.path:
                raise UsageError(
                    f"the subject was read in {self.subject.atlas}, not in {atlas.address}; read it there"
                )
            known = self.subject.target
            if {site, span} - {None, known.name} or network not in (None, known.network.name):
                raise UsageError(
                    f"the subject was read at {known.name} of network {known.network.name}; leave site, span and "
                    "network away, or read another subject"
                )
            return atlas.catalog.target(site=known.name, network=known.network.name)
        if network is None and self.example is not None and len(atlas.catalog.networks) > 1:
            network = network_of(atlas, self.example)
        return atlas.catalog.target(site=site, span=span, network=network)

    def read(
        self,
        atlas: Atlas,
        target: Target,
        reader: Network | None,
        activations_at: Sequence[SiteRecord],
        index: HammingIndex | None = None,
    ) -> Subject:
        """Look it up or read it live, with its activations at some sites where it is read live.

        The code of a stored example is taken from ``index``, where that is given and holds it.
        """
        if self.subject is not None:
            return self.subject
        if self.example is not None:
            return _stored(atlas, target, checked_id(self.example), index)
        if self.code is not None:
            return Subject(atlas.path, target, "code", "the given code", _checked_code(target, self.code))
        return self.read_at(atlas, [target], reader, activations_at)[0]

    def read_at(
        self, atlas: Atlas, targets: Sequence[Target], reader: Network | None, activations_at: Sequence[SiteRecord]
    ) -> list[Subject]:
        """A text's token, an image or a vector at each of several targets of a network: read once for all."""
        kind = next(kind for kind in EXAMPLES if getattr(self, kind) is not None)
        live = EXAMPLES[kind].live(atlas, targets[0], self, reader)
        assert reader is not None  # refused before
        reading = read_live(targets, live, reader, activations_at)
        return [
            Subject(
                atlas.path,
                target,
                kind,
                live.name,
                codes,
                activations=reading.activations,
                tokens=live.tokens,
                token=live.token,
                prediction=reading.prediction,
                probability=reading.probability,
            )
            for target, codes in zip(targets, reading.codes, strict=True)
        ]


def sites_with_activations(target: Target) -> list[SiteRecord]:
    """Where activations of a subject can be compared with stored ones: before the target, and at its first site."""
    sites = [target.sites[0]] if target.sites[0].n_activations else []
    try:
        return [space_before(target), *sites]
    except (UsageError, NotStored):  # no density is defined there, or none can be had
        return sites


def _stored(atlas: Atlas, target: Target, example: int, index: HammingIndex | None) -> Subject:
    ids = np.array([example])
    place = np.empty(0, np.int64) if index is None else index.places(ids)
    if index is not None and len(place):
        codes = index.codes(place)
    else:
        check_network(atlas, example, target.network)
        codes = atlas.codes(target.sites, [example])[1]
    return Subject(atlas.path, target, "example", f"example {example}", codes, example)


def _checked_code(target: Target, code: str | SplineCodes) -> SplineCodes:
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
