"""Networks of the same sites over the same inputs: checkpoints, a model and its fine-tunes (SCIENCE 16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas import Atlas, hamming
from atlas.checks import whole
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.store.catalog import NetworkRecord, SiteRecord

from ..clustering.clusterings import Clustering, latest_clustering
from ..notebook import Shown
from ..notes import Notes
from ..progress import Progress, tell
from ..statistics import mean_interval
from .fates import fates

FATES = ("stays", "splits", "merges", "dies", "undecided", "born")
"""What becomes of clusters, in the order of the counts of `Comparison.steps`."""


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """Networks step by step: each beside the one before it. A step is numbered from 1, from ``before`` to ``after``.

    ``steps``: a row a step and site: step, before, after, site, n_gates, flips (mean gates of an example in which its
    codes differ) with flips_low and flips_high, share (flips over n_gates), unchanged (share of the examples whose
    code is the same), since_first (mean gates that differ from the first network), and how many clusters stays,
    splits, merges, dies, undecided and born have for a fate (<NA> where one of the two is not clustered).

    ``examples``: a row a step and example, those that move most first: step, example_before and example_after (ids),
    input_id, position, token, label, prediction_before, prediction_after, flips (gates of all sites), share, and
    ``flips:SITE`` for each site.

    ``clusters``: a row a step, site and cluster: step, site, clustering_before, clustering_after, cluster (of the
    former; <NA> where one is born), fate, into (clusters of the latter), size (members among the examples compared),
    n_into (of them in ``into``), overlap (the largest n / members of either), expected (its mean where the latter's
    clusters mean nothing) and p (how often it is as large there).

    ``density``: a row a network and span of stored density experiments: network, span, ratio (boundaries a unit of
    distance between classes over within; SCIENCE 4), ratio_low, ratio_high, experiment_id.
    """

    networks: tuple[str, ...]
    sites: tuple[str, ...]
    n_examples: int
    n_inputs: int
    steps: pd.DataFrame
    examples: pd.DataFrame
    clusters: pd.DataFrame
    density: pd.DataFrame
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Matched:
    """Examples that all networks read: ``ids`` has a column a network; ``about`` a row an example."""

    ids: Int64[np.ndarray, "examples networks"]
    inputs: Int64[np.ndarray, " examples"]
    about: pd.DataFrame


def compare(
    atlas: Atlas,
    *,
    networks: Sequence[str] | None = None,
    sites: Sequence[str] | None = None,
    k: int | None = 20,
    permutations: int = 199,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """What changes from each network to the next, where all have the same sites and read the same inputs.

    Examples are matched by input and place: position and token of a text, row and column of an image. Clusterings are
    the newest of codes of each network and site.

    Args:
        atlas: an open atlas.
        networks: names, in order; by default all of the atlas, as they were ingested.
        sites: names; by default all that have codes of all networks.
        k: how many of the examples that move most to list of each step; None lists all.
        permutations: of the test of a cluster's overlap.
        seed: of permutations and resampling.
        progress: is told (steps done, steps in all).

    Returns:
        `Comparison`: tables of steps, examples, clusters and stored densities.

    Raises:
        UnknownName: no such network or site.
        NotStored: no site has codes of all networks.
        UsageError: fewer than two networks, one twice, other sites, no inputs in common, or impossible numbers.
    """
    records = _records(atlas, networks)
    permutations, k = whole("permutations", permutations), None if k is None else whole("k", k)
    columns = _same_sites(atlas, records, sites)
    matched = _match(atlas, records, columns)
    notes, rng = Notes(), np.random.default_rng(seed)
    flips = np.empty((len(records) - 1, len(matched.inputs), len(columns[0])), np.int64)
    steps, clusters = [], []
    for place, at in enumerate(zip(*columns, strict=True)):
        tell(progress, place, len(columns[0]))
        first = before = atlas.codes([at[0]], matched.ids[:, 0])[1]
        for step, ids in enumerate(matched.ids.T[1:]):
            after = atlas.codes([at[step + 1]], ids)[1]
            flips[step, :, place] = hamming(before, after)
            since = float(hamming(first, after).mean())
            row = {"step": step + 1, "before": records[step].name, "after": records[step + 1].name}
            found = _clusters(atlas, (at[step], at[step + 1]), step, matched, permutations, rng, notes)
            measured = mean_interval(flips[step, :, place].astype(np.float64), rng, units=matched.inputs)
            steps.append(
                row
                | {"site": at[0].name, "n_gates": at[0].n_gates}
                | measured.columns("flips")
                | {"share": measured.value / at[0].n_gates, "unchanged": float((flips[step, :, place] == 0).mean())}
                | {"since_first": since}
                | _counted(found)
            )
            clusters += [] if found is None else [{"step": step + 1, "site": at[0].name} | each for each in found]
            before = after
    tell(progress, len(columns[0]), len(columns[0]))
    names = tuple(record.name for record in records)
    density = _density(atlas, records)
    if density.empty:
        notes.add("no density of these networks is stored; `polytope experiment density` measures it")
    table = pd.DataFrame(steps).astype(dict.fromkeys(FATES, "Int64"))
    return Comparison(
        names,
        tuple(site.name for site in columns[0]),
        len(matched.inputs),
        len(np.unique(matched.inputs)),
        table.sort_values("step", kind="stable", ignore_index=True),
        _moved(flips, matched, columns[0], k),
        _table_of(clusters),
        density,
        notes.lines(),
    )


def _records(atlas: Atlas, networks: Sequence[str] | None) -> list[NetworkRecord]:
    if isinstance(networks, str):
        raise UsageError(f"networks is {networks!r}; expected a list of names")
    held = [record.name for record in atlas.catalog.networks]
    records = [atlas.catalog.network(name) for name in (held if networks is None else networks)]
    names = [record.name for record in records]
    if len(names) < 2 or len(set(names)) < len(names):
        raise UsageError(
            f"networks are {', '.join(names) or 'none'}; name two or more, each once ({atlas.address} holds "
            f"{', '.join(held) or 'none'})"
        )
    return records


def _same_sites(
    atlas: Atlas, records: Sequence[NetworkRecord], wanted: Sequence[str] | None
) -> list[list[SiteRecord]]:
    """Of each network the sites to compare, in one order."""
    if isinstance(wanted, str):
        raise UsageError(f"sites is {wanted!r}; expected a list of names")
    by_name = [{site.name: site for site in atlas.catalog.sites_of(record)} for record in records]
    for record, sites in zip(records[1:], by_name[1:], strict=True):
        if {name: site.n_gates for name, site in sites.items()} != {n: s.n_gates for n, s in by_name[0].items()}:
            raise UsageError(
                f"{record.name} has other sites than {records[0].name} ({_listed(sites)}; {_listed(by_name[0])}), so "
                "their codes can't be compared"
            )
    for name in wanted or ():
        if name not in by_name[0]:
            raise UnknownName(f"no site {name!r} in {records[0].name}; it has {', '.join(by_name[0])}")
    chosen = [
        name
        for name in by_name[0]
        if (wanted is None or name in wanted) and all(sites[name].n_codes for sites in by_name)
    ]
    if not chosen:
        raise NotStored(
            f"{', '.join(record.name for record in records)} have no codes of the same site; ingest them with --sites"
        )
    return [[sites[name] for name in chosen] for sites in by_name]


def _listed(sites: dict[str, SiteRecord]) -> str:
    return ", ".join(f"{site.name} of {site.n_gates} gates" for site in sites.values())


def _match(atlas: Atlas, records: Sequence[NetworkRecord], columns: Sequence[Sequence[SiteRecord]]) -> _Matched:
    numbers = [record.network_id for record in records]
    frame = atlas.frame(
        """
        with coded as (
            select example_id from codes where site_id in (select unnest($1::usmallint[]))
            group by example_id having count(*) = $2
        ), held as (
            select *, list_position($3::usmallint[], network_id) as place
            from examples semi join coded using (example_id)
            where network_id in (select unnest($3::usmallint[]))
        )
        select
            input_id, position, token, first(label order by place) as label,
            list(example_id order by place) as ids, list(prediction order by place) as predictions
        from held
        group by input_id, position, "row", "column", token
        having count(*) = len($3)
        order by input_id, position, "row", "column"
        """,
        [[site.site_id for sites in columns for site in sites], len(columns[0]), numbers],
    )
    if frame.empty:
        raise UsageError(
            f"{', '.join(record.name for record in records)} have no inputs in common at the same places, so nothing "
            "can be compared; ingest the same data with each"
        )
    ids = np.array(frame.pop("ids").tolist(), dtype=np.int64)
    return _Matched(ids, frame["input_id"].to_numpy(np.int64), frame)


def _clusters(
    atlas: Atlas,
    sites: tuple[SiteRecord, SiteRecord],
    step: int,
    matched: _Matched,
    permutations: int,
    rng: np.random.Generator,
    notes: Notes,
) -> list[dict[str, Any]] | None:
    """The fates of the clusters of a site from one network to the next; None where one of them is not clustered."""
    found = [
        latest_clustering(atlas, atlas.catalog.target(site=site.name, network=site.network), ("codes",))
        for site in sites
    ]
    before, after = found
    if before is None or after is None:
        notes.add("not clustered in all networks; `polytope cluster` does", sites[0].name)
        return None
    if _how(before) != _how(after):
        notes.add("clusterings of other parameters are compared", sites[0].name)
    labels = [_labels(atlas, record, matched.ids[:, step + i]) for i, record in enumerate((before, after))]
    held = labels[0].notna().to_numpy() & labels[1].notna().to_numpy()
    if not held.all():
        notes.add("examples that came after a clustering are left out of the fates of its clusters", sites[0].name)
    one, other = (each[held].to_numpy(np.int64) for each in labels)
    numbers = {"clustering_before": before.clustering_id, "clustering_after": after.clustering_id}
    return [numbers | fate._asdict() for fate in fates(one, other, matched.inputs[held], permutations, rng)]


def _how(record: Clustering) -> tuple[object, ...]:
    return record.metric, record.min_cluster_size, record.min_samples, record.selection


def _labels(atlas: Atlas, record: Clustering, ids: Int64[np.ndarray, " examples"]) -> pd.Series:
    frame = atlas.frame(
        "select example_id, label from cluster_labels where clustering_id = $1", [record.clustering_id]
    )
    return frame.set_index("example_id")["label"].reindex(ids)


def _counted(found: list[dict[str, Any]] | None) -> dict[str, object]:
    if found is None:
        return dict.fromkeys(FATES, pd.NA)
    return {fate: sum(row["fate"] == fate for row in found) for fate in FATES}


def _table_of(rows: list[dict[str, Any]]) -> pd.DataFrame:
    names = ["step", "site", "clustering_before", "clustering_after", "cluster", "fate", "into", "size", "n_into"]
    table = pd.DataFrame(rows, columns=[*names, "overlap", "expected", "p"])
    return table.astype({"cluster": "Int64"}).sort_values("step", kind="stable", ignore_index=True)


def _moved(
    flips: Int64[np.ndarray, "steps examples sites"], matched: _Matched, sites: Sequence[SiteRecord], k: int | None
) -> pd.DataFrame:
    frames = []
    for step, (before, after) in enumerate(pairwise(matched.ids.T)):
        total = flips[step].sum(axis=1)
        order = np.argsort(-total, kind="stable")[:k]
        about = matched.about.iloc[order]
        frames.append(
            pd.DataFrame(
                {
                    "step": step + 1,
                    "example_before": before[order],
                    "example_after": after[order],
                    **{name: about[name].to_numpy() for name in ("input_id", "position", "token", "label")},
                    "prediction_before": [row[step] for row in about["predictions"]],
                    "prediction_after": [row[step + 1] for row in about["predictions"]],
                    "flips": total[order],
                    "share": total[order] / sum(site.n_gates for site in sites),
                    **{f"flips:{site.name}": flips[step][order, i] for i, site in enumerate(sites)},
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _density(atlas: Atlas, records: Sequence[NetworkRecord]) -> pd.DataFrame:
    """The newest stored ratio of each network and span."""
    return atlas.frame(
        """
        select network, span, ratio, ratio_low, ratio_high, experiment_id
        from (
            select
                cells->>'network' as network, cells->>'span' as span, (cells->>'ratio')::double as ratio,
                (cells->>'ratio_low')::double as ratio_low, (cells->>'ratio_high')::double as ratio_high,
                experiment_id, row_number
            from experiment_rows join experiments using (experiment_id)
            where kind = 'density' and table_name = 'table' and network in (select unnest($1::varchar[]))
            qualify row_number() over (partition by network, span order by experiment_id desc) = 1
        )
        order by list_position($1::varchar[], network), row_number
        """,
        [[record.name for record in records]],
    )
