"""What an atlas holds, as a table each."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from atlas import Atlas, Span

from ..clustering.clusterings import clusterings


def info(atlas: Atlas, *, polytopes: bool = False) -> dict[str, pd.DataFrame]:
    """What an atlas holds.

    Args:
        atlas: an open atlas.
        polytopes: add the number of distinct codes to each site, which reads all codes; the rest is cheap.

    Returns:
        Tables by name: networks, sites, spans, datasets, runs, clusterings, indexes.
    """
    sites = _sites(atlas)
    if polytopes:
        found = polytope_counts(atlas).set_index(["network", "site"])["n_polytopes"]
        places = pd.MultiIndex.from_frame(sites[["network", "site"]])
        sites["n_polytopes"] = found.reindex(places).fillna(0).astype("int64").to_numpy()
    return {
        "networks": _networks(atlas),
        "sites": sites,
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
            networks.name as network, sites.name as site, ordinal, scope, n_units, n_gates, nonlinearity,
            exact, broken_by, bypassed_by, n_codes, n_activations
        from sites join networks using (network_id)
        order by network_id, scope desc, ordinal
        """
    )


def polytope_counts(
    atlas: Atlas, network: str | None = None, *, progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """How many polytopes the examples lie in, a row a site with codes, of one network or of all.

    Columns: network, site, n_codes, n_polytopes (distinct codes), occupancy (polytopes over examples: 1 where every
    example has one to itself). Reads all codes, a site after the other; ``progress`` is told (sites done, sites).
    Raises `UnknownName`.
    """
    if network is not None:
        atlas.catalog.network(network)
    sites = [site for site in atlas.catalog.sites if site.n_codes and network in (None, site.network)]
    rows = []
    for done, site in enumerate(sites):
        if progress is not None:
            progress(done, len(sites))
        found = int(atlas.value(_DISTINCT, [site.site_id]))
        rows.append((site.network, site.name, site.n_codes, found, found / site.n_codes))
    return pd.DataFrame(rows, columns=["network", "site", "n_codes", "n_polytopes", "occupancy"])


_DISTINCT = """
with counted as (select code_hash, count(*) as n from codes where site_id = $1 group by code_hash)
select
    (select count(*) from counted where n = 1)
    + (
        select count(distinct code) from codes
        where site_id = $1 and code_hash in (select code_hash from counted where n > 1)
    )
"""
"""Distinct codes. Equal codes have equal hashes, so only those whose hash occurs again need be compared: where nearly
every example has a polytope to itself, that is a tenth of the time."""


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
        select networks.name as network, target, indexes.kind, file, n_codes, recall, recall_in_order
        from indexes join networks using (network_id)
        order by network_id, target, indexes.kind <> 'flat'
        """
    )
