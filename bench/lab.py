"""Real codes and activations: a trained GPT-2's on texts that it was not trained on, where the lab has both.

The lab is the folder ``shared/lab`` beside the repository. What is read of it is kept in a temporary directory, so
that benches read it once; without the lab they go on with generated data alone. POLYTOPE_BENCH_ATLAS names an atlas
whose codes are taken instead.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

import atlas
from atlas.codes import SplineCodes
from atlas.network import TokenWindow
from ingest.networks import load_network

LAB = Path(__file__).parents[2] / "shared" / "lab"
SITE = "blocks.3.mlp"
SKIPPED = 100  # tokens at the beginning of a context that are not sampled (the post)
FEW, MANY = 2_000, 8_000  # examples of a small and of a full bench
_TOGETHER = 8  # texts read at once


@dataclass(frozen=True, eq=False)
class Examples:
    """``name``: what a table calls them. ``activations``: None where only codes are known."""

    name: str
    codes: SplineCodes
    activations: Float32[np.ndarray, "n units"] | None


def examples(size: str) -> list[Examples]:
    """Of one site, as many as a bench of this size takes; none where there is neither atlas nor lab."""
    n = FEW if size == "small" else MANY
    path = os.environ.get("POLYTOPE_BENCH_ATLAS")
    if path is not None:
        with atlas.open(path) as a:
            site = max(a.catalog.sites, key=lambda site: (site.n_codes, site.n_gates))
            return [Examples(site.name, a.codes([site])[1][:n], None)]
    if not LAB.is_dir():
        return []
    kept = Path(tempfile.gettempdir()) / f"polytope-bench-{SITE}-{n}.npz"
    if not kept.exists():
        _read(n, kept)
    with np.load(kept) as arrays:
        codes = SplineCodes(arrays["packed"], (int(arrays["gates"]),))
        return [Examples(f"lab GPT-2, {SITE}", codes, arrays["activations"])]


def _read(n: int, kept: Path) -> None:
    network: Any = load_network(str(LAB / "gpt2-lab"))
    site = next(site for site in network.sites if site.name == SITE)
    packed, activations, found = [], [], 0
    windows = _windows(network)
    while found < n and (batch := list(islice(windows, _TOGETHER))):
        reading = network.read(batch, [site], [site])
        packed.append(reading.codes[SITE])
        activations.append(reading.activations[SITE])
        found += len(packed[-1])
    partial = kept.with_name(f"{kept.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez(
            file, packed=np.concatenate(packed)[:n], gates=site.n_gates, activations=np.concatenate(activations)[:n]
        )
    partial.rename(kept)


def _windows(network: Any) -> Iterator[TokenWindow]:
    """The first context of every text, in the order of the texts' names, which mixes the sources."""
    for path in sorted((LAB / "texts").rglob("*.txt"), key=lambda path: path.name):
        text = path.read_text(encoding="utf-8", errors="replace")
        ids = network.tokenize(text[:20_000]).ids
        place = network.windows(len(ids))[0]
        if len(place) > SKIPPED:
            yield TokenWindow(ids[place.start : place.stop], np.arange(SKIPPED, len(place)))
