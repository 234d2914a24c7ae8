"""The code of one example as a picture: a band a site, a pixel a gate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from query.examples.rasters import Raster

from .chart_style import BLUE, finished, text

OFF = "rgba(138, 138, 138, 0.16)"

WIDTHS = (64, 128, 256)
"""Gates a row: the first of these at which no site takes more than `MOST_ROWS` rows, else the last."""
MOST_ROWS = 8

ROW_PIXELS, THIN, MANY_ROWS = 5, 3, 60
"""Height of a row of gates, and of one where there are many in all."""

LEAST_BAND, GAP = 15, 4
"""Height of a band at least, since its name stands beside it, and between two bands."""


def code_raster(rasters: Sequence[Raster], title: str) -> go.Figure:
    """A heat map a site, in order from the top: gates that are on are blue; channels of full sites are shaded by the
    share of positions at which they are on."""
    widest = max(len(raster.values) for raster in rasters)
    columns = next((width for width in WIDTHS if widest <= width * MOST_ROWS), WIDTHS[-1])
    pixels = THIN if sum(-(-len(raster.values) // columns) for raster in rasters) > MANY_ROWS else ROW_PIXELS
    figure, top, places = go.Figure(), 0.0, []
    for raster in rasters:
        rows = -(-len(raster.values) // columns)
        height = max(rows * pixels, LEAST_BAND)
        figure.add_trace(_band(raster, rows, columns, top, height / rows))
        places.append(top + height / 2)
        top += height + GAP
    figure.update_xaxes(
        title=f"Gate or channel, {columns} a row" if widest > columns else "Gate or channel",
        range=[-0.5, min(columns, widest) - 0.5],
        showgrid=False,
        zeroline=False,
    )
    figure.update_yaxes(
        tickvals=places,
        ticktext=[_name(raster) for raster in rasters],
        range=[top, -GAP],
        showgrid=False,
        zeroline=False,
        title="Site, from input to output",
    )
    return finished(figure, title, int(top) + 120)


def _name(raster: Raster) -> str:
    return f"{text(raster.site)}  {raster.n_active:,}/{raster.n_gates:,}"


def _band(raster: Raster, rows: int, columns: int, top: float, height: float) -> go.Heatmap:
    cells = np.full(rows * columns, np.nan, np.float32)
    cells[: len(raster.values)] = raster.values
    hover, labels = _hover(raster)
    padded = np.empty(rows * columns, labels.dtype)
    padded[: len(labels)] = labels
    padded[len(labels) :] = labels[:1]  # under cells that are not there
    return go.Heatmap(
        x=np.arange(columns + 1) - 0.5,
        y=top + height * np.arange(rows + 1),
        z=cells.reshape(rows, columns),
        customdata=padded.reshape(rows, columns),
        zmin=0,
        zmax=1,
        colorscale=[[0, OFF], [1, BLUE]],
        showscale=False,
        hovertemplate=f"<b>{text(raster.site)}</b><br>{hover}<extra></extra>",
        hoverongaps=False,
        ygap=0.5 if rows > 1 else 0,
    )


def _hover(raster: Raster) -> tuple[str, np.ndarray]:
    """What a cell says of itself, and what is filled in: the gate's number, or module and channel."""
    if not raster.by_channel:
        return "gate %{customdata}: %{z:.0f} (1 is on)", np.arange(len(raster.values), dtype=np.uint32)
    names = [f"{text(module)}, channel {channel}" for module, _, count, _ in raster.parts for channel in range(count)]
    return "%{customdata}: on at %{z:.0%} of its positions", np.array(names)


def raster_table(rasters: Sequence[Raster]) -> pd.DataFrame:
    """The picture's numbers: site, module, cell (gate, or channel of the module), positions, share_on."""
    frames = [
        pd.DataFrame(
            {
                "site": raster.site,
                "module": module,
                "cell": np.arange(count),
                "positions": positions,
                "share_on": raster.values[first : first + count],
            }
        )
        for raster in rasters
        for module, first, count, positions in raster.parts
    ]
    return pd.concat(frames, ignore_index=True)
