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
from atlas.checks import whole
from atlas.errors import NotStored, UsageError
from atlas.search.hamming_index import hamming_matrix
from atlas.tails import Tail

from ..examples.ids import check_network, checked_id, holders
from ..examples.live import Live, labels_of_examples, place_of
from ..examples.subjects import Given
from ..polytope.crossings import read_along, span_codes
from ..progress import Progress, part, tell
from .interpolate import crossed
from .maps import log_softmax
from .paths import path_notes
from .targets import checked_tolerance

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
    return _along(atlas, live, live.tail(x), (low, high), points, ends if others else [], progress)


def _along(
    atlas: Atlas,
    live: Live,
    tail: Tail,
    ends: tuple[Float32[np.ndarray, " units"], Float32[np.ndarray, " units"]],
    points: Float64[np.ndarray, " points"],
    without: Sequence[int],
    progress: Progress | None,
) -> Route:
    """The points between two activations; the nearest are looked for among all but ``without``."""
    table, codes = _read(tail, live, ends, points, progress)
    try:
        nearest, distance = _nearest(atlas, live, codes, without, progress)
    except NotStored as error:
        missing = pd.Series([None] * len(points), dtype=object)
        return Route(table.assign(nearest=missing, distance=missing, label=missing), (str(error),))
    labels = pd.Series(labels_of_examples(atlas, nearest), dtype=object)
    return Route(table.assign(nearest=nearest, distance=distance, label=labels), ())


@dataclass(frozen=True, eq=False)
class Way:
    """A path between two subjects, of which either may be read now.

    ``steps``: low and high (of t), density (boundaries a unit of distance), crossings. ``distance`` of the
    activations, Euclidean; ``hamming``: gates of the span in which the ends differ, of ``n_gates``. ``route``: the
    points on the way. ``notes`` say what was held and how it was counted.
    """

    steps: pd.DataFrame
    distance: float
    hamming: int
    n_gates: int
    route: Route
    notes: tuple[str, ...]


def way(
    atlas: Atlas,
    reader: Network,
    *,
    span: str,
    start: Given,
    end: Given,
    steps: int = 40,
    tolerance: float = 0.005,
    others: bool = False,
    progress: Progress | None = None,
) -> Way:
    """The straight path between the activations of two subjects: a token of a text that is not stored, for one.

        x(t) = (1 − t)·x + t·y        (SCIENCE 5)

    ``span``: AFTER->TO; x is the activation of ``start`` at AFTER, y that of ``end``. Of stored examples it is what
    `interpolate` and `route` say with as many ``steps``; ``tolerance``, ``others``: theirs.

    Raises `UsageError` for a subject twice, `NotStored` where a stored example's activation can't be had,
    `UnknownName`, `NonFinite`.
    """
    live = Live(atlas, reader, place_of(reader, span=span))
    first, second = (live.begin(given) for given in (start, end))
    if np.array_equal(first.activation, second.activation):
        raise UsageError(
            f"{first.name} and {second.name} have one activation at {live.place.site.name}: no path lies between"
        )
    edges, ends = np.linspace(0, 1, whole("steps", steps) + 1), (first.activation, second.activation)
    told = part(progress, 0, 2)
    row, density = crossed(first.tail, live.place, *ends, edges, "auto", True, checked_tolerance(tolerance), told)
    counted = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "density": density})
    counted["crossings"] = (density * np.diff(edges) * row["distance"]).round()
    along = part(progress, 1, 2)
    without = [begun.example for begun in (first, second) if begun.example is not None] if others else []
    route = _along(atlas, live, first.tail, ends, edges, without, lambda done, total: along(done / total))
    notes = path_notes(first.tail, pd.DataFrame([row]), 0, tolerance)
    if live.held:
        notes.append(
            f"the vector of {second.name} is put into the place of that of {first.name}: {live.held} is its all along"
        )
    return Way(counted, row["distance"], row["hamming"], live.place.n_gates, route, (*notes, *route.notes))


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
