"""Widgets whose values stand in the address of a page, and a sentence where the page does not have such a value.

Streamlit itself replaces a value that a widget can't hold, in silence. Here it is said, with what can be asked for
and what is shown in its place, for as long as that is shown. A value left over from the network or site that the
sidebar named before is replaced too: the choice was about another thing, and nobody asked for it here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple, overload

import streamlit as st

from .parts import show

BAR = Path(__file__).with_name("static") / "address.js"

SHOWN = 40  # characters of what was asked for that are repeated
LISTED = 8  # options that a sentence lists

TRUTHS = {"true": True, "false": False}
"""How an address writes the state of a switch."""


class _Refusal(NamedTuple):
    sentence: str
    shown: Any


# --- widgets ---------------------------------------------------------------------------------------------------


@overload
def number(label: str, low: int, high: int | None, default: int, *, key: str, **look: Any) -> int: ...


@overload
def number(label: str, low: int, high: int | None, default: None, *, key: str, **look: Any) -> int | None: ...


def number(
    label: str, low: int, high: int | None, default: int | None, *, key: str, expected: str | None = None, **look: Any
) -> int | None:
    """A field for a whole number of [low, high]; ``expected`` says so in other words. With ``default`` None it may
    stay empty."""
    high_words = f"from {low:,} on" if high is None else f"from {low:,} to {high:,}"

    def allowed(value: Any) -> bool:
        if not isinstance(value, Integral):  # none, or what a widget of the same key held on another page
            return value is None and default is None
        return low <= int(value) and (high is None or int(value) <= high)

    _check(key, default, int, allowed, expected or f"a whole number {high_words}")
    if default is not None:
        begin_with(key, default)
    value = st.number_input(label, low, high, None, key=key, bind="query-params", **look)
    if value is None:
        return default
    name(key, int(value))
    return int(value)


@overload
def one_of(label: str, options: Sequence[str], *, key: str, first: str, **look: Any) -> str: ...


@overload
def one_of(label: str, options: Sequence[str], *, key: str, first: str | None, **look: Any) -> str | None: ...


def one_of(
    label: str,
    options: Sequence[str],
    *,
    key: str,
    first: str | None,
    also: Mapping[str, str] | None = None,
    expected: str | None = None,
    bound: bool = True,
    **look: Any,
) -> str | None:
    """A list to choose from, at first one or none of it. ``also``: other words of an address for its options. Not
    ``bound``: the address has those words alone, and never an option's own; a choice is a step in the history where
    a callback says so (`step`)."""
    _check(key, first, _reading(also), options.__contains__, expected or _listed(options))
    if first is not None:
        begin_with(key, first)
    if bound:
        look["bind"] = "query-params"
    elif key not in st.session_state and st.query_params.get(key) in options:
        st.session_state[key] = st.query_params[key]
    elif _went_back(key):
        st.session_state[key] = _option(st.query_params.get(key, ""), options, also or {}) or first
    elif f"refused-{key}" in st.session_state and key in st.query_params:
        del st.query_params[key]
    st.session_state[f"said-{key}"] = st.query_params.get(key, "")
    chosen = st.selectbox(label, options, index=None, key=key, **look)
    if chosen is None:
        if not bound:
            name(key, "")
        return first
    short = {option: words for words, option in (also or {}).items()}
    name(key, short.get(chosen, chosen))
    return chosen


def step(key: str, words: str) -> None:
    """In a callback: the address says this from now on, and what it said before is a step back in the browser's
    history. ``key``: of a list that is not bound (`one_of`)."""
    st.query_params[key] = words
    st.session_state[f"said-{key}"] = words


def _went_back(key: str) -> bool:
    """Whether the browser has gone back or forth since: the address says something else, and no callback did that."""
    said = st.session_state.get(f"said-{key}")
    return key in st.session_state and said is not None and st.query_params.get(key, "") != said


def _option(words: str, options: Sequence[str], also: Mapping[str, str]) -> str | None:
    option = also.get(words, words)
    return option if option in options else None


def segment(label: str, options: Sequence[str], *, key: str, first: str | None = None, **look: Any) -> str:
    """One of few options side by side, the first to begin with, or another."""
    first = first or options[0]
    _check(key, first, str, options.__contains__, _listed(options))
    chosen = st.segmented_control(label, options, default=first, key=key, bind="query-params", required=True, **look)
    return str(chosen or first)


def tabs(titles: Sequence[str], *, key: str) -> Sequence[Any]:
    """Tabs of which only the open one is drawn."""
    _check(key, titles[0], str, titles.__contains__, _listed(titles))
    return st.tabs(titles, key=key, on_change="rerun", bind="query-params")


def slider(label: str, low: float, high: float, default: float, step: float, *, key: str, **look: Any) -> float:
    _check(key, default, float, lambda value: low <= value <= high, f"a number from {low:g} to {high:g}")
    return float(st.slider(label, low, high, default, step, key=key, bind="query-params", **look))


def switch(label: str, *, key: str, default: bool = False, **look: Any) -> bool:
    _check(key, default, lambda text: TRUTHS[text.lower()], lambda value: isinstance(value, bool), "true or false")
    return st.toggle(label, value=default, key=key, bind="query-params", **look)


def paged(n: int, per_page: int, *, key: str = "page", of: object = None) -> slice:
    """The rows of the page that is chosen, of ``n`` in all; below where this is called stands what turns pages.

    ``of``: what the rows are of: of another thing the first page is shown.
    """
    pages, owner = max(1, -(-n // per_page)), f"{key}-of"
    if key in st.session_state and st.session_state.get(owner, of) != of:
        st.session_state[key] = 1
    st.session_state[owner] = of
    many = "the only page, 1" if pages == 1 else f"a page from 1 to {pages:,}"
    _check(key, 1, int, lambda page: 1 <= page <= pages, many)
    page = st.pagination(pages, key=key, bind="query-params") if pages > 1 else 1
    return slice((page - 1) * per_page, min(n, page * per_page))


# --- what the address names ------------------------------------------------------------------------------------

_NAMED = "named-in-address"


def begin() -> None:
    """A run of the script begins, in which the address is to name what its widgets hold."""
    st.session_state[_NAMED] = {}


def name(key: str, value: object) -> None:
    """The address names this, even where it is what the page begins with: of a newer clustering that is another."""
    st.session_state.setdefault(_NAMED, {})[key] = str(value)


def name_all(key: str, values: Sequence[str], also_none: bool = False) -> None:
    """The same of several values of one name; with ``also_none`` no values take it out of the address."""
    if values or also_none:
        st.session_state.setdefault(_NAMED, {})[key] = list(values)


def leave_out(*keys: str) -> None:
    """The address does not name these any more, which are of what was shown before."""
    st.session_state.setdefault(_NAMED, {}).update({key: [] for key in keys})


def named() -> dict[str, str | list[str]]:
    """What the address names as of the last whole run: for a callback."""
    return dict(st.session_state.get(_NAMED, {}))


def begin_with(key: str, value: object) -> None:
    """What a widget holds that has no default: Streamlit would take a default out of the address. Emptied, it begins
    anew (`_check`)."""
    if key not in st.session_state and key not in st.query_params:
        st.session_state[key] = value


def complete() -> None:
    """At the end of a run: write what was named into the address bar, without a step in the browser's history."""
    _bar()(data={"named": st.session_state.get(_NAMED, {}), "run": time.monotonic()}, key="address", height=0)


