"""Rows of numbers: which are equal, and which are no numbers at all."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64, Shaped, UInt64

from ..codes import words

_READ_BYTES = 1 << 20  # of rows that are looked at or moved at once: they stay in the cache, and beside the budget


def row_blocks(n: int, row_bytes: int) -> list[slice]:
    """Consecutive rows of [0, n), few enough of them to be copied beside the budget."""
    step = max(1, _READ_BYTES // max(1, row_bytes))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def not_finite(x: Shaped[np.ndarray, "n units"]) -> int | None:
    """The first row that holds NaN or infinity, if one does."""
    for at in row_blocks(len(x), x.itemsize * x.shape[1]):
        finite = np.isfinite(x[at]).all(axis=1)
        if not finite.all():
            return at.start + int(finite.argmin())
    return None


def same_rows(x: Shaped[np.ndarray, "n width"]) -> tuple[Int64[np.ndarray, " kinds"], Int64[np.ndarray, " n"]]:
    """Rows of equal numbers: the first row of each kind, in order, and the kind of every row.

    Rows are compared byte by byte, with −0 taken for 0. They are sorted by a hash, which is much faster than by
    themselves; then equal hashes are seen to be equal rows. Nothing as large as ``x`` is copied.
    """
    row_bytes = x.itemsize * x.shape[1]
    # Odd factors, so that a change in one word always changes the hash, a sum modulo 2⁶⁴ of words times factors.
    factors = np.random.default_rng(0).integers(0, 1 << 64, -(-row_bytes // 8), dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(x), dtype=np.uint64)
    blocks = row_blocks(len(x), row_bytes)
    for at in blocks:
        hashes[at] = (_as_words(x[at]) * factors).sum(axis=1)
    first, kind = _first_of(hashes)
    equals = first[kind]
    for at in blocks:
        others = np.flatnonzero(equals[at] != np.arange(at.start, at.stop))
        if (_as_words(x[at][others]) != _as_words(x[equals[at][others]])).any():  # as good as never
            return _first_of(_as_words(x).view(np.dtype((np.void, 8 * len(factors))))[:, 0])
    return first, kind


def _as_words(x: Shaped[np.ndarray, "n width"]) -> UInt64[np.ndarray, "n words"]:
    """The bytes of each row, eight a word, alike for rows of equal numbers."""
    if x.dtype.kind == "f":
        x = x + x.dtype.type(0)  # −0 + 0 is 0
    return words(np.ascontiguousarray(x).view(np.uint8).reshape(len(x), x.itemsize * x.shape[1]))


def _first_of(keys: Shaped[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " kinds"], Int64[np.ndarray, " n"]]:
    """As `same_rows`; NumPy numbers kinds by their size, here they are numbered by where they first come."""
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[kind]
