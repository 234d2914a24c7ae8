"""The clusters of a clustering, and the members of one."""

from __future__ import annotations

import numpy as np
import pandas as pd

from atlas import Atlas, hamming
from atlas.checks import check_page, whole
from atlas.errors import UnknownName, UsageError

from ..examples.description import describe
from ..examples.ids import checked_id
from ..examples.kinds import EXAMPLES
from ..examples.labels import label_note
from ..pairs.density import euclidean
from .clusterings import NOISE, Clustering, asked_clustering, find_clustering
from .made_names import made_names


def clusters(
    atlas: Atlas,
    *,
    clustering: int | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
    samples: int = 3,
) -> pd.DataFrame:
    """The clusters of one clustering.

    Args:
        atlas: an open atlas.
        clustering: its id, or
        site: the site, or
        span: the span whose newest clustering is meant.
        network: its network, where several have such a one.
        space: codes or activations, where the clustering is not named.
        samples: how many strings to show of each cluster.

    Returns:
        A row a cluster: label, name and note (given by a person, see `name_cluster`), made_name (see `made_names`),
        size, n_placed (how many of them were placed in the finished clustering), persistence, purity, top_label,
        entropy, medoid (example id), medoid_token and medoid_context of a text or medoid_key of an image, and
        samples: short strings of the strongest members that read differently.
        ``frame.attrs``: clustering, network, target, space, metric, current, note (what to know of an approximate
        clustering, else None), label_note (whose labels purity goes by, where datasets give an input several).

    Raises:
        UnknownName: for a clustering, site or span that is not there.
        UsageError: for impossible parameters.
    """
    samples = whole("samples", samples, 0)
    record = asked_clustering(atlas, clustering, site, span, network, space)
    frame = atlas.frame(
        """
        select label, name, note, size, n_placed, persistence, purity, top_label, entropy, medoid
        from named_clusters
        where clustering_id = $1
        order by label
        """,
        [record.clustering_id],
    )
    frame.insert(3, "made_name", made_names(atlas, clustering=record.clustering_id)["made_name"])
    medoids = describe(atlas, record.target.network, frame["medoid"].tolist())
    for column in EXAMPLES[record.target.network.kind].medoid:
        frame[f"medoid_{column}"] = medoids[column]
    frame["samples"] = _samples(atlas, record, frame["label"].tolist(), int(samples))
    frame.attrs.update(_attributes(record), label_note=label_note(atlas))
    return frame


def members(
    atlas: Atlas,
    *,
    clustering: int | None = None,
    cluster: int,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
    limit: int | None = None,
    offset: int = 0,
    after: int | None = None,
) -> pd.DataFrame:
    """The examples in a cluster, strongest membership first, then by id.

    Args:
        atlas: an open atlas.
        clustering: its id, or
        site: the site, or
        span: the span whose newest clustering is meant.
        network: its network, where several have such a one.
        space: codes or activations, where the clustering is not named.
        cluster: its number; -1 is the noise.
        limit: at most so many; None for all.
        offset: leave out so many before.
        after: leave out this member and all before it: the last one of a page, for the next.

    Returns:
        A row an example: example_id, probability (strength of membership, 0 to 1), placed (whether it was placed in
        the finished clustering), and what `nearest` shows of an example. ``frame.attrs`` as of
        `clusters`, with size: the number of members.

    Raises:
        UnknownName: for a clustering or a cluster that is not there, or a member that is none.
        UsageError: for impossible parameters.
    """
    check_page(limit, offset)
    record = asked_clustering(atlas, clustering, site, span, network, space)
    cluster = record.check(cluster)
    strength = None if after is None else _strength(atlas, record, cluster, after)
    chosen = atlas.frame(
        """
        select example_id, probability, placed
        from cluster_labels
        where clustering_id = $1 and label = $2
            and ($5::double is null or probability < $5::double or (probability = $5::double and example_id > $6))
        order by probability desc, example_id
        limit $3 offset $4
        """,
        [
            *(record.clustering_id, cluster, record.n_examples if limit is None else int(limit), int(offset)),
            *(strength, after),
        ],
    )
    frame = describe(atlas, record.target.network, chosen["example_id"].to_numpy(np.int64))
    frame.insert(1, "probability", chosen["probability"])
    frame.insert(2, "placed", chosen["placed"])
    frame.attrs.update(_attributes(record), cluster=cluster, size=cluster_size(atlas, record, cluster))
    return frame


def _strength(atlas: Atlas, record: Clustering, cluster: int, member: int) -> float:
    """How strongly a member belongs to a cluster."""
    strength = atlas.value(
        "select probability from cluster_labels where clustering_id = $1 and label = $2 and example_id = $3",
        [record.clustering_id, cluster, checked_id(member)],
    )
    if strength is None:
        raise UnknownName(f"example {member} is no member of cluster {cluster} of {record.name}")
    return float(strength)


