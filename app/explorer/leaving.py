"""Going on to another page of the explorer.

The bar of a job asks how far it is several times a second, until the browser hears that the script runs anew. What it
asked before that, Streamlit answers after the other page is drawn, and takes that page off the screen. So the page is
changed once the browser has heard.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NoReturn
from uuid import uuid4

import streamlit as st

from .parts.figures import STATIC
from .view import guarded

_THERE, _GOES = "leaving-for", "leaves"
"""In the session: where somebody wants to go, and, once the browser has heard of it, where this run goes."""

_HEARD = "leaving-heard"


def leave(path: str, query_params: Mapping[str, Any]) -> NoReturn:
    """Draw nothing more, and go to a page; its address is to say this."""
    st.session_state[_THERE] = path, query_params
    _component()(data={"turn": uuid4().hex}, key=_HEARD, height=0, on_heard_change=_heard)
    st.stop()


def follow() -> None:
    """At the beginning of a run: go where the browser has heard that somebody goes."""
    there = st.session_state.pop(_GOES, None)
    if there is not None:
        path, query_params = there
        st.switch_page(st.Page(_elsewhere, url_path=path), query_params=query_params)


@guarded
def _heard() -> None:
    st.session_state[_GOES] = st.session_state.pop(_THERE, None)


def _elsewhere() -> None:
    """Of a page to switch to only the path matters."""


@cache
def _component() -> Any:
    return st.components.v2.component("polytope_leaving", js=(STATIC / "leaving.js").read_text(encoding="utf-8"))
