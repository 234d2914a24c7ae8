"""Options of an experiment: a frozen dataclass with a docstring a field.

The command line and the explorer take name, type, default and help of every option from here.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """What every experiment is asked with."""

    network: str | None = None
    """Name of a network in the atlas, where there are several."""

    seed: int = 0
    """Of everything that is drawn at random."""


@dataclass(frozen=True, kw_only=True)
class IntervalOptions(CommonOptions):
    """What an experiment with intervals is asked with."""

    resamples: int = 1000
    """Resamples of an interval, and permutations of a test."""

    confidence: float = 0.95
    """Confidence of the intervals."""


@dataclass(frozen=True)
class Option:
    """One field of a class of options. ``default`` is `MISSING` where a value must be given."""

    name: str
    type: Any
    default: Any
    help: str

    @property
    def required(self) -> bool:
        return self.default is MISSING


def options_of(kind: type[CommonOptions]) -> Mapping[str, Option]:
    """The options of a class, by name: the network, its own, and what it inherits."""
    types, helps = get_type_hints(kind), _docstrings(kind)
    inherited = {field.name for base in (CommonOptions, IntervalOptions) for field in fields(base)} - {"network"}
    ordered = sorted(fields(kind), key=lambda field: (field.name in inherited, field.name != "network"))
    return {
        field.name: Option(field.name, types[field.name], field.default, helps.get(field.name, ""))
        for field in ordered
    }


def _docstrings(kind: type) -> dict[str, str]:
    """The string after each field, as it stands in the source: Python itself does not keep it."""
    helps: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        [definition] = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(definition, ast.ClassDef)
        for field, after in zip(definition.body, definition.body[1:], strict=False):
            if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
                continue
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                helps[field.target.id] = " ".join(str(after.value.value).split())
    return helps
