"""One unit over its whole range: its top, bands of equally many activations, and what is off."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from atlas import Atlas
from atlas.store.catalog import SiteRecord

from ..clustering.labels import Clusters, Members
from ..examples.description import describe
from ..examples.labels import Labels
from .ranking import highest_examples

OFF = "off"


def parts_of_unit(column: Float[np.ndarray, " examples"], k: int, bands: int) -> dict[str, Members]:
    """The top, the bands from the highest to the lowest, and what is at or below 0, as places of examples."""
    on = np.flatnonzero(column > 0)
    rising = on[np.argsort(column[on], kind="stable")]
    parts = {"top": highest_examples(column, k)}
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
            distinct, counts = np.unique(numbers, return_counts=True)
            rows += [
                {"part": part, **bounds, "what": what, "name": name(int(n)), "n": int(count)}
                for n, count in zip(distinct, counts, strict=True)
            ]
    return pd.DataFrame(rows)
