"""Layouts in the plane that an atlas holds, and where each example lies on one."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

import numpy as np
import pandas as pd
from jaxtyping import Int32

from atlas import Atlas
from atlas.checks import whole_id
from atlas.errors import UnknownName
from atlas.store.catalog import Target

from ..clustering.clusterings import data_digest, find_clustering
from ..examples.ids import is_span, places_of


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


def layouts(atlas: Atlas) -> pd.DataFrame:
    """Every stored layout with its parameters, oldest first.

    Args:
        atlas: an open atlas.

    Returns:
        A row a layout: layout_id, network, target, space, metric, algorithm, neighbors, min_dist, epochs, seed,
        proven (the share of examples whose neighbours are surely their nearest), n_examples, and current: False where
        examples were added to the target since; lay it out again to include them.
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
    number = whole_id("a layout", layout)
    rows = atlas.records(
        """
        select
            layout_id, networks.name as network, target, space, metric, algorithm, neighbors, min_dist, seed,
            proven, n_examples, data_digest
        from layouts join networks using (network_id)
        where layout_id = $1
        """,
        [number],
    )
    if not rows:
        held = ", ".join(str(other) for (other,) in atlas.rows("select layout_id from layouts order by all"))
        raise UnknownName(f"no layout {layout} in {atlas.address}; it holds {held or 'none'}")
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
            f"`polytope layout {quote(atlas.address)} {option} {quote(target.name)}{among}{wanted}` makes one"
        )
    return find_layout(atlas, number)


def layout_points(atlas: Atlas, layout: int, *, clustering: int | None = None) -> pd.DataFrame:
    """Where every example of a layout lies, in order of id.

    Args:
        atlas: an open atlas.
        layout: its id.
        clustering: id of a clustering whose clusters are shown.

    Returns:
        A row an example: example_id, x, y (float32), label (a category; null where there is none), cluster (-1 where
        the example is in none; without a clustering the column is absent), and distance: the mean distance to the
        neighbours that it was laid out by, in the layout's metric; small where examples lie densely.
        ``frame.attrs``: layout, network, target, space, metric, neighbors, current, clustering.

    Raises:
        UnknownName: for a layout or a clustering that is not there.
        UsageError: for a clustering of another network.
    """
    record = find_layout(atlas, layout)
    frame = atlas.frame(
        """
        select layout_points.example_id, x, y, label, cast(list_avg(distances) as float) as distance
        from layout_points join examples using (example_id)
        where layout_id = $1
        order by layout_points.example_id
        """,
        [record.layout_id],
    )
    frame["label"] = frame["label"].astype("category")
    if clustering is not None:
        frame["cluster"] = _clusters_of(atlas, record, clustering, frame["example_id"].to_numpy())
    frame.attrs.update(
        layout=record.layout_id,
        network=record.target.network.name,
        target=record.target.name,
        space=record.space,
        metric=record.metric,
        neighbors=record.neighbors,
        current=record.current,
        clustering=clustering,
    )
    return frame


def layout_columns(atlas: Atlas, layout: int, *, what: str, clustering: int | None = None) -> dict[str, np.ndarray]:
    """Where every example of a layout lies, and one thing about it, as arrays: what a map of a million is drawn from.

    ``what``: cluster (of ``clustering``; −1 where it is in none), label (None where it has none) or distance (mean,
    to the neighbours that it was laid out by). Columns: example_id, x, y, and that one, in order of id. Raises
    `UnknownName`, `UsageError` as `layout_points` does.
    """
    record = find_layout(atlas, layout)
    shown, more = {
        "cluster": ("", ""),
        "label": (", label", "join examples using (example_id)"),
        "distance": (", cast(list_avg(distances) as float) as distance", ""),
    }[what]
    columns = atlas.columns(
        f"select example_id, x, y{shown} from layout_points {more} where layout_id = $1 order by example_id",
        [record.layout_id],
    )
    if what == "cluster" and clustering is not None:
        columns["cluster"] = _clusters_of(atlas, record, clustering, columns["example_id"])
    return columns


def _clusters_of(
    atlas: Atlas, record: StoredLayout, clustering: int, ids: np.ndarray
) -> Int32[np.ndarray, " examples"]:
    labels = find_clustering(atlas, clustering, record.target)
    given = atlas.columns(
        "select example_id, label from cluster_labels where clustering_id = $1 order by example_id",
        [labels.clustering_id],
    )
    return _looked_up(ids, given["example_id"], given["label"])


def _looked_up(ids: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The value of each id, −1 where it is not known; ``known`` ascends."""
    held, places = places_of(ids, known)
    looked_up = np.full(len(ids), -1, np.int32)
    looked_up[held] = values[places]
    return looked_up
