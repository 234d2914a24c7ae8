"""Does an atlas hold together? What database constraints would say, were they not dearer than the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from atlas import Atlas, SplineCodes
from atlas.errors import DamagedAtlas, HammingIndexError, NotStored, UnknownName, UsageError
from atlas.search.joined import JoinedApproximate, load_index
from atlas.store.catalog import SiteRecord, Target
from atlas.store.digests import activations_digest, changes, codes_digest
from atlas.store.names import NAMES, read_names, read_tags

from ..examples.ids import holders
from ..neighbors.indexes import flat_index

SAMPLED_CODES = 64
"""Codes of a target that are looked up in its flat index; its digest and its file's hash cover the rest."""


@dataclass(frozen=True)
class Check:
    """``check``: what must hold; ``subject``: of what; ``detail``: what was found, and what to do about it."""

    check: str
    subject: str
    ok: bool
    detail: str


def verify(atlas: Atlas, *, progress: Callable[[int, int], None] | None = None) -> pd.DataFrame:
    """Check all that is stored against itself. Damage is a row that is not ok, never an exception.

    Codes have the width of their site, zero padding and the n_active that is stored; codes and activations belong to
    examples and sites that exist, once each; activations are finite and of the right length; labels of clusterings
    fit the examples; counts and digests of sites are those of what is stored; maps place every example that they
    claim; every index loads, was built from these codes, and finds a sample of them. Reads everything, block by
    block.

    Args:
        atlas: an open atlas.
        progress: is told (groups of checks done, groups).

    Returns:
        A row a check: check, subject, ok, detail.
    """
    sites = atlas.catalog.sites
    groups = {
        "files": _files(atlas),
        "references": _references(atlas),
        "rows": _rows(atlas),
        "names": _names(atlas),
        "keys": _once(atlas),
        **{f"codes of {_site_name(site)}": _site_codes(atlas, site) for site in sites},
        **{f"activations of {_site_name(site)}": _site_activations(atlas, site) for site in sites},
        "clusterings": _clusterings(atlas),
        "indexes": _indexes(atlas),
        "neighbors": _neighbors(atlas),
        "layouts": _layouts(atlas),
    }
    checks: list[Check] = []
    for done, (subject, group) in enumerate(groups.items()):
        if progress is not None:
            progress(done, len(groups))
        try:
            checks.extend(group)
        except DamagedAtlas as error:  # a block that doesn't hold what was written
            checks.append(Check("can be read", subject, False, str(error)))
    return pd.DataFrame(checks, columns=["check", "subject", "ok", "detail"])


# --- rows that refer to rows -----------------------------------------------------------------------------------

_REFERENCES = [
    ("sites", "network_id", "networks"),
    ("spans", "network_id", "networks"),
    ("dataset_inputs", "dataset_id", "datasets"),
    ("dataset_inputs", "input_id", "inputs"),
    ("runs", "network_id", "networks"),
    ("runs", "dataset_id", "datasets"),
    ("bad_inputs", "run_id", "runs"),
    ("inputs", "run_id", "runs"),
    ("dataset_inputs", "run_id", "runs"),
    ("examples", "network_id", "networks"),
    ("examples", "run_id", "runs"),
    ("examples", "input_id", "inputs"),
    ("codes", "site_id", "sites"),
    ("codes", "example_id", "examples"),
    ("activations", "site_id", "sites"),
    ("activations", "example_id", "examples"),
    ("clusterings", "network_id", "networks"),
    ("cluster_labels", "clustering_id", "clusterings"),
    ("cluster_labels", "example_id", "examples"),
    ("clusters", "clustering_id", "clusterings"),
    ("condensed_trees", "clustering_id", "clusterings"),
    ("directions", "experiment_id", "experiments"),
    ("directions", "network_id", "networks"),
    ("directions", "site_id", "sites"),
    ("experiments", "network_id", "networks"),
    ("experiment_columns", "experiment_id", "experiments"),
    ("experiment_rows", "experiment_id", "experiments"),
    ("indexes", "network_id", "networks"),
    ("layouts", "network_id", "networks"),
    ("layout_points", "layout_id", "layouts"),
    ("layout_points", "example_id", "examples"),
    ("neighborhoods", "network_id", "networks"),
    ("neighbors", "network_id", "networks"),
    ("neighbors", "example_id", "examples"),
    ("bounded_spans", "network_id", "networks"),
    ("boundaries", "network_id", "networks"),
    ("boundaries", "example_id", "examples"),
    ("boundaries", "site_id", "sites"),
]
"""Table, column, and the table whose rows the column names; null refers to nothing."""


