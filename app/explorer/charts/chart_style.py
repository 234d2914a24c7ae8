"""Data to figure, no queries. Every axis says its unit, every mark or title its n.

Colours and marks are those of the figures of experiments (`query.experiments.figures`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from query.experiments.figures import CHANCE, PALETTE, TICK_ANGLES, text

from ...plain_text import counted

SERIES = PALETTE[:6]
"""Looks of series side by side, in this order; what is left over looks as `CHANCE`."""

BLUE, VERMILLION, GREEN, ORANGE, SKY, PURPLE = (look.colour for look in SERIES)
GREY = CHANCE.colour

BAR_HEIGHT = 26  # pixels a bar of a horizontal chart, its gap included


def chart(rows: pd.DataFrame, across: str, up: str, by: str | None = None) -> go.Figure:
    """Any column against a column of numbers: bars where the first holds names, each once in its colour, else a point
    a row. Bars of one name would stand on each other, and look like a sum that nobody asked for."""
    numeric = pd.api.types.is_numeric_dtype(rows[across]) and not pd.api.types.is_bool_dtype(rows[across])
    barred = not numeric and not repeats(rows, [across] if by is None else [across, by])
    figure = go.Figure()
    for (name, part), look in zip(_parts(rows, by), [*SERIES, CHANCE], strict=False):
        shown = {"y": part[up], "name": text(name), "showlegend": by is not None}
        x = part[across] if numeric else [text(value) for value in part[across]]
        if barred:
            figure.add_trace(go.Bar(x=x, marker_color=look.colour, **shown))
        else:
            marker = {"color": look.colour, "symbol": look.symbol}
            figure.add_trace(go.Scatter(x=x, mode="markers", marker=marker, **shown))
    figure.update_xaxes(title=text(across), autotickangles=TICK_ANGLES)
    if numeric:
        figure.update_xaxes(type="linear")
    else:
        names = list(dict.fromkeys(text(value) for value in rows[across]))
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=names)
    figure.update_yaxes(title=text(up))
    return finished(figure, f"{text(up)} by {text(across)}, n = {counted(len(rows), 'row')}", 420)


def repeats(rows: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Whether several rows have the same values in these columns, as the chart shows them."""
    return bool(rows[list(columns)].map(str).duplicated().any())


def _parts(rows: pd.DataFrame, by: str | None) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each value of a column, the commonest first; those past the colours together."""
    if by is None:
        return [("", rows)]
    values = rows[by].map(str)
    common = list(values.value_counts().index)[: len(SERIES)]
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


def with_legend(figure: go.Figure, title: str, height: int) -> go.Figure:
    """Finished, with the legend in a line of its own between the title and the chart."""
    figure = finished(figure, title, height)
    return figure.update_layout(
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        margin={"t": 66},
        title={"y": 1, "yanchor": "top", "pad": {"t": 14}},
    )
