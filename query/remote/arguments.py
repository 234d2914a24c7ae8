"""Arguments of a question as JSON: how a program sends them, and how a server takes them.

What JSON has is sent as it is. An image is its PNG or other file in base64, packed codes are their bytes in base64
with the gates of each part, a subject is what `subject` found out, a region of a map is its numbers, and a network
that is to read an input is the digest of its weights: the server has one of its own, which must be the same.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import io
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

import numpy as np
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas.errors import BadInput, BadRequest, UsageError, WidthError
from atlas.images import decode_image
from atlas.store.catalog import Target

from ..examples.live_inputs import open_image
from ..examples.subjects import Subject
from ..layout.regions import Region

MOST_GATES = 100_000_000
"""Of a code that is sent; a whole InceptionV1 at 224 pixels has 3,226,160."""

LEFT_OUT = frozenset({"progress"})
"""Parameters that no request has: nobody could be told."""


@cache
def parameters(question: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What a question takes besides the atlas, by name, with annotations that are types."""
    found = list(inspect.signature(question, eval_str=True).parameters.values())
    return {parameter.name: parameter for parameter in found[1:] if parameter.name not in LEFT_OUT}


def types_of(annotation: Any) -> tuple[Any, ...]:
    """The types that an annotation allows, None left out."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(one for part in get_args(annotation) for one in types_of(part))
    return () if annotation is NoneType else (annotation,)


# --- sending ---------------------------------------------------------------------------------------------------


def sent(question: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON values; those that are None are left to their defaults unless the default is another.

    Raises `UsageError` for what no request can hold, `BadInput` for an image that can't be read.
    """
    body = {}
    for name, parameter in parameters(question).items():
        if name not in given or given[name] is None is parameter.default:
            continue
        value = given[name]
        if isinstance(value, str | Path) and Image.Image in types_of(parameter.annotation):
            value = open_image(Path(value))
        body[name] = value.info.weights_digest if is_reader(parameter) and value else sent_value(name, value)
    return body


def sent_value(name: str, value: Any) -> Any:
    """A value as JSON; ``name``: of the argument, for errors. Raises `UsageError` for what no request can hold."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return value.item()
        case np.ndarray():
            return value.tolist()
        case Image.Image():
            encoded = io.BytesIO()
            value.save(encoded, "PNG")
            return base64.b64encode(encoded.getvalue()).decode()
        case SplineCodes():
            return {"packed": base64.b64encode(value.packed.tobytes()).decode(), "parts": list(value.parts)}
        case Region():
            return [number for corner in value.corners for number in corner]
        case Subject():
            return _sent_subject(value)
        case Mapping():
            return {str(key): sent_value(name, one) for key, one in value.items()}
        case bytes() | bytearray():
            raise UsageError(f"{name} is bytes, which a served atlas is not sent; decode them first")
    try:
        return [sent_value(name, one) for one in value]
    except TypeError:
        raise UsageError(f"{name} is of type {type(value).__name__}, which a served atlas is not sent") from None


def _sent_subject(subject: Subject) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "name": subject.name,
        "target": subject.target.name,
        "network": subject.target.network.name,
        "code": sent_value("subject", subject.codes),
        "example": subject.example,
        "activations": {
            site: base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()
            for site, values in subject.activations.items()
        },
    }


# --- taking ----------------------------------------------------------------------------------------------------


def taken(atlas: Atlas, question: Callable[..., Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a question, out of JSON values of the right types; without the network's digest.

    Raises `BadInput` for an image that does not decode, `WidthError` for codes and activations of a wrong width,
    `BadRequest` for what is not base64, and what naming a target raises.
    """
    known = parameters(question)
    return {
        name: _taken(atlas, name, known[name], value) for name, value in body.items() if not is_reader(known[name])
    }


def is_reader(parameter: inspect.Parameter) -> bool:
    """Whether a parameter is the network that reads an input."""
    return Network in types_of(parameter.annotation)


def _taken(atlas: Atlas, name: str, parameter: inspect.Parameter, value: Any) -> Any:
    kinds = types_of(parameter.annotation)
    if value is None:
        return None
    if Image.Image in kinds:
        try:
            return decode_image(_bytes(name, value))
        except BadInput as error:
            raise BadInput(f"the image {error}") from error
    if Subject in kinds:
        return _taken_subject(atlas, value)
    if SplineCodes in kinds and not isinstance(value, str):
        return _taken_codes(name, value)
    return value


def _bytes(name: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest(f"{name} is not base64; encode the bytes of the file so") from None


def _taken_codes(name: str, value: Mapping[str, Any]) -> SplineCodes:
    packed, parts = np.frombuffer(_bytes(f"{name}.packed", value["packed"]), np.uint8), tuple(value["parts"])
    if not parts or min(parts) <= 0 or sum(parts) > MOST_GATES:
        raise WidthError(f"{name}.parts is {str(list(parts))[:100]}; expected the gates of each site of the target")
    width = sum(-(-part // 8) for part in parts)
    if len(packed) % width:
        raise WidthError(f"{name}.packed has {len(packed)} bytes; codes of {sum(parts)} gates have {width} each")
    codes = SplineCodes(packed.reshape(len(packed) // width, width), parts)
    if codes.n_active().sum() != codes.unpack().sum():
        raise WidthError(f"{name}.packed has bits beyond the gates of a part; they must be 0")
    return codes


def _taken_subject(atlas: Atlas, value: Mapping[str, Any]) -> Subject:
    target = named_target(atlas, value["target"], value["network"])
    codes = _taken_codes("subject.code", value["code"])
    if codes.parts != target.parts or len(codes) != 1:
        raise WidthError(
            f"subject.code is {len(codes)} of {codes.n_bits} gates; expected 1 of the {target.n_gates} gates of "
            f"{target.name}"
        )
    sites = {site.name: site for site in atlas.catalog.sites_of(target.network)}
    activations = {}
    for site, packed in value["activations"].items():
        numbers = _bytes(f"subject.activations.{site}", packed)
        if site not in sites or len(numbers) != 4 * sites[site].n_units:
            raise WidthError(f"subject.activations.{site} has {len(numbers)} bytes, which no site of that name has")
        activations[site] = np.frombuffer(numbers, "<f4")
    return Subject(atlas.path, target, value["kind"], value["name"], codes, value["example"], activations)


def named_target(atlas: Atlas, name: str, network: str | None) -> Target:
    """The target of that name, a site or a span. Raises what `Catalog.target` raises."""
    return atlas.catalog.target(**{"span" if "->" in name else "site": name}, network=network)
