"""The style that all figures of experiments share. The one module of this package that imports Plotly.

Colours are Okabe and Ito's (jfly.uni-koeln.de/color), told apart by people with any colour vision. Series differ in
symbol and dash as well, so that a print in grey still reads. Every figure says its n, and its notes stand below it.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import plotly.graph_objects as go

GREY, INK = "#8a8a8a", "#333333"

NOTE_WIDTH = 130  # characters of a line of notes, at 11 pixels: about 800 pixels wide
NOTE_LINE = 15  # pixels
TICK_ANGLES = [0, -35, -90]  # the first at which names do not touch


@dataclass(frozen=True)
class Style:
    """How one series looks. No two of the palette share a symbol, and neighbours share no dash."""

    colour: str
    symbol: str
    dash: str
    pattern: str  # fill of bars and areas

    @property
    def marker(self) -> dict[str, Any]:
        return {"color": self.colour, "symbol": self.symbol, "size": 9}

    @property
    def line(self) -> dict[str, Any]:
        return {"color": self.colour, "dash": self.dash, "width": 2}


PALETTE = (
    Style("#0072b2", "circle", "solid", ""),
    Style("#d55e00", "diamond", "dash", "/"),
    Style("#009e73", "square", "dot", "x"),
    Style("#e69f00", "triangle-up", "dashdot", "-"),
    Style("#56b4e9", "cross", "longdash", "\\"),
    Style("#cc79a7", "x", "longdashdot", "+"),
    Style("#8a8a8a", "star", "solid", "|"),
    Style("#000000", "hexagram", "dash", "."),
)
"""Okabe and Ito's, their yellow left out (too light on white), with grey for what is chance or noise."""

CHANCE = PALETTE[6]
"""For baselines: random groups, noise, what is neither."""

OTHERS = Style("#d0d0d0", "circle-open", "dot", ".")
"""For what has no series of its own."""


def style(place: int) -> Style:
    """The style of the series at that place; after the eighth they repeat, and a legend alone tells them apart."""
    return PALETTE[place % len(PALETTE)]


def points(
    name: str,
    x: Sequence[Any],
    frame: pd.DataFrame,
    column: str,
    look: Style,
    *,
    hover: Sequence[str] | None = None,
    lines: bool = False,
    **more: Any,
) -> go.Scatter:
    """A series of values with the ends of their intervals, from ``column``, ``column_low`` and ``column_high``."""
    value = frame[column]
    return go.Scatter(
        x=list(x),
        y=value,
        name=text(name),
        mode="lines+markers" if lines else "markers",
        marker=look.marker,
        line=look.line,
        error_y={
            "type": "data",
            "symmetric": False,
            "array": frame[f"{column}_high"] - value,
            "arrayminus": value - frame[f"{column}_low"],
            "color": look.colour,
            "thickness": 1.4,
            "width": 4,
        },
        hovertext=hover,
        hoverinfo="text" if hover is not None else None,
        **more,
    )


def interval(value: float, low: float, high: float) -> str:
    """``2.04 [1.92, 2.16]``"""
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def finish(
    figure: go.Figure,
    title: str,
    subtitle: str,
    notes: Iterable[str] = (),
    *,
    height: int = 420,
    below: int = 70,
) -> go.Figure:
    """Title, n (in the subtitle), notes under the plot, one look.

    ``below``: pixels that ticks and the title of the lowest axis take; the notes begin under them.
    """
    lines = [line for note in notes for line in textwrap.wrap(note, NOTE_WIDTH) or [""]]
    if lines:
        figure.add_annotation(
            text="<br>".join(text(line) for line in lines),
            xref="paper",
            yref="paper",
            x=0,
            y=0,
            xanchor="left",
            yanchor="top",
            yshift=-below,
            align="left",
            showarrow=False,
            font={"size": 11, "color": "#666666"},
        )
    foot = below + NOTE_LINE * len(lines) + 10
    titles = [a for a in figure.layout.annotations if a.yref == "paper" and a.yanchor == "bottom"]  # of subplots
    for title_ in titles:
        title_.font = {"size": 12}
    under = textwrap.wrap(subtitle, NOTE_WIDTH)
    head = 64 + NOTE_LINE * (len(under) - 1) + 18 * (figure.layout.legend.orientation == "h") + 22 * bool(titles)
    figure.update_layout(
        template="plotly_white",
        title={
            "text": text(title),
            "subtitle": {"text": "<br>".join(map(text, under))},
            "font": {"size": 15, "color": INK},
            "x": 0,
            "xanchor": "left",
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 12},
        },
        height=height + foot + head,
        margin={"l": 10, "r": 20, "t": head, "b": foot},
        hoverlabel={"align": "left"},
        font={"color": INK},
    )
    figure.update_xaxes(automargin="left+right")
    figure.update_yaxes(automargin=True)
    return figure


def legend_above(figure: go.Figure) -> None:
    """The legend in a line over the plot, under the title."""
    figure.update_layout(legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"})


def name_axis(figure: go.Figure, names: Sequence[str], title: str, **where: Any) -> None:
    """An x axis of names at 0, 1, 2, …, in their order."""
    figure.update_xaxes(
        title=title,
        tickvals=list(range(len(names))),
        ticktext=[text(name) for name in names],
        range=[-0.6, len(names) - 0.4],
        zeroline=False,
        showgrid=False,
        autotickangles=TICK_ANGLES,
        **where,
    )


def text(words: object) -> str:
    """Words as Plotly shows them: it reads a few HTML tags in any text."""
    return html.escape(str(words), quote=False)


NAME_SHOWN = 28
"""Characters of a cluster's name."""


def cluster_title(cluster: int, names: Mapping[int, str]) -> str:
    """What a cluster is called in a figure: its name if it has one, and its number."""
    if cluster < 0:
        return "noise"
    return f"{one_line(names[cluster], NAME_SHOWN)} #{cluster}" if cluster in names else f"#{cluster}"


def one_line(words: object, most: int = 48) -> str:
    """A text of the data on one line of at most ``most`` characters; the spaces around it, which tell tokens apart,
    as ␣."""
    flat = str(words).replace("\n", "⏎").replace("\t", "→").replace("\r", "")
    flat = re.sub("^ +| +$", lambda spaces: "␣" * len(spaces[0]), flat)
    return text(flat if len(flat) <= most else flat[: most - 1] + "…")


def add_band(figure: go.Figure, x: pd.Series, rows: pd.DataFrame, column: str, look: Any, **place: int) -> None:
    """The interval of a profile as a band behind its line; ``place``: row and col of the panel."""
    low, high = rows[f"{column}_low"], rows[f"{column}_high"]
    if low.isna().all():
        return
    figure.add_trace(
        go.Scatter(
            x=[*x, *x[::-1]],
            y=[*high, *low[::-1]],
            fill="toself",
            mode="lines",
            line={"width": 0},
            fillcolor=look.colour,
            opacity=0.18,
            showlegend=False,
            hoverinfo="skip",
        ),
        **place,
    )
