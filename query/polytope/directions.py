"""Directions in the activation space of a site, by name: random ones, units, and those that an experiment stored."""

from __future__ import annotations

import re

import numpy as np
from jaxtyping import Float32, Float64

from atlas import Atlas
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.store.catalog import NetworkRecord

from ..examples.live import Live


def named_direction(atlas: Atlas, live: Live, name: str) -> Float64[np.ndarray, " units"]:
    """The vector that a name stands for at the live network's site: random:SEED, unit:NUMBER, METHOD:COMPONENT.

    Raises `UsageError` for another name, `UnknownName` for a unit that is not there, `NotStored`.
    """
    site = live.place.site
    asked = re.fullmatch(r"([a-z]+):(\d+)", name)
    if asked is None:
        raise UsageError(f"direction {name!r}; write random:SEED, unit:NUMBER, or METHOD:COMPONENT such as pca:0")
    method, number = asked[1], int(asked[2])
    if method == "random":
        return np.random.default_rng([number, 61]).standard_normal(site.n_units)
    if method == "unit":
        if number >= site.n_units:
            raise UnknownName(f"no unit {number} at {site.name}; its units are 0 to {site.n_units - 1}")
        return np.eye(1, site.n_units, number)[0]
    stored = stored_direction(atlas, live.owner, site.name, method, number)
    if stored is None:
        raise NotStored(
            f"no direction {name} is stored for {site.name} of network {live.owner.name}; `polytope experiment "
            f"directions` finds some, or take random:0 or unit:0"
        )
    return stored[1]


def stored_direction(
    atlas: Atlas, network: NetworkRecord, site: str, method: str, component: int
) -> tuple[int, Float64[np.ndarray, " units"]] | None:
    """The newest stored direction of that name at a site: the id of the experiment that found it, and the vector."""
    rows = atlas.rows(
        """
        select experiment_id, vector from directions join sites using (site_id)
        where sites.network_id = $1 and sites.name = $2 and method = $3 and component = $4
        order by experiment_id desc limit 1
        """,
        [network.network_id, site, method, component],
    )
    return (int(rows[0][0]), np.array(rows[0][1], dtype=np.float64)) if rows else None


def gaussian_like(point: Float32[np.ndarray, " units"], rng: np.random.Generator) -> Float32[np.ndarray, " units"]:
    """A Gaussian vector of the norm of a point: a direction drawn uniformly."""
    direction = rng.standard_normal(len(point))
    return (direction * (np.linalg.norm(point) / np.linalg.norm(direction))).astype(np.float32)
