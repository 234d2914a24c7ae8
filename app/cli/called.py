"""Clusters on a terminal: by their names, where a file and a program get their numbers."""

from __future__ import annotations

from typing import Any

import pandas as pd

from atlas.store.atlas import Atlas
from query.clustering.made_names import cluster_titles

from ..plain_text import cluster_title


def called(a: Atlas, clustering: int, cluster: int) -> str:
    """What a cluster is called: its name and its number, or noise."""
    return cluster_title(cluster, cluster_titles(a, clustering).get(cluster))


def with_names(a: Atlas, rows: pd.DataFrame, clustering: int | None) -> pd.DataFrame:
    """The same rows, in which column ``cluster`` has names in place of numbers; ``clustering``: whose they are."""
    if clustering is None or not rows["cluster"].notna().any():
        return rows
    names = cluster_titles(a, clustering)
    return rows.assign(cluster=rows["cluster"].map(lambda n: cluster_title(n, names.get(n)), na_action="ignore"))


def fates_with_names(a: Atlas, fates: pd.DataFrame) -> pd.DataFrame:
    """What becomes of clusters, as `Comparison.clusters` has it, each called by its name in its own clustering."""
    numbers = {*fates["clustering_before"].dropna().astype(int), *fates["clustering_after"].dropna().astype(int)}
    names = {number: cluster_titles(a, number) for number in numbers}

    def title(clustering: int, cluster: int) -> str:
        return cluster_title(cluster, names[clustering].get(cluster))

    mine: list[Any] = []
    others: list[Any] = []
    for row in fates.to_dict("records"):
        born = pd.isna(row["cluster"])
        mine.append(None if born else title(int(row["clustering_before"]), int(row["cluster"])))
        others.append(", ".join(title(int(row["clustering_after"]), int(number)) for number in row["into"]))
    return fates.assign(cluster=mine, into=others)
