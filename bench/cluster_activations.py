"""How long does it take to cluster activations exactly?

    python -m bench.cluster_activations [--size small|full] [--rounds N]

Against hdbscan and fast_hdbscan under the Euclidean metric, and scikit-learn's HDBSCAN both from the activations
(brute force, its fastest way at these widths) and on distances that are handed to it, as they are once to ours.
Activations are generated in clusters; fast_hdbscan computes in float32, and the clearer the clusters the more of the
distances it need not compute at all.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import hdbscan
import numpy as np
from fast_hdbscan import HDBSCAN as FastHDBSCAN  # noqa: N811
from sklearn.cluster import HDBSCAN
from sklearn.metrics import adjusted_rand_score, pairwise_distances

from atlas.distances import Rows
from atlas.forest import ApproximateTree
from atlas.hierarchy import MEMORY_BUDGET, Hierarchy, cluster_activations
from atlas.hierarchy import _hierarchy as condensed
from atlas.spanning import spanning_tree

from .data import clustered_activations
from .report import in_turns, ratio, show

MEMBERS = 50  # activations in a cluster
SHAPES = {
    "small": [(1000, 3072), (2000, 3072), (2000, 512)],
    "full": [(2000, 3072), (4000, 3072), (8000, 3072), (8000, 512), (8000, 64)],
}
SAMPLES = 5


class Given:
    """Distances that were computed before, as points between which they lie."""

    n_bytes = 0
    dtype = np.dtype(np.float64)

    def __init__(self, distances: np.ndarray) -> None:
        self.distances = distances

    def __len__(self) -> int:
        return len(self.distances)

    def between(self, rows: Rows, columns: Rows, out: np.ndarray | None = None) -> np.ndarray:
        return self.distances[rows][:, columns]

    def take(self, rows: np.ndarray) -> Given:
        return Given(self.distances[rows][:, rows])


def cluster_given(distances: np.ndarray) -> Hierarchy:
    tree = spanning_tree(Given(distances), np.arange(len(distances)), SAMPLES, MEMORY_BUDGET)
    return condensed(ApproximateTree(tree, 1.0), None, lambda d: d, SAMPLES, SAMPLES, "euclidean", "eom", "hdbscan")


def sides(x: np.ndarray, labels: dict[str, np.ndarray]) -> dict[str, Callable[[], None]]:
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

    def record(name: str) -> Callable[[], None]:
        def run() -> None:
            labels[name] = runs[name]()

        return run

    return {name: record(name) for name in runs}


def slow_sides(x: np.ndarray, size: str, labels: dict[str, np.ndarray]) -> dict[str, Callable[[], None]]:
    def run_hdbscan() -> None:
        labels["hdbscan"] = hdbscan.HDBSCAN(min_samples=SAMPLES).fit(x).labels_

    def run_fast_hdbscan() -> None:
        labels["fast_hdbscan"] = FastHDBSCAN(min_samples=SAMPLES).fit(x).labels_

    return {"hdbscan": run_hdbscan} | ({"fast_hdbscan": run_fast_hdbscan} if size == "full" else {})


def measure(n: int, units: int, size: str, rounds: int) -> list[dict[str, Any]]:
    x = clustered_activations(n, units, n // MEMBERS, 0)
    labels: dict[str, np.ndarray] = {}
    seconds = in_turns(sides(x, labels), rounds)
    seconds |= in_turns(slow_sides(x, size, labels), 1, warm=False)
    ours = seconds["ours"]
    return [
        {
            "activations": n, "units": units, "what": name, "seconds": float(np.median(times)),
            "times ours": ratio(times, ours[: len(times)]),
            "same clusters (ARI)": float(adjusted_rand_score(labels["ours"], labels[name])),
        }
        for name, times in seconds.items()
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SHAPES, default="full")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    if arguments.size == "full":  # it compiles for a minute or two, which is left out here as everywhere
        for units in (3072, 64):
            FastHDBSCAN(min_samples=SAMPLES).fit(np.random.default_rng(0).random((200, units), dtype=np.float32))
    rows = [row for n, units in SHAPES[arguments.size] for row in measure(n, units, arguments.size, arguments.rounds)]
    show("exact clustering of activations, Euclidean distance", rows)


if __name__ == "__main__":
    main()
