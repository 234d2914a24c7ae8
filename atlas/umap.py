"""Points laid out in the plane so that neighbours stay neighbours: UMAP (McInnes, Healy & Melville 2018, arXiv
1802.03426) on nearest neighbours that are found here.

UMAP sees no point, only each one's nearest neighbours and a place to begin at. So codes are never unpacked but for a
block at a time, and Hamming distances are exact whole numbers of gates. It begins at the first two principal
components, as far apart as the points are: from a random beginning the places of whole groups would mean nothing
(Kobak & Linderman 2021, doi 10.1038/s41587-020-00809-z).

Distances on a map are not distances: only which points are near each other is meant.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int64

from .clustering.hierarchy import Metric
from .clustering.limits import BLOCK_BYTES
from .codes import SplineCodes
from .devices import Device, chosen_device
from .errors import UsageError
from .progress import Progress
from .search.hamming_index import HammingIndex

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from .clustering.distances import Points

NEIGHBORS = 15
MIN_DIST = 0.1
"""Both are UMAP's defaults. It counts a point as its own neighbour; we don't, so it works with one more."""

EXACT_ACTIVATIONS = 20_000
"""More activations than this get their neighbours from `neighbor_graph`, whose lists are nearly all exact: all
n² distances of 100,000 vectors of 3,072 units take a quarter of an hour on two cores."""

FEW_POINTS, MANY_EPOCHS, FEW_EPOCHS = 10_000, 500, 200
"""Up to so many points are moved so often, more points less often: UMAP's own rule."""

_QUERIES = 1024  # points whose neighbours are looked for between two reports of progress
_SPREAD, _NOISE = 10.0, 1e-4  # of the beginning, as UMAP scales and shakes its own
_SKETCH, _PASSES = 8, 2  # directions and passes that find the first two components to well within the noise
_HALVINGS, _TOLERANCE = 64, 1e-5  # as UMAP looks for widths
_LEAST_WIDTH = 1e-3  # of one, as UMAP has it, a share of the mean distance
_BLOCK_NUMBERS = 1 << 24  # float32 held at once while components are found: 64 MB


@dataclass(frozen=True, eq=False)
class Layout:
    """``xy``: where each point lies. ``neighbors``, ``distances``: what it was laid out from, each point's nearest
    others, nearest first, in gates that differ or in Euclidean distance. ``proven``: share of the points whose
    neighbours are surely the nearest; 1 where all distances were computed. ``epochs``: how often points were moved.
    """

    xy: Float32[np.ndarray, "n 2"]
    neighbors: Int64[np.ndarray, "n k"]
    distances: Float64[np.ndarray, "n k"]
    proven: float
    epochs: int


def lay_out(
    points: SplineCodes | Float32[np.ndarray, "n units"],
    *,
    metric: Metric | None = None,
    neighbors: int = NEIGHBORS,
    min_dist: float = MIN_DIST,
    seed: int = 0,
    device: Device = "auto",
    progress: Progress | None = None,
) -> Layout:
    """Lay out codes by their Hamming distance (``metric`` may say "jaccard"), or activations by their Euclidean one.

    ``neighbors``: others of each that it is to stay near. ``min_dist``: how close points may lie on the map.
    ``device``: where neighbours are looked for; the answer does not depend on it for codes. The same seed gives the
    same layout on the same machine. ``progress`` is told (done, total), and may raise to stop.

    Raises `UsageError` for impossible parameters and too few points, `NonFinite` for NaN and infinity.
    """
    _check(len(points), neighbors, min_dist, seed)
    n = len(points)

    def tell(share: float) -> None:
        if progress is not None:
            progress(round(share * n), 2 * n)

    tell(0.0)
    if isinstance(points, SplineCodes) and metric == "jaccard":
        near, distances, proven = _near_by_jaccard(points, neighbors, device, tell)
    elif isinstance(points, SplineCodes):
        near, distances, proven = _near_codes(points, neighbors, device, tell)
    else:
        near, distances, proven = _near_activations(points, neighbors, seed, device, tell)
    start = _beginning(_rows_of(points), n, _width(points), seed)
    epochs = MANY_EPOCHS if n <= FEW_POINTS else FEW_EPOCHS
    xy = _umap(near, distances, start, min_dist, seed, epochs, lambda done: tell(1 + done / epochs))
    return Layout(xy, near, distances, proven, epochs)


