"""Bodies of requests are made of signatures and docstrings; a type that no JSON stands for is noticed."""

from __future__ import annotations

import inspect
from decimal import Decimal

import pytest

from app.http.bodies import body_of
from app.serving.questions import Question, questions


def asked(function: object) -> Question:
    parameters = dict(inspect.signature(function, eval_str=True).parameters)  # type: ignore[arg-type]
    return Question("asked", function, parameters, "", "", {}, "", {}, False)  # type: ignore[arg-type]


def test_parameters_are_described() -> None:
    """In the words of the docstring, with types that JSON has."""
    for question in questions().values():
        fields = body_of(question).model_fields
        assert list(fields) == list(question.parameters)
        assert all(field.description for field in fields.values()), question.name
        assert question.summary and question.answer and question.name


def test_types_without_json_are_noticed() -> None:
    """A new query with such a parameter fails here, not when it is asked."""

    def exact(share: Decimal) -> None: ...

    with pytest.raises(TypeError, match="no JSON stands for"):
        body_of(asked(exact))
