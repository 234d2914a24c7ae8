"""How near is near: a distance among those of this atlas's own nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64, Integer

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import Target

from ..examples.ids import count_codes, holders, is_span
from .nearest_many import nearest_many

SAMPLE = 256
"""Examples whose nearest neighbour is looked for where none is stored: shares are off by at most 0.09 in 19 of 20
samples (Kolmogorov: 1.36 / sqrt(256))."""


def nearness(
    atlas: Atlas,
    *,
    distances: Iterable[int] | Integer[np.ndarray, " distances"],
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
) -> pd.DataFrame:
    """Where distances in gates stand among the distances of stored examples to their nearest other example.

    Of all examples where nearest neighbours are stored (`polytope neighbors`) and nothing was added since, else of a
    sample. An example that shares its polytope has distance 0.

    Args:
        atlas: an open atlas.
        distances: in gates, whole numbers from 0.
        site: the site, or
        span: the span at which codes were compared.
        network: its network, where several have such a one.
        sample: examples that are drawn where no neighbours are stored.
        seed: of drawing them.

    Returns:
        A row a distance, in the order given: distance (gates), nearer_than and farther_than (shares, 0 to 1, of the
        examples whose nearest other lies farther, and nearer, than that).
        ``frame.attrs``: n (examples that it is a share of), of (how many there are), stored, median and largest
        (gates, of the nearest neighbours' distances).

    Raises:
        UsageError: for a distance that is no whole number from 0, and where fewer than two examples have a code.
        UnknownName: for a site or network that is not there.
        NotStored: for a site whose codes were not ingested.
        IndexMissing: where no neighbours are stored and the target has no index.
        IndexMismatch: for an index of other codes.
    """
    asked = [whole("a distance", distance, 0) for distance in distances]
    target = atlas.catalog.target(site=site, span=span, network=network)
    return nearest_distances(atlas, target, whole("sample", sample), seed).shares(asked)


@dataclass(frozen=True)
class NearestDistances:
    """Distances in gates from examples to their nearest other, ascending; ``of``: how many examples there are;
    ``stored``: whether they are those of all of them, as they are stored."""

    known: Int64[np.ndarray, " examples"]
    of: int
    stored: bool

    def shares(self, distances: list[int]) -> pd.DataFrame:
        """The answer of `nearness`."""
        n = len(self.known)
        frame = pd.DataFrame(
            {
                "distance": np.array(distances, np.int64),
                "nearer_than": (n - np.searchsorted(self.known, distances, side="right")) / n,
                "farther_than": np.searchsorted(self.known, distances, side="left") / n,
            }
        )
        median, largest = float(np.median(self.known)), int(self.known[-1])
        frame.attrs.update(n=n, of=self.of, stored=self.stored, median=median, largest=largest)
        return frame


def nearest_distances(atlas: Atlas, target: Target, sample: int = SAMPLE, seed: int = 0) -> NearestDistances:
    """The stored distances of all examples to their nearest other, else those of a sample."""
    n_codes = count_codes(atlas, target)
    if n_codes < 2:
        raise UsageError(f"{target.name} holds the code of one example, which has no neighbour; ingest more")
    digest = atlas.value(
        "select digest from neighborhoods where network_id = $1 and target = $2",
        [target.network.network_id, target.name],
    )
    if digest == target.digest:
        rows = atlas.frame(
            "select distance from neighbors where network_id = $1 and target = $2 and rank = 1 order by 1",
            [target.network.network_id, target.name],
        )
        return NearestDistances(rows["distance"].to_numpy(np.int64), n_codes, True)
    ids = holders(atlas, target)
    drawn = np.random.default_rng(seed).choice(ids, min(sample, len(ids)), replace=False)
    site, span = (None, target.name) if is_span(target) else (target.name, None)
    found = nearest_many(atlas, examples=drawn, k=1, exact=True, site=site, span=span, network=target.network.name)
    return NearestDistances(np.sort(found["distance"].to_numpy(np.int64)), n_codes, False)
