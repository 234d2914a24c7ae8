"""How the explorer shows what networks read: a record a kind."""

from __future__ import annotations

from dataclasses import dataclass

from atlas.network import Kind

TOP = 20
"""Of a unit's highest, that are shown and that it is ranked by: the default of `query.unit` and `query.units`."""


@dataclass(frozen=True)
class Look:
    """``pictured``: whether an example is seen at a glance: several stand in a grid, one beside what is said of it.
    ``counted``: the column of cluster members that is counted beside labels. ``seen``: columns of examples and inputs
    that show one in SQL. ``page_rows``: members of a cluster or region on a page, about two screens; ``per_band``:
    examples of each band of a unit's activations.
    """

    pictured: bool
    counted: str
    seen: str
    page_rows: int
    per_band: int


LOOKS: dict[Kind, Look] = {
    "text": Look(False, "token", "token, context", 20, 4),
    "image": Look(True, "prediction", "thumbnail", 36, 7),
    "vector": Look(False, "prediction", "vector", 20, 4),
}
