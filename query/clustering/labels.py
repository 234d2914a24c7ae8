"""The cluster that each of some examples lies in, stored or made on the spot, as groups to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas import Atlas
from atlas.errors import TooManyPoints, UnknownName, UsageError
from atlas.store.catalog import Target

from ..examples.description import pays
from ..examples.ids import is_span, places_of
from ..notes import Notes
from ..pairs.density import exactness
from .clusterings import NOISE, Clustering, asked_clustering, clustering_of, find_clustering, latest_clustering

UNASKED_POINTS = 5000
"""At most this many activations are clustered on the spot where no clustering is stored: a few seconds."""

Members = Int64[np.ndarray, "_"]
"""A group: places of its members among the examples looked at. They differ in size: no dimension name."""

MIN_CLUSTER_SIZE = 5  # the default of `polytope cluster`


@dataclass(frozen=True, eq=False)
class Clusters:
    """``labels[i]``: cluster of example i, −1 for noise or where it was not clustered. ``name``: for people."""

    labels: Int64[np.ndarray, " examples"]
    clustering: Clustering | None
    name: str

    def groups(self, least: int = 2) -> list[Members]:
        """The members of each cluster that has at least ``least`` of the examples, as places among them."""
        n_clusters = int(self.labels.max(initial=NOISE)) + 1
        groups = [np.flatnonzero(self.labels == label) for label in range(n_clusters)]
        return [members for members in groups if len(members) >= least]


def stored_clusters(
    atlas: Atlas, target: Target, ids: Int64[np.ndarray, " examples"], *, clustering: int | None, space: str = "codes"
) -> Clusters:
    """Cluster labels of examples, from the clustering of that id or the newest of the target in ``space``.

    Raises `UnknownName` where there is none, `UsageError` for one of another target.
    """
    return _stored(atlas, clustering_of(atlas, target, clustering, space), ids)


def any_clusters(
    atlas: Atlas, target: Target, ids: Int64[np.ndarray, " examples"], space: str, least: int = MIN_CLUSTER_SIZE
) -> Clusters | None:
    """The newest stored clustering of a site in ``space``; else, for few enough examples, one made on the spot.

    None where there are too many of them, or too few for a cluster. One made on the spot is not stored.
    """
    newest = latest_clustering(atlas, target, (space,))
    if newest is not None:
        return _stored(atlas, newest, ids)
    if len(ids) > UNASKED_POINTS:
        return None
    from atlas.clustering.hdbscan import cluster_activations, cluster_codes  # seconds, where nothing is stored

    try:
        if space == "codes":
            hierarchy = cluster_codes(atlas.codes(target.sites, ids)[1], metric="hamming", min_cluster_size=least)
        else:
            hierarchy = cluster_activations(atlas.activations(target.sites[0], ids)[1], min_cluster_size=least)
    except (UsageError, TooManyPoints):
        return None
    name = f"clusters of {space} at {target.name} by {hierarchy.metric} distance, made for this experiment"
    return Clusters(hierarchy.labels, None, name)


def asked_clusterings(
    atlas: Atlas, targets: Sequence[Target], numbers: Sequence[int] | None
) -> dict[tuple[str, str], int]:
    """Ids of clusterings by (target name, space); `UsageError` for one of no such target, and for two of one."""
    names = {target.name: target for target in targets}
    chosen: dict[tuple[str, str], int] = {}
    for number in numbers or ():
        clustering = asked_clustering(atlas, number, None, None, None, "codes")
        place = clustering.target.name, clustering.space
        if clustering.target != names.get(clustering.target.name):
            raise UsageError(f"{clustering.name} is of none of {', '.join(names)}; `polytope clusterings` lists them")
        if place in chosen:
            raise UsageError(
                f"{clustering.name} and clustering {chosen[place]} are both of {' in '.join(place)}; give one"
            )
        chosen[place] = clustering.clustering_id
    return chosen


def no_clustering(atlas: Atlas, target: Target, space: str) -> UnknownName:
    """What to say where `any_clusters` found none."""
    option = "--span" if is_span(target) else "--site"
    return UnknownName(
        f"no clustering of {target.name} of network {target.network.name} in {space}, and too many or too few "
        f"examples to make one here; `polytope cluster {atlas.address} {option} '{target.name}' --space {space}` does"
    )


def remark(notes: Notes, *about: Clusters | Target, place: str = "") -> None:
    """Say what is approximate or out of date about codes and clusters; ``place``: of which site."""
    for what in about:
        if isinstance(what, Clusters):
            if what.clustering is None:
                continue
            if what.clustering.space == "codes":
                remark(notes, what.clustering.target, place=place)
            for note in _standing(what.clustering):
                notes.add(note, place or what.name)
        elif not what.exact:
            notes.add(exactness(what), place)


def remark_parameters(notes: Notes, compared: Sequence[Clusters]) -> None:
    """Say in which parameters clusterings that stand side by side differ: clusters of other parameters are larger or
    smaller, fewer or more, whatever was clustered."""
    by_parameters: dict[tuple[int, int, str], list[str]] = {}
    for clusters in compared:
        made = clusters.clustering
        parameters = (MIN_CLUSTER_SIZE, MIN_CLUSTER_SIZE, "eom")  # of what was made for an experiment
        if made is not None:
            parameters = made.min_cluster_size, made.min_samples, made.selection
        by_parameters.setdefault(parameters, []).append(clusters.name)
    if len(by_parameters) > 1:
        told = "; ".join(
            f"min_cluster_size {size}, min_samples {samples}, {selection}: {', '.join(names)}"
            for (size, samples, selection), names in by_parameters.items()
        )
        notes.add(
            "clusterings of other parameters stand side by side, which alone makes their clusters differ in number "
            f"and size ({told}); `polytope cluster` makes some of the same, and --clusterings chooses them"
        )


def remarks(clustering: Clustering) -> list[str]:
    """What is to be said beside numbers that rest on a clustering: `remark` in words alone."""
    about = clustering.target
    return [*([] if clustering.space != "codes" or about.exact else [exactness(about)]), *_standing(clustering)]


def _standing(clustering: Clustering) -> list[str]:
    said = [] if clustering.exact else [clustering.approximation]
    if not clustering.current:
        said.append("clustered before examples were added, which have no cluster")
    return said


def _stored(atlas: Atlas, clustering: Clustering, ids: Int64[np.ndarray, " examples"]) -> Clusters:
    frame = atlas.frame(
        "select example_id, label from cluster_labels where clustering_id = $1", [clustering.clustering_id]
    )
    labels = frame.set_index("example_id")["label"].reindex(ids).fillna(NOISE).to_numpy(np.int64)
    return Clusters(labels, clustering, f"{clustering.name} by {clustering.metric} distance")


# --- the cluster of each ---------------------------------------------------------------------------------------


def shown_clustering(atlas: Atlas, target: Target, clustering: int | None) -> Clustering | None:
    """The clustering of that id, or the newest of the target; None where it has none."""
    key = ("clustering", target.network.network_id, target.name, clustering)
    if clustering is None:
        return atlas.keep(key, lambda: latest_clustering(atlas, target))
    return atlas.keep(key, lambda: find_clustering(atlas, clustering, target))


def cluster_column(
    atlas: Atlas, clustering: Clustering | None, ids: Int64[np.ndarray, " examples"]
) -> pd.arrays.IntegerArray:
    """Each example's cluster; <NA> without a clustering, or for an example that came after it."""
    if clustering is None:
        return pd.arrays.IntegerArray(np.zeros(len(ids), np.int64), np.ones(len(ids), np.bool_))
    number, labels = clustering.clustering_id, "select example_id, label from cluster_labels where clustering_id = $1"

    def read(which: str = "", *more: object) -> tuple[np.ndarray, np.ndarray]:
        known = atlas.frame(f"{labels} {which} order by example_id", [number, *more])
        return known["example_id"].to_numpy(np.int64), known["label"].to_numpy(np.int64)

    if pays(atlas, ("labels", number)):  # 16 bytes an example
        known, clusters = atlas.keep(("labels", number), read)
    else:
        known, clusters = read("and example_id in (select unnest($2::uinteger[]))", ids.tolist())
    held, places = places_of(ids, known)
    labels_of_ids = np.zeros(len(ids), np.int64)
    labels_of_ids[held] = clusters[places]
    return pd.arrays.IntegerArray(labels_of_ids, ~held)
