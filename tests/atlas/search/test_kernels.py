"""Compiled loops over packed codes against NumPy, bit by bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from atlas.search.kernels import PACKED_AT_ONCE, all_distances, pack_positive

PACKED = arrays(np.uint8, st.tuples(st.integers(0, 70), st.integers(1, 40)))


@settings(deadline=None)  # the first call compiles
@given(PACKED, st.sampled_from([np.uint16, np.uint32, np.int32]))
def test_distances_count_differing_bits(packed: np.ndarray, kind: type) -> None:
    """Also of every other row and byte, which lie neither end to end nor aligned."""
    for codes in (packed, packed[::2, packed.shape[1] // 2 :]):
        bits = np.unpackbits(codes, axis=1)
        out = np.empty((len(codes), len(codes)), dtype=kind)
        all_distances(codes, codes, out)
        assert (out == (bits[:, None] != bits[None]).sum(axis=2)).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 30), st.integers(1, 70))
def test_positive_values_pack_as_numpys(seed: int, n: int, gates: int) -> None:
    """Positive values are packed as by numpy."""
    values = np.random.default_rng(seed).choice(np.array([-1, -0.0, 0, 1e-45, 2, np.nan], np.float32), (n, gates))
    np.testing.assert_array_equal(pack_positive(values), np.packbits(values > 0, axis=1))


@pytest.mark.parametrize("gates", [1000, 1003])
def test_threads_pack_large_batches_alike(gates: int) -> None:
    values = np.random.default_rng(0).standard_normal((PACKED_AT_ONCE // gates + 50, gates), dtype=np.float32)
    np.testing.assert_array_equal(pack_positive(values), np.packbits(values > 0, axis=1))
