"""Maps as figures: tens of thousands of points in WebGL, coloured by what they are or how near their neighbours.

A point costs 16 bytes on its way to the browser: two places, its id and its cluster, each in 4 bytes. What a point
says under the mouse is put together there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Int64
from plotly.colors import sample_colorscale

from ...plain_text import cluster_title
from .chart_style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, text

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE)
SYMBOLS = ("circle", "diamond", "square")
"""Six colours of Okabe and Ito's in three shapes: eighteen kinds that also a print in grey tells apart in part."""

SHADES = (0.0, 0.45, -0.4)
"""In place of shapes where points are too small for them, which take twice the time to draw: how much of a colour
gives way to white, or below 0 to black."""

MOST_KINDS = len(COLOURS) * len(SYMBOLS)
"""Of clusters or labels the largest; the others share one look."""

LARGE = 20_000
"""Points from which on a map is drawn more plainly, so that it stays fluid."""


TRACE_POINTS = 50_000
"""Points of one colour that are a trace, at most: of 100,000 Plotly makes a tree first, to find the one under the
mouse, which it finds as well by looking at all."""

BANDS = 20
SCALE, DISTANCE_OPACITY = "Cividis", 0.8

OTHERS = "others"

SIZES = ((1_000, 8.0), (5_000, 6.0), (20_000, 4.5), (50_000, 3.5))  # up to so many points, pixels
SMALLEST = 2.5

HEIGHT = 620


@dataclass(frozen=True)
class Kind:
    """Points that look alike: their places in the frame, and their size against that of others."""

    name: str
    rows: Int64[np.ndarray, " points"]
    colour: str
    symbol: str
    opacity: float = 0.75
    size: float = 1.0


def layout(
    frame: pd.DataFrame,
    colour: str,
    title: str,
    names: Mapping[int, str] | None = None,
) -> go.Figure:
    """Every example of a map. Columns: those of `query.layout_points`.

    ``colour``: cluster, label, or distance (to its nearest neighbours). ``names``: what clusters are called.
    """
    figure = go.Figure()
    ids = frame["example_id"].to_numpy(np.int32)
    clusters = frame["cluster"].to_numpy(np.int32) if "cluster" in frame else None
    facts = np.stack([ids] if clusters is None else [ids, clusters], axis=1)
    # On large maps a point says its label only where that is its colour: strings would double what is sent.
    labels = frame["label"] if len(frame) <= LARGE and colour != "label" else None
    hover = "example %{customdata[0]}" + ("" if clusters is None else "<br>cluster %{customdata[1]}")
    hover += "" if labels is None else "<br>label %{text}"
    size = next((size for most, size in SIZES if len(frame) <= most), SMALLEST)

    def add(rows: np.ndarray, name: str, more: str, *, listed: bool = True, **marker: Any) -> None:
        figure.add_trace(
            go.Scattergl(
                x=frame["x"].to_numpy(np.float32)[rows],
                y=frame["y"].to_numpy(np.float32)[rows],
                customdata=facts[rows],
                mode="markers",
                name=text(name),
                marker={"size": size, **marker},
                text=None if labels is None else [_label(label) for label in labels.iloc[rows]],
                hovertemplate=hover + more + "<extra></extra>",
                legendgroup=text(name),
                showlegend=listed,
            )
        )

    if colour == "distance" and len(frame) > LARGE:
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="markers", marker=_scale(frame), showlegend=False))
        for kind in bands(frame):
            for rows in _parts(kind.rows):
                add(rows, kind.name, f"<br>{kind.name} to its neighbours", color=kind.colour, opacity=kind.opacity)
    elif colour == "distance":
        add(np.arange(len(frame)), "examples", "<br>%{marker.color:.4g} to its neighbours", **_scale(frame))
    else:
        for kind in kinds(frame, colour, names or {}):
            more = f"<br>{colour} {text(kind.name)}" if colour == "label" else ""
            for part, rows in enumerate(_parts(kind.rows)):
                add(
                    rows,
                    f"{kind.name} ({len(kind.rows):,})",
                    more,
                    listed=part == 0,
                    color=kind.colour,
                    symbol=kind.symbol,
                    opacity=kind.opacity,
                    size=size * kind.size,
                )
    figure.update_layout(
        title={"text": text(title), "font": {"size": 14}},
        height=HEIGHT,
        dragmode="drawrect",
        margin=_margin(colour, large=len(frame) > LARGE),
        hoverlabel={"align": "left"},
        legend={
            "orientation": "h",
            "y": -0.13,
            "yanchor": "top",
            "itemsizing": "constant",
            **({"x": 0.5, "xanchor": "center"} if len(frame) > LARGE else {"x": 0}),
            "title": {"text": f"{colour} "},
        },
        showlegend=colour != "distance",
    )
    axis = {"zeroline": False, "automargin": len(frame) <= LARGE}
    figure.update_xaxes(title="x (no unit: only who is near whom is meant)", **axis)
    figure.update_yaxes(title="y (no unit)", scaleanchor="x", **axis)
    return figure


