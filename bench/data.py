"""Generated data whose truth is known: codes and activations that lie in clusters."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from atlas.codes import SplineCodes

FLIPPED = 0.05  # share of gates in which a member differs from its cluster's centre
_BATCH = 5000  # codes unpacked at once


def clustered_codes(n: int, n_bits: int, clusters: int, seed: int) -> SplineCodes:
    """``n`` codes around ``clusters`` random centres; every member flips 5 % of its centre's gates."""
    generator = np.random.default_rng(seed)
    centres = generator.random((clusters, n_bits)) < 0.5
    packed = np.empty((n, -(-n_bits // 8)), dtype=np.uint8)
    for start in range(0, n, _BATCH):
        centre = generator.integers(0, clusters, min(_BATCH, n - start))
        flipped = generator.random((len(centre), n_bits), dtype=np.float32) < FLIPPED
        packed[start : start + len(centre)] = np.packbits(centres[centre] ^ flipped, axis=1)
    return SplineCodes(packed, (n_bits,))


def clustered_activations(
    n: int, units: int, clusters: int, seed: int, apart: float = 2.0
) -> Float32[np.ndarray, "n units"]:
    """``n`` points of unit variance around ``clusters`` centres, which vary ``apart`` times as much: at 2 the
    distances between centres are about three times the spread, at 0.5 clusters overlap."""
    generator = np.random.default_rng(seed)
    centres = np.float32(apart) * generator.standard_normal((clusters, units), dtype=np.float32)
    points = generator.standard_normal((n, units), dtype=np.float32)
    points += centres[generator.integers(0, clusters, n)]
    return points
