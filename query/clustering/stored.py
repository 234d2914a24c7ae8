"""Clusterings that an atlas holds, their clusters and the members of each (SCIENCE 1; post: Prediction 1)."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.errors import UnknownName, UsageError
from atlas.store.catalog import Target

from ..examples.stored import describe, is_span

NOISE = -1
SPACES = ("codes", "activations")
SAMPLE_BEFORE, SAMPLE_AFTER = 40, 24  # characters shown either side of a sample's token: about a line


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
    n_examples: int
    n_clusters: int
    data_digest: str

    @property
    def name(self) -> str:
        """How to call it in a sentence."""
        of = f"{self.target.name} of network {self.target.network.name}"
        return f"clustering {self.clustering_id} ({of}, {self.space})"

    @property
    def current(self) -> bool:
        """Whether the target still holds exactly what was clustered."""
        return data_digest(self.target, self.space) == self.data_digest


def clusterings(atlas: Atlas) -> pd.DataFrame:
    """Every clustering with its parameters, oldest first.

    ``exact`` is False where the hierarchy was made from some ``neighbors`` of each example; ``proven`` is then the
    share of its spanning tree that is surely minimal. ``current`` is False where examples were added to the target
    since: cluster again to include them.
    """
    frame = atlas.frame(
        """
        select
            clustering_id, networks.name as network, target, space, metric, min_cluster_size, min_samples, selection,
            algorithm, exact, neighbors, proven, n_examples, n_clusters, n_noise, purity
        from clusterings join networks using (network_id)
        order by clustering_id
        """
    )
    frame["current"] = [_load(atlas, number).current for number in frame["clustering_id"].tolist()]
    return frame


def clusters(
    atlas: Atlas,
    clustering: int | None = None,
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
    samples: int = 3,
) -> pd.DataFrame:
    """The clusters of one clustering: the one with that id, or the newest of the site or span in ``space``.

    Columns: label, name and note (given by a person, see `query.clustering.names`), size, persistence, purity,
    top_label, entropy, medoid (example id), medoid_token and medoid_context, or medoid_key of an image, and samples:
    short strings of the ``samples`` strongest members that read differently. ``frame.attrs``: clustering, network,
    target, space, metric, current.

    Raises `UnknownName` where there is no such clustering, `UsageError`.
    """
    if not isinstance(samples, Integral) or samples < 0:
        raise UsageError(f"samples is {samples!r}; expected a whole number of at least 0")
    found = asked_clustering(atlas, clustering, site, span, network, space)
    frame = atlas.frame(
        """
        select label, name, note, size, persistence, purity, top_label, entropy, medoid
        from named_clusters
        where clustering_id = $1
        order by label
        """,
        [found.clustering_id],
    )
    medoids = describe(atlas, found.target.network, frame["medoid"].tolist())
    shown = ["token", "context"] if found.target.network.kind == "text" else ["key"]
    for column in shown:
        frame[f"medoid_{column}"] = medoids[column]
    frame["samples"] = _samples(atlas, found, frame["label"].tolist(), int(samples))
    frame.attrs.update(_attributes(found))
    return frame


def members(
    atlas: Atlas,
    cluster: int,
    clustering: int | None = None,
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
    limit: int | None = None,
    offset: int = 0,
) -> pd.DataFrame:
    """The examples in a cluster, strongest membership first, then by id; cluster -1 is the noise.

    ``limit`` and ``offset`` page through them. Columns: example_id, probability, and what `nearest` shows of an
    example. ``frame.attrs`` as in `clusters`, with ``size``, the number of members.

    Raises `UnknownName` where there is no such clustering or cluster, `UsageError`.
    """
    for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
        if value is not None and (not isinstance(value, Integral) or value < least):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}")
    found = asked_clustering(atlas, clustering, site, span, network, space)
    if not isinstance(cluster, Integral) or not NOISE <= cluster < found.n_clusters:
        raise UnknownName(
            f"no cluster {cluster!r} in {found.name}; it has {found.n_clusters} clusters, numbered from 0, and "
            f"{NOISE} for noise"
        )
    chosen = atlas.frame(
        """
        select example_id, probability
        from cluster_labels
        where clustering_id = $1 and label = $2
        order by probability desc, example_id
        limit $3 offset $4
        """,
        [found.clustering_id, int(cluster), _whole_limit(limit, found), int(offset)],
    )
    frame = describe(atlas, found.target.network, chosen["example_id"].to_numpy(np.int64))
    frame.insert(1, "probability", chosen["probability"])
    size = atlas.value(
        "select count(*) from cluster_labels where clustering_id = $1 and label = $2",
        [found.clustering_id, int(cluster)],
    )
    frame.attrs.update(_attributes(found), cluster=int(cluster), size=size)
    return frame


def find_clustering(atlas: Atlas, clustering: int, target: Target | None = None) -> Clustering:
    """The clustering of that id; with a target, one whose labels its examples can bear: of the same network."""
    found = _load(atlas, clustering)
    if target is not None and found.target.network.name != target.network.name:
        raise UsageError(
            f"{found.name} is of network {found.target.network.name}, but the question is about "
            f"{target.network.name}; `polytope clusters {atlas.path}` lists clusterings"
        )
    return found


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
        found = find_clustering(atlas, clustering, target)
        if found.target.name != target.name:
            raise UsageError(f"{found.name} is not of {target.name}; give its id alone, or the site or span alone")
        return found
    newest = latest_clustering(atlas, target, (space,))
    if newest is None:
        option = "--span" if is_span(target) else "--site"
        raise UnknownName(
            f"no clustering of {target.name} of network {target.network.name} in {space}; "
            f"`polytope cluster {atlas.path} {option} '{target.name}' --space {space}` makes one"
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
        found = _load(atlas, clustering)
        if network not in (None, found.target.network.name):
            raise UsageError(f"{found.name} is not of network {network}; give its id alone")
        return found
    if clustering is None and site is None and span is None:
        raise UsageError("name a clustering by its id, or a site or span; `polytope clusters` lists clusterings")
    return clustering_of(atlas, atlas.catalog.target(site=site, span=span, network=network), clustering, space)


def _load(atlas: Atlas, clustering: object) -> Clustering:
    if not isinstance(clustering, Integral) or isinstance(clustering, bool):
        raise UsageError(f"a clustering is named by its id, a whole number, got {clustering!r}")
    rows = atlas.records(
        """
        select
            clustering_id, networks.name as network, target, space, metric, min_cluster_size, min_samples, selection,
            exact, n_examples, n_clusters, data_digest
        from clusterings join networks using (network_id)
        where clustering_id = $1
        """,
        [int(clustering)],
    )
    if not rows:
        held = ", ".join(
            str(number) for (number,) in atlas.rows("select clustering_id from clusterings order by all")
        )
        raise UnknownName(f"no clustering {clustering} in {atlas.path}; it holds {held or 'none'}")
    row = rows[0]
    # A name with an arrow in it is read as a span's.
    target = atlas.catalog.target(site=row.pop("target"), network=row.pop("network"))
    return Clustering(target=target, **row)


def _whole_limit(limit: int | None, found: Clustering) -> int:
    return found.n_examples if limit is None else int(limit)


def _samples(atlas: Atlas, found: Clustering, labels: list[int], count: int) -> list[list[str]]:
    """For each cluster short strings of its strongest members, no two alike."""
    if count == 0:
        return [[] for _ in labels]
    query = _TEXT_SAMPLES if found.target.network.kind == "text" else _IMAGE_SAMPLES
    chosen = atlas.frame(query, [found.clustering_id, count])
    if found.target.network.kind == "text":
        chosen["shown"] = [
            in_context(context, offset, token)
            for context, offset, token in zip(
                chosen["context"], chosen["context_offset"], chosen["token"], strict=True
            )
        ]
    shown = chosen.groupby("label")["shown"].agg(list).to_dict()
    return [shown.get(label, []) for label in labels]


_TEXT_SAMPLES = """
with distinct_ones as (
    select cluster as label, token, context, context_offset, max(probability) as strength, min(example_id) as first
    from cluster_members
    where clustering_id = $1 and cluster >= 0
    group by all
)
from distinct_ones
qualify row_number() over (partition by label order by strength desc, first) <= $2
order by label, strength desc, first
"""

_IMAGE_SAMPLES = """
with keys as (
    select cluster_labels.label, cluster_labels.probability, example_id,
           arg_min(dataset_inputs.key, dataset_inputs.ordinal) as shown
    from cluster_labels
    join examples using (example_id)
    join runs using (run_id)
    join dataset_inputs using (dataset_id, input_id)
    where clustering_id = $1 and cluster_labels.label >= 0
    group by all
)
from keys
qualify row_number() over (partition by label order by probability desc, example_id) <= $2
order by label, probability desc, example_id
"""


def in_context(context: str, offset: int, token: str) -> str:
    """A token among the characters around it, on one line, marked: ``the bank of the «river» was``."""
    end = offset + len(token)
    around = context[max(0, offset - SAMPLE_BEFORE) : offset], context[end : end + SAMPLE_AFTER]
    return f"{around[0]}«{token}»{around[1]}".replace("\n", "⏎")


def _attributes(found: Clustering) -> dict[str, object]:
    return {
        "clustering": found.clustering_id,
        "network": found.target.network.name,
        "target": found.target.name,
        "space": found.space,
        "metric": found.metric,
        "current": found.current,
    }
