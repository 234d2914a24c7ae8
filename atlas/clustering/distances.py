"""Blocks of distances between many points: packed codes by popcount, activations by matrix products.

On a CUDA device both are matrix products of torch. The numbers are the same: Hamming distances are whole and exact on
either, and an Euclidean distance is computed in float64 on either, again from a − b where cancellation would show.

Where only a few distances matter, as in a spanning tree, products in float32 give a lower bound of each, at twice the
speed, which is stored in 16 bits, and the few are computed from a − b by one formula. Of the squared distance of
vectors of ``units`` numbers, ‖a‖² + ‖b‖² − 2a·b, the error is at most γ · (‖a‖² + ‖b‖²) with γ = m·u/(1 − m·u),
u = 2⁻²⁴ and m = units + 24, in whatever order the product is summed (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, section 3.1): units for the product, 24 for rounding the vectors, the norms and the sums.
"""

from __future__ import annotations

from ctypes import CDLL
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64, Shaped, UInt16, UInt64

from ..codes import SplineCodes
from ..errors import NonFinite, UsageError
from ..kernels import (
    bounds_from_products,
    centre_and_scale,
    distances_from_products,
    hamming_columns,
    in_threads,
    slices,
    squared_norms,
    words,
)
from ..search.hamming_index import Device, check_device

SAME = 1e-9  # relative: two routes to one distance differ by rounding only, by less than this
BLOCK_BYTES = 1 << 26  # of distances worked on at once; smaller blocks than 2**24 are slower, larger not faster
_READ_BYTES = 1 << 20  # of rows that are looked at or moved at once: they stay in the cache, and beside the budget

# A squared distance from ‖a‖² + ‖b‖² − 2a·b carries an error of up to about units · 2⁻⁵³ · (‖a‖² + ‖b‖²). Where it
# is less than this share of ‖a‖² + ‖b‖² it is computed again from a − b: at 3,072 units no relative error exceeds
# 1e-10.
_NEAR = 0.01
_STRIPE = 64  # codes compared with all others at once: 24 kB at 3,072 gates, which stay in the fastest cache
_EXACT_IN_BFLOAT16 = 256  # whole numbers up to here; a product over so many gates of ±1 is no larger

# Where more pairs of a sample than this are too near for float32 to tell them from equal points, products are taken
# in float64: a distance from a − b costs twenty times a product in float32, which costs half of one in float64.
_TOO_NEAR = 0.05
_SAMPLE = 256  # points
_ROUNDINGS = 24  # beside one for each unit, see above
_TILE_BYTES = 1 << 24  # of products taken at once, about as large as the cache
_NARROW = 256  # columns of a tile, at least
_LEAST = 2.0**-100  # of a squared distance whose scale is about 1: more than what underflows on the way
_ROUND_DOWN = 1 - 2.0**-22

Rows = slice | Int64[np.ndarray, " rows"]


