"""Blocks of distances between many points: packed codes by popcount, activations by matrix products.

On a CUDA device both are matrix products of torch. The numbers are the same: Hamming distances are whole and exact on
either, and an Euclidean distance is computed in float64 on either, again from a − b where cancellation would show.
"""

from __future__ import annotations

from ctypes.util import find_library
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped, UInt64

from .codes import SplineCodes
from .errors import NonFinite, UsageError
from .kernels import distances_from_products, hamming_columns, in_threads, slices, words

SAME = 1e-9  # relative: two routes to one distance differ by rounding only, by less than this
BLOCK_BYTES = 1 << 26  # of distances worked on at once; smaller blocks than 2**24 are slower, larger not faster

# A squared distance from ‖a‖² + ‖b‖² − 2a·b carries an error of up to about units · 2⁻⁵³ · (‖a‖² + ‖b‖²). Where it
# is less than this share of ‖a‖² + ‖b‖² it is computed again from a − b: at 3,072 units no relative error exceeds
# 1e-10.
_NEAR = 0.01
_STRIPE = 64  # codes compared with all others at once: 24 kB at 3,072 gates, which stay in the fastest cache
_EXACT_IN_BFLOAT16 = 256  # whole numbers up to here; a product over so many gates of ±1 is no larger

Device = Literal["auto", "cpu", "cuda"]
Rows = slice | Int64[np.ndarray, " rows"]


class Points(Protocol):
    """n points and the distances between them, computed when they are asked for."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the distances."""
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

    def take(self, rows: Int64[np.ndarray, " rows"]) -> Points:
        """Some of the points, in this order."""
        ...


