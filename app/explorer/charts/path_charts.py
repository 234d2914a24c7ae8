"""Figures of paths: the boundaries that are crossed, what is predicted on the way, and where a reader stands."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...plain_text import one_line
from .chart_style import BLUE, GREY, ORANGE, VERMILLION, text, with_legend

NAME_LENGTH = 18  # characters of a class or token

LEFT, RIGHT = 88, 24
"""Pixels beside the axis of a path: below it stands a slider, as long as the axis (`static/style.css`)."""

MOST_NAMED = 12
"""Changes of the prediction that are named in the figure; more would overlap, and the table has them all."""


class Stretch(NamedTuple):
    """A part of a path over which the prediction stays the same."""

    start: float
    end: float
    prediction: str


def stretches(at: pd.Series, predictions: pd.Series) -> list[Stretch]:
    """The path cut where the prediction changes: half way between the two points that tell of it."""
    points = list(zip(at.tolist(), predictions.tolist(), strict=True))
    found: list[Stretch] = []
    for name, group in groupby(points, key=lambda point: point[1]):
        places = [place for place, _ in group]
        start = (found[-1].end + places[0]) / 2 if found else places[0]
        if found:
            found[-1] = found[-1]._replace(end=start)
        found.append(Stretch(start, places[-1], str(name)))
    return found


def profile(
    steps: pd.DataFrame,
    points: pd.DataFrame | None,
    here: float,
    axis: str,
    title: str,
    baseline: pd.DataFrame | None = None,
) -> go.Figure:
    """Boundaries crossed along a path and the probability of what is predicted, with the reader's place marked.

    ``steps``: low, high (of α or t), crossings, density (boundaries per unit of distance). ``points``: at,
    prediction, probability; None where no network has read them. ``baseline``: as ``steps``, of a random direction.
    """
    rows = 1 if points is None else 2
    figure = make_subplots(
        rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.08, row_heights=[0.62, 0.38][:rows]
    )
    figure.add_trace(_line(steps, "this path", BLUE, "solid", filled=True), row=1, col=1)
    if baseline is not None:
        figure.add_trace(_line(baseline, "Gaussian direction of the same norm", VERMILLION, "dash"), row=1, col=1)
    if points is not None:
        figure.add_trace(
            go.Scatter(
                x=points["at"],
                y=points["probability"],
                mode="lines+markers",
                name="prediction",
                showlegend=False,
                line={"color": BLUE, "width": 1.5},
                marker={"size": 5, "color": BLUE},
                hovertext=[
                    f"{axis} = {spot(at)}<br>{text(short(name))}, {share:.3f}"
                    for at, name, share in zip(points["at"], points["prediction"], points["probability"], strict=True)
                ],
                hoverinfo="text",
            ),
            row=2,
            col=1,
        )
        _changes(figure, stretches(points["at"], points["prediction"]))
        figure.update_yaxes(
            title="Probability of<br>the prediction", range=[0, 1.3], tickvals=[0, 0.5, 1], row=2, col=1
        )
    figure.add_vline(x=here, line={"color": ORANGE, "width": 3}, opacity=0.9)
    figure.update_yaxes(title="Boundaries crossed per<br>unit of distance", rangemode="tozero", row=1, col=1)
    low, high = float(steps["low"].iloc[0]), float(steps["high"].iloc[-1])
    figure.update_xaxes(range=[low, high])
    figure.update_xaxes(title=_AXES[axis], row=rows, col=1)
    figure.update_layout(uirevision=title)  # the same path stays zoomed wherever on it someone stands
    figure = with_legend(figure, title, 446 if points is not None else 316)
    return figure.update_layout(margin={"l": LEFT, "r": RIGHT}).update_yaxes(automargin=False)


_AXES = {"α": "α along x(α) = α·x", "t": "t along x(t) = (1 − t)·a + t·b"}


def _line(steps: pd.DataFrame, name: str, colour: str, dash: str, filled: bool = False) -> go.Scatter:
    """Steps as a staircase: a density holds over a whole step."""
    return go.Scatter(
        x=[*steps["low"], steps["high"].iloc[-1]],
        y=[*steps["density"], steps["density"].iloc[-1]],
        mode="lines",
        line={"color": colour, "dash": dash, "width": 2, "shape": "hv"},
        name=name,
        fill="tozeroy" if filled else None,
        fillcolor="rgba(0, 114, 178, 0.12)" if filled else None,
        hovertext=[
            f"{spot(low)} to {spot(high)}<br>{density:.4g} boundaries per unit, {crossings:,.0f} crossed"
            for low, high, density, crossings in zip(
                steps["low"], steps["high"], steps["density"], steps["crossings"], strict=True
            )
        ]
        + [""],
        hoverinfo="text",
    )


def _changes(figure: go.Figure, found: list[Stretch]) -> None:
    """A dotted line through both charts where the prediction changes, and the names of what is predicted between."""
    for stretch in found[1:]:
        figure.add_vline(x=stretch.start, line={"color": GREY, "width": 1.2, "dash": "dot"})
    if len(found) > MOST_NAMED:
        return
    for stretch in found:
        figure.add_annotation(
            x=(stretch.start + stretch.end) / 2,
            y=1.28,
            yanchor="top",
            text=text(short(stretch.prediction)),
            showarrow=False,
            font={"size": 12},
            textangle=0 if len(found) <= MOST_NAMED // 2 else -90,
            row=2,
            col=1,
        )


def spot(value: float) -> str:
    """A place on a path: to a thousandth, which no step is smaller than; what stands for the origin reads as 0."""
    return f"{round(value, 3):g}"


def short(name: str) -> str:
    """A class or token on one line, cut to what fits between two changes."""
    return one_line(name, NAME_LENGTH)
