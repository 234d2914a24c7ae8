"""How the arguments of public functions are given and described; which there are, docs/API.md says."""

import inspect
from collections.abc import Callable

import pytest

import query


def takes_two_numbers_in_silence(function: Callable[..., object]) -> bool:
    """Whether two whole numbers of different meaning can change places unseen; x and y are two of one meaning."""
    parameters = inspect.signature(function).parameters.values()
    names = {
        parameter.name
        for parameter in parameters
        if parameter.kind is not parameter.KEYWORD_ONLY and str(parameter.annotation).split(" |")[0] == "int"
    }
    return bool(names & {"cluster", "clustering"}) or len(names - {"y"}) > 1


def test_swapped_numbers_are_noticed():
    def swapped(atlas: object, cluster: "int", clustering: "int | None" = None) -> None: ...

    def pair(atlas: object, x: "int", y: "int") -> None: ...

    assert takes_two_numbers_in_silence(swapped)
    assert not takes_two_numbers_in_silence(pair)


@pytest.mark.parametrize("name", [name for name in query.__all__ if not inspect.isclass(getattr(query, name))])
def test_arguments_are_described_and_safe(name):
    """Each is described in a line of its own, and no two numbers of different meaning can change places."""
    function = getattr(query, name)
    parameters = inspect.signature(function).parameters
    assert [name for name in parameters if f"        {name}: " not in function.__doc__] == []
    assert not takes_two_numbers_in_silence(function)