class Points(Protocol):
    """n points and the distances between them, computed when they are asked for.

    ``coordinates``: None where `bounds` are the distances themselves, else what distances are computed from;
    ``factor`` and ``shift``: then the bounds are of (distance · ``factor``)², stored as in `kernels`.
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
        self, rows: Rows, columns: Rows, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        """Distances of some points to some points, in ``out`` or a new array."""
        ...

    def bounds(
        self, rows: Rows, columns: Rows, out: Shaped[np.ndarray, "rows columns"] | None = None
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
        self: Any, rows: Rows, columns: Rows, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        found: Shaped[np.ndarray, "rows columns"] = self.between(rows, columns, out)
        return found


def chosen_device(device: Device, n_bytes: int) -> str:
    """``cuda`` where it was asked for, or where "auto" finds one with room for ``n_bytes``; else ``cpu``.

    torch is only imported where there is a driver. Raises `UsageError` for another word, and for ``cuda`` where there
    is none or too little memory.
    """
    check_device(device)
    if device == "cpu" or (device == "auto" and not _has_driver()):
        return "cpu"
    import torch

    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else None
    if free is not None and n_bytes < free:
        return "cuda"
    if device == "cuda":
        found = "no CUDA device" if free is None else f"{free:,} bytes free on it, where {n_bytes:,} are needed"
        raise UsageError(f'device "cuda" was asked for, and torch finds {found}; use "cpu" or "auto"')
    return "cpu"


@cache
def _has_driver() -> bool:
    """Asks the loader, which knows LD_LIBRARY_PATH; `find_library` asks the cache of ldconfig."""
    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            CDLL(name)
        except OSError:
            continue
        return True
    return False


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
        for at in _parts(len(rows), n_bytes):
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
        self, rows: Rows, columns: Rows, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        a, b = self.packed[rows], self.packed[columns]
        found = np.empty((len(a), len(b)), dtype=self.dtype) if out is None else out
        stripes = [slice(start, start + _STRIPE) for start in range(0, len(a), _STRIPE)]
        pieces = [(stripe, piece) for stripe in stripes for piece in slices(len(b), 1 << 14)]
        in_threads(lambda at: hamming_columns(a[at[0]], b, found[at[0]], at[1].start, at[1].stop), pieces)
        return found


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
        for start in range(0, n, 1 << 12):
            some = codes[start : start + (1 << 12)] if rows is None else codes[rows[start : start + (1 << 12)]]
            gates = torch.from_numpy(some.unpack()).to(device)
            signs[start : start + len(gates)] = 2 * gates.to(torch.bfloat16) - 1
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
        self, rows: Rows, columns: Rows, out: Shaped[np.ndarray, "rows columns"] | None = None
    ) -> Shaped[np.ndarray, "rows columns"]:
        import torch

        a, b = self.signs[_on(rows, self.signs)], self.signs[_on(columns, self.signs)]
        agreement = torch.zeros((len(a), len(b)), dtype=torch.int32, device=a.device)
        for start in range(0, self.n_bits, _EXACT_IN_BFLOAT16):
            gates = slice(start, start + _EXACT_IN_BFLOAT16)
            agreement += (a[:, gates] @ b[:, gates].T).to(torch.int32)
        found = ((self.n_bits - agreement) // 2).cpu().numpy()
        if out is None:
            return found.astype(self.dtype)
        out[:] = found
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
        parts = _parts(n, 8 * units)
        centred = np.empty(x.shape) if device == "cpu" else None
        on_device: Any = None if device == "cpu" else _tensor(x.shape, device)
        norms = np.empty(n)
        with np.errstate(over="ignore", invalid="ignore"):
            # A point serves better than the mean: the difference of two float32 numbers is nearly always exact in
            # float64, so equal distances stay equal.
            mean = sum((x[at].sum(axis=0, dtype=np.float64) for at in parts), start=np.zeros(units)) / n
            for at in parts:
                some = x[at].astype(np.float64)
                norms[at] = np.einsum("ij,ij->i", some, some) - 2 * some @ mean
            origin = x[np.argmin(norms)].astype(np.float64)
            for at in parts:
                some = x[at] - origin
                norms[at] = np.einsum("ij,ij->i", some, some)
                if centred is not None:
                    centred[at] = some
                else:
                    on_device[at] = _moved(some, device)
        factor = _factor(x, norms, names)
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
        some = x[:: max(1, len(x) // _SAMPLE)][:_SAMPLE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            centre = some.mean(axis=0)
            norms = np.empty(len(x))
            in_threads(lambda at: squared_norms(x, centre, norms, at.start, at.stop), slices(len(x), _STRIPE))
            factor = _factor(x, norms, names)
        if device != "cpu" or ((room is None or 8 * x.size <= room) and _many_near(some - centre)):
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
        """11 bits after the point and a range of 2³² for bounds in float32, else 9 and 2¹²⁸, for the sake of points
        that lie very near to each other."""
        return 12 if self._is_narrow else 14

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
        self, rows: Rows, columns: Rows, out: Float64[np.ndarray, "rows columns"] | None = None
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
        self, rows: Rows, columns: Rows, out: UInt16[np.ndarray, "rows columns"] | None = None
    ) -> UInt16[np.ndarray, "rows columns"]:
        """No more than (‖a − b‖ · factor)², by matrix products: the error that they may have is taken off."""
        kind: Any = np.float32 if self._is_narrow else np.float64
        low = 1 - _relative_error(self.x.shape[1], kind)
        scale = self.factor**2
        norms = self.norms * (low * scale if kind is np.float32 else low)
        lowered = np.nextafter(norms.astype(kind), kind(-1))
        left, right = lowered[rows], lowered[columns]
        shrink = kind(_ROUND_DOWN if kind is np.float32 else _ROUND_DOWN * scale)
        found = np.empty((len(left), len(right)), dtype=self.dtype) if out is None else out
        step = max(_NARROW, min(_TILE_BYTES, found.nbytes) // (max(1, len(left)) * np.dtype(kind).itemsize))
        for first in range(0, len(right), step):
            tile = slice(first, min(first + step, len(right)))
            which = (
                slice(columns.start + first, columns.start + tile.stop)
                if isinstance(columns, slice)
                else columns[tile]
            )
            products = self._tile(rows, which, (len(left), tile.stop - first))

            def store(at: slice, tile: slice = tile, products: np.ndarray = products) -> None:
                lines = np.empty((at.stop - at.start, tile.stop - tile.start), dtype=np.uint16)
                bounds_from_products(products[at], left[at], right[tile], shrink, kind(_LEAST), self.shift, lines)
                found[at, tile] = lines

            in_threads(store, slices(len(found), _STRIPE))
        return found

    def _tile(self, rows: Rows, columns: Rows, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
        if self.centred is None or self.centred.dtype != np.float32:
            return self._products(rows, columns)
        size = shape[0] * shape[1]
        if not self.room or len(self.room[0]) < size:
            self.room[:] = [np.empty(size, dtype=np.float32)]
        return np.matmul(self.centred[rows], self.centred[columns].T, out=self.room[0][:size].reshape(shape))

    def _products(self, rows: Rows, columns: Rows) -> Float[np.ndarray, "rows columns"]:
        if self.centred is not None:
            return self.centred[rows] @ self.centred[columns].T
        a, b = (self.on_device[_on(which, self.on_device)] for which in (rows, columns))
        found: Float64[np.ndarray, "rows columns"] = (a @ b.T).cpu().numpy()
        return found


def _parts(n: int, row_bytes: int) -> list[slice]:
    """Consecutive rows, few enough of them to be copied beside the budget."""
    step = max(1, _READ_BYTES // max(1, row_bytes))
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


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


def _factor(
    x: Float[np.ndarray, "n units"], norms: Float64[np.ndarray, " n"], names: Int64[np.ndarray, " n"] | None
) -> float:
    """The power of two that brings the longest of the moved points to a length of 1/2 to 1.

    Points that are all nearly equal (10⁻¹⁰⁰) are not brought so far: their distances underflow anyway.
    """
    longest = float(norms.max())
    if not longest < np.finfo(np.float64).max / 4:  # ‖a − b‖² <= 2(‖a‖² + ‖b‖²)
        row = not_finite(x)
        if row is not None:
            named = row if names is None else int(names[row])
            raise NonFinite(f"the activation in row {named} holds NaN or infinity; leave that example out")
        raise NonFinite("squared distances between the activations overflow float64; scale them down")
    return float(2.0 ** min(332, -int(np.frexp(np.sqrt(longest))[1])))


def _relative_error(units: int, kind: type[np.floating[Any]]) -> float:
    """γ of the module's introduction; at most 1, where the bounds say nothing."""
    roundings = (units + _ROUNDINGS) * float(np.finfo(kind).eps) / 2
    return min(1.0, roundings / (1 - roundings)) if roundings < 1 else 1.0


