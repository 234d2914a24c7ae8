"""The points of a path, one by one: what the network says there, and which stored example is nearest (SCIENCE 5).

`scale` and `interpolate` count what lies between the points; this looks at the points themselves. The nearest example
is the one whose stored code over the span has the least Hamming distance, so that fewest boundaries lie between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Float64, Int64

from atlas import Atlas, Network, SplineCodes
from atlas.errors import NotStored, UsageError
from atlas.search.hamming_index import hamming_matrix
from atlas.tails import Tail

from ..examples.ids import check_network, checked_id, holders
from ..examples.live import Live, labels_of_examples, place_of
from ..polytope.crossings import read_along, span_codes
from ..progress import Progress, tell
from .maps import log_softmax

BLOCK_BYTES = 1 << 26
"""Bytes of stored codes compared at once."""

MOST_POINTS = 10_000
"""Points whose codes are held: a span of InceptionV1 from inception3b has 2 million gates, 250 kB a point."""


@dataclass(frozen=True, eq=False)
class Route:
    """``table``, a row a point, has columns at, prediction, probability, nearest (an example's id), distance (gates
    that differ between its code and the one at the point), label (of that example). ``notes`` say what is missing."""

    table: pd.DataFrame
    notes: tuple[str, ...]


def route(
    atlas: Atlas,
    reader: Network,
    *,
    span: str,
    start: int,
    end: int | None = None,
    at: Sequence[float],
    others: bool = False,
    progress: Progress | None = None,
) -> Route:
    """Prediction and nearest stored example at points of a straight path through an activation space.

        x(at) = at·x,  or  (1 − at)·x + at·y  towards ``end``        (SCIENCE 5)

    ``span``: AFTER->TO. x is the activation of example ``start`` at AFTER, y that of ``end``. Of several examples at
    the same distance the one with the lowest id is the nearest; with ``others`` neither x nor y is. Where codes of
    the span are not stored the columns nearest, distance and label are empty, and a note says what to ingest.

    Raises `UsageError` for no or too many points, and for the same example twice; `NotStored` where activations can't
    be had, `UnknownName`.
    """
    points = np.asarray(at, dtype=np.float64)
    if points.ndim != 1 or not 1 <= len(points) <= MOST_POINTS or not np.isfinite(points).all():
        raise UsageError(f"at has {points.size} values; expected 1 to {MOST_POINTS:,} numbers")
    live = Live(atlas, reader, place_of(reader, span=span))
    x = check_network(atlas, checked_id(start), live.owner)
    low = high = live.activations([x])[0]
    if end is None:
        low = np.zeros_like(high)
    else:
        y = check_network(atlas, checked_id(end), live.owner)
        if x == y:
            raise UsageError(f"start and end are both example {x}; a path needs two different ones")
        high = live.activations([y])[0]
    ends = [x] if end is None else [x, y]
    table, codes = _read(live.tail(x), live, (low, high), points, progress)
    try:
        nearest, distance = _nearest(atlas, live, codes, ends if others else [], progress)
    except NotStored as error:
        missing = pd.Series([None] * len(points), dtype=object)
        return Route(table.assign(nearest=missing, distance=missing, label=missing), (str(error),))
    labels = pd.Series(labels_of_examples(atlas, nearest), dtype=object)
    return Route(table.assign(nearest=nearest, distance=distance, label=labels), ())


def _read(
    tail: Tail,
    live: Live,
    ends: tuple[Float32[np.ndarray, " units"], Float32[np.ndarray, " units"]],
    points: Float64[np.ndarray, " points"],
    progress: Progress | None,
) -> tuple[pd.DataFrame, SplineCodes]:
    """What is predicted at every point, and its code."""
    sites, best, probability, found = live.place.sites, [], [], []
    for rows, reading in read_along(tail, *ends, sites, points):
        best.append(reading.logits.argmax(axis=1))
        probability.append(np.exp(log_softmax(reading.logits)).max(axis=1))
        found.append(span_codes(reading, sites))
        tell(progress, rows.stop, 2 * len(points))
    outputs = np.concatenate(best)
    table = pd.DataFrame(
        {
            "at": points,
            "prediction": [tail.output_name(int(output)) for output in outputs],
            "probability": np.concatenate(probability),
        }
    )
    return table, SplineCodes(np.concatenate([codes.packed for codes in found]), found[0].parts)


def _nearest(
    atlas: Atlas, live: Live, codes: SplineCodes, without: Sequence[int], progress: Progress | None
) -> tuple[Int64[np.ndarray, " points"], Int64[np.ndarray, " points"]]:
    """Ids and distances. Stored codes are read a block at a time; of equals the first, ids ascending, is kept."""
    target = atlas.catalog.target(span=live.place.name, network=live.owner.name)
    ids = np.setdiff1d(holders(atlas, target), without)
    if not len(ids):
        raise NotStored(
            f"no {'other ' if without else ''}example of network {target.network.name} has a code at every site of "
            f"span {target.name}, so none is the nearest; ingest its sites in one run"
        )
    step = max(1, BLOCK_BYTES // codes.n_bytes)
    nearest = np.zeros(len(codes), dtype=np.int64)
    least = np.full(len(codes), np.iinfo(np.int64).max)
    for first in range(0, len(ids), step):
        block, stored = atlas.codes(target.sites, ids[first : first + step])
        distances = hamming_matrix(codes, stored)
        place = distances.argmin(axis=1)
        there = distances[np.arange(len(codes)), place]
        closer = there < least
        nearest[closer], least[closer] = block[place[closer]], there[closer]
        tell(progress, len(ids) + min(first + step, len(ids)), 2 * len(ids))
    return nearest, least
