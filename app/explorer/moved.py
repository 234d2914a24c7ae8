"""Addresses of earlier editions: each opens the same view at the place where it stands now."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

from .view import View


def to(path: str, **renamed: str | None) -> Callable[[View], None]:
    """What draws an old page: it leads to the page at ``path``. ``renamed``: what a parameter of the address is
    called there, None where that page has none."""

    def render(view: View) -> None:
        st.switch_page(st.Page(_elsewhere, url_path=path), query_params=translated(st.query_params, renamed))

    return render


def translated(given: Mapping[str, str], renamed: Mapping[str, str | None]) -> dict[str, str]:
    """Parameters of an old address, as the new place calls them."""
    names = {name: renamed.get(name, name) for name in given}
    return {name: given[old] for old, name in names.items() if name is not None}


def _elsewhere() -> None:
    """Of a page to switch to only the path matters."""
