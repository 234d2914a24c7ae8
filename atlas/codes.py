"""Packed spline codes: the one place that knows the order of bits.

A code has one bit a gate, 1 where the preactivation is positive. Gate j is bit 7 - j % 8 of byte j // 8: the most
significant bit comes first, as ``numpy.packbits`` writes it, as DuckDB's ``get_bit(cast(blob as bit), j)`` reads it.
The last byte is padded with zeros, on both sides of every comparison, so padding never counts in a distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8, UInt64

from .errors import UsageError, WidthError

_UNPACKED_BYTES = 1 << 24
"""Bytes of gates that are unpacked in one go to be counted: 16 MB, or one code where that is longer."""

_BYTE_SUMS = 255
"""Bits whose sum fits a byte."""


@dataclass(frozen=True)
class SplineCodes:
    """``packed``: one row a code; ``n_bits``: gates of each part, in order.

    A code of one site has one part. A code of a span has one part a site, each padded to whole bytes.
    """

    packed: UInt8[np.ndarray, "codes bytes"]
    parts: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.packed.dtype != np.uint8 or self.packed.ndim != 2:
            given = f"{self.packed.dtype} of shape {self.packed.shape}"
            raise WidthError(f"packed codes are a 2-D uint8 array, got {given}")
        if not self.parts or min(self.parts) <= 0:
            raise WidthError(f"a code needs at least one gate in every part, got parts {self.parts}")
        if self.packed.shape[1] != self.n_bytes:
            raise WidthError(
                f"codes of {' + '.join(map(str, self.parts))} gates take {self.n_bytes} bytes a row, "
                f"got {self.packed.shape[1]}"
            )

    @property
    def n_bits(self) -> int:
        """Gates in all parts, padding not counted."""
        return sum(self.parts)

    @property
    def n_bytes(self) -> int:
        return sum(-(-part // 8) for part in self.parts)

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, rows: slice | np.ndarray | Sequence[int]) -> SplineCodes:
        return SplineCodes(self.packed[rows], self.parts)

    @classmethod
    def pack(cls, gates: Bool[np.ndarray, "codes gates"]) -> SplineCodes:
        """Pack booleans, one row a code."""
        gates = np.asarray(gates)
        if gates.ndim != 2 or gates.dtype != np.bool_:
            raise WidthError(f"gates are a 2-D boolean array, got {gates.dtype} of shape {gates.shape}")
        return cls(np.packbits(gates, axis=1), (gates.shape[1],))

    @classmethod
    def from_string(cls, bits: str, parts: Sequence[int]) -> SplineCodes:
        """One code from a string of 0 and 1, a character a gate (padding is not written)."""
        if set(bits) - {"0", "1"}:
            raise UsageError(f"a code is written with 0 and 1 only, got {sorted(set(bits) - {'0', '1'})[:5]}")
        if len(bits) != sum(parts):
            raise WidthError(f"the code has {len(bits)} bits; {sum(parts)} gates are expected")
        gates = np.frombuffer(bits.encode(), dtype=np.uint8)[None] == ord("1")
        edges = np.cumsum([0, *parts])
        return concatenate([cls.pack(gates[:, low:high]) for low, high in pairwise(edges)])

    def unpack(self) -> Bool[np.ndarray, "codes gates"]:
        """The gates as booleans, padding removed. Eight times the memory: meant for batches."""
        columns = [
            np.unpackbits(self.packed[:, start : start + -(-part // 8)], axis=1, count=part).view(np.bool_)
            for start, part in self._places()
        ]
        return np.concatenate(columns, axis=1)

    def n_active(self) -> Int64[np.ndarray, " codes"]:
        """Gates that are on."""
        return np.bitwise_count(words(self.packed)).sum(axis=1, dtype=np.int64)

    def gate_counts(self) -> Int64[np.ndarray, " gates"]:
        """For each gate the codes in which it is on. A bounded number of gates is unpacked at a time."""
        total = np.zeros(8 * self.packed.shape[1], dtype=np.int64)
        step = min(_BYTE_SUMS, max(1, _UNPACKED_BYTES // len(total)))
        for start in range(0, len(self), step):
            # Sums of up to 255 bits fit a byte, in which they are added up many at a time.
            total += np.unpackbits(self.packed[start : start + step], axis=1).sum(axis=0, dtype=np.uint8)
        return np.concatenate([total[8 * start : 8 * start + part] for start, part in self._places()])

    def _places(self) -> list[tuple[int, int]]:
        """Of each part the byte at which it begins, and its gates."""
        return list(zip(accumulate((-(-part // 8) for part in self.parts), initial=0), self.parts, strict=False))


def concatenate(sites: Sequence[SplineCodes]) -> SplineCodes:
    """The code of a span: the codes of its sites in order, each padded to whole bytes."""
    if not sites:
        raise UsageError("a span's code needs at least one site")
    if len({len(site) for site in sites}) != 1:
        raise WidthError(f"codes of a span must be of the same examples, got {[len(site) for site in sites]} rows")
    parts = tuple(part for site in sites for part in site.parts)
    return SplineCodes(np.concatenate([site.packed for site in sites], axis=1), parts)


def words(packed: UInt8[np.ndarray, "codes bytes"]) -> UInt64[np.ndarray, "codes words"]:
    """The same bits, eight bytes a word; rows are padded with zeros, in a copy, where the bytes don't divide."""
    n, n_bytes = packed.shape
    padding = -n_bytes % 8
    if padding or not packed.flags.c_contiguous or packed.ctypes.data % 8:
        padded = np.zeros((n, n_bytes + padding), dtype=np.uint8)
        padded[:, :n_bytes] = packed
        packed = padded
    return packed.view(np.uint64)


def hamming(a: SplineCodes, b: SplineCodes) -> Int64[np.ndarray, " codes"]:
    """Row-wise Hamming distance: the least number of boundaries that any path between the polytopes crosses.

    One of the two may have a single row, which is compared with every row of the other.
    """
    if a.parts != b.parts:
        raise WidthError(f"codes of {a.n_bits} and {b.n_bits} gates can't be compared (parts {a.parts}, {b.parts})")
    if len(a) != len(b) and 1 not in (len(a), len(b)):
        raise WidthError(f"codes are compared row by row, got {len(a)} and {len(b)} rows")
    return np.bitwise_count(a.packed ^ b.packed).sum(axis=1, dtype=np.int64)


def jaccard(a: SplineCodes, b: SplineCodes) -> Float64[np.ndarray, " codes"]:
    """Row-wise Jaccard distance, 1 − (gates on in both) / (gates on in either): gates off in both don't count.

    Codes without a gate that is on are at distance 0 of each other, and at 1 of all others. One of the two may have a
    single row, which is compared with every row of the other.
    """
    differ = hamming(a, b)
    return 2 * differ / np.maximum(a.n_active() + b.n_active() + differ, 1)
