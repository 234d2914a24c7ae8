"""Nearest polytopes: the stored codes at the least Hamming distance from one code.

The Hamming distance of two codes is the least number of polytope boundaries that any path between the two crosses
(post: Prediction 2 divides it by the Euclidean distance: the column ``density``).
"""

from __future__ import annotations

from numbers import Integral
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas.catalog import SiteRecord, Target
from atlas.errors import IndexMissing, NotStored, UsageError
from atlas.index import HammingIndex

from .clusters import Clustering, find_clustering, latest_clustering
from .density import distances_to_activation, exactness, space_before
from .examples import count_codes, describe, distances_to_code, is_span
from .subject import Asked, Subject, find_subject

DEFAULT_K = 10
INDEXES = "indexes"  # the folder in an atlas

Found = tuple[Int64[np.ndarray, " found"], Int64[np.ndarray, " found"]]
"""Example ids and distances in gates, ordered by (distance, id)."""


def nearest(
    atlas: Atlas,
    *,
    example: int | None = None,
    text: str | None = None,
    token: int | None = None,
    image: str | Path | Image.Image | None = None,
    row: float | None = None,
    column: float | None = None,
    code: str | SplineCodes | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    k: int | None = None,
    radius: int | None = None,
    reader: Network | None = None,
    clustering: int | None = None,
    include_self: bool = False,
) -> pd.DataFrame:
    """The stored examples whose codes are nearest to that of an example, a text's token, an image, or a code.

    ``k`` nearest (10 by default), or all within ``radius`` gates, the radius included; given both, the ``k`` nearest
    of those within. The search is exact and ordered by (distance, example id). The example asked about is left out
    unless ``include_self``; others in the same polytope stay, at distance 0. ``text`` (and its ``token``: from 0, or
    negative from the end; the last by default) and ``image`` are read by ``reader``.

    Columns: rank (from 1), example_id, distance (gates), density (gates per unit of distance; NaN where it is
    undefined or activations are not stored), label, cluster (in ``clustering``, or in the newest one of the codes of
    this target, else of its activations; -1 noise), prediction, loss (nats), then token, context, context_offset,
    input_id and position of a text, or key, thumbnail and input_id of an image.

    ``frame.attrs``: subject, network, target, n_gates, n_codes, exact_search (always True), searched (with what),
    exact, exact_note, clustering (its id or None), density_note (why there is none, or None).

    Raises `UsageError`, `UnknownName`, `WidthError`, `NotStored`, `IndexMissing` (a span needs no index),
    `IndexMismatch`, and for what is read live `WeightsError`, `BadInput`, `NonFinite`.
    """
    asked = Asked(example, text, token, image, row, column, code)
    target = asked.target(atlas, site, span, network)
    n_codes = count_codes(atlas, target)
    excluding = example is not None and not include_self
    k = _checked_k(target, k, radius, n_codes - excluding, excluding)
    labels = latest_clustering(atlas, target) if clustering is None else find_clustering(atlas, clustering, target)
    index = _index(atlas, target, n_codes)
    before, density_note = _density_space(target, asked)
    subject = find_subject(atlas, target, asked, reader, before)
    ids, distances = _search(atlas, target, index, subject, k, radius, excluding)
    densities, density_note = _densities(atlas, before, subject, ids, distances, density_note)

    frame = describe(atlas, target.network, ids)
    frame.insert(0, "rank", np.arange(1, len(ids) + 1))
    frame.insert(2, "distance", distances)
    frame.insert(3, "density", densities)
    frame.insert(5, "cluster", _clusters(atlas, labels, ids))
    frame.attrs.update(
        subject=subject.name, network=target.network.name, target=target.name, n_gates=target.n_gates,
        n_codes=n_codes, exact_search=True,
        searched="Hamming index" if index is not None else "all codes, block by block (this span has no index)",
        exact=target.exact, exact_note=exactness(target),
        clustering=labels.clustering_id if labels is not None else None, density_note=density_note,
    )  # fmt: skip
    return frame


