"""The nearest boundaries of many examples, stored in an atlas: tables ``boundaries`` and ``bounded_spans``.

Examples are gone through a few at a time. What is found is stored at once, and the atlas is open only while examples
are read and boundaries stored: the same question asked again goes on with the examples that have none yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from jaxtyping import Float32, Int64

import atlas
from atlas import Atlas, Network
from atlas.checks import whole
from atlas.network import Site
from atlas.store.digests import seal
from atlas.tails import Tail

from ..examples.labels import drawn
from ..progress import Progress, part, tell
from .boundaries import NEAREST, SKETCH, across, nearest_boundaries
from .crossings import Told
from .margins import margins_at
from .names import PLACES, names_of
from .points import live_at

AT_ONCE = 16
"""Examples that are stored at once, at most: as many are lost when a run is stopped."""

BLOCK_BYTES = 1 << 26
"""Bytes of their activations, at most, but for one that is larger by itself."""


@dataclass(frozen=True)
class StoredBoundaries:
    """What `store_boundaries` did.

    network, span: what was asked. examples: how many have boundaries now. new: how many got them just now.
    missed: bound on the probability that any of the new ones misses a nearer boundary.
    """

    network: str
    span: str
    examples: int
    new: int
    missed: float


@dataclass(frozen=True, eq=False)
class _Asked:
    """A network's id and span, how boundaries are looked for, and the examples without any."""

    network_id: int
    network: str
    span: str
    k: int
    sketch: int
    seed: int
    sites: tuple[Site, ...]
    missing: Int64[np.ndarray, " examples"]
    done: int
    at_once: int


_Read = list[tuple[int, Float32[np.ndarray, " units"], Tail]]
"""Examples with their activations, and the network from there on."""


def store_boundaries(
    path: str | Path,
    *,
    reader: Network,
    span: str,
    k: int = NEAREST,
    examples: int | None = None,
    sketch: int = SKETCH,
    seed: int = 0,
    progress: Progress | None = None,
) -> StoredBoundaries:
    """Find the nearest boundaries of many examples and store them in the table ``boundaries``.

    Stopped at any moment, the same question goes on with the examples that have none yet; asked with another k,
    sketch or seed, what was stored of the span is replaced. Memory does not grow with the number of examples. Images
    are looked at whole: one example an input, whatever its position.

    Args:
        path: the atlas, which must not be open in this process.
        reader: the network itself, with the weights of the atlas.
        span: ``AFTER->TO``, as `boundaries` has it.
        k: boundaries of each example.
        examples: how many, drawn at random; all by default.
        sketch: random directions that the nearest are looked for with; 0: one a unit, which misses none.
        seed: of what is drawn.
        progress: called with (steps done, steps in all).

    Returns:
        `StoredBoundaries`.

    Raises:
        UsageError: for an impossible number, a span without gates, a network that can't be run from a site.
        UnknownName: for a site that is not there.
        NotStored: for an activation that is neither stored nor can be read again.
        WeightsError: for a reader that is not the network of the atlas.
        NonFinite: for an activation with NaN or infinity.
        AtlasLocked: while somebody else has the atlas open; what was stored before stays.
    """
    for name, value, least in (("k", k, 1), ("sketch", sketch, 0), ("seed", seed, 0)):
        whole(name, value, least)
    if examples is not None:
        whole("examples", examples)
    with atlas.open(path) as a:
        asked = _asked(a, reader, span, k, examples, sketch, seed)
    total, done, missed = asked.done + len(asked.missing), asked.done, 0.0
    for first in range(0, len(asked.missing), asked.at_once):
        with atlas.open(path) as a:
            read = _read(a, reader, span, asked.missing[first : first + asked.at_once])
        tables = []
        for example, point, tail in read:
            table, bound = _bounds(asked, point, tail, example, part(progress, done, total))
            tables.append(table)
            done, missed = done + 1, missed + bound
        with atlas.open(path, writable=True) as a, a.transaction():
            _store(a, asked, pd.concat(tables, ignore_index=True))
    tell(progress, 1, 1)
    return StoredBoundaries(asked.network, asked.span, done, len(asked.missing), min(1.0, missed))


