"""Where the members of a cluster lie in other clusterings, and one example at every site."""

from __future__ import annotations

from itertools import pairwise

import pandas as pd

from atlas import Atlas
from atlas.errors import UsageError

from ..examples.ids import checked_id, network_of
from .clusterings import SPACES, Clustering, find_clustering
from .clusters import cluster_size, clustering_with


def member_flow(
    atlas: Atlas, *, clustering: int, cluster: int, steps: int = 3, backwards: bool = False
) -> pd.DataFrame:
    """Where the members of a cluster lie at the next clustered sites, or at those before.

    Of each site of the same scope its newest clustering in the same space counts. Members that a clustering does not
    hold, because they came after it, are left out of its steps.

    Args:
        atlas: an open atlas.
        clustering: its id.
        cluster: its number; -1 is the noise.
        steps: how many sites.
        backwards: the sites before, in place of those after.

    Returns:
        A row a flow: step (from 0), from_site, from_clustering, from_cluster, to_site, to_clustering, to_cluster (-1
        is noise), n. Empty where there is no such site. ``frame.attrs``: size (members of the cluster).

    Raises:
        UnknownName: for a clustering or a cluster that is not there.
    """
    record = clustering_with(atlas, clustering, cluster)
    stages = [(record.target.name, record.clustering_id), *_stages(atlas, record, steps, backwards)]
    frames = []
    for step, ((source, first), (destination, second)) in enumerate(pairwise(stages)):
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
            [record.clustering_id, int(cluster), first, second],
        )
        counted["step"], counted["from_site"], counted["to_site"] = step, source, destination
        counted["from_clustering"], counted["to_clustering"] = first, second
        frames.append(counted)
    columns = ["step", "from_site", "from_clustering", "from_cluster", "to_site", "to_clustering", "to_cluster", "n"]
    whole = pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
    whole.attrs.update(size=cluster_size(atlas, record, cluster))
    return whole


def _stages(atlas: Atlas, record: Clustering, steps: int, backwards: bool) -> list[tuple[str, int]]:
    """Names of the clustered sites after the last site of the target, or before the first, and their clusterings."""
    sites = record.target.sites
    edge = sites[0].ordinal if backwards else sites[-1].ordinal
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
        [record.target.network.network_id, sites[0].scope, record.space, backwards, edge, int(steps)],
    )
    return [(str(name), int(number)) for name, number in rows]


def fate(atlas: Atlas, *, clustering: int, cluster: int, other: int) -> pd.DataFrame:
    """In which clusters of another clustering of the same network the members of a cluster lie, most first.

    Args:
        atlas: an open atlas.
        clustering: its id.
        cluster: its number; -1 is the noise.
        other: id of the other clustering.

    Returns:
        A row a cluster of the other: cluster (-1 is noise), name, n, share (n over the members that both clusterings
        hold), size (of the other cluster), overlap = n / (members of either): 1 where the two are the same, 0 where
        they share nothing. ``frame.attrs``: size, n_both.

    Raises:
        UnknownName: for a clustering or a cluster that is not there.
        UsageError: for a clustering of another network.
    """
    record = clustering_with(atlas, clustering, cluster)
    second = find_clustering(atlas, other, record.target)
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
        [record.clustering_id, int(cluster), second.clustering_id],
    )
    size, n_both = cluster_size(atlas, record, cluster), int(frame["n"].sum())
    frame.insert(3, "share", frame["n"] / n_both)
    frame["overlap"] = frame["n"] / (size + frame["size"] - frame["n"])
    frame.attrs.update(size=size, n_both=n_both)
    return frame


def cluster_path(atlas: Atlas, example: int, space: str = "codes") -> pd.DataFrame:
    """In which cluster an example lies at every site, from input to output, position sites first.

    Args:
        atlas: an open atlas.
        example: id of a stored example.
        space: codes or activations; of each site its newest clustering in it counts.

    Returns:
        A row a site: site, scope, clustering (its id), cluster (-1 is noise, <NA> where the site is not clustered or
        the example came later), name (given by a person), probability (strength of membership, 0 to 1), size, purity
        and top_label of the cluster.

    Raises:
        UnknownName: for an example that is not there.
        UsageError: for an unknown space.
    """
    if space not in SPACES:
        raise UsageError(f"space is {space!r}; expected {' or '.join(SPACES)}")
    network = atlas.catalog.network(network_of(atlas, example))
    frame = atlas.frame(
        """
        with newest as (
            select target, max(clustering_id) as clustering_id
            from clusterings where network_id = $1 and space = $2
            group by target
        ),
        placed as (select clustering_id, label, probability from cluster_labels where example_id = $3)
        select
            sites.name as site, scope, newest.clustering_id as clustering, placed.label as cluster,
            named_clusters.name, placed.probability, size, purity, top_label
        from sites
        left join newest on newest.target = sites.name
        left join placed using (clustering_id)
        left join named_clusters
            on named_clusters.clustering_id = newest.clustering_id and named_clusters.label = placed.label
        where network_id = $1 and n_codes > 0
        order by scope desc, ordinal
        """,
        [network.network_id, space, checked_id(example)],
    )
    return frame.astype(dict.fromkeys(("clustering", "cluster", "size"), "Int64"))
