"""Which examples there are: whose an id is, and who holds codes and activations of a site."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int64, Integer

from atlas import Atlas
from atlas.checks import whole_id
from atlas.errors import NotStored, UnknownName
from atlas.store.catalog import NetworkRecord, SiteRecord, Target


def network_of(atlas: Atlas, example: int) -> str:
    """Name of the network that read an example; `UnknownName` if there is no such example."""
    name = atlas.value(
        "select networks.name from examples join networks using (network_id) where example_id = $1",
        [checked_id(example)],
    )
    if name is None:
        highest = atlas.value("select max(example_id) from examples")
        held = f"ids run from 1 to {highest}" if highest else "it holds none; `polytope ingest` adds some"
        raise UnknownName(f"no example {example} in {atlas.address}; {held}")
    return str(name)


def check_network(atlas: Atlas, example: int, network: NetworkRecord) -> int:
    """The example's id, if ``network`` read it; `UnknownName` otherwise."""
    owner = network_of(atlas, example)
    if owner != network.name:
        raise UnknownName(f"example {example} was read by network {owner}, not by {network.name}; ask that one")
    return int(example)


def checked_id(example: object) -> int:
    """An example id as an int; `UsageError` for anything that is no whole number."""
    return whole_id("an example", example)


def is_span(target: Target) -> bool:
    """Whether the target was named as a span: one that holds a single site is a span all the same."""
    return "->" in target.name


def places_of(
    ids: Integer[np.ndarray, " ids"], known: Integer[np.ndarray, " known"]
) -> tuple[Bool[np.ndarray, " ids"], Int64[np.ndarray, " held"]]:
    """Which of the ids are ``known``, which ascend, and the places among these of those that are."""
    places = np.searchsorted(known, ids.astype(known.dtype))  # of another type, all that are known would be cast
    held = places < len(known)
    held[held] = known[places[held]] == ids[held]
    return held, places[held]


def holders(atlas: Atlas, target: Target) -> Int64[np.ndarray, " codes"]:
    """Examples that have a code at every site of the target, in order of id."""
    rows = atlas.frame(
        """
        select example_id from codes
        where site_id in (select unnest($1::usmallint[]))
        group by example_id
        having count(*) = $2
        order by example_id
        """,
        [[site.site_id for site in target.sites], len(target.sites)],
    )
    return rows["example_id"].to_numpy(np.int64)


def count_codes(atlas: Atlas, target: Target) -> int:
    """How many examples have a code of the target; `NotStored` where none has one at every site of a span."""
    if len(target.sites) == 1:
        return target.sites[0].n_codes
    key = ("codes", *(site.site_id for site in target.sites))
    n_codes = atlas.keep(key, lambda: len(holders(atlas, target)))
    if n_codes == 0:
        raise NotStored(
            f"no example of network {target.network.name} has a code at every site of span {target.name}; ingest its "
            f"sites ({', '.join(site.name for site in target.sites)}) in one run"
        )
    return n_codes


def with_activation(
    atlas: Atlas, site: SiteRecord, examples: Int64[np.ndarray, " examples"]
) -> Int64[np.ndarray, " held"]:
    """Those of the examples whose activation at the site is stored, in order of id."""
    rows = atlas.frame(
        """
        select example_id from activations
        where site_id = $1 and part = 0 and example_id in (select unnest($2::uinteger[]))
        order by example_id
        """,
        [site.site_id, examples.tolist()],
    )
    return rows["example_id"].to_numpy(np.int64)
