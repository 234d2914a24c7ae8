"""Blocks of Jaccard distances between codes: 1 − (gates on in both) / (gates on in either)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from ..codes import SplineCodes
from .distances import Codes, Columns, Rows


@dataclass(frozen=True, eq=False)
class JaccardCodes:
    """Spline codes under the Jaccard distance, in float64: a share of two whole numbers, rounded once.

    Two codes without a gate that is on are equal, at distance 0, and at distance 1 of every other.
    """

    codes: Codes
    n_on: Int64[np.ndarray, " n"]

    coordinates = None
    factor = 1.0
    shift = 0

    @classmethod
    def of(cls, codes: SplineCodes, rows: Int64[np.ndarray, " rows"] | None = None) -> JaccardCodes:
        """``rows``: only these of the codes."""
        n_on = codes.n_active()
        return cls(Codes.of(codes, rows), n_on if rows is None else n_on[rows])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def n_bytes(self) -> int:
        return self.codes.n_bytes + self.n_on.nbytes

    def __len__(self) -> int:
        return len(self.n_on)

    def take(self, rows: Int64[np.ndarray, " rows"]) -> JaccardCodes:
        return JaccardCodes(self.codes.take(rows), self.n_on[rows])

    def between(
        self, rows: Rows, columns: Columns, out: Float64[np.ndarray, "rows columns"] | None = None
    ) -> Float64[np.ndarray, "rows columns"]:
        """With d gates that differ, of a and b gates that are on: 2d / (a + b + d)."""
        differ = self.codes.between(rows, columns)
        block = np.empty(differ.shape) if out is None else out
        np.add(self.n_on[rows][:, None], self.n_on[columns], out=block)
        np.maximum(np.add(block, differ, out=block), 1, out=block)  # 0 where neither has a gate on
        np.divide(2.0 * differ, block, out=block)
        return block

    bounds = between
