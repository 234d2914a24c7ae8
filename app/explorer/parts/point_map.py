"""A map of many points (`static/map.js`), with files of what it shows, and a word about the point under the pointer.

The points go to the browser apart from what is chosen of them, so that another choice does not send them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

import atlas
import query
from atlas import Atlas
from atlas.store.catalog import NetworkRecord
from query.examples.description import describe

from ...plain_text import one_line
from ..charts.map_points import MapPoints
from ..view import View, records
from . import figures, markup

STATIC = figures.STATIC

HOVER_BEFORE, HOVER_AFTER = 60, 40
"""Characters shown either side of a token under the pointer."""

Mark = tuple[str, tuple[float, float]]
"""Words, and a place in the numbers of the map, of what is placed on it."""


def show(
    view: View,
    points: MapPoints,
    name: str,
    *,
    key: str,
    alt: str,
    layout: int,
    clustering: int | None,
    chosen: int | None = None,
    outline: Sequence[tuple[float, float]] = (),
    marks: Sequence[Mark] = (),
    on_drawn: Callable[[], None] | None = None,
    on_kind: Callable[[], None] | None = None,
) -> None:
    """Draw a map in the current place, or change the one of that key that is there.

    ``name`` is the stem of its files. ``chosen``: the number of the kind that stands out. ``outline``: corners of the
    region that is chosen; two of a box. ``on_drawn``: called once someone has drawn a region (`drawn_region`),
    ``on_kind``: chosen a kind by its name (`chosen_name`).
    """
    kinds = [
        {
            "name": kind.name,
            "words": kind.words,
            "colour": kind.colour,
            "n": kind.n,
            "quiet": kind.quiet,
            "at": kind.at,
        }
        for kind in points.kinds
    ]
    place = next((place for place, kind in enumerate(points.kinds) if kind.number == chosen), None)
    listening = {"on_drawn_change": on_drawn, "on_kind_change": on_kind}
    with st.container(key=f"figure-{key}", gap=None):
        _points()(data=points.payload, key=f"{key}-points", height=0)
        _map()(
            data={
                "points": points.key,
                "layout": layout,
                "kinds": kinds,
                "chosen": None if chosen is None else place,
                "frame": points.frame,
                "extent": points.extent,
                "outline": [list(corner) for corner in outline],
                "marks": [{"words": words, "at": list(at)} for words, at in marks],
                "link": markup.address_of("look", example="EXAMPLE", **view.state),
                "alt": alt,
                "name": name,
            },
            key=key,
            **{event: act for event, act in listening.items() if act is not None},
        )
        st.download_button(
            "CSV",
            partial(_csv, view.path, layout, clustering),
            f"{name}.csv",
            "text/csv",
            on_click="ignore",
            type="tertiary",
            key=f"csv-{key}",
            help="Download where every example lies",
        )
    _hovering(view.path, view.network)


def drawn_region(key: str) -> tuple[str, Sequence[float], Sequence[float]]:
    """What was drawn on the map of that key, for its ``on_drawn``: box or lasso; x and y of corners."""
    drawn = st.session_state[key]["drawn"]
    return drawn["kind"], drawn["x"], drawn["y"]


def chosen_name(key: str) -> str:
    """The kind whose name was clicked, for ``on_kind``."""
    return str(st.session_state[key]["kind"])


def _csv(path: Path, layout: int, clustering: int | None) -> bytes:
    with atlas.open(path) as a:  # the page's own is closed by then
        return figures.csv(query.layout_points(a, layout, clustering=clustering))


# --- what stands under the pointer -----------------------------------------------------------------------------


@st.fragment
def _hovering(path: Path, network: NetworkRecord) -> None:
    """Answers the map's question about an example, without drawing the page again."""
    example = (st.session_state.get("hover") or {}).get("example")
    told = {}
    if example is not None:
        with atlas.open(path) as a:
            told = in_words(a, network, int(example))
    _hover()(data=told, key="hover", height=0, on_example_change=lambda: None)


def in_words(a: Atlas, network: NetworkRecord, example: int) -> dict[str, Any]:
    """What the map says of an example: its token in its context, or its picture, and its label and prediction."""
    row = records(describe(a, network, [example]))[0]
    told: dict[str, Any] = {"example": example}
    label = "" if pd.isna(row["label"]) else f"{one_line(str(row['label']))} · "
    told["words"] = f"{label}predicted {one_line(str(row['prediction']))} · example {example}"
    if "token" in row and pd.notna(row["context"]):
        where = row["context"], row["token"], row["context_offset"]
        told["before"], told["token"], told["after"] = markup.around(*where, HOVER_BEFORE, HOVER_AFTER)
    if "thumbnail" in row and pd.notna(row["thumbnail"]):
        told["picture"], told["pixels"] = markup.picture(row["thumbnail"]), markup.few_pixels(row["thumbnail"])
    return told


@cache
def _map() -> Any:
    html, css, js = ((STATIC / f"map.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    css = (STATIC / "figure.css").read_text(encoding="utf-8") + css
    return st.components.v2.component("polytope_map", html=html, css=css, js=js, isolate_styles=False)


@cache
def _points() -> Any:
    return st.components.v2.component("polytope_points", js=(STATIC / "points.js").read_text(encoding="utf-8"))


@cache
def _hover() -> Any:
    return st.components.v2.component("polytope_hover", js=(STATIC / "hover.js").read_text(encoding="utf-8"))
