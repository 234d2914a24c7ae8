"""Bits packed on a device are those of `SplineCodes`, whatever the width."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atlas.codes import SplineCodes
from ingest.networks.packing import finite_rows, pack_bits, pack_positive, pack_with_torch


@pytest.mark.parametrize("pack", [pack_bits, pack_with_torch])
@given(rows=st.integers(0, 5), gates=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_packs_as_spline_codes_do(pack, rows, gates, seed):
    bits = np.random.default_rng(seed).random((rows, gates)) > 0.5
    packed = pack(torch.from_numpy(bits))
    assert packed.dtype == torch.uint8
    np.testing.assert_array_equal(packed.numpy(), SplineCodes.pack(bits).packed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@settings(deadline=None)  # the first call compiles
@given(rows=st.integers(0, 5), gates=st.integers(1, 70), seed=st.integers(0, 2**32 - 1))
def test_gate_is_on_above_zero(dtype, rows, gates, seed):
    """A gate is on where the value is above zero."""
    some = [0.0, -0.0, 1e-45, -1e-45, float("nan"), float("inf"), float("-inf"), 1.0, -1.0]
    values = torch.from_numpy(np.random.default_rng(seed).choice(some, (rows, gates))).to(dtype)
    assert torch.equal(pack_positive(values), pack_bits(values > 0))


def test_packing_by_several_threads():
    """Rows packed by several threads are the same."""
    values = torch.from_numpy(np.random.default_rng(0).standard_normal((5, 300_001), np.float32))
    assert torch.equal(pack_positive(values), pack_bits(values > 0))
    assert torch.equal(pack_positive(values[:, ::2]), pack_bits(values[:, ::2] > 0))


def test_first_gate_is_the_highest_bit():
    assert pack_with_torch(torch.tensor([[True] + [False] * 8])).tolist() == [[128, 0]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_packing_on_cuda_is_the_same():
    bits = torch.rand(7, 1003) > 0.5
    packed = pack_bits(bits.cuda())
    assert packed.device.type == "cuda"
    assert torch.equal(packed.cpu(), pack_bits(bits))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_finite_rows_names_the_row(bad):
    values = torch.zeros(4, 3, 5)
    values[2, 1, 4] = bad
    assert finite_rows(values).tolist() == [True, True, False, True]


def test_opposite_infinities_do_not_cancel():
    assert finite_rows(torch.tensor([[float("inf"), float("-inf")], [1.0, 2.0]])).tolist() == [False, True]


def test_overflowing_sum_is_still_finite():
    """A sum that overflows is still finite."""
    assert finite_rows(torch.full((2, 4), 3e38)).all()
