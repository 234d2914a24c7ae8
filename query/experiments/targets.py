"""Checks of an experiment's parameters, and directions that an earlier experiment has stored."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np
from jaxtyping import Float64

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import NetworkRecord


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


HIGHEST_SEED = 2**32 - 1
"""scikit-learn takes seeds of 32 bits."""


def checked_seed(seed: Any) -> int:
    """The seed as an int; `UsageError` unless it is a whole number that all generators take."""
    return whole("seed", seed, 0, HIGHEST_SEED)


def increasing(name: str, values: Sequence[float], *, least: int = 1, zero: bool = False) -> list[float]:
    """The values as floats; `UsageError` unless there are ``least`` of them, finite, increasing, all above 0 or, with
    ``zero``, none below."""
    if isinstance(values, str) or not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        raise UsageError(f"{name} are {values!r}; expected a list of numbers")
    found = [float(value) for value in values]
    fits = len(found) >= max(least, 1) and bool(np.isfinite(found).all())
    fits = fits and all(low < high for low, high in pairwise(found)) and (found[0] > 0 or (zero and found[0] == 0))
    if not fits:
        raise UsageError(
            f"{name} are {found}; expected at least {least}, finite and increasing, "
            f"{'none below 0' if zero else 'all above 0'}"
        )
    return found


def checked_tolerance(tolerance: Any) -> float:
    """By how much more crossings may grow when steps are halved; `UsageError` unless from 0 to below 1."""
    if not isinstance(tolerance, Real) or isinstance(tolerance, bool) or not 0 <= float(tolerance) < 1:
        raise UsageError(f"tolerance is {tolerance!r}; expected a share from 0 to below 1, such as 0.01")
    return float(tolerance)


def share(name: str, value: Any) -> float:
    """The value as a float; `UsageError` unless it lies strictly between 0 and 1."""
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 < float(value) < 1:
        raise UsageError(f"{name} is {value!r}; expected a share between 0 and 1")
    return float(value)