def _checked_k(target: Target, k: int | None, radius: int | None, available: int, excluding: bool) -> int | None:
    """How many to return; None for all within the radius."""
    for name, value, least in (("k", k, 1), ("radius", radius, 0)):
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool) or value < least):
            raise UsageError(f"{name} is {value!r}; expected a whole number of at least {least}")
    if k is None:
        return None if radius is not None else min(DEFAULT_K, available)
    if k > available:
        others = "other examples" if excluding else "examples"
        raise UsageError(
            f"k is {k}; {target.name} of network {target.network.name} has codes of {available} {others}: ask for "
            "fewer"
        )
    return int(k)


def _index(atlas: Atlas, target: Target, n_codes: int) -> HammingIndex | None:
    """The target's index, checked against the codes in the database; None for a span that has none."""
    files = atlas.rows(
        "select file from indexes where network_id = $1 and target = $2", [target.network.network_id, target.name]
    )
    if files:
        index = HammingIndex.load(atlas.path / INDEXES / files[0][0])
        index.check(n_codes, target.digest)
        return index
    if is_span(target):
        return None
    raise IndexMissing(
        f"{target.name} of network {target.network.name} has no index; build it with `polytope index {atlas.path}`"
    )


def _search(
    atlas: Atlas,
    target: Target,
    index: HammingIndex | None,
    subject: Subject,
    k: int | None,
    radius: int | None,
    excluding: bool,
) -> Found:
    if index is not None and radius is None:
        assert k is not None
        # One more than asked for, in case the example itself is among them.
        ids, distances = (found[0] for found in index.search(subject.codes, k + excluding))
    elif index is not None:
        assert radius is not None
        ids, distances = index.within(subject.codes, radius)[0]
    else:
        ids, distances = distances_to_code(atlas, target, subject.codes)
        near = np.lexsort((ids, distances))
        near = near if radius is None else near[distances[near] <= radius]
        ids, distances = ids[near], distances[near]
    if excluding:
        others = ids != subject.example
        ids, distances = ids[others], distances[others]
    return ids[:k], distances[:k]


def _density_space(target: Target, asked: Asked) -> tuple[SiteRecord | None, str | None]:
    """The site in whose activations density is measured, or why there is none."""
    if asked.code is not None:
        return None, "no density: a code alone is no point of the activation space"
    try:
        return space_before(target), None
    except (UsageError, NotStored) as error:
        return None, f"no density: {error}"


def _densities(
    atlas: Atlas, before: SiteRecord | None, subject: Subject, ids: np.ndarray, crossed: np.ndarray, note: str | None
) -> tuple[Float64[np.ndarray, " found"], str | None]:
    if before is None:
        return np.full(len(ids), np.nan), note
    if subject.activation is None:
        return np.full(len(ids), np.nan), f"no density: {subject.name} has no stored activation at site {before.name}"
    distances = distances_to_activation(atlas, before, subject.activation, ids)
    missing, equal = int(np.isnan(distances).sum()), int((distances == 0).sum())
    notes = [f"no density for {missing} of {len(ids)}: no stored activation at site {before.name}"] if missing else []
    if equal:
        notes.append(f"density is undefined for {equal} of {len(ids)}: their activations at {before.name} are equal")
    distances[distances == 0] = np.nan
    return crossed / distances, "; ".join(notes) or None


def _clusters(atlas: Atlas, clustering: Clustering | None, ids: np.ndarray) -> pd.Series:
    """Each example's cluster; <NA> without a clustering, or for an example that came after it."""
    if clustering is None:
        return pd.Series(pd.NA, index=range(len(ids)), dtype="Int64")
    known = atlas.frame(
        "select example_id, label from cluster_labels "
        "where clustering_id = $1 and example_id in (select unnest($2::uinteger[]))",
        [clustering.clustering_id, ids.tolist()],
    )
    return known.set_index("example_id")["label"].astype("Int64").reindex(ids).reset_index(drop=True)
