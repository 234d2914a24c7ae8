"""In which cluster an example lies, or would lie: HDBSCAN's approximate prediction from what the atlas stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas.clustering.placement import approximate_predict
from atlas.errors import DamagedAtlas, NotStored, UsageError

from ..examples.ids import check_network
from ..examples.live_inputs import Numbers
from ..examples.subjects import Given, Subject
from ..neighbors.code_search import CodeSearch
from ..neighbors.indexes import Indexes, current_index
from ..neighbors.linear_scan import distances_to_code, gates_on
from ..pairs.density import distances_to_activation
from .clusterings import Clustering, clustering_of, find_clustering

if TYPE_CHECKING:
    from atlas.clustering.hierarchy import Hierarchy


@dataclass(frozen=True)
class Membership:
    """``cluster`` is -1 for noise; ``probability`` the strength of membership in [0, 1]; ``stored`` is True where
    the example was clustered itself, False where it was placed in the finished clustering, now or with it.
    """

    subject: str
    clustering: int
    network: str
    target: str
    space: str
    metric: str
    cluster: int
    name: str | None
    probability: float
    stored: bool


def membership(
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
    space: str = "codes",
    clustering: int | None = None,
    reader: Network | None = None,
) -> Membership:
    """Which cluster an example, an input that is read now, or a code belongs to (SCIENCE 1; post: Prediction 1).

    An example that was clustered has its stored label. Anything else is placed as `hdbscan.approximate_predict` does,
    by its distances to the clustered examples in the clustering's metric, without clustering again.

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
        space: codes or activations, where the clustering is not named.
        clustering: id of the clustering; by default the newest of the target in ``space``.
        reader: the network itself, with the weights of the atlas, for an input that is read.

    Returns:
        The `Membership`.

    Raises:
        UsageError: for impossible parameters, and where the target has got examples since it was clustered: a place
            among the old ones alone would be out of date.
        UnknownName: for an example, site or clustering that is not there.
        WidthError: for a code of another width.
        NotStored: for an example without an activation in a clustering of activations.
        DamagedAtlas: for a clustering of other examples than the atlas holds.
        WeightsError: for a reader that is not the network of the atlas.
        BadInput: for an image that can't be read, or a vector of another width.
        NonFinite: for an input that gives NaN or infinity.
    """
    given = Given(example, text, token, image, vector, row, column, code, subject)
    record = _clustering(atlas, given, clustering, site, span, network, space)
    if given.stored is not None:
        check_network(atlas, given.stored, record.target.network)
        known = atlas.rows(
            "select label, probability, not placed from cluster_labels where clustering_id = $1 and example_id = $2",
            [record.clustering_id, int(given.stored)],
        )
        if known:
            return _answer(atlas, record, f"example {given.stored}", *known[0])
    if not record.current:
        raise UsageError(
            f"{record.target.name} has other examples than when {record.name} was made, so nothing new can be placed "
            f"in it; cluster again with `polytope cluster {atlas.address}`"
        )
    if record.space == "activations" and given.is_code:
        raise UsageError(f"{record.name} is of activations, and a code has none; give an example, a text or an image")
    about = given.read(
        atlas, record.target, reader, [record.target.sites[0]] if record.space == "activations" else []
    )
    ids, hierarchy = _hierarchy(atlas, record)
    labels, strengths = approximate_predict(hierarchy, _distances(atlas, record, about, ids)[None])
    return _answer(atlas, record, about.name, int(labels[0]), float(strengths[0]), False)


def _clustering(
    atlas: Atlas,
    given: Given,
    clustering: int | None,
    site: str | None,
    span: str | None,
    network: str | None,
    space: str,
) -> Clustering:
    if clustering is not None and site is None and span is None and given.subject is None:
        return find_clustering(atlas, clustering, None)
    return clustering_of(atlas, given.target(atlas, site, span, network), clustering, space)


def _answer(
    atlas: Atlas, record: Clustering, subject: str, cluster: int, probability: float, stored: bool
) -> Membership:
    name = atlas.value(
        "select name from named_clusters where clustering_id = $1 and label = $2", [record.clustering_id, cluster]
    )
    return Membership(
        subject,
        record.clustering_id,
        record.target.network.name,
        record.target.name,
        record.space,
        record.metric,
        cluster,
        name,
        probability,
        stored,
    )


def _distances(
    atlas: Atlas, record: Clustering, subject: Subject, ids: Int64[np.ndarray, " clustered"]
) -> Float64[np.ndarray, " clustered"]:
    """From the subject to clustered examples, in the units of the clustering's metric.

    Of codes, to those alone that decide where it is placed: its 2·min_samples nearest. The others count as infinitely
    far, which changes nothing, and the codes need not be gone through where a search has been before.
    """
    if record.space == "activations":
        site = record.target.sites[0]
        point = subject.activation(atlas, site)
        if point is None:
            raise NotStored(f"{subject.name} has no stored activation at site {site.name}")
        return distances_to_activation(atlas, site, point, ids)
    if record.metric == "jaccard":
        held, gates = distances_to_code(atlas, record.target, subject.codes)
        if not np.array_equal(ids, held):
            raise _damaged(record)
        return 2 * gates / np.maximum(gates_on(atlas, record.target) + subject.codes.n_active() + gates, 1)
    index = current_index(atlas, record.target)
    if record.sample is not None:
        held, gates = distances_to_code(atlas, record.target, subject.codes)
        if not np.isin(ids, held).all():
            raise _damaged(record)
        gates = gates[np.searchsorted(held, ids)]
        return gates / record.target.n_gates if record.metric == "hamming" else np.sqrt(gates, dtype=np.float64)
    search = CodeSearch(atlas, record.target, subject, Indexes(len(ids), index, None))
    nearest, gates = search.nearest(len(ids) if index is None else min(2 * record.min_samples, len(ids)), keep=True)
    if not np.array_equal(ids, np.sort(nearest) if index is None else index.ids):
        raise _damaged(record)
    scaled = gates / record.target.n_gates if record.metric == "hamming" else np.sqrt(gates, dtype=np.float64)
    distances = np.full(len(ids), np.inf)
    distances[np.searchsorted(ids, nearest)] = scaled
    return distances


def _hierarchy(atlas: Atlas, record: Clustering) -> tuple[Int64[np.ndarray, " clustered"], Hierarchy]:
    """The clustering as it was computed, with the ids of its points: point i is the i-th example in order of id."""
    from atlas.clustering.hierarchy import CondensedTree, Hierarchy

    points = atlas.frame(
        """
        select example_id, label, probability, core_distance, prediction_core_distance
        from cluster_labels where clustering_id = $1 and not placed order by example_id
        """,
        [record.clustering_id],
    )
    nodes = atlas.frame(
        "select node, persistence from clusters where clustering_id = $1 order by label", [record.clustering_id]
    )
    rows = atlas.frame(
        "select parent, child, lambda_value, child_size from condensed_trees where clustering_id = $1",
        [record.clustering_id],
    )
    if len(points) != record.n_examples - record.n_placed or len(nodes) != record.n_clusters or rows.empty:
        raise _damaged(record)
    tree = CondensedTree(
        rows["parent"].to_numpy(np.int64),
        rows["child"].to_numpy(np.int64),
        rows["lambda_value"].to_numpy(np.float64),
        rows["child_size"].to_numpy(np.int64),
    )
    hierarchy = Hierarchy(
        labels=points["label"].to_numpy(np.int64),
        probabilities=points["probability"].to_numpy(np.float64),
        persistence=nodes["persistence"].to_numpy(np.float64),
        nodes=nodes["node"].to_numpy(np.int64),
        core_distances=points["core_distance"].to_numpy(np.float64),
        prediction_cores=points["prediction_core_distance"].to_numpy(np.float64),
        tree=tree,
        min_samples=record.min_samples,
        min_cluster_size=record.min_cluster_size,
        metric=cast(Any, record.metric),
        selection=cast(Any, record.selection),
        ties="hdbscan",  # how ties were broken is in the tree already
    )
    return points["example_id"].to_numpy(np.int64), hierarchy


def _damaged(record: Clustering) -> DamagedAtlas:
    return DamagedAtlas(f"{record.name} does not fit the examples in the atlas; `polytope verify` says where")