def _references(atlas: Atlas) -> Iterator[Check]:
    for table, column, referred in _REFERENCES:
        dangling, least = atlas.rows(
            f"""
            select count(*), min({column}) from {table}
            where {column} is not null and {column} not in (select {column} from {referred})
            """
        )[0]
        detail = f"{dangling} rows refer to {referred} that are not there, the first to {column} {least}"
        yield _count_check("refers to what exists", f"{table}.{column}", dangling, detail)
    strangers = atlas.value(
        """
        select count(*) from codes join sites using (site_id) join examples using (example_id)
        where sites.network_id <> examples.network_id
        """
    )
    detail = f"{strangers} codes belong to an example of another network than their site's"
    yield _count_check("codes belong to their network", "codes", strangers, detail)


_KEYS = [
    ("examples", "example_id"),
    ("codes", "site_id, example_id"),
    ("activations", "site_id, example_id, part"),
    ("cluster_labels", "clustering_id, example_id"),
    ("clusters", "clustering_id, label"),
    ("dataset_inputs", "dataset_id, ordinal"),
    ("layout_points", "layout_id, example_id"),
    ("neighbors", "network_id, target, example_id, rank"),
    ("boundaries", "network_id, span, example_id, rank"),
]


def _once(atlas: Atlas) -> Iterator[Check]:
    for table, key in _KEYS:
        repeated = atlas.rows(
            f"select {key}, count(*) from {table} group by {key} having count(*) > 1 order by {key} limit 1"
        )
        named = f"{key} = {', '.join(map(str, repeated[0][:-1]))} occurs {repeated[0][-1]} times" if repeated else ""
        yield Check("each occurs once", f"{table} ({key})", not repeated, named)


def _files(atlas: Atlas) -> Iterator[Check]:
    for name, detail in atlas.file_faults():
        yield Check("file is as it was written", name, not detail, detail)


def _rows(atlas: Atlas) -> Iterator[Check]:
    for name, detail in changes(atlas):
        yield Check("rows are as they were written", name, not detail, detail)


def _names(atlas: Atlas) -> Iterator[Check]:
    """Names, notes and tags are of networks and examples that exist."""
    detail = ""
    try:
        names = read_names(atlas.path)
        known = {network.name for network in atlas.catalog.networks}
        strangers = sorted({name.network for name in names} - known)
        held = [name.example_id for name in names] + [example for _, example in read_tags(atlas.path)]
        [(n_lost, lost)] = atlas.rows(
            "select count(*), min(example_id) from (select unnest($1::bigint[]) as example_id) "
            "where example_id not in (select example_id from examples)",
            [held],
        )
        if strangers:
            detail = f"some belong to networks that are not there: {', '.join(strangers)}"
        elif n_lost:
            detail = f"{n_lost} belong to examples that are not there, the first to example {lost}"
    except DamagedAtlas as error:
        detail = str(error)
    yield Check("names are of what exists", NAMES, not detail, detail)


# --- what sites hold -------------------------------------------------------------------------------------------


def _site_codes(atlas: Atlas, site: SiteRecord) -> Iterator[Check]:
    name = _site_name(site)
    wrong, n_active, padded, first = atlas.rows(
        """
        with read as (
            select
                example_id,
                bit_length(code) <> $2 as wrong_width,
                bit_count(code) <> n_active as wrong_count,
                case when bit_length(code) = $2 then bit_count(code & cast($3 as bit)) > 0 else false end as padded
            from codes where site_id = $1
        )
        select
            count(*) filter (where wrong_width), count(*) filter (where wrong_count), count(*) filter (where padded),
            min(example_id) filter (where wrong_width or wrong_count or padded)
        from read
        """,
        [site.site_id, 8 * site.n_bytes, _padding(site)],
    )[0]
    at = f", the first at example {first}"
    detail = f"{wrong} codes are not {site.n_bytes} bytes ({site.n_gates} gates){at}"
    yield _count_check("codes have the site's width", name, wrong, detail)
    yield _count_check("padding bits are zero", name, padded, f"{padded} codes have a padding bit set{at}")
    yield _count_check(
        "n_active counts the gates on", name, n_active, f"{n_active} codes have another number of gates on{at}"
    )
    try:
        count, digest = codes_digest(atlas, site)
    except DamagedAtlas as error:
        yield Check("codes have the site's count and digest", name, False, str(error))
        return
    yield _digest_check("codes", name, site.n_codes, count, site.codes_digest, digest)


