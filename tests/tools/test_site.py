"""The site has a page for everything that can be used, every link leads somewhere, and what looks runnable is run."""

import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli.commands import cli
from app.serving.questions import questions
from tools import site

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FROM_ELSEWHERE = re.compile(r"<(?:script|img|link|iframe)\b[^>]*?\b(?:src|href)=\"?(?:https?:)?//", re.I)

RUN_BY = {
    "README.md": "tests/app/cli/test_main.py",
    "CONTRIBUTING.md": "tests/test_docs.py",
    "FORMAT.md": "tests/ingest/sharing/test_sharing.py",
    "INSTALL.md": "tests/app/cli/test_codes.py",
}
"""Which test runs the Python of a page; API.md has signatures."""


@pytest.fixture(scope="module")
def built_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return site.build(tmp_path_factory.mktemp("site") / "site")


@pytest.mark.slow
def test_site_describes_all_that_is_public(built_site, commands):
    """Every public name, command and column; warnings, of which there are none, would have failed the build."""
    python = (built_site / "reference" / "python.html").read_text("utf-8")
    for package in map(import_module, site.PACKAGES):
        described = [name for name in package.__all__ if callable(vars(package).get(name)) and name != "Progress"]
        assert described and [name for name in described if f"{package.__name__}.{name}\n" not in python] == []
    page = (built_site / "reference" / "cli.html").read_text("utf-8")
    names = [name for name in commands.commands if name != "experiment"]
    assert [name for name in [*names, "experiment density"] if f"polytope {name}" not in page] == []
    http = (built_site / "reference" / "http.html").read_text("utf-8")
    assert [name for name in questions() if f"POST /v1/ATLAS/{name}" not in http] == []
    columns = re.findall(r"^comment on column (\S+)\.\"?(\w+)\"? is", (ROOT / "schema.sql").read_text("utf-8"), re.M)
    page = (built_site / "reference" / "schema.html").read_text("utf-8")
    assert len(columns) > 200 and [name for _, name in columns if f"<code>{name}</code>" not in page] == []


def test_site_asks_nothing_of_others(built_site):
    """No script, style, font or picture comes from elsewhere."""
    for page in built_site.rglob("*.html"):
        assert FROM_ELSEWHERE.findall(page.read_text("utf-8")) == [], page
    assert not [file for file in built_site.rglob("*.css") if "fonts.googleapis" in file.read_text("utf-8")]


def test_link_that_leads_nowhere_fails(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[two](two.md)\n")
    (tmp_path / "zensical.toml").write_text(
        '[project]\nsite_name = "x"\n[project.validation]\ninvalid_links = true\n'
    )
    with pytest.raises(subprocess.CalledProcessError, match="non-zero exit status"):
        site.generate(tmp_path)


@pytest.fixture(scope="module")
def commands() -> Any:
    return typer.main.get_command(cli)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", page.read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_in_pages_exist(page, commands):
    """An unknown command or option, or a missing argument, raises."""
    for block in blocks(page, "sh"):
        given = dict(re.findall(r'^(\w+)="(.*)"$', block, re.M))
        for line in re.sub(r"\$(\w+)", lambda name, given=given: given.get(name[1], name[1]), block).splitlines():
            if not line.startswith("polytope ") or "…" in line:
                continue
            group = commands
            words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
            while hasattr(group, "get_command"):
                context = group.make_context("polytope", list(words), resilient_parsing=True)
                name, *words = words
                group = group.get_command(context, name)
                assert group is not None, line
            group.make_context(name, list(words))


def test_python_in_pages_is_run():
    """Every page with Python is one that a test runs, or a notebook."""
    pages = {page.name for page in PAGES if blocks(page, "python") and page.parent.name != "notebooks"}
    assert pages == {*RUN_BY, "API.md"}
    for name, test in RUN_BY.items():
        assert name in (ROOT / test).read_text("utf-8")
