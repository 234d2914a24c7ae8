"""What does exact clustering by parts cost, and does it keep to its budget of memory?

    python -m bench.cluster_parts [--size small|full|million] [--bits N]

The spanning tree of clustered codes by pairs of parts in a process of its own: CPU seconds, and the peak of its
memory over what it held before, mapped codes apart, beside the budget and what HDBSCAN's hierarchy takes on top. One
tree of all codes at once, within the same budget, for comparison where it ends in reasonable time. "million" takes an
hour or two of two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from atlas.clustering.hdbscan import cluster_codes, hierarchy_of
from atlas.codes import SplineCodes
from bench.data import clustered_codes
from bench.memory import anonymous_mb
from bench.report import show
from ingest.derived.tree_tasks import grow, stage, stage_codes
from ingest.progress import Step
from ingest.run.engines import LocalEngine

SIZES = {"small": [10_000, 20_000], "full": [50_000, 100_000, 200_000], "million": [1_000_000]}
AT_ONCE = 50_000  # more codes than this are only clustered by parts
MEMBERS = 100  # codes in a cluster
SAMPLES = 5
BUDGET = 256 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--bits", type=int, default=3072)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)  # folder and way, in the process that is measured
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(_alone(Path(asked.alone[0]), asked.alone[1], asked.bits)))
        return
    rows = []
    for n in SIZES[asked.size]:
        for way in ("parts", "at once") if n <= AT_ONCE else ("parts",):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "staged"
                codes = clustered_codes(n, asked.bits, n // MEMBERS, 0)
                stage_codes(folder, [(np.arange(n), codes.packed)], (asked.bits,), "generated")
                command = [sys.executable, "-m", "bench.cluster_parts", "--bits", str(asked.bits)]
                ran = subprocess.run([*command, "--alone", str(folder), way], check=True, stdout=subprocess.PIPE)
            found = json.loads(ran.stdout.splitlines()[-1])
            rows.append({"codes": n, "bits": asked.bits, "way": way, "budget MB": BUDGET / 2**20, **found})
    show("exact clustering by parts", rows)


def _alone(folder: Path, way: str, bits: int) -> dict[str, Any]:
    warm = clustered_codes(300, bits, 3, 0)
    for ties in ("ids", "hdbscan"):  # compiled before it is measured
        cluster_codes(warm, metric="hamming", ties=ties, device="cpu")
    index = stage_codes(folder, [], (bits,), "generated")
    codes = SplineCodes(index.packed, index.parts)
    before, started, clock = anonymous_mb(), time.process_time(), time.perf_counter()
    peak, of_tree, tasks = _Peak(), None, 1
    if way == "parts":
        work = stage(folder, codes, "hamming", SAMPLES, BUDGET, "cpu")
        tree = grow(work, LocalEngine(), Step())
        tasks, of_tree = sum(map(len, work.tasks)), peak.most - before
        found = hierarchy_of(tree, bits, "hamming", SAMPLES, SAMPLES, "eom")
    else:
        found = cluster_codes(codes, metric="hamming", memory_budget=BUDGET, device="cpu")
    return {
        "tasks": tasks,
        "CPU s": time.process_time() - started,
        "s": time.perf_counter() - clock,
        "peak of tree MB": of_tree,
        "peak MB": peak.end() - before,
        "clusters": int(found.labels.max()) + 1,
    }


class _Peak:
    """The most memory that was held, looked at a hundred times a second."""

    def __init__(self) -> None:
        self.most, self._over = 0.0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self.most = max(self.most, anonymous_mb())

    def end(self) -> float:
        self._over.set()
        self._watcher.join()
        return self.most


if __name__ == "__main__":
    main()
