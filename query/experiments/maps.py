"""Affine maps of polytopes: A = ∂F/∂y and b = F(x) − A·x, row by row (SCIENCE 7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64

from atlas import SplineCodes
from atlas.network import Site
from atlas.tails import PiecewiseLinearTail, Tail

from ..examples.live import Live
from ..polytope.crossings import span_codes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Cotangents:
    """Rows v of the space of logits: for each, vᵀA is a row of the map, or of its image under random v."""

    rows: Float64[np.ndarray, "rows outputs"] | None
    n_outputs: int

    @property
    def identity(self) -> bool:
        """Whether they are the unit vectors, so that vᵀA are the rows of A themselves."""
        return self.rows is None

    def __len__(self) -> int:
        return self.n_outputs if self.rows is None else len(self.rows)

    def some(self, first: int, last: int) -> Float64[np.ndarray, "rows outputs"]:
        """Rows first to last, last excluded."""
        if self.rows is not None:
            return self.rows[first:last]
        return np.eye(last - first, self.n_outputs, first)


def pull_back(
    tail: Tail, point: Float[np.ndarray, " units"], cotangents: Float64[np.ndarray, "rows outputs"]
) -> Float64[np.ndarray, "rows units"]:
    """vᵀA for each row v, A = ∂F/∂y at the point: by autograd, a batch at a time."""
    import torch

    rows = np.empty((len(cotangents), tail.site.n_units))
    for first in range(0, len(cotangents), tail.batch):
        batch = torch.from_numpy(cotangents[first : first + tail.batch]).to(tail.device, tail.dtype)
        copies = _tensor(tail, point).expand(len(batch), -1).clone().requires_grad_()
        with torch.enable_grad():
            [gradient] = torch.autograd.grad(tail.logits(copies), copies, batch)
        rows[first : first + tail.batch] = gradient.double().cpu().numpy()
    return rows


def logits_at(tail: Tail, points: np.ndarray) -> Float64[np.ndarray, "points outputs"]:
    """F at some points, in the precision of the tail."""
    import torch

    found = []
    with torch.no_grad():
        for first in range(0, len(points), tail.batch):
            found.append(tail.logits(_tensor(tail, points[first : first + tail.batch])).double().cpu().numpy())
    return np.concatenate(found)


def log_softmax(logits: Float[np.ndarray, "points outputs"]) -> Float64[np.ndarray, "points outputs"]:
    """Logarithms of probabilities, in double precision."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: Float64[np.ndarray, "points outputs"] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found


def affine_map(
    tail: Tail, point: Float[np.ndarray, " units"]
) -> tuple[Float64[np.ndarray, "outputs units"], Float64[np.ndarray, " outputs"]]:
    """A and b of the polytope of a point: A = ∂F/∂y, b = F(x) − A·x."""
    slope = pull_back(tail, point, np.eye(tail.n_outputs))
    return slope, logits_at(tail, point[None])[0] - slope @ point.astype(np.float64)


@dataclass(frozen=True, eq=False)
class AffineMap:
    """What a network is on the polytope of an example: F(y) = A·y + b, from the activation at a site to the logits.

    ``slope``: A. ``offset``: b. ``point``: the example's activation x. ``outputs``: what each output stands for.
    """

    slope: Float64[np.ndarray, "outputs units"]
    offset: Float64[np.ndarray, " outputs"]
    point: Float64[np.ndarray, " units"]
    outputs: tuple[str, ...]

    def __call__(self, points: Float[np.ndarray, "points units"]) -> Float64[np.ndarray, "points outputs"]:
        """A·y + b, a row a point: the logits wherever y lies in the polytope."""
        found: Float64[np.ndarray, "points outputs"] = points.astype(np.float64) @ self.slope.T + self.offset
        return found


def _tensor(tail: Tail, points: np.ndarray) -> Tensor:
    import torch

    return torch.from_numpy(np.atleast_2d(points)).to(tail.device, tail.dtype)


class PreciseTails:
    """The tail of each example, in double precision where it is piecewise linear; made once for all images."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self._made: tuple[Tail, Tail] | None = None

    def of(self, example: int) -> Tail:
        tail = self.live.tail(example)
        if self._made is None or self._made[0] is not tail:
            # One at a time: every token of a language model has a tail of its own.
            self._made = tail, tail.precise() if isinstance(tail, PiecewiseLinearTail) else tail
        return self._made[1]

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.live.place.sites


def state_at(tail: Tail, point: np.ndarray, sites: tuple[Site, ...]) -> tuple[SplineCodes | None, np.ndarray]:
    """Code and pooling switches at a point; no code after the last site."""
    reading = tail.read(_tensor(tail, point), sites, switches=True)
    assert reading.switches is not None
    return span_codes(reading, sites) if sites else None, reading.switches
