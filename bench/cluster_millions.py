"""What does approximate clustering save, and what does it cost?

    python -m bench.cluster_millions [--size small|full]

Codes in clusters of a hundred, and those of the lab where it is there, from ten neighbours of each: time against the
exact clustering where that ends in reasonable time, the share of the spanning tree that is proven, and how far the
clusters are the same.
"""

from __future__ import annotations

import argparse
from typing import Any

from sklearn.metrics import adjusted_rand_score

from atlas.clustering.hdbscan import cluster_codes
from atlas.clustering.hierarchy import Hierarchy
from atlas.codes import SplineCodes
from bench.data import clustered_codes
from bench.lab import examples
from bench.report import in_turns, show

BITS = 1024
MEMBERS = 100  # codes in a cluster
NEIGHBORS = 10
SIZES = {"small": [5000, 20_000], "full": [20_000, 50_000, 200_000, 1_000_000]}
EXACT = 50_000  # more codes than this are only clustered approximately


def measure(data: str, codes: SplineCodes, of: int | None) -> dict[str, Any]:
    n = len(codes)
    found: dict[str, Hierarchy] = {}

    def approximate() -> None:
        found["approximate"] = cluster_codes(codes, metric="hamming", neighbors=NEIGHBORS, device="cpu")

    def exact() -> None:
        found["exact"] = cluster_codes(codes, metric="hamming", device="cpu", memory_budget=12 << 30)

    seconds = in_turns({"approximate": approximate} | ({"exact": exact} if n <= EXACT else {}), 1, warm=False)
    same = adjusted_rand_score(found["exact"].labels, found["approximate"].labels) if "exact" in found else None
    return {
        "data": data,
        "codes": n,
        "bits": codes.n_bits,
        "approximate s": seconds["approximate"][0],
        "exact s": seconds["exact"][0] if "exact" in seconds else None,
        "proven": found["approximate"].proven,
        "clusters": int(found["approximate"].labels.max()) + 1,
        "of": of,
        "same clusters (ARI)": None if same is None else float(same),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    arguments = parser.parse_args()
    for neighbors in (None, NEIGHBORS):  # compiled before it is timed
        cluster_codes(clustered_codes(300, BITS, 3, 0), metric="hamming", neighbors=neighbors)
    rows = [
        measure("generated", clustered_codes(n, BITS, n // MEMBERS, 0), n // MEMBERS) for n in SIZES[arguments.size]
    ]
    rows += [measure(each.name, each.codes, None) for each in examples(arguments.size)]
    show("approximate clustering of codes", rows)


if __name__ == "__main__":
    main()
