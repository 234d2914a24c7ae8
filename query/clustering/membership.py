"""In which cluster an example lies, or would lie: HDBSCAN's approximate prediction from what the atlas stores."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from jaxtyping import Float64, Int64
from PIL import Image

from atlas import Atlas, Network, SplineCodes
from atlas.errors import DamagedAtlas, NotStored, UsageError

from ..examples.ids import check_network
from ..examples.subjects import Asked, Subject, find_subject
from ..neighbors.linear_scan import distances_to_code
from ..pairs.density import distances_to_activation
from .clusterings import Clustering, clustering_of, find_clustering

if TYPE_CHECKING:
    from atlas.clustering.hdbscan import Hierarchy


@dataclass(frozen=True)
class Membership:
    """``cluster`` is -1 for noise; ``probability`` the strength of membership in [0, 1]; ``stored`` is True where
    the example was clustered itself, False where it was placed in the finished clustering.
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
    row: float | None = None,
    column: float | None = None,
    code: str | SplineCodes | None = None,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: str = "codes",
    clustering: int | None = None,
    reader: Network | None = None,
) -> Membership:
    """Which cluster an example, a text's token, an image or a code belongs to (SCIENCE 1; post: Prediction 1).

    In the clustering of that id, or the newest of the site or span in ``space``. An example that was clustered has
    its stored label; anything else is placed as `hdbscan.approximate_predict` does, by its distances to all
    clustered examples in the clustering's metric, without clustering again.

    Raises `UnknownName`, `WidthError`, `NotStored`, and `UsageError`: also where the target has got examples since it
    was clustered, because a place among the old ones alone would be out of date. For what is read live, as `nearest`.
    """
    asked = Asked(example, text, token, image, row, column, code)
    found = _clustering(atlas, asked, clustering, site, span, network, space)
    if example is not None:
        check_network(atlas, example, found.target.network)
        known = atlas.rows(
            "select label, probability from cluster_labels where clustering_id = $1 and example_id = $2",
            [found.clustering_id, int(example)],
        )
        if known:
            return _answer(atlas, found, f"example {example}", *known[0], stored=True)
    if not found.current:
        raise UsageError(
            f"{found.target.name} has other examples than when {found.name} was made, so nothing new can be placed "
            f"in it; cluster again with `polytope cluster {atlas.path}`"
        )
    if found.space == "activations" and code is not None:
        raise UsageError(f"{found.name} is of activations, and a code has none; give an example, a text or an image")
    subject = find_subject(
        atlas, found.target, asked, reader, found.target.sites[0] if found.space == "activations" else None
    )
    from atlas.clustering.placement import (
        approximate_predict,  # loads hdbscan, which takes a second that no other query needs
    )

    ids, hierarchy = _hierarchy(atlas, found)
    labels, strengths = approximate_predict(hierarchy, _distances(atlas, found, subject, ids)[None])
    return _answer(atlas, found, subject.name, int(labels[0]), float(strengths[0]), stored=False)


def _clustering(
    atlas: Atlas,
    asked: Asked,
    clustering: int | None,
    site: str | None,
    span: str | None,
    network: str | None,
    space: str,
) -> Clustering:
    if clustering is not None and site is None and span is None:
        return find_clustering(atlas, clustering, None)
    return clustering_of(atlas, asked.target(atlas, site, span, network), clustering, space)


def _answer(
    atlas: Atlas, found: Clustering, subject: str, cluster: int, probability: float, *, stored: bool
) -> Membership:
    name = atlas.value(
        "select name from named_clusters where clustering_id = $1 and label = $2", [found.clustering_id, cluster]
    )
    return Membership(
        subject,
        found.clustering_id,
        found.target.network.name,
        found.target.name,
        found.space,
        found.metric,
        cluster,
        name,
        probability,
        stored,
    )


def _distances(
    atlas: Atlas, found: Clustering, subject: Subject, ids: Int64[np.ndarray, " clustered"]
) -> Float64[np.ndarray, " clustered"]:
    """From the subject to every clustered example, in the units of the clustering's metric."""
    if found.space == "activations":
        site = found.target.sites[0]
        if subject.activation is None:
            raise NotStored(f"{subject.name} has no stored activation at site {site.name}")
        return distances_to_activation(atlas, site, subject.activation, ids)
    holders, gates = distances_to_code(atlas, found.target, subject.codes)
    if not np.array_equal(holders, ids):
        raise _damaged(found)
    return gates / found.target.n_gates if found.metric == "hamming" else np.sqrt(gates, dtype=np.float64)


def _hierarchy(atlas: Atlas, found: Clustering) -> tuple[Int64[np.ndarray, " clustered"], Hierarchy]:
    """The clustering as it was computed, with the ids of its points: point i is the i-th example in order of id."""
    from atlas.clustering.hdbscan import CondensedTree, Hierarchy

    points = atlas.frame(
        """
        select example_id, label, probability, core_distance, prediction_core_distance
        from cluster_labels where clustering_id = $1 order by example_id
        """,
        [found.clustering_id],
    )
    nodes = atlas.frame(
        "select node, persistence from clusters where clustering_id = $1 order by label", [found.clustering_id]
    )
    rows = atlas.frame(
        "select parent, child, lambda_value, child_size from condensed_trees where clustering_id = $1",
        [found.clustering_id],
    )
    if len(points) != found.n_examples or len(nodes) != found.n_clusters or rows.empty:
        raise _damaged(found)
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
        min_samples=found.min_samples,
        min_cluster_size=found.min_cluster_size,
        metric=cast(Any, found.metric),
        selection=cast(Any, found.selection),
        ties="hdbscan",  # how ties were broken is in the tree already
    )
    return points["example_id"].to_numpy(np.int64), hierarchy


def _damaged(found: Clustering) -> DamagedAtlas:
    return DamagedAtlas(f"{found.name} does not fit the examples in the atlas; `polytope verify` says where")
