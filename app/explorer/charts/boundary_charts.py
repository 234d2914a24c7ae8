"""The nearest boundaries of an example, as walls around it; `chart_style` says how colours and marks are chosen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float64

from query.experiments.figures import text

from ...plain_text import counted
from .chart_style import GREY, SERIES, finished

WALL = 0.8
"""Length of a wall, as a share of what would close a ring at its distance."""


def ring(boundaries: pd.DataFrame, links: Sequence[str | None], title: str) -> go.Figure:
    """Every boundary as a wall around the example in the middle, clockwise from the nearest at the top.

    It stands at the square root of its distance: the nearest, which matter most, may be ten times as near as the
    last, and would stand on each other. A wall that is proven to bound the polytope is solid, any other dotted. The
    circle is the inradius: no boundary cuts it. ``links``: where a click on each leads; None for nowhere.
    """
    k = len(boundaries)
    angles = np.pi / 2 - 2 * np.pi * np.arange(k) / max(k, 1)
    radii = np.sqrt(boundaries["distance"].to_numpy(np.float64))
    farthest = float(radii.max(initial=0.0)) or 1.0
    half = WALL * np.tan(np.pi / max(k, 8)) * np.maximum(radii, farthest / 4)
    figure = go.Figure(_circle(float(radii.min()) if k else 0.0))
    for place, (site, part) in enumerate(boundaries.groupby("site", sort=False)):
        look = SERIES[place % len(SERIES)]
        for proven, walls in part.groupby(part["facet"].eq(True), sort=False):
            rows = walls.index.to_numpy()
            out = np.stack([np.cos(angles[rows]), np.sin(angles[rows])], axis=1)
            along = np.stack([-out[:, 1], out[:, 0]], axis=1)
            middle = radii[rows, None] * out
            aside = half[rows, None] * along
            ends = np.stack([middle - aside, middle, middle + aside], axis=1)
            proof = "" if proven else ", not proven"
            figure.add_trace(
                go.Scatter(
                    x=_with_gaps(ends[:, :, 0]),
                    y=_with_gaps(ends[:, :, 1]),
                    mode="lines+markers",
                    line={"color": look.colour, "width": 4, "dash": "solid" if proven else "dot"},
                    marker={"color": look.colour, "symbol": look.symbol, "size": [0, 10, 0, 0] * len(rows)},
                    customdata=[links[row] for row in rows for _ in range(4)],
                    hovertext=[_hover(boundaries.loc[row], links[row]) for row in rows for _ in range(4)],
                    hoverinfo="text",
                    name=f"{text(site)}, {counted(len(rows), 'boundary', 'boundaries')}{proof}",
                    legendgroup=text(site),
                )
            )
    figure.add_trace(
        go.Scatter(
            x=[0],
            y=[0],
            mode="markers",
            marker={"color": GREY, "size": 9},
            hoverinfo="text",
            hovertext="the example",
            showlegend=False,
        )
    )
    reach = 1.15 * farthest
    bare = {"range": [-reach, reach], "constrain": "domain", "showgrid": False, "zeroline": False}
    marks = _marks(farthest**2)
    ticks = [side * mark**0.5 for side in (-1, 1) for mark in marks]
    words = [f"{mark:g}" for mark in marks] * 2
    figure.update_xaxes(
        title="Distance in the activation space, by its square root", tickvals=ticks, ticktext=words, **bare
    )
    figure.update_yaxes(scaleanchor="x", showticklabels=False, **bare)
    figure.update_layout(legend={"font": {"size": 11}}, meta={"links": True})
    return finished(figure, title, 460)


def _marks(farthest: float) -> list[float]:
    """Distances to mark: 0, and the largest round one that is not beyond the farthest wall, with a tenth of it."""
    power = 10.0 ** np.floor(np.log10(farthest))
    largest = float(f"{power * max(step for step in (1, 2, 5) if step * power <= farthest * (1 + 1e-9)):.0e}")
    return [0.0, float(f"{largest / 10:.0e}"), largest]


def _with_gaps(walls: Float64[np.ndarray, "walls points"]) -> list[float | None]:
    """One coordinate of all walls, end to end, with gaps between."""
    return [value for wall in walls.tolist() for value in (*wall, None)]


def _circle(radius: float) -> go.Scatter:
    around = np.linspace(0, 2 * np.pi, 181)
    return go.Scatter(
        x=(radius * np.cos(around)).tolist(),
        y=(radius * np.sin(around)).tolist(),
        mode="lines",
        fill="toself",
        fillcolor="rgba(138, 138, 138, 0.15)",
        line={"color": GREY, "width": 1},
        hoverinfo="skip",
        name="no boundary within",
    )


def _hover(row: pd.Series, link: str | None) -> str:
    where = ", ".join(f"{name} {row[name]}" for name in ("channel", "row", "column") if pd.notna(row[name]))
    what = f"gate {row['gate']}: {row['module']}, {where}" if row["kind"] == "gate" else f"max-pooling, {where}"
    beyond = "" if link is None else "<br>click: the nearest example beyond it"
    return f"<b>{row['rank']}. {text(row['site'])}</b>, {row['distance']:.4g} away<br>{text(what)}{beyond}"
