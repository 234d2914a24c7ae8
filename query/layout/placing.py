"""Where something that was never laid out would lie on a map: beside the stored examples that are nearest to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atlas import Atlas, Network
from atlas.errors import UsageError
from atlas.images import decode_image

from ..examples.live_inputs import Numbers
from ..neighbors.nearest import nearest
from .layouts import find_layout

NEAREST = 5
"""Stored examples that a place is found by: enough that one stray among them does not decide it."""


@dataclass(frozen=True)
class Place:
    """``x`` and ``y`` on the map; ``beside``: the example that lies there; ``examples``: the nearest, which it is the
    middlemost of on the map; ``distances``: gates to each."""

    x: float
    y: float
    beside: int
    examples: tuple[int, ...]
    distances: tuple[int, ...]


def placed_on(
    atlas: Atlas,
    layout: int,
    *,
    text: str | None = None,
    image: bytes | None = None,
    vector: Numbers | None = None,
    reader: Network | None = None,
) -> Place:
    """The place of a text (its last token), an image file or a vector on a map: that of the middlemost, on the map,
    of its `NEAREST` stored examples by Hamming distance.

    One of them, and no mean of all: that could lie in a void between two islands of the map. Raises what `nearest`
    raises, and `UsageError` where none of those is on the map.
    """
    record = find_layout(atlas, layout)
    found = nearest(
        atlas,
        text=text,
        image=None if image is None else decode_image(image),
        vector=vector,
        site=record.target.name,
        network=record.target.network.name,
        k=NEAREST,
        reader=reader,
        density=False,
    )
    ids = found["example_id"].to_numpy(np.int64)
    points = atlas.frame(
        "select example_id, x, y from layout_points "
        "where layout_id = $1 and example_id in (select unnest($2::uinteger[]))",
        [record.layout_id, ids.tolist()],
    ).set_index("example_id")
    if points.empty:
        raise UsageError(f"none of its {len(ids)} nearest examples is on {record.name}; lay it out again")
    held = [int(example) for example in ids if example in points.index]
    places = points.loc[held, ["x", "y"]].to_numpy(np.float64)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2).sum(axis=1)
    best = int(apart.argmin())
    gates = dict(zip(ids.tolist(), found["distance"].tolist(), strict=True))
    return Place(
        float(places[best, 0]),
        float(places[best, 1]),
        held[best],
        tuple(held),
        tuple(int(gates[example]) for example in held),
    )