def _asked(a: Atlas, reader: Network, span: str, k: int, examples: int | None, sketch: int, seed: int) -> _Asked:
    live = live_at(a, reader, span)
    ids = live.examples()["example_id"].to_numpy(np.int64)
    ids = ids if examples is None else drawn(ids, examples, seed)
    named = [live.owner.network_id, live.place.name]
    same = a.rows("select k, sketch, seed from bounded_spans where network_id = $1 and span = $2", named)
    known = a.rows("select distinct example_id from boundaries where network_id = $1 and span = $2", named)
    done = (
        np.isin(ids, [example for (example,) in known]) if same == [(k, sketch, seed)] else np.zeros(len(ids), bool)
    )
    live.check_readable(ids[~done])
    units = live.place.site.n_units
    return _Asked(
        live.owner.network_id,
        live.owner.name,
        live.place.name,
        k,
        sketch,
        seed,
        live.place.sites,
        ids[~done],
        int(done.sum()),
        int(np.clip(BLOCK_BYTES // (4 * units), 1, AT_ONCE)),
    )


def _read(a: Atlas, reader: Network, span: str, ids: Int64[np.ndarray, " examples"]) -> _Read:
    live = live_at(a, reader, span)
    return [
        (int(example), activation, live.tail(int(example)))
        for example, activation in zip(ids, live.activations(ids), strict=True)
    ]


def _bounds(
    asked: _Asked, point: Float32[np.ndarray, " units"], tail: Tail, example: int, told: Told
) -> tuple[pd.DataFrame, float]:
    """The rows of an example, and a bound on the probability that a nearer boundary was missed."""
    margins = margins_at(tail, asked.sites, point)
    sketch = asked.sketch if 0 < asked.sketch < len(point) and margins.exact else None
    nearest = nearest_boundaries(margins, asked.k, sketch=sketch, seed=asked.seed, told=told)
    table = names_of(margins, nearest.numbers)
    table["example_id"] = example
    table["rank"] = np.arange(1, len(table) + 1)
    table["distance"] = nearest.distances
    table["facet"] = across(margins, nearest).facet if margins.exact else None
    return table, nearest.missed


def _store(a: Atlas, asked: _Asked, table: pd.DataFrame) -> None:
    named, how = [asked.network_id, asked.span], [asked.k, asked.sketch, asked.seed]
    if not a.rows(
        """
        select 1 from bounded_spans
        where network_id = $1 and span = $2 and k = $3 and sketch = $4 and seed = $5
        """,
        [*named, *how],
    ):
        for name in ("boundaries", "bounded_spans"):
            a.execute(f"delete from {name} where network_id = $1 and span = $2", named)
        a.execute("insert into bounded_spans values ($1, $2, $3, $4, $5)", [*named, *how])
    site_ids = {site.name: site.site_id for site in a.catalog.sites_of(a.catalog.network(asked.network))}
    columns = {
        "network_id": pa.array([asked.network_id] * len(table), pa.uint16()),
        "span": pa.array([asked.span] * len(table), pa.string()),
        "example_id": pa.array(table["example_id"], pa.uint32()),
        "rank": pa.array(table["rank"], pa.uint32()),
        "distance": pa.array(table["distance"], pa.float64()),
        "facet": pa.array(table["facet"], pa.bool_(), from_pandas=True),
        "kind": pa.array(table["kind"], pa.string()),
        "site_id": pa.array([site_ids.get(name) for name in table["site"]], pa.uint16()),
        "site": pa.array(table["site"], pa.string()),
        "module": pa.array(table["module"], pa.string()),
        **{name: pa.array(table[name], pa.uint32(), from_pandas=True) for name in PLACES},
    }
    a.insert("boundaries", pa.table(columns))
    seal(a, network_id=asked.network_id, span=asked.span)
