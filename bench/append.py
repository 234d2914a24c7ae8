"""What does it cost to add to an atlas, beside adding the same to an empty one?

    python -m bench.append [--size small|full]

A run of 12 sites of 3,072 gates is published into an atlas that holds ten times as many examples, and into an empty
one, in turns; then the flat index of the first site is brought up to date. CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import atlas
from bench.data import clustered_codes
from bench.publish import CLUSTERS, GATES, Staged, stage
from bench.report import show
from ingest.derived.indexes import build_indexes
from ingest.run.publish import publish

SIZES = {"small": 2_000, "full": 20_000}
"""Examples that are added."""

ROUNDS = 3
SITE = "blocks.0.mlp"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    n = SIZES[parser.parse_args().size]
    packed = clustered_codes(11 * n, GATES, CLUSTERS, seed=0).packed
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held, added = stage(folder / "held", packed[: 10 * n]), stage(folder / "added", packed, first=10 * n)
        full = folder / "full.atlas"
        _publish(held, full)
        _index(full)
        seconds: dict[str, list[list[float]]] = {"to an empty one": [], "to ten times as many": []}
        for number in range(ROUNDS):
            for form, times in seconds.items():
                path = folder / f"{form} {number}"
                if form == "to ten times as many":
                    shutil.copytree(full, path)
                times.append([_cpu(_publish, added, path), _cpu(_index, path)])
                shutil.rmtree(path)
        for form, times in seconds.items():
            published, indexed = (statistics.median(column) for column in zip(*times, strict=True))
            rows.append({"added": form, "examples": n, "publish CPU s": published, "index CPU s": indexed})
    show("adding a run to an atlas", rows)


def _publish(staged: Staged, path: Path) -> None:
    with atlas.create(path) as a:
        publish(a, staged.network, staged.plan, staged.folder.name, staged.folder, datetime.now(UTC))


def _index(path: Path) -> None:
    build_indexes(path, targets=[SITE])


def _cpu(run: Callable[..., None], *arguments: object) -> float:
    started = time.process_time()
    run(*arguments)
    return time.process_time() - started


if __name__ == "__main__":
    main()
