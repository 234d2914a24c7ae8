"""Where gates of a smooth network flip along a ray or a segment, by root search; what a linearisation says stands
beside it (SCIENCE 14)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float64, Int64

from atlas.network import Site
from atlas.tails import Tail

from .margins import Margins

CLOSE = 1e-6
"""Share of itself to which a place is located: what single precision tells apart."""

BEYOND = 1e-2
"""Share of the way by which a point is put across a boundary: nearer, single precision may not see it flip."""


def met_along(
    margins: Margins,
    numbers: Int64[np.ndarray, " rays"],
    steps: Float64[np.ndarray, "rays units"],
    distances: Float64[np.ndarray, " rays"],
) -> Float64[np.ndarray, " rays"]:
    """How far along each ray of length 1 the network itself meets the gate ``numbers[i]``, which its linearisation
    meets at ``distances[i]``; NaN where that does not flip within twice as far."""
    found = np.full(len(numbers), np.nan)
    near = np.flatnonzero(np.isfinite(distances) & (numbers >= 0))
    for first in range(0, len(near), margins.at_once):
        rays = near[first : first + margins.at_once]
        found[rays] = flips_between(
            margins.tail,
            margins.sites,
            margins.point,
            steps[rays],
            numbers[rays],
            np.zeros(len(rays)),
            2 * distances[rays],
        )
    return found


def flips_between(
    tail: Tail,
    sites: Sequence[Site],
    origin: Float[np.ndarray, " units"],
    steps: Float64[np.ndarray, "rays units"],
    gates: Int64[np.ndarray, " rays"],
    low: Float64[np.ndarray, " rays"],
    high: Float64[np.ndarray, " rays"],
) -> Float64[np.ndarray, " rays"]:
    """A t between ``low`` and ``high`` at which gate i flips at origin + t · steps[i]; NaN where it is the same at
    both."""
    from scipy.optimize.elementwise import find_root

    def value(t: np.ndarray, ray: np.ndarray) -> np.ndarray:
        return preactivations_at(tail, sites, origin + t[:, None] * steps[ray], gates[ray])

    tolerances = {"xatol": 0, "xrtol": CLOSE, "fatol": 0, "frtol": 0}
    found: np.ndarray = find_root(value, (low, high), args=(np.arange(len(gates)),), tolerances=tolerances).x
    return found


def preactivations_at(
    tail: Tail,
    sites: Sequence[Site],
    points: Float64[np.ndarray, "points units"],
    gates: Int64[np.ndarray, " points"],
) -> Float64[np.ndarray, " points"]:
    """Of each point the preactivation of one gate, counted over the sites in order."""
    import torch

    found = np.empty(len(points))
    with torch.no_grad():
        for first in range(0, len(points), tail.batch):
            rows = slice(first, first + tail.batch)
            _, values = tail.preactivations(torch.from_numpy(points[rows]).to(tail.device, tail.dtype), sites)
            every = torch.cat([values[site.name] for site in sites], dim=1).double().cpu().numpy()
            found[rows] = np.take_along_axis(every, gates[rows, None], axis=1)[:, 0]
    return found
