"""Between: two or three of what is pinned, or two clusters, and what tells them apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import streamlit as st

from atlas.errors import PolytopeError
from query.examples.description import describe

from ...plain_text import one_line
from .. import address
from ..parts import cards, choices, markup, pin, pinned, pins, show, tray
from ..parts.pin import Pin
from ..view import View, explained, guarded, records
from . import between_clusters, between_gates, between_path, between_slice

LETTERS = "ABC"
MOST = len(LETTERS)

CHOSEN = "of"
"""In the address: which of the pins are compared, where there are others."""

GATES, PATH, SLICE = "Gates", "Path", "Slice"


def render(view: View) -> None:
    chosen = _chosen(view)
    with explained():
        if chosen[0].kind == "cluster":
            _clusters(view, chosen)
        else:
            _examples(view, chosen)


# --- which -----------------------------------------------------------------------------------------------------


def _chosen(view: View) -> list[Pin]:
    """The pins that are compared: all of two or three of one sort, else those that are chosen."""
    held = pins.comparable(view)
    if elsewhere := pins.elsewhere(view):
        st.html(f'<div class="pa">{elsewhere}</div>')
    sorts = {each.kind == "cluster" for each in held}
    if len(held) > MOST or len(sorts) > 1 or (len(held) > 2 and CHOSEN in st.query_params):
        held = _of_many(view, held)
    if held and held[0].kind == "cluster":
        return held
    firsts = [pin.example(number) for number in choices.first_examples(choices.example_range(view), 2)]
    others = [each for each in firsts if each not in held]
    if len(held) < 2:
        of = f" of {view.network.name}" if elsewhere else ""
        few = f"Nothing{of} is pinned, so these are" if not held else f"Only one{of} is pinned, so beside it are"
        show.notes(f"{few} some of the atlas's first examples. {tray.NOTHING}")
    return held if len(held) >= 2 else [*held, *others][:2]


def _of_many(view: View, held: Sequence[Pin]) -> list[Pin]:
    """Some of many: as the address says, else the newest of one sort."""
    words = {each.word: each for each in held}
    named = [words[word] for word in st.query_params.get_all(CHOSEN) if word in words]
    same = [each for each in held if (each.kind == "cluster") == (held[-1].kind == "cluster")]
    begun = (named or same[-MOST:])[:MOST]
    key = f"{CHOSEN}-{abs(hash((tuple(words), tuple(begun)))):x}"
    picked = st.pills(
        "Compare two or three",
        list(words),
        default=[each.word for each in begun],
        selection_mode="multi",
        format_func=lambda word: markup.markdown(called(view, words[word])),
        key=key,
        on_change=_choose,
        args=(key,),
    )
    address.name_all(CHOSEN, picked)
    chosen = [words[word] for word in words if word in picked]
    if len({each.kind == "cluster" for each in chosen}) > 1:
        show.error("an example and a cluster are not compared; choose two or three of one sort")
        chosen = [each for each in chosen if each.kind != "cluster"]
    if len(chosen) > MOST:
        show.error(f"{len(chosen)} are chosen, and at most {MOST} are compared: the first {MOST} are shown")
    return chosen[:MOST]


@guarded
def _choose(key: str) -> None:
    st.query_params[CHOSEN] = st.session_state[key]


def called(view: View, each: Pin) -> str:
    """What a pin is called on a button."""
    try:
        if each.kind == "cluster":
            name = cards.cluster_names(view, each.cluster[0]).get(each.cluster[1])
            return each.words if name is None else f"{cards.cluster_name(each.cluster[1])} · {name}"
        if each.kind == "example":
            row = records(view.ask(describe, view.network, [each.number]))[0]
            return f"'{one_line(row['token'])}' {each.number}" if "token" in row else each.words
        return each.words
    except PolytopeError:  # the tray says what is the matter
        return each.word


# --- examples --------------------------------------------------------------------------------------------------


def _examples(view: View, chosen: Sequence[Pin]) -> None:
    part = address.segment("Show", [GATES, PATH, SLICE], key="part", label_visibility="collapsed")
    with explained():
        if part == SLICE:
            held = pins.pinned()
            between_slice.draw(view, [each for each in chosen if each in held])
            return
        pinned.side_by_side(view, LETTERS[: len(chosen)], chosen)
        letters, pair = _pair(chosen)
        if part == GATES:
            between_gates.draw(view, letters, pair)
        else:
            between_path.draw(view, letters, pair)


def _pair(chosen: Sequence[Pin]) -> tuple[tuple[str, str], tuple[Pin, Pin]]:
    """Two of them, by their letters."""
    pairs = {f"{a} and {b}": (a, b) for a, b in combinations(LETTERS[: len(chosen)], 2)}
    name = next(iter(pairs))
    if len(pairs) > 1:
        name = address.segment("Two of them", list(pairs), key="pair", label_visibility="collapsed")
    letters = pairs[name]
    first, second = (chosen[LETTERS.index(letter)] for letter in letters)
    return letters, (first, second)


# --- clusters --------------------------------------------------------------------------------------------------


def _clusters(view: View, chosen: Sequence[Pin]) -> None:
    if len(chosen) < 2:
        show.notes("Pin a second cluster, and the gates that tell the two apart stand here.")
        st.html(f'<div class="pa">{tray.seen(view, chosen[0])}</div>')
        return
    for letter, each in zip(LETTERS, chosen, strict=False):
        st.html(f'<div class="pa">{pinned.badge(letter)} {tray.seen(view, each)}</div>')
    letters, pair = _pair(chosen)
    between_clusters.draw(view, letters, pair)
