"""The one place where a question is told from the atlas that it is put to: here, or held by a server."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from atlas.errors import UsageError
from atlas.remote import RemoteAtlas

P = ParamSpec("P")
R = TypeVar("R")

_signature = cache(inspect.signature)


def dispatched(
    question: Callable[P, R],
    *,
    name: str | None = None,
    refused: str | None = None,
    mend: Callable[[R], R] = lambda answer: answer,
) -> Callable[P, R]:
    """The same question, which a server answers where the atlas is one that it holds.

    Args:
        question: a function whose first argument is an atlas.
        name: what a server calls it; the function's own name by default.
        refused: why no server answers it, as a sentence, if none does.
        mend: gives an answer back what does not travel.
    """

    @wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        atlas = args[0] if args else kwargs.get("atlas")
        if not isinstance(atlas, RemoteAtlas):
            return question(*args, **kwargs)
        if refused is not None:
            raise UsageError(refused)
        answer: R = mend(_ask(atlas, question, name or question.__name__, args, kwargs))
        return answer

    return ask


def _ask(
    atlas: RemoteAtlas, question: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    from ..examples.subjects import Subject
    from .arguments import sent

    given = dict(_signature(question).bind_partial(*args, **kwargs).arguments)
    for argument, value in given.items():
        if isinstance(value, Subject) and value.atlas != atlas.path:
            raise UsageError(f"the {argument} was read in {value.atlas}, not in {atlas.address}; read it there")
    answer = atlas.ask(name, sent(question, given))
    return replace(answer, atlas=atlas.path) if isinstance(answer, Subject) else answer
