"""The one place where a question is told from the atlas that it is put to: here, or held by a server."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar

from atlas.errors import UsageError
from atlas.remote import RemoteAtlas

P = ParamSpec("P")
R = TypeVar("R")

_signature = cache(inspect.signature)


def dispatched(question: Callable[P, R], writes: Collection[str]) -> Callable[P, R]:
    """The same question, which a server answers where the atlas is one that it holds; ``writes``: those that none
    answers."""

    @wraps(question)
    def ask(*args: P.args, **kwargs: P.kwargs) -> R:
        atlas = args[0] if args else kwargs.get("atlas")
        if not isinstance(atlas, RemoteAtlas):
            return question(*args, **kwargs)
        if question.__name__ in writes:
            raise UsageError(
                f"{question.__name__} writes, and a served atlas is only read; ask where it lies on disk"
            )
        answer: R = _ask(atlas, question, args, kwargs)
        return answer

    return ask


def _ask(atlas: RemoteAtlas, question: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    from ..examples.subjects import Subject
    from .arguments import sent

    given = dict(_signature(question).bind_partial(*args, **kwargs).arguments)
    for name, value in given.items():
        if isinstance(value, Subject) and value.atlas != atlas.path:
            raise UsageError(f"the {name} was read in {value.atlas}, not in {atlas.path}; read it there")
    answer = atlas.ask(question.__name__, sent(question, given))
    return replace(answer, atlas=atlas.path) if isinstance(answer, Subject) else answer
