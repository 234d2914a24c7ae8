"""Codes drawn at random, and indexes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from atlas.codes import SplineCodes, concatenate
from atlas.search.hamming_index import HammingIndex


def random_codes(seed: int, n: int, *parts: int) -> SplineCodes:
    rng = np.random.default_rng(seed)
    return concatenate([SplineCodes.pack(rng.random((n, part)) < 0.3) for part in parts])


def sparse_ids(seed: int, n: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).integers(1, 50, n))


def index_of(codes: SplineCodes, ids: np.ndarray | None = None) -> HammingIndex:
    return HammingIndex.build(codes, np.arange(len(codes)) if ids is None else ids, digest="d0")


def save(index: HammingIndex, path: Path) -> None:
    HammingIndex.write(path, [(index.ids, index.packed)], index.parts, index.digest)
