"""The questions that a server answers: every public function of `query` that reads, by signature and docstring, and
what `query.experiments` has of stored results.

A new query is among them by itself.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import query
from query import experiments
from query.remote.arguments import is_reader, parameters

LIVE = ("text", "image", "vector")
"""Arguments that a network has to read."""

_ENTRY = re.compile(r"^(\w+): ", re.M)


@dataclass(frozen=True, eq=False)
class Question:
    """A public function: ``summary``, ``about`` (each argument), ``answer`` and ``errors`` are of its docstring.

    ``long``: it tells its progress, so it may take minutes, and runs in a process that can be ended.
    """

    name: str
    function: Callable[..., Any]
    parameters: Mapping[str, inspect.Parameter]
    summary: str
    text: str
    about: Mapping[str, str]
    answer: str
    errors: Mapping[str, str]
    long: bool

    @property
    def reader(self) -> inspect.Parameter | None:
        """The parameter of the network that reads an input, if there is one."""
        return next((parameter for parameter in self.parameters.values() if is_reader(parameter)), None)

    def reads(self, given: Mapping[str, Any]) -> bool:
        """Whether a network has to read something for it."""
        reader = self.reader
        always = reader is not None and reader.default is reader.empty
        return always or any(given.get(name) is not None for name in LIVE if name in self.parameters)


@cache
def questions() -> dict[str, Question]:
    """All of them by name."""
    names = [name for name in query.__all__ if not inspect.isclass(getattr(query, name)) and name not in query.WRITES]
    functions = {name: getattr(query, name) for name in names}
    functions |= {f"experiments.{name}": getattr(experiments, name) for name in experiments.SERVED}
    return {name: _question(name, function) for name, function in functions.items()}


def _question(name: str, function: Callable[..., Any]) -> Question:
    parts = re.split(r"^(Args|Returns|Raises):\n", inspect.getdoc(function) or "", flags=re.M)
    sections = dict(zip(parts[1::2], map(inspect.cleandoc, parts[2::2]), strict=True))
    summary, _, text = parts[0].strip().partition("\n\n")
    return Question(
        name,
        function,
        parameters(function),
        _joined(summary),
        _joined(text),
        _entries(sections.get("Args", "")),
        _joined(sections.get("Returns", "")),
        _entries(sections.get("Raises", "")),
        "progress" in inspect.signature(function).parameters,
    )


def _entries(section: str) -> dict[str, str]:
    """``name: text`` by name; a text may take several lines."""
    parts = _ENTRY.split(section)
    return {name: _joined(text) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def _joined(text: str) -> str:
    return " ".join(text.split())
