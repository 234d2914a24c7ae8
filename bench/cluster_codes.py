"""How long does it take to cluster spline codes exactly?

    python -m bench.cluster_codes [--size small|full] [--rounds N]

Against bare FAISS computing all pairwise distances once; hdbscan under its Hamming metric; scikit-learn's HDBSCAN on
distances that are handed to it (its time to compute them is not counted, ours is); fast_hdbscan; and EVōC, which
clusters packed bits by another method: its time is comparable, its clusters are not. Codes are generated in clusters,
and read from the lab where it is there, or from the atlas that POLYTOPE_BENCH_ATLAS names.

fast_hdbscan grows its tree from approximate nearest neighbours above 30 units.
"""

from __future__ import annotations

import argparse
import tracemalloc
import warnings
from collections.abc import Callable
from typing import Any

import evoc
import faiss
import hdbscan
import numpy as np
from fast_hdbscan import HDBSCAN as FastHDBSCAN  # noqa: N811
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score

from atlas.clustering.distances import Codes
from atlas.clustering.hdbscan import cluster_codes
from atlas.codes import SplineCodes
from bench.data import clustered_codes
from bench.lab import examples
from bench.report import in_turns, ratio, show

BITS = 3072  # GPT-2 small: gates of one MLP layer
MEMBERS = 50  # codes in a cluster
SIZES = {"small": [1000, 2000, 4000], "full": [2000, 4000, 8000, 15_000, 30_000]}
HDBSCAN_LIMIT = {"small": 2000, "full": 8000}  # beyond, hdbscan takes minutes
DENSE_LIMIT = 15_000  # beyond, 8·n² bytes of distances and the copies that peers make of them don't fit
SAMPLES = 5
FAST = "fast_hdbscan (approximate), 0/1 vectors, Euclidean"
"""It knows no Hamming distance; the order of distances is the same."""


def bare_pass(codes: SplineCodes) -> None:
    """All pairwise distances by FAISS, a block of rows at a time, thrown away."""
    packed = np.ascontiguousarray(codes.packed)
    out = np.empty((1024, len(codes)), dtype=np.int32)
    for start in range(0, len(codes), 1024):
        rows = packed[start : start + 1024]
        faiss.hammings(  # type: ignore[attr-defined]
            faiss.swig_ptr(rows), faiss.swig_ptr(packed), len(rows), len(codes), codes.n_bytes, faiss.swig_ptr(out)
        )


def sides(codes: SplineCodes, labels: dict[str, np.ndarray]) -> dict[str, Callable[[], Any]]:
    """What takes turns; ``labels`` receives what each found."""

    def record(name: str, run: Callable[[], np.ndarray]) -> Callable[[], None]:
        def recorded() -> None:
            labels[name] = run()

        return recorded

    n = len(codes)
    found: dict[str, Callable[[], Any]] = {
        "ours": record("ours", lambda: cluster_codes(codes, metric="hamming", device="cpu").labels),
        "faiss, one pass": lambda: bare_pass(codes),
    }
    if n <= DENSE_LIMIT:
        distances = Codes.of(codes).between(slice(0, n), slice(0, n)) / codes.n_bits
        # scikit-learn and fast_hdbscan count a point among its own neighbours.
        dense = HDBSCAN(metric="precomputed", min_samples=SAMPLES + 1, copy=True, n_jobs=-1)
        found["scikit-learn, given distances"] = record(
            "scikit-learn, given distances", lambda: dense.fit(distances).labels_
        )
        found["EVōC"] = record("EVōC", lambda: evoc.EVoC(random_state=0).fit_predict(codes.packed))
    return found


def slow_sides(codes: SplineCodes, size: str, labels: dict[str, np.ndarray]) -> dict[str, Callable[[], None]]:
    gates = codes.unpack()

    def run_hdbscan() -> None:
        labels["hdbscan"] = hdbscan.HDBSCAN(metric="hamming").fit(gates.astype(np.float64)).labels_

    def run_fast_hdbscan() -> None:
        labels[FAST] = FastHDBSCAN(min_samples=SAMPLES).fit(gates.astype(np.float32)).labels_

    return {"hdbscan": run_hdbscan} | ({FAST: run_fast_hdbscan} if size == "full" else {})


def measure(codes: SplineCodes, size: str, rounds: int, data: str) -> list[dict[str, Any]]:
    labels: dict[str, np.ndarray] = {}
    seconds = in_turns(sides(codes, labels), rounds)
    if len(codes) <= HDBSCAN_LIMIT[size]:
        seconds |= in_turns(slow_sides(codes, size, labels), 1, warm=False)
    ours = seconds["ours"]
    return [
        {
            "data": data,
            "codes": len(codes),
            "bits": codes.n_bits,
            "what": name,
            "seconds": float(np.median(times)),
            "times ours": ratio(times, ours[: len(times)]),
            "same clusters (ARI)": (
                float(adjusted_rand_score(labels["ours"], labels[name])) if name in labels else None
            ),
        }
        for name, times in seconds.items()
    ]


def memory(n: int, budget: int) -> dict[str, Any]:
    """Time and peak of a clustering within a budget."""
    codes = clustered_codes(n, BITS, n // MEMBERS, 0)
    cluster_codes(codes[:100], metric="hamming")
    tracemalloc.start()
    try:
        seconds = in_turns(
            {"ours": lambda: cluster_codes(codes, metric="hamming", memory_budget=budget)}, 1, warm=False
        )["ours"][0]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return {"codes": n, "bits": BITS, "budget GiB": budget / 2**30, "peak GiB": peak / 2**30, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.size == "full":  # it compiles for a minute or two, which is left out here as everywhere
        FastHDBSCAN(min_samples=SAMPLES).fit(np.random.default_rng(0).random((200, BITS), dtype=np.float32))
    rows = []
    for n in SIZES[arguments.size]:
        rows += measure(clustered_codes(n, BITS, n // MEMBERS, 0), arguments.size, arguments.rounds, "generated")
    for each in examples(arguments.size):
        rows += measure(each.codes, arguments.size, arguments.rounds, each.name)
    show("exact clustering of codes, Hamming distance", rows)
    if arguments.size == "full":
        show(
            "exact clustering of codes within a budget of memory",
            [memory(n, budget) for n, budget in ((30_000, 4 << 30), (30_000, 1 << 29), (50_000, 6 << 30))],
        )


if __name__ == "__main__":
    main()
