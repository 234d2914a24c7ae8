"""Imports run one way, heavy libraries are imported in one place, and light packages stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("atlas", "ingest", "query", "app")
MAY_IMPORT = {
    "atlas": {"atlas"},
    "ingest": {"atlas", "ingest"},
    "query": {"atlas", "query"},
    "app": {"atlas", "ingest", "query", "app"},
}
ONLY_IN = {
    "duckdb": {"atlas/store"},
    "faiss": {"atlas/search"},
    "hdbscan": {"atlas/clustering"},
    "numba": {"atlas/search", "atlas/clustering"},
}
"""The folders at which a library is at home."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Path from the root, and syntax tree, of every module of the project."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), ast.parse(file.read_text(encoding="utf-8"))


def imported(module: str, tree: ast.Module) -> set[str]:
    """The top-level packages that a module imports, wherever in it; its own for a relative import."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(module.split("/")[0] if node.level else str(node.module).split(".")[0])
    return found


def test_imports_run_from_app_to_ingest_and_query_to_atlas() -> None:
    wrong = {
        module: foreign
        for module, tree in modules()
        if (foreign := (imported(module, tree) & set(PACKAGES)) - MAY_IMPORT[module.split("/")[0]])
    }
    assert wrong == {}


@pytest.mark.parametrize("library", ONLY_IN)
def test_only_its_folder_imports(library: str) -> None:
    users = {str(Path(module).parent) for module, tree in modules() if library in imported(module, tree)}
    assert users == ONLY_IN[library]


def test_no_relative_import_leaves_its_package() -> None:
    for module, tree in modules():
        depth = module.count("/")
        levels = [node.level for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        assert max(levels, default=0) <= depth, module


@pytest.mark.parametrize(
    ("package", "absent"),
    [
        ("atlas", ("torch", "streamlit", "faiss", "hdbscan", "transformer_lens")),
        ("ingest", ("torch", "streamlit", "transformer_lens")),
        ("ingest.run.run", ("torch", "streamlit", "transformer_lens", "transformers")),
        ("ingest.networks", ("torch", "streamlit", "transformer_lens", "transformers")),
        ("query", ("torch", "streamlit", "transformer_lens")),
    ],
)
def test_importing_a_package_does_not_load(package: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {package}; print(sorted(set({absent!r}) & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout == "[]\n"
