"""Nearest polytopes: the stored codes at the least Hamming distance from one code.

The Hamming distance of two codes is the least number of polytope boundaries that any path between the two crosses
(post: Prediction 2 divides it by the Euclidean distance: the column ``density``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas.devices import Device
from atlas.errors import NotStored, UsageError
from atlas.store.catalog import SiteRecord, Target

from ..examples.live_inputs import Numbers
from ..examples.subjects import Given, Neighbors, Subject
from ..pairs.density import distances_to_activation, space_before
from .code_search import CodeSearch
from .filters import Filter
from .linear_scan import distances_to_code, gates_on
from .search_space import checked_k, search_space


def nearest(
    atlas: Atlas,
    *,
    example: int | None = None,
    text: str | None = None,
    token: int | None = None,
    image: str | Path | Image.Image | None = None,
    vector: Numbers | None = None,
    row: float | None = None,
    column: float | None = None,
    code: str | SplineCodes | None = None,
    subject: Subject | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    k: int | None = None,
    radius: int | None = None,
    label: str | None = None,
    cluster: int | None = None,
    dataset: str | None = None,
    where: str | None = None,
    reader: Network | None = None,
    clustering: int | None = None,
    include_self: bool = False,
    outside: bool = False,
    metric: str = "hamming",
    exact: bool = False,
    density: bool = True,
    device: Device = "auto",
) -> pd.DataFrame:
    """The stored examples whose codes are nearest to that of an example, an input that is read now, or a code.

    The answer is ordered by (distance, example id). The example asked about is left out; others in the same polytope
    stay, at distance 0. Filters search among the examples that meet all of them: the answer is what sorting those
    alone would give. The search is exact unless an approximate index was built for the target (`polytope index
    --kind`); even then it is with ``exact``, with a filter, and where that index can't answer.

    Args:
        atlas: an open atlas.
        example: id of a stored example. Exactly one of example, text, image, vector, code and subject
            is given.
        text: a text that need not be ingested; ``reader`` reads it.
        token: which of its tokens: from 0, or negative from the end; the last by default.
        image: a file or an image of mode L or RGB; ``reader`` reads it.
        vector: as many numbers as the network reads; ``reader`` reads them.
        row: relative position in [0, 1) from the top at which position codes of the image are read.
        column: the same from the left. By default both are where all ingested images were read.
        code: a code of the target, as a string of 0 and 1 or as one row of packed codes.
        subject: what `query.subject` has read, in place of all of the above and of the target: it is not read again.
        site: the site, or
        span: the span that is meant.
        network: its network, where several have such a one.
        k: how many; 10 by default, or all within ``radius``.
        radius: the greatest distance in gates, included.
        label: filter: only examples of that label, the first that the input was given.
        cluster: filter: only members of that cluster of ``clustering``; -1 is the noise.
        dataset: filter: only examples whose input is in that dataset.
        where: filter: a condition in SQL on the columns of table examples.
        reader: the network itself, with the weights of the atlas, for an input that is read.
        clustering: id of the clustering whose clusters are shown; by default the newest of the target's codes, else
            of its activations.
        include_self: keep the example asked about.
        outside: leave out who shares the polytope of the subject: the ``k`` nearest polytopes that are not its own,
            fewer where there are no more.
        metric: ``hamming``, gates that differ, or ``jaccard``, their share of the gates on in either: for sparse
            codes, of which gates off in both tell nothing. Two codes without a gate on are at Jaccard distance 0, and
            at 1 of all others. It always compares all codes.
        exact: compare all codes, whatever index there is.
        density: whether to measure it; to read ten activations takes many times as long as to search.
        device: auto, cpu or cuda, as of `HammingIndex.search`; the answer does not depend on it.

    Returns:
        A row an example: rank (from 1), example_id, distance (gates; by Jaccard a share, with gates, those that
        differ, and shared, those on in both, beside it), density (gates per unit of distance; NaN where
        it is undefined or activations are not stored), label, cluster (-1 noise), prediction, loss (nats), then
        token, context, context_offset, input_id and position of a text, key, thumbnail and input_id of an image, or
        key, vector, thumbnail and input_id of a vector.
        ``frame.attrs``: subject, network, target, n_gates, n_codes, n_searched (codes that meet the filter), n_same
        (how many share the polytope; None where the ``k`` nearest all do, and so don't tell), exact_search, searched
        (with what), recall (recall@10 of the approximate index, ties as hits, or None), exact, exact_note, clustering
        (its id or None), density_note (why there is none, or None), search_note (what to know of an approximate
        answer), label_note (whose labels a filter goes by, where datasets give an input several).

    Raises:
        UsageError: for impossible parameters, where nothing or fewer than ``k`` examples meet the filter, and for
            ``cuda`` where the processor answers (a filter, a radius, a span without an index, an approximate index,
            Jaccard distances).
        UnknownName: for an example, site, label, cluster or dataset that is not there.
        WidthError: for a code of another width.
        NotStored: for a site whose codes were not ingested.
        SqlError: for a condition that can't be evaluated.
        IndexMissing: for a site without an index; a span needs none.
        IndexMismatch: for an index of other codes.
        WeightsError: for a reader that is not the network of the atlas.
        BadInput: for an image that can't be read, or a vector of another width.
        NonFinite: for an input that gives NaN or infinity.
    """
    jaccard = _is_jaccard(metric, radius, device)
    given = Given(example, text, token, image, vector, row, column, code, subject)
    wanted = Filter(label, cluster, dataset, where)
    target = given.target(atlas, site, span, network)
    space = search_space(
        atlas, target, wanted, clustering, exact=exact or jaccard, device=device, radius=radius is not None
    )
    excluding = given.stored is not None and not include_self and space.holds(given.stored)
    k = checked_k(space, k, radius, excluding)
    before, density_note = _density_space(target, given) if density else (None, "no density: it was not asked for")
    about = given.read(atlas, target, reader, [] if before is None else [before], space.indexes.flat)
    search = CodeSearch(atlas, target, about, space.indexes, space.among, device)
    beside: dict[str, np.ndarray] = {}
    n_same: int | None
    if jaccard:
        ids, distances, beside, n_same = _by_jaccard(search, int(k or 0), excluding, outside)
        gates = beside["gates"]
    else:
        ids, gates, n_same = _neighbors(search, k, radius, excluding, outside, keep=subject is not None or outside)
        distances = gates
    densities, density_note = _densities(atlas, before, about, ids, gates, density_note)

    shown = space.shown(atlas, ids)
    frame = pd.DataFrame(
        {
            "rank": np.arange(1, len(ids) + 1),
            "example_id": shown.pop("example_id"),
            "distance": distances,
            **beside,
            "density": densities,
            **shown,
        }
    )
    said = space.attributes() | ({"searched": "all codes"} if jaccard else {})
    frame.attrs.update(subject=about.name, metric=metric, **said, n_same=n_same, density_note=density_note)
    return frame


def _neighbors(
    search: CodeSearch, k: int | None, radius: int | None, excluding: bool, outside: bool, *, keep: bool
) -> tuple[Int64[np.ndarray, " neighbors"], Int64[np.ndarray, " neighbors"], int | None]:
    """Ids and distances of the answer, and how many share the polytope: None where the k nearest don't tell.

    ``excluding``: the subject is stored, and none of its own neighbours; ``outside``: neither are those that share
    its polytope.
    """

    def others(neighbors: Neighbors) -> tuple[Int64[np.ndarray, " others"], Int64[np.ndarray, " others"]]:
        ids, distances = neighbors
        kept = ids != search.subject.example
        return (ids[kept], distances[kept]) if excluding else neighbors

    if radius is not None:
        ids, distances = others(search.within(radius))
        told = True
    else:
        assert k is not None
        everyone = search.n_searched - excluding
        ids, distances = others(search.nearest(k + excluding, keep=keep))  # the subject itself may be among them
        told = k == everyone or bool((distances[:k] > 0).any())
        if outside and k < everyone:  # the k that lie outside stand behind all who share the polytope
            n_same = int((distances == 0).sum()) if told else len(others(search.within(0))[0])
            ids, distances = others(search.nearest(min(n_same + k, everyone) + excluding))
            told = True
    n_same = int((distances == 0).sum())
    if outside:
        ids, distances = ids[distances > 0], distances[distances > 0]
    return ids[:k], distances[:k], n_same if told else None


def _is_jaccard(metric: str, radius: int | None, device: Device) -> bool:
    if metric not in ("hamming", "jaccard"):
        raise UsageError(f"metric is {metric!r}; codes are near by hamming or jaccard")
    if metric == "jaccard" and radius is not None:
        raise UsageError("radius counts gates that differ: it goes with hamming; by jaccard ask for k")
    if metric == "jaccard" and device == "cuda":
        raise UsageError("device is cuda, but jaccard distances are computed on the processor; use auto or cpu")
    return metric == "jaccard"


def _by_jaccard(
    search: CodeSearch, k: int, excluding: bool, outside: bool
) -> tuple[Int64[np.ndarray, " neighbors"], Float64[np.ndarray, " neighbors"], dict[str, np.ndarray], int]:
    """Ids, distances, the columns beside them and how many share the polytope, in order of (distance, id)."""
    ids, gates = distances_to_code(search.atlas, search.target, search.subject.codes)
    n_on, own = gates_on(search.atlas, search.target), int(search.subject.codes.n_active()[0])
    kept = np.ones(len(ids), bool) if search.among is None else np.isin(ids, search.among)
    if excluding:
        kept &= ids != search.subject.example
    n_same = int((kept & (gates == 0)).sum())
    if outside:
        kept &= gates > 0
    ids, gates, n_on = ids[kept], gates[kept], n_on[kept]
    either = (n_on + own + gates) // 2
    distances = gates / np.maximum(either, 1)
    near = np.lexsort((ids, distances))[:k]
    return ids[near], distances[near], {"gates": gates[near], "shared": (either - gates)[near]}, n_same


def _density_space(target: Target, given: Given) -> tuple[SiteRecord | None, str | None]:
    """The site in whose activations density is measured, or why there is none."""
    if given.is_code:
        return None, "no density: a code alone is no point of the activation space"
    try:
        return space_before(target), None
    except (UsageError, NotStored) as error:
        return None, f"no density: {error}"


def _densities(
    atlas: Atlas, before: SiteRecord | None, subject: Subject, ids: np.ndarray, crossed: np.ndarray, note: str | None
) -> tuple[Float64[np.ndarray, " neighbors"], str | None]:
    if before is None:
        return np.full(len(ids), np.nan), note
    point = subject.activation(atlas, before)
    if point is None:
        return np.full(len(ids), np.nan), f"no density: {subject.name} has no stored activation at site {before.name}"
    distances = distances_to_activation(atlas, before, point, ids)
    missing, equal = int(np.isnan(distances).sum()), int((distances == 0).sum())
    notes = [f"no density for {missing} of {len(ids)}: no stored activation at site {before.name}"] if missing else []
    if equal:
        notes.append(f"density is undefined for {equal} of {len(ids)}: their activations at {before.name} are equal")
    distances[distances == 0] = np.nan
    return crossed / distances, "; ".join(notes) or None
