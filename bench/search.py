"""How long does exact search for the ten nearest codes take, and how does that grow with their number?

    python -m bench.search [--size small|full]

Our index, mapped from its file, against FAISS's flat index, usearch's exact search, SQL, and scikit-learn's brute
force on unpacked gates, on clustered codes of 3,072 gates and on the lab's. Then what it takes to open the index
file.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else idle threads of one side spin on the cores of the next

import argparse
import statistics
import tempfile
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from sklearn.neighbors import NearestNeighbors
from usearch.index import MetricKind
from usearch.index import search as usearch_search

import atlas
from atlas.codes import SplineCodes
from atlas.search.files import INDEXES
from atlas.search.hamming_index import INTERPRETED_BYTES, HammingIndex
from atlas.store.atlas import Atlas
from bench.atlases import generated_atlas
from bench.data import clustered_codes
from bench.lab import examples
from bench.report import in_turns, ratio, show

N_BITS = 3072
K = 10
SIZES = {"small": ((5_000, 20_000), 100, 9), "full": ((12_500, 25_000, 50_000, 100_000), 1000, 15)}
"""Numbers of codes, queries of a batch, rounds."""

UNPACKED_BYTES = 1 << 28
"""scikit-learn is given gates as bytes, as many as this; more takes it minutes."""

SQL = """
select example_id, bit_count(xor(code, $1::blob::bit)) as distance from codes order by distance, example_id limit 10
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    size = parser.parse_args().size
    sizes, batch, rounds = SIZES[size]
    one, many, opening = [], [], []
    for name, codes in chain(
        (("generated", clustered_codes(n, N_BITS, clusters=n // 500, seed=0)) for n in sizes),
        ((each.name, each.codes) for each in examples(size)),
    ):
        shape = {"data": name, "codes": len(codes), "gates": codes.n_bits}
        with tempfile.TemporaryDirectory() as folder:
            path = generated_atlas(Path(folder) / "bench.atlas", codes)
            file = next((path / INDEXES).glob("*.faiss"))
            index = HammingIndex.load(file)
            warm_up(index)
            with atlas.open(path) as a:
                alone = {**peers(index, codes, 1), **slow_peers(a, index, codes)}
                one.append({**shape, **compared(alone, rounds)})
            many.append({**shape, **compared(peers(index, codes, batch), max(3, rounds // 5))})
            opening.append({**shape, "MB": file.stat().st_size / 1e6, **opened(file)})
    show("exact search, one query, ten nearest: ms, and times ours", one)
    show(f"exact search, {batch} queries at once: ms, and times ours", many)
    show("opening an index file: ms", opening)


def warm_up(index: HammingIndex) -> None:
    """Compare as much as it takes for the compiled kernels to be loaded."""
    queries = index.codes(np.arange(min(len(index), 64)))
    for _ in range(2 + INTERPRETED_BYTES // (len(queries) * index.packed.nbytes)):
        index.search(queries, K)


def peers(index: HammingIndex, codes: SplineCodes, batch: int) -> dict[str, Callable[[], Any]]:
    """Libraries that answer the same question about packed codes, ours first."""
    queries = codes[np.linspace(0, len(codes) - 1, batch, dtype=np.int64)]
    flat = faiss.IndexBinaryFlat(codes.n_bits)
    flat.add(codes.packed)
    np.testing.assert_array_equal(index.search(queries, K)[1], flat.search(queries.packed, K)[0])
    return {
        "ours": lambda: index.search(queries, K),
        "faiss": lambda: flat.search(queries.packed, K),
        "usearch": lambda: usearch_search(codes.packed, queries.packed, K, MetricKind.Hamming, exact=True),
    }


def slow_peers(a: Atlas, index: HammingIndex, codes: SplineCodes) -> dict[str, Callable[[], Any]]:
    """SQL, and scikit-learn where the gates, a byte each, are few enough."""
    asked = codes.packed[0].tobytes()
    assert [row[1] for row in a.rows(SQL, [asked])] == index.search(codes[:1], K)[1][0].tolist()
    found: dict[str, Callable[[], Any]] = {"SQL": lambda: a.rows(SQL, [asked])}
    if len(codes) * codes.n_bits <= UNPACKED_BYTES:
        brute = NearestNeighbors(n_neighbors=K, algorithm="brute", metric="hamming").fit(codes.unpack())
        gates = codes[:1].unpack()
        found["scikit-learn"] = lambda: brute.kneighbors(gates)
    return found


def compared(run: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    seconds = in_turns(run, rounds)
    row = {f"{name} ms": 1e3 * statistics.median(seconds[name]) for name in run}
    return row | {f"{name}/ours": ratio(seconds[name], seconds["ours"]) for name in run if name != "ours"}


def opened(file: Path) -> dict[str, float]:
    """To open it, with all checks; and to read it into memory without any, as FAISS does."""
    rounds = in_turns(
        {"ours": lambda: HammingIndex.load(file), "faiss": lambda: faiss.read_index_binary(str(file))}, 5
    )
    return {f"{name} ms": 1e3 * statistics.median(seconds) for name, seconds in rounds.items()}


if __name__ == "__main__":
    main()
