"""bfloat16: the upper half of a float32, with its range and 8 significant bits. NumPy has no such type."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, UInt16

from .errors import NonFinite

_HALF = np.uint32(16)  # bits that are left out
_ALMOST_HALF = np.uint32(0x7FFF)
_ONE = np.uint32(1)


def to_bfloat16(values: Float32[np.ndarray, "n units"]) -> UInt16[np.ndarray, "n units"]:
    """The nearest numbers of bfloat16, of two equally near ones the even, as their 16 bits.

    Raises `NonFinite` for NaN and infinity, and for what is too large: it would become infinity.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    # To add just under a half, and one more where the last bit kept is 1, rounds ties to even; a carry goes into the
    # exponent, where it belongs.
    rounded = ((bits + _ALMOST_HALF + ((bits >> _HALF) & _ONE)) >> _HALF).astype(np.uint16)
    if not np.isfinite(from_bfloat16(rounded)).all() or not np.isfinite(values).all():
        raise NonFinite("an activation is NaN or infinite, or too large for bfloat16; store them without --bfloat16")
    return rounded


def from_bfloat16(bits: UInt16[np.ndarray, "n units"]) -> Float32[np.ndarray, "n units"]:
    """The same numbers as float32, exactly."""
    return (bits.astype(np.uint32) << _HALF).view(np.float32)
