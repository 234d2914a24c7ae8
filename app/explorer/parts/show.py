"""The pages' own HTML in the current place: remarks, errors, and tables whose columns say how a row fills them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import streamlit as st

from . import markup, terms

Row = dict[str, Any]

NUMBER, KEY, WIDE, CODE = "pa-number", "pa-key", "pa-wide", "pa-code"
"""Classes of a column: aligned right; never broken; as wide as may be; in the letters of code."""


class Column(NamedTuple):
    """How a column of a table is headed and filled: ``cell`` gives HTML of a row, ``hint`` what the column means."""

    title: str
    css: str
    cell: Callable[[Row], str]
    hint: str = ""


def table(rows: Iterable[Row], columns: Iterable[Column]) -> None:
    """A table of rows; a heading that says nothing about itself has what the glossary says."""
    shown = list(columns)
    heads = [(column.title, column.hint or terms.known(column.title), column.css) for column in shown]
    st.html(markup.table(heads, ([column.cell(row) for column in shown] for row in rows)))


def notes(*lines: str | None) -> None:
    """Remarks as sentences, jargon with its tooltip; those that are None are left out. What they put in backquotes is
    set as code."""
    st.html(terms.marked(markup.notes(lines)))


def error(message: object) -> None:
    """An error's own sentence."""
    st.html(markup.error(str(message)))


def block(shown: str) -> None:
    """A piece of HTML in the letters of the pages."""
    st.html(f'<div class="pa">{shown}</div>')
