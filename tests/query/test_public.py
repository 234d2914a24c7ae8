"""The public surface, and what importing it loads."""

import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

import query


def test_exported_names():
    assert query.__all__ == [
        "Subject",
        "class_density",
        "cluster_names",
        "cluster_path",
        "clusterings",
        "clusters",
        "density",
        "differing_gates",
        "fate",
        "gates_apart",
        "info",
        "layout_examples",
        "layout_points",
        "layouts",
        "member_counts",
        "member_flow",
        "members",
        "membership",
        "name_cluster",
        "near_clusters",
        "nearest",
        "nearest_many",
        "neighborhoods",
        "passage",
        "rasters",
        "sql",
        "subject",
        "unit",
        "units",
        "verify",
    ]
    assert all(callable(getattr(query, name)) for name in query.__all__)
    assert all(getattr(query, name).__doc__ for name in query.__all__)


def takes_two_numbers_in_silence(function: Callable[..., object]) -> bool:
    """Whether two whole numbers of different meaning can change places unseen; x and y are two of one meaning."""
    positional = [
        parameter
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is not parameter.KEYWORD_ONLY and str(parameter.annotation).split(" |")[0] == "int"
    ]
    names = {parameter.name for parameter in positional}
    return bool(names & {"cluster", "clustering"}) or len(names - {"y"}) > 1


@pytest.mark.parametrize("name", [name for name in query.__all__ if not inspect.isclass(getattr(query, name))])
def test_numbers_can_not_change_places(name):
    assert not takes_two_numbers_in_silence(getattr(query, name))


def test_swapped_numbers_are_noticed():
    def swapped(atlas: object, cluster: "int", clustering: "int | None" = None) -> None: ...

    def pair(atlas: object, x: "int", y: "int") -> None: ...

    assert takes_two_numbers_in_silence(swapped)
    assert not takes_two_numbers_in_silence(pair)


UNDESCRIBED = {"cluster_names", "info", "name_cluster", "sql", "verify"}
"""Functions whose docstrings don't list their arguments yet; to be shortened."""


@pytest.mark.parametrize("name", [name for name in query.__all__ if not inspect.isclass(getattr(query, name))])
def test_every_argument_is_described(name):
    function = getattr(query, name)
    missing = [p for p in inspect.signature(function).parameters if f"        {p}: " not in function.__doc__]
    assert bool(missing) == (name in UNDESCRIBED), missing


HEAVY = ("torch", "streamlit", "hdbscan", "ingest", "app")


def test_import_loads_no_network():
    code = f"import query, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
