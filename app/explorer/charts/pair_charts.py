"""Figures of two codes: one under the other, gate by gate, or how much of each site differs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool

from .chart_style import BLUE, GREY, VERMILLION, text, with_legend
from .code_charts import MOST_ROWS, OFF, WIDTHS

ROW, THIN, MANY_ROWS = 7, 4, 80
"""Pixels of a row of gates, and of one where there are many."""

LEAST, GAP, BETWEEN = 12, 2, 9
"""Pixels of a band at least; between the bands of a site, and between sites."""


def codes(
    sites: Sequence[tuple[str, Bool[np.ndarray, "2 gates"]]], letters: tuple[str, str], title: str
) -> go.Figure:
    """Two bands a site, a pixel a gate: grey where it is on in both, in the letter's colour where in it alone."""
    widest = max(on.shape[1] for _, on in sites)
    columns = next((width for width in WIDTHS if widest <= width * MOST_ROWS), WIDTHS[-1])
    rows = sum(2 * -(-on.shape[1] // columns) for _, on in sites)
    pixels = THIN if rows > MANY_ROWS else ROW
    figure, top, places, names = go.Figure(), 0.0, list[float](), list[str]()
    for name, on in sites:
        for own, letter, colour in ((0, letters[0], BLUE), (1, letters[1], VERMILLION)):
            bands = -(-on.shape[1] // columns)
            height = max(bands * pixels, LEAST)
            figure.add_trace(_band(name, letter, colour, on[own], on[1 - own], bands, columns, top, height / bands))
            places.append(top + height / 2)
            names.append(f"{text(name)}  {letter}" if own == 0 else letter)
            top += height + (GAP if own == 0 else BETWEEN)
    for colour, name in (
        (GREY, "on in both"),
        (BLUE, f"on in {letters[0]} alone"),
        (VERMILLION, f"on in {letters[1]} alone"),
    ):
        marker = {"color": colour, "symbol": "square", "size": 10}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=marker, name=name))
    figure.update_xaxes(
        title=f"Gate, {columns} a row" if widest > columns else "Gate",
        range=[-0.5, min(columns, widest) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(tickvals=places, ticktext=names, range=[top, -GAP], showgrid=False, zeroline=False)
    figure.update_layout(showlegend=True)
    return with_legend(figure, title, int(top) + 130)


def _band(
    site: str,
    letter: str,
    colour: str,
    own: Bool[np.ndarray, " gates"],
    other: Bool[np.ndarray, " gates"],
    rows: int,
    columns: int,
    top: float,
    height: float,
) -> go.Heatmap:
    cells = np.full(rows * columns, np.nan, np.float32)
    cells[: len(own)] = np.where(own, np.where(other, 1, 2), 0)
    shades = [(0.0, OFF), (1 / 3, OFF), (1 / 3, GREY), (2 / 3, GREY), (2 / 3, colour), (1.0, colour)]
    return go.Heatmap(
        x=np.arange(columns + 1) - 0.5,
        y=top + height * np.arange(rows + 1),
        z=cells.reshape(rows, columns),
        customdata=np.arange(rows * columns, dtype=np.uint32).reshape(rows, columns),
        zmin=0,
        zmax=2,
        colorscale=[[at, shade] for at, shade in shades],
        showscale=False,
        hovertemplate=f"<b>{text(site)}</b>, {letter}<br>gate %{{customdata}}<extra></extra>",
        hoverongaps=False,
        ygap=0.5,
    )


def differing(sites: pd.DataFrame, letters: tuple[str, str], title: str) -> go.Figure:
    """Share of each site's gates that are on in one of two codes alone. Columns: those of `GatesApart.sites`."""
    figure = go.Figure()
    for column, letter, colour, pattern in (
        ("only_x", letters[0], BLUE, ""),
        ("only_y", letters[1], VERMILLION, "/"),
    ):
        name = f"on in {letter} alone"
        figure.add_trace(
            go.Bar(
                x=[text(site) for site in sites["site"]],
                y=100 * sites[column] / sites["n_gates"],
                name=name,
                marker={"color": colour, "pattern": {"shape": pattern}},
                hovertext=[
                    f"<b>{text(row.site)}</b><br>{getattr(row, column):,} of {row.n_gates:,} gates {name}"
                    for row in sites.itertuples()
                ],
                hoverinfo="text",
            )
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal", showlegend=True)
    if len(sites) < 5:
        figure.update_traces(width=0.45)
    figure.update_xaxes(title="Site, from input to output", type="category")
    figure.update_yaxes(title="Gates that differ, %", rangemode="tozero")
    return with_legend(figure, title, 336)
