"""Which gates tell a cluster from the rest, or from another (SCIENCE 11): on-rates, and Fisher's exact test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64

from atlas import Atlas
from atlas.checks import whole
from atlas.codes import SplineCodes
from atlas.errors import UnknownName, UsageError
from atlas.network import FULL_SUFFIX, GateRange
from atlas.store.blocks import BLOCK_ROWS
from atlas.store.catalog import SiteRecord, Target

from ..progress import Progress, tell
from .clusterings import Clustering, clustering_of, find_clustering, latest_clustering

RATE = 0.05
"""False discovery rate up to which a gate is distinctive (Benjamini & Hochberg 1995)."""

BLOCK_BYTES = 1 << 26
"""Bytes of codes that are read in one go."""


@dataclass(frozen=True, eq=False)
class Split:
    """Clustered examples that have a code at a site: those of one cluster, and the others, noise included, or those
    of another cluster."""

    clustering: Clustering
    cluster: int
    ids: Int64[np.ndarray, " examples"]
    inside: Bool[np.ndarray, " examples"]


def split(atlas: Atlas, target: Target, cluster: int, clustering: int | None) -> Split:
    """The examples of a cluster, and the rest. Without an id the newest clustering of the site's codes is meant; of
    its position codes where full ones were not clustered.

    Raises `UnknownName` for a clustering or cluster that is not there, `UsageError` for a cluster of all examples.
    """
    site = target.sites[0]
    found = _clustering(atlas, target, clustering)
    labels = atlas.columns(
        """
        select example_id, label from cluster_labels
        where clustering_id = $1 and example_id in (select example_id from codes where site_id = $2)
        order by example_id
        """,
        [found.clustering_id, site.site_id],
    )
    ids, inside = labels["example_id"].astype(np.int64), labels["label"] == cluster
    if not -1 <= cluster < found.n_clusters:
        raise UnknownName(
            f"no cluster {cluster} in {found.name}; it has {found.n_clusters}, numbered from 0 (-1 is noise)"
        )
    if not inside.any() or inside.all():
        raise UsageError(
            f"a cluster is compared with the rest, but of {len(ids)} examples of {found.name} with a code at "
            f"{site.name} {int(inside.sum())} are in cluster {cluster}"
        )
    return Split(found, cluster, ids, inside)


def _clustering(atlas: Atlas, target: Target, clustering: int | None) -> Clustering:
    if clustering is not None:
        return find_clustering(atlas, clustering, target)
    if target.name.endswith(FULL_SUFFIX) and latest_clustering(atlas, target, ("codes",)) is None:
        block = target.name.removesuffix(FULL_SUFFIX)
        held = any(site.name == block and site.n_codes for site in atlas.catalog.sites_of(target.network))
        at_position = atlas.catalog.target(site=block, network=target.network.name) if held else None
        found = at_position and latest_clustering(atlas, at_position, ("codes",))
        if found:
            return found
    return clustering_of(atlas, target, None, "codes")


def distinctive_gates(
    atlas: Atlas,
    *,
    clustering: int,
    cluster: int,
    against: int | None = None,
    against_clustering: int | None = None,
    site: str | None = None,
    most: int = 30,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """The gates that tell a cluster from all other clustered examples, or from another cluster, the clearest first.

    Of each gate the 2 x 2 table of examples in and out of the cluster that have it on or off is tested by Fisher's
    exact test. Two bounds make up for as many tests as the site has gates (SCIENCE 11): q, of Benjamini & Hochberg
    (1995), is the share of false ones among all gates with a q as small that is to be expected; holm, of Holm (1979),
    bounds the chance that any gate at all whose gating is independent of the clusters gets one as small.

    Args:
        atlas: an open atlas.
        clustering: its id.
        cluster: its number; -1 is the noise.
        against: another cluster that it is told from; by default all other clustered examples.
        against_clustering: id of the clustering of that one; by default the same. Examples in both count in neither.
        site: whose gates; by default the site that was clustered, or the last of the span.
        most: at most so many rows.
        progress: is told (codes that are read, codes of the site).

    Returns:
        A row a gate: gate, module, inside and outside (shares of either side that have it on), log_odds (natural
        logarithm of the odds of being on inside over those outside, with half an example added to each count), p, q,
        holm, distinctive (q at most 0.05), on (whether most inside have it on). ``frame.attrs``: site, n_gates,
        n_distinctive, n_sure (gates with a holm of at most 0.05), n_inside, n_outside, n_both (left out).

    Raises:
        UnknownName: for a clustering, cluster or site that is not there.
        NotStored: for a site without codes.
        UsageError: for a cluster that holds all examples, one against itself, and for impossible parameters.
    """
    most = whole("most", most)
    found = find_clustering(atlas, clustering)
    target = atlas.catalog.target(site=site or found.target.sites[-1].name, network=found.target.network.name)
    one, n_both = target.sites[0], 0
    if against is None:
        groups = split(atlas, target, cluster, found.clustering_id)
    else:
        other = found if against_clustering is None else find_clustering(atlas, against_clustering, target)
        groups, n_both = _apart(atlas, one, (found, found.check(cluster)), (other, other.check(against)))
    frame = gate_table(atlas, one, one.layout, groups, progress)
    frame.insert(list(frame.columns).index("distinctive"), "holm", holm(frame["p"].to_numpy()))
    attributes = {
        "site": one.name,
        "n_gates": one.n_gates,
        "n_distinctive": int(frame["distinctive"].sum()),
        "n_sure": int((frame["holm"] <= RATE).sum()),
        "n_inside": int(groups.inside.sum()),
        "n_outside": int((~groups.inside).sum()),
        "n_both": n_both,
    }
    frame = frame.head(most).reset_index(drop=True)
    frame.attrs.update(attributes)
    return frame


def _apart(
    atlas: Atlas, site: SiteRecord, first: tuple[Clustering, int], second: tuple[Clustering, int]
) -> tuple[Split, int]:
    """The examples of two clusters that have a code at a site, without those of both; and how many these are."""
    sides = [
        atlas.columns(
            """
            select example_id from cluster_labels
            where clustering_id = $1 and label = $2
                and example_id in (select example_id from codes where site_id = $3)
            """,
            [record.clustering_id, cluster, site.site_id],
        )["example_id"].astype(np.int64)
        for record, cluster in (first, second)
    ]
    inside, outside = np.setdiff1d(sides[0], sides[1]), np.setdiff1d(sides[1], sides[0])
    for alone, (record, cluster) in ((inside, first), (outside, second)):
        if not len(alone):
            raise UsageError(
                f"no example with a code at {site.name} is in cluster {cluster} of {record.name} and not in the "
                "other; compare two clusters that differ"
            )
    ids = np.union1d(inside, outside)
    return Split(*first, ids, np.isin(ids, inside)), len(sides[0]) - len(inside)


def gate_table(
    atlas: Atlas,
    site: SiteRecord,
    layout: Sequence[GateRange],
    groups: Split,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every gate of a site, the most distinctive first.

    Columns: gate, module, inside and outside (shares in which it is on), log_odds, p, q, distinctive (q at most
    `RATE`), on (whether the majority inside has it on). With a of m on inside and b of n outside,

        log_odds = log((a + ½)/(m − a + ½)) − log((b + ½)/(n − b + ½))        (Haldane 1956)

    p is Fisher's exact two-sided p (twice the smaller tail), q its Benjamini-Hochberg bound. Order: distinctive ones
    first, by |log_odds|. ``progress`` is told (codes that are read, codes of the site).
    """
    on_inside, on_outside = _counts(atlas, site, groups, progress)
    m, n = int(groups.inside.sum()), int((~groups.inside).sum())
    log_odds = np.log((on_inside + 0.5) / (m - on_inside + 0.5)) - np.log((on_outside + 0.5) / (n - on_outside + 0.5))
    p = fisher_p(on_inside, m, on_outside, n)
    q = benjamini_hochberg(p)
    frame = pd.DataFrame(
        {
            "gate": np.arange(site.n_gates),
            "module": _modules(layout, site.n_gates),
            "inside": on_inside / m,
            "outside": on_outside / n,
            "log_odds": log_odds,
            "p": p,
            "q": q,
            "distinctive": q <= RATE,
            "on": 2 * on_inside > m,
        }
    )
    order = np.lexsort([frame["gate"], -np.abs(log_odds), ~frame["distinctive"].to_numpy()])
    return frame.iloc[order].reset_index(drop=True)