@cache
def _bar() -> Any:
    return st.components.v2.component("polytope_address", js=BAR.read_text(encoding="utf-8"))


# --- values that a page does not have ----------------------------------------------------------------------


def _check(key: str, default: Any, read: Callable[[str], Any], allowed: Callable[[Any], bool], expected: str) -> None:
    """Before a widget is drawn: replace a value that it can't hold, and say so where the address names it."""
    follow_default(key, default)
    if key in st.session_state:
        if not allowed(st.session_state[key]):
            st.session_state[key] = default
    else:
        st.session_state.pop(f"refused-{key}", None)
        wanted = st.query_params.get(key, "")
        if wanted:
            _read(key, wanted, default, read, allowed, expected)
    if key in st.session_state:
        show_refusal(key, st.session_state[key])


def follow_default(key: str, default: Any) -> None:
    """Before a widget is drawn: a value that nobody chose follows the default, which may change with the site. It is
    not in the address, and whoever opens that address sees the new default."""
    before = st.session_state.get(f"default-{key}", default)
    st.session_state[f"default-{key}"] = default
    if before != default and st.session_state.get(key) == before:
        st.session_state[key] = default


def _read(
    key: str, wanted: str, default: Any, read: Callable[[str], Any], allowed: Callable[[Any], bool], expected: str
) -> None:
    try:
        value = read(wanted)
        known = allowed(value)
    except (ValueError, LookupError):
        known = False
    if not known:
        st.session_state[key] = default
        refuse(key, wanted, expected, default)
    elif str(value) != wanted and isinstance(value, str):  # in other words than the widget's
        st.session_state[key] = value


def refuse(key: str, wanted: str, expected: str, shown: object) -> None:
    """Remember what to say about a value in the address that the page does not have."""
    instead = "any" if shown is None else shown
    sentence = f"the address asks for {key} {cut(wanted)}; expected {expected}; shown is {instead}"
    st.session_state[f"refused-{key}"] = _Refusal(sentence, shown)


def cut(wanted: str) -> str:
    """What an address asks for, as a sentence repeats it."""
    return wanted if len(wanted) <= SHOWN else wanted[: SHOWN - 1] + "…"


def show_refusal(key: str, shown: object) -> None:
    """Say which value of the address was refused, for as long as the one is shown that took its place.

    A line of its own, also among widgets that stand side by side (`static/style.css`).
    """
    refusal = st.session_state.get(f"refused-{key}")
    if refusal is not None and shown == refusal.shown:
        with st.container(key=f"refusal-{key}"):
            show.error(refusal.sentence)


def refuse_without_widget(key: str, expected: str, shown: str) -> None:
    """Refuse a value of the address for which the page has no widget, and take it out of the address.

    A value that was chosen on the page is dropped without a word: its widget went with what it was about.
    """
    wanted = st.query_params.get(key, "")
    if key in st.session_state:
        st.session_state.pop(f"refused-{key}", None)
    elif wanted not in ("", shown):
        del st.query_params[key]
        refuse(key, wanted, expected, shown)
    show_refusal(key, shown)


def _reading(also: Mapping[str, str] | None) -> Callable[[str], str]:
    return lambda text: (also or {}).get(text, text)


def _listed(options: Sequence[str]) -> str:
    more = ", …" if len(options) > LISTED else ""
    return f"{'one of ' if len(options) > 1 else ''}{', '.join(map(str, options[:LISTED]))}{more}"
