"""Figures as PNG: a map, the codes of an example and a slice drawn here, other experiments' figures by Chrome."""

from __future__ import annotations

import io
from importlib import import_module
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

import query
from atlas import Atlas
from atlas.errors import UnknownName, UsageError
from query import experiments
from query.experiments import Result
from query.experiments.figures import PALETTE

if TYPE_CHECKING:
    import plotly.graph_objects as go

SIDE = 900
"""Pixels of a map's side."""

RASTER = 128
"""Cells of a code in a row of its picture."""

CELL = 6
"""Pixels of a cell."""

WIDTH = 900
"""Pixels of a figure that Chrome draws; its height is its own."""

_drawing = Lock()
"""One Chrome at a time."""


def result_picture(result: Result) -> bytes:
    """The figure of an experiment's result: drawn here if it can be, else by Chrome or Chromium.

    Raises `UsageError` where it takes Chrome and there is none.
    """
    drawn_here = experiments.find(result.kind).picture
    return figure_picture(result.figure()) if drawn_here is None else drawn_here(result)


def figure_picture(figure: go.Figure) -> bytes:
    """A figure as the explorer shows it. Raises `UsageError` where no Chrome or Chromium is installed."""
    kaleido = import_module("kaleido")  # half a second, and only this needs it
    # Its page would fetch a script for formulas, of which no figure has any.
    page = kaleido.PageGenerator(mathjax=False)
    try:
        with _drawing:
            picture: bytes = kaleido.calc_fig_sync(
                figure, opts={"format": "png", "width": WIDTH}, kopts={"page_generator": page}
            )
    except import_module("kaleido.errors").ChromeNotFoundError:
        raise UsageError(
            "Chrome or Chromium draws this figure, and none is installed; install one, or have tool experiment tell "
            "the numbers"
        ) from None
    return picture


def map_picture(atlas: Atlas, layout: int) -> tuple[str, bytes]:
    """A stored map, points coloured by label, and a legend in words."""
    points = query.layout_points(atlas, layout)
    if not len(points):
        raise UnknownName(f"layout {layout} has no points")
    labels = points["label"].fillna("(none)")
    common = labels.value_counts().index[: len(PALETTE)].tolist()
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    places = points[["x", "y"]].to_numpy(np.float64)
    low, span = places.min(axis=0), np.ptp(places, axis=0).max() or 1.0
    pixels = (places - low) / span * (SIDE - 40) + 20
    for (x, y), label in zip(pixels, labels, strict=True):
        colour = PALETTE[common.index(label)].colour if label in common else "#bbbbbb"
        draw.ellipse([x - 2, SIDE - y - 2, x + 2, SIDE - y + 2], fill=colour)
    legend = ", ".join(f"{label} {PALETTE[place].colour}" for place, label in enumerate(common))
    return f"{len(points):,} examples; colours: {legend}; others grey", _png(image)


def code_picture(atlas: Atlas, example: int) -> tuple[str, bytes]:
    """The codes of an example, site below site: a dark cell is a gate that is on, a shade the share of a channel."""
    rasters = query.rasters(atlas, example)
    if not rasters:
        raise UnknownName(f"example {example} has no codes")
    bands = []
    for raster in rasters:
        rows = -(-len(raster.values) // RASTER)
        padded = np.full(rows * RASTER, np.nan, np.float32)
        padded[: len(raster.values)] = raster.values
        bands.append(padded.reshape(rows, RASTER))
        bands.append(np.full((1, RASTER), np.nan, np.float32))
    cells = np.concatenate(bands[:-1])
    shades = np.where(np.isnan(cells), 235, 255 - 235 * np.nan_to_num(cells)).astype(np.uint8)
    image = Image.fromarray(shades).resize((RASTER * CELL, len(cells) * CELL), Image.Resampling.NEAREST)
    sites = ", ".join(f"{raster.site} ({raster.n_active} of {raster.n_gates} on)" for raster in rasters)
    return f"sites from top to bottom, {RASTER} cells a row: {sites}", _png(image)


def _png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG", optimize=True)
    return written.getvalue()
