"""Blocks of distances between many points: packed codes by popcount, activations by matrix products.

On a CUDA device both are matrix products of torch. The numbers are the same: Hamming distances are whole and exact on
either, and an Euclidean distance is computed in float64 on either, again from a − b where cancellation would show.
Where only a few distances matter, products in float32 bound all of them at twice the speed (`float_bounds`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped, UInt16, UInt64

from ..codes import SplineCodes, words
from ..errors import UsageError
from ..search.kernels import all_distances
from ..threads import in_threads, slices
from .float_bounds import (
    NARROW_SHIFT,
    WIDE_SHIFT,
    centre_and_scale,
    lower_bounds,
    needs_float64,
    scaling_factor,
    shortened_norms,
    squared_norms,
)
from .kernels import distances_from_products
from .limits import BLOCK_BYTES
from .rows import row_blocks, same_rows

# A squared distance from ‖a‖² + ‖b‖² − 2a·b carries an error of up to about units · 2⁻⁵³ · (‖a‖² + ‖b‖²). Where it
# is less than this share of ‖a‖² + ‖b‖² it is computed again from a − b: at 3,072 units no relative error exceeds
# 1e-10.
_NEAR = 0.01
_STRIPE = 64  # rows of a block that one thread takes at a time
_EXACT_IN_BFLOAT16 = 256  # whole numbers up to here; a product over so many gates of ±1 is no larger
_UNPACKED = 1 << 12  # codes whose signs are taken to the device at once

_SAMPLE = 256  # points that say whether float32 tells them apart
_TILE_BYTES = 1 << 24  # of products taken at once, about as large as the cache
_NARROW = 256  # columns of a tile, at least

Rows = slice | Int64[np.ndarray, " rows"]
Columns = slice | Int64[np.ndarray, " columns"]


@runtime_checkable
class Points(Protocol):
    """n points and the distances between them, computed when they are asked for.

    ``coordinates``: None where `bounds` are the distances themselves, else what distances are computed from;
    ``factor`` and ``shift``: then the bounds are of (distance · ``factor``)², stored as in `float_bounds`.
    """

    @property
    def coordinates(self) -> Float[np.ndarray, "n units"] | None: ...

    @property
    def factor(self) -> float: ...

    @property
    def shift(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of `bounds`."""
        ...

    @property
    def n_bytes(self) -> int:
        """What is held beside the arrays that the caller gave."""
        ...

    def __len__(self) -> int: ...

    def between(
        self, rows: Rows, columns: Columns, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        """Distances of some points to some points, in ``out`` or a new array."""
        ...

    def bounds(
        self, rows: Rows, columns: Columns, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        """Numbers of ``dtype`` that are no larger than what they stand for, in ``out`` or a new array."""
        ...

    def take(self, rows: Int64[np.ndarray, " rows"]) -> Points:
        """Some of the points, in this order."""
        ...


class _Whole:
    """Distances that are whole numbers: nothing is left to compute."""

    coordinates = None
    factor = 1.0
    shift = 0

    def bounds(
        self: Any, rows: Rows, columns: Columns, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        distances: Shaped[np.ndarray, "rows columns"] = self.between(rows, columns, out)
        return distances


@dataclass(frozen=True, eq=False)
class Codes(_Whole):
    """Spline codes under the Hamming distance, in gates."""

    packed: UInt64[np.ndarray, "n words"]
    n_bits: int
    owned: bool

    @classmethod
    def of(cls, codes: SplineCodes, rows: Int64[np.ndarray, " rows"] | None = None) -> Codes:
        """``rows``: only these of the codes, which is the one copy that is made."""
        if rows is None:
            packed = words(codes.packed)
            return cls(packed, codes.n_bits, not np.shares_memory(packed, codes.packed))
        n_bytes = codes.packed.shape[1]
        packed = np.zeros((len(rows), -(-n_bytes // 8)), dtype=np.uint64)
        for at in row_blocks(len(rows), n_bytes):
            packed.view(np.uint8)[at, :n_bytes] = codes.packed[rows[at]]
        return cls(packed, codes.n_bits, owned=True)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.n_bits < np.iinfo(np.uint16).max else np.uint32)

    @property
    def n_bytes(self) -> int:
        return self.packed.nbytes if self.owned else 0

    def __len__(self) -> int:
        return len(self.packed)

    def take(self, rows: Int64[np.ndarray, " rows"]) -> Codes:
        return Codes(self.packed[rows], self.n_bits, owned=True)

    def between(
        self, rows: Rows, columns: Columns, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        a, b = self.packed[rows], self.packed[columns]
        block = np.empty((len(a), len(b)), dtype=self.dtype) if out is None else out
        all_distances(a.view(np.uint8), b.view(np.uint8), block)
        return block


@dataclass(frozen=True, eq=False)
class TorchCodes(_Whole):
    """`Codes` on a torch device: gates as ±1, of which a · b = gates − 2 · (gates that differ).

    The products are taken over 256 gates at a time, in bfloat16, which holds every number that can come out.
    """

    signs: Any  # Tensor "n gates", bfloat16
    n_bits: int

    @classmethod
    def of(cls, codes: SplineCodes, device: str, rows: Int64[np.ndarray, " rows"] | None = None) -> TorchCodes:
        """``rows``: only these of the codes."""
        import torch

        n = len(codes) if rows is None else len(rows)
        signs = torch.empty((n, codes.n_bits), dtype=torch.bfloat16, device=device)
        for start in range(0, n, _UNPACKED):
            at = slice(start, start + _UNPACKED)
            gates = torch.from_numpy(codes[at if rows is None else rows[at]].unpack()).to(device)
            signs[at] = 2 * gates.to(torch.bfloat16) - 1
        return cls(signs, codes.n_bits)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16 if self.n_bits < np.iinfo(np.uint16).max else np.uint32)

    @property
    def n_bytes(self) -> int:
        return 0  # the signs lie on the device

    def __len__(self) -> int:
        return len(self.signs)

    @staticmethod
    def device_bytes(n: int, n_bits: int, *, copies: int = 1) -> int:
        """What the signs of n codes, so many copies of them, and the blocks that are computed take on the device,
        generously."""
        return copies * 2 * n * n_bits + 16 * BLOCK_BYTES

    def take(self, rows: Int64[np.ndarray, " rows"]) -> TorchCodes:
        return TorchCodes(self.signs[_on(rows, self.signs)], self.n_bits)

    def between(
        self, rows: Rows, columns: Columns, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        import torch

        a, b = self.signs[_on(rows, self.signs)], self.signs[_on(columns, self.signs)]
        agreement = torch.zeros((len(a), len(b)), dtype=torch.int32, device=a.device)
        for start in range(0, self.n_bits, _EXACT_IN_BFLOAT16):
            gates = slice(start, start + _EXACT_IN_BFLOAT16)
            agreement += (a[:, gates] @ b[:, gates].T).to(torch.int32)
        differing = ((self.n_bits - agreement) // 2).cpu().numpy()
        if out is None:
            return differing.astype(self.dtype)
        out[:] = differing
        return out


@dataclass(frozen=True, eq=False)
class Activations:
    """Activations under the Euclidean distance, which is computed in float64.

    ``centred``: moved, so that no common offset drowns small distances; float64, or float32 and multiplied by
    ``factor`` where only `bounds` are wanted; None where they lie ``on_device``, a float64 tensor, and products are
    taken there. ``norms``: squared norms of what was moved, before it was multiplied. ``factor``: a power of two that
    brings the longest to about 1. ``kind``: equal for equal rows of ``x``: their distance is 0 without a look, for an
    input that repeats would be the slowest there is. ``copied``: bytes of ``x`` that are not the caller's. ``room``:
    for the products of `bounds`, which would take longer to allocate than to compute; so only one thread can ask for
    bounds.
    """

    x: Float[np.ndarray, "n units"]
    centred: Float[np.ndarray, "n units"] | None
    norms: Float64[np.ndarray, " n"]
    factor: float
    kind: Int64[np.ndarray, " n"]
    on_device: Any = None
    copied: int = 0
    room: list[Float32[np.ndarray, " products"]] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        x: Float[np.ndarray, "n units"],
        device: str = "cpu",
        *,
        distinct: bool = False,
        names: Int64[np.ndarray, " n"] | None = None,
        copied: int = 0,
    ) -> Activations:
        """``distinct``: no two rows are known to be equal. ``names``: how an error names the rows, if not from 0.

        Raises `UsageError` for no units, `NonFinite` for NaN, infinity and distances that overflow.
        """
        x, copied = _readable(x, copied)
        n, units = x.shape
        blocks = row_blocks(n, 8 * units)
        centred = np.empty(x.shape) if device == "cpu" else None
        on_device: Any = None if device == "cpu" else _tensor(x.shape, device)
        norms = np.empty(n)
        with np.errstate(over="ignore", invalid="ignore"):
            # A point serves better than the mean: the difference of two float32 numbers is nearly always exact in
            # float64, so equal distances stay equal.
            mean = sum((x[at].sum(axis=0, dtype=np.float64) for at in blocks), start=np.zeros(units)) / n
            for at in blocks:
                some = x[at].astype(np.float64)
                norms[at] = np.einsum("ij,ij->i", some, some) - 2 * some @ mean
            origin = x[np.argmin(norms)].astype(np.float64)
            for at in blocks:
                some = x[at] - origin
                norms[at] = np.einsum("ij,ij->i", some, some)
                if centred is not None:
                    centred[at] = some
                else:
                    on_device[at] = _moved(some, device)
        factor = scaling_factor(x, norms, names)
        return cls(x, centred, norms, factor, np.arange(n) if distinct else same_rows(x)[1], on_device, copied)

    @classmethod
    def bounded(
        cls,
        x: Float[np.ndarray, "n units"],
        device: str = "cpu",
        *,
        room: int | None = None,
        names: Int64[np.ndarray, " n"] | None = None,
        copied: int = 0,
    ) -> Activations:
        """For `bounds` between different points: in float32 on the processor, unless most points lie so near to each
        other that this would tell little, and float64 fits in ``room`` bytes. ``names`` and errors as in `of`."""
        x, copied = _readable(x, copied)
        sample = x[:: max(1, len(x) // _SAMPLE)][:_SAMPLE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            centre = sample.mean(axis=0)
            norms = np.empty(len(x))
            in_threads(lambda at: squared_norms(x, centre, norms, at.start, at.stop), slices(len(x), _STRIPE))
            factor = scaling_factor(x, norms, names)
        if device != "cpu" or ((room is None or 8 * x.size <= room) and needs_float64(sample - centre)):
            return cls.of(x, device, distinct=True, names=names, copied=copied)
        centred = np.empty(x.shape, dtype=np.float32)
        in_threads(
            lambda at: centre_and_scale(x, centre, factor, centred, at.start, at.stop), slices(len(x), _STRIPE)
        )
        return cls(x, centred, norms, factor, np.arange(len(x)), copied=copied)

    @staticmethod
    def device_bytes(n: int, units: int, *, copies: int = 1) -> int:
        """What n points, so many copies of them, and the blocks that are computed take on a device, generously."""
        return copies * 8 * n * units + 16 * BLOCK_BYTES

    @property
    def coordinates(self) -> Float[np.ndarray, "n units"]:
        return self.x

    @property
    def shift(self) -> int:
        return NARROW_SHIFT if self._is_narrow else WIDE_SHIFT

    @property
    def _is_narrow(self) -> bool:
        return self.centred is not None and self.centred.dtype == np.float32

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint16)

    @property
    def n_bytes(self) -> int:
        return self.copied + (0 if self.centred is None else self.centred.nbytes)

    def __len__(self) -> int:
        return len(self.norms)

    def take(self, rows: Int64[np.ndarray, " rows"]) -> Activations:
        x = self.x[rows]
        centred = None if self.centred is None else self.centred[rows]
        on_device = None if self.on_device is None else self.on_device[_on(rows, self.on_device)]
        return Activations(x, centred, self.norms[rows], self.factor, self.kind[rows], on_device, x.nbytes)

    def between(
        self, rows: Rows, columns: Columns, out: Float64[np.ndarray, "rows columns"] | None = None
    ) -> Float64[np.ndarray, "rows columns"]:
        """‖a − b‖ by one matrix product, and again from the differences where cancellation would show.

        Raises `UsageError` where the points were prepared for bounds only.
        """
        if self._is_narrow:
            raise UsageError("these activations were prepared for bounds only; use Activations.of for distances")
        block = self._products(rows, columns)
        a, b = (np.arange(len(self))[which] if isinstance(which, slice) else which for which in (rows, columns))
        in_threads(
            lambda at: distances_from_products(block, self.norms, self.x, self.kind, a, b, _NEAR, at.start, at.stop),
            slices(len(block), _STRIPE),
        )
        if out is None:
            return block
        out[:] = block
        return out

    def bounds(
        self, rows: Rows, columns: Columns, out: UInt16[np.ndarray, "rows columns"] | None = None
    ) -> UInt16[np.ndarray, "rows columns"]:
        """No more than (‖a − b‖ · factor)², by matrix products: the error that they may have is taken off."""
        norms, shrink = shortened_norms(self.norms, self.x.shape[1], self.factor, self._is_narrow)
        left, right = norms[rows], norms[columns]
        block = np.empty((len(left), len(right)), dtype=self.dtype) if out is None else out
        width = max(_NARROW, min(_TILE_BYTES, block.nbytes) // (max(1, len(left)) * norms.itemsize))
        for first in range(0, len(right), width):
            tile = slice(first, min(first + width, len(right)))
            some = (
                slice(columns.start + tile.start, columns.start + tile.stop)
                if isinstance(columns, slice)
                else columns[tile]
            )
            products = self._tile(rows, some, (len(left), tile.stop - tile.start))

            def store(at: slice, tile: slice = tile, products: np.ndarray = products) -> None:
                bounds = np.empty((at.stop - at.start, tile.stop - tile.start), dtype=np.uint16)
                lower_bounds(products[at], left[at], right[tile], shrink, self.shift, bounds)
                block[at, tile] = bounds

            in_threads(store, slices(len(block), _STRIPE))
        return block

    def _tile(self, rows: Rows, columns: Columns, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
        if self.centred is None or not self._is_narrow:
            return self._products(rows, columns)
        size = shape[0] * shape[1]
        if not self.room or len(self.room[0]) < size:
            self.room[:] = [np.empty(size, dtype=np.float32)]
        return np.matmul(self.centred[rows], self.centred[columns].T, out=self.room[0][:size].reshape(shape))

    def _products(self, rows: Rows, columns: Columns) -> Float[np.ndarray, "rows columns"]:
        if self.centred is not None:
            return self.centred[rows] @ self.centred[columns].T
        a, b = (self.on_device[_on(which, self.on_device)] for which in (rows, columns))
        products: Float64[np.ndarray, "rows columns"] = (a @ b.T).cpu().numpy()
        return products


def _tensor(shape: tuple[int, ...], device: str) -> Any:
    import torch

    return torch.empty(shape, dtype=torch.float64, device=device)


def _moved(some: Float64[np.ndarray, "some units"], device: str) -> Any:
    import torch

    return torch.from_numpy(some).to(device)


def _readable(x: Float[np.ndarray, "n units"], copied: int) -> tuple[Float[np.ndarray, "n units"], int]:
    """What the kernels read, without a copy where it is that already, and the bytes that are copied in all."""
    if x.shape[1] == 0:
        raise UsageError(f"activations need at least one unit, got an array of shape {x.shape}")
    kind = x.dtype if x.dtype in (np.float32, np.float64) else np.float32 if x.dtype.itemsize < 4 else np.float64
    read = np.ascontiguousarray(x, dtype=kind)
    return read, copied if np.may_share_memory(read, x) else copied + read.nbytes


def _on(rows: Rows | Columns, tensor: Any) -> Any:
    """What indexes ``tensor`` where it lies."""
    if isinstance(rows, slice):
        return rows
    import torch

    return torch.from_numpy(rows).to(tensor.device)