def _margin(colour: str, *, large: bool) -> dict[str, Any]:
    """Room around the map. Plotly finds out how much is needed by drawing all of it, which is too dear for many
    points: there it is as much as a legend of `MOST_KINDS` takes on half a screen."""
    if not large:
        return {"l": 10, "r": 10, "t": 50, "b": 10}
    right, below = (110, 60) if colour == "distance" else (60, 160)
    return {"l": 60, "r": right, "t": 50, "b": below, "autoexpand": False}


def kinds(frame: pd.DataFrame, colour: str, names: Mapping[int, str]) -> Iterator[Kind]:
    """The points by cluster or label: what is in none first, so that it lies below, then the others, then the largest
    in order of their names."""
    values, missing = (frame["cluster"] if colour == "cluster" else frame["label"].cat.codes).to_numpy(), -1
    found, counts = np.unique(values[values != missing], return_counts=True)
    largest = np.sort(found[np.argsort(-counts, kind="stable")][:MOST_KINDS])
    known = {int(code): cluster_title(int(code), names.get(int(code))) for code in largest}
    if colour == "label":
        known = {int(code): str(frame["label"].cat.categories[code]) for code in largest}
    none = "noise" if colour == "cluster" else "no label"
    for title, rows, look in (
        (none, values == missing, ("#a8a8a8", "circle", 0.3, 0.7)),
        (
            OTHERS,
            (values != missing) & ~np.isin(values, largest),
            (GREY, "cross" if len(frame) <= LARGE else "circle", 0.6, 0.9),
        ),
    ):
        if rows.any():
            yield Kind(title, np.flatnonzero(rows), *look)
    for place, code in enumerate(largest):
        rows = np.flatnonzero(values == code)
        turn, hue = divmod(place, len(COLOURS))
        if len(frame) <= LARGE:
            yield Kind(known[int(code)], rows, COLOURS[hue], SYMBOLS[turn])
        else:
            yield Kind(known[int(code)], rows, shade(COLOURS[hue], SHADES[turn]), SYMBOLS[0])


def shade(colour: str, towards: float) -> str:
    """A colour ``#rrggbb`` that gave way to white, or below 0 to black."""
    end = 255 if towards > 0 else 0
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(towards) * (end - part)):02x}" for part in parts)


def bands(frame: pd.DataFrame) -> Iterator[Kind]:
    """The points by how near their neighbours are, in `BANDS` equal parts of the scale, the nearest last, so that
    they lie on top: a colour for each of 100,000 points would take twice as long to draw as one for each band."""
    values, (low, high) = frame["distance"].to_numpy(np.float32), _ends(frame)
    edges = np.linspace(low, high, BANDS + 1)
    band = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BANDS - 1)
    colours = sample_colorscale(SCALE, (np.arange(BANDS) + 0.5) / BANDS)
    for place in reversed(range(BANDS)):
        rows = np.flatnonzero(band == place)
        if len(rows):
            far = float(values[rows].max()) if place == BANDS - 1 else edges[place + 1]
            yield Kind(f"{edges[place]:.4g} to {far:.4g}", rows, colours[place], SYMBOLS[0], DISTANCE_OPACITY)


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + TRACE_POINTS] for start in range(0, len(rows), TRACE_POINTS)]


MEASURES = {"hamming": "gates that differ", "jaccard": "Jaccard distance", "euclidean": "Euclidean distance"}
"""By what examples were laid out, in words."""


def _ends(frame: pd.DataFrame) -> tuple[float, float]:
    """The least distance, and that which a hundredth exceeds: those share a colour, or would take the whole scale."""
    low, high = (float(value) for value in np.quantile(frame["distance"].to_numpy(np.float32), (0, 0.99)))
    return low, max(high, low + 1e-6)


def _scale(frame: pd.DataFrame) -> dict[str, Any]:
    """Dark where neighbours are near."""
    low, high = _ends(frame)
    unit = "gates" if frame.attrs.get("metric") == "hamming" else "distance"
    return {
        "color": frame["distance"].to_numpy(np.float32)[: 1 if len(frame) > LARGE else None],
        "colorscale": SCALE,
        "cmin": low,
        "cmax": high,
        "opacity": DISTANCE_OPACITY,
        "colorbar": {
            "title": {"text": f"mean {unit} to the {frame.attrs.get('neighbors')} nearest", "side": "right"},
            "thickness": 14,
        },
    }


def _label(label: Any) -> str:
    return "–" if label is None or pd.isna(label) else text(str(label)[:60])
