"""The nearest boundaries of the polytope that a point lies in, and how far they are (SCIENCE 14).

    d_j(x) = m_j(x) / ‖g_j‖₂        the distance of boundary j, ∞ where g_j = 0
    r(x) = min_j d_j(x)             the inradius at x: of the largest ball around x inside the polytope
    y = x − (d_j + ε) g_j/‖g_j‖     just across boundary j

Which boundaries are nearest is decided in double precision: they are gone through in the order of a lower bound of
their distance, from lengths in single precision, until the next one can't be nearer than the k found.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float64, Int64
from PIL import Image

from atlas import Atlas, Network, hamming
from atlas.checks import whole
from atlas.tails import Tail

from ..examples.live_inputs import Numbers
from ..notebook import Shown
from ..pairs.density import euclidean
from ..progress import Progress, part
from .crossings import Told, span_codes
from .margins import ROWS, Margins, margins_at, only_growing
from .names import names_of
from .points import Point, point_at
from .roots import BEYOND, met_along

NEAREST = 10
"""Boundaries that are listed unless asked otherwise."""

SLACK = 1e-3
"""Share by which a length may be off that was computed in single precision: a hundred times what was ever seen."""

SKETCHED_SLACK = 0.3
"""The same where it was estimated: `missed` says how probable more is."""

TIED = 1e-12
"""Share of ‖x‖ nearer than which x lies on a boundary: double precision does not tell it from 0."""

SAME = 1e-9
"""Share of a distance within which boundaries are met at one place."""

ACROSS = 1e-8
"""Share of ‖x‖ by which a point is put across a boundary, or half the way to the next one if that is less."""

SKETCH = 256
"""Directions that lengths are estimated from where they are not summed up over all units."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """Boundaries that x does not lie on, in order of distance: numbers among the margins, distances, gradients.

    ``tied``: the boundaries that x lies on. ``missed``: a bound on the probability that one of the k nearest is not
    among them; 0 unless lengths were estimated.
    """

    numbers: Int64[np.ndarray, " k"]
    distances: Float64[np.ndarray, " k"]
    gradients: Float64[np.ndarray, "k units"]
    tied: Int64[np.ndarray, " tied"]
    missed: float


def nearest_boundaries(
    margins: Margins,
    k: int,
    *,
    grow: Bool[np.ndarray, " units"] | None = None,
    sketch: int | None = None,
    seed: int = 0,
    told: Told = lambda share: None,
) -> Nearest:
    """The k nearest boundaries that a point does not lie on, or all if there are fewer.

    ``grow``: units that can only grow on the way. ``sketch``: estimate lengths from so many Gaussian directions, to
    find out which boundaries to look at; distances are exact anyway.
    """
    growing = np.zeros(len(margins.point), bool) if grow is None else grow
    lengths = margins.lengths(growing, told, sketch, seed)
    touching = TIED * np.linalg.norm(margins.point)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.where(lengths > 0, margins.values / lengths, np.inf) * (1 - (SKETCHED_SLACK if sketch else SLACK))
    tied = bound <= touching
    bound[tied] = np.inf
    order = np.argsort(bound, kind="stable")
    order = order[np.isfinite(bound[order])]
    numbers, distances = np.empty(0, np.int64), np.empty(0)
    gradients = np.empty((0, len(margins.point)))
    for first in range(0, len(order), ROWS):
        if len(distances) >= k and bound[order[first]] > distances[k - 1]:
            break
        some = order[first : first + ROWS]
        rows = only_growing(margins.gradients(some), growing)
        with np.errstate(divide="ignore"):
            exact = margins.values[some] / np.linalg.norm(rows, axis=1)
        numbers, distances = np.append(numbers, some), np.append(distances, exact)
        best = np.lexsort([numbers, distances])[:k]
        gradients = np.concatenate([gradients, rows])[best]
        numbers, distances = numbers[best], distances[best]
    return Nearest(numbers, distances, gradients, np.flatnonzero(tied), _missed(len(lengths), sketch))


def sketched(margins: Margins, sketch: int | None) -> int | None:
    """The directions of a sketch that were asked for (0: none), or those that the margins are better looked at with;
    None where all lengths are summed up. `UsageError` for an impossible number."""
    if sketch is not None:
        whole("sketch", sketch, 0)
    if not margins.exact or sketch == 0:
        return None
    return (SKETCH if margins.is_large else None) if sketch is None else sketch


def _missed(boundaries: int, sketch: int | None) -> float:
    """Of S Gaussian directions Σ(g·v)²/‖g‖² is χ² with S degrees of freedom: how probably one of all the lengths is
    estimated lower than `SKETCHED_SLACK` allows for (union bound)."""
    if not sketch:
        return 0.0
    from scipy.stats import chi2

    return min(1.0, boundaries * float(chi2.cdf(sketch * (1 - SKETCHED_SLACK) ** 2, sketch)))


@dataclass(frozen=True, eq=False)
class Across:
    """What lies beyond some boundaries on the shortest way to each.

    ``met``: how far the boundary is met on that way. It is its distance, unless x lies on a boundary too: then the
    way leads into another polytope at once. ``facet``: no other boundary is met before, which proves that it bounds
    the polytope. ``points``: just across. ``together``: boundaries met up to there, itself included; of a smooth
    network itself alone, ``met`` is NaN where it does not flip, and nothing is proven.
    """

    met: Float64[np.ndarray, " k"]
    facet: Bool[np.ndarray, " k"]
    points: Float64[np.ndarray, "k units"]
    together: tuple[Int64[np.ndarray, " _"], ...]


def across(margins: Margins, nearest: Nearest) -> Across:
    """Walk to each boundary and step across it; of a smooth network, to where its gate flips, by root search."""
    steps = -nearest.gradients / np.linalg.norm(nearest.gradients, axis=1, keepdims=True)
    if not margins.exact:
        found = met_along(margins, nearest.numbers, steps, nearest.distances)
        ways = np.where(np.isnan(found), nearest.distances, found) * (1 + BEYOND)
        points = margins.point + ways[:, None] * steps
        return Across(found, np.zeros(len(found), bool), points, tuple(nearest.numbers[:, None]))
    near = ACROSS * np.linalg.norm(margins.point)
    times_met, facet, beyond_each, together = [], [], [], []
    for rates, step, number in zip(margins.rates(steps, precise=True), steps, nearest.numbers, strict=True):
        times = times_to(margins, rates)
        here = times <= times[number] * (1 + SAME)
        beyond = times[~here].min(initial=np.inf)
        way = times[number] + min((beyond - times[number]) / 2, near or times[number])
        times_met.append(times[number])
        facet.append(bool((times >= times[number] * (1 - SAME)).all()))
        beyond_each.append(margins.point + way * step)
        together.append(np.flatnonzero(here))
    return Across(
        np.array(times_met), np.array(facet, bool), np.array(beyond_each).reshape(steps.shape), tuple(together)
    )


def times_to(
    margins: Margins, rates: Float64[np.ndarray, "*rays boundaries"]
) -> Float64[np.ndarray, "*rays boundaries"]:
    """How far along a direction each boundary is met, t = m_j(x) / −g_j·v; ∞ where the direction leads away from it,
    or x lies on it."""
    tied = margins.values <= TIED * np.linalg.norm(margins.point) * np.abs(rates)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((rates < 0) & ~tied, margins.values / -rates, np.inf)


# --- the question ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Boundaries(Shown):
    """The nearest boundaries of the polytope that a subject lies in.

    network, span, subject, example: what was asked; ``example`` is None for an input that is read.
    n_gates, n_pairs: boundaries that there are: gates of the span, and pairs of inputs of pooling windows.
    tied: boundaries that x lies on, at distance 0.
    norm: ‖x‖₂. inradius: distance of the nearest boundary that x does not lie on. relative: over ‖x‖.
    neighbor, to_neighbor, of_neighbor: the stored example whose activation is nearest, its Euclidean distance, and
        the inradius over that; None where no other activation is stored.
    exact: whether the network is affine inside these boundaries; else they are those of its linearisation at x.
    method: how the nearest were found. missed: bound on the probability that a nearer one was not; 0 unless sketched.
    remark: what belongs beside the numbers.
    table: a row a boundary: rank, distance, kind (gate or pooling), site, gate, module, channel, row, column,
        other_row, other_column (of pooling: the input taken, and the other); met: how far the network itself meets it
        on the shortest way, which differs from the distance where x lies on a boundary too, and for a smooth network
        (by root search, NaN where the gate does not flip within twice the distance); facet: whether it is proven to
        bound the polytope, as nothing is met before (None for a smooth network); flips: gates in which the code just
        across differs, by the forward pass; verified: whether those are exactly the gates met on the way, of a facet
        its own; for a smooth network, whether its gate is among them.
    """

    network: str
    span: str
    subject: str
    example: int | None
    n_gates: int
    n_pairs: int
    tied: int
    norm: float
    inradius: float
    relative: float
    neighbor: int | None
    to_neighbor: float | None
    of_neighbor: float | None
    exact: bool
    method: str
    missed: float
    remark: str
    table: pd.DataFrame


def boundaries(
    atlas: Atlas,
    *,
    reader: Network,
    span: str,
    example: int | None = None,
    text: str | None = None,
    token: int | None = None,
    image: str | Path | Image.Image | None = None,
    vector: Numbers | None = None,
    k: int = NEAREST,
    proper: bool = True,
    orthant: bool = False,
    sketch: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Boundaries:
    """The nearest boundaries of the polytope that an example, a text's token, an image or a vector lies in.

        d_j(x) = |z_j(x)| / ‖∂z_j/∂x‖₂,    (û_i* − û_i) / ‖∇û_i* − ∇û_i‖₂ for max-pooling        (SCIENCE 14)

    x is the activation at the start of the span. Distances are exact, in double precision, for a piecewise linear
    network; the polytope is that of the whole space, parts of which no input may reach.

    Args:
        atlas: an open atlas.
        reader: the network itself, with the weights of the atlas.
        span: ``AFTER->TO``: the space of AFTER is cut by the gates after it up to TO, and by pooling among them.
        example: id of a stored example. Exactly one of example, text, image and vector is given.
        text: a text that need not be ingested.
        token: which of its tokens: from 0, or negative from the end; the last by default.
        image: a file or an image of mode L or RGB.
        vector: as many numbers as the network reads.
        k: how many boundaries.
        proper: leave out the boundaries that x lies on, at distance 0, such as those of tied inputs of a window; they
            are counted anyway.
        orthant: the distances on ways along which units that are 0 can only grow, as activations of ReLU do.
        sketch: estimate ‖g_j‖ from so many random directions to find the nearest; 0: one direction a unit, which
            misses none. Their distances are exact all the same. By default 0 where that takes seconds, else 256.
        seed: of the directions of a sketch.
        progress: called with (steps done, steps in all).

    Returns:
        `Boundaries`.

    Raises:
        UsageError: for none or several of example, text, image and vector, k below 1, a span without gates, a
            network that can't be run from a site.
        UnknownName: for an example or site that is not there.
        NotStored: for an activation that is neither stored nor can be read again.
        WeightsError: for a reader that is not the network of the atlas.
        NonFinite: for an activation with NaN or infinity.
    """
    k = whole("k", k)
    point = point_at(atlas, reader, span, example=example, text=text, token=token, image=image, vector=vector)
    margins = margins_at(point.tail, point.place.sites, point.activation)
    sketch = sketched(margins, sketch)
    grow = margins.point == 0 if orthant else None
    told = part(progress, 0, 1)
    nearest = nearest_boundaries(margins, k, grow=grow, sketch=sketch, seed=seed, told=told)
    told(1.0)
    neighbor, away = _nearest_stored(atlas, point)
    inradius = float(nearest.distances.min(initial=np.inf))
    table = described(margins, nearest)
    if not proper:
        on = names_of(margins, nearest.tied[:k]).assign(distance=0.0)
        table = pd.concat([on, table], ignore_index=True)[table.columns].head(k)
        table["rank"] = np.arange(1, len(table) + 1)
    return Boundaries(
        network=point.live.owner.name,
        span=point.place.name,
        subject=point.name,
        example=point.example,
        n_gates=margins.n_gates,
        n_pairs=len(margins.values) - margins.n_gates,
        tied=len(nearest.tied),
        norm=point.norm,
        inradius=inradius,
        relative=inradius / point.norm if point.norm else np.inf,
        neighbor=neighbor,
        to_neighbor=away,
        of_neighbor=inradius / away if away else None,
        exact=margins.exact,
        method=f"sketch of {sketch} directions" if sketch else "all lengths",
        missed=nearest.missed,
        remark=_remark(point.tail, nearest, orthant),
        table=table,
    )


def described(margins: Margins, nearest: Nearest) -> pd.DataFrame:
    """The table of `Boundaries`: names, distances, and the check just across each boundary."""
    table = names_of(margins, nearest.numbers)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(1, "distance", nearest.distances)
    found = across(margins, nearest)
    flips, verified = crossed(margins, found)
    return table.assign(met=found.met, facet=found.facet if margins.exact else None, flips=flips, verified=verified)


def crossed(margins: Margins, found: Across) -> tuple[Int64[np.ndarray, " k"], Bool[np.ndarray, " k"]]:
    """By the forward pass, in double precision where that is exact: in how many gates the code at each point across
    differs, and whether those are the gates met there and no others; of pooling alone, whether a window took another
    input; of a smooth network, whether its gate is among them."""
    import torch

    flips, verified = [], []
    for point, met in zip(found.points, found.together, strict=True):
        both = torch.from_numpy(np.stack([margins.point, point]))
        reading = margins.precise.read(both, margins.sites, switches=True)
        codes = span_codes(reading, margins.sites)
        flips.append(int(hamming(codes[:1], codes[1:])[0]))
        changed = np.flatnonzero(np.logical_xor(*codes.unpack()))
        assert reading.switches is not None
        pooled = len(changed) > 0 or bool((reading.switches[0] != reading.switches[1]).any())
        same = np.array_equal(changed, met[met < margins.n_gates])
        verified.append(pooled and same if margins.exact else bool(np.isin(met, changed).all()))
    return np.array(flips, np.int64), np.array(verified, bool)


def _nearest_stored(atlas: Atlas, point: Point) -> tuple[int | None, float | None]:
    """The other stored example whose activation at the site is nearest, and its distance; of an image's positions,
    which share the whole tensor, none counts as another."""
    best: tuple[int | None, float | None] = None, None
    if point.live.stored is None:
        return best
    for ids, activations in atlas.activation_blocks(point.live.stored):
        away = euclidean(point.activation[None], activations)
        away[(ids == point.example) | (away == 0)] = np.inf
        nearest = int(away.argmin())
        if np.isfinite(away[nearest]) and (best[1] is None or away[nearest] < best[1]):
            best = int(ids[nearest]), float(away[nearest])
    return best


def _remark(tail: Tail, nearest: Nearest, orthant: bool) -> str:
    said = [tail.remark if tail.exact else f"distances are those of the linearisation at x; {tail.remark}"]
    if len(nearest.tied):
        said.append(f"x lies on {len(nearest.tied):,} boundaries (a preactivation of 0, or equal inputs of a window)")
    said.append(
        "units that are 0 can only grow on the way"
        if orthant
        else "the ball is one of the whole space, parts of which no input may reach"
    )
    return "; ".join(said)
