"""Pins: what someone compares. The address names them, so that a link carries them; the session keeps them, so that
they follow from page to page.

A pin is a short string: ``example:17``, ``cluster:4:12`` (clustering and cluster), ``vector:0.3,1.2``,
``token:4:9:1:A token`` (where the token begins and ends in the text, its number, and the text), ``image:`` and
``text:`` with a digest of what this server keeps, since no address could hold it. What is not stored also names the
network that reads it: ``token@demo-gpt2:4:9:1:A token``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import streamlit as st

from atlas.errors import PolytopeError, UnknownName, UsageError
from query.clustering.clusterings import find_clustering
from query.examples.ids import network_of

from .. import address, leaving
from ..moved import BETWEEN
from ..view import View, guarded
from . import markup, show
from .pin import READS, Pin

MOST = 12
"""Pins at a time: what an address and the sidebar hold."""

KEY = "pin"
"""The name of each in the address."""

_PINS, _NAMED, _REFUSED = "pins", "pins-named", "pins-refused"
"""In the session: the pins, the page and what its address named when it was last drawn, and sentences about what the
address names that is no pin, for as long as its other pins are shown."""

_COMPARED = "pins-compared"
"""In the session, for one run: that what is pinned is to be compared now."""


def pinned() -> list[Pin]:
    """What is pinned, the oldest first. What the address names and is no pin is left out (`begin` has said so)."""
    return [Pin.read(word) for word in st.session_state.get(_PINS, [])]


def owner(view: View, pin: Pin) -> str:
    """The network that a pin is of. Raises `UnknownName` where the atlas does not hold it."""
    if pin.kind == "example":
        return view.ask(network_of, pin.number)
    if pin.kind == "cluster":
        return view.ask(find_clustering, pin.cluster[0]).target.network.name
    if pin.network:
        return view.atlas.catalog.network(pin.network).name
    kind = READS[pin.kind]
    able = [network.name for network in view.atlas.catalog.networks if network.kind == kind]
    if not able:
        raise UnknownName(f"no network in {view.atlas.address} reads what is pinned, of kind {kind}")
    return view.network.name if view.network.name in able else able[0]


def by_network(view: View) -> dict[str, list[Pin]]:
    """What is pinned by the network that it is of, without what the atlas does not hold: the tray says so of it."""
    sorted_pins: dict[str, list[Pin]] = {view.network.name: []}
    for pin in pinned():
        with suppress(PolytopeError):
            sorted_pins.setdefault(owner(view, pin), []).append(pin)
    return sorted_pins


def comparable(view: View) -> list[Pin]:
    """What is pinned of the network that the sidebar names: only that is compared."""
    return by_network(view)[view.network.name]


def elsewhere(view: View) -> str:
    """Of each other network that pins are of, a sentence in HTML with a link that chooses it."""
    sentences = [
        f"{'1 pin is' if len(held) == 1 else f'{len(held)} pins are'} of {markup.plain(network)}: "
        + markup.link("between", f"compare {'it' if len(held) == 1 else 'them'} there", network=network)
        for network, held in by_network(view).items()
        if network != view.network.name
    ]
    return "".join(f'<p class="pa-note">{sentence}.</p>' for sentence in sentences)


def begin(page: str) -> None:
    """At the beginning of a run: the address says what is pinned, unless it is that of another page and says nothing.

    ``page``: which one is drawn. What the address names that is no pin is told.
    """
    named = st.query_params.get_all(KEY)
    held = st.session_state.get(_PINS, [])
    page_before, named_before = st.session_state.get(_NAMED, (page, []))
    if named not in (named_before, held) and (named or page == page_before):
        st.session_state[_PINS], st.session_state[_REFUSED] = _readable(named)
    st.session_state[_NAMED] = page, named
    for sentence in st.session_state.get(_REFUSED, []):
        show.error(sentence)
    address.name_all(KEY, st.session_state.get(_PINS, []), also_none=True)


def leave_to_compare() -> None:
    """Once the sidebar is drawn, whose choices go along: where somebody has asked for it, compare what is pinned."""
    if st.session_state.pop(_COMPARED, False):
        leaving.leave(BETWEEN, {KEY: st.session_state.get(_PINS, [])})


def _readable(words: list[str]) -> tuple[list[str], list[str]]:
    """Words that are pins, each once, and sentences about the others."""
    kept, refused = list[str](), list[str]()
    for word in dict.fromkeys(words):
        try:
            kept.append(Pin.read(word).word)
        except UsageError as error:
            refused.append(f"the address pins {address.cut(word)}: {error}")
    if len(kept) > MOST:
        refused.append(f"the address pins {len(kept)} things; the first {MOST} are shown")
    return kept[:MOST], refused


# --- to pin ----------------------------------------------------------------------------------------------------


def button(pin: Pin, others: Sequence[Pin]) -> None:
    """A button that pins something, or takes it off again; beside it one that compares it with other pins, those of
    its network."""
    held = pin in pinned()
    with st.container(horizontal=True, width="content", gap="small"):
        st.button(
            "Pinned" if held else "Pin",
            icon=":material/keep_off:" if held else ":material/keep:",
            help="Take it off the pins" if held else "Keep it in the sidebar, to be compared (p)",
            key=f"pin-{pin.place}",
            on_click=toggle,
            args=(pin.word,),
        )
        compare(pin, others)


def compare(pin: Pin, others: Sequence[Pin]) -> None:
    """A button that pins this as well and compares it, where something of its sort is among other pins and this is
    not pinned."""
    held = pinned()
    same = [other for other in others if (other.kind == "cluster") == (pin.kind == "cluster")]
    if not same or pin in held or len(held) >= MOST:
        return
    st.button(
        "Compare with the pin" if len(same) == 1 else "Compare with the pins",
        icon=":material/compare_arrows:",
        help="Pin this too, and see what tells it from what is pinned",
        key=f"compare-{pin.place}",
        on_click=_compare,
        args=(pin.word,),
    )


def sign(pin: Pin) -> str:
    """The same as a small sign in a piece of HTML: a cell, a caption."""
    held = pin in pinned()
    what = markup.plain(pin.words)
    says = f"Unpin {what}" if held else f"Pin {what}"
    return (
        f'<button type="button" class="pa-pin" data-pin="{markup.plain(pin.word)}" '
        f'aria-pressed="{str(held).lower()}" aria-label="{says}" title="{says}"></button>'
    )


@guarded
def toggle(word: str) -> None:
    """Pin it, or take it off; with an empty word, all of them."""
    held: list[str] = st.session_state.get(_PINS, [])
    if word in held or not word:
        _hold([other for other in held if word and other != word])
        return
    if len(held) >= MOST:
        raise UsageError(f"{MOST} things are pinned already; take one off the pins in the sidebar first")
    _hold([*held, Pin.read(word).word])


@guarded
def _compare(word: str) -> None:
    toggle(word)
    st.session_state[_COMPARED] = True


def _hold(words: list[str]) -> None:
    """They are a step in the browser's history."""
    st.session_state[_PINS], st.session_state[_REFUSED] = words, []
    st.query_params[KEY] = words
    if not words:
        del st.query_params[KEY]
    page, _ = st.session_state.get(_NAMED, ("", []))
    st.session_state[_NAMED] = page, words