def _check(n: int, neighbors: int, min_dist: float, seed: int) -> None:
    if isinstance(neighbors, bool) or not isinstance(neighbors, int) or neighbors < 2:
        raise UsageError(f"neighbors is {neighbors!r}; expected a whole number of at least 2")
    if n <= neighbors:
        raise UsageError(
            f"{neighbors} neighbours of each were asked for, but there are {n} examples, so at most {n - 1} others: "
            "ask for fewer neighbors" + ("" if n > 2 else ", of at least 3 examples")
        )
    if not 0 <= min_dist <= 1:
        raise UsageError(f"min_dist is {min_dist!r}; expected a number from 0 to 1")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 32:
        raise UsageError(f"seed is {seed!r}; expected a whole number from 0 to {(1 << 32) - 1}")


# --- neighbours ------------------------------------------------------------------------------------------------

Near = tuple[Int64[np.ndarray, "n k"], Float64[np.ndarray, "n k"], float]
"""Others, nearest first, their distances, and the share of points for which these are proven to be the nearest."""

Tell = Callable[[float], None]
"""Told what share of the neighbours is found, 0 to 1, and up to 2 with the layout."""


def _near_codes(codes: SplineCodes, k: int, device: Device, tell: Tell) -> Near:
    """Exact, in order of (distance, place)."""
    n = len(codes)
    index = HammingIndex.build(codes, np.arange(n), "")
    near, distances = np.empty((n, k), np.int64), np.empty((n, k))
    for start in range(0, n, _QUERIES):
        rows = slice(start, min(start + _QUERIES, n))
        near[rows], distances[rows] = index.others(np.arange(rows.start, rows.stop), k, device=device)
        tell(rows.stop / n)
    return near, distances, 1.0


def _near_activations(x: Float32[np.ndarray, "n units"], k: int, seed: int, device: Device, tell: Tell) -> Near:
    from .clustering.distances import Activations  # Numba takes half a second

    n = len(x)
    copies = 2 if n > EXACT_ACTIVATIONS else 1  # the neighbour graph orders them anew
    points = Activations.of(x, chosen_device(device, Activations.device_bytes(*x.shape, copies=copies)))
    if n > EXACT_ACTIVATIONS:
        from .clustering.neighbor_graph import neighbor_graph

        graph = neighbor_graph(points, k, seed=seed, progress=lambda done, _: tell(done / n))
        return graph.neighbors, graph.distances, float((graph.distances[:, -1] <= graph.bound).mean())
    return _near_by_all(points, k, tell)


def _near_by_jaccard(codes: SplineCodes, k: int, device: Device, tell: Tell) -> Near:
    """Exact, in order of (distance, place), on the processor."""
    from .clustering.jaccard import JaccardCodes
    from .clustering.limits import check_metric

    check_metric("jaccard", device=device)
    return _near_by_all(JaccardCodes.of(codes), k, tell)


def _near_by_all(points: Points, k: int, tell: Tell) -> Near:
    """From all distances."""
    from .clustering.kernels import keep_nearest

    n = len(points)
    near, distances = np.full((n, k), -1), np.full((n, k), np.inf)
    everyone, step = np.arange(n), max(1, min(_QUERIES, BLOCK_BYTES // (8 * n)))
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        keep_nearest(points.between(rows, slice(0, n)), everyone[rows], everyone, distances[rows], near[rows])
        tell(rows.stop / n)
    return near, distances, 1.0


# --- where it begins -------------------------------------------------------------------------------------------

Rows = Callable[[slice], Float32[np.ndarray, "rows width"]]


def _rows_of(points: SplineCodes | np.ndarray) -> Rows:
    if isinstance(points, SplineCodes):
        return lambda rows: points[rows].unpack().astype(np.float32)
    return lambda rows: points[rows]


def _width(points: SplineCodes | np.ndarray) -> int:
    return points.n_bits if isinstance(points, SplineCodes) else int(points.shape[1])


def _beginning(rows: Rows, n: int, width: int, seed: int) -> Float32[np.ndarray, "n 2"]:
    """The first two principal components, scaled to ±10 and shaken by 0.0001.

    By subspace iteration (Halko, Martinsson & Tropp 2011) over blocks of rows: each pass multiplies a basis of a few
    directions by the covariance, which turns it towards the leading ones. scikit-learn's IncrementalPCA takes a
    singular value decomposition of every block instead, and forgets what its components don't hold. Rounded before it
    is shaken: that threads add up in another order moves no point.
    """
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK_NUMBERS // width)
    blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]
    mean = (sum(rows(block).sum(axis=0, dtype=np.float64) for block in blocks) / n).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((width, min(_SKETCH, width, n)), dtype=np.float32))[0]
    for _ in range(_PASSES):
        image = np.zeros(basis.shape, np.float64)
        for block in blocks:
            centred = rows(block) - mean
            image += centred.T @ (centred @ basis)
        basis = np.linalg.qr(image)[0].astype(np.float32)
    sketch = np.concatenate([(rows(block) - mean) @ basis for block in blocks]).astype(np.float64)
    left, lengths, _ = np.linalg.svd(sketch, full_matrices=False)
    xy = np.zeros((n, 2))
    xy[:, : min(2, len(lengths))] = (left * lengths)[:, :2]
    xy *= np.where(xy[np.abs(xy).argmax(axis=0), [0, 1]] < 0, -1.0, 1.0)  # its farthest is positive
    if (widest := float(np.abs(xy).max())) > 0:  # 0 where all points are equal
        xy *= _SPREAD / widest
    return (xy.round(3) + rng.normal(scale=_NOISE, size=(n, 2))).astype(np.float32)


