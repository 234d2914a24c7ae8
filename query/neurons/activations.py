"""Activations of a single unit, and the gate that says where it is on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int64

from atlas import Atlas
from atlas.errors import NotStored
from atlas.network import PART_UNITS
from atlas.store.catalog import SiteRecord

from ..progress import Progress
from ..store.pieces import id_ranges


def unit_values(
    atlas: Atlas, site: SiteRecord, unit: int, progress: Progress | None = None
) -> tuple[Int64[np.ndarray, " examples"], Float32[np.ndarray, " examples"]]:
    """Example ids, in order, and the activation of one unit in each; reads no other unit's into memory.

    Raises `NotStored` where the site stores none.
    """
    if not site.n_activations:
        raise no_activations(site)
    pieces = [
        atlas.columns(
            """
            select example_id, activation[$3] as value from activations
            where site_id = $1 and part = $2 and example_id between $4 and $5
            order by example_id
            """,
            [site.site_id, unit // PART_UNITS, unit % PART_UNITS + 1, first, last],
        )
        for first, last in id_ranges(atlas, site, progress)
    ]
    return (
        np.concatenate([piece["example_id"] for piece in pieces]).astype(np.int64),
        np.concatenate([piece["value"] for piece in pieces]).astype(np.float32),
    )


def gate_of(site: SiteRecord, unit: int) -> int | None:
    """The gate that is on exactly where a unit is above 0; None where the site's gates don't tell.

    The units of a block of branches are the outputs of each branch's last module, in order; the modules before it
    are gates of the block but not its units.
    """
    if site.n_gates == site.n_units:
        return unit
    last: dict[str, tuple[int, int]] = {}
    for gates in site.layout:
        branch, _, step = gates.module.rpartition(".")
        last[branch if step.isdecimal() else gates.module] = (gates.start, gates.count)
    before = 0
    if sum(count for _, count in last.values()) != site.n_units:
        return None
    for start, count in last.values():
        if unit < before + count:
            return start + unit - before
        before += count
    return None


def no_activations(site: SiteRecord) -> NotStored:
    return NotStored(
        f"no activations are stored for site {site.name} of network {site.network}; ingest with --store-activations"
    )
