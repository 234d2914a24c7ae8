"""The points of a map as the browser draws them (`static/map.js`): by cluster, by label, or by how near their
neighbours are. A point costs 10 bytes on its way: its example in 4, and its place and kind in 2 each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Int64
from plotly.colors import sample_colorscale

from ...plain_text import cluster_title, one_line
from .chart_style import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION

COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE)
SHADES = (0.0, 0.45, -0.4)
"""How much of a colour gives way to white, or below 0 to black: eighteen looks, which the kinds take in order of
size. Names on the map tell apart those that share one."""

SIDE = 65_535
"""Steps along the longer side of a map that places are rounded to: finer than a pixel, fifty times enlarged."""

NAME_SHOWN = 24
"""Characters of a name on the map."""

BANDS = 20
SCALE = "Cividis"

QUIET = "#9a9a9a"
"""Of what is in no cluster or has no label."""

NOISE, NO_LABEL = "noise", "no label"


@dataclass(frozen=True)
class Kind:
    """Points that look alike. ``number``: of the cluster, or the place of the label; −1 for what has none, which is
    ``quiet``. ``words``: its name as it stands on the map, ``at`` shares of the map's longer side; None where it has
    none there."""

    name: str
    words: str
    number: int
    colour: str
    n: int
    quiet: bool = False
    at: tuple[float, float] | None = None


@dataclass(frozen=True)
class MapPoints:
    """``payload``: what `static/points.js` reads, known by ``key``. ``frame``: least x and y of the map, and its
    longer side; ``extent``: width and height in shares of that."""

    key: str
    payload: bytes
    kinds: tuple[Kind, ...]
    frame: tuple[float, float, float]
    extent: tuple[float, float]
    n: int


def points_by_kind(columns: Mapping[str, np.ndarray], kinds: Sequence[Kind], which: np.ndarray) -> MapPoints:
    """Points of ``example_id``, x and y, of the kind ``which`` each. What is quiet is drawn first, below others."""
    x, y = (np.asarray(columns[axis], dtype=np.float64) for axis in ("x", "y"))
    (low_x, width), (low_y, height) = ((float(axis.min()), float(np.ptp(axis))) for axis in (x, y))
    side = max(width, height, 1e-9)
    loud = np.array([not kind.quiet for kind in kinds])[which]
    order = np.argsort(loud, kind="stable")
    places = [np.rint((axis - low) / side * SIDE).astype("<u2") for axis, low in ((x, low_x), (y, low_y))]
    named = _placed(kinds, which, places)
    body = b"".join(
        column[order].astype(kind).tobytes()
        for column, kind in ((columns["example_id"], "<u4"), (places[0], "<u2"), (places[1], "<u2"), (which, "<u2"))
    )
    key = hashlib.blake2b(body, digest_size=8).hexdigest()
    head = json.dumps({"key": key, "n": len(x)}).encode()
    head += b" " * (-len(head) % 4)
    payload = len(head).to_bytes(4, "little") + head + body
    return MapPoints(key, payload, named, (low_x, low_y, side), (width / side, height / side), len(x))


def _placed(kinds: Sequence[Kind], which: np.ndarray, places: Sequence[np.ndarray]) -> tuple[Kind, ...]:
    """The kinds, each name in the middle of its points."""
    order = np.argsort(which, kind="stable")
    ends = np.searchsorted(which[order], np.arange(len(kinds) + 1))
    placed = []
    for number, kind in enumerate(kinds):
        rows = order[ends[number] : ends[number + 1]]
        at = None
        if len(rows) and not kind.quiet and kind.words:
            at = (float(np.median(places[0][rows]) / SIDE), float(np.median(places[1][rows]) / SIDE))
        placed.append(replace(kind, n=len(rows), at=at))
    return tuple(placed)


def by_cluster(columns: Mapping[str, np.ndarray], names: Mapping[int, str]) -> MapPoints:
    """By ``cluster``, −1 for noise and for what came after the clustering; ``names``: what clusters are called."""
    clusters = np.asarray(columns["cluster"], dtype=np.int64)
    titles = {
        number: (cluster_title(number, names.get(number)), one_line(names.get(number) or f"#{number}", NAME_SHOWN))
        for number in np.unique(clusters).tolist()
    }
    return _by_number(columns, clusters, titles, NOISE)


def by_label(columns: Mapping[str, np.ndarray]) -> MapPoints:
    """By ``label``, a text or none."""
    labels = pd.Categorical(columns["label"])
    shown = [one_line(str(label), NAME_SHOWN) for label in labels.categories]
    titles = {place: (label, label) for place, label in enumerate(shown)}
    return _by_number(columns, labels.codes.astype(np.int64), titles, NO_LABEL)


def _by_number(
    columns: Mapping[str, np.ndarray],
    numbers: Int64[np.ndarray, " points"],
    titles: Mapping[int, tuple[str, str]],
    none: str,
) -> MapPoints:
    held, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    rank = np.empty(len(held), np.int64)
    rank[np.lexsort((held, -counts, held < 0))] = np.arange(len(held))
    kinds = [
        Kind(none, "", -1, QUIET, int(n), quiet=True)
        if number < 0
        else Kind(*titles[number], number, look(place), int(n))
        for number, n, place in zip(held.tolist(), counts, rank.tolist(), strict=True)
    ]
    return points_by_kind(columns, kinds, which)


def by_distance(columns: Mapping[str, np.ndarray]) -> MapPoints:
    """By ``distance``, in `BANDS` equal parts from the least to what a hundredth exceeds, which share the last."""
    values = np.asarray(columns["distance"], dtype=np.float32)
    low, high = (float(value) for value in np.quantile(values, (0, 0.99)))
    edges = np.linspace(low, max(high, low + 1e-6), BANDS + 1)
    band = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, BANDS - 1)
    ends = [*edges[1:-1].tolist(), float(values.max())]
    colours = sample_colorscale(SCALE, (np.arange(BANDS) + 0.5) / BANDS, colortype="tuple")
    kinds = [
        Kind(f"{edges[place]:.4g} to {ends[place]:.4g} to its neighbours", "", place, _hex(colours[place]), 0)
        for place in range(BANDS)
    ]
    return points_by_kind(columns, kinds, band)


def look(place: int) -> str:
    """The colour of the kind of that place in order of size."""
    turn, hue = divmod(place % (len(COLOURS) * len(SHADES)), len(COLOURS))
    return shade(COLOURS[hue], SHADES[turn])


def shade(colour: str, towards: float) -> str:
    """A colour ``#rrggbb`` that gave way to white, or below 0 to black."""
    end = 255 if towards > 0 else 0
    parts = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(part + abs(towards) * (end - part)):02x}" for part in parts)


def _hex(colour: tuple[float, float, float]) -> str:
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


MEASURES = {"hamming": "gates that differ", "jaccard": "Jaccard distance", "euclidean": "Euclidean distance"}
"""By what examples were laid out, in words."""
