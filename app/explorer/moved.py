"""Addresses of earlier editions: each opens the same view at the place where it stands now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import streamlit as st

from .view import View

BETWEEN = "between"
"""The page that compares what is pinned."""

ENDS = {"example": "pin", "a": "pin", "b": "pin", "x": "pin", "y": "pin"}
"""Parameters of old addresses that named what is pinned now."""


@dataclass(frozen=True)
class Moved:
    """An old page: it leads to the page at ``path``, before any widget is drawn: what a widget holds could not be
    carried over.

    ``begun``: parameters that it has there unless the old address names them. ``renamed``: what a parameter of the
    address is called there, None where that page has none; several may become values of one name.
    """

    path: str
    begun: Mapping[str, str]
    renamed: Mapping[str, str | None]

    def __call__(self, view: View | None = None) -> None:
        given = {name: st.query_params.get_all(name) for name in st.query_params}
        known = {name: [value] for name, value in self.begun.items()}
        there = st.Page(_elsewhere, url_path=self.path)
        st.switch_page(there, query_params=known | translated(given, self.renamed))


def to(path: str, begun: Mapping[str, str] | None = None, /, **renamed: str | None) -> Moved:
    """What draws an old page, as `Moved` says."""
    return Moved(path, begun or {}, renamed)


class Pair(Moved):
    """The page of densities: a pair where the address names one, else the claim about pairs of labels."""

    def __call__(self, view: View | None = None) -> None:
        if {"x", "y"} & {*st.query_params}:
            super().__call__()
        else:
            to("claims", {"claim-density": "true"})()


def follow(draws: object) -> None:
    """Where the page of this run has moved, go there; ``draws``: what draws it."""
    if isinstance(draws, Moved):
        draws()


def translated(given: Mapping[str, Sequence[str]], renamed: Mapping[str, str | None]) -> dict[str, list[str]]:
    """Parameters of an old address, as the new place calls them, each with its values."""
    found: dict[str, list[str]] = {}
    for old, values in given.items():
        name = renamed.get(old, old)
        if name is not None:
            found.setdefault(name, []).extend(values)
    return found


def _elsewhere() -> None:
    """Of a page to switch to only the path matters."""
