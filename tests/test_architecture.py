"""Imports run one way and in no circle, heavy libraries are at home in one folder, and light packages stay light."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("atlas", "ingest", "query", "app")

LAYERS = {
    "atlas": {"atlas"},
    "ingest": {"ingest", "atlas"},
    "query": {"query", "atlas"},
    "query.experiments": {"query.experiments", "query", "atlas"},
    "app": {"app", "ingest", "query", "query.experiments", "atlas"},
    "app.http": {"app.http", "app", "query", "atlas"},
    "app.mcp": {"app.mcp", "app", "query", "query.experiments", "atlas"},
    "app.cli": {"app.cli", "app.http", "app.mcp", "app", "ingest", "query", "query.experiments", "atlas"},
    "app.explorer": {"app.explorer", "app", "ingest", "query", "query.experiments", "atlas"},
}
"""What each part of the project may import; a module belongs to the longest name that it starts with."""

AT_HOME = {
    "duckdb": {"atlas.store"},
    "faiss": {"atlas.search"},
    "hdbscan": {"atlas.clustering"},
    "ray": {"ingest.run"},
    "numba": {"atlas.search", "atlas.clustering"},
    "streamlit": {"app.explorer"},
    "fsspec": {"atlas.store", "ingest.sharing"},
    "mcp": {"app.mcp"},
    "fastapi": {"app.http"},
    "starlette": {"app.http", "app.explorer.entry"},
    "uvicorn": {"app.http"},
    "prometheus_client": {"app.http"},
}
"""The folders that alone import a library."""

CIRCLES = {
    frozenset({"ingest.networks.inceptionv1", "ingest.networks.inceptionv1_tail"}),
}
"""Sets of modules that still import each other in a circle; to be shortened, never to grow."""


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the project by its dotted name."""
    return {
        ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            file.read_text(encoding="utf-8")
        )
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
    }


def is_package(module: str) -> bool:
    return (ROOT / module.replace(".", "/")).is_dir()


def imports(module: str, tree: ast.AST, *, for_types: bool = True) -> Iterator[str]:
    """Dotted names of what a module imports, wherever in it; ``from a import b`` names ``a.b`` if that is a module.

    Without ``for_types`` what stands under ``if TYPE_CHECKING`` is left out: it is never imported.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".") if is_package(module) else module.split(".")[:-1]
                base = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in modules() else base
        elif isinstance(node, ast.expr):  # imports nothing, and is most of a module
            continue
        elif not for_types and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from (name for other in node.orelse for name in imports(module, other, for_types=False))
        else:
            yield from imports(module, node, for_types=for_types)


@cache
def imported(module: str) -> frozenset[str]:
    """What `imports` names, all of it."""
    return frozenset(imports(module, modules()[module]))


def layer(module: str) -> str | None:
    """The part of the project that a module belongs to; None outside of it."""
    return max((name for name in LAYERS if f"{module}.".startswith(f"{name}.")), key=len, default=None)


def test_imports_run_one_way() -> None:
    wrong: dict[str, set[str]] = {}
    for module in modules():
        for name in imported(module):
            if layer(name) is not None and layer(name) not in LAYERS[str(layer(module))]:
                wrong.setdefault(module, set()).add(name)
    assert wrong == {}


def circles() -> set[frozenset[str]]:
    """Sets of modules each of which imports all others, directly or not; an import in a function counts as well.

    A module that imports a name from a package imports the package, whose ``__init__`` runs first; that the package
    imports its own modules is no circle of theirs.
    """
    graph = {
        module: {name for name in imports(module, tree, for_types=False) if name in modules() and name != module}
        for module, tree in modules().items()
    }

    @cache
    def reached(module: str) -> frozenset[str]:
        seen, waiting = set(), [module]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        return frozenset(seen)

    both = [frozenset({m, *(other for other in reached(m) if m in reached(other))}) for m in graph if m in reached(m)]
    return set(both)


def test_no_modules_import_each_other() -> None:
    assert circles() == CIRCLES


@pytest.mark.parametrize("library", AT_HOME)
def test_library_is_imported_at_home_alone(library: str) -> None:
    importing = {m for m in modules() if any(f"{name}.".startswith(f"{library}.") for name in imported(m))}
    assert importing, f"nothing imports {library}: take it off the list"
    strangers = {m for m in importing if not any(f"{m}.".startswith(f"{home}.") for home in AT_HOME[library])}
    assert strangers == set()


def test_no_module_is_hidden_by_a_function() -> None:
    """A package that exports a function of its module's name takes the module out of reach of ``import package``."""
    for module, tree in modules().items():
        if not is_package(module):
            continue
        exported = {
            alias.asname or alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        hidden = {name for name in exported if f"{module}.{name}" in modules()}
        assert hidden == set(), module


def test_names_of_modules_resolve() -> None:
    """What the other tests take for imports of the project's own modules are modules of it, or names in one."""
    for module in modules():
        for name in imported(module):
            assert layer(name) is None or name in modules(), f"{module} imports {name}"


REFUSED = """
from atlas.errors import UsageError
from atlas.network import NetworkInfo
try:
    info = NetworkInfo("given", "", "text", ingest.networks.registry.RECORDED, "a.npy", "", {})
    ingest.networks.reload_network(info)
    print("a network of codes from elsewhere")
except UsageError:
    pass
"""
"""Says at once that there is no network to load, where codes came from elsewhere."""

LIGHT = {
    "import atlas": "torch streamlit faiss hdbscan transformer_lens",
    "import ingest, ingest.progress": "torch streamlit faiss hdbscan sklearn numba transformers",
    "import ingest.datasets": "torch datasets sklearn",
    "from ingest.datasets.builtin import python_texts; next(python_texts('all'))": "torch",
    "import ingest.run.run, ingest.networks": "torch streamlit transformer_lens transformers",
    REFUSED: "torch transformers",
    "import query": "torch streamlit transformer_lens",
    "from query.experiments import registry; registry.find('occupancy')": "torch query.experiments.density",
}
"""Statements that are run one after the other, and what none of them nor any before it has loaded."""


def test_light_imports_load_nothing_heavy() -> None:
    checks = (f"{code}\nprint(sorted(set({absent.split()}) & set(sys.modules)))" for code, absent in LIGHT.items())
    code = "\n".join(("import sys", *checks))
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ran.stdout.splitlines() == ["[]"] * len(LIGHT)
