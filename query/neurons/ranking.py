"""Units ranked by how many things their highest activations are about (SCIENCE 2: polysemanticity)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from atlas import Atlas
from atlas.store.catalog import SiteRecord

from ..clustering.labels import Clusters, any_clusters, no_clustering, remark, stored_clusters
from ..examples.ids import holders, with_activation
from ..examples.labels import Labels, drawn, labels_of
from ..notes import Notes
from ..progress import Progress, tell
from ..statistics import mean_interval

RANDOM_TOPS = 500  # random sets of k examples behind the entropy to expect by chance

ENTROPIES = ("cluster_entropy", "label_entropy", "group_entropy")
"""Over the clusters, labels and groups of a top, bits."""

TURNED_UNITS = 256
"""Units whose activations are laid end to end at a time: 10 MB of 10,000 examples."""

SHOWN_EXAMPLES = 8
"""Examples of a unit's top that stand in its row."""

NOTES = (
    "polysemanticity: distinct clusters, labels and groups among a unit's k highest activations above 0, and the "
    "entropy over them in bits; noise (examples in no cluster) is not in the entropy over clusters",
    "a group: clusters whose commonest label is the same, for one thing may be split into several; noise is one more",
)


def read_units(
    atlas: Atlas, site: SiteRecord, by: str, clustering: int | None, most: int, seed: int, notes: Notes
) -> tuple[Int64[np.ndarray, " examples"], Float[np.ndarray, "examples units"], Clusters, Labels]:
    """At most ``most`` examples of a site: ids, activations, clusters and labels."""
    target = atlas.catalog.target(site=site.name, network=site.network)
    everyone = with_activation(atlas, site, holders(atlas, target))
    ids = drawn(everyone, most, seed)
    if len(ids) < len(everyone):
        notes.add(f"{len(ids):,} of {len(everyone):,} examples, drawn at random")
    labels = labels_of(atlas, ids, by)
    if clustering is not None:
        clusters = stored_clusters(atlas, target, ids, clustering=clustering)
    else:
        newest = any_clusters(atlas, target, ids, "codes")
        if newest is None:
            raise no_clustering(atlas, target, "codes")
        clusters = newest
    notes.add(f"clusters: {clusters.name}")
    remark(notes, target, clusters)
    return ids, atlas.activations(site, ids)[1], clusters, labels


