"""What does `query.nearest` cost beside the search itself: looking up, joining what is known of the examples?

    python -m bench.nearest [--size small|full]

Against bare FAISS on the same codes in memory, which gives numbers only, and against the same question in SQL, with
the same columns; one query and a batch, on atlases of one site, with 3,072 gates or the lab's codes. Then a filtered
search against asking without the filter for as many as it takes.

Without the column density: it reads the activations of what was found, at the site before, which takes 30 to 45 ms
for ten of 3,072 units (LOG.md, 2026-11-22), many times what is measured here. The site asked about is the first of
its network, so that there is nothing to read.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else idle threads of one side spin on the cores of the next

import argparse
import itertools
import statistics
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import faiss
import numpy as np

import atlas
import query
from atlas.codes import SplineCodes
from atlas.store.atlas import Atlas
from bench.atlases import SITE, generated_atlas
from bench.data import clustered_codes
from bench.lab import examples
from bench.report import in_turns, ratio, show

N_BITS = 3072
K = 10
SIZES = {"small": ((5_000, 20_000), 100, 9), "full": ((12_500, 25_000, 50_000, 100_000), 1000, 25)}
"""Numbers of codes, queries of a batch, rounds."""

WARM = 80  # questions before the first is timed: an open atlas keeps what it is asked for often

SQL = """
with subject as (select code from codes where site_id = 1 and example_id = $1),
found as (
    select example_id, bit_count(xor(codes.code, subject.code)) as distance from codes, subject
    where site_id = 1 and example_id <> $1 order by distance, example_id limit 10
)
select distance, examples.* from found join examples using (example_id) order by distance, example_id
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    size = parser.parse_args().size
    sizes, batch, rounds = SIZES[size]
    one, many, filtered = [], [], []
    for name, codes in chain(
        (("generated", clustered_codes(n, N_BITS, clusters=n // 500, seed=0)) for n in sizes),
        ((each.name, each.codes) for each in examples(size)),
    ):
        shape = {"data": name, "codes": len(codes), "gates": codes.n_bits}
        with tempfile.TemporaryDirectory() as folder:
            path = generated_atlas(Path(folder) / "bench.atlas", codes)
            with atlas.open(path) as a:
                places = itertools.cycle(np.random.default_rng(0).permutation(len(codes)).tolist())
                one.append({**shape, **single(a, codes, places, rounds)})
                many.append({**shape, **batches(a, codes, batch, max(3, rounds // 5))})
                filtered.append({**shape, **filters(a, len(codes), rounds)})
    show("query.nearest, one query: ms, and times bare FAISS", one)
    show(f"query.nearest_many, {batch} queries: ms, and times bare FAISS", many)
    show("query.nearest with a filter: ms", filtered)


def single(a: Atlas, codes: SplineCodes, examples: itertools.cycle[int], rounds: int) -> dict[str, float]:
    flat = faiss.IndexBinaryFlat(codes.n_bits)
    flat.add(codes.packed)

    def ask() -> Any:
        return query.nearest(a, example=1 + next(examples), site=SITE, k=K, density=False)

    def bare() -> Any:
        place = next(examples)
        return flat.search(codes.packed[place : place + 1], K + 1)

    assert query.nearest(a, example=7, site=SITE, k=K)["example_id"].tolist() == [
        row["example_id"] for row in a.records(SQL, [7])
    ]
    for _ in range(WARM):
        ask()
    seconds = in_turns({"nearest": ask, "faiss": bare, "SQL": lambda: a.frame(SQL, [1 + next(examples)])}, rounds)
    row = {f"{name} ms": 1e3 * statistics.median(times) for name, times in seconds.items()}
    return row | {
        "nearest/faiss": ratio(seconds["nearest"], seconds["faiss"]),
        "SQL/nearest": ratio(seconds["SQL"], seconds["nearest"]),
    }


def batches(a: Atlas, codes: SplineCodes, batch: int, rounds: int) -> dict[str, float]:
    flat = faiss.IndexBinaryFlat(codes.n_bits)
    flat.add(codes.packed)
    examples = np.random.default_rng(1).permutation(len(codes))[:batch]
    sides: dict[str, Callable[[], Any]] = {
        "nearest_many": lambda: query.nearest_many(a, examples=examples + 1, site=SITE, k=K),
        "faiss": lambda: flat.search(codes.packed[examples], K + 1),
    }
    seconds = in_turns(sides, rounds)
    row = {f"{name} ms": 1e3 * statistics.median(times) for name, times in seconds.items()}
    return row | {"nearest_many/faiss": ratio(seconds["nearest_many"], seconds["faiss"])}


def filters(a: Atlas, n: int, rounds: int) -> dict[str, float]:
    """Conditions that a twentieth, a hundredth and a thousandth of the examples meet."""
    asked: dict[str, dict[str, Any]] = {
        "no filter": {},
        "label (1 in 20)": {"label": "label 3"},
        "where (1 in 100)": {"where": "loss < 0.01"},
        "where (1 in 1000)": {"where": "example_id % 1000 = 0", "k": min(4, n // 1000)},
    }
    sides = {
        name: lambda more=more: query.nearest(a, **{"example": 7, "site": SITE, "k": K, "density": False, **more})
        for name, more in asked.items()
    }
    seconds = in_turns(sides, max(3, rounds // 5))
    return {f"{name} ms": 1e3 * statistics.median(times) for name, times in seconds.items()}


if __name__ == "__main__":
    main()
