"""Where members of clusters lie at one site after another, as a Sankey diagram: a column of nodes a site."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float64, Int64

from .figures import CHANCE, OTHERS, style

NOISE, OTHER = -1, -2

NODE_GAP = 0.03
"""Between two nodes of a column, as a share of the figure's height."""


def sankey(flows: pd.DataFrame, called: Callable[[int, int], str], most: int) -> go.Sankey:
    """The ``most`` largest clusters of a column have a node each, the others one, the noise one.

    ``flows``: step (from 0), from_cluster, to_cluster, n. ``called``: the name of a cluster of a column.
    """
    columns = _columns(flows, most)
    places = {key: place for place, key in enumerate((i, c) for i, column in enumerate(columns) for c in column)}

    def node(column: int, cluster: int) -> int:
        return places.get((column, cluster), places[column, OTHER])

    ends = pd.DataFrame(
        {
            "source": [node(*end) for end in zip(flows["step"], flows["from_cluster"], strict=True)],
            "target": [node(*end) for end in zip(flows["step"] + 1, flows["to_cluster"], strict=True)],
            "n": flows["n"].to_numpy(),
        }
    )
    links = ends.groupby(["source", "target"], as_index=False)["n"].sum()
    used = np.unique(links[["source", "target"]].to_numpy())
    passing = np.maximum(*(links.groupby(end)["n"].sum().reindex(used, fill_value=0) for end in ("source", "target")))
    keys = [list(places)[place] for place in used]
    at = np.array([column for column, _ in keys])
    return go.Sankey(
        arrangement="snap",
        node={
            "label": [_label(key, called) for key in keys],
            "color": [_colour(cluster, columns[column]) for column, cluster in keys],
            "x": 0.01 + 0.98 * at / (len(columns) - 1),
            "y": _heights(at, passing.to_numpy()),
            "pad": 10,
            "thickness": 14,
            "hovertemplate": "%{label}: n = %{value:,}<extra></extra>",
        },
        link={
            "source": np.searchsorted(used, links["source"]),
            "target": np.searchsorted(used, links["target"]),
            "value": links["n"],
            "color": "rgba(120, 120, 120, 0.28)",
            "hovertemplate": "%{source.label} → %{target.label}: n = %{value:,}<extra></extra>",
        },
    )


def _columns(flows: pd.DataFrame, most: int) -> list[list[int]]:
    """The clusters of every column that have a node, largest first, then the others and the noise."""
    first = flows[flows["step"] == 0].groupby("from_cluster")["n"].sum()
    sizes = [first, *(step.groupby("to_cluster")["n"].sum() for _, step in flows.groupby("step"))]
    ordered = [size.drop(NOISE, errors="ignore").sort_values(ascending=False, kind="stable") for size in sizes]
    return [[*(int(cluster) for cluster in size.index[:most]), OTHER, NOISE] for size in ordered]


def _label(key: tuple[int, int], called: Callable[[int, int], str]) -> str:
    return {OTHER: "others", NOISE: "noise"}.get(key[1]) or called(*key)


def _colour(cluster: int, column: list[int]) -> str:
    if cluster in (OTHER, NOISE):
        return (OTHERS if cluster == OTHER else CHANCE).colour
    return style(column.index(cluster) % 6).colour


def _heights(
    columns: Int64[np.ndarray, " nodes"], passing: Int64[np.ndarray, " nodes"]
) -> Float64[np.ndarray, " nodes"]:
    """The middle of each node, so that those of a column stand one under the other: Plotly does not see to it."""
    middles = np.empty(len(columns))
    for column in np.unique(columns):
        inside = columns == column
        shares = passing[inside] / passing[inside].sum() * (1 - NODE_GAP * (inside.sum() - 1))
        middles[inside] = np.cumsum(shares + NODE_GAP) - NODE_GAP - shares / 2
    return middles.clip(0.001, 0.999)
