"""The tests of `query` once more, with an atlas whose public questions a server answers.

What they ask besides, to know the truth, is asked of the atlas on disk. Tests that hand in a network of their own, or
damage a copy, stay where they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import update_wrapper
from pathlib import Path
from types import FunctionType

import pytest

import atlas
from atlas import Atlas, RemoteAtlas
from tests.query.clustering import test_clusters, test_flow, test_names
from tests.query.examples import test_rasters
from tests.query.layout import test_layouts
from tests.query.neighbors import test_filters, test_jaccard, test_nearest, test_nearest_many
from tests.query.pairs import test_density, test_differing_gates

MODULES = (
    test_clusters,
    test_density,
    test_differing_gates,
    test_filters,
    test_flow,
    test_jaccard,
    test_layouts,
    test_names,
    test_nearest,
    test_nearest_many,
    test_rasters,
)


class BothAtlas(Atlas, RemoteAtlas):
    """Open on disk and connected to a server: a public question goes there, everything else is answered here."""

    def __init__(self, opened: Atlas, connected: RemoteAtlas) -> None:
        self.__dict__.update(vars(opened) | vars(connected))

    @property
    def path(self) -> Path:
        """Of the atlas on disk."""
        return self.__dict__["path"]


@pytest.fixture(scope="module")
def a(built: Path, url: str) -> Iterator[BothAtlas]:
    with atlas.open(built) as opened, atlas.connect(url) as connected:
        yield BothAtlas(opened, connected)


def asks_the_atlas_alone(test: FunctionType) -> bool:
    """Whether all that a test asks can be asked of a server: of the right types, which is looked at before they are
    sent, and nobody waits to be told of progress."""
    needed = set(inspect.signature(test).parameters)
    unchecked = any(mark.args == ("unchecked",) for mark in getattr(test, "pytestmark", ()))
    source = inspect.getsource(test)
    elsewhere = unchecked or "reader" in source or "progress=" in source
    return "a" in needed and not needed & {"damaged", "monkeypatch"} and not elsewhere


def of_one_target(test: FunctionType) -> FunctionType:
    """The test, asked of the first of its targets alone: of a site or a span, what travels is a name."""
    marks = []
    for mark in getattr(test, "pytestmark", ()):
        names, values = mark.args[:2] if mark.name == "parametrize" else ("", [])
        named = names.split(",") if isinstance(names, str) else names
        only_names = "target" in named and isinstance(values[0], str | tuple)
        marks.append(pytest.mark.parametrize(names, values[:1]).mark if only_names else mark)
    copy = FunctionType(test.__code__, test.__globals__, test.__name__, test.__defaults__, test.__closure__)
    vars(update_wrapper(copy, test))["pytestmark"] = marks
    return copy


TESTS = {
    f"{name}_{module.__name__.rpartition('.')[2]}": of_one_target(test)
    for module in MODULES
    for name, test in vars(module).items()
    if name.startswith("test_") and isinstance(test, FunctionType) and asks_the_atlas_alone(test)
}
globals().update(TESTS)


def test_most_tests_are_asked_again() -> None:
    assert len(TESTS) > 25, sorted(TESTS)
