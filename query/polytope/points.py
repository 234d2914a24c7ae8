"""The point that a question about polytopes is asked at: the activation of an example, stored or read now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image

from atlas import Atlas, Network
from atlas.errors import NonFinite, UsageError
from atlas.network import INPUT, Span, VectorView, whole_scope
from atlas.store.catalog import Target
from atlas.tails import Tail

from ..examples.kinds import EXAMPLES
from ..examples.live import Live, Place, place_of
from ..examples.live_inputs import Numbers
from ..examples.subjects import Given


@dataclass(frozen=True, eq=False)
class Point:
    """An activation x at a place of a network, and the network from there on.

    ``live``: the network with the activations of stored examples. ``name``: how to call it in a sentence.
    ``example``: its id where it is stored.
    """

    live: Live
    name: str
    example: int | None
    activation: Float32[np.ndarray, " units"]
    tail: Tail

    @property
    def place(self) -> Place:
        return self.live.place

    @property
    def norm(self) -> float:
        return float(np.linalg.norm(self.activation.astype(np.float64)))


def live_at(atlas: Atlas, reader: Network, span: str) -> Live:
    """The network at the start of a span. Raises `UsageError` where it has no tail, the span no gate, and for a span
    of one position's codes where polytopes are of whole tensors."""
    asked, scope = Span.parse(span), whole_scope(reader.sites)
    if asked.scope != scope:
        held = "the codes of one position" if scope == "full" else "codes of all positions"
        why = (
            f"and polytopes are those of the whole tensor of {asked.after}"
            if scope == "full"
            else "and there are none"
        )
        raise UsageError(f"span {asked} holds {held}, {why}; write {str(replace(asked, scope=scope))!r}")
    live = Live(atlas, reader, place_of(reader, span=span))
    if not live.place.n_gates:
        raise UsageError(f"span {live.place.name} has no gate, and so no boundary; choose one that holds a site")
    return live


def stored_point(live: Live, example: int) -> Point:
    """The activation of a stored example. Raises `UnknownName`, `NotStored`, `NonFinite`."""
    number = live.checked(example)
    return _finite(Point(live, f"example {number}", number, live.activations([number])[0], live.tail(number)))


def point_at(
    atlas: Atlas,
    reader: Network,
    span: str,
    *,
    example: int | None = None,
    text: str | None = None,
    token: int | None = None,
    image: str | Path | Image.Image | None = None,
    vector: Numbers | None = None,
) -> Point:
    """The activation of one of example, text, image and vector at the start of a span.

    Raises `UsageError` for none or several of them and for a network without a tail, `UnknownName`, `NotStored`,
    `BadInput`, `NonFinite`.
    """
    given = Given(example, text, token, image, vector)
    live = live_at(atlas, reader, span)
    if example is not None:
        return stored_point(live, example)
    site = live.place.site
    target = Target(live.owner, live.place.name, (), None, site.scope)
    kind = next(kind for kind in EXAMPLES if getattr(given, kind) is not None)
    read = EXAMPLES[kind].live(atlas, target, given, reader)
    if isinstance(read.view, VectorView) and site.name == INPUT:
        activation = read.view.numbers
    else:
        activation = reader.read([read.view], codes=[], activations=[site]).activations[site.name][0]
    return _finite(Point(live, read.name, None, activation, live.reader.tail(site, read.view)))


def _finite(point: Point) -> Point:
    if not np.isfinite(point.activation).all():
        raise NonFinite(f"{point.name} gives NaN or infinity at site {point.place.site.name}; nothing bounds it")
    return point
