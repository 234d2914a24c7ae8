"""Writes docs/API.md, every public name of atlas, ingest and query with its signature and first line, and
docs/glossary.md, the words that the explorer explains.

    python tools/api_docs.py

tests/test_docs.py fails where a page is not what the code says.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from app.explorer.parts import terms

PAGE = Path(__file__).parents[1] / "docs" / "API.md"
WORDS = PAGE.with_name("glossary.md")
PACKAGES = ("atlas", "ingest", "query", "query.experiments")
WIDTH = 100
"""Characters of a line; a longer signature has a line for each parameter."""

HEAD = """# Public names

What `__all__` of each package holds; anything else may move from one version to the next. `help(query.nearest)` says
shapes, units and errors. `make docs` writes this page.
"""


def page() -> str:
    """The page as Markdown, from the packages as they are now."""
    return "\n".join([HEAD, *(_package(import_module(name)) for name in PACKAGES)])


def _package(package: ModuleType) -> str:
    lines = [f"## {package.__name__}", "", _first_paragraph(package), ""]
    for name in sorted(package.__all__, key=str.lower):
        lines += _entry(f"{package.__name__}.{name}", getattr(package, name))
    return "\n".join(lines)


def _entry(name: str, value: Any) -> list[str]:
    """A function with its signature and first line; a class with its documented methods too; else a value."""
    if inspect.isclass(value):
        functions = {n: of for n, of in vars(value).items() if inspect.isfunction(of) and not n.startswith("_")}
        methods = [[*_signature(n, of), f"    # {_first_paragraph(of)}"] for n, of in functions.items() if of.__doc__]
        code = ["```python", *(line for method in methods for line in method), "```", ""] if methods else []
        return [f"### `{name}`", "", _first_paragraph(value), "", *code]
    if inspect.isroutine(value):
        short = name.rpartition(".")[2]
        return [f"### `{name}`", "", "```python", *_signature(short, value), "```", "", _first_paragraph(value), ""]
    return [f"### `{name}`", "", f"`{value!r}`", ""]


class _Annotation(str):
    """An annotation as it stands in the source; `inspect` would put it in quotes."""

    def __repr__(self) -> str:
        return str(self).replace("'", '"')


def _signature(name: str, function: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(function)
    parameters = [p.replace(annotation=_annotation(p.annotation)) for p in signature.parameters.values()]
    signature = signature.replace(parameters=parameters, return_annotation=_annotation(signature.return_annotation))
    if len(f"{name}{signature}") <= WIDTH:
        return [f"{name}{signature}"]
    lines, keyword_only = [f"{name}("], False
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            lines, keyword_only = [*lines, "    *,"], True
        lines.append(f"    {parameter},")
    return [*lines, f") -> {signature.return_annotation!r}"]


def _annotation(annotation: Any) -> Any:
    return _Annotation(annotation) if isinstance(annotation, str) else annotation


def _first_paragraph(value: Any) -> str:
    """The first paragraph of the docstring on one line. Raises `ValueError` for a public name without one."""
    text = inspect.getdoc(value)
    if not text:
        raise ValueError(f"{value!r} is public and has no docstring")
    return " ".join(text.split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    WORDS.write_text(terms.page(), encoding="utf-8")
