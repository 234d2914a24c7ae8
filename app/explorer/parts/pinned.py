"""What is pinned and compared, side by side, each under its letter."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from query.examples.description import describe

from ..view import View, explained, records
from . import cards, choices, markup, pins, show, tray
from .kinds import LOOKS
from .pin import Pin


def badge(letter: str) -> str:
    """A letter in the colour that it has in figures."""
    return f'<b class="pa-letter pa-{letter.lower()}">{letter.upper()}</b>'


def side_by_side(view: View, letters: Sequence[str], chosen: Sequence[Pin]) -> None:
    """Examples, stored or read now."""
    pictured = LOOKS[view.network.kind].pictured
    for place, letter, each in zip(st.columns(len(chosen), gap="medium"), letters, chosen, strict=True):
        with place, st.container(width=choices.CARD if pictured else "stretch"):
            st.html(f'<div class="pa">{badge(letter)}{"" if each.kind == "example" else pins.sign(each)}</div>')
            with explained():
                _card(view, each)


def _card(view: View, each: Pin) -> None:
    if each.kind == "example":
        cards.card(view, records(view.ask(describe, view.network, [each.number]))[0])
    elif each.of_text:
        token = each.text[each.start : each.end]
        facts = markup.facts([("token", f"{each.token:,} of a text that is not stored")])
        show.block(markup.passage(each.text, token, each.start) + facts)
    else:
        show.block(tray.seen(view, each, choices.CARD // 2))
