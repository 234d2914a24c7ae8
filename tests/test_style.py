"""How tests are written: their names are short, and one that expects an error names its class and its words."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

TESTS = Path(__file__).parent

WORDLESS = {"KeyboardInterrupt", "SystemExit", "ZeroDivisionError", "InterruptedError", "Enough"}
"""Raised without words; the last one by a test itself."""

TOO_WIDE = {"Exception", "BaseException", "PolytopeError"}


@cache
def trees() -> dict[Path, ast.Module]:
    """Every file of tests, read."""
    return {file: ast.parse(file.read_text(encoding="utf-8")) for file in sorted(TESTS.rglob("test_*.py"))}


def expectations(tree: ast.AST) -> Iterator[tuple[ast.Call, bool]]:
    """Every call of `pytest.raises`, and whether the error is kept under a name, to look at its words."""
    kept = {
        id(item.context_expr)
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
        if item.optional_vars is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "raises":
            yield node, id(node) in kept


def test_expected_errors_name_their_words() -> None:
    """Expected errors name class and words."""
    vague = []
    for file, tree in trees().items():
        for call, kept in expectations(tree):
            kind = ast.unparse(call.args[0])
            has_words = kept or kind in WORDLESS or any(keyword.arg == "match" for keyword in call.keywords)
            if kind in TOO_WIDE or not has_words:
                vague.append(f"{file.relative_to(TESTS)}:{call.lineno} {kind}")
    assert vague == []


SHORTEST, LONGEST = 20, 40
"""Characters of a test's name: what is longer stands in its docstring."""


def test_names_are_short_sentences() -> None:
    names = [
        f"{file.relative_to(TESTS)}: {node.name}"
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        if not SHORTEST <= len(node.name) <= LONGEST
    ]
    assert names == []
