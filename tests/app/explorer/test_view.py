"""What pages are handed: callbacks that fail with a sentence, networks one at a time, answers that are kept."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import atlas
from app.explorer import view
from app.explorer.view import View
from atlas import Atlas
from atlas.store.names import NAMES

APP = Path(__file__).parents[3] / "app"
WORDS = ("on_click", "on_change", "on_select", "on_drawn")


def callbacks() -> Iterator[tuple[str, ast.Module, ast.Name]]:
    """File, its syntax tree, and the name of every function that a widget of it is given."""
    for file in sorted(APP.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg in WORDS and not isinstance(node.value, ast.Constant):
                assert isinstance(node.value, ast.Name), f"{file}, line {node.value.lineno}"
                yield file.relative_to(APP).as_posix(), tree, node.value


def guarded(tree: ast.Module, name: str) -> bool:
    """Whether the function of that name is; a parameter comes from a caller, who is asked instead."""
    definitions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    parameters = {argument.arg for node in definitions for argument in (*node.args.args, *node.args.kwonlyargs)}
    decorators = [
        [ast.unparse(decorator) for decorator in node.decorator_list] for node in definitions if node.name == name
    ]
    return all("guarded" in each for each in decorators) if decorators else name in parameters


def test_each_widgets_callback_can_fail():
    """Streamlit would show what it raises in a box of its own, under the heading "Traceback"."""
    found = list(callbacks())
    assert len(found) > 10
    assert [
        f"{file}, line {name.lineno}: {name.id}" for file, tree, name in found if not guarded(tree, name.id)
    ] == []


MINUTES = ("Intruder tests", "Ranking units", "Writing the report", "Looking around on the way")
"""What may take minutes, and would keep pages from being drawn if it took turns of theirs."""

SECONDS = ("Comparing codes", "Reading unit", "Counting gates", "Looking up what is measured")
"""What a page needs to be drawn."""


def jobs_asked_for() -> Iterator[tuple[str, str]]:
    """Label, up to what is filled in, and turns of every job that a page starts."""
    for file in sorted(APP.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "view.work":
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                usual = "jobs.LONG" if given.get("live") == "True" else "jobs.PAGE"
                label = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
                words = str(label.value).strip() if isinstance(label, ast.Constant) else ast.unparse(label)
                yield words, given.get("turns", usual)


def test_long_questions_have_turns_apart():
    """What takes minutes waits for turns of its own."""
    turns = dict(jobs_asked_for())
    assert {label: turns.get(label) for label in MINUTES} == dict.fromkeys(MINUTES, "jobs.LONG")
    assert {label: turns.get(label) for label in SECONDS} == dict.fromkeys(SECONDS, "jobs.PAGE")


def rows(a: Atlas, n: int) -> bytes:
    asked.append(n)
    return bytes(n)


asked: list[int] = []


@pytest.mark.usefixtures("unchecked")
def test_an_answer_too_large_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An answer that would drop everyones is not kept."""
    monkeypatch.setattr(view, "LARGEST_KEPT", 1000)
    with atlas.create(tmp_path / "a"):
        pass
    with atlas.open(tmp_path / "a") as a:
        page = View(a, None, "")  # type: ignore[arg-type]
        for _ in range(2):
            assert page.ask(rows, 10) == bytes(10) and page.ask(rows, 2000) == bytes(2000)
    assert sorted(asked) == [10, 2000, 2000]


def counted(a: Atlas, label: str) -> str:
    counts[label] += 1
    return label


counts: Counter[str] = Counter()


@pytest.mark.usefixtures("unchecked")
def test_a_name_spares_what_tells_none(tmp_path: Path):
    """Answers that hold no name of a cluster stay when somebody names one; what is asked for one is asked anew."""
    with atlas.create(tmp_path / "a"):
        pass
    with atlas.open(tmp_path / "a") as a:
        page = View(a, None, "")  # type: ignore[arg-type]
        for _ in range(2):
            page.ask(counted, "asked")
            for tells_names in (True, False):
                page.work("", counted, f"worked, {tells_names}", tells_names=tells_names)
            (tmp_path / "a" / NAMES).write_text("{}\n", encoding="utf-8")
    assert counts == {"asked": 2, "worked, True": 2, "worked, False": 1}
