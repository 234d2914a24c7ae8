"""What does it cost to add to an atlas, beside adding the same to an empty one?

    python -m bench.append [--size small|full|million]

A run of 12 sites of 3,072 gates is published into an atlas that holds ten times as many examples, and into an empty
one, in turns, and indexed: an atlas in tables and a segmented one, of a million examples the latter alone. CPU
seconds of this process, from opening to closing. A million take 15 GB of the disk that holds temporary files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import atlas
from bench.data import clustered_codes
from bench.publish import CLUSTERS, GATES, Staged, stage
from bench.report import show
from ingest.derived.indexes import build_indexes
from ingest.run.publish import publish

SIZES = {"small": 2_000, "full": 20_000, "million": 100_000}
"""Examples that are added."""

ROUNDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    n = SIZES[parser.parse_args().size]
    packed = clustered_codes(11 * n, GATES, CLUSTERS, seed=0).packed
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held, added = stage(folder / "held", packed[: 10 * n]), stage(folder / "added", packed, first=10 * n)
        for form, segmented in (("segments", True), ("tables", False))[: 1 if n == SIZES["million"] else 2]:
            full = folder / "full.atlas"
            _publish(held, full, segmented)
            build_indexes(full)
            rows += _in_turns(form, segmented, full, added, folder)
            shutil.rmtree(full)
    show("adding a run to an atlas", rows)


def _in_turns(form: str, segmented: bool, full: Path, added: Staged, folder: Path) -> list[dict[str, Any]]:
    """A row for each atlas that a run is added to."""
    seconds: dict[str, list[list[float]]] = {"an empty one": [], "ten times as many": []}
    for number in range(ROUNDS):
        for to, times in seconds.items():
            path = folder / f"{form} {number}"
            if to == "ten times as many":  # files of segments never change
                shutil.copytree(full, path, copy_function=os.link if segmented else shutil.copy2)
            times.append([_cpu(_publish, added, path, segmented), _cpu(build_indexes, path)])
            shutil.rmtree(path)
    rows = []
    for to, times in seconds.items():
        published, indexed = (statistics.median(column) for column in zip(*times, strict=True))
        of_empty = statistics.median(map(sum, seconds["an empty one"]))
        row = {"form": form, "added to": to, "examples": added.plan.n_examples, "publish CPU s": published}
        rows.append({**row, "index CPU s": indexed, "×": statistics.median(map(sum, times)) / of_empty})
    return rows


def _publish(staged: Staged, path: Path, segmented: bool) -> None:
    with atlas.create(path, segmented=segmented) as a:
        publish(a, staged.network, staged.plan, staged.folder.name, staged.folder, datetime.now(UTC))


def _cpu(run: Callable[..., object], *arguments: object) -> float:
    started = time.process_time()
    run(*arguments)
    return time.process_time() - started


if __name__ == "__main__":
    main()
