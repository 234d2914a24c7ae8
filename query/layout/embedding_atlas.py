"""A layout as a file that Embedding Atlas opens: Parquet (https://apple.github.io/embedding-atlas)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from atlas import Atlas
from atlas.errors import UsageError
from atlas.store.disk import replacing

from ..clustering.clusterings import NOISE, find_clustering, latest_clustering
from ..examples.description import describe
from ..examples.kinds import EXAMPLES, ExampleKind
from ..progress import Progress
from .layouts import StoredLayout, find_layout, layout_of, layout_points

ROWS = 8192
"""Examples written at once: with thumbnails of 128 × 128 pixels some 100 MB at most."""

_NEIGHBORS = pa.struct([("ids", pa.list_(pa.int32())), ("distances", pa.list_(pa.float32()))])


@dataclass(frozen=True)
class Exported:
    """``shown``: name of the column that the tool shows, text or image."""

    path: Path
    n_examples: int
    layout: int
    clustering: int | None
    shown: str

    @property
    def command(self) -> list[str]:
        """What opens it."""
        return [
            "embedding-atlas",
            str(self.path),
            "--x",
            "x",
            "--y",
            "y",
            f"--{self.shown}",
            self.shown,
            "--neighbors",
            "neighbors",
        ]


def export_embedding_atlas(
    atlas: Atlas,
    output: str | Path,
    *,
    layout: int | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str | None = None,
    clustering: int | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a stored map, that of an id or the newest of a site or span, as Embedding Atlas reads it.

    A row an example in order of id. Columns: x, y; text (the context of a token, the numbers of a vector) or image
    (bytes and path); neighbors, with ids (rows of this file from 0, the example itself first) and distances, which
    are those that the map was laid out by; example_id, label, prediction, loss, token and position, or key; cluster
    (of ``clustering``, by default the newest of the target), and distance (the mean distance to the neighbours).

    The file is there when it is complete. Raises `UnknownName` where there is no such map, `UsageError`, `DiskFull`.
    """
    path = Path(output)
    if path.suffix.lower() != ".parquet":
        raise UsageError(f"the file is to be called {path.name}; Embedding Atlas knows it by .parquet at the end")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} to; make it first")
    record = _asked(atlas, layout, site, span, network, space)
    if clustering is None:
        newest = latest_clustering(atlas, record.target)
        clustering = newest.clustering_id if newest else None
    else:
        find_clustering(atlas, clustering, record.target)
    points = layout_points(atlas, record.layout_id, clustering=clustering)
    with (
        replacing(path) as file,
        pq.ParquetWriter(file, _schema(record), compression="zstd") as writer,
    ):
        for start in range(0, len(points), ROWS):
            writer.write_table(_rows(atlas, record, points, slice(start, start + ROWS)))
            if progress is not None:
                progress(min(start + ROWS, len(points)), len(points))
    return Exported(path, len(points), record.layout_id, clustering, _kind(record).exported[0].name)


def _asked(
    atlas: Atlas, layout: int | None, site: str | None, span: str | None, network: str | None, space: str | None
) -> StoredLayout:
    if layout is not None:
        if site is not None or span is not None or space is not None:
            raise UsageError(f"layout {layout} is named by its id; leave the site, span and space away")
        return find_layout(atlas, layout)
    return layout_of(atlas, atlas.catalog.target(site=site, span=span, network=network), space)


def _kind(record: StoredLayout) -> ExampleKind:
    return EXAMPLES[record.target.network.kind]


def _schema(record: StoredLayout) -> pa.Schema:
    return pa.schema(
        [
            ("x", pa.float32()),
            ("y", pa.float32()),
            *_kind(record).exported,
            ("label", pa.string()),
            ("cluster", pa.string()),
            ("prediction", pa.string()),
            ("loss", pa.float32()),
            ("distance", pa.float32()),
            ("example_id", pa.int64()),
            ("neighbors", _NEIGHBORS),
        ]
    )


def _rows(atlas: Atlas, record: StoredLayout, points: pd.DataFrame, rows: slice) -> pa.Table:
    ids = points["example_id"].to_numpy(np.int64)
    part = points[rows]
    columns: dict[str, Any] = {
        "x": part["x"],
        "y": part["y"],
        "distance": part["distance"],
        "example_id": ids[rows],
        "cluster": [_cluster(label) for label in part["cluster"]] if "cluster" in part else [None] * len(part),
        "neighbors": _neighbors(atlas, record, ids, rows),
    }
    described = describe(atlas, record.target.network, ids[rows])
    columns |= _kind(record).export(described)
    schema = _schema(record)
    return pa.table(
        [
            pa.array(columns[name] if name in columns else described[name], field.type, from_pandas=True)
            for name, field in zip(schema.names, schema, strict=True)
        ],
        schema=schema,
    )


def _neighbors(atlas: Atlas, record: StoredLayout, ids: np.ndarray, rows: slice) -> pa.StructArray:
    """Neighbours as rows of the file, which is in order of id, the example itself in front, as the tool has them."""
    some = ids[rows]
    stored = atlas.columns(
        """
        select unnest(neighbors) as neighbor, unnest(distances) as distance
        from (
            select * from layout_points where layout_id = $1 and example_id between $2 and $3 order by example_id
        )
        """,
        [record.layout_id, int(some[0]), int(some[-1])],
    )
    near = np.searchsorted(ids, stored["neighbor"].astype(np.int64)).reshape(len(some), record.neighbors)
    themselves = np.arange(rows.start, rows.start + len(some))[:, None]
    distances = stored["distance"].reshape(near.shape)
    edges = pa.array(np.arange(0, len(some) * (record.neighbors + 1) + 1, record.neighbors + 1, dtype=np.int32))
    lists = [
        pa.ListArray.from_arrays(edges, pa.array(np.concatenate([first, rest], axis=1).astype(kind).ravel()))
        for first, rest, kind in ((themselves, near, np.int32), (np.zeros_like(themselves), distances, np.float32))
    ]
    return pa.StructArray.from_arrays(lists, fields=list(_NEIGHBORS))


def _cluster(label: int) -> str:
    return "noise" if label == NOISE else str(label)
