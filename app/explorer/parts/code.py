"""The code that gives what a page shows, folded under it to be copied: Python, SQL, or a command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st

import query

from . import markup

if TYPE_CHECKING:
    from ..view import View

TITLE = "Code for this"

_INSIDE = re.compile(r"\b((?:ingest|query)(?:\.[a-z_]+)+)\.(\w+)\((?=a\b)")
"""A function that a package does not export: (``ingest.networks``, ``reload_network``)."""


def call(function: Callable[..., Any], *positional: object, **arguments: object) -> str:
    """A call of a question with the arguments that it was asked with; those that are None are left out."""
    given = [repr(value) for value in positional]
    given += [f"{name}={value!r}" for name, value in arguments.items() if value is not None]
    return f"{_name(function)}({', '.join(['a', *given])})"


def _name(function: Callable[..., Any]) -> str:
    """As `query` exports it, else where it is defined."""
    public = getattr(query, function.__name__, None) is function
    return f"query.{function.__name__}" if public else f"{function.__module__}.{function.__qualname__}"


def reader_of(network: str) -> str:
    """The live network of an atlas, as an argument ``reader`` of a call."""
    return f"ingest.networks.reload_network(a.catalog.network({network!r}))"


def source(view: View, *calls: str, sql: str | None = None) -> None:
    """What gives the tables above: calls, whose answers are printed, and SQL where one query says the same."""
    fold(view, script(view, *calls), sql=sql)


def script(view: View, *calls: str) -> str:
    """Python that opens the atlas and prints what each call gives."""
    imported = sorted({found for each in calls for found in _INSIDE.findall(each)})
    shown = [_INSIDE.sub(r"\2(", each) for each in calls]
    packages = "atlas, query" if any("query." in each for each in shown) else "atlas"
    lines = [f"import {packages}", *(f"from {module} import {name}" for module, name in imported)]
    lines += ["", f"with atlas.open({str(view.path)!r}) as a:"]
    return "\n".join([*lines, *(f"    print({each})" for each in shown)])


def fold(view: View, python: str, *, sql: str | None = None, line: str | None = None) -> None:
    """Whole scripts, folded: a command line first, then Python, then SQL with a link to its page."""
    with st.expander(TITLE):
        for script, language in ((line, "sh"), (python, "python"), (sql, "sql")):
            if script is not None:
                st.code(script, language, wrap_lines=True)
        if sql is not None:
            st.html(f'<div class="pa">{markup.link("sql", "Open in the SQL page", query=sql, **view.state)}</div>')
