"""Maps that are stored: which there are, where each example lies, and who lies in a part of one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from shlex import quote

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.errors import UnknownName, UsageError
from atlas.store.catalog import Target

from ..clustering.stored import data_digest, find_clustering
from ..examples.stored import describe, is_span

MOST_CORNERS = 100
"""Corners of a polygon: a lasso drawn by hand has fewer that matter, and a query of that many takes a moment."""

DECIMALS = 3
"""Of a region's numbers: a map is some 20 across, so this is finer than a pixel."""


@dataclass(frozen=True)
class StoredLayout:
    """A row of ``layouts``, with the target that was laid out."""

    layout_id: int
    target: Target
    space: str
    metric: str
    algorithm: str
    neighbors: int
    min_dist: float
    seed: int
    proven: float
    n_examples: int
    data_digest: str

    @property
    def name(self) -> str:
        """How to call it in a sentence."""
        return f"layout {self.layout_id} ({self.target.name} of network {self.target.network.name}, {self.space})"

    @property
    def current(self) -> bool:
        """Whether the target still holds exactly what was laid out."""
        return data_digest(self.target, self.space) == self.data_digest


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


def layouts(atlas: Atlas) -> pd.DataFrame:
    """Every stored map with its parameters, oldest first.

    ``proven`` is the share of examples whose neighbours are surely their nearest. ``current`` is False where examples
    were added to the target since: lay it out again to include them.
    """
    frame = atlas.frame(
        """
        select
            layout_id, networks.name as network, target, space, metric, algorithm, neighbors, min_dist, epochs, seed,
            proven, n_examples
        from layouts join networks using (network_id)
        order by layout_id
        """
    )
    frame["current"] = [find_layout(atlas, number).current for number in frame["layout_id"].tolist()]
    return frame


def find_layout(atlas: Atlas, layout: object) -> StoredLayout:
    """The map of that id; `UnknownName` where there is none, `UsageError` for what is no id."""
    if not isinstance(layout, Integral) or isinstance(layout, bool):
        raise UsageError(f"a layout is named by its id, a whole number, got {layout!r}")
    rows = atlas.records(
        """
        select
            layout_id, networks.name as network, target, space, metric, algorithm, neighbors, min_dist, seed,
            proven, n_examples, data_digest
        from layouts join networks using (network_id)
        where layout_id = $1
        """,
        [int(layout)],
    )
    if not rows:
        held = ", ".join(str(number) for (number,) in atlas.rows("select layout_id from layouts order by all"))
        raise UnknownName(f"no layout {layout} in {atlas.path}; it holds {held or 'none'}")
    row = rows[0]
    target = atlas.catalog.target(site=row.pop("target"), network=row.pop("network"))
    return StoredLayout(target=target, **row)


def layout_of(atlas: Atlas, target: Target, space: str | None = None) -> StoredLayout:
    """The newest map of a target, in one space or, without one, of its codes rather than of its activations.

    Raises `UnknownName` where there is none, with the command that makes one.
    """
    number = atlas.value(
        """
        select layout_id from layouts
        where network_id = $1 and target = $2 and ($3 is null or space = $3)
        order by space = 'codes' desc, layout_id desc
        limit 1
        """,
        [target.network.network_id, target.name, space],
    )
    if number is None:
        option = "--span" if is_span(target) else "--site"
        among = f" --network {quote(target.network.name)}" if len(atlas.catalog.networks) > 1 else ""
        wanted = f" --space {space}" if space == "activations" else ""
        raise UnknownName(
            f"no layout of {target.name} of network {target.network.name} is stored; "
            f"`polytope layout {quote(str(atlas.path))} {option} {quote(target.name)}{among}{wanted}` makes one"
        )
    return find_layout(atlas, number)


