"""Whether two stored examples lie in one polytope, and what a straight way between them crosses (SCIENCE 5, 14)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from atlas import Atlas, Network, hamming
from atlas.errors import UsageError
from atlas.tails import PiecewiseLinearTail

from ..pairs.density import euclidean
from ..progress import Progress, part
from .crossings import exact_crossings, span_codes
from .names import gate_names
from .points import live_at, stored_point


@dataclass(frozen=True, eq=False)
class Region:
    """Two stored examples x and y, and the boundaries between them.

    same: whether no boundary lies between them. n_gates: gates of the span. hamming: gates in which their codes
    differ, the least number that any way crosses. distance: ‖x − y‖₂.
    table: a row a boundary that the straight way crosses, in order: t (from 0 at x to 1 at y), distance from x, kind
        (gate, or pooling where a window takes another input), site, gate, module, channel, row, column.
    """

    network: str
    span: str
    x: int
    y: int
    same: bool
    n_gates: int
    hamming: int
    distance: float
    remark: str
    table: pd.DataFrame


def region(atlas: Atlas, x: int, y: int, *, reader: Network, span: str, progress: Progress | None = None) -> Region:
    """Whether two stored examples lie in one polytope of a span, and if not, the exact crossings between them.

    Args:
        atlas: an open atlas.
        x: id of one example.
        y: id of the other.
        reader: the network itself, with the weights of the atlas; a piecewise linear one.
        span: ``AFTER->TO``: the segment lies in the space of AFTER, the boundaries are those of the gates after it.
        progress: called with (steps done, steps in all).

    Returns:
        `Region`. A polytope is convex: without a crossing the two are in one.

    Raises:
        UsageError: for a network that is not piecewise linear, and for a span without gates.
        UnknownName: for an example or site that is not there.
        NotStored: for an activation that is neither stored nor can be read again.
        WeightsError: for a reader that is not the network of the atlas.
        NonFinite: for an activation with NaN or infinity.
        TooManyPoints: where the way crosses more boundaries than are located exactly.
    """
    import torch

    live = live_at(atlas, reader, span)
    ends = [stored_point(live, example) for example in (x, y)]
    tail, sites = ends[0].tail, live.place.sites
    if not isinstance(tail, PiecewiseLinearTail):
        raise UsageError(f"exact crossings need a piecewise linear network; {tail.remark}")
    precise, told = tail.precise(), part(progress, 0, 1)
    points = np.stack([end.activation for end in ends])
    found = exact_crossings(precise, points[0], points[1], sites, told=told)
    told(1.0)
    codes = span_codes(precise.read(torch.from_numpy(points).double(), sites), sites)
    distance = float(euclidean(points[:1], points[1:])[0])
    table = gate_names(sites, found.gate).assign(t=found.at)
    table = pd.concat([table, pd.DataFrame({"kind": "pooling", "t": found.switches})], ignore_index=True)
    table = table.sort_values("t", kind="stable", ignore_index=True)
    table.insert(0, "t", table.pop("t"))
    table.insert(1, "distance", table["t"] * distance)
    return Region(
        network=live.owner.name,
        span=live.place.name,
        x=int(x),
        y=int(y),
        same=table.empty,
        n_gates=live.place.n_gates,
        hamming=int(hamming(codes[:1], codes[1:])[0]),
        distance=distance,
        remark=tail.remark,
        table=table,
    )
