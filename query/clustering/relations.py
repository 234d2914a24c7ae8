"""A cluster from all sides: what its members are, which clusters lie near, and where its members lie elsewhere."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from atlas import Atlas, hamming
from atlas.errors import UnknownName, UsageError

from ..pairs.density import euclidean
from .stored import NOISE, Clustering, find_clustering

COUNTED = ("label", "token", "prediction")
"""What members of a cluster can be counted by: columns of the table examples."""


def member_counts(atlas: Atlas, clustering: int, cluster: int, by: str = "label", limit: int = 25) -> pd.DataFrame:
    """How many members bear each label, token or prediction, commonest first, against the whole clustering.

    Columns: value (None where there is none), n, n_all (of all clustered examples, noise included), share (n over the
    cluster's size), lift = share / (n_all / all): how many times as common as in the whole. At most ``limit`` rows;
    ``frame.attrs``: size, n_examples, n_values (how many different values the members have).

    Raises `UnknownName` where there is no such clustering or cluster (-1 is the noise), `UsageError`.
    """
    if by not in COUNTED:
        raise UsageError(f"by is {by!r}; expected {', '.join(COUNTED)}")
    found = _held(atlas, clustering, cluster)
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
        [found.clustering_id, int(cluster), int(limit)],
    )
    size, n_values = (int(frame[name].iloc[0]) if len(frame) else 0 for name in ("size", "n_values"))
    frame = frame.drop(columns=["n_values", "size"])
    frame["share"] = frame["n"] / size
    frame["lift"] = frame["share"] / (frame["n_all"] / found.n_examples)
    frame.attrs.update(size=size, n_examples=found.n_examples, n_values=n_values)
    return frame


def near_clusters(atlas: Atlas, clustering: int, cluster: int, k: int = 10) -> pd.DataFrame:
    """The clusters of the same clustering whose medoids are nearest to that of a cluster, nearest first.

    Columns: cluster, name, distance (gates that differ; of activations the Euclidean distance), size, purity,
    top_label, medoid. ``frame.attrs``: n_gates (None for activations), n_clusters.

    Raises `UnknownName`; `UsageError` for the noise, which has no medoid.
    """
    found = _held(atlas, clustering, cluster)
    if cluster == NOISE:
        raise UsageError("the noise has no medoid; name a cluster, from 0")
    frame = atlas.frame(
        """
        select label as cluster, name, size, purity, top_label, medoid
        from named_clusters where clustering_id = $1 order by label
        """,
        [found.clustering_id],
    )
    medoids = frame["medoid"].to_numpy(np.int64)
    if found.space == "codes":
        _, codes = atlas.codes(found.target.sites, medoids)
        frame.insert(2, "distance", hamming(codes, codes[[int(cluster)]]).astype(np.int64))
    else:
        _, points = atlas.activations(found.target.sites[0], medoids)
        frame.insert(2, "distance", euclidean(points[[int(cluster)]], points))
    others = frame[frame["cluster"] != cluster].sort_values(["distance", "cluster"], kind="stable")
    others = others.head(k).reset_index(drop=True)
    n_gates = found.target.n_gates if found.space == "codes" else None
    others.attrs.update(n_gates=n_gates, n_clusters=found.n_clusters)
    return others


def member_flow(
    atlas: Atlas, clustering: int, cluster: int, *, steps: int = 3, backwards: bool = False
) -> pd.DataFrame:
    """Where the members of a cluster lie at the next ``steps`` clustered sites; ``backwards``: at those before.

    Of each site of the same scope its newest clustering in the same space. Columns: step (from 0), from_site,
    from_clustering, from_cluster, to_site, to_clustering, to_cluster (-1 is noise), n. Members that a clustering does
    not hold (they came after it) are left out of its steps. ``frame.attrs``: size. Empty where there is no such site.

    Raises `UnknownName` where there is no such clustering or cluster.
    """
    found = _held(atlas, clustering, cluster)
    stages = [(found.target.name, found.clustering_id), *_stages(atlas, found, steps, backwards)]
    frames = []
    for step, ((here, first), (there, second)) in enumerate(pairwise(stages)):
        counted = atlas.frame(
            """
            with inside as (select example_id from cluster_labels where clustering_id = $1 and label = $2)
            select one.label as from_cluster, other.label as to_cluster, count(*) as n
            from inside
            join cluster_labels as one on one.example_id = inside.example_id and one.clustering_id = $3
            join cluster_labels as other on other.example_id = inside.example_id and other.clustering_id = $4
            group by all
            order by n desc, from_cluster, to_cluster
            """,
            [found.clustering_id, int(cluster), first, second],
        )
        counted["step"], counted["from_site"], counted["to_site"] = step, here, there
        counted["from_clustering"], counted["to_clustering"] = first, second
        frames.append(counted)
    columns = ["step", "from_site", "from_clustering", "from_cluster", "to_site", "to_clustering", "to_cluster", "n"]
    whole = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    whole.attrs.update(size=_size(atlas, found, cluster))
    return whole


def _stages(atlas: Atlas, found: Clustering, steps: int, backwards: bool) -> list[tuple[str, int]]:
    """Names of the clustered sites after the last site of the target, or before the first, and their clusterings."""
    scope, last, first = (found.target.sites[0].scope, found.target.sites[-1].ordinal, found.target.sites[0].ordinal)
    rows = atlas.rows(
        """
        select sites.name, max(clustering_id)
        from sites join clusterings on clusterings.network_id = sites.network_id and target = sites.name
        where sites.network_id = $1 and scope = $2 and space = $3
            and case when $4 then ordinal < $5 else ordinal > $5 end
        group by sites.name, ordinal
        order by case when $4 then -ordinal::bigint else ordinal end
        limit $6
        """,
        [found.target.network.network_id, scope, found.space, backwards, first if backwards else last, int(steps)],
    )
    return [(str(name), int(number)) for name, number in rows]


def fate(atlas: Atlas, clustering: int, cluster: int, other: int) -> pd.DataFrame:
    """In which clusters of another clustering of the same network the members of a cluster lie, most first.

    Columns: cluster (of the other, -1 is noise), name, n, share (n over the members that both clusterings hold), size
    (of the other cluster), overlap = n / (members of either): 1 where the two are the same, 0 where they share
    nothing. ``frame.attrs``: size, n_both.

    Raises `UnknownName`, `UsageError` for a clustering of another network.
    """
    found = _held(atlas, clustering, cluster)
    second = find_clustering(atlas, other, found.target)
    frame = atlas.frame(
        """
        with inside as (select example_id from cluster_labels where clustering_id = $1 and label = $2),
        sizes as (select label, count(*) as size from cluster_labels where clustering_id = $3 group by label)
        select
            cluster_labels.label as cluster, any_value(name) as name, count(*) as n, any_value(sizes.size) as size
        from inside
        join cluster_labels using (example_id)
        join sizes using (label)
        left join named_clusters
            on named_clusters.clustering_id = $3 and named_clusters.label = cluster_labels.label
        where cluster_labels.clustering_id = $3
        group by cluster_labels.label
        order by n desc, cluster_labels.label
        """,
        [found.clustering_id, int(cluster), second.clustering_id],
    )
    size, n_both = _size(atlas, found, cluster), int(frame["n"].sum())
    frame.insert(3, "share", frame["n"] / n_both)
    frame["overlap"] = frame["n"] / (size + frame["size"] - frame["n"])
    frame.attrs.update(size=size, n_both=n_both)
    return frame


def _held(atlas: Atlas, clustering: int, cluster: int) -> Clustering:
    found = find_clustering(atlas, clustering)
    if not NOISE <= cluster < found.n_clusters:
        raise UnknownName(
            f"no cluster {cluster} in {found.name}; it has {found.n_clusters} clusters, numbered from 0, and {NOISE} "
            "for noise"
        )
    return found


def _size(atlas: Atlas, found: Clustering, cluster: int) -> int:
    size = atlas.value(
        "select count(*) from cluster_labels where clustering_id = $1 and label = $2",
        [found.clustering_id, int(cluster)],
    )
    return int(size)
