"""The nearest neighbours of every example, found in one job and stored as a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from atlas.checks import whole
from atlas.devices import Device, check_device
from atlas.errors import IndexMissing, UsageError
from atlas.search.hamming_index import HammingIndex
from atlas.search.joined import load_index
from atlas.store.atlas import Atlas
from atlas.store.catalog import Target
from atlas.store.digests import seal

from ..progress import Progress
from .job import check_unchanged, reading, storing

DEFAULT_K = 10
QUERIES = 1024
"""Codes compared with all others between two reports of progress."""

STORED_ROWS = 100_000
"""Examples whose neighbours are written at once: 10 of each take 20 MB."""


def store_neighbors(
    path: str | Path | Atlas,
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    k: int = DEFAULT_K,
    device: Device = "auto",
    progress: Progress | None = None,
) -> int:
    """Find the nearest other examples of every example, exactly, and store them.

    They are ordered by (distance, example id), as `query.nearest` has them. What was stored of the target before is
    replaced, in one transaction: a job that is stopped leaves it as it was. Memory grows by 8 bytes a neighbour.

    Args:
        path: the atlas, or an `Atlas` that is open for writing.
        site: whose codes are compared ...
        span: ... or of which span.
        network: the network, where several have such a site.
        k: neighbours of each example.
        device: ``auto``, ``cpu`` or ``cuda``: where distances are computed.
        progress: is told how far it is.

    Returns:
        How many examples got neighbours.

    Raises:
        UsageError: k is below 1, or not below the number of codes.
        UnknownName: no such site, span or network.
        NotStored: no codes are stored for it.
        IndexMissing: it has no index; `build_indexes` makes one.
        IndexMismatch: its index is of other codes.
        RunInterrupted: the target got new examples meanwhile.
        AtlasLocked: somebody else has the atlas open.
    """
    progress = progress or Progress()
    k = whole("k", k)
    check_device(device)
    with reading(path) as a:
        target = a.catalog.target(site=site, span=span, network=network)
        index = _index(a, target)
    if k >= len(index):
        raise UsageError(
            f"k is {k}; {target.name} of network {target.network.name} has codes of {len(index)} examples, "
            f"{len(index) - 1} others for each: ask for fewer"
        )
    neighbors = np.empty((len(index), k), np.uint32)
    distances = np.empty((len(index), k), np.uint32)
    with progress.step(f"neighbors of {target.name}", total=len(index), unit="examples") as step:
        for start in range(0, len(index), QUERIES):
            rows = slice(start, min(start + QUERIES, len(index)))
            neighbors[rows], distances[rows] = index.others(np.arange(rows.start, rows.stop), k, device=device)
            step.advance(rows.stop - rows.start)
    with storing(path, progress) as a:
        check_unchanged(a, target, "codes", target.digest, "neighbours were looked for")
        _store(a, target, index, neighbors, distances)
    return len(index)


def _index(a: Atlas, target: Target) -> HammingIndex:
    named = [target.network.network_id, target.name]
    file = a.value("select file from indexes where network_id = $1 and target = $2 and kind = 'flat'", named)
    if file is None:
        option = "--span" if "->" in target.name else "--site"
        raise IndexMissing(
            f"{target.name} of network {target.network.name} has no index; build it with "
            f"`polytope index {a.address} {option} '{target.name}'`"
        )
    index = load_index(a.index_files(file), target.digest)
    index.check(len(index), target.digest)
    return index


def _store(a: Atlas, target: Target, index: HammingIndex, neighbors: np.ndarray, distances: np.ndarray) -> None:
    named, k = [target.network.network_id, target.name], neighbors.shape[1]
    for table in ("neighbors", "neighborhoods"):
        a.execute(f"delete from {table} where network_id = $1 and target = $2", named)
    for start in range(0, len(index), STORED_ROWS):
        rows = slice(start, start + STORED_ROWS)
        examples = np.repeat(index.ids[rows], k)
        a.insert(
            "neighbors",
            pa.table(
                {
                    "network_id": np.full(len(examples), target.network.network_id, np.uint16),
                    "target": pa.repeat(target.name, len(examples)),
                    "example_id": examples,
                    "rank": np.tile(np.arange(1, k + 1, dtype=np.uint32), len(examples) // k),
                    "neighbor_id": neighbors[rows].ravel(),
                    "distance": distances[rows].ravel(),
                }
            ),
        )
    a.execute("insert into neighborhoods values ($1, $2, $3, $4, $5)", [*named, k, len(index), target.digest])
    seal(a, network_id=target.network.network_id, target=target.name)
