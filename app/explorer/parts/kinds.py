"""How the explorer shows what networks read: a record a kind."""

from __future__ import annotations

from dataclasses import dataclass

from atlas.network import Kind


@dataclass(frozen=True)
class Look:
    """``pictured``: whether an example is seen at a glance: several stand in a grid, one beside what is said of it.
    ``counted``: the column of cluster members that is counted beside labels. ``seen``: columns of examples and inputs
    that show one in SQL.
    """

    pictured: bool
    counted: str
    seen: str


LOOKS: dict[Kind, Look] = {
    "text": Look(False, "token", "token, context"),
    "image": Look(True, "prediction", "thumbnail"),
    "vector": Look(False, "prediction", "vector"),
}
