"""The code that gives what a page shows, behind an icon at its heading, to be copied: Python, SQL, a command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import streamlit as st

import query

from . import markup

if TYPE_CHECKING:
    from ..view import View

TITLE, ICON = "Code for this", ":material/code:"


@dataclass
class _Heading:
    """A heading: the place beside its words, and what opens there once there is code for what stands below."""

    beside: Any
    opens: Any = None


_headings: ContextVar[list[_Heading] | None] = ContextVar("headings", default=None)
"""The headings of a page that is being drawn; a fragment that is drawn again has none, and shows code where it is."""


@contextmanager
def under(title: str, beside: Callable[[], None] | None = None) -> Iterator[None]:
    """A page under its title, at which the code for all of it stands that no other heading takes (`heading`);
    ``beside`` draws what else stands there."""
    token = _headings.set([])
    try:
        heading(title, st.title, beside)
        yield
    finally:
        _headings.reset(token)


def heading(words: str, draw: Callable[..., Any] = st.header, beside: Callable[[], None] | None = None) -> None:
    """A heading, in Markdown; code for what is drawn until the next one opens behind an icon beside it."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        draw(words, anchor=False, width="content")
        place = _Heading(st.container(width="content"))
        if beside is not None:
            beside()
    if (headings := _headings.get()) is not None:
        headings.append(place)


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
    lines += ["", f"with atlas.open({view.atlas.address!r}) as a:"]
    return "\n".join([*lines, *(f"    print({each})" for each in shown)])


def fold(view: View, python: str, *, sql: str | None = None, line: str | None = None) -> None:
    """Whole scripts behind the icon: a command line first, then Python, then SQL with a link to its page."""
    with _opening():
        for script, language in ((line, "sh"), (python, "python"), (sql, "sql")):
            if script is not None:
                st.code(script, language, wrap_lines=True)
        if sql is not None:
            st.html(f'<div class="pa">{markup.link("sql", "Open in the SQL page", query=sql, **view.state)}</div>')


def _opening() -> Any:
    """What opens at the heading above, else at this place."""
    headings = _headings.get()
    if not headings:
        return st.popover(TITLE, icon=ICON, type="tertiary")
    if headings[-1].opens is None:
        place = headings[-1].beside
        headings[-1].opens = place.popover(TITLE, icon=ICON, type="tertiary", help=TITLE, key=f"code-{len(headings)}")
    return headings[-1].opens
