"""Layouts of what an atlas holds, stored with their parameters and with the neighbours that they were laid out by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from atlas.clustering.hierarchy import Metric
from atlas.devices import Device
from atlas.errors import UsageError
from atlas.store.atlas import Atlas
from atlas.store.digests import seal
from atlas.umap import MIN_DIST, NEIGHBORS, Layout, lay_out

from ..progress import Progress
from .job import Space, check_unchanged, data_digest, find_result, next_number, reading, storing

METRICS: dict[str, tuple[Metric, ...]] = {"codes": ("hamming", "jaccard"), "activations": ("euclidean",)}
"""By what examples may be laid out, the default first."""

STORED_ROWS = 20_000
"""Examples written at once: their neighbours take 10 MB as Arrow's lists."""


def layout(
    path: str | Path | Atlas,
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: Space = "codes",
    metric: Metric | None = None,
    neighbors: int = NEIGHBORS,
    min_dist: float = MIN_DIST,
    seed: int = 0,
    device: Device = "auto",
    progress: Progress | None = None,
) -> int:
    """Lay out the codes of a site or span, or the activations of a site, in the plane with UMAP, and store it.

    The same layout of the same data is not computed twice. An atlas given by its path is open only to read and to
    store the result, in one transaction: what is stopped leaves nothing.

    Args:
        path: the atlas, or an `Atlas` that is open for writing.
        site: what to lay out ...
        span: ... or a span.
        network: the network, where several have such a site.
        space: ``codes`` or ``activations``.
        metric: ``hamming`` (the default for codes) or ``jaccard`` (for sparse codes); ``euclidean`` for activations.
        neighbors: nearest neighbours of each example that are kept near it.
        min_dist: the least distance between points of the plane.
        seed: of the starting positions and of the random moves.
        device: ``auto``, ``cpu`` or ``cuda``: where neighbours are found.
        progress: is told how far it is.

    Returns:
        The layout's number.

    Raises:
        UnknownName: no such site, span or network.
        NotStored: no codes or activations are stored for it.
        UsageError: an impossible argument.
        RunInterrupted: the target got new examples meanwhile.
        AtlasLocked: somebody else has the atlas open.
    """
    if space not in METRICS:
        raise UsageError(f"space is {space!r}; it is {' or '.join(METRICS)}")
    metric = metric or METRICS[space][0]
    if metric not in METRICS[space]:
        raise UsageError(f"{space} are laid out by {' or '.join(METRICS[space])}, not by {metric}")
    progress = progress or Progress()
    with reading(path) as a:
        target = a.catalog.target(site=site, span=span, network=network)
        digest = data_digest(target, space)
        parameters = {
            "network_id": target.network.network_id,
            "target": target.name,
            "space": space,
            "metric": metric,
            "algorithm": "umap",
            "neighbors": neighbors,
            "min_dist": float(min_dist),
            "seed": seed,
            "data_digest": digest,
        }
        known = find_result(a, "layouts", "layout_id", parameters)
        if known is not None:
            return known
        ids, points = a.codes(target.sites) if space == "codes" else a.activations(target.sites[0])
    with progress.step(f"layout of {target.name} ({space})", total=2 * len(ids), unit="rows") as step:
        laid_out = lay_out(
            points,
            metric=metric,
            neighbors=neighbors,
            min_dist=min_dist,
            seed=seed,
            device=device,
            progress=step.update,
        )
    with storing(path, progress) as a:
        check_unchanged(a, target, space, digest, "it was laid out")
        return _store(a, parameters, ids, laid_out)


def _store(a: Atlas, parameters: dict[str, Any], ids: np.ndarray, laid_out: Layout) -> int:
    number = next_number(a, "layouts", "layout_id")
    computed = {"epochs": laid_out.epochs, "proven": laid_out.proven, "n_examples": len(ids)}
    row = {"layout_id": number, **parameters, **computed}
    a.insert("layouts", pa.Table.from_pylist([row]))
    for start in range(0, len(ids), STORED_ROWS):
        rows = slice(start, start + STORED_ROWS)
        near = ids[laid_out.neighbors[rows]].astype(np.uint32)
        a.insert(
            "layout_points",
            pa.table(
                {
                    "layout_id": np.full(len(near), number, np.uint16),
                    "example_id": ids[rows],
                    "x": laid_out.xy[rows, 0],
                    "y": laid_out.xy[rows, 1],
                    "neighbors": _lists(near),
                    "distances": _lists(laid_out.distances[rows].astype(np.float32)),
                }
            ),
        )
    seal(a, layout_id=number)
    return number


def _lists(table: np.ndarray) -> pa.ListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1]).cast(
        pa.list_(pa.from_numpy_dtype(table.dtype))
    )
