"""How many bytes a run will take, measured rather than guessed.

How well activations and codes compress depends on the network, so the first few batches are run, published into a
small atlas of their own, and its size is scaled to the whole run.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import atlas
from atlas.network import Network
from atlas.store import DATABASE

from .items import Dataset
from .plan import Plan
from .publish import publish
from .shards import inputs_path, shard_path, write_shard

PILOT_BATCHES = 3
"""Batches that are run, unless fewer give PILOT_BYTES: a few seconds for a large model on a laptop."""

PILOT_BYTES = 4 << 20
"""Codes and activations enough to see how they compress."""

PILOT_BLOCK = 16384
"""DuckDB's smallest block: with the default of 256 kB a small database is mostly rounding."""

ID_BYTES = 8
"""Of an example's id, which an index holds beside its code."""


@dataclass(frozen=True)
class Forecast:
    """Bytes that the atlas grows by (database and indexes), and bytes of staging that exist until it is published."""

    atlas_bytes: int
    staging_bytes: int


def forecast(
    network: Network, dataset: Dataset, ordinals: np.ndarray, plan: Plan, folder: Path, *, skip_bad: bool
) -> Forecast:
    """Run the first inputs of a plan and scale; remembered in the run's staging ``folder`` for when it is resumed."""
    remembered = folder / "forecast.json"
    if remembered.exists():
        return Forecast(**json.loads(remembered.read_text(encoding="utf-8")))
    pilot_folder = folder / "pilot"
    try:
        found = _measure(network, dataset, ordinals, plan, pilot_folder, skip_bad)
    finally:
        shutil.rmtree(pilot_folder, ignore_errors=True)
    remembered.write_text(json.dumps(asdict(found)), encoding="utf-8")
    return found


def _measure(
    network: Network, dataset: Dataset, ordinals: np.ndarray, plan: Plan, folder: Path, skip_bad: bool
) -> Forecast:
    folder.mkdir(parents=True, exist_ok=True)
    pilot = _first_batches(plan)
    shard = pilot.shards[0]
    write_shard(network, dataset, ordinals, pilot, shard, folder, skip_bad=skip_bad)
    with atlas.create(folder / "pilot.atlas", block_size=PILOT_BLOCK) as a:
        empty = _size(a.path / DATABASE)
        publish(a, network, pilot, "pilot", folder, datetime.now(UTC))
        done = a.value("select count(*) from examples")
    scale = plan.n_examples / max(done, 1)
    stored = _size(folder / "pilot.atlas" / DATABASE) - empty
    staged = _size(shard_path(folder, shard)) + _size(inputs_path(folder, shard))
    indexes = plan.n_examples * sum(site.n_bytes + ID_BYTES for site in plan.sites)
    return Forecast(int(stored * scale) + indexes, int(staged * scale))


def _first_batches(plan: Plan) -> Plan:
    """The plan of the first few inputs, as one shard."""
    first = plan.shards[0]
    row_bytes = sum(site.n_bytes for site in plan.sites) + 4 * sum(site.n_units for site in plan.stored_activations)
    per_input = max(1.0, first.n_examples / (first.stop - first.start))
    batches = np.clip(PILOT_BYTES / (row_bytes * per_input * plan.document["batch_size"]), 1, PILOT_BATCHES)
    n_inputs = min(first.stop - first.start, int(np.ceil(batches * plan.document["batch_size"])))
    bounds = [[first.start, first.start + n_inputs, round(n_inputs * per_input)]]
    return replace(plan, document={**plan.document, "shards": bounds})


def _size(path: Path) -> int:
    return path.stat().st_size
