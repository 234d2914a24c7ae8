"""Who reads a segmented atlas while it grows: ten processes ask, one commits, answers are held against the truth.

A reader opens the newest version, asks SQL and the nearest of an example, closes it, and begins again. What a version
holds is known, so that every answer is checked. A turn of more than a second is late; of it the time that its process
neither computed nor waited for a processor is the store's.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

import atlas
import query
from atlas.codes import SplineCodes
from atlas.store.digests import codes_digest
from atlas.store.segmented import SegmentedAtlas
from bench.atlases import SITE, examples_of, fixed_rows
from bench.data import clustered_codes
from bench.memory import anonymous_mb
from bench.report import show
from ingest.derived.indexes import build_indexes

GATES = 512
MOST = 1_000_000  # examples, for which there are inputs
K = 5
LATE = 1.0  # seconds
WARM = 5  # turns after which the memory of a reader is looked at
SIZES = {"small": (2, 10.0), "full": (10, 300.0)}
"""Readers, and seconds."""


@dataclass(frozen=True)
class Read:
    """What a reader did.

    ``late``: turns of more than a second; ``blocked``: those in which it waited so long for something else than a
    processor; ``longest``: seconds of such waiting at most in a turn. Memory in MB, once warm and at the end.
    """

    turns: int
    versions: int
    wrong: int
    late: int
    blocked: int
    longest: float
    first_mb: float
    last_mb: float


def batch(number: int, n: int) -> SplineCodes:
    """The codes that a commit adds: the first is number 0."""
    return clustered_codes(n, GATES, 20, number)


def add(path: Path, number: int, n: int) -> None:
    """Commit a batch, with its index, as a version."""
    codes, ids = batch(number, n), np.arange(number * n, (number + 1) * n) + 1
    with atlas.create(path, segmented=True) as a, a.together():
        with a.transaction():
            if number == 0:
                fixed_rows(a, MOST, GATES, 1)
            a.insert("examples", examples_of(ids, np.random.default_rng(number)))
            rows = {
                "site_id": np.ones(n, np.uint16),
                "example_id": ids,
                "code": [row.tobytes() for row in codes.packed],
                "n_active": np.bitwise_count(codes.packed).sum(axis=1),
            }
            a.insert("codes", pa.table(rows))
        with a.transaction():
            [site] = a.catalog.sites
            a.execute("update sites set n_codes = $1, codes_digest = $2", [*codes_digest(a, site)])
        build_indexes(a, targets=[SITE])


def reading_while_it_grows(path: Path, readers: int, n: int, go_on: Callable[[int], bool]) -> tuple[int, list[Read]]:
    """Batches of ``n`` codes are committed for as long as ``go_on``, told how many were, says; then the readers, who
    have asked meanwhile, say what they saw. Returns how many were committed, and that."""
    add(path, 0, n)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["atlas.search.kernels", "query"])
    begun, over, said = context.Barrier(readers + 1), context.Event(), context.Queue()
    children = [context.Process(target=_read, args=(path, n, seed, begun, over, said)) for seed in range(readers)]
    for child in children:
        child.start()
    begun.wait(600)
    commits = 0
    try:
        while go_on(commits):
            commits += 1
            add(path, commits, n)
    finally:
        over.set()
    found = [said.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    return commits, found


def _read(path: Path, n: int, seed: int, begun: Any, over: Any, said: Any) -> None:
    generator, known = np.random.default_rng(seed), [batch(0, n).packed]
    turns = wrong = late = blocked = 0
    longest, first_mb, seen = 0.0, 0.0, set[int]()
    begun.wait(600)
    while turns <= WARM or not over.is_set():
        began, busy = time.perf_counter(), _processor_seconds()
        with atlas.open(path) as a:
            assert isinstance(a, SegmentedAtlas)
            version = a.version.number
            held = n * (version - 1)  # the first version is empty
            example = int(generator.integers(held)) + 1
            counted = query.sql(a, "select count(*) as n, sum(n_active)::bigint as active from codes")
            near = query.nearest(a, example=example, site=SITE, k=K, density=False)
        seconds = time.perf_counter() - began
        waited = max(0.0, seconds - (_processor_seconds() - busy))
        late, blocked, longest = late + (seconds > LATE), blocked + (waited > LATE), max(longest, waited)
        while len(known) < version - 1:
            known.append(batch(len(known), n).packed)
        packed = np.concatenate(known[: version - 1])
        wrong += counted.iloc[0].tolist() != [held, int(np.bitwise_count(packed).sum())]
        wrong += list(zip(near["example_id"], near["distance"], strict=True)) != _nearest(packed, example)
        turns, seen = turns + 1, seen | {version}
        if turns == WARM:
            first_mb = anonymous_mb()
    said.put(Read(turns, len(seen), wrong, late, blocked, longest, first_mb, anonymous_mb()))


def _nearest(packed: np.ndarray, example: int) -> list[tuple[int, int]]:
    """Ids, from 1, and distances, by NumPy alone."""
    distances = np.bitwise_count(packed ^ packed[example - 1]).sum(axis=1, dtype=np.int64)
    distances[example - 1] = GATES + 1
    order = np.argsort(distances, kind="stable")[:K]
    return [(int(row) + 1, int(distances[row])) for row in order]


def _processor_seconds() -> float:
    """For how long all threads of this process have computed, or waited for a processor."""
    total = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            total += sum(map(int, (task / "schedstat").read_text().split()[:2]))
        except OSError:  # it has just ended
            continue
    return total / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--readers", type=int)
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    readers, seconds = SIZES[given.size]
    readers, seconds = given.readers or readers, given.seconds or seconds
    with tempfile.TemporaryDirectory() as folder:
        until = time.monotonic() + seconds
        commits, found = reading_while_it_grows(
            Path(folder) / "a.atlas", readers, 500, lambda _: time.monotonic() < until
        )
    rows = pd.DataFrame([vars(each) for each in found])
    show("readers of an atlas that grows", [vars(each) for each in found])
    show(
        "all of them",
        [
            {
                "seconds": seconds,
                "commits": commits,
                **{name: int(rows[name].sum()) for name in ("turns", "wrong", "late", "blocked")},
                "longest wait s": rows["longest"].max(),
                "MB": rows["first_mb"].mean(),
                "MB at the end": rows["last_mb"].mean(),
                "load": os.getloadavg()[0],
            }
        ],
    )


if __name__ == "__main__":
    main()
