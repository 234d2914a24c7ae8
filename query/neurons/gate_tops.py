"""Examples that show what a gate is on for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64, UInt8

from atlas import Atlas
from atlas.network import PART_UNITS
from atlas.store.blocks import BLOCK_ROWS
from atlas.store.catalog import SiteRecord

from ..progress import Progress
from ..store.pieces import id_ranges
from .activations import gate_of
from .ranking import highest_examples

BLOCK_BYTES = 1 << 26
"""Bytes of codes that are read in one go."""


def gate_tops(
    atlas: Atlas, site: SiteRecord, gates: Sequence[int], k: int, progress: Progress | None = None
) -> list[list[int]]:
    """At most ``k`` example ids for each gate of a site, all with the gate on.

    Where activations are stored and the gate is a unit's, those of its highest activations, highest first; else as
    many evenly spread over all that have it on, in order of id. ``progress`` is told (pieces read, pieces in all).
    """
    units = {gate_of(site, unit): unit for unit in range(site.n_units)} if site.scope == "position" else {}
    ranked = [gate for gate in gates if site.n_activations and gate in units]
    others = [gate for gate in gates if gate not in set(ranked)]
    found = dict(zip(ranked, _highest(atlas, site, [units[gate] for gate in ranked], k, progress), strict=True))
    found |= dict(zip(others, _spread(atlas, site, others, k), strict=True))
    return [found[gate] for gate in gates]


def _highest(
    atlas: Atlas, site: SiteRecord, units: Sequence[int], k: int, progress: Progress | None
) -> list[list[int]]:
    """The ids of the ``k`` highest activations above 0 of each unit; of equals the lowest id."""
    if not units:
        return []
    ids, values = [np.empty(0, np.int64) for _ in units], [np.empty(0, np.float32) for _ in units]
    for first, last in id_ranges(atlas, site, progress):
        for piece in sorted({unit // PART_UNITS for unit in units}):
            mine = [place for place, unit in enumerate(units) if unit // PART_UNITS == piece]
            columns = ", ".join(f"activation[{units[place] % PART_UNITS + 1}] as u{place}" for place in mine)
            rows = atlas.columns(
                f"""
                select example_id, {columns} from activations
                where site_id = $1 and part = $2 and example_id between $3 and $4 order by example_id
                """,
                [site.site_id, piece, first, last],
            )
            for place in mine:
                column = np.concatenate([values[place], rows[f"u{place}"].astype(np.float32)])
                both = np.concatenate([ids[place], rows["example_id"].astype(np.int64)])
                top = highest_examples(column, k)
                ids[place], values[place] = both[top], column[top]
    return [each.tolist() for each in ids]


def _spread(atlas: Atlas, site: SiteRecord, gates: Sequence[int], k: int) -> list[list[int]]:
    if not gates:
        return []
    on: list[list[np.ndarray]] = [[] for _ in gates]
    for ids, packed in code_blocks(atlas, site):
        for place, gate in enumerate(gates):
            on[place].append(ids[(packed[:, gate // 8] >> (7 - gate % 8) & 1).astype(np.bool_)])
    chosen = []
    for parts in on:
        held = np.concatenate(parts)
        chosen.append(held[np.unique(np.linspace(0, len(held) - 1, min(k, len(held))).astype(np.int64))].tolist())
    return chosen


def code_blocks(
    atlas: Atlas, site: SiteRecord
) -> Iterator[tuple[Int64[np.ndarray, " rows"], UInt8[np.ndarray, "rows bytes"]]]:
    """Example ids and packed codes of a site in order of id, of `BLOCK_BYTES` at most at a time."""
    return atlas.code_blocks(site, max(1, min(BLOCK_ROWS, BLOCK_BYTES // site.n_bytes)))
