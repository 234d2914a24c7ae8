"""Errors as RFC 9457 has them: the sentence that the command line would say, and a type that stays the same."""

from __future__ import annotations

import json
from collections.abc import Mapping

from atlas import errors
from atlas.errors import PolytopeError
from atlas.wire import type_of

UNFORESEEN = "the server failed in a way that nobody foresaw; its log says how"

STATUSES: dict[type[PolytopeError], int] = {
    errors.PolytopeError: 422,
    errors.UnknownName: 404,
    errors.NotStored: 409,
    errors.HammingIndexError: 409,
    errors.NetworkError: 409,
    errors.SqlRefused: 403,
    errors.StoreError: 503,
    errors.DamagedAtlas: 500,
    errors.AccessDenied: 401,
    errors.BadRequest: 400,
    errors.TooBusy: 429,
    errors.ServerFailed: 500,
}
"""Of an error and of those that derive from it, unless they have their own."""


def status_of(error: type[PolytopeError]) -> int:
    """The status of HTTP that an error has."""
    return next(STATUSES[kind] for kind in error.__mro__ if kind in STATUSES)


def body(kind: type[PolytopeError], detail: str, status: int | None = None) -> bytes:
    """The problem of an error as JSON; ``status``: where it is not that of the error."""
    title = (kind.__doc__ or "").split("\n")[0].rstrip(".")
    problem: Mapping[str, object] = {
        "type": type_of(kind),
        "title": title,
        "status": status or status_of(kind),
        "detail": detail,
    }
    return json.dumps(problem).encode()


ERRORS = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
"""The classes of errors by name."""