# --- UMAP ------------------------------------------------------------------------------------------------------


def _fuzzy_graph(near: Int64[np.ndarray, "n k"], distances: Float64[np.ndarray, "n k"]) -> csr_matrix:
    """How strongly points are joined: UMAP's fuzzy simplicial set, for which Numba compiles UMAP's own for 7 s.

    A point is joined to a neighbour at distance d by exp(-(d - rho) / width), where rho is its least distance above 0
    and the width such that its k neighbours make log2(k + 1). Joined by a and b in turn, two points make a + b - ab.
    """
    from scipy.sparse import csr_matrix

    n, k = near.shape
    distances = distances.astype(np.float32)
    rho = np.where(distances > 0, distances, np.inf).min(axis=1)
    rho[np.isinf(rho)] = 0
    beyond = np.maximum(distances - rho[:, None], 0).astype(np.float64)
    low, width, high = np.zeros(n), np.ones(n), np.full(n, np.inf)
    for _ in range(_HALVINGS):
        surplus = np.exp(-beyond / width[:, None]).sum(axis=1) - np.log2(k + 1)
        wide, narrow = surplus >= _TOLERANCE, surplus <= -_TOLERANCE
        high[wide], low[narrow] = width[wide], width[narrow]
        width = np.where(wide | narrow, np.where(np.isinf(high), 2 * width, (low + high) / 2), width)
    means = distances.sum(axis=1, dtype=np.float64) / (k + 1)  # the point itself counts among its neighbours
    width = np.maximum(width, _LEAST_WIDTH * np.where(rho > 0, means, means.mean()))
    joined = np.exp(-beyond / width[:, None]).astype(np.float32)
    graph = csr_matrix((joined.ravel(), near.ravel(), np.arange(0, n * k + 1, k)), shape=(n, n))
    return graph + graph.T - graph.multiply(graph.T)


def _umap(
    near: Int64[np.ndarray, "n k"],
    distances: Float64[np.ndarray, "n k"],
    start: Float32[np.ndarray, "n 2"],
    min_dist: float,
    seed: int,
    epochs: int,
    tell: Callable[[int], None],
) -> Float32[np.ndarray, "n 2"]:
    from umap.umap_ import find_ab_params, simplicial_set_embedding

    graph = _fuzzy_graph(near, distances)
    random = np.random.RandomState(seed)  # the kind that UMAP draws from
    a, b = find_ab_params(1.0, min_dist)
    told = {"disable": False, "file": _Epochs(tell), "bar_format": "{n}", "mininterval": 0, "miniters": 1}
    placed: Float[np.ndarray, "n 2"] = simplicial_set_embedding(
        None,
        graph,
        2,
        1.0,
        a,
        b,
        1.0,
        5,
        epochs,
        start,
        random,
        "precomputed",
        {},
        False,
        {},
        False,
        parallel=False,
        tqdm_kwds={**told, "leave": False},
    )[0]
    return placed.astype(np.float32)


class _Epochs:
    """The file that UMAP writes its bar to, the one place where it tells how far it is: here the bar is a number."""

    def __init__(self, tell: Callable[[int], None]) -> None:
        self._tell = tell

    def write(self, bar: str) -> Any:
        if found := re.search(r"\d+", bar):
            self._tell(int(found.group()))

    def flush(self) -> None:
        return
