"""What activates a unit, as figures; `app.explorer.charts.chart_style` says how colours and marks are chosen."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from query.neurons.bands import OFF
from query.neurons.units import NONE_NAMES, OTHERS

from ...plain_text import counted
from .chart_style import GREY, SERIES, finished, text

PATTERNS = ["", "/", "x", "-", "\\", "+"]
LIGHT = "#c9c9c9"


def activations(histogram: pd.DataFrame, what: str, edges: Sequence[float], title: str) -> go.Figure:
    """How often a unit is how active, by cluster or label. Columns: what, name, low, high, n.

    ``edges``: activations at which one band of equally many examples ends and the next begins.
    """
    rows = histogram[histogram["what"] == what]
    figure = go.Figure()
    for place, (name, part) in enumerate(rows.groupby("name", sort=False)):
        colour, pattern = _look(str(name), place)
        figure.add_trace(
            go.Bar(
                x=(part["low"] + part["high"]) / 2,
                y=part["n"],
                width=part["high"] - part["low"],
                name=_named(what, name),
                marker={"color": colour, "pattern": {"shape": pattern, "size": 5}, "line": {"width": 0}},
                customdata=[counted(n, "example") for n in part["n"]],
                hovertemplate=f"{_named(what, name)}: %{{customdata}} at %{{x:.3g}}<extra></extra>",
            )
        )
    for edge in edges:
        figure.add_vline(x=edge, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_xaxes(title="Activation (dotted: where bands of equally many examples meet)")
    figure.update_yaxes(title="Examples above 0", rangemode="tozero")
    figure.update_layout(barmode="stack", legend={"font": {"size": 11}, "traceorder": "normal"})
    finished(figure, title, 340).update_layout(bargap=0)
    return figure


def composition(table: pd.DataFrame, what: str, shown: Sequence[str], title: str) -> go.Figure:
    """Of the top, of every band and of what is off, the share in each cluster or of each label.

    Columns: part, n_part, what, name, n. ``shown``: the names that have a colour, in order.
    """
    rows = table[table["what"] == what]
    totals = dict(zip(rows["part"], rows["n_part"], strict=True))
    parts = list(dict.fromkeys(rows["part"]))
    known = {"no label" if name == "none" else str(name) for name in rows["name"]}
    series = [
        *shown,
        *([OTHERS] if known - {*shown, *NONE_NAMES} else []),
        *(name for name in NONE_NAMES if name in known),
    ]
    names = rows["name"].replace("none", "no label")
    figure = go.Figure()
    for place, name in enumerate(series):
        mine = rows[~names.isin([*shown, *NONE_NAMES]) if name == OTHERS else names == name]
        counts = mine.groupby("part")["n"].sum()
        colour, pattern = _look(name, place)
        figure.add_trace(
            go.Bar(
                y=[f"{text(part)} ({totals[part]:,})" for part in parts],
                orientation="h",
                name=_named(what, name),
                x=[counts.get(part, 0) / totals[part] for part in parts],
                marker={"color": colour, "pattern": {"shape": pattern, "size": 5}},
                hovertemplate=f"{_named(what, name)}: %{{x:.0%}} of %{{y}}<extra></extra>",
            )
        )
    figure.update_xaxes(title="Share of the examples (n in brackets)", tickformat=".0%", range=[0, 1])
    figure.update_yaxes(
        autorange="reversed", title="Part of its range (off: at or below 0)" if OFF in parts else None
    )
    figure.update_layout(barmode="stack", legend={"font": {"size": 11}, "traceorder": "normal"})
    return finished(figure, title, 340)


def entropies(ranking: pd.DataFrame, column: str, chance: float | None, title: str) -> go.Figure:
    """Over how many clusters or labels the tops of units are spread, beside random sets of examples."""
    figure = go.Figure(
        go.Histogram(
            x=ranking[column],
            nbinsx=32,
            marker={"color": SERIES[0]},
            showlegend=False,
            hovertemplate="%{x} bits, units: %{y}<extra></extra>",
        )
    )
    if chance is not None and not pd.isna(chance):
        figure.add_vline(
            x=chance,
            line={"color": GREY, "dash": "dash", "width": 1.5},
            annotation_text="random examples",
            annotation_position="top",
        )
    figure.update_xaxes(title=f"Entropy of the top over {column.split('_')[0]}s (bits)")
    figure.update_yaxes(title="Units", rangemode="tozero")
    return finished(figure, title, 280)


def _look(name: str, place: int) -> tuple[str, str]:
    if name in NONE_NAMES:
        return LIGHT, ""
    if name == OTHERS:
        return GREY, ""
    return SERIES[place % (len(SERIES) - 1)], PATTERNS[place % len(PATTERNS)]


def _named(what: str, name: object) -> str:
    return text(name) if name in (OTHERS, *NONE_NAMES) else f"{what} {text(str(name)[:24])}"
