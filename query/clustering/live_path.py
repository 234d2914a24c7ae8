"""In which cluster an input lies at every site that is read now: one pass of its network for all of them."""

from __future__ import annotations

import pandas as pd

from atlas import Atlas, Network
from atlas.errors import UsageError
from atlas.store.catalog import Target

from ..examples.subjects import Given, Subject, sites_with_activations
from .clusterings import NOISE
from .membership import Membership, membership

_NEWEST = """
select sites.name, scope, max(clustering_id) as clustering
from sites join clusterings on clusterings.network_id = sites.network_id and target = sites.name
where sites.network_id = $1 and scope = $2 and space = 'codes' and n_codes > 0
group by sites.name, scope, ordinal order by ordinal
"""


def live_path(atlas: Atlas, given: Given, target: Target, reader: Network | None) -> tuple[Subject, pd.DataFrame]:
    """What an input is at a target, and a row a clustered site of the same scope, as `cluster_path` has it.

    Codes are placed in the newest clustering of each site. Where examples came after that, nothing can be placed:
    the cluster is <NA> there.
    """
    clustered = atlas.rows(_NEWEST, [target.network.network_id, target.sites[0].scope])
    sites = [atlas.catalog.target(site=name, network=target.network.name) for name, _, _ in clustered]
    subject, *placed = given.read_at(atlas, [target, *sites], reader, sites_with_activations(target))
    rows = []
    for (site, scope, clustering), there in zip(clustered, placed, strict=True):
        found = _placed(atlas, there, int(clustering))
        rows.append({"site": site, "scope": scope, "clustering": int(clustering)} | _described(atlas, found))
    columns = ["site", "scope", "clustering", "cluster", "name", "probability", "size", "purity", "top_label"]
    frame = pd.DataFrame(rows, columns=columns)
    return subject, frame.astype(dict.fromkeys(("clustering", "cluster", "size"), "Int64"))


def _placed(atlas: Atlas, subject: Subject, clustering: int) -> Membership | None:
    try:
        return membership(atlas, subject=subject, clustering=clustering)
    except UsageError:  # it holds more examples than when it was clustered
        return None


def _described(atlas: Atlas, found: Membership | None) -> dict[str, object]:
    if found is None:
        return {"cluster": None}
    known = atlas.records(
        "select size, purity, top_label from clusters where clustering_id = $1 and label = $2",
        [found.clustering, found.cluster],
    )
    about = known[0] if found.cluster != NOISE else {}
    return {"cluster": found.cluster, "name": found.name, "probability": found.probability} | about
