"""Builds the documentation's site: docs/, with references that are made from the code.

    python -m tools.site [FOLDER]

The site is in FOLDER/site (default: build/site). A warning, as of a link that leads nowhere, is an error.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import typer

import atlas
from app.cli.commands import cli
from app.http.bodies import body_of, words_of
from app.http.problems import status_of
from app.serving.questions import questions
from atlas import errors
from query.store.queries import schema

ROOT = Path(__file__).parents[1]
PACKAGES = ("atlas", "ingest", "query", "query.experiments")


def build(folder: Path) -> Path:
    """Build the site; returns its folder.

    Args:
        folder: where pages and site are written; what is there is replaced.

    Raises:
        subprocess.CalledProcessError: a page has a warning, which was printed.
    """
    write_pages(folder)
    generate(folder)
    return folder / "site"


def generate(folder: Path) -> None:
    """Make a site of the pages of a folder, as its zensical.toml says. Raises `subprocess.CalledProcessError`."""
    command = [str(Path(sys.executable).parent / "zensical"), "build", "--clean", "--strict"]
    subprocess.run(command, cwd=folder, check=True)


def write_pages(folder: Path) -> None:
    """Write all pages, and what says how they become a site."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder / "docs", ignore=shutil.ignore_patterns("API.md"))
    shutil.copy(ROOT / "CHANGELOG.md", folder / "docs")
    settings = (ROOT / "zensical.toml").read_text("utf-8").replace('paths = [".."]', f'paths = ["{ROOT}"]')
    (folder / "zensical.toml").write_text(settings, encoding="utf-8")
    (folder / "docs" / "reference").mkdir()
    for name, page in pages().items():
        (folder / "docs" / "reference" / f"{name}.md").write_text(page, encoding="utf-8")


def pages() -> dict[str, str]:
    """The references, by name."""
    return {"python": python_page(), "cli": cli_page(), "http": http_page(), "schema": schema_page()}


def python_page() -> str:
    """Every public name, for mkdocstrings to describe."""
    lines = [
        "# Python",
        "",
        "What `__all__` of each package holds; anything else may move from one version to the next.",
        "",
    ]
    for name in PACKAGES:
        package = importlib.import_module(name)
        lines += [f"## {name}", "", (inspect.getdoc(package) or "").partition("\n\n")[0], ""]
        for public in sorted(package.__all__, key=str.lower):
            value = getattr(package, public)
            if inspect.isclass(value) or inspect.isroutine(value):
                lines += [f"::: {value.__module__}.{value.__qualname__}", *_called(f"{name}.{public}"), ""]
    return "\n".join(lines)


def _called(name: str) -> list[str]:
    """Has mkdocstrings head a description with the name that a user imports."""
    return ["    options:", f"      heading: {name}", f"      toc_label: {name.rpartition('.')[2]}"]


def cli_page() -> str:
    """Every command with its arguments and options, as `--help` prints them."""
    lines = ["# Command line", "", "`polytope COMMAND …`; each has `--help`.", ""]
    return "\n".join([*lines, *_commands(typer.main.get_command(cli), "polytope")])


def _commands(group: Any, called: str) -> Iterator[str]:
    """The pages of the commands of a group, and of those below them."""
    of_group = group.make_context(called, [], resilient_parsing=True)
    for name in sorted(group.list_commands(of_group)):
        command, words = group.get_command(of_group, name), f"{called} {name}"
        if hasattr(command, "list_commands"):
            yield from _commands(command, words)
            continue
        context = command.make_context(words, [], resilient_parsing=True)
        yield from (f"## {words}", "", _prose(command.help or ""), "")
        records = [record for parameter in command.params if (record := parameter.get_help_record(context))]
        if records:
            yield from ("| argument or option | what it says |", "|---|---|")
            yield from (f"| `{_cell(names)}` | {_cell(_prose(said))} |" for names, said in records)
            yield ""


def http_page() -> str:
    """Every question that a server answers, from the models of its OpenAPI description."""
    lines = [
        "# HTTP",
        "",
        "`polytope serve ATLAS` answers under `/v1/ATLAS/QUESTION`, and has this as a page that can be tried "
        "(`/docs`) and as OpenAPI (`/openapi.json`). A body is a JSON object of the parameters below; the answer is "
        "JSON, Arrow or Parquet by the header `Accept`. Errors are `application/problem+json`.",
        "",
    ]
    for name, question in questions().items():
        also = " Also `GET`, with parameters in the address." if words_of(question) else ""
        lines += [f"## POST /v1/ATLAS/{name}", "", f"{_prose(question.summary)} {_prose(question.text)}{also}", ""]
        model = body_of(question).model_json_schema()
        fields = model.get("properties", {})
        if fields:
            lines += ["| parameter | type | default | what it is |", "|---|---|---|---|"]
        for field, about in fields.items():
            default = "required" if field in model.get("required", ()) else f"`{json.dumps(about.get('default'))}`"
            said = _cell(_prose(about.get("description", "")))
            lines.append(f"| `{field}` | `{_cell(_json_type(about))}` | {default} | {said} |")
        lines += ["", f"Returns: {_prose(question.answer)}", ""]
        for error, when in question.errors.items():
            kind = getattr(errors, error, errors.PolytopeError)
            lines.append(f"- {status_of(kind)} `{error}`: {_prose(when)}")
        lines.append("")
    return "\n".join(lines)


def _json_type(about: dict[str, Any]) -> str:
    """The type of a field as JSON schema has it, in a word or a few."""
    if "anyOf" in about:
        return " | ".join(dict.fromkeys(_json_type(kind) for kind in about["anyOf"] if kind.get("type") != "null"))
    if "$ref" in about:
        return str(about["$ref"]).rpartition("/")[2]
    if "enum" in about:
        return " | ".join(map(json.dumps, about["enum"]))
    return f"{_json_type(about['items'])}[]" if "items" in about else str(about.get("type", "any"))


def schema_page() -> str:
    """Every table, view and column, from the comments of schema.sql."""
    lines = [
        "# Tables and columns",
        "",
        "What SQL sees of an atlas, from the comments of `schema.sql`; in an atlas, `from documentation` lists them.",
        "",
    ]
    with tempfile.TemporaryDirectory() as folder, atlas.create(Path(folder) / "empty.atlas") as a:
        said = dict(
            a.rows(
                "select table_name, comment from duckdb_tables() where not internal union all "
                "select view_name, comment from duckdb_views() where not internal"
            )
        )
        for table, rows in groupby(schema(a).itertuples(index=False, name=None), key=itemgetter(0)):
            lines += [
                f"## {table}",
                "",
                _prose(said[table]),
                "",
                "| column | type | what it holds |",
                "|---|---|---|",
            ]
            lines += [f"| `{name}` | `{_cell(kind)}` | {_cell(_prose(comment))} |" for _, name, kind, comment in rows]
            lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Inside of a table, on one line."""
    return " ".join(text.split()).replace("|", "\\|")


def _prose(text: str) -> str:
    """A text that is no Markdown, shown as it is; what it has in backquotes stays code."""
    parts = text.replace("``", "`").split("`")
    return "`".join(part if at % 2 else re.sub(r"([\\*_\[\]<>#])", r"\\\1", part) for at, part in enumerate(parts))


if __name__ == "__main__":
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"))
