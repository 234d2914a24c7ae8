"""What lies at the top of units and in the bands of one, as numbers; `neuron` draws them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int64

from atlas import Atlas
from atlas.store.catalog import SiteRecord

from ..examples.stored import describe, holders, with_activation
from ..progress import Progress, tell
from ..statistics import mean_interval
from .clustered import Clusters, any_clusters, no_clustering, remark, stored_clusters
from .groups import Members
from .targets import Labels, Notes, drawn, labels_of

OFF = "off"
RANDOM_TOPS = 500  # random sets of k examples behind the entropy to expect by chance

NOTES = (
    "polysemanticity: distinct clusters and labels among a unit's k highest activations above 0, and the entropy "
    "over them in bits; noise (examples in no cluster) is counted apart and not in the entropy",
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
        found = any_clusters(atlas, target, ids, "codes")
        if found is None:
            raise no_clustering(atlas, target, "codes")
        clusters = found
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
    """A row a unit that is ever above 0, those first whose top is spread most evenly; ``neuron`` says of what."""
    rows = []
    ever = np.flatnonzero(values.max(axis=0) > 0)
    for done, unit in enumerate(ever):
        tell(progress, done, len(ever))
        column = values[:, unit]
        top = _top(column, k)
        own = clusters.labels[top]
        known = labels.numbers[top]
        rows.append(
            {
                "unit": int(unit),
                "active": float((column > 0).mean()),
                "highest": float(column.max()),
                "top": len(top),
                "clusters": len(np.unique(own[own >= 0])),
                "cluster_entropy": entropy(own[own >= 0]),
                "noise": int((own < 0).sum()),
                "labels": len(np.unique(known[known >= 0])),
                "label_entropy": entropy(known[known >= 0]),
            }
        )
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = ["cluster_entropy", "label_entropy", "unit"]
    return frame.sort_values(order, ascending=[False, False, True], ignore_index=True)


def entropy(numbers: Int64[np.ndarray, " members"]) -> float:
    """−Σ p log₂ p over the shares of equal numbers, in bits; NaN for fewer than 2 members."""
    if len(numbers) < 2:
        return np.nan
    shares = np.unique(numbers, return_counts=True)[1] / len(numbers)
    return abs(float((shares * np.log2(shares)).sum()))


def _top(column: Float[np.ndarray, " examples"], k: int) -> Int64[np.ndarray, " top"]:
    """The k highest values above 0, highest first; of equals the first."""
    top = np.argsort(-column, kind="stable")[:k]
    return top[column[top] > 0]


def summary_of_units(
    ranking: pd.DataFrame, clusters: Clusters, labels: Labels, k: int, seed: int, resamples: int, confidence: float
) -> pd.DataFrame:
    """Mean entropies over units, and over random sets of k examples."""
    rng = np.random.default_rng([seed, 1])
    n = len(labels.ids)
    sets = [rng.choice(n, size=min(k, n), replace=False) for _ in range(RANDOM_TOPS)]
    by_chance = pd.DataFrame(
        {
            "cluster_entropy": [entropy(clusters.labels[chosen][clusters.labels[chosen] >= 0]) for chosen in sets],
            "label_entropy": [entropy(labels.numbers[chosen][labels.numbers[chosen] >= 0]) for chosen in sets],
        }
    )
    rows = []
    for of, frame in (("units", ranking), ("random sets", by_chance)):
        row: dict[str, Any] = {"of": of, "n": len(frame)}
        for name in ("cluster_entropy", "label_entropy"):
            values = frame[name].to_numpy(np.float64)
            row |= mean_interval(values, rng, resamples=resamples, confidence=confidence).columns(name)
        rows.append(row)
    return pd.DataFrame(rows)


def parts_of_unit(column: Float[np.ndarray, " examples"], k: int, bands: int) -> dict[str, Members]:
    """The top, the bands from the highest to the lowest, and what is at or below 0, as places of examples."""
    on = np.flatnonzero(column > 0)
    rising = on[np.argsort(column[on], kind="stable")]
    parts = {"top": _top(column, k)}
    for number, members in reversed(list(enumerate(np.array_split(rising, bands), start=1))):
        parts[f"band {number}"] = members[::-1]
    parts[OFF] = np.flatnonzero(column <= 0)
    return {name: members for name, members in parts.items() if len(members)}


def examples_of_parts(
    atlas: Atlas,
    site: SiteRecord,
    ids: np.ndarray,
    column: np.ndarray,
    parts: dict[str, np.ndarray],
    per_band: int,
    clusters: Clusters,
    labels: Labels,
    seed: int,
) -> pd.DataFrame:
    """All of the top and ``per_band`` of every other part, drawn at random; the table of `neuron`."""
    rng = np.random.default_rng([seed, 2])
    rows = []
    for part, members in parts.items():
        shown = members if part == "top" else np.sort(rng.permutation(len(members))[:per_band])
        chosen = members if part == "top" else members[shown]
        rows += [(part, rank, place) for rank, place in enumerate(chosen, start=1)]
    places = np.array([place for _, _, place in rows], dtype=np.int64)
    described = describe(atlas, atlas.catalog.network(site.network), ids[places])
    frame = pd.DataFrame(
        {
            "part": [part for part, _, _ in rows],
            "rank": [rank for _, rank, _ in rows],
            "example_id": ids[places],
            "activation": column[places].astype(np.float64),
            "label": [labels.names[n] if n >= 0 else None for n in labels.numbers[places]],
            "cluster": clusters.labels[places],
        }
    )
    for name in ("token", "context", "context_offset", "key"):
        if name in described:
            frame[name] = described[name]
    return frame


def composition_of_parts(
    column: np.ndarray, parts: dict[str, np.ndarray], clusters: Clusters, labels: Labels
) -> pd.DataFrame:
    """How many of each part lie in each cluster and bear each label; the composition of `neuron`."""
    rows = []
    for part, members in parts.items():
        bounds = {"n_part": len(members), "low": float(column[members].min()), "high": float(column[members].max())}
        for what, numbers, name in (
            ("cluster", clusters.labels[members], lambda n: str(n) if n >= 0 else "noise"),
            ("label", labels.numbers[members], lambda n: labels.names[n] if n >= 0 else "none"),
        ):
            found, counts = np.unique(numbers, return_counts=True)
            rows += [
                {"part": part, **bounds, "what": what, "name": name(int(n)), "n": int(count)}
                for n, count in zip(found, counts, strict=True)
            ]
    return pd.DataFrame(rows)