def _padding(site: SiteRecord) -> bytes:
    """A packed code whose padding bits alone are set."""
    gates = np.ones((1, site.n_gates), dtype=np.bool_)
    return (~SplineCodes.pack(gates).packed).tobytes()


def _site_activations(atlas: Atlas, site: SiteRecord) -> Iterator[Check]:
    name = _site_name(site)
    wrong, infinite, first = atlas.rows(
        """
        with read as (
            select
                example_id,
                sum(list_count(activation)) <> $2 or sum(len(activation)) <> $2 as wrong_length,
                bool_or(not coalesce(isfinite(list_sum(activation)), false)) as infinite
            from activations where site_id = $1 group by example_id
        )
        select
            count(*) filter (where wrong_length), count(*) filter (where infinite),
            min(example_id) filter (where wrong_length or infinite)
        from read
        """,
        [site.site_id, site.n_units],
    )[0]
    at = f", the first at example {first}"
    yield _count_check("activations have a number a unit", name, wrong, f"{wrong} are not {site.n_units} long{at}")
    yield _count_check("activations are finite", name, infinite, f"{infinite} hold NaN or infinity{at}")
    if wrong:
        return  # a digest of what can't be read
    count, digest = activations_digest(atlas, site)
    yield _digest_check("activations", name, site.n_activations, count, site.activations_digest, digest)


def _digest_check(what: str, name: str, n_stored: int, n_found: int, stored: str | None, found: str | None) -> Check:
    if n_stored != n_found:
        detail = f"sites says {n_stored}, there are {n_found}"
    elif stored != found and not (n_found == 0 and not stored):
        detail = f"sites says {stored}, what is stored has {found}: it was changed since it was published"
    else:
        detail = ""
    return Check(f"{what} have the site's count and digest", name, not detail, detail)


# --- clusterings and indexes -----------------------------------------------------------------------------------


def _clusterings(atlas: Atlas) -> Iterator[Check]:
    for row in atlas.records(
        """
        select clustering_id, target, n_examples, n_clusters, n_noise from clusterings order by clustering_id
        """
    ):
        name = f"clustering {row['clustering_id']} ({row['target']})"
        number = [row["clustering_id"]]
        sizes = dict(
            atlas.rows("select label, count(*) from cluster_labels where clustering_id = $1 group by label", number)
        )
        stored = dict(atlas.rows("select label, size from clusters where clustering_id = $1", number))
        noise = sizes.pop(-1, 0)
        counted = (noise + sum(sizes.values()), len(stored), noise)
        expected = (row["n_examples"], row["n_clusters"], row["n_noise"])
        detail = f"clusterings says {expected} examples, clusters and noise; its labels give {counted}"
        yield Check(
            "labels have the clustering's counts", name, counted == expected, _unless(counted == expected, detail)
        )
        differing = sorted(label for label in {*sizes, *stored} if sizes.get(label) != stored.get(label))
        detail = f"clusters {differing} have other sizes than their labels give"
        yield Check("clusters have their sizes", name, not differing, _unless(not differing, detail))
        yield _medoids(atlas, row["clustering_id"], name)


def _medoids(atlas: Atlas, clustering: int, name: str) -> Check:
    astray = [
        label
        for (label,) in atlas.rows(
            """
            select clusters.label from clusters
            left join cluster_labels as of_medoid
                on of_medoid.clustering_id = clusters.clustering_id and of_medoid.example_id = clusters.medoid
            where clusters.clustering_id = $1 and of_medoid.label is distinct from clusters.label
            order by all
            """,
            [clustering],
        )
    ]
    return Check("medoids are members", name, not astray, f"not so in clusters {astray}" if astray else "")


def _indexes(atlas: Atlas) -> Iterator[Check]:
    rows = atlas.records(
        "select network_id, target, kind, file, n_codes, digest, recall, recall_in_order from indexes order by all"
    )
    indexed = {(row["network_id"], row["target"]): row for row in rows if row["kind"] == "flat"}
    for network in atlas.catalog.networks:
        sites = {site.name for site in atlas.catalog.sites_of(network) if site.n_codes}
        spans = {name for holder, name in atlas.catalog.spans if holder == network.name}
        beside = [row for row in rows if row["network_id"] == network.network_id and row["kind"] != "flat"]
        held = {target for owner, target in indexed if owner == network.network_id}
        for name in sorted(sites | spans | held | {row["target"] for row in beside}):
            detail = _index_fault(atlas, network.name, name, indexed.get((network.network_id, name)))
            yield Check("index fits the codes", f"{network.name} {name}", not detail, detail)
        for row in beside:
            detail = _index_fault(atlas, network.name, row["target"], row)
            yield Check("index fits the codes", f"{network.name} {row['target']} ({row['kind']})", not detail, detail)


