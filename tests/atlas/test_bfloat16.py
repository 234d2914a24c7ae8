"""bfloat16: the nearest numbers, as torch rounds them, and exactly the same back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from atlas.bfloat16 import from_bfloat16, to_bfloat16
from atlas.errors import NonFinite


def test_rounding_is_that_of_torch() -> None:
    """Ties, carries into the exponent, both zeros and numbers below the normal ones among them."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 20_000, dtype=np.uint32)
    ties = np.array([0x3F808000, 0x3F818000, 0x3FFFFFFF, 0x00000001, 0x80000000, 0x007FFFFF], np.uint32)
    values = np.concatenate([bits, ties]).view(np.float32)
    values = values[np.isfinite(values) & (np.abs(values) < 3e38)].reshape(1, -1)
    theirs = torch.from_numpy(values).bfloat16()
    rounded = from_bfloat16(to_bfloat16(values))
    np.testing.assert_array_equal(rounded.view(np.uint32), theirs.float().numpy().view(np.uint32))
    np.testing.assert_array_equal(to_bfloat16(rounded), to_bfloat16(values))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38])
def test_what_has_no_bfloat16_is_an_error(value: float) -> None:
    with pytest.raises(NonFinite, match="too large for bfloat16"):
        to_bfloat16(np.array([[0, value]], np.float32))
