"""What do approximate indexes gain over exact search, at which recall, and what do they cost to build?

    python -m bench.ann [--size small|full]

Ours (lists of FAISS, with the search effort that reaches recall@10 of 0.99) against the exact index and, where that
is built in seconds, against usearch's graph, on clustered codes of 1,024 gates and on the lab's, for one query and a
batch. Queries are stored codes with 2 % of their gates flipped. Recall is measured on them, not taken from the index:
the share of ten that are no farther than the tenth nearest.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # else idle threads of one side spin on the cores of the next

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from usearch.index import Index, MetricKind, ScalarKind

from atlas.codes import SplineCodes
from atlas.search.approximate import ApproximateIndex
from atlas.search.hamming_index import HammingIndex
from bench.data import clustered_codes
from bench.lab import examples
from bench.report import in_turns, ratio, show
from bench.search import warm_up

N_BITS = 1024
K = 10
CLUSTER = 500  # codes of a cluster
FLIPPED = 0.02
SIZES = {
    "small": ((5_000, 20_000), 100, 5, ["ivf", "usearch"]),
    "full": ((100_000, 300_000, 1_000_000), 1000, 5, ["ivf"]),
}
"""Numbers of codes, queries of a batch, rounds, kinds: a graph of a million codes takes several minutes to build."""

Search = Callable[[SplineCodes], tuple[np.ndarray, np.ndarray]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    size = parser.parse_args().size
    sizes, batch, rounds, kinds = SIZES[size]
    rows = []
    for name, codes in chain(
        (("generated", clustered_codes(n, N_BITS, clusters=n // CLUSTER, seed=0)) for n in sizes),
        ((each.name, each.codes) for each in examples(size)),
    ):
        exact = HammingIndex.build(codes, np.arange(len(codes)), "bench")
        warm_up(exact)
        queries = asked(codes, batch)
        for kind in kinds:
            shape = {"data": name, "codes": len(codes), "gates": codes.n_bits}
            rows.append({**shape, "kind": kind, **measured(kind, exact, queries, rounds)})
    show("approximate against exact search, ten nearest", rows)


def asked(codes: SplineCodes, batch: int) -> SplineCodes:
    generator = np.random.default_rng(1)
    gates = codes[generator.permutation(len(codes))[:batch]].unpack()
    return SplineCodes.pack(gates ^ (generator.random(gates.shape) < FLIPPED))


def measured(kind: str, exact: HammingIndex, queries: SplineCodes, rounds: int) -> dict[str, Any]:
    started = time.perf_counter()
    search, effort = built(kind, exact)
    building = time.perf_counter() - started
    farthest = exact.search(queries, K)[1][:, -1:]
    recall = float((search(queries)[1] <= farthest).mean())
    row: dict[str, Any] = {"effort": effort, "built s": building, "recall@10": recall}
    for name, some in (("one", queries[:1]), (f"{len(queries)}", queries)):
        seconds = in_turns({"exact": partial(exact.search, some, K), "approximate": partial(search, some)}, rounds)
        row[f"{name}: exact ms"] = 1e3 * statistics.median(seconds["exact"])
        row[f"{name}: ms"] = 1e3 * statistics.median(seconds["approximate"])
        row[f"{name}: faster"] = ratio(seconds["exact"], seconds["approximate"])
    return row


def built(kind: str, exact: HammingIndex) -> tuple[Search, str]:
    """A search for the ten nearest, and with what effort it looks."""
    if kind != "usearch":
        index = ApproximateIndex.build(exact)
        return lambda some: index.search(some, K), ", ".join(f"{k} {v}" for k, v in index.parameters.items())
    graph = Index(ndim=exact.n_bits, metric=MetricKind.Hamming, dtype=ScalarKind.B1)
    graph.add(np.arange(len(exact)), np.ascontiguousarray(exact.packed))

    def search(some: SplineCodes) -> tuple[np.ndarray, np.ndarray]:
        found = graph.search(some.packed, K)
        return found.keys.reshape(len(some), K), found.distances.reshape(len(some), K)

    return search, "its defaults"


if __name__ == "__main__":
    main()
