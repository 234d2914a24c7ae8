"""A stored example through a network: its code and its cluster at every site, the gates that tell it from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float32

from atlas import Atlas
from atlas.errors import UsageError
from atlas.network import GateRange
from atlas.store.catalog import SiteRecord

from ..clustering.stored import SPACES
from .stored import check_network, checked_id, network_of

FIRST_GATES = 8
"""Gates named of those in which two codes differ; there may be thousands."""


@dataclass(frozen=True, eq=False)
class Raster:
    """The code of one example at one site, for the eye.

    ``values``: the gates in order, 1 for on and 0 for off. Of a full site, a cell a channel of each module of the
    block: the share of its positions at which the gate is on. ``parts``: which module each run of cells belongs to,
    by first cell and number of cells; ``positions``: gates behind a cell of that module, 1 where cells are gates.
    """

    site: str
    n_gates: int
    n_active: int
    values: Float32[np.ndarray, " cells"]
    parts: tuple[tuple[str, int, int, int], ...]

    @property
    def by_channel(self) -> bool:
        """Whether cells are channels, summed up over positions, and not single gates."""
        return any(positions > 1 for *_, positions in self.parts)


def rasters(atlas: Atlas, example: int) -> list[Raster]:
    """The codes of an example at every site that holds one, position sites first, from input to output.

    Raises `UnknownName` for an example that is not there.
    """
    network = network_of(atlas, example)
    sites = {site.site_id: site for site in atlas.catalog.sites if site.network == network and site.n_codes}
    rows = atlas.rows(
        "select site_id, cast(code as blob), n_active from codes where example_id = $1 and site_id in "
        "(select unnest($2::usmallint[]))",
        [checked_id(example), list(sites)],
    )
    found = {site_id: (code, n_active) for site_id, code, n_active in rows}
    return [_raster(site, *found[number]) for number, site in sites.items() if number in found]


def _raster(site: SiteRecord, code: bytes, n_active: int) -> Raster:
    bits = np.unpackbits(np.frombuffer(code, np.uint8))[: site.n_gates].astype(np.float32)
    layout = site.layout or (GateRange(site.name, 0, site.n_gates),)
    if site.scope == "position":
        return Raster(site.name, site.n_gates, n_active, bits, tuple((g.module, g.start, g.count, 1) for g in layout))
    values, parts, first = [], [], 0
    for gates in layout:
        positions = 1 if gates.grid is None else gates.grid[0] * gates.grid[1]
        shares = bits[gates.start : gates.start + gates.count].reshape(-1, positions).mean(axis=1)
        values.append(shares)
        parts.append((gates.module, first, len(shares), positions))
        first += len(shares)
    return Raster(site.name, site.n_gates, n_active, np.concatenate(values).astype(np.float32), tuple(parts))


def cluster_path(atlas: Atlas, example: int, space: str = "codes") -> pd.DataFrame:
    """In which cluster an example lies at every site, from input to output, position sites first.

    Of each site its newest clustering in ``space``. Columns: site, scope, clustering (its id), cluster (-1 is noise,
    <NA> where the site is not clustered or the example came later), name (given by a person), probability (strength
    of membership, 0 to 1), size, purity and top_label of the cluster.

    Raises `UnknownName` for an example that is not there, `UsageError` for an unknown space.
    """
    if space not in SPACES:
        raise UsageError(f"space is {space!r}; expected {' or '.join(SPACES)}")
    network = atlas.catalog.network(network_of(atlas, example))
    frame = atlas.frame(
        """
        with newest as (
            select target, max(clustering_id) as clustering_id
            from clusterings where network_id = $1 and space = $2
            group by target
        ),
        placed as (select clustering_id, label, probability from cluster_labels where example_id = $3)
        select
            sites.name as site, scope, newest.clustering_id as clustering, placed.label as cluster,
            named_clusters.name, placed.probability, size, purity, top_label
        from sites
        left join newest on newest.target = sites.name
        left join placed using (clustering_id)
        left join named_clusters
            on named_clusters.clustering_id = newest.clustering_id and named_clusters.label = placed.label
        where network_id = $1 and n_codes > 0
        order by scope desc, ordinal
        """,
        [network.network_id, space, checked_id(example)],
    )
    return frame.astype(dict.fromkeys(("clustering", "cluster", "size"), "Int64"))


def differing_gates(
    atlas: Atlas,
    example: int,
    others: Sequence[int],
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    first: int = FIRST_GATES,
) -> pd.DataFrame:
    """In which gates other examples differ from one, a row each, in the order given.

    Columns: example_id, distance (gates that differ), gates: the first ``first`` of them in the order of the code, as
    (site, gate, on): the gate counts from 0 within the site, and ``on`` says whether the *other* example has it on.

    Raises `UnknownName`, `NotStored`, and `UsageError` for a ``first`` below 0.
    """
    if first < 0:
        raise UsageError(f"first is {first}; expected a whole number of at least 0")
    target = atlas.catalog.target(site=site, span=span, network=network or network_of(atlas, example))
    ids = [check_network(atlas, number, target.network) for number in (example, *others)]
    distances = np.zeros(len(others), np.int64)
    gates: list[list[tuple[str, int, bool]]] = [[] for _ in others]
    for one in target.sites:
        packed = atlas.codes([one], ids)[1].packed
        for place, (code, changes) in enumerate(zip(packed[1:], packed[1:] ^ packed[:1], strict=True)):
            changed = np.flatnonzero(np.unpackbits(changes))  # padding is 0 in both
            distances[place] += len(changed)
            for gate in changed[: first - len(gates[place])].tolist():
                on = bool(code[gate // 8] >> (7 - gate % 8) & 1)
                gates[place].append((one.name, gate, on))
    return pd.DataFrame({"example_id": ids[1:], "distance": distances, "gates": gates})


class Passage(NamedTuple):
    """Characters around a token: it starts at ``offset`` of ``text``; ``whole``: whether that is all of the input."""

    text: str
    token: str
    offset: int
    whole: bool


def passage(atlas: Atlas, example: int, before: int = 1600, after: int = 700) -> Passage | None:
    """The text around the token of an example, up to so many characters on either side; None for an image.

    An example keeps the characters close to its token. Where those occur once in its input, more can be shown; where
    they occur several times, nobody knows which of them it was, and they alone are given.

    Raises `UnknownName` for an example that is not there.
    """
    network_of(atlas, example)
    [(text, token, context, offset)] = atlas.rows(
        """
        select text, token, context, context_offset from examples join inputs using (input_id) where example_id = $1
        """,
        [checked_id(example)],
    )
    if token is None or context is None:
        return None
    first = text.find(context)
    if first < 0 or text.find(context, first + 1) >= 0:
        return Passage(context, token, offset, context == text)
    start = first + offset
    low, high = max(0, start - before), start + len(token) + after
    return Passage(text[low:high], token, start - low, low == 0 and high >= len(text))
