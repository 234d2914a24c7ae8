"""How long does it take to find a stored token, or a word of a stored text?

    python -m bench.find [--size small|full]

A generated atlas of one text network whose texts are all of their tokens. Each question is asked of an atlas that has
just been opened, as the explorer does at each click; the file is in the operating system's cache.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

import atlas
import query
from atlas.codes import SplineCodes
from bench.atlases import generated_atlas
from bench.report import show

SIZES = {"small": 100_000, "full": 1_000_000}
N_BITS = 64  # nothing is asked about codes
ROUNDS = 5

ASKED = {
    "a token": ("word17", False),
    "the very token": ("word17", True),
    "a part of a word": ("ord49", False),
    "what every text holds": ("word", False),
    "what no text holds": ("no such word", False),
    "a label": ("label 7", False),
}
"""Words, and whether they are to be the very token."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size", choices=SIZES, default="full")
    n = SIZES[parser.parse_args().size]
    packed = np.random.default_rng(0).integers(0, 256, (n, N_BITS // 8), np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        path = generated_atlas(Path(scratch) / "bench.atlas", SplineCodes(packed, (N_BITS,)))
        with atlas.open(path, writable=True) as a:
            a.execute(
                "update inputs set text = (select string_agg(token, ' ' order by position) from examples "
                "where examples.input_id = inputs.input_id)"
            )
        rows = []
        for what, (words, exact) in ASKED.items():
            waits = []
            for _ in range(ROUNDS):
                with atlas.open(path) as a:
                    begun = time.perf_counter()
                    found = query.find(a, words, exact=exact)
                    waits.append(time.perf_counter() - begun)
            counts = ", ".join(f"{count:,} by {way}" for way, count in found.attrs["counts"].items() if count)
            rows.append({"asked": what, "words": words, "found": counts or "nothing", "median s": np.median(waits)})
            rows[-1]["slowest s"] = max(waits)
    show(f"find, {n:,} tokens", rows)


if __name__ == "__main__":
    main()