def fisher_p(
    on_inside: Int64[np.ndarray, " gates"], m: int, on_outside: Int64[np.ndarray, " gates"], n: int
) -> Float64[np.ndarray, " gates"]:
    """Fisher's exact test of each gate's 2 x 2 table: twice the smaller tail of the hypergeometric, at most 1."""
    from scipy.stats import hypergeom

    # Few tables differ: a test for each distinct one.
    tables, place = np.unique(np.stack([on_inside, on_outside]), axis=1, return_inverse=True)
    inside, on = tables[0], tables.sum(axis=0)
    mean, total = m * on / (m + n), m + n
    spread = np.sqrt(mean * (1 - on / total) * (n / max(total - 1, 1)))
    # A standard deviation from the mean or more, the tail on that side is at most a half (Cantelli), so the smaller.
    below, above = inside < mean + spread, inside > mean - spread
    smaller = np.ones(len(on))
    smaller[below] = hypergeom.cdf(inside[below], total, on[below], m)
    smaller[above] = np.minimum(smaller[above], hypergeom.sf(inside[above] - 1, total, on[above], m))
    p: Float64[np.ndarray, " gates"] = np.clip(2 * smaller, 0, 1)[place.ravel()]
    return p


def benjamini_hochberg(p: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """The least false discovery rate at which each test is called: min over larger p_(j) of p_(j) · tests / j."""
    order = np.argsort(p, kind="stable")
    bounds = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum.accumulate(bounds[::-1])[::-1].clip(max=1)
    return q


def holm(p: Float64[np.ndarray, " tests"]) -> Float64[np.ndarray, " tests"]:
    """Holm's (1979) bound of each p over all tests: max over smaller p_(i) of p_(i) · (tests − i + 1), at most 1."""
    order = np.argsort(p, kind="stable")
    bound = np.empty(len(p))
    bound[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return bound


def _counts(
    atlas: Atlas, site: SiteRecord, groups: Split, progress: Progress | None = None
) -> tuple[Int64[np.ndarray, " gates"], Int64[np.ndarray, " gates"]]:
    """How many examples have each gate on, inside and outside."""
    inside, everyone = np.zeros(site.n_gates, np.int64), np.zeros(site.n_gates, np.int64)
    members, done = groups.ids[groups.inside], 0
    tell(progress, 0, site.n_codes)
    for ids, packed in atlas.code_blocks(site, max(1, min(BLOCK_ROWS, BLOCK_BYTES // site.n_bytes))):
        codes = SplineCodes(packed, (site.n_gates,))
        inside += codes[np.isin(ids, members, assume_unique=True)].gate_counts()
        everyone += codes[np.isin(ids, groups.ids, assume_unique=True)].gate_counts()
        done += len(ids)
        tell(progress, done, site.n_codes)
    return inside, everyone - inside


def _modules(layout: Sequence[GateRange], n_gates: int) -> list[str]:
    names = [""] * n_gates
    for gates in layout:
        names[gates.start : gates.start + gates.count] = [gates.module] * gates.count
    return names
