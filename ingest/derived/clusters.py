"""HDBSCAN over what an atlas holds, stored with its parameters and with what placing new points takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from atlas.clustering.hierarchy import Hierarchy, Metric, Selection, Ties, members_of
from atlas.clustering.limits import MAX_POINTS, MEMORY_BUDGET, check_metric, check_request
from atlas.clustering.rows import not_finite
from atlas.codes import SplineCodes
from atlas.devices import Device
from atlas.errors import NonFinite, TooManyPoints, UsageError
from atlas.store.atlas import Atlas
from atlas.store.catalog import Target
from atlas.store.digests import seal

from ..progress import Progress
from .job import (
    AUTOMATIC_POINTS,
    Space,
    check_unchanged,
    data_digest,
    find_result,
    next_number,
    path_of,
    reading,
    storing,
)
from .labels import label_statistics

_SHARE_OF_MEDOIDS = 0.1
"""Of the bar, beside the hierarchy: as good as nothing where clusters are small, a third where one holds most."""


def cluster(
    path: str | Path | Atlas,
    *,
    site: str | None = None,
    span: str | None = None,
    network: str | None = None,
    space: Space = "codes",
    metric: Metric | None = None,
    min_cluster_size: int = 5,
    min_samples: int | None = None,
    selection: Selection = "eom",
    ties: Ties = "hdbscan",
    neighbors: int | None = None,
    memory_budget: int = MEMORY_BUDGET,
    max_points: int = MAX_POINTS,
    device: Device = "auto",
    progress: Progress | None = None,
) -> int:
    """Cluster the codes of a site or span, or the activations of a site, with HDBSCAN, and store the result.

    The same clustering of the same data is not computed twice. What can't be clustered is refused before it is read.
    An atlas given by its path is open only to read and to store the result, in one transaction.

    Args:
        path: the atlas, or an `Atlas` that is open for writing.
        site: what to cluster ...
        span: ... or a span, whose codes are those of its sites, one after another.
        network: the network, where several have such a site.
        space: ``codes`` or ``activations``.
        metric: ``hamming`` (the default for codes: share of bits), ``jaccard`` (share of the bits on in either, for
            sparse codes) or ``euclidean`` (the default for activations).
        min_cluster_size: the least members of a cluster.
        min_samples: neighbours that make a core distance; None: as many as min_cluster_size. What is stored is what
            was used: one less than the examples where there are no more than were asked for.
        selection: ``eom`` or ``leaf``, how clusters are chosen from the hierarchy.
        ties: ``hdbscan`` (edges of equal length merge as that library sorts them) or ``stable`` (alike everywhere).
        neighbors: makes it approximate, from so many nearest neighbours of each example; it is stored as such.
        memory_budget: bytes for distances; with less they are computed again, with the same result.
        max_points: refuse more examples than this, unless approximate.
        device: ``auto``, ``cpu`` or ``cuda``: where distances are computed.
        progress: is told how far it is.

    Returns:
        The clustering's number.

    Raises:
        UnknownName: no such site, span or network.
        NotStored: no codes or activations are stored for it.
        UsageError: an impossible argument.
        TooManyPoints: more examples than ``max_points``, or than memory holds.
        NonFinite: an activation holds NaN or infinity.
        RunInterrupted: the target got new examples meanwhile.
        AtlasLocked: somebody else has the atlas open.
    """
    if space not in ("codes", "activations"):
        raise UsageError(f"space is {space!r}; it is codes or activations")
    progress = progress or Progress()
    metric = metric or ("hamming" if space == "codes" else "euclidean")
    with reading(path) as a:
        target = a.catalog.target(site=site, span=span, network=network)
        digest = data_digest(target, space)
        if space == "activations" and metric != "euclidean":
            raise UsageError(f"activations are clustered under euclidean, not {metric}; codes know all")
        check_metric(metric, neighbors, device)
        samples = check_request(
            _n(a, target, space),
            units=target.sites[0].n_units if space == "activations" else None,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            selection=selection,
            ties=ties,
            max_points=max_points,
            memory_budget=memory_budget,
            neighbors=neighbors,
        )
        parameters = {
            "network_id": target.network.network_id,
            "target": target.name,
            "space": space,
            "metric": metric,
            "min_cluster_size": min_cluster_size,
            "min_samples": samples,
            "selection": selection,
            "ties": ties,
            "neighbors": neighbors,
            "data_digest": digest,
        }
        known = find_result(a, "clusterings", "clustering_id", parameters)
        if known is not None:
            return known
        ids, points = _points(a, target, space)
        labels = _labels(a, ids)
    if not isinstance(points, SplineCodes) and (row := not_finite(points)) is not None:
        raise NonFinite(
            f"the activation of example {ids[row]} at {target.name} of network {target.network.name} holds NaN or "
            "infinity, so it is at no distance from the others; cluster the codes instead"
        )
    from atlas.clustering.medoids import medoids  # with Numba and hdbscan, a second

    whole = round(2 * len(ids) * (1 + _SHARE_OF_MEDOIDS))
    with progress.step(f"cluster {target.name} ({space})", total=whole, unit="rows") as step:
        hierarchy = _hierarchy(
            points,
            metric,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            selection=selection,
            ties=ties,
            neighbors=neighbors,
            memory_budget=memory_budget,
            max_points=max_points,
            device=device,
            progress=lambda done, _: step.update(done, whole),
        )
        nearest = medoids(
            points,
            hierarchy.labels,
            metric=metric,
            memory_budget=memory_budget,
            progress=lambda done, of: step.update(2 * len(ids) + int((whole - 2 * len(ids)) * done / of), whole),
        )
        step.update(whole, whole)
    members = _clusters(hierarchy, nearest, ids)
    with storing(path, progress) as a:
        check_unchanged(a, target, space, digest, "it was clustered")
        return _store(a, parameters, hierarchy, ids, labels, members)


def cluster_all(path: Path | Atlas, network: str, sites: Sequence[str], *, progress: Progress) -> list[str]:
    """Cluster the codes of every site with the defaults; returns a note for each site that was left out, and why."""
    notes = []
    for site in sites:
        with reading(path) as a:
            n_codes = a.catalog.target(site=site, network=network).sites[0].n_codes
        if n_codes > AUTOMATIC_POINTS:
            notes.append(
                f"{site} was not clustered: {n_codes} examples, and only up to {AUTOMATIC_POINTS} are clustered "
                f"unasked; `polytope cluster {path_of(path)} --site {site}` does it, in a time that grows with the "
                "square"
            )
            continue
        try:
            cluster(path, site=site, network=network, progress=progress)
        except (TooManyPoints, UsageError) as error:
            notes.append(f"{site} was not clustered: {error}")
    return notes


def _n(a: Atlas, target: Target, space: Space) -> int:
    """Examples that will be clustered: of a span those that have a code at every one of its sites."""
    if space == "activations":
        return int(target.sites[0].n_activations)
    if len(target.sites) == 1:
        return int(target.sites[0].n_codes)
    whole = (
        "select example_id from codes where site_id in (select unnest($1::integer[])) "
        "group by example_id having count(*) = $2"
    )
    return int(
        a.value(f"select count(*) from ({whole})", [[site.site_id for site in target.sites], len(target.sites)])
    )


def _points(a: Atlas, target: Target, space: Space) -> tuple[np.ndarray, SplineCodes | np.ndarray]:
    return a.codes(target.sites) if space == "codes" else a.activations(target.sites[0])


def _hierarchy(points: SplineCodes | np.ndarray, metric: Metric, **options: Any) -> Hierarchy:
    from atlas.clustering.hdbscan import cluster_activations, cluster_codes

    if isinstance(points, SplineCodes):
        return cluster_codes(points, metric=metric, **options)
    return cluster_activations(points, **options)


def _labels(a: Atlas, ids: np.ndarray) -> pd.Series:
    frame = a.frame("select example_id, label from examples")
    return frame.set_index("example_id")["label"].reindex(ids)


def _clusters(hierarchy: Hierarchy, nearest: np.ndarray, ids: np.ndarray) -> pd.DataFrame:
    """One row a cluster. ``nearest``: the row of each cluster's medoid."""
    return pd.DataFrame(
        [
            {
                "label": number,
                "size": len(members),
                "medoid": int(ids[nearest[number]]),
                "persistence": float(hierarchy.persistence[number]),
                "node": int(hierarchy.nodes[number]),
            }
            for number, members in enumerate(members_of(hierarchy.labels))
        ]
    )


