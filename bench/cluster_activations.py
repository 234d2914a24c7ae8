"""How long does it take to cluster activations exactly?

    python -m bench.cluster_activations [--size small|full] [--rounds N]

Against hdbscan and fast_hdbscan under the Euclidean metric, and scikit-learn's HDBSCAN both from the activations
(brute force, its fastest way at these widths) and on distances that are handed to it, as they are once to ours.
Activations are generated in clusters that are clear, or that overlap, and read from the lab where it is there.

fast_hdbscan computes in float32. Up to 30 units it is exact; above, it grows its tree from approximate nearest
neighbours (PyNNDescent), so there an exact clustering stands against an approximate one. On distances that are handed
to it, which it takes as a sparse matrix only, it is exact at every width.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import hdbscan
import numpy as np
from fast_hdbscan import HDBSCAN as FastHDBSCAN  # noqa: N811
from scipy.sparse import csr_array
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from atlas.clustering.approximate_tree import ApproximateTree
from atlas.clustering.distances import Columns, Rows
from atlas.clustering.hdbscan import cluster_activations, condensed
from atlas.clustering.hierarchy import Hierarchy
from atlas.clustering.limits import MEMORY_BUDGET
from atlas.clustering.spanning_tree import spanning_tree
from bench.data import clustered_activations
from bench.lab import examples
from bench.report import in_turns, ratio, show

MEMBERS = 50  # activations in a cluster
SHAPES = {
    "small": [(1000, 3072), (2000, 3072), (2000, 512)],
    "full": [(2000, 3072), (4000, 3072), (8000, 3072), (8000, 512), (8000, 64), (8000, 16)],
}
APART = {"clear": 2.0, "unclear": 0.5}
"""Spread of the centres, in units of the spread about them."""

SPARSE_LIMIT = 2000  # beyond, all distances as a sparse matrix take gigabytes
SAMPLES = 5
EXACT_UNITS = 30  # with more, fast_hdbscan is approximate


class Given:
    """Distances that were computed before, as points between which they lie."""

    n_bytes = 0
    dtype = np.dtype(np.float64)

    def __init__(self, distances: np.ndarray) -> None:
        self.distances = distances

    def __len__(self) -> int:
        return len(self.distances)

    def between(self, rows: Rows, columns: Columns, out: np.ndarray | None = None) -> np.ndarray:
        found = self.distances[rows][:, columns]
        if out is None:
            return found
        out[:] = found
        return out

    coordinates = None
    factor = 1.0
    shift = 0
    bounds = between

    def take(self, rows: np.ndarray) -> Given:
        return Given(self.distances[rows][:, rows])


def cluster_given(distances: np.ndarray) -> Hierarchy:
    tree = spanning_tree(Given(distances), np.arange(len(distances)), SAMPLES, MEMORY_BUDGET)
    return condensed(ApproximateTree(tree, 1.0), None, lambda d: d, SAMPLES, SAMPLES, "euclidean", "eom", "hdbscan")


def sides(x: np.ndarray, size: str, labels: dict[str, np.ndarray]) -> dict[str, Callable[[], None]]:
    distances = pairwise_distances(x.astype(np.float64))
    # scikit-learn counts a point among its own neighbours.
    brute = HDBSCAN(min_samples=SAMPLES + 1, algorithm="brute", n_jobs=-1, copy=True)
    given = HDBSCAN(metric="precomputed", min_samples=SAMPLES + 1, n_jobs=-1, copy=True)
    runs: dict[str, Callable[[], np.ndarray]] = {
        "ours": lambda: cluster_activations(x, device="cpu").labels,
        "ours, given distances": lambda: cluster_given(distances).labels,
        "scikit-learn, brute force": lambda: brute.fit(x).labels_,
        "scikit-learn, given distances": lambda: given.fit(distances).labels_,
    }
    if size == "full":  # it compiles for minutes
        how = "exact" if x.shape[1] <= EXACT_UNITS else "approximate"
        runs[f"fast_hdbscan ({how})"] = lambda: FastHDBSCAN(min_samples=SAMPLES).fit(x).labels_
        if len(x) <= SPARSE_LIMIT:
            sparse = csr_array(distances)
            sparse_given = FastHDBSCAN(metric="precomputed", min_samples=SAMPLES)
            runs["fast_hdbscan, given distances"] = lambda: sparse_given.fit(sparse).labels_

    def record(name: str) -> Callable[[], None]:
        def run() -> None:
            labels[name] = runs[name]()

        return run

    return {name: record(name) for name in runs}


def measure(data: str, x: np.ndarray, size: str, rounds: int) -> list[dict[str, Any]]:
    labels: dict[str, np.ndarray] = {}
    seconds = in_turns(sides(x, size, labels), rounds)

    def run_hdbscan() -> None:
        labels["hdbscan"] = hdbscan.HDBSCAN(min_samples=SAMPLES).fit(x).labels_

    seconds |= in_turns({"hdbscan": run_hdbscan}, 1, warm=False)
    ours = seconds["ours"]
    return [
        {
            "data": data,
            "activations": len(x),
            "units": x.shape[1],
            "what": name,
            "seconds": float(np.median(times)),
            "times ours": ratio(times, ours[: len(times)]),
            "same clusters (ARI)": float(adjusted_rand_score(labels["ours"], labels[name])),
        }
        for name, times in seconds.items()
    ]


def data(size: str) -> Iterator[tuple[str, np.ndarray]]:
    for n, units in SHAPES[size]:
        for name, apart in APART.items():
            if size == "full" or name == "clear":
                yield name, clustered_activations(n, units, n // MEMBERS, 0, apart)
    for each in examples(size):
        if each.activations is not None:
            yield each.name, each.activations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="full")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.size == "full":  # it compiles for a minute or two, which is left out here as everywhere
        for units in (64, 16):
            FastHDBSCAN(min_samples=SAMPLES).fit(np.random.default_rng(0).random((200, units), dtype=np.float32))
    rows = [row for name, x in data(arguments.size) for row in measure(name, x, arguments.size, arguments.rounds)]
    show("exact clustering of activations, Euclidean distance", rows)


if __name__ == "__main__":
    main()
