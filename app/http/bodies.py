"""What a request may hold: a pydantic model a question, made of its signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, reduce
from operator import or_
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import numpy as np
from jaxtyping import AbstractArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, WithJsonSchema, create_model

from atlas import Network, SplineCodes
from atlas.errors import BadRequest, UsageError
from query import Subject
from query.layout.regions import Region
from query.remote.arguments import types_of

from ..serving.questions import Question

LONGEST_TEXT = 3_000_000
"""Characters of a text that is sent: what `polytope ingest` takes of one."""

LARGEST = 2**63 - 1

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Codes(BaseModel):
    """Packed codes: the bytes of all rows in base64, gate 0 in the most significant bit of the first, and the gates
    of each site of the target."""

    model_config = _STRICT

    packed: str
    parts: Annotated[list[int], Field(max_length=10_000)]


class SubjectBody(BaseModel):
    """What `subject` answered, for a question about it that does not read it again."""

    model_config = _STRICT

    kind: Literal["text", "image", "vector", "example", "code"]
    name: Annotated[str, StringConstraints(max_length=1000)]
    target: str
    network: str
    code: Codes
    example: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    activations: dict[str, str] = {}
    # What the answer tells besides, so that it can be sent as it came.
    tokens: list[str] | None = None
    token: int | None = None
    prediction: str | None = None
    probability: float | None = None


_SCALARS = {
    int: Annotated[int, Field(ge=-LARGEST - 1, le=LARGEST)],
    # A whole number stays one: errors say what was given.
    float: Annotated[int | float, WithJsonSchema({"type": "number"})],
    str: Annotated[str, StringConstraints(max_length=LONGEST_TEXT)],
    bool: bool,
    Any: Any,
}
_SENT_AS = {
    Image.Image: Annotated[str, Field(json_schema_extra={"contentEncoding": "base64", "format": "byte"})],
    SplineCodes: Codes,
    Subject: SubjectBody,
    Region: list[float],
    Network: str,
}
_ABOUT = {
    Image.Image: "The file's bytes in base64: JPEG, PNG, WebP, BMP, GIF or TIFF.",
    Network: "Digest of the weights that are expected to read it; the server reads with its own network.",
}


@cache
def body_of(question: Question) -> type[BaseModel]:
    """The model of a question's body. Raises `TypeError` for a parameter of a type that no request can hold."""
    return _model(question, question.parameters, _STRICT)


@cache
def words_of(question: Question) -> type[BaseModel] | None:
    """The model of a question's words in an address, for one that is cheap; None for one that is not.

    Cheap is what runs in no process of its own; what takes a list or an input is posted.
    """
    simple = {name: p for name, p in question.parameters.items() if _is_simple(p)}
    needed = [name for name, p in question.parameters.items() if p.default is p.empty]
    if question.long or question.name in ("sql", "nearest_many") or not set(needed) <= set(simple):
        return None
    return _model(question, simple, ConfigDict(extra="forbid", allow_inf_nan=False))


def _is_simple(parameter: inspect.Parameter) -> bool:
    kinds = types_of(parameter.annotation)
    return all(kind in _SCALARS or get_origin(kind) is Literal for kind in kinds) and parameter.name != "text"


def _model(question: Question, parameters: Mapping[str, inspect.Parameter], config: ConfigDict) -> type[BaseModel]:
    given: dict[str, Any] = {}
    for name, parameter in parameters.items():
        kinds = types_of(parameter.annotation)
        about = next((_ABOUT[kind] for kind in kinds if kind in _ABOUT), question.about.get(name, ""))
        default = ... if parameter.default is parameter.empty or Network in kinds else parameter.default
        optional = NoneType in get_args(parameter.annotation) or Network in kinds
        sent = _sent_as(kinds, question, name)
        given[name] = (
            sent | None if optional else sent,
            Field(None if Network in kinds else default, description=about),
        )
    return create_model(question.name, __config__=config, __doc__=question.summary, **given)


def _sent_as(kinds: tuple[Any, ...], question: Question, name: str) -> Any:
    """The type of JSON that stands for any of these types."""
    if Image.Image in kinds:
        return _SENT_AS[Image.Image]
    parts = [part for part in map(_part, kinds) if part is not None]
    if not parts:
        raise TypeError(f"{question.name}({name}: {kinds}) can't be sent over HTTP; say how in app/http/bodies.py")
    return reduce(or_, parts)


def _part(kind: Any) -> Any:
    if kind in _SENT_AS or kind in _SCALARS:
        return _SENT_AS.get(kind) or _SCALARS[kind]
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:  # the function has a sentence for others
        return Annotated[str, WithJsonSchema({"type": "string", "enum": list(inner)})]
    if origin is not None and issubclass(origin, Mapping):
        return dict[str, Any]
    if origin is not None and issubclass(origin, Sequence | Iterable):
        return list.__class_getitem__(_SCALARS[inner[0]])
    if isinstance(kind, type) and issubclass(kind, AbstractArray | np.generic | Path):
        return None  # stands beside a list or a number
    raise TypeError(f"no JSON stands for {kind}")


def given(model: type[BaseModel], document: bytes | Mapping[str, Any], question: Question) -> dict[str, Any]:
    """What a request gives, checked. Raises `BadRequest` for what is no JSON object, `UsageError` for fields that are
    unknown, missing or of a wrong type."""
    try:
        if isinstance(document, bytes):
            checked = model.model_validate_json(document or b"{}")
        else:
            checked = model.model_validate(document)
    except ValidationError as error:
        raise _explained(error, question) from None
    return checked.model_dump(exclude_unset=True)


MOST_TOLD = 3
"""Fields that an error speaks of."""


def _explained(error: ValidationError, question: Question) -> BadRequest | UsageError:
    found = error.errors(include_url=False, include_context=False)
    if any(
        one["type"] in ("json_invalid", "model_type", "model_attributes_type") and not one["loc"] for one in found
    ):
        return BadRequest(
            f"the body is no JSON object ({found[0]['msg']}); send the arguments of {question.name} as one"
        )
    told = []
    for one in found[:MOST_TOLD]:
        name = ".".join(
            str(part)[:40] for part in one["loc"] if str(part) in question.parameters or isinstance(part, int)
        )
        field = str(one["loc"][0])[:40] if one["loc"] else "the body"
        if one["type"] == "extra_forbidden" and len(one["loc"]) == 1:
            told.append(f"{question.name} has no parameter {field!r}; it takes {', '.join(question.parameters)}")
        elif one["type"] == "missing" and len(one["loc"]) == 1:
            told.append(f"{field} is missing")
        else:
            told.append(f"{name or field}: {one['msg'][:200]}, got {repr(one['input'])[:60]}")
    more = f"; and {len(found) - MOST_TOLD} more" if len(found) > MOST_TOLD else ""
    return UsageError("; ".join(told) + more)