def _many_near(some: Float64[np.ndarray, "some units"]) -> bool:
    """Whether float32 says nothing, or as good as nothing, about the distances of many of these points."""
    squares = np.einsum("ij,ij->i", some, some)
    both = squares[:, None] + squares
    near = both - 2 * some @ some.T < 4 * _relative_error(some.shape[1], np.float32) * both
    return bool(near.sum() - near.trace() > _TOO_NEAR * near.size)


def _on(rows: Rows, tensor: Any) -> Any:
    """What indexes ``tensor`` where it lies."""
    if isinstance(rows, slice):
        return rows
    import torch

    return torch.from_numpy(rows).to(tensor.device)


def not_finite(x: Float[np.ndarray, "n units"]) -> int | None:
    """The first row that holds NaN or infinity, if one does."""
    for at in _parts(len(x), x.itemsize * x.shape[1]):
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
    factors = np.random.default_rng(0).integers(0, 1 << 64, -(-row_bytes // 8), dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(x), dtype=np.uint64)
    parts = _parts(len(x), row_bytes)
    for at in parts:
        hashes[at] = (_as_words(x[at]) * factors).sum(axis=1)  # modulo 2⁶⁴
    first, kind = _first_of(hashes)
    equals = first[kind]
    for at in parts:
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
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[kind]
