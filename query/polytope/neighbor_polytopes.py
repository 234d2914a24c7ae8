"""The polytopes across the nearest facets of one: their codes, their affine maps, who lives there (SCIENCE 14).

Across a facet the affine map F(y) = A·y + b changes by a matrix of rank one, since the two maps agree on the facet:
A' − A = w gᵀ, g the gradient of the margin. So ‖A' − A‖_F = ‖w‖·‖g‖ = ‖(A' − A) g/‖g‖‖: two directional derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas.checks import whole
from atlas.errors import NotStored

from ..examples.live_inputs import Numbers
from ..neighbors.nearest import nearest
from ..notebook import Shown
from ..progress import Progress, part
from .boundaries import NEAREST, Across, across, crossed, nearest_boundaries, sketched
from .crossings import span_codes
from .margins import Margins, margins_at
from .names import names_of
from .points import Point, point_at


@dataclass(frozen=True, eq=False)
class NeighborPolytopes(Shown):
    """The polytopes across the nearest boundaries of the one that a subject lies in.

    network, span, subject, example, exact, remark: as in `Boundaries`. prediction: at the subject.
    codes: of the polytopes, a row each.
    table: a row a polytope: rank, distance, kind, site, gate, module, channel, row, column, other_row, other_column,
        met, facet, flips, verified as in `Boundaries`; map_change: ‖A' − A‖_F of the maps to the logits, exact across
        a facet, else NaN (of a smooth network, whose map does not jump, always); prediction at the boundary's point,
        changes (whether it is another one); examples: other stored examples with that code, None where codes of the
        span are not stored.
    """

    network: str
    span: str
    subject: str
    example: int | None
    prediction: str
    exact: bool
    remark: str
    codes: SplineCodes
    table: pd.DataFrame


def neighbor_polytopes(
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
    sketch: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> NeighborPolytopes:
    """What lies across each of the k nearest boundaries of the polytope of an example, or of an input read now.

    Of a smooth network: what its code and prediction are just beyond where the gate of its linearisation flips.

    Args:
        atlas: an open atlas.
        reader: the network itself, with the weights of the atlas.
        span: ``AFTER->TO``, as `boundaries` has it.
        example: id of a stored example. Exactly one of example, text, image and vector is given.
        text: a text that need not be ingested.
        token: which of its tokens: from 0, or negative from the end; the last by default.
        image: a file or an image of mode L or RGB.
        vector: as many numbers as the network reads.
        k: how many boundaries.
        sketch: as in `boundaries`.
        seed: of the directions of a sketch.
        progress: called with (steps done, steps in all).

    Returns:
        `NeighborPolytopes`.

    Raises:
        UsageError: for an impossible argument, a span without gates, a network that can't be run from a site.
        UnknownName: for an example or site that is not there.
        NotStored: for an activation that is neither stored nor can be read again.
        WeightsError: for a reader that is not the network of the atlas.
        NonFinite: for an activation with NaN or infinity.
    """
    whole("k", k)
    point = point_at(atlas, reader, span, example=example, text=text, token=token, image=image, vector=vector)
    margins = margins_at(point.tail, point.place.sites, point.activation)
    told = part(progress, 0, 1)
    found = nearest_boundaries(margins, k, sketch=sketched(margins, sketch), seed=seed, told=told)
    told(1.0)
    beyond = across(margins, found)
    flips, verified = crossed(margins, beyond)
    predicted = _predictions(margins, np.concatenate([margins.point[None], beyond.points]))
    codes = _codes(margins, beyond.points)
    table = names_of(margins, found.numbers).assign(
        met=beyond.met,
        facet=beyond.facet if margins.exact else None,
        flips=flips,
        verified=verified,
        map_change=np.where(beyond.facet, _map_changes(margins, beyond, found.gradients), np.nan),
        prediction=predicted[1:],
        changes=[other != predicted[0] for other in predicted[1:]],
        examples=pd.Series([_living(atlas, point, codes[i : i + 1]) for i in range(len(codes))], dtype=object),
    )
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    table.insert(1, "distance", found.distances)
    return NeighborPolytopes(
        network=point.live.owner.name,
        span=point.place.name,
        subject=point.name,
        example=point.example,
        prediction=predicted[0],
        exact=margins.exact,
        remark=point.tail.remark,
        codes=codes,
        table=table,
    )


def _codes(margins: Margins, points: np.ndarray) -> SplineCodes:
    import torch

    return span_codes(margins.precise.read(torch.from_numpy(points), margins.sites), margins.sites)


def _predictions(margins: Margins, points: np.ndarray) -> list[str]:
    import torch

    with torch.no_grad():
        best = margins.precise.logits(torch.from_numpy(points)).argmax(dim=1)
    return [margins.precise.output_name(int(output)) for output in best]


def _map_changes(margins: Margins, beyond: Across, gradients: np.ndarray) -> np.ndarray:
    """‖(A' − A) g/‖g‖‖₂ for each point across: A' of its polytope, A of that of x. NaN without a facet."""
    import torch

    points = beyond.points
    if not beyond.facet.any():
        return np.full(len(points), np.nan)
    along = torch.from_numpy(gradients / np.linalg.norm(gradients, axis=1, keepdims=True))
    here = torch.from_numpy(margins.point).repeat(len(points), 1)
    there = torch.from_numpy(points)
    slopes = [torch.func.jvp(margins.precise.logits, (at,), (along,))[1] for at in (here, there)]
    changes: np.ndarray = (slopes[1] - slopes[0]).norm(dim=1).detach().cpu().numpy()
    return changes


def _living(atlas: Atlas, point: Point, code: SplineCodes) -> list[int] | None:
    """Stored examples that have this code of the span, but for the subject: across a pooling window the code is its
    own."""
    try:
        target = atlas.catalog.target(span=point.place.name, network=point.live.owner.name)
    except NotStored:
        return None
    same = nearest(atlas, code=code, site=target.name, network=target.network.name, radius=0, density=False)
    return [int(example) for example in same["example_id"] if example != point.example]