def layout_points(atlas: Atlas, layout: int, clustering: int | None = None) -> pd.DataFrame:
    """Where every example of a map lies, in order of id.

    Columns: example_id, x, y (float32), label (a category; null where there is none), cluster (of ``clustering``, −1
    where the example is in none; without a clustering the column is absent), and distance: the mean distance to the
    neighbours that it was laid out by, in ``metric``; small where examples lie densely.

    Raises `UnknownName`, and `UsageError` for a clustering of another network.
    """
    found = find_layout(atlas, layout)
    frame = atlas.frame(
        """
        select layout_points.example_id, x, y, label, cast(list_avg(distances) as float) as distance
        from layout_points join examples using (example_id)
        where layout_id = $1
        order by layout_points.example_id
        """,
        [found.layout_id],
    )
    frame["label"] = frame["label"].astype("category")
    if clustering is not None:
        labels = find_clustering(atlas, clustering, found.target)
        given = atlas.columns(
            "select example_id, label from cluster_labels where clustering_id = $1 order by example_id",
            [labels.clustering_id],
        )
        frame["cluster"] = _looked_up(frame["example_id"].to_numpy(), given["example_id"], given["label"])
    frame.attrs.update(
        layout=found.layout_id,
        network=found.target.network.name,
        target=found.target.name,
        space=found.space,
        metric=found.metric,
        neighbors=found.neighbors,
        current=found.current,
        clustering=clustering,
    )
    return frame


def layout_examples(
    atlas: Atlas, layout: int, within: Region | Iterable[float], *, limit: int | None = None, offset: int = 0
) -> pd.DataFrame:
    """The examples in a part of a map, in order of id.

    ``within``: x, y, x, y of two opposite corners of a box, or the corners of a polygon. ``limit`` and ``offset``
    page through them. Columns: x, y, and what `nearest` shows of an example. ``frame.attrs``: layout, network,
    target, size (how many there are in all), sql (the query that gives them).

    Raises `UnknownName`, `UsageError`.
    """
    for name, value, least in (("limit", limit, 1), ("offset", offset, 0)):
        if value is not None and (not isinstance(value, Integral) or value < least):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}")
    found = find_layout(atlas, layout)
    region = within if isinstance(within, Region) else Region.of(within)
    chosen = atlas.frame(
        f"""
        select example_id, x, y, count(*) over () as size
        from layout_points
        where layout_id = $1 and {region.sql}
        order by example_id
        limit $2 offset $3
        """,
        [found.layout_id, found.n_examples if limit is None else int(limit), int(offset)],
    )
    frame = describe(atlas, found.target.network, chosen["example_id"].to_numpy(np.int64))
    frame.insert(1, "x", chosen["x"])
    frame.insert(2, "y", chosen["y"])
    frame.attrs.update(
        layout=found.layout_id,
        network=found.target.network.name,
        target=found.target.name,
        size=int(chosen["size"].iloc[0]) if len(chosen) else 0,
        sql=region_sql(found.layout_id, region),
    )
    return frame


def region_counts(
    atlas: Atlas, layout: int, within: Region | Iterable[float], clustering: int | None = None
) -> pd.DataFrame:
    """What the examples in a part of a map are, against the whole map, the commonest first.

    ``within`` as of `layout_examples`. Columns: what (label, or cluster of ``clustering``), name (null without
    label), n, n_map, lift (share in the region over share on the map). Raises `UnknownName`, `UsageError`.
    """
    found = find_layout(atlas, layout)
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
        [found.layout_id, clustering],
    )


def region_sql(layout: int, region: Region) -> str:
    """The query that gives the examples of a region, for people to copy."""
    return (
        "select example_id, x, y, token, label, prediction\n"
        "from layout_points join examples using (example_id)\n"
        f"where layout_id = {layout} and {region.sql}\n"
        "order by example_id"
    )


def _looked_up(ids: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each id, −1 where it is not known; ``known`` ascends."""
    places = np.searchsorted(known, ids.astype(known.dtype))
    there = places < len(known)
    there[there] = known[places[there]] == ids[there]
    found = np.full(len(ids), -1, np.int32)
    found[there] = values[places[there]]
    return found
