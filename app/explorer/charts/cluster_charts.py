"""Figures of one cluster: what its members are, and where they lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from query.clustering.clusterings import NOISE
from query.experiments.figures import CHANCE
from query.experiments.sankey import sankey

from ...plain_text import cluster_title, counted, distinct, one_line
from .chart_style import BAR_HEIGHT, BLUE, finished, text

SHOWN_CLUSTERS = 8
"""Clusters of a site that have a node of their own; the rest share one."""

Names = Mapping[tuple[int, int], str]
"""What clusters are called, by clustering and cluster."""


def counts(frame: pd.DataFrame, by: str, title: str) -> go.Figure:
    """Members by label, token or prediction, beside each bar its lift: columns of `query.member_counts`."""
    names = distinct(["∅" if pd.isna(value) else one_line(str(value), 32) for value in frame["value"]])
    figure = go.Figure(
        go.Bar(
            x=frame["n"],
            y=[text(name) for name in names],
            orientation="h",
            marker_color=BLUE,
            text=[f"{n:,} · ×{_times(lift)}" for n, lift in zip(frame["n"], frame["lift"], strict=True)],
            textposition="outside",
            cliponaxis=False,
            hovertext=[
                f"<b>{text(name)}</b><br>{counted(row['n'], 'member')} ({row['share']:.1%})<br>"
                f"{row['n_all']:,} of all<br>{_times(row['lift'])} times as common as in all"
                for name, row in zip(names, frame.to_dict("records"), strict=True)
            ],
            hoverinfo="text",
        )
    )
    figure.update_xaxes(
        title="Members · × lift over all", rangemode="tozero", nticks=4, range=[0, 1.35 * float(frame["n"].max())]
    )
    figure.update_yaxes(title=by.capitalize(), autorange="reversed", type="category")
    return finished(figure, title, 110 + BAR_HEIGHT * max(2, len(frame)))


def _times(lift: float) -> str:
    return f"{lift:,.0f}" if lift >= 10 else f"{lift:.2g}"


def flow(frame: pd.DataFrame, names: Names, title: str) -> go.Figure:
    """Where members lie at one site after another (`query.member_flow`), a column of nodes a site."""
    steps = frame.drop_duplicates("step")
    clusterings = [int(steps["from_clustering"].iloc[0]), *steps["to_clustering"].astype(int)]
    sites = [str(steps["from_site"].iloc[0]), *steps["to_site"].astype(str)]
    figure = go.Figure(
        sankey(
            frame,
            lambda column, cluster: _called(cluster, names.get((clusterings[column], cluster))),
            SHOWN_CLUSTERS,
        )
    )
    for place, site in enumerate(sites):
        figure.add_annotation(
            text=text(site),
            x=place / (len(sites) - 1),
            y=1.02,
            xref="paper",
            yref="paper",
            showarrow=False,
            xanchor="left" if place == 0 else "right" if place == len(sites) - 1 else "center",
            yanchor="bottom",
        )
    figure = finished(figure, title, 170 + 24 * len(figure.data[0].node.label))
    return figure.update_layout(margin={"t": 80})


def fates(frame: pd.DataFrame, names: Mapping[int, str], title: str) -> go.Figure:
    """Members by cluster of another clustering (`query.fate`); ``names``: of its clusters."""
    rows = frame.to_dict("records")
    called = [_called(row["cluster"], names.get(row["cluster"])) for row in rows]
    figure = go.Figure(
        go.Bar(
            x=frame["n"],
            y=called,
            orientation="h",
            text=[f"{n:,}" for n in frame["n"]],
            textposition="outside",
            cliponaxis=False,
            marker_color=[CHANCE.colour if row["cluster"] == NOISE else BLUE for row in rows],
            hovertext=[
                f"<b>{name}</b><br>{row['n']:,} of the members ({row['share']:.1%})<br>"
                f"{counted(row['size'], 'member')} of its own<br>overlap {row['overlap']:.2f}"
                for name, row in zip(called, rows, strict=True)
            ],
            hoverinfo="text",
        )
    )
    figure.update_xaxes(title="Members", rangemode="tozero", nticks=4)
    figure.update_yaxes(title="Cluster there", autorange="reversed", type="category")
    return finished(figure, title, 110 + BAR_HEIGHT * max(2, len(frame)))


def _called(cluster: int, name: str | None) -> str:
    return text(cluster_title(cluster, name))