def _index_fault(atlas: Atlas, network: str, name: str, row: dict[str, Any] | None) -> str:
    """What is wrong with an index of a site or span, or nothing. Its file is read whole."""
    try:
        target = atlas.catalog.target(site=name, network=network)
    except (UnknownName, NotStored, UsageError) as error:
        return str(error)
    build = f"build it with `polytope index {atlas.address}`"
    if row is None:
        return f"there is none; {build}"
    ids = holders(atlas, target)
    try:
        found = _not_found(atlas, target, row, ids)
    except (HammingIndexError, DamagedAtlas) as error:
        return str(error)
    if (row["n_codes"], row["digest"]) != (len(ids), target.digest):
        return f"the table of indexes says {row['n_codes']} codes, digest {row['digest']}; {build}"
    return f"{found}; {build}" if found else ""


def _not_found(atlas: Atlas, target: Target, row: dict[str, Any], ids: np.ndarray) -> str:
    """Load the index, and say which of a sample of the codes a flat one does not find."""
    files = atlas.index_files(row["file"])
    if row["kind"] != "flat":
        from atlas.search.approximate import load_approximate

        beside = load_approximate(files, flat_index(atlas, target), thorough=True)
        if isinstance(beside, JoinedApproximate):
            return ""  # only the table says how good its files are together
        said = beside.kind, beside.recall, beside.recall_in_order
        right = said == (row["kind"], row["recall"], row["recall_in_order"])
        return _unless(
            right, f"the file is of kind {beside.kind} and recall {beside.recall}; the table says otherwise"
        )
    index = load_index(files, row["digest"], thorough=True)
    index.check(len(ids), target.digest)
    sample = ids[np.linspace(0, len(ids) - 1, min(SAMPLED_CODES, len(ids))).astype(np.int64)]
    _, codes = atlas.codes(target.sites, sample)
    lost = [
        int(example) for example, (same, _) in zip(sample, index.within(codes, 0), strict=True) if example not in same
    ]
    return f"it does not find the code of example {lost[0]}" if lost else ""


def _neighbors(atlas: Atlas) -> Iterator[Check]:
    strangers, first = atlas.rows(
        "select count(*), min(neighbor_id) from neighbors where neighbor_id not in (select example_id from examples)"
    )[0]
    detail = f"{strangers} rows refer to examples that are not there, the first to neighbor_id {first}"
    yield _count_check("refers to what exists", "neighbors.neighbor_id", strangers, detail)
    for row in atlas.records(
        """
        with held as (select network_id, target, count(*) as n_rows from neighbors group by all)
        select networks.name as network, target, k, n_codes, coalesce(n_rows, 0) as n_rows
        from neighborhoods join networks using (network_id) left join held using (network_id, target)
        order by all
        """
    ):
        complete = row["n_rows"] == row["k"] * row["n_codes"]
        detail = f"{row['n_rows']} rows instead of {row['k']} for each of {row['n_codes']}"
        name = f"{row['network']} {row['target']}"
        yield Check("neighbors are k of each example", name, complete, _unless(complete, detail))


def _layouts(atlas: Atlas) -> Iterator[Check]:
    for row in atlas.records(
        """
        with held as (
            select
                layout_id, count(*) as n_rows,
                count(*) filter (
                    where not (isfinite(x) and isfinite(y) and len(neighbors) = wanted and len(distances) = wanted)
                ) as wrong
            from layout_points join (select layout_id, neighbors as wanted from layouts) using (layout_id)
            group by layout_id
        )
        select layout_id, target, n_examples, coalesce(n_rows, 0) as n_rows, coalesce(wrong, 0) as wrong
        from layouts left join held using (layout_id)
        order by layout_id
        """
    ):
        name = f"layout {row['layout_id']} ({row['target']})"
        complete = row["n_rows"] == row["n_examples"] and not row["wrong"]
        detail = (
            f"layouts says {row['n_examples']} examples, there are {row['n_rows']}; {row['wrong']} of them have no "
            "place or another number of neighbours"
        )
        yield Check("layouts place each example", name, complete, _unless(complete, detail))


def _site_name(site: SiteRecord) -> str:
    return f"{site.network} {site.name}"


def _count_check(check: str, subject: str, count: int, detail: str) -> Check:
    return Check(check, subject, count == 0, detail if count else "")


def _unless(ok: bool, detail: str) -> str:
    return "" if ok else detail
