"""The code that gives what a page shows, folded under it to be copied: Python, SQL, or a command line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import streamlit as st
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

import query

from ... import markup

if TYPE_CHECKING:
    from ..view import View

TITLE = "Code for this"

_INSIDE = re.compile(r"\b((?:ingest|query)(?:\.[a-z_]+)+)\.(\w+)\((?=a\b)")
"""A function that a package does not export: (``ingest.networks``, ``reload_network``)."""

_PRINTED = re.compile(r"print\(([\w.]+)\(")
"""What a script calls: the same whatever it is asked."""


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
    """A folded block of whole scripts: a command line first, then Python, then SQL with a link to its page.

    It is on the page as HTML: Streamlit's own highlighter would bring 1.5 MB of script to every first page. What the
    buttons promise `app.explorer.browser` does.
    """
    scripts = [(line, "sh"), (python, "python"), (sql, "sql")]
    blocks = "".join(_block(code, language) for code, language in scripts if code is not None)
    if sql is not None:
        blocks += f"<p>{markup.link('sql', 'Open in the SQL page', query=sql, **view.state)}</p>"
    kind = markup.plain(" ".join(_PRINTED.findall(python)))
    st.html(f'<details class="pa pa-code" data-fold="{kind}"><summary>{TITLE}</summary>{blocks}</details>')


def _block(code: str, language: str) -> str:
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)  # to the letter
    return (
        '<div class="pa-script"><button type="button">Copy</button>'
        f'<pre><code class="language-{language}">{highlight(code, lexer, _FORMATTER)}</code></pre></div>'
    )


_FORMATTER = HtmlFormatter(nowrap=True)
