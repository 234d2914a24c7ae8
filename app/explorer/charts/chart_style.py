"""Data to figure, no queries. Every axis says its unit, every mark or title its n.

Colours are Okabe and Ito's (jfly.uni-koeln.de/color), told apart by people with any colour vision; marks differ in
shape as well, so that a print in grey still reads.
"""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go

from ...plain_text import counted

BLUE, VERMILLION, GREEN, ORANGE, SKY, GREY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#56b4e9", "#8a8a8a"

PURPLE, YELLOW = "#cc79a7", "#f0e442"
SERIES = [BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE, YELLOW, GREY]
SYMBOLS = ["circle", "diamond", "square", "triangle-up", "x", "cross", "star", "circle-open"]
"""Colours and marks of series side by side, in this order; the last is that of what is left over."""

TICK_ANGLES = [0, -35, -90]  # the first at which names do not touch

BAR_HEIGHT = 26  # pixels a bar of a horizontal chart, its gap included

MOST_COLOURS = 7  # more than there are colours that everyone tells apart; the others share grey


def chart(rows: pd.DataFrame, across: str, up: str, by: str | None = None) -> go.Figure:
    """Any column against a column of numbers: points where both are numbers, bars where the first holds names."""
    numeric = pd.api.types.is_numeric_dtype(rows[across]) and not pd.api.types.is_bool_dtype(rows[across])
    figure = go.Figure()
    for i, (name, part) in enumerate(_parts(rows, by)):
        look = {"marker_color": SERIES[i], "name": text(name), "showlegend": by is not None}
        at = part[across] if numeric else [text(value) for value in part[across]]
        if numeric:
            look |= {"mode": "markers", "marker_symbol": SYMBOLS[i]}
        figure.add_trace(go.Scatter(x=at, y=part[up], **look) if numeric else go.Bar(x=at, y=part[up], **look))
    figure.update_xaxes(title=text(across), type="linear" if numeric else "category", autotickangles=TICK_ANGLES)
    figure.update_yaxes(title=text(up))
    return finished(figure, f"n = {counted(len(rows), 'row')}", 420)


def _parts(rows: pd.DataFrame, by: str | None) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each value of a column, the commonest first; those past the colours together."""
    if by is None:
        return [("", rows)]
    values = rows[by].map(str)
    common = list(values.value_counts().index)[:MOST_COLOURS]
    parts = [(name, rows[values == name]) for name in common]
    others = rows[~values.isin(common)]
    return parts if others.empty else [*parts, ("others", others)]


def finished(figure: go.Figure, title: str, height: int) -> go.Figure:
    figure.update_layout(
        title={"text": text(title), "font": {"size": 14}} if title else None,
        height=height,
        margin={"l": 10, "r": 20, "t": 50 if title else 30, "b": 10},
        hoverlabel={"align": "left"},
        bargap=0.25,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)
    return figure


def text(words: object) -> str:
    """Words as Plotly shows them: it reads a few HTML tags in any text."""
    return html.escape(str(words), quote=False)
