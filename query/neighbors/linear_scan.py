"""The distance of one code to all stored codes of a target, read block by block."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

from atlas import Atlas, SplineCodes, hamming
from atlas.store.catalog import Target

from ..examples.ids import holders


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


def gates_on(atlas: Atlas, target: Target) -> Int64[np.ndarray, " codes"]:
    """How many gates every stored code of the target has on, in order of example id, as `holders` gives them."""
    counted = atlas.columns(
        """
        select sum(n_active)::bigint as n_on from codes where site_id in (select unnest($1::usmallint[]))
        group by example_id having count(*) = $2 order by example_id
        """,
        [[site.site_id for site in target.sites], len(target.sites)],
    )
    return counted["n_on"].astype(np.int64)
