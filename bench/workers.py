"""What do two workers of Ray gain over one process?

    python -m bench.workers [--size small|full]

A run is read by this process, and by two workers on this machine; a network that waits at every batch, as for a disk
or a GPU, and one that computes. Each process has one thread: with as many as there are cores one process computes as
fast as two with one each, and nothing is to be gained. Seconds on the clock from the first shard to the last, without
publishing; Ray is started before, workers are not: "start" is what passes until they tell of a first batch, less that
batch. On cores that others use, what computes says little; the load says how many did.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import ray
from threadpoolctl import threadpool_limits

from atlas.network import Reading, Site, TokenWindow
from bench.publish import Generated
from bench.report import show
from ingest.datasets.sources import open_dataset
from ingest.progress import Progress, Step
from ingest.run.engines import Engine, LocalEngine
from ingest.run.plan import Choices
from ingest.run.ray_engine import RayEngine
from ingest.run.run import ingest
from ingest.run.sampling import TokenSampling

SIZES = {"small": 10, "full": 24}
"""Shards, of four batches each."""

WAIT = 0.5
"""Seconds that a batch waits, or about what it computes."""

TOKENS = 25


class Slow(Generated):
    """Looks its codes up, after it has waited or computed."""

    def __init__(self, packed: np.ndarray, products: int) -> None:
        super().__init__(packed, np.zeros((1, 8), np.float32))
        self.products = products

    def read(self, batch: Sequence[TokenWindow], codes: Sequence[Site], activations: Sequence[Site]) -> Reading:
        if not self.products:
            time.sleep(WAIT)
        matrix = np.ones((500, 500))
        for _ in range(self.products):
            matrix = matrix @ matrix / 500
        return super().read(batch, codes, activations)


class Stopwatch(Step):
    """Seconds until something is done."""

    def __init__(self) -> None:
        self.began, self.first = time.perf_counter(), 0.0

    def update(self, done: int, total: int) -> None:
        if done and not self.first:
            self.first = time.perf_counter() - self.began


class Clock(Progress):
    """Seconds that reading takes, and that pass until a batch is read."""

    read = first = 0.0

    @contextmanager
    def step(self, name: str, *, total: int | None = None, unit: str = "", done: int = 0) -> Iterator[Step]:
        watch = Stopwatch()
        yield watch
        if name == "read":
            self.read, self.first = time.perf_counter() - watch.began, watch.first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    shards = SIZES[parser.parse_args().size]
    packed = np.random.default_rng(0).integers(0, 256, (shards * 4 * TOKENS, 384), dtype=np.uint8)
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    two = RayEngine("local", workers=2, cpus_per_worker=1, gpus_per_worker=0)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        texts = Path(name) / "texts.jsonl"
        words = [" ".join(map(str, range(start, start + TOKENS))) for start in range(0, len(packed), TOKENS)]
        texts.write_text("".join(f'{{"text": "{each}"}}\n' for each in words))
        for what, network in (("waits", Slow(packed, 0)), ("computes", Slow(packed, _products()))):
            engines: list[Engine] = [LocalEngine(), two]
            places = [Path(name) / f"{what} {number}" for number in range(len(engines))]
            with threadpool_limits(1):
                alone, both = (
                    _read(path, network, texts, engine) for path, engine in zip(places, engines, strict=True)
                )
            start = max(0.0, both.first - alone.first)
            rows.append(
                {
                    "network": what,
                    "shards": shards,
                    "alone s": alone.read,
                    "two s": both.read,
                    "start s": start,
                    "times": alone.read / both.read,
                    "times after start": alone.read / (both.read - start),
                    "load": os.getloadavg()[0],
                }
            )
    ray.shutdown()
    show("one process and two workers", rows)


def _read(path: Path, network: Slow, texts: Path, engine: Engine) -> Clock:
    clock = Clock()
    choices = Choices(
        tokens=TokenSampling(TOKENS, 0),
        batch_size=1,
        shard_examples=4 * TOKENS,
        sites=(network.sites[0].name,),
        store_activations=False,
    )
    ingest(
        path, network, open_dataset(str(texts), kind="text"), choices, engine=engine, cluster=False, progress=clock
    )
    return clock


def _products() -> int:
    """Products of matrices that take about as long as a batch waits."""
    matrix, done = np.ones((500, 500)), 0
    with threadpool_limits(1):
        started = time.process_time()
        while time.process_time() - started < WAIT:
            matrix = matrix @ matrix / 500
            done += 1
    return done


if __name__ == "__main__":
    main()
