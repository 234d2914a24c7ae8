"""Every notebook of docs/notebooks runs from top to bottom, and what a cell ends with shows itself."""

import ast
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import jupytext
import pytest

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.md"))


def shown(value: Any) -> str:
    """As Jupyter shows what a cell ends with."""
    rich = getattr(value, "_repr_html_", None)
    return repr(value) if rich is None else rich()


def run(code: str, names: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last line, where that is an expression."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def test_there_is_a_notebook_for_each_need() -> None:
    assert [notebook.stem for notebook in NOTEBOOKS] == [
        "bring-your-network",
        "features-and-polytopes",
        "first-look",
        "predictions",
        "sql-recipes",
    ]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda notebook: notebook.stem)
def test_notebook_runs_and_shows_itself(
    notebook: Path, demo_atlas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo.atlas").symlink_to(demo_atlas)
    names = vars(ModuleType("notebook"))
    outputs = []
    for cell in jupytext.read(notebook).cells:
        if cell.cell_type == "code":
            began = time.process_time()
            value = run(cell.source, names)
            outputs.append("" if value is None else shown(value))
            print(f"{time.process_time() - began:.1f} s: {cell.source.splitlines()[0]}\n{outputs[-1][:300]}")
    assert len(outputs) >= 6 and sum(bool(output) for output in outputs) >= 4
    assert not [output for output in outputs if "object at 0x" in output]
