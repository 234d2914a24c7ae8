"""Checks the types and shapes that annotations of the packages state, whenever they are called."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, get_type_hints

import jaxtyping

PACKAGES = ["atlas", "ingest", "query", "app"]
BEARTYPE = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, violation_type=TypeError))"
"""An int passes for a float, as in mypy; what is wrong is a `TypeError`, as jaxtyping's are."""

CALLS = 100
"""How often a function is checked in a process: what is called a million times would be checked for a tenth of all
time, and is called in the same ways."""

_with_shapes = jaxtyping.jaxtyped


def install() -> None:
    """Before the packages are imported."""
    jaxtyping.jaxtyped = _checked  # what jaxtyping's import hook decorates with
    jaxtyping.install_import_hook(PACKAGES, BEARTYPE)


def _checked(what: Any = None, *, typechecker: Callable[[Any], Any]) -> Any:
    """`jaxtyping.jaxtyped`, but a function's annotations are read when it is first called.

    A process that collects tests imports thousands of functions and calls few: reading them all took a third of its
    time. Functions within functions are left alone."""
    if what is None:
        return partial(_checked, typechecker=typechecker)
    if dataclasses.is_dataclass(what) and "__init__" in vars(what):
        what.__init__ = _checked(what.__init__, typechecker=typechecker)
        return what
    if not inspect.isfunction(what):
        return _with_shapes(what, typechecker=typechecker)
    if "<locals>" in what.__qualname__:  # made anew at every call, and read anew by the checker each time
        return what
    checked, calls = None, 0

    @wraps(what)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked, calls
        if calls == CALLS or jaxtyping.config.jaxtyping_disable:
            return what(*args, **kwargs)
        calls += 1
        if checked is None:
            checked = _reads_annotations(what, typechecker)
        return checked(*args, **kwargs)

    return call


def _reads_annotations(function: Callable[..., Any], typechecker: Callable[[Any], Any]) -> Callable[..., Any]:
    """Functions of arrays are checked by jaxtyping, all others by beartype alone, which takes a tenth of the time."""
    if _needs_jaxtyping(function):
        return _with_shapes(function, typechecker=typechecker)
    annotations = dict(function.__annotations__)
    checked = typechecker(function)
    function.__annotations__ = annotations  # which beartype has read, and put types in place of their text
    return checked


def _needs_jaxtyping(function: Callable[..., Any]) -> bool:
    """It has arrays, parameters that beartype can't read from their text, or names that are not known yet."""
    try:
        hints = repr(get_type_hints(function))
    except NameError:
        return True
    return "jaxtyping" in hints or "P.args" in hints
