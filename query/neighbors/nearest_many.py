"""Nearest neighbours of many examples or codes, in one search."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
from jaxtyping import Int64, Integer

from atlas import Atlas, SplineCodes
from atlas.devices import Device
from atlas.errors import UnknownName, UsageError
from atlas.search.hamming_index import HammingIndex, without_own
from atlas.store.catalog import Target

from ..examples.ids import check_network, checked_id, network_of
from .filters import Filter
from .indexes import flat_index
from .search_space import DEFAULT_K, checked_k, search_space


def nearest_many(
    atlas: Atlas,
    *,
    examples: Iterable[int] | Integer[np.ndarray, " examples"] | None = None,
    codes: SplineCodes | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    k: int = DEFAULT_K,
    label: str | None = None,
    cluster: int | None = None,
    dataset: str | None = None,
    where: str | None = None,
    clustering: int | None = None,
    include_self: bool = False,
    exact: bool = False,
    device: Device = "auto",
) -> pd.DataFrame:
    """The ``k`` nearest stored examples of each of many, in one search. The target needs an index.

    Each is answered as `nearest` would: a stored example is left out of its own answer unless ``include_self``.

    Args:
        atlas: an open atlas.
        examples: ids of stored examples; exactly one of examples and codes is given.
        codes: codes of the target, packed (SplineCodes of n rows).
        site: the site, or
        span: the span that is meant.
        network: its network, where several have such a one.
        k: how many of each.
        label: filter, as of `nearest`.
        cluster: filter, as of `nearest`.
        dataset: filter, as of `nearest`.
        where: filter, as of `nearest`.
        clustering: id of the clustering whose clusters are shown, as of `nearest`.
        include_self: keep the example asked about.
        exact: compare all codes, whatever index there is.
        device: auto, cpu or cuda, as of `HammingIndex.search`.

    Returns:
        ``k`` rows a query, in the order given: query_id (the example, or the row of ``codes`` from 0), rank,
        example_id, distance (gates), and what `nearest` shows of an example, without densities and thumbnails.
        ``frame.attrs`` as of `nearest`.

    Raises:
        UnknownName: for an example without a code of the target.
        IndexMissing: for a site or a span that has no index.
        UsageError: as `nearest`, as are the errors besides.
    """
    if (examples is None) == (codes is None):
        raise UsageError(f"ask about examples or about codes, got {'both' if codes is not None else 'neither'}")
    if codes is not None:
        queries = np.arange(len(codes))
    else:
        queries = np.array([*map(checked_id, () if examples is None else examples)], np.int64)
    if len(queries) == 0:
        raise UsageError(f"there is nothing to ask about: no {'examples' if codes is None else 'codes'} were given")
    wanted = Filter(label, cluster, dataset, where)
    if network is None and codes is None and len(atlas.catalog.networks) > 1:
        network = network_of(atlas, int(queries[0]))
    target = atlas.catalog.target(site=site, span=span, network=network)
    flat = flat_index(atlas, target)
    space = search_space(atlas, target, wanted, clustering, exact=exact, device=device)
    excluding = codes is None and not include_self and space.holds(queries)
    count = checked_k(space, k, None, excluding)
    assert count is not None
    codes = flat.codes(_places(atlas, target, flat, queries)) if codes is None else codes
    more = count + excluding
    if space.indexes.approximate is not None:
        ids, distances = space.indexes.approximate.search(codes, more)
    else:
        places = None if space.among is None else flat.places(space.among)
        ids, distances = flat.search(codes, more, among=places, device=device)
    if excluding:
        ids, distances = without_own(queries, ids, distances)

    shown = space.shown(atlas, ids.ravel())
    shown.pop("thumbnail", None)
    frame = pd.DataFrame(
        {
            "query_id": np.repeat(queries, count),
            "rank": np.tile(np.arange(1, count + 1), len(queries)),
            "example_id": shown.pop("example_id"),
            "distance": distances.ravel(),
            **shown,
        }
    )
    frame.attrs.update(space.attributes())
    return frame


def _places(
    atlas: Atlas, target: Target, index: HammingIndex, examples: Int64[np.ndarray, " queries"]
) -> Int64[np.ndarray, " queries"]:
    """The place of each example's code, in the order given."""
    distinct, which = np.unique(examples, return_inverse=True)
    places = index.places(distinct)
    if len(places) < len(distinct):
        missing = int(np.setdiff1d(distinct, index.ids[places])[0])
        check_network(atlas, missing, target.network)
        raise UnknownName(f"example {missing} has no code at {target.name} of network {target.network.name}")
    return places[which]