def _store(
    a: Atlas,
    parameters: dict[str, Any],
    hierarchy: Hierarchy,
    ids: np.ndarray,
    labels: pd.Series,
    clusters: pd.DataFrame,
) -> int:
    number = next_number(a, "clusterings", "clustering_id")
    labelled, purity = label_statistics(hierarchy.labels, labels)
    a.insert(
        "clusterings",
        pa.Table.from_pylist(
            [
                {
                    "clustering_id": number,
                    **parameters,
                    "algorithm": "HDBSCAN on the exact minimum spanning tree"
                    if hierarchy.neighbors is None
                    else f"HDBSCAN on the spanning tree of {hierarchy.neighbors} neighbours each (approximate)",
                    "exact": hierarchy.neighbors is None,
                    "proven": hierarchy.proven,
                    "n_examples": len(ids),
                    "n_clusters": len(clusters),
                    "n_noise": int((hierarchy.labels < 0).sum()),
                    "purity": purity,
                }
            ]
        ),
    )
    a.insert(
        "cluster_labels",
        pa.table(
            {
                "clustering_id": np.full(len(ids), number),
                "example_id": ids,
                "label": hierarchy.labels,
                "probability": hierarchy.probabilities,
                "core_distance": hierarchy.core_distances,
                "prediction_core_distance": hierarchy.prediction_cores,
            }
        ),
    )
    if len(clusters):
        rows = pd.concat([clusters, labelled], axis="columns").assign(clustering_id=number)
        a.insert("clusters", pa.Table.from_pandas(rows, preserve_index=False))
    tree = hierarchy.tree
    a.insert(
        "condensed_trees",
        pa.table(
            {
                "clustering_id": np.full(len(tree.parent), number),
                "parent": tree.parent,
                "child": tree.child,
                "lambda_value": tree.lambda_value,
                "child_size": tree.child_size,
            }
        ),
    )
    seal(a, clustering_id=number)
    return number
