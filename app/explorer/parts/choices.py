"""Choosing what a network is run on from: a span, and examples of the network that the sidebar names."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import streamlit as st

from atlas import Atlas
from atlas.errors import NotStored
from atlas.kinds import INPUT_KINDS
from atlas.network import FULL_SUFFIX, INPUT, whole_scope
from query.examples.description import describe

from .. import address
from ..view import View, guarded, records
from . import cards
from .kinds import LOOKS

SCALED = 0.6
"""How far up the network the space lies that is offered first: where the report scales (inception4c of twelve)."""


CARD = 190  # pixels of a picture with its caption


class ExampleRange(NamedTuple):
    """The examples of a network: the lowest and highest id, and the first of each of up to three inputs."""

    lowest: int
    highest: int
    firsts: tuple[int, ...]


def read_range(atlas: Atlas, network_id: int, network: str) -> ExampleRange:
    """Examples to begin with; `NotStored` where the network has none."""
    rows = atlas.rows(
        """
        select min(example_id), max(example_id),
            (select list(first order by first) from (
                select min(example_id) as first from examples where network_id = $1 group by input_id
                order by first limit 3))
        from examples where network_id = $1
        """,
        [network_id],
    )
    lowest, highest, firsts = rows[0]
    if lowest is None:
        raise NotStored(f"network {network} has no examples in this atlas; `polytope ingest` adds some")
    return ExampleRange(int(lowest), int(highest), tuple(int(first) for first in firsts))


def example_range(view: View) -> ExampleRange:
    return view.ask(read_range, view.network.network_id, view.network.name)


def example(
    view: View, label: str, key: str, default: int | None = None, on_change: Callable[[], None] | None = None
) -> int:
    """The id of an example of the network, its first to begin with."""
    known = example_range(view)
    return address.number(
        label,
        known.lowest,
        known.highest,
        known.lowest if default is None else default,
        key=key,
        expected=f"an example of network {view.network.name}, {known.lowest:,} to {known.highest:,}",
        width=200,
        on_change=on_change,
    )


def telling_example(view: View) -> int:
    """An example to begin with: the medoid of the largest cluster of codes at the last site that has one, else the
    first. It is the same for all sites, so that another site shows the same example."""
    medoid = view.ask(read_medoid, view.network.network_id)
    return example_range(view).lowest if medoid is None else medoid


def read_medoid(atlas: Atlas, network_id: int) -> int | None:
    found = atlas.value(
        """
        select medoid from clusters join clusterings using (clustering_id)
        left join sites on sites.network_id = clusterings.network_id and sites.name = clusterings.target
        where clusterings.network_id = $1 and space = 'codes'
        order by ordinal desc nulls last, clustering_id desc, size desc, medoid limit 1
        """,
        [network_id],
    )
    return None if found is None else int(found)


def label_with_range(view: View, label: str) -> str:
    """A label with the ids that there are."""
    known = example_range(view)
    return f"{label} ({known.lowest:,} to {known.highest:,})"


def step_buttons(view: View, key: str, example: int) -> None:
    """Buttons to the examples beside the one that a field of that key shows, and to any other."""
    before, after, random = view.atlas.rows(_BESIDE, [view.network.network_id, example])[0]

    @guarded
    def go(to: int) -> None:
        st.session_state[key] = to

    for words, other, icon, shortcut in (
        ("Previous", before, ":material/chevron_left:", "Left"),
        ("Next", after, ":material/chevron_right:", "Right"),
        ("Random", random, ":material/shuffle:", None),
    ):
        disabled, place = other is None, f"{words}-{key}"
        st.button(words, icon=icon, on_click=go, args=(other,), disabled=disabled, key=place, shortcut=shortcut)


_BESIDE = """
select
    max(example_id) filter (where example_id < $2), min(example_id) filter (where example_id > $2),
    arg_min(example_id, random()) filter (where example_id <> $2)
from examples where network_id = $1
"""


def first_examples(known: ExampleRange, n: int) -> list[int]:
    """``n`` different examples to begin with, of different inputs as far as there are so many."""
    ids = list(known.firsts[:n])
    others = (i for i in range(known.lowest, known.highest + 1) if i not in ids)
    while len(ids) < n:
        ids.append(next(others, known.lowest))
    return ids


def spans(view: View) -> list[str]:
    """``l->`` for every site l but the last, and for inputs that are points of a space: the spaces that paths and
    planes can lie in, in order of depth."""
    scope = whole_scope(view.atlas.catalog.sites_of(view.network))
    sites = [site for site in view.atlas.catalog.sites_of(view.network) if site.scope == scope]
    suffix = FULL_SUFFIX if scope == "full" else ""
    names = [site.name.removesuffix(FULL_SUFFIX) for site in sites[:-1]]
    inputs = [INPUT] if INPUT_KINDS[view.network.kind].in_space else []
    return [f"{name}->{suffix}" for name in [*inputs, *names]]


def plane_of_inputs(view: View) -> str | None:
    """The span of all gates over the inputs, where these are points of a plane."""
    if not INPUT_KINDS[view.network.kind].in_space or view.ask(read_width, view.network.network_id) != 2:
        return None
    return spans(view)[0]


def read_width(atlas: Atlas, network_id: int) -> int | None:
    """How many numbers an input of a network has."""
    width = atlas.value(
        "select len(vector) from examples join inputs using (input_id) where network_id = $1 limit 1", [network_id]
    )
    return None if width is None else int(width)


def span(view: View, on_change: Callable[[], None] | None = None, last: bool = False) -> str:
    """A span to choose or type; first the one that the sidebar names, or what follows its site, or with ``last`` what
    follows the last that has gates after it, where there are fewest boundaries."""
    offered = spans(view)
    if not offered:
        raise NotStored(
            f"network {view.network.name} has a single site; a path needs one to start from and one after"
        )
    first = offered[-1] if last and "span" not in view.named else _first(view, offered)
    owner = "span-of"
    if st.session_state.get(owner, view.network.name) != view.network.name:
        st.session_state["span"] = first  # a span of the network before
    st.session_state[owner] = view.network.name
    address.follow_default("span", first)
    options = offered if first in offered else [first, *offered]
    address.begin_with("span", first)
    chosen = st.selectbox(
        "Space and gates",
        options,
        index=None,
        key="span",
        bind="query-params",
        accept_new_options=True,
        width=240,
        help="`AFTER->TO`: the activations are those of AFTER, and the boundaries those of the gates after it, up to "
        "TO or the output.",
        on_change=on_change,
    )
    address.name("span", chosen or first)
    return chosen or first


def _first(view: View, offered: list[str]) -> str:
    suffix = FULL_SUFFIX if whole_scope(view.atlas.catalog.sites_of(view.network)) == "full" else ""
    if "span" in view.named:
        return view.atlas.catalog.target(site=view.target, network=view.network.name).name
    after = f"{view.target.removesuffix(FULL_SUFFIX)}->{suffix}"
    return after if after in offered else offered[min(int(SCALED * (len(offered) + 1)), len(offered) - 1)]


def side_by_side(view: View, ids: list[int], titles: list[str]) -> None:
    """Examples side by side, each under its title."""
    rows = records(view.ask(describe, view.network, ids))
    for place, title, row in zip(st.columns(len(ids), gap="medium"), titles, rows, strict=True):
        with place, st.container(width=CARD if LOOKS[view.network.kind].pictured else "stretch"):
            st.html(f'<div class="pa pa-beside">{title}</div>')
            cards.card(view, row)
