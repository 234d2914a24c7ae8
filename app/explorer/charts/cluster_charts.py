"""Figures of one cluster: what its members are, and where they lie elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from query.clustering.clusterings import NOISE
from query.experiments.figures import CHANCE, OTHERS, style

from ...plain_text import counted, distinct, one_line
from .chart_style import BAR_HEIGHT, BLUE, finished, text

SHOWN_CLUSTERS = 8
"""Clusters of a site that have a node of their own; the rest share one."""

_OTHER = -2

Names = Mapping[tuple[int, int], str]
"""Names that people gave, by clustering and cluster."""


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


class _Nodes:
    """The nodes of all columns, and which of them a cluster of a column is: its own, the others' or the noise's."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.colours: list[str] = []
        self.x: list[float] = []
        self._numbers: list[dict[int, int]] = []

    def add_column(self, clustering: int, clusters: list[int], names: Names, x: float) -> None:
        self._numbers.append({c: len(self.labels) + place for place, c in enumerate([*clusters, _OTHER, NOISE])})
        self.labels += [_node(clustering, cluster, names) for cluster in clusters] + ["others", "noise"]
        self.colours += [style(place % 6).colour for place in range(len(clusters))] + [OTHERS.colour, CHANCE.colour]
        self.x += [x] * (len(clusters) + 2)

    def numbers(self, columns: pd.Series, clusters: pd.Series) -> list[int]:
        held = [self._numbers[column] for column in columns]
        return [known.get(cluster, known[_OTHER]) for known, cluster in zip(held, clusters, strict=True)]


def flow(frame: pd.DataFrame, names: Names, title: str) -> go.Figure:
    """Where members lie at one site after another (`query.member_flow`), a column of nodes a site.

    The largest clusters of a site have a node each, the others one, the noise one.
    """
    stages, nodes = _stages(frame), _Nodes()
    for place, (clustering, sizes) in enumerate(stages):
        named = [int(cluster) for cluster in sizes.drop(NOISE, errors="ignore").index[:SHOWN_CLUSTERS]]
        nodes.add_column(clustering, named, names, 0.01 + 0.98 * place / (len(stages) - 1))
    ends = pd.DataFrame(
        {
            "source": nodes.numbers(frame["step"], frame["from_cluster"]),
            "target": nodes.numbers(frame["step"] + 1, frame["to_cluster"]),
            "n": frame["n"],
        }
    )
    links = ends.groupby(["source", "target"], as_index=False)["n"].sum()
    used = np.unique(links[["source", "target"]].to_numpy())
    passing = np.maximum(*(links.groupby(end)["n"].sum().reindex(used, fill_value=0) for end in ("source", "target")))
    figure = go.Figure(
        go.Sankey(
            arrangement="snap",
            node={
                "label": [nodes.labels[node] for node in used],
                "color": [nodes.colours[node] for node in used],
                "x": [nodes.x[node] for node in used],
                "y": _heights(nodes, used, passing.to_numpy()),
                "pad": 10,
                "thickness": 14,
                "customdata": [counted(n, "member") for n in passing],
                "hovertemplate": "%{label}: %{customdata}<extra></extra>",
            },
            link={
                "source": np.searchsorted(used, links["source"]),
                "target": np.searchsorted(used, links["target"]),
                "value": links["n"],
                "color": "rgba(120, 120, 120, 0.28)",
                "customdata": [counted(n, "member") for n in links["n"]],
                "hovertemplate": "%{source.label} → %{target.label}: %{customdata}<extra></extra>",
            },
        )
    )
    sites = [str(frame["from_site"].iloc[0]), *frame.drop_duplicates("step")["to_site"].astype(str)]
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
    figure = finished(figure, title, 170 + 24 * len(used))
    figure.update_layout(margin={"t": 80})
    return figure


NODE_GAP = 0.03
"""Between two nodes of a column, as a share of the figure's height."""


def _heights(nodes: _Nodes, used: np.ndarray, passing: np.ndarray) -> list[float]:
    """The middle of each node, so that those of a column stand one under the other: Plotly does not see to it."""
    columns = np.array([nodes.x[node] for node in used])
    middles = np.empty(len(used))
    for x in np.unique(columns):
        inside = columns == x
        shares = passing[inside] / passing[inside].sum() * (1 - NODE_GAP * (inside.sum() - 1))
        middles[inside] = np.cumsum(shares + NODE_GAP) - NODE_GAP - shares / 2
    return middles.clip(0.001, 0.999).tolist()


def _stages(frame: pd.DataFrame) -> list[tuple[int, pd.Series]]:
    """Of every site the clustering, and the members in each of its clusters, most first."""
    first = frame[frame["step"] == 0]
    stages = [(int(first["from_clustering"].iloc[0]), first.groupby("from_cluster")["n"].sum())]
    for _, step in frame.groupby("step"):
        stages.append((int(step["to_clustering"].iloc[0]), step.groupby("to_cluster")["n"].sum()))
    return [(clustering, sizes.sort_values(ascending=False, kind="stable")) for clustering, sizes in stages]


def _node(clustering: int, cluster: int, names: Names) -> str:
    return _called(cluster, names.get((clustering, cluster)))


def fates(frame: pd.DataFrame, title: str) -> go.Figure:
    """Members by cluster of another clustering (`query.fate`)."""
    rows = frame.to_dict("records")
    names = [_called(row["cluster"], row["name"]) for row in rows]
    figure = go.Figure(
        go.Bar(
            x=frame["n"],
            y=names,
            orientation="h",
            text=[f"{n:,}" for n in frame["n"]],
            textposition="outside",
            cliponaxis=False,
            marker_color=[CHANCE.colour if row["cluster"] == NOISE else BLUE for row in rows],
            hovertext=[
                f"<b>{name}</b><br>{row['n']:,} of the members ({row['share']:.1%})<br>"
                f"{counted(row['size'], 'member')} of its own<br>overlap {row['overlap']:.2f}"
                for name, row in zip(names, rows, strict=True)
            ],
            hoverinfo="text",
        )
    )
    figure.update_xaxes(title="Members", rangemode="tozero", nticks=4)
    figure.update_yaxes(title="Cluster there", autorange="reversed", type="category")
    return finished(figure, title, 110 + BAR_HEIGHT * max(2, len(frame)))


def _called(cluster: int, name: str | None) -> str:
    if cluster == NOISE:
        return "noise"
    return str(cluster) if name is None or pd.isna(name) else f"{cluster} · {text(one_line(name))}"
