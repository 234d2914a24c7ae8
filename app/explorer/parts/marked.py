"""Examples that an address marks on a map, such as the rows of a query: as many as an address holds."""

from __future__ import annotations

import streamlit as st

from atlas import Atlas
from query.layout.layouts import StoredLayout

from ...plain_text import counted
from .. import address
from ..view import View
from . import markup, show
from .point_map import Mark

KEY = "marked"
"""What the address calls them: ids with commas between."""

MOST = 200
NUMBERED = 24
"""Examples that are marked at a time, and those with their number beside them."""


def state(examples: list[int]) -> dict[str, str]:
    """What an address says to mark examples, the first of many."""
    return {KEY: ",".join(str(example) for example in dict.fromkeys(examples[:MOST]))}


def marks(view: View, layout: StoredLayout) -> list[Mark]:
    """The places of what the address marks; those that are not on this map are told."""
    wanted = st.query_params.get(KEY, "")
    if not wanted:
        return []
    if not all(word.isdecimal() for word in wanted.split(",")):
        address.refuse_without_widget(KEY, "ids of examples with commas between", "none")
        return []
    ids = [int(word) for word in wanted.split(",")][:MOST]
    places = view.ask(places_of, layout.layout_id, ids)
    address.name(KEY, wanted)
    lacking = len(ids) - len(places)
    show.block(
        f"{counted(len(places), 'example')} marked"
        + (f", {lacking:,} not on this map" if lacking else "")
        + f": {markup.link('atlas', 'unmark', layout=layout.layout_id, **view.state)}"
    )
    return [(str(number) if len(places) <= NUMBERED else "", place) for number, place in places.items()]


def places_of(atlas: Atlas, layout: int, examples: list[int]) -> dict[int, tuple[float, float]]:
    """Where examples lie on a map, those that it has."""
    rows = atlas.rows(
        """
        select example_id, x, y from layout_points
        where layout_id = $1 and example_id in (select unnest($2::uinteger[]))
        order by example_id
        """,
        [layout, examples],
    )
    return {int(number): (float(x), float(y)) for number, x, y in rows}
