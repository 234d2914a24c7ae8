"""What every page has beside its title: links to copy, the list of keys, and the keys themselves."""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

from .figures import STATIC


def embedded() -> bool:
    """Whether the page stands within another: its address says ``embed=true``, which Streamlit keeps to itself."""
    return bool(st.context.is_embedded)


def aside(what: str) -> Any:
    """Where ``what`` stands: the sidebar. A page that is embedded has none, and only remembers the choices."""
    return st.container(key=f"unseen-{what}") if embedded() else st.sidebar


def draw() -> None:
    """The buttons; of a page that is embedded a link to the whole explorer."""
    _component()(data={"embedded": embedded()}, key="tools", width="content")


@cache
def _component() -> Any:
    html, css, js = ((STATIC / f"tools.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return st.components.v2.component("polytope_tools", html=html, css=css, js=js, isolate_styles=False)
