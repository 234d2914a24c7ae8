"""What publishing costs: shards of packed codes becoming tables, against merely writing the same bytes down.

    python -m bench.publish [--size small|full]

Codes of 3,072 gates (384 bytes) at 12 sites, as GPT-2 small has them; the last rows add activations, and codes as
sparse as a trained network's. Side by side, each from the files on the disk to files on the disk:

- publish: `ingest.run.publish.publish` into a new atlas, opened, written, digested, checkpointed and closed;
- insert: a bare DuckDB `insert … select … from read_parquet(…)` of the same columns as blobs into a table, with its
  own settings (all memory, all cores), and closed; no ids are looked up, nothing is digested or counted;
- Parquet: the columns read and written to one file with pyarrow, uncompressed, and flushed to the disk.

MB are 10^6 bytes of packed bits (and, where they are published, of activations in float32). CPU seconds of publish
stand beside its seconds on the clock, which count only on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import atlas
from atlas.network import NetworkInfo, Reading, Site, Tokens, TokenWindow
from atlas.store.statements import DATABASE
from bench.data import clustered_codes
from bench.report import show
from ingest.datasets.sources import open_dataset
from ingest.run.plan import Choices, Plan, choose_inputs, make_plan
from ingest.run.publish import publish
from ingest.run.sampling import TokenSampling
from ingest.run.shards import activation_column, code_column, shard_path, write_shard

GATES, SITES = 3072, 12  # GPT-2 small
TOKENS_A_TEXT = 100
CLUSTERS = 1000
SPARSE = 0.06
"""Share of gates that are on in blocks 1 to 4 of a trained GPT-2 of six blocks: 0.05 to 0.08."""

ROUNDS = 3
SIZES = {"small": [5_000, 20_000], "full": [12_500, 25_000, 50_000, 100_000, 200_000]}
ACTIVATIONS = {"small": 1_000, "full": 8_000}


class Generated:
    """A text network that looks its codes up: the word 17 of a text is row 17 of what was generated."""

    def __init__(self, packed: np.ndarray, activations: np.ndarray) -> None:
        self.info = NetworkInfo("generated", "Generated", "text", "bench", "none", "0" * 64)
        self.sites = tuple(
            Site(f"blocks.{i}.mlp", i, activations.shape[1], GATES, "gelu", False) for i in range(SITES)
        )
        self._packed, self._activations = packed, activations

    def tokenize(self, text: str) -> Tokens:
        words = text.split(" ")
        ends = np.cumsum([len(word) + 1 for word in words]) - 1
        return Tokens(np.array([int(word) for word in words]), ends - [len(word) for word in words], ends)

    def windows(self, n_tokens: int) -> list[range]:
        return [range(n_tokens)]

    def token_text(self, token: int) -> str:
        return str(token)

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        rows = np.concatenate([window.ids[window.positions] for window in batch])
        n = len(rows)
        return Reading(
            # Each site has the bytes of the others in another order.
            {site.name: np.roll(self._packed[rows], 7 * site.ordinal, axis=1) for site in codes},
            {site.name: self._activations[(rows + site.ordinal) % len(self._activations)] for site in activations},
            {site.name: np.ones(n, bool) for site in codes},
            [str(row) for row in rows],
            np.ones(n, np.float32),
            np.zeros(n, np.float32),
        )


@dataclass(frozen=True)
class Staged:
    """A run whose shards are complete."""

    network: Generated
    plan: Plan
    folder: Path

    @property
    def columns(self) -> list[str]:
        codes = [code_column(site) for site in self.plan.sites]
        return codes + [activation_column(site) for site in self.plan.stored_activations]

    @property
    def files(self) -> list[str]:
        return [str(shard_path(self.folder, shard)) for shard in self.plan.shards]

    @property
    def n_bytes(self) -> int:
        row = sum(site.n_bytes for site in self.plan.sites)
        return self.plan.n_examples * (row + 4 * sum(site.n_units for site in self.plan.stored_activations))


def stage(folder: Path, packed: np.ndarray, activations: np.ndarray | None = None, first: int = 0) -> Staged:
    """The shards of one run of the codes from the ``first`` on, an example each, written as a run writes them."""
    folder.mkdir()
    texts = folder / "texts.jsonl"
    with texts.open("w", encoding="utf-8") as file:
        for start in range(first, len(packed), TOKENS_A_TEXT):
            words = range(start, min(start + TOKENS_A_TEXT, len(packed)))
            file.write(json.dumps({"text": " ".join(map(str, words))}) + "\n")
    network = Generated(packed, np.zeros((1, 8), np.float32) if activations is None else activations)
    dataset = open_dataset(str(texts), kind="text")
    choices = Choices(store_activations=activations is not None, tokens=TokenSampling(TOKENS_A_TEXT, 0))
    plan = make_plan(network, dataset, choices)
    for shard in plan.shards:
        write_shard(network, dataset, choose_inputs(dataset, choices), plan, shard, folder, skip_bad=False)
    return Staged(network, plan, folder)


def published(staged: Staged, folder: Path) -> Path:
    with atlas.create(folder / "bench.atlas") as a:
        publish(a, staged.network, staged.plan, "bench", staged.folder, datetime.now(UTC))
    return folder / "bench.atlas" / DATABASE


def inserted(staged: Staged, folder: Path) -> Path:
    database = folder / "bare.duckdb"
    with duckdb.connect(str(database)) as connection:
        connection.execute("create table rows (site_id usmallint, example_id uinteger, value blob)")
        for number, column in enumerate(staged.columns):
            connection.execute(
                f'insert into rows select $1, row_number() over (), "{column}" from read_parquet($2)',
                [number, staged.files],
            )
    return database


def copied(staged: Staged, folder: Path) -> Path:
    path = folder / "copy.parquet"
    every = pq.read_schema(staged.files[0])
    schema = pa.schema([every.field(column) for column in staged.columns])
    with path.open("wb") as file:
        with pq.ParquetWriter(
            file, schema, compression="none", use_dictionary=False, write_statistics=False
        ) as writer:
            for shard in staged.files:
                writer.write_table(pq.ParquetFile(shard).read(columns=staged.columns))
        file.flush()
        os.fsync(file.fileno())
    return path


def measure(what: str, staged: Staged, rounds: int) -> dict[str, Any]:
    sides: dict[str, Callable[[Staged, Path], Path]] = {"publish": published, "insert": inserted, "Parquet": copied}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    cpu, stored = [], 0.0
    for _ in range(rounds):
        for name, run in sides.items():
            with tempfile.TemporaryDirectory(dir=staged.folder) as folder:
                clock, process = time.perf_counter(), time.process_time()
                path = run(staged, Path(folder))
                seconds[name].append(time.perf_counter() - clock)
                if name == "publish":
                    cpu.append(time.process_time() - process)
                    stored = path.stat().st_size / staged.n_bytes
    megabytes = staged.n_bytes / 1e6
    took = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "what": what,
        "examples": staged.plan.n_examples,
        "MB": megabytes,
        "publish s": took["publish"],
        "publish CPU s": statistics.median(cpu),
        **{f"{name} MB/s": megabytes / took[name] for name in sides},
        "insert/publish": statistics.median(
            a / b for a, b in zip(seconds["insert"], seconds["publish"], strict=True)
        ),
        "atlas/MB": stored,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    sizes, rows = SIZES[arguments.size], []
    packed = clustered_codes(sizes[-1], GATES, CLUSTERS, 0).packed
    with tempfile.TemporaryDirectory() as scratch:
        for n in sizes:
            rows.append(measure("codes", stage(Path(scratch) / f"codes-{n}", packed[:n]), arguments.rounds))
        generator = np.random.default_rng(0)
        sparse = np.packbits(generator.random((sizes[1], GATES), dtype=np.float32) < SPARSE, axis=1)
        rows.append(measure("sparse codes", stage(Path(scratch) / "sparse", sparse), arguments.rounds))
        n = ACTIVATIONS[arguments.size]
        numbers = generator.standard_normal((n, GATES), dtype=np.float32)
        staged = stage(Path(scratch) / "activations", packed[:n], numbers)
        rows.append(measure("codes and activations", staged, arguments.rounds))
    show("publish", rows)


if __name__ == "__main__":
    main()