def rank_units(
    values: Float[np.ndarray, "examples units"],
    clusters: Clusters,
    labels: Labels,
    k: int,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """A row a unit that is ever above 0: those first whose top is spread most evenly over labels, or over groups
    where no example bears one. ``first``: the places of the highest `SHOWN_EXAMPLES`; ``neuron`` says what else."""
    rows, groups = [], groups_of(clusters, labels)
    ever = np.flatnonzero(values.max(axis=0) > 0)
    for done, (unit, column) in enumerate(zip(ever.tolist(), _columns(values, ever), strict=True)):
        tell(progress, done, len(ever))
        top = highest_examples(column, k)
        clustered = clusters.labels[top]
        known = labels.numbers[top]
        n_clusters, cluster_entropy = _spread(clustered[clustered >= 0])
        n_labels, label_entropy = _spread(known[known >= 0])
        n_groups, group_entropy = _spread(groups[top])
        rows.append(
            {
                "unit": unit,
                "active": float((column > 0).mean()),
                "highest": float(column.max()),
                "top": len(top),
                "clusters": n_clusters,
                "cluster_entropy": cluster_entropy,
                "noise": int((clustered < 0).sum()),
                "labels": n_labels,
                "label_entropy": label_entropy,
                "groups": n_groups,
                "group_entropy": group_entropy,
                "first": top[:SHOWN_EXAMPLES].tolist(),
            }
        )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    spread = ["label_entropy", "group_entropy"] if (labels.numbers >= 0).any() else ["group_entropy"]
    return frame.sort_values([*spread, "unit"], ascending=[*(False for _ in spread), True], ignore_index=True)


def _columns(
    values: Float[np.ndarray, "examples units"], units: Int64[np.ndarray, " some"]
) -> Iterator[Float[np.ndarray, " examples"]]:
    """The activations of each of some units, end to end: of values that lie apart a pass takes ten times as long."""
    for start in range(0, len(units), TURNED_UNITS):
        yield from np.ascontiguousarray(values[:, units[start : start + TURNED_UNITS]].T)


def groups_of(clusters: Clusters, labels: Labels) -> Int64[np.ndarray, " examples"]:
    """The group of each example: its cluster's commonest label (of equals the first), its cluster where nobody in it
    bears one, or that of noise."""
    own, n_labels = clusters.labels, len(labels.names)
    n_clusters = int(own.max(initial=-1)) + 1
    known = (own >= 0) & (labels.numbers >= 0)
    counts = np.zeros((n_clusters, max(1, n_labels)), np.int64)
    np.add.at(counts, (own[known], labels.numbers[known]), 1)
    of_cluster = np.where(counts.any(axis=1), counts.argmax(axis=1), n_labels + np.arange(n_clusters))
    return np.append(of_cluster, n_labels + n_clusters)[own]  # the last, of noise, at -1


def entropy(numbers: Int64[np.ndarray, " members"]) -> float:
    """−Σ p log₂ p over the shares of equal numbers, in bits; NaN for fewer than 2 members."""
    return _spread(numbers)[1]


def _spread(numbers: Int64[np.ndarray, " members"]) -> tuple[int, float]:
    """How many distinct numbers, and their `entropy`."""
    counts = np.unique(numbers, return_counts=True)[1]
    if len(numbers) < 2:
        return len(counts), np.nan
    shares = counts / len(numbers)
    return len(counts), abs(float((shares * np.log2(shares)).sum()))


def highest_examples(column: Float[np.ndarray, " examples"], k: int) -> Int64[np.ndarray, " top"]:
    """The k highest values above 0, highest first; of equals the first."""
    # Most are below the k-th and need no order among themselves.
    among = np.flatnonzero(column >= np.partition(column, -k)[-k]) if k < len(column) else np.arange(len(column))
    top = among[np.argsort(-column[among], kind="stable")[:k]]
    return top[column[top] > 0]


def entropies_by_chance(clusters: Clusters, labels: Labels, k: int, rng: np.random.Generator) -> pd.DataFrame:
    """The `ENTROPIES` of random sets of k examples, a row a set."""
    n, groups = len(labels.ids), groups_of(clusters, labels)
    sets = [rng.choice(n, size=min(k, n), replace=False) for _ in range(RANDOM_TOPS)]
    return pd.DataFrame(
        {
            "cluster_entropy": [entropy(clusters.labels[chosen][clusters.labels[chosen] >= 0]) for chosen in sets],
            "label_entropy": [entropy(labels.numbers[chosen][labels.numbers[chosen] >= 0]) for chosen in sets],
            "group_entropy": [entropy(groups[chosen]) for chosen in sets],
        }
    )


def summary_of_units(
    ranking: pd.DataFrame, clusters: Clusters, labels: Labels, k: int, seed: int, resamples: int, confidence: float
) -> pd.DataFrame:
    """Mean entropies over units, and over random sets of k examples."""
    rng = np.random.default_rng([seed, 1])
    by_chance = entropies_by_chance(clusters, labels, k, rng)
    rows = []
    for of, frame in (("units", ranking), ("random sets", by_chance)):
        row: dict[str, Any] = {"of": of, "n": len(frame)}
        for name in ENTROPIES:
            values = frame[name].to_numpy(np.float64)
            row |= mean_interval(values, rng, resamples=resamples, confidence=confidence).columns(name)
        rows.append(row)
    return pd.DataFrame(rows)


def mean_entropies(
    ranking: pd.DataFrame, clusters: Clusters, labels: Labels, k: int, seed: int
) -> list[dict[str, Any]]:
    """`summary_of_units` without the intervals, which take most of its time."""
    by_chance = entropies_by_chance(clusters, labels, k, np.random.default_rng([seed, 1]))
    return [
        {"of": of, "n": len(frame), **{name: float(frame[name].mean()) for name in ENTROPIES}}
        for of, frame in (("units", ranking), ("random sets", by_chance))
    ]
