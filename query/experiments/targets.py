"""Checks of an experiment's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import numpy as np

from atlas.checks import whole
from atlas.errors import UsageError

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
