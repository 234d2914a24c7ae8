"""How answers show themselves in a notebook: HTML in which what comes from data is characters and nothing else.

Jupyter asks an object for ``_repr_html_``. `Shown` gives it to a dataclass: numbers in a line, tables as tables,
tokens in their contexts, thumbnails as pictures. `Table` does so for the rows of any question:

>>> from query.notebook import Table
>>> Table(query.nearest(a, example=17, site="inception5b", k=5))
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import plotly.graph_objects as go

BEFORE, AFTER = 64, 40
"""Characters shown either side of a token: about a line."""

ROWS = 10
"""Rows of a table that are shown; the frame has all."""

ITEMS = 6
"""Of a list or an array in a cell."""

PICTURE = 96
"""Pixels of the longer side of a picture in a table, which may be smaller than its thumbnail."""

MARK = "background: #ffe08a; font-weight: 600"
MUTED = "color: #767676"
_PICTURES = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"))


def plain(value: object) -> str:
    """Any value as characters of HTML; a line break is a sign, so that a token of one is seen."""
    return html.escape(str(value)).replace("\n", "⏎").replace("\t", "→")


def token_in_context(context: str, token: str, offset: int, before: int = BEFORE, after: int = AFTER) -> str:
    """A token that starts at a character of its context, marked."""
    end = offset + len(token)
    left, right = context[max(0, offset - before) : offset], context[end : end + after]
    cut = ("…" if offset > before else "", "…" if end + after < len(context) else "")
    marked = f'<mark style="{MARK}">{plain(token)}</mark>'
    return f'<span style="white-space: pre-wrap">{cut[0]}{plain(left)}{marked}{plain(right)}{cut[1]}</span>'


def picture(data: bytes, name: str = "") -> str:
    """A PNG or JPEG, small images with their pixels as squares; what is neither is named."""
    kind = next((kind for start, kind in _PICTURES if data.startswith(start)), None)
    if kind is None:
        return f'<span style="{MUTED}">{len(data):,} bytes</span>'
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    style = f"max-height: {PICTURE}px; min-height: 48px; image-rendering: pixelated"
    return f'<img src="{source}" alt="{plain(name)}" style="{style}">'


def table(frame: pd.DataFrame, rows: int = ROWS) -> str:
    """The first rows of a frame. Contexts show their token marked, thumbnails are pictures."""
    in_context = {"context", "context_offset", "token"} <= set(map(str, frame.columns))
    hidden = {"context_offset", "token"} if in_context else set()
    names = [name for name in frame.columns if str(name) not in hidden]
    head = "".join(f"<th>{plain(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td>{_cell(row, name, in_context)}</td>' for name in names)}</tr>"
        for row in frame.head(rows).to_dict("records")
    )
    more = f'<p style="{MUTED}">{len(frame):,} rows, the first {rows} shown</p>' if len(frame) > rows else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(row: Mapping[Any, Any], name: Any, in_context: bool) -> str:
    value = row[name]
    if in_context and name == "context" and isinstance(value, str) and isinstance(row["token"], str):
        return token_in_context(value, row["token"], int(row["context_offset"]))
    if isinstance(value, bytes | bytearray | memoryview):
        return picture(bytes(value), str(row.get("key", "")))
    return plain(in_words(value))


def in_words(value: Any) -> str:
    """A value of a cell, short."""
    if isinstance(value, list | tuple | np.ndarray):
        items = ", ".join(in_words(item) for item in list(value)[:ITEMS])
        return f"[{items}{', …' if len(value) > ITEMS else ''}]"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "–" if math.isnan(value) else f"{value:.4g}"
    return "–" if value is None or value is pd.NA or value is pd.NaT else str(value)


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names and values in a line."""
    return " · ".join(f"{plain(name)} <b>{plain(in_words(value))}</b>" for name, value in pairs)


_SCRIPTS: list[str] = []
"""What brings Plotly's script to the page, once it went there."""


def figure_html(figure: go.Figure) -> str:
    """A figure that can be moved and zoomed. Plotly's script, 4.5 MB, comes with the first of a process, and serves
    all others of the page."""
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=not _SCRIPTS)
    _SCRIPTS[:] = ["with the first figure"]
    return drawn


@dataclass(frozen=True, eq=False)
class Table:
    """The rows of a question, as a notebook shows them: the first ``rows`` of a frame."""

    frame: pd.DataFrame
    rows: int = ROWS

    def _repr_html_(self) -> str:
        # What an answer says of itself; the other attributes repeat what was asked.
        notes = [note for name, note in self.frame.attrs.items() if str(name).endswith("note") and note]
        return table(self.frame, self.rows) + "".join(f'<p style="{MUTED}">{plain(note)}</p>' for note in notes)


class Shown:
    """For dataclasses that are an answer: their numbers, then their tables."""

    def _repr_html_(self) -> str:
        assert is_dataclass(self)
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        brief = {name: value for name, value in values.items() if isinstance(value, str | bool | int | float)}
        tables = [(name, value) for name, value in values.items() if isinstance(value, pd.DataFrame)]
        parts = [f"<p><b>{type(self).__name__}</b> {facts((n, v) for n, v in brief.items() if v != '')}</p>"]
        for name, frame in tables:
            parts.append(f'<p style="{MUTED}">{plain(name)}</p>{table(frame)}')
        return "".join(parts)
