"""What an atlas holds, as a table each."""

from __future__ import annotations

import pandas as pd

from atlas import Atlas, Span

from .clusters import clusterings


def info(atlas: Atlas, *, polytopes: bool = False) -> dict[str, pd.DataFrame]:
    """Tables by name: networks, sites, spans, datasets, runs, clusterings, indexes.

    ``polytopes`` adds the number of distinct codes to each site, which reads all codes; the rest is cheap.
    """
    sites = _sites(atlas)
    if polytopes:
        sites["n_polytopes"] = _polytopes(atlas).reindex(sites["site_id"]).fillna(0).astype("int64").to_numpy()
    return {
        "networks": _networks(atlas),
        "sites": sites.drop(columns="site_id"),
        "spans": _spans(atlas),
        "datasets": _datasets(atlas),
        "runs": _runs(atlas),
        "clusterings": clusterings(atlas),
        "indexes": _indexes(atlas),
    }


def _networks(atlas: Atlas) -> pd.DataFrame:
    return atlas.frame(
        """
        with counts as (select network_id, count(*) as n_examples from examples group by network_id)
        select
            name, kind, architecture, source, weights, weights_digest, reading,
            coalesce(n_examples, 0) as n_examples
        from networks left join counts using (network_id)
        order by network_id
        """
    )


def _sites(atlas: Atlas) -> pd.DataFrame:
    return atlas.frame(
        """
        select
            site_id, networks.name as network, sites.name as site, ordinal, scope, n_units, n_gates, nonlinearity,
            exact, n_codes, n_activations
        from sites join networks using (network_id)
        order by network_id, scope desc, ordinal
        """
    )


def _polytopes(atlas: Atlas) -> pd.Series:
    counts = atlas.frame("select site_id, count(distinct code) as n_polytopes from codes group by site_id")
    return counts.set_index("site_id")["n_polytopes"]


def _spans(atlas: Atlas) -> pd.DataFrame:
    """The spans that were asked for by name; any other can be queried too."""
    rows = []
    for network, name in atlas.catalog.spans:
        sites = Span.parse(name).resolve(atlas.catalog.sites_of(atlas.catalog.network(network)))
        rows.append((network, name, len(sites), sum(s.n_gates for s in sites), all(s.exact for s in sites)))
    return pd.DataFrame(rows, columns=["network", "span", "n_sites", "n_gates", "exact"])


def _datasets(atlas: Atlas) -> pd.DataFrame:
    return atlas.frame(
        """
        select
            name, datasets.kind, source, n_inputs,
            count(distinct label) as n_labels,
            count(*) filter (where ordinal is not null and label is null) as n_unlabelled
        from datasets left join dataset_inputs using (dataset_id)
        group by dataset_id, name, datasets.kind, source, n_inputs
        order by dataset_id
        """
    )


def _runs(atlas: Atlas) -> pd.DataFrame:
    return atlas.frame(
        """
        select
            runs.name as run, networks.name as network, datasets.name as dataset, n_examples, n_bad, started_at,
            published_at
        from runs join networks using (network_id) join datasets using (dataset_id)
        order by run_id
        """
    )


def _indexes(atlas: Atlas) -> pd.DataFrame:
    return atlas.frame(
        """
        select networks.name as network, target, indexes.kind, file, n_codes, recall
        from indexes join networks using (network_id)
        order by network_id, target, indexes.kind <> 'flat'
        """
    )
