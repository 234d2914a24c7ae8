"""Checks of a parameter that a user gives, each with one message for the whole project."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from .errors import UsageError


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, of Python or of NumPy; True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """The value as an int; `UsageError` unless it is a whole number of at least ``least`` and at most ``most``."""
    if not is_whole(value) or int(value) < least or (most is not None and int(value) > most):
        bound = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} is {value!r}; expected a whole number {bound}")
    return int(value)


def whole_id(what: str, value: Any) -> int:
    """The id of ``what``, such as "an example", as an int; `UsageError` for anything that is no whole number."""
    if not is_whole(value):
        raise UsageError(f"{what} is named by its id, a whole number, got {value!r}")
    return int(value)


def check_page(limit: Any, offset: Any) -> None:
    """Raise `UsageError` unless ``limit`` (None for all) and ``offset`` are a page of an answer."""
    if limit is not None:
        whole("limit", limit)
    whole("offset", offset, 0)
