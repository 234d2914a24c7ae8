"""A part of a layout, and the examples in it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.checks import check_page
from atlas.errors import UsageError

from ..examples.description import describe
from ..examples.ids import checked_id
from .layouts import find_layout

MOST_CORNERS = 100
"""Corners of a polygon: a lasso drawn by hand has fewer that matter, and a query of that many takes a moment."""

DECIMALS = 3
"""Of a region's numbers: a map is some 20 across, so this is finer than a pixel."""


@dataclass(frozen=True)
class Region:
    """A part of a map: a box, given by two opposite corners, or a polygon of three and more, in order."""

    corners: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Region:
        """From x, y, x, y, …; four numbers are a box. Rounded to `DECIMALS`. Raises `UsageError`."""
        given = [float(number) for number in numbers]
        if len(given) % 2 or not 4 <= len(given) <= 2 * MOST_CORNERS or not all(map(math.isfinite, given)):
            raise UsageError(
                "a region of a map is x, y, x, y, two opposite corners of a box, or 3 to "
                f"{MOST_CORNERS} corners of a polygon as x, y each, all finite; got {len(given)} numbers"
            )
        rounded = [round(number, DECIMALS) + 0.0 for number in given]
        return cls(tuple(zip(rounded[::2], rounded[1::2], strict=True)))

    @classmethod
    def parse(cls, text: str) -> Region:
        """From what `str` writes: numbers with commas between them. Raises `UsageError`."""
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            raise UsageError(f"a region of a map is numbers with commas between them, got {text[:60]!r}") from None
        return cls.of(numbers)

    def __str__(self) -> str:
        return ",".join(f"{number:g}" for corner in self.corners for number in corner)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """The least x and y, and the greatest."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    @property
    def sql(self) -> str:
        """The condition on x and y of a row of ``layout_points``."""
        low_x, low_y, high_x, high_y = self.bounds
        box = f"x between {low_x:g} and {high_x:g} and y between {low_y:g} and {high_y:g}"
        if len(self.corners) == 2:
            return box
        polygon = ", ".join(f"[{x:g}, {y:g}]" for x, y in self.corners)
        return f"{box}\n    and inside(x, y, [{polygon}])"


def layout_examples(
    atlas: Atlas,
    layout: int,
    within: Region | Iterable[float],
    *,
    limit: int | None = None,
    offset: int = 0,
    after: int | None = None,
) -> pd.DataFrame:
    """The examples in a part of a layout, in order of id.

    Args:
        atlas: an open atlas.
        layout: its id.
        within: x, y, x, y of two opposite corners of a box, or x, y of each corner of a polygon.
        limit: at most so many; None for all.
        offset: leave out so many before.
        after: leave out this example and all before it: the last one of a page, for the next.

    Returns:
        A row an example: example_id, x, y, and what `nearest` shows of an example. ``frame.attrs``: layout, network,
        target, size (how many there are in all), sql (the query that gives them).

    Raises:
        UnknownName: for a layout that is not there.
        UsageError: for what is no region, and for impossible parameters.
    """
    check_page(limit, offset)
    record = find_layout(atlas, layout)
    region = within if isinstance(within, Region) else Region.of(within)
    chosen = atlas.frame(
        f"""
        with inside as (
            select example_id, x, y, count(*) over () as size from layout_points where layout_id = $1 and {region.sql}
        )
        from inside where example_id > $4 order by example_id limit $2 offset $3
        """,
        [
            *(record.layout_id, record.n_examples if limit is None else int(limit), int(offset)),
            -1 if after is None else checked_id(after),
        ],
    )
    frame = describe(atlas, record.target.network, chosen["example_id"].to_numpy(np.int64))
    frame.insert(1, "x", chosen["x"])
    frame.insert(2, "y", chosen["y"])
    frame.attrs.update(
        layout=record.layout_id,
        network=record.target.network.name,
        target=record.target.name,
        size=int(chosen["size"].iloc[0]) if len(chosen) else 0,
        sql=region_sql(record.layout_id, region),
    )
    return frame


def region_counts(
    atlas: Atlas, layout: int, within: Region | Iterable[float], *, clustering: int | None = None
) -> pd.DataFrame:
    """What the examples in a part of a map are, against the whole map, the commonest first.

    ``within`` as of `layout_examples`. Columns: what (label, or cluster of ``clustering``), name (null without
    label), n, n_map, lift (share in the region over share on the map). Raises `UnknownName`, `UsageError`.
    """
    record = find_layout(atlas, layout)
    region = within if isinstance(within, Region) else Region.of(within)
    return atlas.frame(
        f"""
        with placed as (
            select example_id, {region.sql} as here from layout_points where layout_id = $1
        ),
        named as (
            select 'label' as what, label as name, here from placed join examples using (example_id)
            union all
            select 'cluster', case when label < 0 then 'noise' else cast(label as varchar) end, here
            from placed join cluster_labels using (example_id)
            where clustering_id = $2
        ),
        counted as (
            select what, name, count(*) filter (where here) as n, count(*) as n_map from named group by what, name
        )
        select
            what, name, n, n_map,
            (n / sum(n) over (partition by what)) / (n_map / sum(n_map) over (partition by what)) as lift
        from counted
        qualify n > 0
        order by what desc, n desc, name nulls last
        """,
        [record.layout_id, clustering],
    )


def region_sql(layout: int, region: Region) -> str:
    """The query that gives the examples of a region, for people to copy."""
    return (
        "select example_id, x, y, token, label, prediction\n"
        "from layout_points join examples using (example_id)\n"
        f"where layout_id = {layout} and {region.sql}\n"
        "order by example_id"
    )
