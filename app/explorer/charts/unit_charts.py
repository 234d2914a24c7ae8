"""What activates a unit, as figures; `app.explorer.charts.chart_style` says how colours and marks are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go

from query.experiments.composition import called, composition, look_of
from query.neurons.bands import OFF

from ...plain_text import counted
from .chart_style import BLUE, GREY, finished


def activations(
    histogram: pd.DataFrame, what: str, edges: Sequence[float], names: Mapping[int, str], title: str
) -> go.Figure:
    """How often a unit is how active, by cluster or label. Columns: what, name, low, high, n.

    ``edges``: activations at which one band of equally many examples ends and the next begins. ``names``: what
    clusters are called, by number.
    """
    rows = histogram[histogram["what"] == what]
    figure = go.Figure()
    for place, (name, part) in enumerate(rows.groupby("name", sort=False)):
        look = look_of(str(name), place)
        figure.add_trace(
            go.Bar(
                x=(part["low"] + part["high"]) / 2,
                y=part["n"],
                width=part["high"] - part["low"],
                name=called(what, name, names),
                marker={"color": look.colour, "pattern": {"shape": look.pattern, "size": 5}, "line": {"width": 0}},
                customdata=[counted(n, "example") for n in part["n"]],
                hovertemplate=f"{called(what, name, names)}: %{{customdata}} at %{{x:.3g}}<extra></extra>",
            )
        )
    for edge in edges:
        figure.add_vline(x=edge, line={"color": GREY, "dash": "dot", "width": 1})
    figure.update_xaxes(title="Activation (dotted: where bands of equally many examples meet)")
    figure.update_yaxes(title="Examples above 0", rangemode="tozero")
    figure.update_layout(barmode="stack", legend={"font": {"size": 11}, "traceorder": "normal"})
    finished(figure, title, 340).update_layout(bargap=0)
    return figure


def parts(table: pd.DataFrame, what: str, shown: Sequence[str], names: Mapping[int, str], title: str) -> go.Figure:
    """Of the top, of every band and of what is off, the share in each cluster or of each label: columns of
    `composition`."""
    figure = go.Figure(composition(table, what, shown, names))
    figure.update_xaxes(title="Share of the examples (n in brackets)", tickformat=".0%", range=[0, 1])
    off = OFF in set(table["part"])
    figure.update_yaxes(autorange="reversed", title="Part of its range (off: at or below 0)" if off else None)
    figure.update_layout(barmode="stack", legend={"font": {"size": 11}, "traceorder": "normal"})
    return finished(figure, title, 340)


def entropies(ranking: pd.DataFrame, column: str, chance: float | None, title: str) -> go.Figure:
    """Over how many clusters or labels the tops of units are spread, beside random sets of examples."""
    figure = go.Figure(
        go.Histogram(
            x=ranking[column],
            nbinsx=32,
            marker={"color": BLUE},
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
