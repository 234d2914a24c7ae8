"""Two examples gate by gate: where their codes differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from atlas import Atlas, SplineCodes
from atlas.store.catalog import Target

from ..examples.stored import check_network, checked_id, network_of


@dataclass(frozen=True, eq=False)
class GatesApart:
    """Where the codes of two examples x and y differ.

    ``gates``: a row a gate that differs, in order of sites and bits: site, gate (bit of the site's code), on_in (the
    id of the example where it is on). ``sites``: a row a site: site, n_gates, on_x and on_y (gates that are on),
    only_x and only_y (on in one of the two), differ, share (of the site's gates).
    """

    gates: pd.DataFrame
    sites: pd.DataFrame


def gates_apart(
    atlas: Atlas, x: int, y: int, *, site: str | None = None, span: str | None = None, network: str | None = None
) -> GatesApart:
    """The gates in which the codes of two stored examples differ; their number is the Hamming distance.

    Raises `UnknownName`, `NotStored` where codes were not ingested.
    """
    checked_id(y)
    target = atlas.catalog.target(site=site, span=span, network=network or network_of(atlas, x))
    ids = [check_network(atlas, example, target.network) for example in (x, y)]
    _, codes = atlas.codes(target.sites, ids)
    gates, sites = [], []
    for name, n_gates, on in _by_site(target, codes):
        only = on[0] & ~on[1], on[1] & ~on[0]
        differ = np.flatnonzero(only[0] | only[1])
        gates.append(pd.DataFrame({"site": name, "gate": differ, "on_in": np.where(only[0][differ], *ids)}))
        sites.append(
            {
                "site": name,
                "n_gates": n_gates,
                "on_x": int(on[0].sum()),
                "on_y": int(on[1].sum()),
                "only_x": int(only[0].sum()),
                "only_y": int(only[1].sum()),
                "differ": len(differ),
                "share": len(differ) / n_gates,
            }
        )
    return GatesApart(pd.concat(gates, ignore_index=True), pd.DataFrame(sites))


def _by_site(target: Target, codes: SplineCodes) -> list[tuple[str, int, np.ndarray]]:
    """Of each site its name, number of gates, and which of them are on (codes × gates)."""
    on = codes.unpack()
    ends = np.cumsum([site.n_gates for site in target.sites])
    parts = np.split(on, ends[:-1], axis=1)
    return [(site.name, site.n_gates, part) for site, part in zip(target.sites, parts, strict=True)]
