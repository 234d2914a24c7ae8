"""The gates in which the codes of stored examples differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool

from atlas import Atlas, SplineCodes
from atlas.checks import whole
from atlas.store.catalog import Target

from ..examples.ids import check_network, checked_id, network_of

FIRST_GATES = 8
"""Gates named of those in which two codes differ; there may be thousands."""


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
    """In which gates other examples differ from one.

    Args:
        atlas: an open atlas.
        example: id of the one.
        others: ids of the others.
        site: the site, or
        span: the span that is meant.
        network: its network, where several have such a one.
        first: how many gates to name of each.

    Returns:
        A row an other example, in the order given: example_id, distance (gates that differ), gates: the first
        ``first`` of them in the order of the code, as (site, gate, on): the gate counts from 0 within the site, and
        ``on`` says whether the *other* example has it on.

    Raises:
        UnknownName: for an example or site that is not there.
        NotStored: for codes that were not ingested.
        UsageError: for a ``first`` below 0.
    """
    first = whole("first", first, 0)
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


@dataclass(frozen=True, eq=False)
class GatesApart:
    """Where the codes of two examples x and y differ.

    ``gates``: a row a gate that differs, in order of sites and bits: site, gate (bit of the site's code), on_in (the
    id of the example where it is on). ``sites``: a row a site: site, n_gates, on_x and on_y (gates that are on),
    only_x and only_y (on in one of the two), differ, share (of the site's gates).
    """

    gates: pd.DataFrame
    sites: pd.DataFrame


def gates_apart(
    atlas: Atlas, x: int, y: int, *, site: str | None = None, span: str | None = None, network: str | None = None
) -> GatesApart:
    """The gates in which the codes of two stored examples differ; their number is the Hamming distance.

    Args:
        atlas: an open atlas.
        x: id of one example.
        y: id of the other.
        site: the site, or
        span: the span that is meant.
        network: its network, where several have such a one.

    Returns:
        `GatesApart`: a table of gates and one of sites.

    Raises:
        UnknownName: for an example or site that is not there.
        NotStored: for codes that were not ingested.
    """
    checked_id(y)
    target = atlas.catalog.target(site=site, span=span, network=network or network_of(atlas, x))
    ids = [check_network(atlas, example, target.network) for example in (x, y)]
    _, codes = atlas.codes(target.sites, ids)
    by_name = [(one.name, on) for one, on in zip(target.sites, by_site(target, codes), strict=True)]
    gates = []
    for name, on in by_name:
        differ = np.flatnonzero(on[0] != on[1])
        gates.append(pd.DataFrame({"site": name, "gate": differ, "on_in": np.where(on[0][differ], *ids)}))
    return GatesApart(pd.concat(gates, ignore_index=True), sites_apart(by_name))


def sites_apart(codes: Sequence[tuple[str, Bool[np.ndarray, "2 _"]]]) -> pd.DataFrame:
    """How many gates two codes have on, together and alone: of each site its name, and which are on in either.

    Columns: those of `GatesApart.sites`.
    """
    rows = []
    for name, on in codes:
        only = [int((on[own] & ~on[1 - own]).sum()) for own in (0, 1)]
        rows.append(
            {
                "site": name,
                "n_gates": on.shape[1],
                "on_x": int(on[0].sum()),
                "on_y": int(on[1].sum()),
                "only_x": only[0],
                "only_y": only[1],
                "differ": sum(only),
                "share": sum(only) / on.shape[1],
            }
        )
    return pd.DataFrame(rows)


def by_site(target: Target, codes: SplineCodes) -> list[Bool[np.ndarray, "codes gates"]]:
    """Of each site of a target, which gates are on."""
    ends = np.cumsum([site.n_gates for site in target.sites])
    return np.split(codes.unpack(), ends[:-1], axis=1)
