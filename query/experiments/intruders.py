"""The intruder test of stored clusters (SCIENCE 1)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import NotStored, UsageError
from atlas.store.catalog import SiteRecord

from ..clustering.clusterings import find_clustering
from ..progress import Progress, part
from ..store.pieces import id_ranges
from .groups import Codes, intruder

MEMBERS, TRIALS = 5, 20
"""Members shown beside the intruder, and tests of a cluster; the defaults of the experiment monosemanticity."""

CLUSTERS_AT_ONCE = 32  # between two reports of progress


def intruder_scores(
    atlas: Atlas,
    *,
    clustering: int,
    members: int = MEMBERS,
    trials: int = TRIALS,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """How often an outsider stands out among members of each cluster, by the distances of their codes (SCIENCE 1).

    As `groups.intruder` of all clustered examples that have an activation. Columns: label, intruder (share of the
    trials; NaN for a cluster of fewer than ``members`` members). ``frame.attrs``: members, trials, seed, chance
    (1 / (members + 1)).

    Raises `UnknownName`; `UsageError` for a clustering of a span; `NotStored` where no activations are stored, whose
    norms outsiders are matched in.
    """
    found = find_clustering(atlas, clustering)
    members, trials = whole("members", members, 2), whole("trials", trials)
    if len(found.target.sites) > 1:
        raise UsageError(f"an intruder test is of one site; {found.name} is of a span of {len(found.target.sites)}")
    site = found.target.sites[0]
    if not site.n_activations:
        raise NotStored(
            f"an intruder test needs activations at site {site.name} of network {site.network}, and none are stored; "
            "ingest with --store-activations"
        )
    reading = part(progress, 0, 2)
    ids, norms = _norms(atlas, site, lambda done, total: reading(done / total))
    labels = atlas.frame(
        "select example_id, label from cluster_labels where clustering_id = $1", [found.clustering_id]
    ).set_index("example_id")["label"]
    held = np.isin(ids, labels.index)
    codes, of_each = Codes(atlas, site, ids[held], norms[held]), labels.loc[ids[held]].to_numpy(np.int64)
    groups = [np.flatnonzero(of_each == label) for label in range(found.n_clusters)]
    testing = part(progress, 1, 2)
    rng, scores = np.random.default_rng([seed, 2, site.ordinal]), []
    for first in range(0, len(groups), CLUSTERS_AT_ONCE):
        testing(first / len(groups))
        scores.append(intruder(codes, groups[first : first + CLUSTERS_AT_ONCE], members, trials, rng))
    testing(1.0)
    frame = pd.DataFrame({"label": np.arange(len(groups)), "intruder": np.concatenate([*scores, np.empty(0)])})
    frame.attrs.update(members=members, trials=trials, seed=seed, chance=1 / (members + 1))
    return frame


def _norms(
    atlas: Atlas, site: SiteRecord, progress: Progress | None = None
) -> tuple[Int64[np.ndarray, " examples"], Float64[np.ndarray, " examples"]]:
    """‖a‖₂ of the activation of every example that also has a code at the site, in order of id."""
    found = [
        atlas.frame(
            """
            select example_id, sqrt(sum(list_inner_product(activation::double[], activation::double[]))) as norm
            from activations
            where site_id = $1 and example_id between $2 and $3
                and example_id in (select example_id from codes where site_id = $1)
            group by example_id
            order by example_id
            """,
            [site.site_id, first, last],
        )
        for first, last in id_ranges(atlas, site, progress)
    ]
    rows = pd.concat(found, ignore_index=True)
    return rows["example_id"].to_numpy(np.int64), rows["norm"].to_numpy(np.float64)