def _samples(atlas: Atlas, record: Clustering, labels: list[int], count: int) -> list[list[str]]:
    """For each cluster short strings of its strongest members, no two alike."""
    if count == 0:
        return [[] for _ in labels]
    kind = EXAMPLES[record.target.network.kind]
    chosen = atlas.frame(kind.samples, [record.clustering_id, count])
    chosen["shown"] = [kind.sample(row) for row in chosen.itertuples()]
    shown = chosen.groupby("label")["shown"].agg(list).to_dict()
    return [shown.get(label, []) for label in labels]


def _attributes(record: Clustering) -> dict[str, object]:
    return {
        "clustering": record.clustering_id,
        "network": record.target.network.name,
        "target": record.target.name,
        "space": record.space,
        "metric": record.metric,
        "current": record.current,
        "note": record.approximation or None,
    }


COUNTED = ("label", "token", "prediction")
"""What members of a cluster can be counted by: columns of the table examples."""


def member_counts(atlas: Atlas, *, clustering: int, cluster: int, by: str = "label", limit: int = 25) -> pd.DataFrame:
    """How many members of a cluster bear each label, token or prediction, commonest first, against all clustered.

    Args:
        atlas: an open atlas.
        clustering: its id.
        cluster: its number; -1 is the noise.
        by: label, token or prediction.
        limit: at most so many rows.

    Returns:
        A row a value: value (None where there is none), n, n_all (of all clustered examples, noise included), share
        (n over the cluster's size), lift = share / (n_all / all): how many times as common as in the whole.
        ``frame.attrs``: size, n_examples, n_values (how many different values the members have).

    Raises:
        UnknownName: for a clustering or a cluster that is not there.
        UsageError: for another ``by``.
    """
    if by not in COUNTED:
        raise UsageError(f"by is {by!r}; expected {', '.join(COUNTED)}")
    record = clustering_with(atlas, clustering, cluster)
    frame = atlas.frame(
        f"""
        with counted as (
            select
                examples.{by} as value, count(*) filter (cluster_labels.label = $2) as n, count(*) as n_all
            from cluster_labels join examples using (example_id)
            where clustering_id = $1
            group by examples.{by}
        )
        select value, n::bigint as n, n_all, count(*) over () as n_values, sum(n) over ()::bigint as size
        from counted
        where n > 0
        order by n desc, n_all, value nulls last
        limit $3
        """,
        [record.clustering_id, int(cluster), int(limit)],
    )
    size, n_values = (int(frame[name].iloc[0]) if len(frame) else 0 for name in ("size", "n_values"))
    frame = frame.drop(columns=["n_values", "size"])
    frame["share"] = frame["n"] / size
    frame["lift"] = frame["share"] / (frame["n_all"] / record.n_examples)
    frame.attrs.update(size=size, n_examples=record.n_examples, n_values=n_values)
    return frame


def near_clusters(atlas: Atlas, *, clustering: int, cluster: int, k: int = 10) -> pd.DataFrame:
    """The clusters of the same clustering whose medoids are nearest to that of a cluster, nearest first.

    Args:
        atlas: an open atlas.
        clustering: its id.
        cluster: its number.
        k: at most so many.

    Returns:
        A row a cluster: cluster, name, distance (gates that differ; of activations the Euclidean distance), size,
        purity, top_label, medoid (example id). ``frame.attrs``: n_gates (None for activations), n_clusters.

    Raises:
        UnknownName: for a clustering or a cluster that is not there.
        UsageError: for the noise, which has no medoid.
    """
    record = clustering_with(atlas, clustering, cluster)
    if cluster == NOISE:
        raise UsageError("the noise has no medoid; name a cluster, from 0")
    frame = atlas.frame(
        """
        select label as cluster, name, size, purity, top_label, medoid
        from named_clusters where clustering_id = $1 order by label
        """,
        [record.clustering_id],
    )
    medoids = frame["medoid"].to_numpy(np.int64)
    if record.space == "codes":
        _, codes = atlas.codes(record.target.sites, medoids)
        frame.insert(2, "distance", hamming(codes, codes[[int(cluster)]]).astype(np.int64))
    else:
        _, points = atlas.activations(record.target.sites[0], medoids)
        frame.insert(2, "distance", euclidean(points[[int(cluster)]], points))
    others = frame[frame["cluster"] != cluster].sort_values(["distance", "cluster"], kind="stable")
    others = others.head(k).reset_index(drop=True)
    n_gates = record.target.n_gates if record.space == "codes" else None
    others.attrs.update(n_gates=n_gates, n_clusters=record.n_clusters)
    return others


def clustering_with(atlas: Atlas, clustering: int, cluster: int) -> Clustering:
    record = find_clustering(atlas, clustering)
    record.check(cluster)
    return record


def cluster_size(atlas: Atlas, record: Clustering, cluster: int) -> int:
    size = atlas.value(
        "select count(*) from cluster_labels where clustering_id = $1 and label = $2",
        [record.clustering_id, int(cluster)],
    )
    return int(size)
