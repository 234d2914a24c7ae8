"""What a boundary is called: the gate, or the inputs of a pooling window, and where it is in the network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas.network import GateRange, Site

from .crossings import starts_of
from .margins import Margins, Pairs

PLACES = ("gate", "channel", "row", "column", "other_row", "other_column")


def names_of(margins: Margins, boundaries: Int64[np.ndarray, " some"]) -> pd.DataFrame:
    """A row a boundary: kind (gate or pooling), site, gate (bit of the site's code), module, channel, row, column;
    of pooling the site whose gates come next, the input taken, and of the other its other_row and other_column."""
    gates = boundaries < margins.n_gates
    named = gate_names(margins.sites, boundaries[gates]).set_index(np.flatnonzero(gates))
    pairs = [_pair_name(margins.pairs, number - margins.n_gates) for number in boundaries[~gates].tolist()]
    pooled = _typed(pairs).set_index(np.flatnonzero(~gates))
    return pd.concat([named, pooled]).sort_index()


def sites_of(margins: Margins, boundaries: Int64[np.ndarray, " some"]) -> list[str]:
    """The column site of `names_of`, without making the others: the many exits of an experiment need no more."""
    ends = np.cumsum([*(site.n_gates for site in margins.sites), *(len(some.taken) for some in margins.pairs)])
    names = [*(site.name for site in margins.sites), *(some.site for some in margins.pairs)]
    return [names[place] for place in np.searchsorted(ends, boundaries, side="right")]


def gate_names(sites: Sequence[Site], gates: Int64[np.ndarray, " gates"]) -> pd.DataFrame:
    """The rows of `names_of` for gates that are counted over all sites in order."""
    starts = np.array(list(starts_of(sites).values()))
    places = np.searchsorted(starts, gates, side="right") - 1
    return _typed([_gate_name(sites[i], int(gate - starts[i])) for i, gate in zip(places, gates, strict=True)])


def _typed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    columns = ["kind", "site", "gate", "module", *PLACES[1:]]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(PLACES, "Int64"))


def _gate_name(site: Site, gate: int) -> dict[str, Any]:
    layout = site.layout or (GateRange(site.name, 0, site.n_gates),)
    module = next(part for part in layout if part.start <= gate < part.start + part.count)
    at = _grid_place(gate - module.start, (-1, *(module.grid or ())))
    return {"kind": "gate", "site": site.name, "gate": gate, "module": module.module, **at}


def _pair_name(pairs: Sequence[Pairs], number: int) -> dict[str, Any]:
    for some in pairs:
        if number < len(some.taken):
            break
        number -= len(some.taken)
    ends = list(accumulate(int(np.prod(shape)) for shape in some.shapes))
    part = int(np.searchsorted(ends, some.taken[number], side="right"))
    start = ends[part - 1] if part else 0
    taken, other = (
        _grid_place(int(entry) - start, some.shapes[part]) for entry in (some.taken[number], some.other[number])
    )
    against = {f"other_{name}": value for name, value in other.items() if name != "channel"}
    return {"kind": "pooling", "site": some.site, "module": "max-pooling", **taken, **against}


def _grid_place(place: int, shape: tuple[int, ...]) -> dict[str, int]:
    """Channel, row and column of an entry of a grid, or its channel alone."""
    area = int(np.prod(shape[1:]))
    at = (place // area, *(int(i) for i in np.unravel_index(place % area, shape[1:])))
    return dict(zip(("channel", "row", "column"), at, strict=False))
