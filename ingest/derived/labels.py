"""How members of clusters are labelled (SCIENCE 1), when they are clustered and when labels come later."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Int

from atlas.store.atlas import Atlas
from atlas.store.digests import changing


def label_statistics(clusters: Int[np.ndarray, " examples"], labels: pd.Series) -> tuple[pd.DataFrame, float | None]:
    """How the members of each cluster are labelled, and the purity of the clustering.

    Args:
        clusters: the cluster of each example, −1 for noise; every number up to the greatest has a member.
        labels: the label of each example, None where it has none.

    Returns:
        A row a cluster, in order: purity, top_label (of labels that as many members have the first) and entropy, each
        None where no member has a label. Then the share of clustered, labelled examples that bear their cluster's top
        label; None where there are none.
    """
    numbers, names = pd.factorize(labels, sort=True)  # −1 where an example has no label
    by_cluster = np.argsort(clusters, kind="stable")
    ends = np.searchsorted(clusters[by_cluster], np.arange(int(clusters.max(initial=-1)) + 2))
    rows: list[tuple[float | None, str | None, float | None]] = []
    agreeing, labelled = 0, 0
    for start, end in pairwise(ends.tolist()):
        mine = numbers[by_cluster[start:end]]
        there, counts = np.unique(mine[mine >= 0], return_counts=True)
        if not len(counts):
            rows.append((None, None, None))
            continue
        shares = counts / counts.sum()
        entropy = abs(float((shares * np.log(shares)).sum() / np.log(len(names)))) if len(names) > 1 else None
        rows.append((float(shares.max()), names[there[counts.argmax()]], entropy))
        agreeing, labelled = agreeing + int(counts.max()), labelled + int(counts.sum())
    columns = ["purity", "top_label", "entropy"]
    return pd.DataFrame(rows, columns=columns, dtype=object), agreeing / labelled if labelled else None


def relabel_clusters(atlas: Atlas, examples: str) -> None:
    """Store anew how members are labelled in every clustering of some examples, which a query gives, in the
    transaction that labelled them."""
    touched = f"select distinct clustering_id from cluster_labels where example_id in ({examples}) order by all"
    for (number,) in atlas.rows(touched):
        frame = atlas.frame(
            "select cluster_labels.label as cluster, examples.label from cluster_labels join examples "
            "using (example_id) where clustering_id = $1 order by example_id",
            [number],
        )
        statistics, purity = label_statistics(frame["cluster"].to_numpy(np.int64), frame["label"])
        with (
            changing(atlas, "clusters", "purity", "top_label", "entropy", clustering_id=number),
            changing(atlas, "clusterings", "purity", clustering_id=number),
        ):
            for cluster, row in enumerate(statistics.itertuples(index=False)):
                atlas.execute(
                    "update clusters set purity = $3, top_label = $4, entropy = $5 "
                    "where clustering_id = $1 and label = $2",
                    [number, cluster, *row],
                )
            atlas.execute("update clusterings set purity = $2 where clustering_id = $1", [number, purity])
