"""Networks in order, such as checkpoints of a training: how far codes have moved by each."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from query.experiments.figures import TICK_ANGLES, text

from ...plain_text import counted
from .chart_style import finished

SCALE = "Viridis"
"""From input to output, dark to light; the lightest tenth would not show on white."""


def moved(steps: pd.DataFrame, n_examples: int) -> go.Figure:
    """A line a site: the share of its gates that differ from the first network, by network."""
    sites = list(dict.fromkeys(steps["site"]))
    colours = sample_colorscale(SCALE, [0.9 * place / max(1, len(sites) - 1) for place in range(len(sites))])
    figure = go.Figure()
    for site, colour in zip(sites, colours, strict=True):
        rows = steps[steps["site"] == site]
        names = [rows["before"].iloc[0], *rows["after"]]
        shares = [0.0, *(rows["since_first"] / rows["n_gates"])]
        flips = ["", *(f"<br>{share:.2%} of gates flip in this step" for share in rows["share"])]
        figure.add_trace(
            go.Scatter(
                x=[text(name) for name in names],
                y=shares,
                name=text(site),
                mode="lines+markers",
                line={"color": colour},
                customdata=flips,
                hovertemplate=f"{text(site)}, %{{x}}: %{{y:.2%}}%{{customdata}}<extra></extra>",
            )
        )
    figure.update_xaxes(title="network", type="category", autotickangles=TICK_ANGLES)
    figure.update_yaxes(title="share of gates that differ from the first", tickformat=".0%", rangemode="tozero")
    return finished(figure, f"n = {counted(n_examples, 'example')} that all networks read", 380)
