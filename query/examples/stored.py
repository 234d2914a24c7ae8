"""Stored examples: whose they are, who holds codes and activations, and how to show them to a person."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas import Atlas, SplineCodes, hamming
from atlas.errors import DamagedAtlas, NotStored, UnknownName, UsageError
from atlas.store.catalog import NetworkRecord, SiteRecord, Target

KEPT_AFTER = 3
"""Questions about a network that SQL answers before what it shows of examples is kept in memory. SQL takes 2 ms for
ten examples; reading all of 100,000 takes 50 ms, and then any ten take 0.3 ms."""

KEPT_BYTES = 1 << 28
"""Most that is kept so of one network's examples: 256 MB, about a million tokens with their contexts. What would take
more is always asked in SQL."""

_SAMPLED = 1000  # examples that the size of all is estimated from


def network_of(atlas: Atlas, example: int) -> str:
    """Name of the network that read an example; `UnknownName` if there is no such example."""
    name = atlas.value(
        "select networks.name from examples join networks using (network_id) where example_id = $1",
        [checked_id(example)],
    )
    if name is None:
        highest = atlas.value("select max(example_id) from examples")
        held = f"ids run from 1 to {highest}" if highest else "it holds none; `polytope ingest` adds some"
        raise UnknownName(f"no example {example} in {atlas.path}; {held}")
    return str(name)


def check_network(atlas: Atlas, example: int, network: NetworkRecord) -> int:
    """The example's id, if ``network`` read it; `UnknownName` otherwise."""
    owner = network_of(atlas, example)
    if owner != network.name:
        raise UnknownName(f"example {example} was read by network {owner}, not by {network.name}; ask that one")
    return int(example)


def checked_id(example: object) -> int:
    """An example id as an int; `UsageError` for anything that is no whole number."""
    if not isinstance(example, Integral) or isinstance(example, bool):
        raise UsageError(f"an example is named by its id, a whole number, got {example!r}")
    return int(example)


def is_span(target: Target) -> bool:
    """Whether the target was named as a span: one that holds a single site is a span all the same."""
    return "->" in target.name


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


def distances_to_code(
    atlas: Atlas, target: Target, code: SplineCodes
) -> tuple[Int64[np.ndarray, " codes"], Int64[np.ndarray, " codes"]]:
    """Hamming distance in gates of one code to every stored code of the target: (example ids, distances).

    In order of id. Reads block by block: memory grows by two numbers an example, not by the codes. The distance over
    a span is the sum over its sites, so sites are read one after the other.
    """
    ids = holders(atlas, target)
    distances = np.zeros(len(ids), dtype=np.int64)
    start = 0
    for site in target.sites:
        part = SplineCodes(code.packed[:, start : start + site.n_bytes], (site.n_gates,))
        start += site.n_bytes
        for block, packed in atlas.code_blocks(site):
            place = np.searchsorted(ids, block)
            held = place < len(ids)
            held[held] = ids[place[held]] == block[held]
            distances[place[held]] += hamming(SplineCodes(packed[held], part.parts), part)
    return ids, distances


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


def describe(
    atlas: Atlas, network: NetworkRecord, examples: Sequence[int] | Int64[np.ndarray, " examples"]
) -> pd.DataFrame:
    """What a person wants to see of each example, a row each, in the order given.

    Columns: example_id, label, prediction, loss, then token, context, context_offset, input_id and position of a
    text, or key, thumbnail and input_id of an image; its ``key`` is its first in the dataset of the run that brought
    it.

    An atlas that is open for reading and asked again and again answers from memory (see `KEPT_AFTER`).
    """
    return pd.DataFrame(described(atlas, network, np.asarray(examples, dtype=np.int64)))


def described(atlas: Atlas, network: NetworkRecord, ids: Int64[np.ndarray, " examples"]) -> dict[str, Any]:
    """`describe` as arrays by name: a frame made of them at once takes less time than one that is added to."""
    columns = _kept(atlas, network) if pays(atlas, ("examples", network.network_id)) else None
    if columns is None:
        columns = _arrays(_shown(atlas, network, "example_id in (select unnest($1::uinteger[]))", ids.tolist()))
    known = columns["example_id"]
    places = np.searchsorted(known, ids.astype(known.dtype))  # of another type, all that are known would be cast
    there = places < len(known)
    there[there] = known[places[there]] == ids[there]
    if not there.all():
        raise DamagedAtlas(
            f"{atlas.path} has codes of example {ids[~there][0]}, but not the example itself; `polytope verify` says "
            "what else is wrong"
        )
    return {name: column.take(places) for name, column in columns.items()}


def pays(atlas: Atlas, what: tuple[object, ...]) -> bool:
    """Whether an atlas open for reading has been asked for this often enough to read all of it."""
    return next(atlas.keep(("asked", *what), count)) >= KEPT_AFTER


def _kept(atlas: Atlas, network: NetworkRecord) -> dict[str, Any] | None:
    """What is shown of all examples of a network, in order of id; None where that is too much to keep."""

    def read() -> dict[str, Any] | None:
        number = network.network_id
        ids = atlas.frame("select example_id from examples where network_id = $1 order by 1", [number])["example_id"]
        sampled = ids.iloc[np.linspace(0, len(ids) - 1, min(_SAMPLED, len(ids))).astype(np.int64)].tolist()
        sample = _shown(atlas, network, "example_id in (select unnest($1::uinteger[]))", sampled)
        if sample.memory_usage(deep=True).sum() / len(sampled) * len(ids) > KEPT_BYTES:
            return None
        return _arrays(_shown(atlas, network, "network_id = $1", number))

    return atlas.keep(("examples", network.network_id), read)


def _arrays(frame: pd.DataFrame) -> dict[str, Any]:
    """The columns as NumPy arrays, texts as pandas's own, which are Arrow's."""
    arrays = {str(name): column.array for name, column in frame.items()}
    return {
        name: array.to_numpy() if isinstance(array, pd.arrays.NumpyExtensionArray) else array
        for name, array in arrays.items()
    }


def _shown(atlas: Atlas, network: NetworkRecord, which: str, value: object) -> pd.DataFrame:
    """example_id and what is shown of the examples that meet ``which``, a condition on $1, in order of id."""
    return atlas.frame((_TEXT if network.kind == "text" else _IMAGE).format(which=which), [value])


_TEXT = """
select example_id, label, prediction, loss, token, context, context_offset, input_id, position
from examples
where {which}
order by example_id
"""

_IMAGE = """
with chosen as (
    select * from examples where {which}
),
keys as (
    select example_id, arg_min(key, ordinal) as key
    from chosen
    join runs using (run_id)
    join dataset_inputs using (dataset_id, input_id)
    group by example_id
)
select example_id, chosen.label, prediction, loss, key, thumbnail, input_id
from chosen
join inputs using (input_id)
left join keys using (example_id)
order by example_id
"""
