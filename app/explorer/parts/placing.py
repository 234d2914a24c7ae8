"""A text, an image or a vector that someone gives, placed on a map by its nearest stored examples."""

from __future__ import annotations

from typing import Any

import streamlit as st

from query.layout.layouts import StoredLayout
from query.layout.placing import Place, placed_on

from ...plain_text import counted, numbers, one_line
from ..view import View, explained
from . import markup, show
from .point_map import Mark

IMAGE_TYPES = ["png", "jpg", "jpeg"]
WORDS_SHOWN = 24  # characters of a text on the map
UPLOAD_MEGABYTES = 20


def placed(view: View, layout: StoredLayout) -> list[Mark]:
    """What was given, once the network has read it and its place is known; the field says how it was placed."""
    with st.popover("Place something on it", icon=":material/add_location:"):
        given, words = _given(view)
        if given is None:
            show.notes(
                "The network reads it here, and it stands where the middlemost of its 5 nearest stored examples does."
            )
            return []
        with explained():
            place = view.work("Placing it on the map", placed_on, layout.layout_id, live=True, **given)
            if place is not None:
                show.block(_how(view, place, layout))
                return [(words, (place.x, place.y))]
    return []


def _given(view: View) -> tuple[dict[str, Any] | None, str]:
    """The argument of `placed_on`, and words for it."""
    if view.network.kind == "text":
        text = st.text_area("Text", key="placed-text", height=90, help="Its last token is placed.")
        return ({"text": text}, f"…{one_line(text[-WORDS_SHOWN:])}") if text else (None, "")
    if view.network.kind == "image":
        file = st.file_uploader("Image", type=IMAGE_TYPES, key="placed-image", max_upload_size=UPLOAD_MEGABYTES)
        return (None, "") if file is None else ({"image": file.getvalue()}, one_line(file.name))
    text = st.text_input("Vector", key="placed-vector", placeholder="0.3, 1.2")
    return ({"vector": numbers("the vector", text)}, one_line(text)) if text else (None, "")


def _how(view: View, place: Place, layout: StoredLayout) -> str:
    where = markup.link("look", f"example {place.beside}", example=place.beside, **view.state)
    gates = f"{min(place.distances):,} to {max(place.distances):,} of {layout.target.n_gates:,} gates"
    return (
        f"It stands where {where} does, the middlemost on the map of its "
        f"{counted(len(place.examples), 'nearest stored example')}, which differ from it in {gates}."
    )
