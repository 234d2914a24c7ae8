"""The tray in the sidebar: what is pinned as people know it, and a link to the page that compares it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from atlas.errors import PolytopeError
from atlas.images import decode_image
from ingest.datasets.images import thumbnail
from query.clustering.clusterings import find_clustering
from query.clustering.clusters import clustering_with
from query.examples.description import describe

from ..view import View, guarded, records
from . import cards, markup, pins, tools
from .figures import STATIC
from .pin import Pin

THUMB, BEFORE, AFTER = 28, 14, 10
"""Pixels of a picture, and characters around a token: what fits into a line of the sidebar."""

NOTHING = "Pin two or three things, with the sign beside them or the key `p`, and compare them."


def draw(view: View, between: StreamlitPage | None = None) -> None:
    """``between``: the page that compares what is pinned."""
    held = pins.pinned()
    with tools.aside("pins"), st.container(key="tray", gap="small"):
        if not held:
            st.html(f'<div class="pa pa-tray"><b>Pins</b>{markup.notes([NOTHING])}</div>')
        else:
            rows = "".join(_or_why_not(view, pin) for pin in held)
            comparable = pins.comparable(view)
            others = "" if comparable else pins.elsewhere(view)
            st.html(f'<div class="pa pa-tray"><b>Pins</b>{_all(held)}<ul>{rows}</ul>{others}</div>')
            if comparable and between is not None:
                st.page_link(between, label="Compare", icon=":material/compare_arrows:", width="stretch")
        _component()(data={"pins": [pin.word for pin in held]}, key="pins-heard", height=0, on_pinned_change=_heard)


def _all(held: Sequence[Pin]) -> str:
    return '<button type="button" class="pa-plain" data-pin="">Unpin all</button>' if len(held) > 1 else ""


def _or_why_not(view: View, pin: Pin) -> str:
    """A row of the tray. Grey is what is of another network, and not compared."""
    sign, owner = pins.sign(pin), view.network.name
    try:
        owner = pins.owner(view, pin)
        shown = seen(view, pin)
    except PolytopeError as error:
        shown = f'<span class="pa-gone" role="alert">{markup.plain(pin.words)}: {markup.plain(error)}</span>'
    if owner == view.network.name:
        return f"<li><div>{shown}</div>{sign}</li>"
    of = f"of {markup.plain(owner)}"
    why = f"{of}: compared while that network is chosen"
    return f'<li class="pa-elsewhere" title="{why}"><div>{shown} <small>{of}</small></div>{sign}</li>'


def seen(view: View, pin: Pin, height: int = THUMB, before: int = BEFORE, after: int = AFTER) -> str:
    """What is pinned, in a line of HTML that leads to it.

    Raises `UnknownName` where the atlas does not hold it, `NotStored` where this server does not keep it any more.
    """
    if pin.kind == "example":
        return _example(view, pin, height, before, after)
    if pin.kind == "cluster":
        return _cluster(view, *pin.cluster)
    if pin.of_text:
        text = pin.text
        state = {**_state(view, pin), "text": text, "token": pin.token} if pin.kind == "token" else None
        shown = markup.context(text, text[pin.start : pin.end], pin.start, before, after)
        return _led_to(state, shown, pin.words)
    if pin.kind == "image":
        return markup.thumb(_small(pin.image), height, pin.words)
    shown = f'<span class="pa-mono">{markup.plain(pin.rest)}</span>'
    return _led_to({**_state(view, pin), "vector": pin.rest}, shown, pin.words)


def _state(view: View, pin: Pin) -> dict[str, str]:
    """What a link to a pin carries: its network, which begins with a site of its own if it is another."""
    owner = pins.owner(view, pin)
    return view.state if owner == view.network.name else {"network": owner}


def _example(view: View, pin: Pin, height: int, before: int, after: int) -> str:
    network = view.atlas.catalog.network(pins.owner(view, pin))
    row = records(view.ask(describe, network, [pin.number]))[0]
    state = {**_state(view, pin), "example": pin.number}
    about = f"<small>{pin.number} · {markup.words(row['label'])}</small>"
    return _led_to(state, f"{cards.excerpt(view, row, height, before, after)} {about}", pin.words)


def _cluster(view: View, clustering: int, cluster: int) -> str:
    view.ask(clustering_with, clustering, cluster)
    target = view.ask(find_clustering, clustering).target
    link = cards.cluster_link(View(view.atlas, target.network, target.name, view.read_only), clustering, cluster)
    return f"{link} <small>cluster at {markup.plain(target.name)}</small>"


def _led_to(state: dict[str, Any] | None, shown: str, title: str) -> str:
    if state is None:
        return shown
    where = markup.plain(markup.address_of("look", **state))
    return f'<a href="{where}" target="_self" title="{markup.plain(title)}" class="pa-piece">{shown}</a>'


@st.cache_data(max_entries=64, show_spinner=False)
def _small(data: bytes) -> bytes:
    """What shows an uploaded image."""
    return thumbnail(decode_image(data))


@guarded
def _heard() -> None:
    pins.toggle(st.session_state["pins-heard"]["pinned"])


@cache
def _component() -> Any:
    return st.components.v2.component("polytope_pins", js=(STATIC / "pins.js").read_text(encoding="utf-8"))
