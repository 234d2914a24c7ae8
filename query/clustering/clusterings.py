"""Clusterings that an atlas holds, found by id or by what they cluster (SCIENCE 1; post: Prediction 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from atlas import Atlas
from atlas.checks import is_whole, whole_id
from atlas.errors import UnknownName, UsageError
from atlas.store.catalog import Target

from ..examples.ids import is_span

NOISE = -1
SPACES = ("codes", "activations")


MOSTLY_PROVEN = 0.9
"""Share of proven edges below which it is said what to do. Of codes with clear clusters 0.99 is usual; of 6,125
tokens of a trained GPT-2 none is, from 10 neighbours as from 1,000, with an adjusted Rand index of 0.88 to 0.90."""


@dataclass(frozen=True)
class Clustering:
    """A row of ``clusterings``, with the target that was clustered."""

    clustering_id: int
    target: Target
    space: str
    metric: str
    min_cluster_size: int
    min_samples: int
    selection: str
    exact: bool
    neighbors: int | None
    proven: float
    sample: int | None
    n_placed: int
    n_examples: int
    n_clusters: int
    data_digest: str

    @property
    def name(self) -> str:
        """How to call it in a sentence."""
        of = f"{self.target.name} of network {self.target.network.name}"
        return f"clustering {self.clustering_id} ({of}, {self.space})"

    @property
    def approximation(self) -> str:
        """What to know of an approximate clustering, and to do where little of it is proven; nothing of others."""
        if self.exact:
            return ""
        said = "; ".join(filter(None, [self._sampling, self._proof]))
        if self.neighbors is None or self.proven >= MOSTLY_PROVEN:
            return said
        return (
            f"{said}, so its clusters may be others than HDBSCAN's. Where distances are much alike, as those of "
            "language models' codes are, little can be proven from any number of neighbours: `polytope cluster` "
            "without --approximate compares all (seconds for 10,000 examples, minutes for 100,000)"
        )

    @property
    def _sampling(self) -> str:
        if self.sample is None:
            return ""
        placed = f"; {self.n_placed:,} others were placed in their clusters, not clustered" if self.n_placed else ""
        return f"a clustering of {self.sample:,} examples, drawn at random{placed}"

    @property
    def _proof(self) -> str:
        if self.neighbors is None:
            return ""
        return (
            f"an approximate clustering, from {self.neighbors} neighbours of each example: {self.proven:.1%} of its "
            "tree's edges are proven to be right"
        )

    def check(self, cluster: Any) -> int:
        """The number of a cluster of it, or of the noise; `UnknownName` for any other."""
        if not is_whole(cluster) or not NOISE <= int(cluster) < self.n_clusters:
            raise UnknownName(
                f"no cluster {cluster!r} in {self.name}; it has {self.n_clusters} clusters, numbered from 0, and "
                f"{NOISE} for noise"
            )
        return int(cluster)

    @property
    def current(self) -> bool:
        """Whether the target still holds exactly what was clustered."""
        return data_digest(self.target, self.space) == self.data_digest


def clusterings(atlas: Atlas) -> pd.DataFrame:
    """Every clustering with its parameters, oldest first.

    Args:
        atlas: an open atlas.

    Returns:
        A row a clustering: clustering_id, network, target, space, metric, min_cluster_size, min_samples, selection,
        algorithm, exact (False where the hierarchy was made from some ``neighbors`` of each example), neighbors,
        proven (the share of its spanning tree that is surely minimal), sample (examples that it was made from, where
        these were drawn), n_placed (examples that were placed in the finished clustering), n_examples, n_clusters,
        n_noise, purity, and current: False where examples were added to the target since; cluster again to include
        them.
    """
    frame = atlas.frame(
        """
        select
            clustering_id, networks.name as network, target, space, metric, min_cluster_size, min_samples, selection,
            algorithm, exact, neighbors, proven, sample, n_placed, n_examples, n_clusters, n_noise, purity
        from clusterings join networks using (network_id)
        order by clustering_id
        """
    )
    frame["current"] = [_load(atlas, number).current for number in frame["clustering_id"].tolist()]
    return frame


def find_clustering(atlas: Atlas, clustering: int, target: Target | None = None) -> Clustering:
    """The clustering of that id; with a target, one whose labels its examples can bear: of the same network."""
    record = _load(atlas, clustering)
    if target is not None and record.target.network.name != target.network.name:
        raise UsageError(
            f"{record.name} is of network {record.target.network.name}, but the question is about "
            f"{target.network.name}; `polytope clusters {atlas.address}` lists clusterings"
        )
    return record


def latest_clustering(atlas: Atlas, target: Target, spaces: tuple[str, ...] = SPACES) -> Clustering | None:
    """The newest clustering of a target in the first of the spaces that has one."""
    for space in spaces:
        number = atlas.value(
            "select max(clustering_id) from clusterings where network_id = $1 and target = $2 and space = $3",
            [target.network.network_id, target.name, space],
        )
        if number is not None:
            return _load(atlas, number)
    return None


def clustering_of(atlas: Atlas, target: Target, clustering: int | None, space: str) -> Clustering:
    """The clustering of that id, which must be of this target, or the newest of the target in the space."""
    if space not in SPACES:
        raise UsageError(f"space is {space!r}; expected {' or '.join(SPACES)}")
    if clustering is not None:
        record = find_clustering(atlas, clustering, target)
        if record.target.name != target.name:
            raise UsageError(f"{record.name} is not of {target.name}; give its id alone, or the site or span alone")
        return record
    newest = latest_clustering(atlas, target, (space,))
    if newest is None:
        option = "--span" if is_span(target) else "--site"
        raise UnknownName(
            f"no clustering of {target.name} of network {target.network.name} in {space}; "
            f"`polytope cluster {atlas.address} {option} '{target.name}' --space {space}` makes one"
        )
    return newest


def data_digest(target: Target, space: str) -> str | None:
    """Digest of what a clustering of the target in that space clusters."""
    return target.digest if space == "codes" else target.sites[0].activations_digest


def asked_clustering(
    atlas: Atlas, clustering: int | None, site: str | None, span: str | None, network: str | None, space: str
) -> Clustering:
    """The clustering of that id, or the newest of the site or span in the space."""
    if clustering is not None and site is None and span is None:
        record = _load(atlas, clustering)
        if network not in (None, record.target.network.name):
            raise UsageError(f"{record.name} is not of network {network}; give its id alone")
        return record
    if clustering is None and site is None and span is None:
        raise UsageError("name a clustering by its id, or a site or span; `polytope clusters` lists clusterings")
    return clustering_of(atlas, atlas.catalog.target(site=site, span=span, network=network), clustering, space)


def _load(atlas: Atlas, clustering: object) -> Clustering:
    number = whole_id("a clustering", clustering)
    rows = atlas.records(
        """
        select
            clustering_id, networks.name as network, target, space, metric, min_cluster_size, min_samples, selection,
            exact, neighbors, proven, sample, n_placed, n_examples, n_clusters, data_digest
        from clusterings join networks using (network_id)
        where clustering_id = $1
        """,
        [number],
    )
    if not rows:
        held = ", ".join(str(other) for (other,) in atlas.rows("select clustering_id from clusterings order by all"))
        raise UnknownName(f"no clustering {clustering} in {atlas.address}; it holds {held or 'none'}")
    row = rows[0]
    # A name with an arrow in it is read as a span's.
    target = atlas.catalog.target(site=row.pop("target"), network=row.pop("network"))
    return Clustering(target=target, **row)
