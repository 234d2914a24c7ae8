"""Where rays from a point leave its polytope (SCIENCE 14).

    t_v = min over j of m_j(x) / −g_j·v, where g_j·v < 0,    ‖v‖₂ = 1

The boundary that a ray meets first is a facet of the polytope, found without a linear program. Uniform directions
give the share of the sphere around x that each facet takes up. It takes one forward-mode pass a direction; where two
boundaries come close to being first, another in double precision decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from PIL import Image

from atlas import Atlas, Network
from atlas.checks import whole
from atlas.errors import NotStored, UsageError

from ..clustering.clusters import clustering_with
from ..examples.labels import drawn
from ..examples.live import labels_of_examples
from ..examples.live_inputs import Numbers
from ..notebook import Shown
from ..progress import Progress, part
from ..statistics import share_interval
from .boundaries import SLACK, times_to
from .crossings import Told
from .directions import named_direction
from .margins import Margins, margins_at
from .names import names_of
from .points import Point, point_at
from .roots import met_along

TOWARDS = "uniform, same, other, example:ID, medoid:CLUSTERING:CLUSTER, random:SEED, unit:NUMBER or METHOD:COMPONENT"
"""What rays may go towards."""

FEW = 64
"""Rays up to which all is computed in double precision; of more, distances are good to 1e-6 of themselves."""

GROUPS = (("kind",), ("kind", "site"), ("kind", "site", "gate", "module", "channel", "row", "column"))
"""By what exits are counted: gates or pooling, sites, facets."""


@dataclass(frozen=True, eq=False)
class Exits(Shown):
    """Where rays from a subject leave its polytope.

    network, span, subject, example, exact, remark: as in `Boundaries`. towards: where the rays go.
    median: of the distance at which they leave, ∞ where most never do.
    table: a row a ray: distance (∞ where it never leaves); met: how far the network itself meets that boundary, which
        differs for a smooth one (by root search, NaN where the gate does not flip within twice the distance); kind,
        site, gate, module, channel, row, column, other_row, other_column of its facet; and of rays towards examples:
        to (the example's id), label, away (its distance).
    shares: a row a kind, a site and a facet: by (what is counted), these columns, share of the rays that leave there,
        share_low, share_high (Wilson's interval), n (rays).
    """

    network: str
    span: str
    subject: str
    example: int | None
    towards: str
    median: float
    exact: bool
    remark: str
    table: pd.DataFrame
    shares: pd.DataFrame


def exits(
    atlas: Atlas,
    *,
    reader: Network,
    span: str,
    example: int | None = None,
    text: str | None = None,
    token: int | None = None,
    image: str | Path | Image.Image | None = None,
    vector: Numbers | None = None,
    directions: int = 1000,
    towards: str = "uniform",
    orthant: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Exits:
    """Where rays from an example, a text's token, an image or a vector leave its polytope, and through which facets.

        t_v = min over j of m_j(x) / −g_j·v, where g_j·v < 0        (SCIENCE 14)

    Boundaries that x lies on are left out: a ray that leads across one is followed further.

    Args:
        atlas: an open atlas.
        reader: the network itself, with the weights of the atlas.
        span: ``AFTER->TO``, as `boundaries` has it.
        example: id of a stored example. Exactly one of example, text, image and vector is given.
        text: a text that need not be ingested.
        token: which of its tokens: from 0, or negative from the end; the last by default.
        image: a file or an image of mode L or RGB.
        vector: as many numbers as the network reads.
        directions: how many rays, where they are drawn: uniform directions, examples.
        towards: ``uniform``; stored examples of the ``same`` label or of ``other`` ones; ``example:ID``; the medoid
            of a cluster, ``medoid:CLUSTERING:CLUSTER``; ``random:SEED``, ``unit:NUMBER``, or a stored direction such
            as ``pca:0``, each of these as it is and turned round.
        orthant: uniform directions along which units that are 0 grow.
        seed: of what is drawn.
        progress: called with (steps done, steps in all).

    Returns:
        `Exits`.

    Raises:
        UsageError: for an impossible argument, a direction of length 0, a label asked for that is not known.
        UnknownName: for an example, site, unit or cluster that is not there.
        NotStored: for an activation or a direction that is not stored.
        WeightsError: for a reader that is not the network of the atlas.
        NonFinite: for an activation with NaN or infinity.
    """
    whole("directions", directions)
    point = point_at(atlas, reader, span, example=example, text=text, token=token, image=image, vector=vector)
    rays = None if towards == "uniform" else _rays(atlas, point, towards, directions, orthant, seed)
    margins = margins_at(point.tail, point.place.sites, point.activation)
    told = part(progress, 0, 1)
    found = []
    for first, some in _batches(margins, rays, directions, orthant, np.random.default_rng([seed, 15])):
        told(first / (directions if rays is None else len(rays.directions)))
        numbers, distances = first_exits(margins, some)
        met = distances if margins.exact else met_along(margins, numbers, some, distances)
        found.append((numbers, distances, met))
    told(1.0)
    numbers, distances, met = (np.concatenate(column) for column in zip(*found, strict=True))
    table = _table(margins, numbers, distances, met, rays)
    return Exits(
        network=point.live.owner.name,
        span=point.place.name,
        subject=point.name,
        example=point.example,
        towards=towards,
        median=float(np.median(distances)),
        exact=margins.exact,
        remark=point.tail.remark,
        table=table,
        shares=shares_of(table),
    )


def first_exits(
    margins: Margins, directions: Float64[np.ndarray, "rays units"], told: Told = lambda share: None
) -> tuple[Int64[np.ndarray, " rays"], Float64[np.ndarray, " rays"]]:
    """The number of the boundary that each ray of a direction of length 1 meets first, −1 for none, and how far."""
    numbers, distances = np.full(len(directions), -1), np.full(len(directions), np.inf)
    all_precise = len(directions) <= FEW
    for first in range(0, len(directions), margins.at_once):
        told(first / len(directions))
        some = directions[first : first + margins.at_once]
        times = times_to(margins, margins.rates(some, precise=all_precise))
        near = times <= times.min(axis=1, keepdims=True) * (1 + SLACK)
        close = np.flatnonzero((near & np.isfinite(times)).sum(axis=1) > 1)
        if len(close) and not all_precise:
            times[close] = times_to(margins, margins.rates(some[close], precise=True))
        best = times.argmin(axis=1)
        distances[first : first + len(some)] = times.min(axis=1)
        numbers[first : first + len(some)] = np.where(np.isfinite(times.min(axis=1)), best, -1)
    return numbers, distances


def _batches(
    margins: Margins, rays: _Rays | None, n: int, orthant: bool, rng: np.random.Generator
) -> Iterator[tuple[int, Float64[np.ndarray, "some units"]]]:
    """The rays, or as many uniform directions, with the number of the first; as few as `first_exits` looks at in one
    go, so that no more are held."""
    total = n if rays is None else len(rays.directions)
    grow = margins.point == 0 if orthant else None
    for first in range(0, total, max(margins.at_once, FEW + 1)):
        count = min(max(margins.at_once, FEW + 1), total - first)
        if rays is None:
            yield first, uniform_directions(rng, count, len(margins.point), grow)
        else:
            yield first, rays.directions[first : first + count]


def shares_of(table: pd.DataFrame) -> pd.DataFrame:
    """The share of rays that leave by kind, by site and by facet, with Wilson's interval."""
    found = []
    for by, group in zip(("kind", "site", "facet"), GROUPS, strict=True):
        counted = table.groupby(list(group), dropna=False, sort=False).size().rename("rays").reset_index()
        counted = counted[counted["kind"].notna()].sort_values("rays", ascending=False, kind="stable")
        intervals = [share_interval(int(rays), len(table)).columns("share") for rays in counted["rays"]]
        found.append(pd.concat([counted.reset_index(drop=True), pd.DataFrame(intervals)], axis=1).assign(by=by))
    columns = ["by", *GROUPS[-1], "share", "share_low", "share_high"]
    return pd.concat(found, ignore_index=True).reindex(columns=columns).assign(n=len(table))


# --- directions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rays:
    """Directions of length 1, and, where they go towards examples, which and how far these are, and their labels."""

    directions: Float64[np.ndarray, "rays units"]
    to: Int64[np.ndarray, " rays"] | None = None
    away: Float64[np.ndarray, " rays"] | None = None
    labels: list[str | None] | None = None


def uniform_directions(
    rng: np.random.Generator, n: int, units: int, grow: np.ndarray | None = None
) -> Float64[np.ndarray, "n units"]:
    """Uniform on the sphere; with ``grow`` on its part along which these units grow."""
    found = rng.standard_normal((n, units))
    if grow is not None:
        found[:, grow] = np.abs(found[:, grow])
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _rays(atlas: Atlas, point: Point, towards: str, n: int, orthant: bool, seed: int) -> _Rays:
    """The rays of all that is not uniform, which are few."""
    if orthant:
        raise UsageError(f"orthant belongs to uniform directions; towards is {towards!r}: leave it out")
    kind, _, rest = towards.partition(":")
    if kind in ("same", "other") and not rest:
        return _towards(point, drawn(_labelled(point, kind == "same"), n, seed))
    if kind == "example":
        return _towards(point, np.array([point.live.checked(_number(towards, rest))]))
    if kind == "medoid":
        clustering, _, cluster = rest.partition(":")
        record = clustering_with(atlas, _number(towards, clustering), _number(towards, cluster))
        medoid = atlas.value(
            "select medoid from clusters where clustering_id = $1 and label = $2",
            [record.clustering_id, int(cluster)],
        )
        if medoid is None:
            raise UsageError(f"cluster {cluster} of clustering {clustering} has no medoid; name one that is no noise")
        return _towards(point, np.array([point.live.checked(int(medoid))]))
    vector = named_direction(atlas, point.live, towards)
    if not np.linalg.norm(vector):
        raise UsageError(f"direction {towards} has length 0 and so leads nowhere; name another")
    return _Rays(np.stack([vector, -vector]) / np.linalg.norm(vector))


def _number(towards: str, text: str) -> int:
    if not text.lstrip("-").isdigit():
        raise UsageError(f"towards is {towards!r}; expected {TOWARDS}")
    return int(text)


def _labelled(point: Point, same: bool) -> Int64[np.ndarray, " examples"]:
    """Other stored examples of the label of the point's example, or of other labels."""
    label = None if point.example is None else labels_of_examples(point.live.atlas, [point.example])[0]
    if label is None:
        raise UsageError(f"{point.name} has no label; towards examples of the same or another one asks for that")
    frame = point.live.examples(labelled=True)
    frame = frame[((frame["label"] == label) == same) & (frame["example_id"] != point.example)]
    if frame.empty:
        raise NotStored(f"no other example of {'label' if same else 'another label than'} {label!r} is stored")
    return frame["example_id"].to_numpy(np.int64)


def _towards(point: Point, ids: Int64[np.ndarray, " examples"]) -> _Rays:
    """Towards the activations of examples; those at the point itself give no direction and are left out."""
    ways = point.live.activations(ids).astype(np.float64) - point.activation
    away = np.linalg.norm(ways, axis=1)
    if not away.any():
        raise UsageError(
            f"example {', '.join(map(str, ids))} has the very activation of {point.name}: a direction of length 0"
        )
    ids, ways, away = ids[away > 0], ways[away > 0], away[away > 0]
    return _Rays(ways / away[:, None], ids, away, labels_of_examples(point.live.atlas, ids))


def _table(
    margins: Margins,
    numbers: Int64[np.ndarray, " rays"],
    distances: Float64[np.ndarray, " rays"],
    met: Float64[np.ndarray, " rays"],
    rays: _Rays | None,
) -> pd.DataFrame:
    leaves = numbers >= 0
    names = names_of(margins, numbers[leaves]).set_index(np.flatnonzero(leaves)).reindex(np.arange(len(numbers)))
    names.insert(0, "distance", distances)
    names.insert(1, "met", met)
    return (
        names
        if rays is None or rays.to is None
        else names.assign(to=rays.to, label=pd.Series(rays.labels, dtype=object), away=rays.away)
    )
