"""The digest of a site's rows, for who has them in order: what `Atlas.codes_digest` and `Atlas.activations_digest`
find when they read the rows back."""

from __future__ import annotations

import hashlib

import numpy as np
from jaxtyping import Integer, Shaped

from ..errors import UsageError


class RowsDigest:
    """SHA-256 over the rows of a site in order of example id, block by block: the ids of a block (int64), then its
    values.

    Block b holds the ids from first + b · ``block_ids`` up to, not including, first + (b + 1) · ``block_ids``, where
    first is the least of them. All ids are known beforehand, so that values need not wait for the end of a block.
    """

    def __init__(self, ids: Integer[np.ndarray, " rows"], block_ids: int) -> None:
        """``ids`` ascend, each once; `UsageError` otherwise."""
        if (ids[1:] <= ids[:-1]).any():
            raise UsageError(f"{len(ids)} ids that do not ascend were given; rows are digested in order of id")
        self._ids, self._block_ids = ids, block_ids
        self._digest = hashlib.sha256()
        self._row = self._end = 0

    def update(self, values: Shaped[np.ndarray, "rows width"]) -> None:
        """Take in the values of the next rows."""
        if self._row + len(values) > len(self._ids):
            raise UsageError(f"{self._row + len(values)} rows were given; there are {len(self._ids)} ids")
        while len(values):
            if self._row == self._end:
                self._begin_block()
            here = values[: self._end - self._row]
            self._digest.update(np.ascontiguousarray(here).data)
            self._row += len(here)
            values = values[len(here) :]

    def result(self) -> tuple[int, str]:
        """The number of rows and their digest, once all of them were given; `UsageError` before."""
        if self._row < len(self._ids):
            raise UsageError(f"{self._row} of {len(self._ids)} rows were given")
        return self._row, self._digest.hexdigest()

    def _begin_block(self) -> None:
        first, here = int(self._ids[0]), int(self._ids[self._row])
        stop = here + self._block_ids - (here - first) % self._block_ids
        self._end = int(np.searchsorted(self._ids, stop))
        self._digest.update(self._ids[self._row : self._end].astype(np.int64).data)