def chosen_device(device: Device, n_bytes: int) -> str:
    """``cuda`` where it was asked for, or where "auto" finds one with room for ``n_bytes``; else ``cpu``.

    torch is only imported where there is a driver. Raises `UsageError` for another word, and for ``cuda`` where there
    is none or too little memory.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f'the device is "auto", "cpu" or "cuda", got "{device}"')
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
    return bool(find_library("cuda") or find_library("nvcuda"))


@dataclass(frozen=True, eq=False)
class Codes:
    """Spline codes under the Hamming distance, in gates."""

    packed: UInt64[np.ndarray, "n words"]
    n_bits: int
    owned: bool

    @classmethod
    def of(cls, codes: SplineCodes) -> Codes:
        packed = words(codes.packed)
        return cls(packed, codes.n_bits, not np.shares_memory(packed, codes.packed))

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
class TorchCodes:
    """`Codes` on a torch device: gates as ±1, of which a · b = gates − 2 · (gates that differ).

    The products are taken over 256 gates at a time, in bfloat16, which holds every number that can come out.
    """

    signs: Any  # Tensor "n gates", bfloat16
    n_bits: int

    @classmethod
    def of(cls, codes: SplineCodes, device: str) -> TorchCodes:
        import torch

        signs = torch.empty((len(codes), codes.n_bits), dtype=torch.bfloat16, device=device)
        for start in range(0, len(codes), 1 << 12):
            gates = torch.from_numpy(codes[start : start + (1 << 12)].unpack()).to(device)
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
    def device_bytes(n: int, n_bits: int) -> int:
        """What the signs of n codes and the blocks that are computed take on the device, generously."""
        return 2 * n * n_bits + 16 * BLOCK_BYTES

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
    """Activations under the Euclidean distance, computed in float64.

    ``centred``: moved by one of the points, so that no common offset drowns small distances. A point serves better
    than the mean: the difference of two float32 numbers is nearly always exact in float64, so equal distances stay
    equal. ``norms``: the squared norms of ``centred``. ``kind``: equal for equal rows of ``x``: their distance is 0
    without a look, for an input that repeats would be the slowest there is. ``on_device``: ``centred`` as a tensor
    where products are taken elsewhere than in NumPy.
    """

    x: Float[np.ndarray, "n units"]
    centred: Float64[np.ndarray, "n units"]
    norms: Float64[np.ndarray, " n"]
    kind: Int64[np.ndarray, " n"]
    on_device: Any = None

    @classmethod
    def of(cls, x: Float[np.ndarray, "n units"], device: str = "cpu", *, distinct: bool = False) -> Activations:
        """``distinct``: no two rows are known to be equal.

        Raises `UsageError` for no units, `NonFinite` for NaN, infinity and distances that overflow.
        """
        if x.shape[1] == 0:
            raise UsageError(f"activations need at least one unit, got an array of shape {x.shape}")
        points = x.astype(np.float64)
        if not np.isfinite(points).all():
            row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
            raise NonFinite(f"the activation in row {row} holds NaN or infinity; leave that example out")
        with np.errstate(over="ignore", invalid="ignore"):
            nearest_to_mean = np.einsum("ij,ij->i", points, points) - 2 * points @ points.mean(axis=0)
            points -= points[np.argmin(nearest_to_mean)]
            norms = np.einsum("ij,ij->i", points, points)
        if not norms.max() < np.finfo(np.float64).max / 4:  # ‖a − b‖² <= 2(‖a‖² + ‖b‖²)
            raise NonFinite("squared distances between the activations overflow float64; scale them down")
        on_device = None
        if device != "cpu":
            import torch

            on_device = torch.from_numpy(points).to(device)
        return cls(x, points, norms, np.arange(len(x)) if distinct else same_rows(x)[1], on_device)

    @staticmethod
    def device_bytes(n: int, units: int) -> int:
        """What n points and the blocks that are computed take on a device, generously."""
        return 8 * n * units + 16 * BLOCK_BYTES

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def n_bytes(self) -> int:
        return self.centred.nbytes

    def __len__(self) -> int:
        return len(self.norms)

    def take(self, rows: Int64[np.ndarray, " rows"]) -> Activations:
        on_device = None if self.on_device is None else self.on_device[_on(rows, self.on_device)]
        return Activations(self.x[rows], self.centred[rows], self.norms[rows], self.kind[rows], on_device)

    def between(
        self, rows: Rows, columns: Rows, out: Float64[np.ndarray, "rows columns"] | None = None
    ) -> Float64[np.ndarray, "rows columns"]:
        """‖a − b‖ by one matrix product, and again from the differences where cancellation would show."""
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

    def _products(self, rows: Rows, columns: Rows) -> Float64[np.ndarray, "rows columns"]:
        if self.on_device is None:
            return self.centred[rows] @ self.centred[columns].T
        a, b = (self.on_device[_on(which, self.on_device)] for which in (rows, columns))
        found: Float64[np.ndarray, "rows columns"] = (a @ b.T).cpu().numpy()
        return found


def _on(rows: Rows, tensor: Any) -> Any:
    """What indexes ``tensor`` where it lies."""
    if isinstance(rows, slice):
        return rows
    import torch

    return torch.from_numpy(rows).to(tensor.device)


def same_rows(x: Shaped[np.ndarray, "n width"]) -> tuple[Int64[np.ndarray, " kinds"], Int64[np.ndarray, " n"]]:
    """Rows compared byte by byte: the first row of each kind, in order, and the kind of every row.

    Rows are sorted by a hash, which is much faster than by themselves; then equal hashes are seen to be equal rows.
    """
    contiguous = np.ascontiguousarray(x)
    as_words = words(contiguous.view(np.uint8).reshape(len(x), -1))
    factors = np.random.default_rng(0).integers(0, 1 << 64, as_words.shape[1], dtype=np.uint64) | np.uint64(1)
    hashes = np.empty(len(x), dtype=np.uint64)
    step = max(1, BLOCK_BYTES // (8 * as_words.shape[1]))
    for start in range(0, len(x), step):
        hashes[start : start + step] = (as_words[start : start + step] * factors).sum(axis=1)  # modulo 2⁶⁴
    first, kind = _first_of(hashes)
    equals = first[kind]
    for start in range(0, len(x), step):
        if (as_words[start : start + step] != as_words[equals[start : start + step]]).any():  # as good as never
            return _first_of(contiguous.view(np.dtype((np.void, x.itemsize * x.shape[1])))[:, 0])
    return first, kind


def _first_of(keys: Shaped[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " kinds"], Int64[np.ndarray, " n"]]:
    _, first, kind = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[kind]
