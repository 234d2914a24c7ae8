"""Stored examples: whose they are, who holds codes and activations, and how to show them to a person."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from jaxtyping import Int64

from atlas import Atlas, SplineCodes, hamming
from atlas.catalog import NetworkRecord, SiteRecord, Target
from atlas.errors import NotStored, UnknownName, UsageError

TEXT_COLUMNS = ["label", "prediction", "loss", "token", "context", "context_offset", "input_id", "position"]
IMAGE_COLUMNS = ["label", "prediction", "loss", "key", "thumbnail", "input_id"]
"""What is shown of an example, in order. A token has no thumbnail, an image no position in a text."""


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
    count = target.sites[0].n_codes if len(target.sites) == 1 else len(holders(atlas, target))
    if count == 0:
        raise NotStored(
            f"no example of network {target.network.name} has a code at every site of span {target.name}; ingest its "
            f"sites ({', '.join(site.name for site in target.sites)}) in one run"
        )
    return count


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

    Columns: example_id, then `TEXT_COLUMNS` or `IMAGE_COLUMNS`. An image's ``key`` is its first in the dataset of the
    run that brought it.
    """
    ids = [int(example) for example in examples]
    rows = _text_rows(atlas, ids) if network.kind == "text" else _image_rows(atlas, ids)
    columns = TEXT_COLUMNS if network.kind == "text" else IMAGE_COLUMNS
    return rows.set_index("example_id").loc[ids].reset_index()[["example_id", *columns]]


def _text_rows(atlas: Atlas, ids: list[int]) -> pd.DataFrame:
    return atlas.frame(
        """
        select example_id, label, prediction, loss, token, context, context_offset, input_id, position
        from examples
        where example_id in (select unnest($1::uinteger[]))
        """,
        [ids],
    )


def _image_rows(atlas: Atlas, ids: list[int]) -> pd.DataFrame:
    return atlas.frame(
        """
        with chosen as (
            select * from examples where example_id in (select unnest($1::uinteger[]))
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
        """,
        [ids],
    )
