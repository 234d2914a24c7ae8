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


@pytest.mark.parametrize(("n_bytes", "kind"), [(1, np.uint16), (63, np.int32), (64, np.uint16)])
def test_many_codes_are_compared_by_tile(n_bytes: int, kind: type) -> None:
    """As above, of more codes than a tile holds, into a part of a larger array."""
    packed = np.random.default_rng(0).integers(0, 256, (300, n_bytes), dtype=np.uint8)
    out = np.full((300, 310), 7, dtype=kind)
    all_distances(packed, packed, out[:, 4:304])
    bits = np.unpackbits(packed, axis=1).astype(np.int64)
    on = bits.sum(axis=1)
    assert (out[:, 4:304] == on[:, None] + on - 2 * bits @ bits.T).all()
    assert (out[:, :4] == 7).all() and (out[:, 304:] == 7).all()


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
