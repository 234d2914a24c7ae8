"""Maps of what an atlas holds, stored with their parameters and with the neighbours that they were laid out by."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

import atlas
from atlas.devices import Device
from atlas.errors import NotStored, RunInterrupted, UsageError
from atlas.store.atlas import Atlas
from atlas.store.catalog import Target
from atlas.store.digests import seal
from atlas.umap import MIN_DIST, NEIGHBORS, Layout, lay_out

from ..progress import Progress

Space = Literal["codes", "activations"]

METRICS = {"codes": "hamming", "activations": "euclidean"}

STORED_ROWS = 20_000
"""Examples written at once: their neighbours take 10 MB as Arrow's lists."""


def layout(
    path: str | Path,
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: Space = "codes",
    neighbors: int = NEIGHBORS,
    min_dist: float = MIN_DIST,
    seed: int = 0,
    device: Device = "auto",
    progress: Progress | None = None,
) -> int:
    """Lay out the codes of a site or span (Hamming), or the activations of a site (Euclidean), in the plane and store
    the map; returns its id.

    The parameters are those of `atlas.umap.lay_out`. The same map of the same data is not computed twice. The
    database is held only to store it, in one transaction: what is stopped leaves nothing.

    Raises what `lay_out` raises, `UnknownName`, `NotStored`, `UsageError`, `AtlasLocked`, and `RunInterrupted` where
    the target got new examples meanwhile.
    """
    if space not in METRICS:
        raise UsageError(f"space is {space!r}; it is {' or '.join(METRICS)}")
    progress = progress or Progress()
    with atlas.open(path) as a:
        target = a.catalog.target(site=site, span=span, network=network)
        parameters = {
            "network_id": target.network.network_id,
            "target": target.name,
            "space": space,
            "metric": METRICS[space],
            "algorithm": "umap",
            "neighbors": neighbors,
            "min_dist": float(min_dist),
            "seed": seed,
            "data_digest": _digest(target, space),
        }
        known = _find(a, parameters)
        if known is not None:
            return known
        ids, points = a.codes(target.sites) if space == "codes" else a.activations(target.sites[0])
    with progress.step(f"map of {target.name} ({space})", total=2 * len(ids), unit="rows") as step:
        found = lay_out(
            points, neighbors=neighbors, min_dist=min_dist, seed=seed, device=device, progress=step.update
        )
    with atlas.open(path, writable=True) as a, a.transaction():
        return _store(a, target.network.name, parameters, ids, found)


def _digest(target: Target, space: Space) -> str:
    if space == "codes":
        return target.digest
    if len(target.sites) != 1 or "->" in target.name:
        raise UsageError(f"a span ({target.name}) has codes but no activations of its own; name a site")
    digest = target.sites[0].activations_digest
    if digest is None:
        raise NotStored(
            f"no activations are stored for site {target.name} of network {target.network.name}; ingest with "
            "--store-activations"
        )
    return digest


def _find(a: Atlas, parameters: dict[str, Any]) -> int | None:
    matches = " and ".join(f"{name} = ${at}" for at, name in enumerate(parameters, start=1))
    found = a.value(f"select max(layout_id) from layouts where {matches}", list(parameters.values()))
    return None if found is None else int(found)


def _store(a: Atlas, network: str, parameters: dict[str, Any], ids: np.ndarray, found: Layout) -> int:
    target = a.catalog.target(site=parameters["target"], network=network)
    if _digest(target, parameters["space"]) != parameters["data_digest"]:
        raise RunInterrupted(f"{target.name} got new examples while it was laid out; give the same command again")
    number = 1 + a.value("select coalesce(max(layout_id), 0) from layouts")
    row = {"layout_id": number, **parameters, "epochs": found.epochs, "proven": found.proven, "n_examples": len(ids)}
    a.insert("layouts", pa.Table.from_pylist([row]))
    for start in range(0, len(ids), STORED_ROWS):
        rows = slice(start, start + STORED_ROWS)
        near = ids[found.neighbors[rows]].astype(np.uint32)
        a.insert(
            "layout_points",
            pa.table(
                {
                    "layout_id": np.full(len(near), number, np.uint16),
                    "example_id": ids[rows],
                    "x": found.xy[rows, 0],
                    "y": found.xy[rows, 1],
                    "neighbors": _lists(near),
                    "distances": _lists(found.distances[rows].astype(np.float32)),
                }
            ),
        )
    seal(a, layout_id=number)
    return number


def _lists(table: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(table.ravel()), table.shape[1]).cast(
        pa.list_(pa.from_numpy_dtype(table.dtype))
    )
