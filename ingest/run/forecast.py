"""How many bytes a run will take, measured rather than guessed.

How well activations and codes compress depends on the network, so the first few batches are run, published into a
small atlas of their own, and its size is scaled to the whole run.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import atlas
from atlas.network import Network, Span
from atlas.store.atlas import BLOCK_SIZE
from atlas.store.disk import disk_full, replacing
from atlas.store.statements import DATABASE

from ..datasets.base import Dataset
from ..derived.clusters import AUTOMATIC_POINTS
from .plan import Plan
from .publish import publish
from .shards import inputs_path, shard_path, write_shard

PILOT_BATCHES = 3
"""Batches that are run, unless fewer give PILOT_BYTES: a few seconds for a large model on a laptop."""

PILOT_BYTES = 4 << 20
"""Codes and activations enough to see how they compress."""

PILOT_BLOCK = 16384
"""DuckDB's smallest block: what doesn't fill a block is less."""

FIXED_BLOCKS = 21
"""Blocks of a database, little used, that the first few examples bring: keys' indexes and columns of small tables."""

CLUSTERING_BLOCKS = 6
"""The same for the first clustering."""

ID_BYTES = 8
"""Of an example's id, which an index holds beside its code."""

CLUSTERED_BYTES = 45
"""What a clustering takes for each example."""


@dataclass(frozen=True)
class Forecast:
    """Bytes that the atlas grows by (database and indexes), and bytes of staging that exist until it is published."""

    atlas_bytes: int
    staging_bytes: int


def forecast(
    network: Network,
    dataset: Dataset,
    ordinals: np.ndarray,
    plan: Plan,
    folder: Path,
    *,
    skip_bad: bool,
    first: bool = True,
    cluster: bool = True,
) -> Forecast:
    """Run the first inputs of a plan and scale; remembered in the run's staging ``folder`` for when it is resumed.

    ``first``: whether the atlas is still empty. ``cluster``: whether the sites will be clustered too.
    """
    remembered = folder / "forecast.json"
    if remembered.exists():
        return Forecast(**json.loads(remembered.read_text(encoding="utf-8")))
    with disk_full(folder):
        # Workers may forecast side by side.
        pilot_folder = Path(tempfile.mkdtemp(dir=folder, prefix="pilot-"))
    try:
        measured = _measure(network, dataset, ordinals, plan, pilot_folder, skip_bad)
    finally:
        shutil.rmtree(pilot_folder, ignore_errors=True)
    beside = _index_bytes(network, plan) + _clustering_bytes(plan, first) * cluster
    fixed = FIXED_BLOCKS * BLOCK_SIZE * first
    found = Forecast(measured.atlas_bytes + beside + fixed, measured.staging_bytes)
    with replacing(remembered) as file:
        file.write(json.dumps(asdict(found)).encode())
    return found


def _measure(
    network: Network, dataset: Dataset, ordinals: np.ndarray, plan: Plan, folder: Path, skip_bad: bool
) -> Forecast:
    """What grows with the examples: bytes in the database and bytes staged."""
    pilot = _first_batches(plan)
    shard = pilot.shards[0]
    write_shard(network, dataset, ordinals, pilot, shard, folder, skip_bad=skip_bad)
    with atlas.create(folder / "pilot.atlas", block_size=PILOT_BLOCK) as a:
        empty = _size(a.path / DATABASE)
        publish(a, network, pilot, "pilot", folder, datetime.now(UTC))
        done = a.value("select count(*) from examples")
    if done == 0:  # the first images are all broken: nothing to learn from
        raw = plan.n_examples * _row_bytes(plan)
        return Forecast(raw, raw)
    scale = plan.n_examples / done
    stored = _size(folder / "pilot.atlas" / DATABASE) - empty - FIXED_BLOCKS * PILOT_BLOCK
    staged = _size(shard_path(folder, shard)) + _size(inputs_path(folder, shard))
    return Forecast(int(max(stored, 0) * scale), int(staged * scale))


def _index_bytes(network: Network, plan: Plan) -> int:
    spans = [Span.parse(span).resolve(network.sites) for span in plan.document["spans"]]
    targets = [*((site,) for site in plan.sites), *spans]
    return plan.n_examples * sum(ID_BYTES + sum(site.n_bytes for site in target) for target in targets)


def _clustering_bytes(plan: Plan, first: bool) -> int:
    if plan.n_examples > AUTOMATIC_POINTS:
        return 0
    return CLUSTERING_BLOCKS * BLOCK_SIZE * first + plan.n_examples * CLUSTERED_BYTES * len(plan.sites)


def _row_bytes(plan: Plan) -> int:
    return sum(site.n_bytes for site in plan.sites) + 4 * sum(site.n_units for site in plan.stored_activations)


def _first_batches(plan: Plan) -> Plan:
    """The plan of the first few inputs, as one shard."""
    first = plan.shards[0]
    per_input = max(1.0, first.n_examples / (first.stop - first.start))
    per_batch = plan.document["batch_size"] * plan.document["sampling"].get("per_sequence", 1)
    examples = np.clip(PILOT_BYTES / _row_bytes(plan), per_batch, PILOT_BATCHES * per_batch)
    n_inputs = min(first.stop - first.start, int(np.ceil(examples / per_input)))
    bounds = [[first.start, first.start + n_inputs, round(n_inputs * per_input)]]
    # Spans bring blocks of their own, however many examples there are.
    return replace(plan, document={**plan.document, "shards": bounds, "spans": []})


def _size(path: Path) -> int:
    return path.stat().st_size
