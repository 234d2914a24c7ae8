"""Running a network onward from stored examples: where to start, what activation is there, what comes after.

A network with full sites is run from the whole activation tensor of a block (a full site), which the atlas stores
where it was asked to; a language model from the MLP hidden vector of one token, in its own sequence. What is not
stored is read again by the network, if the atlas holds the input itself: texts and vectors always, images that fit
into their thumbnail. An untrained control reads the inputs of the network that it stands beside; its own activations
of them come from the atlas where it was ingested too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from atlas import Atlas, Network, Site, Span
from atlas.errors import NonFinite, NotStored, UnknownName, UsageError
from atlas.kinds import INPUT_KINDS
from atlas.network import FULL_SUFFIX, INPUT, VectorNetwork, whole_scope
from atlas.store.catalog import NetworkRecord, SiteRecord
from atlas.tails import Tail, TailedNetwork

from .ids import check_network, checked_id, with_activation
from .kinds import EXAMPLES, Lacking
from .labels import drawn
from .live_inputs import check_reader
from .subjects import Given

READ_AT_ONCE = 16
"""Inputs read live in one go: a full tensor of an early block of InceptionV1 at 224 pixels is 3 MB."""


@dataclass(frozen=True)
class Place:
    """Where a network is run onward from, ``site``, and the later sites whose gates count, ``sites``, in order."""

    site: Site
    sites: tuple[Site, ...]
    name: str

    @property
    def n_gates(self) -> int:
        return sum(site.n_gates for site in self.sites)


def place_of(reader: Network, *, span: str | None = None, site: str | None = None) -> Place:
    """What ``span`` (``AFTER->TO``), or ``site`` and all that comes after it, means in a network.

    A network with full sites is run on from whole tensors, so there ``inception4c`` means ``inception4c:full``. A
    network of vectors is run on from its inputs too: ``input->``.

    Raises `UnknownName`, and `UsageError` for a span that ends before it starts.
    """
    scope, spaces = whole_scope(reader.sites), _spaces(reader)
    if span is not None:
        asked = replace(Span.parse(span), scope=scope)
        inside = asked.resolve(spaces)
        return Place(_site(reader, spaces, asked.after, scope), inside, str(asked))
    name = str(site).removesuffix(FULL_SUFFIX)
    start = _site(reader, spaces, name, scope)
    later = [other for other in spaces if other.scope == scope and other.ordinal > start.ordinal]
    return Place(start, tuple(sorted(later, key=lambda s: s.ordinal)), str(Span(name, None, start.scope)))


def _spaces(reader: Network) -> tuple[Site, ...]:
    """The sites of a network; before them the inputs, where these are points of a space."""
    if not INPUT_KINDS[reader.info.kind].in_space:
        return reader.sites
    inputs = Site(INPUT, -1, cast(VectorNetwork, reader).n_inputs, 0, "none", True, whole_scope(reader.sites))
    return inputs, *reader.sites


def _site(reader: Network, spaces: Sequence[Site], name: str, scope: str) -> Site:
    blocks = {site.name.removesuffix(FULL_SUFFIX): site for site in spaces if site.scope == scope}
    if name not in blocks:
        raise UnknownName(f"no site {name!r} in network {reader.info.name}; it has {', '.join(blocks)}")
    return blocks[name]


@dataclass(frozen=True, eq=False)
class Begun:
    """An end of a path: what it is called, its activation, what comes after the site, and its id if it is stored."""

    name: str
    activation: Float32[np.ndarray, " units"]
    make_tail: Callable[[], Tail]
    example: int | None

    @cached_property
    def tail(self) -> Tail:
        """What comes after the site; of a language model it takes a pass over the sequence."""
        return self.make_tail()


class Live:
    """A network at a place, with the activations there of examples of the atlas.

    ``owner`` is the network of the atlas whose examples these are: the same, or the one that an untrained control
    stands beside.
    """

    def __init__(self, atlas: Atlas, reader: Network, place: Place, owner: Network | None = None) -> None:
        """Raises `UsageError` for a network that can't be run from a site, `WeightsError` for one that is not the
        atlas's."""
        self.atlas, self.place = atlas, place
        self.owner = atlas.catalog.network((owner or reader).info.name)
        if owner is None:
            check_reader(self.owner, reader, self.owner.kind)
        if not isinstance(reader, TailedNetwork):
            raise UsageError(f"network {reader.info.name} can't be run onward from a site; one that has `tail` can")
        self.reader: TailedNetwork = reader
        self.record = self.owner if owner is None else self._ingested()
        self.stored = None if self.record is None else self._stored_site(self.record)
        self._tail: Tail | None = None

    def beside(self, control: Network) -> Live:
        """An untrained control at the same place, reading the same inputs: examples keep the ids of this network."""
        return Live(self.atlas, control, place_of(control, span=self.place.name), owner=self.reader)

    def examples(self, labelled: bool = False) -> pd.DataFrame:
        """Examples to choose from, in order of id: columns example_id, input_id, label.

        Those whose activation is stored, or all where none is. Where activations are whole tensors one an input,
        since they are the same for all positions.
        """
        whole = self.place.site.scope == "full"
        return self.atlas.frame(
            f"""
            select {"min(example_id) as" if whole else ""} example_id, input_id, label
            from examples
            where network_id = $1 and (not $2 or label is not null)
                and ($3 is null or example_id in (select example_id from activations where site_id = $3 and part = 0))
            {"group by input_id, label" if whole else ""}
            order by example_id
            """,
            [self.owner.network_id, labelled, None if self.stored is None else self.stored.site_id],
        )

    def choose(self, n: int, seed: int) -> Int64[np.ndarray, " examples"]:
        """``n`` examples drawn at random, or all there are if fewer, in order of id."""
        return drawn(self.examples()["example_id"].to_numpy(np.int64), n, seed)

    def asked(self, example: int | None, n: int, seed: int) -> Int64[np.ndarray, " examples"]:
        """The one example that was asked for, or ``n`` drawn; `UnknownName` for one that another network read."""
        return self.choose(n, seed) if example is None else np.array([self.checked(example)], dtype=np.int64)

    def checked(self, example: int) -> int:
        """The id of an example, if the network read it."""
        return check_network(self.atlas, checked_id(example), self.owner)

    def check_readable(self, ids: Sequence[int] | np.ndarray) -> None:
        """`NotStored` where the activation of an example is not stored and its input not kept: before any work."""
        wanted = np.asarray(ids, dtype=np.int64)
        self.views(wanted[self._held(wanted) < 0])

    def activations(self, ids: Sequence[int] | np.ndarray) -> Float32[np.ndarray, "examples units"]:
        """Activations of examples at the site: stored, or else read live, in the order given.

        Raises `NotStored` where neither is possible, `UnknownName`, `NonFinite`.
        """
        wanted = np.array([checked_id(example) for example in ids], dtype=np.int64)
        held = self._held(wanted)
        values = np.empty((len(wanted), self.place.site.n_units), np.float32)
        stored = held >= 0
        if stored.any() and self.stored is not None:
            values[stored] = self.atlas.activations(self.stored, held[stored])[1]
        if not stored.all():
            values[~stored] = self._read(wanted[~stored])
        return values

    @property
    def n_at_hand(self) -> int:
        """How many examples have an activation that the network need not be run for: it is stored, or the input."""
        if self.place.site.name == INPUT:
            return len(self.examples())
        return 0 if self.stored is None else self.stored.n_activations

    def at_hand(self) -> Iterator[tuple[Int64[np.ndarray, " block"], Float32[np.ndarray, "block units"]]]:
        """Those examples and activations, block by block."""
        if self.place.site.name == INPUT:
            ids = self.examples()["example_id"].to_numpy(np.int64)
            yield ids, self.activations(ids)
        elif self.stored is not None:
            yield from self.atlas.activation_blocks(self.stored)

    @property
    def held(self) -> str:
        """What a tail holds as it is for the example that it is of, in words; empty where it is that of any."""
        if INPUT_KINDS[self.owner.kind].in_sequence:
            return "the sequence"
        return "what flows past the site" if self.place.site.bypassed_by else ""

    def tail(self, example: int) -> Tail:
        """What comes after the site, for one example where something of it is held as it is: the sequence of a
        language model, what flows past the site."""
        if self.held:
            return self.reader.tail(self.place.site, self.views([example])[0])
        self._tail = self._tail or self.reader.tail(self.place.site)
        return self._tail

    def begin(self, given: Given) -> Begun:
        """Where a path begins or ends: a stored example, or an input that is read now.

        Raises `UsageError` for a code, which has no activation, and what `activations` and reading raise.
        """
        [begun] = self.begin_all([given])
        return begun

    def begin_all(self, given: Sequence[Given]) -> list[Begun]:
        """The same of several, of which the stored ones are read at once."""
        ids = [self.checked(each.example) for each in given if each.example is not None]
        read = iter(self.activations(ids) if ids else ())
        return [
            self._begin_live(each) if each.example is None else self._begin_stored(int(each.example), next(read))
            for each in given
        ]

    def _begin_stored(self, example: int, activation: Float32[np.ndarray, " units"]) -> Begun:
        return Begun(f"example {example}", activation, partial(self.tail, example), example)

    def _begin_live(self, given: Given) -> Begun:
        kind = next((kind for kind in EXAMPLES if getattr(given, kind) is not None), None)
        if kind is None:
            raise UsageError("a code has no activation; give an example, a text, an image or a vector")
        held = next(site for site in self.atlas.catalog.sites_of(self.owner) if site.n_codes)
        target = self.atlas.catalog.target(site=held.name, network=self.owner.name)
        where = replace(given, row=0.5, column=0.5) if kind == "image" and given.row is None else given
        live = EXAMPLES[kind].live(self.atlas, target, where, self.reader)
        site = self.place.site
        seen = (live.view,) if self.held else ()
        activation = self._of_views([live.view], [live.name])[0]
        return Begun(live.name, activation, lambda: self.reader.tail(site, *seen), None)

    def views(self, ids: Sequence[int] | np.ndarray, lacking: Lacking | None = None) -> list[Any]:
        """The inputs of examples, as the network reads them.

        ``lacking``: makes the error for an image that is not kept, from its example and what is kept of it.
        """
        rows = self.atlas.records(
            """
            select example_id, text, thumbnail, width, height, vector, position, $2 as owner
            from examples join inputs using (input_id)
            where example_id in (select unnest($1::uinteger[])) and network_id = $3
            """,
            [[int(example) for example in ids], self.owner.name, self.owner.network_id],
        )
        found = {row["example_id"]: row for row in rows}
        for example in ids:
            if int(example) not in found:
                check_network(self.atlas, int(example), self.owner)
        view, lacking = EXAMPLES[self.owner.kind].view, lacking or self._not_stored
        return [view(self.reader, int(example), found[int(example)], lacking) for example in ids]

    def _ingested(self) -> NetworkRecord | None:
        """The network of the atlas that the reader is, by its weights and how it reads; None where it holds none."""
        info = self.reader.info
        reading = json.loads(json.dumps(info.reading))
        return next(
            (
                n
                for n in self.atlas.catalog.networks
                if n.weights_digest == info.weights_digest and n.reading == reading
            ),
            None,
        )

    def _stored_site(self, network: NetworkRecord) -> SiteRecord | None:
        sites = self.atlas.catalog.sites_of(network)
        return next((s for s in sites if s.name == self.place.site.name and s.n_activations), None)

    def _held(self, wanted: Int64[np.ndarray, " examples"]) -> Int64[np.ndarray, " examples"]:
        """For each example, the one under which its activation is stored, −1 where it is not.

        Of a control that is its own example of the same token, or of the same image at whatever position.
        """
        if self.stored is None or self.record is None:
            return np.full(len(wanted), -1, dtype=np.int64)
        if self.record.network_id != self.owner.network_id:
            rows = self.atlas.rows(
                """
                select ours.example_id, min(theirs.example_id)
                from examples ours join examples theirs
                    on theirs.input_id = ours.input_id and theirs.position is not distinct from ours.position
                where ours.example_id in (select unnest($1::uinteger[])) and theirs.network_id = $2
                    and theirs.example_id in (select example_id from activations where site_id = $3 and part = 0)
                group by ours.example_id
                """,
                [wanted.tolist(), self.record.network_id, self.stored.site_id],
            )
            own = dict(rows)
            return np.array([own.get(int(example), -1) for example in wanted], dtype=np.int64)
        return np.where(np.isin(wanted, with_activation(self.atlas, self.stored, wanted)), wanted, -1)

    def _read(self, ids: Int64[np.ndarray, " examples"]) -> Float32[np.ndarray, "examples units"]:
        found = []
        for first in range(0, len(ids), READ_AT_ONCE):
            block = ids[first : first + READ_AT_ONCE]
            found.append(self._of_views(self.views(block), [f"example {example}" for example in block]))
        return np.concatenate(found)

    def _of_views(self, views: Sequence[Any], names: Sequence[str]) -> Float32[np.ndarray, "examples units"]:
        """Activations of inputs at the site; ``names``: what each is called in an error."""
        site = self.place.site
        if site.name == INPUT:
            return np.stack([view.numbers for view in views])
        reading = self.reader.read(views, codes=[], activations=[site])
        bad = ~reading.finite[site.name]
        if bad.any():
            raise NonFinite(
                f"{names[int(bad.argmax())]} gives NaN or infinity at site {site.name} of network "
                f"{self.reader.info.name}"
            )
        return reading.activations[site.name]

    def _not_stored(self, example: int, kept: str) -> NotStored:
        block = self.place.site.name.removesuffix(FULL_SUFFIX)
        weights = "" if self.record is self.owner else f" --weights {self.reader.info.weights}"
        return NotStored(
            f"example {example} has no activation stored at {self.place.site.name} of network "
            f"{self.reader.info.name}, and {kept}; ingest with{weights} --full {block} --store-activations"
        )


def inputs_of_examples(atlas: Atlas, ids: Sequence[int] | np.ndarray) -> Int64[np.ndarray, " examples"]:
    """The input of each example, in the order given: tokens of one text depend on each other."""
    rows = dict(
        atlas.rows(
            "select example_id, input_id from examples where example_id in (select unnest($1::uinteger[]))",
            [sorted({int(example) for example in ids})],
        )
    )
    return np.array([rows[int(example)] for example in ids], dtype=np.int64)


def labels_of_examples(atlas: Atlas, ids: Sequence[int] | np.ndarray) -> list[str | None]:
    """The label of each example, in the order given; None where it has none."""
    rows = dict(
        atlas.rows(
            "select example_id, label from examples where example_id in (select unnest($1::uinteger[]))",
            [[int(example) for example in ids]],
        )
    )
    return [rows[int(example)] for example in ids]
