"""Checks of a parameter that a user gives."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from atlas.errors import UsageError


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """The value as an int; `UsageError` unless it is a whole number of at least ``least`` and at most ``most``."""
    fits = isinstance(value, Integral) and not isinstance(value, bool)
    if not fits or int(value) < least or (most is not None and int(value) > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} is {value!r}; expected a whole number {bound}")
    return int(value)
