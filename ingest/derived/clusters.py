"""HDBSCAN over what an atlas holds, stored with its parameters and with what placing new points takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from atlas.clustering.hierarchy import Hierarchy, Metric, Selection, Ties, members_of
from atlas.clustering.limits import MAX_BY_PARTS, MAX_POINTS, MEMORY_BUDGET, check_metric, check_request
from atlas.clustering.rows import not_finite
from atlas.codes import SplineCodes
from atlas.devices import Device
from atlas.errors import NonFinite, TooManyPoints, UsageError
from atlas.store.atlas import Atlas
from atlas.store.catalog import Target
from atlas.store.digests import seal

from ..progress import Progress
from ..run.engines import Engine, LocalEngine
from .index_files import span_blocks
from .job import (
    AUTOMATIC_POINTS,
    STAGING,
    Space,
    check_unchanged,
    data_digest,
    find_result,
    folder_of,
    name_of,
    next_number,
    reading,
    storing,
)
from .labels import label_statistics
from .placing import Labelled, drawn, placed_in
from .tree_tasks import TreeByParts, grow, remove, size_of, stage, stage_codes, staging_of

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
    ties: Ties | None = None,
    neighbors: int | None = None,
    parts: bool = False,
    engine: Engine | None = None,
    sample: int | None = None,
    place: bool = False,
    seed: int = 0,
    memory_budget: int = MEMORY_BUDGET,
    max_points: int | None = None,
    device: Device = "auto",
    progress: Progress | None = None,
) -> int:
    """Cluster the codes of a site or span, or the activations of a site, with HDBSCAN, and store the result.

    The same clustering of the same data is not computed twice. What can't be clustered is refused before it is read.
    An atlas given by its path is open only to read and to store the result, in one transaction. By parts, what is
    complete is kept in the folder's ``staging``, and the same call goes on there.

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
        ties: the order in which edges of equal length merge: ``hdbscan`` (as that library sorts them, the default),
            ``stable`` (alike everywhere) or ``ids`` (by the ids of both ends; of codes, and the only one by parts).
        neighbors: makes it approximate, from so many nearest neighbours of each example; it is stored as such.
        parts: compare codes a part with a part, and keep what each pair gives: as exact, within the budget of memory
            however many they are.
        engine: has the pairs of parts done, by several processes; implies ``parts``. None: this process.
        sample: cluster so many examples, drawn at random; the clustering says so.
        place: also give every other example a cluster, as HDBSCAN's approximate prediction does, and say of each that
            it was placed.
        seed: of what is drawn.
        memory_budget: bytes for distances; with less they are computed again, with the same result. By parts, bytes
            of each process.
        max_points: refuse more examples than this, unless approximate; None: 200,000, by parts 5,000,000.
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
        RunInterrupted: the target got new examples meanwhile, or Ctrl-C.
        WorkersLost: the engine's processes end again and again.
        AtlasLocked: somebody else has the atlas open.
    """
    if space not in ("codes", "activations"):
        raise UsageError(f"space is {space!r}; it is codes or activations")
    progress, parts = progress or Progress(), parts or engine is not None
    metric = metric or ("hamming" if space == "codes" else "euclidean")
    ties = ties or ("ids" if parts else "hdbscan")
    if parts and (space != "codes" or neighbors is not None or ties != "ids"):
        raise UsageError(
            "by parts codes are clustered exactly, and equal edges merge by ids: leave out --space activations, "
            "--approximate and --ties"
        )
    if place and sample is None:
        raise UsageError("examples are placed in a clustering of others: say of how many (--sample)")
    if parts and sample is not None:
        raise UsageError("a sample is clustered at once: leave out --parts and --ray, or --sample")
    with reading(path) as a:
        target = a.catalog.target(site=site, span=span, network=network)
        digest = data_digest(target, space)
        if space == "activations" and metric != "euclidean":
            raise UsageError(f"activations are clustered under euclidean, not {metric}; codes know all")
        check_metric(metric, neighbors, device)
        n = _n(a, target, space)
        rows = drawn(n, sample, seed)
        samples = check_request(
            n if rows is None else len(rows),
            units=target.sites[0].n_units if space == "activations" else None,
            min_cluster_size=min_cluster_size,
            min_samples=min_samples,
            selection=selection,
            ties=ties,
            max_points=max_points or (MAX_BY_PARTS if parts else MAX_POINTS),
            memory_budget=1 << 62 if parts else memory_budget,
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
            "sample": sample,
            "seed": None if rows is None else seed,
            "n_placed": n - len(rows) if place and rows is not None else 0,
            "data_digest": digest,
        }
        staged = staging_of(folder_of(path) / STAGING, parameters)
        known = find_result(a, "clusterings", "clustering_id", parameters)
        if known is not None:
            remove(staged)
            return known
        work: TreeByParts | None = None
        points: SplineCodes | np.ndarray
        if space == "codes" and (parts or rows is not None):  # so many that they are mapped
            index = stage_codes(staged, span_blocks(a, target.sites), target.parts, digest)
            ids, points = np.array(index.ids), SplineCodes(index.packed, index.parts)
            work = stage(staged, points, metric, samples, memory_budget, device) if parts else None
        else:
            ids, points = _points(a, target, space)
        if rows is not None and not place:
            ids, points, rows = ids[rows], points[rows], None
        labels = _labels(a, ids)
    if not isinstance(points, SplineCodes) and (row := not_finite(points)) is not None:
        raise NonFinite(
            f"the activation of example {ids[row]} at {target.name} of network {target.network.name} holds NaN or "
            "infinity, so it is at no distance from the others; cluster the codes instead"
        )
    how: dict[str, Any] = {"min_cluster_size": min_cluster_size, "selection": selection}
    if work is not None:
        found = _by_parts(work, engine or LocalEngine(), target, progress, how, memory_budget)
    else:
        how |= {"min_samples": min_samples, "ties": ties, "neighbors": neighbors, "memory_budget": memory_budget}
        how |= {"max_points": max_points or MAX_POINTS, "device": device}
        found = _at_once(points, rows, metric, f"cluster {target.name} ({space})", progress, how)
    members = _clusters(found, ids)
    with storing(path, progress) as a:
        check_unchanged(a, target, space, digest, "it was clustered")
        number = _store(a, parameters, found, ids, labels, members)
    remove(staged)
    return number


def cluster_all(path: Path | Atlas, network: str, sites: Sequence[str], *, progress: Progress) -> list[str]:
    """Cluster the codes of every site with the defaults; returns a note for each site that was left out, and why."""
    notes = []
    for site in sites:
        with reading(path) as a:
            n_codes = a.catalog.target(site=site, network=network).sites[0].n_codes
        if n_codes > AUTOMATIC_POINTS:
            notes.append(
                f"{site} was not clustered: {n_codes} examples, and only up to {AUTOMATIC_POINTS} are clustered "
                f"unasked; `polytope cluster {name_of(path)} --site {site}` does it, in a time that grows with the "
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


@dataclass(frozen=True, eq=False)
class _Found:
    """``medoids``: the row of each cluster's, among all that have a label."""

    hierarchy: Hierarchy
    labelled: Labelled
    medoids: np.ndarray


def _at_once(
    points: SplineCodes | np.ndarray,
    rows: np.ndarray | None,
    metric: Metric,
    title: str,
    progress: Progress,
    how: dict[str, Any],
) -> _Found:
    """Cluster all points, or those in some ``rows``, in whose clusters the others are placed."""
    from atlas.clustering.hdbscan import cluster_activations, cluster_codes  # with Numba and hdbscan, a second
    from atlas.clustering.medoids import medoids

    clustered = points if rows is None else points[rows]
    tree = 2 * len(clustered)
    labelled = tree + len(points) - len(clustered)
    whole = round(labelled * (1 + _SHARE_OF_MEDOIDS))
    with progress.step(title, total=whole, unit="rows") as step:
        how["progress"] = lambda done, _: step.update(done, whole)
        if isinstance(clustered, SplineCodes):
            hierarchy = cluster_codes(clustered, metric=metric, **how)
        else:
            hierarchy = cluster_activations(clustered, **how)
        if rows is None:
            found = Labelled.of(hierarchy)
        else:
            found = placed_in(hierarchy, points, rows, metric, lambda placed: step.update(tree + placed, whole))
        nearest = medoids(
            points,
            found.label,
            metric=metric,
            memory_budget=how["memory_budget"],
            progress=lambda done, of: step.update(labelled + int((whole - labelled) * done / of), whole),
        )
        step.update(whole, whole)
    return _Found(hierarchy, found, nearest)


def _by_parts(
    work: TreeByParts, engine: Engine, target: Target, progress: Progress, how: dict[str, Any], budget: int
) -> _Found:
    """As `_at_once`, of what is staged."""
    from atlas.clustering.hdbscan import hierarchy_of
    from atlas.clustering.medoids import medoids

    total, done = size_of(work)
    with progress.step(f"cluster {target.name} by parts", total=total, unit="million distances", done=done) as step:
        tree = grow(work, engine, step)
    hierarchy = hierarchy_of(tree, target.n_gates, work.metric, min_samples=work.samples, **how)
    with progress.step(f"medoids of {target.name}", unit="distances") as step:
        nearest = medoids(work.held, hierarchy.labels, metric=work.metric, memory_budget=budget, progress=step.update)
    return _Found(hierarchy, Labelled.of(hierarchy), nearest)


def _labels(a: Atlas, ids: np.ndarray) -> pd.Series:
    frame = a.frame("select example_id, label from examples")
    return frame.set_index("example_id")["label"].reindex(ids)


def _clusters(found: _Found, ids: np.ndarray) -> pd.DataFrame:
    """One row a cluster."""
    return pd.DataFrame(
        [
            {
                "label": number,
                "size": len(members),
                "medoid": int(ids[found.medoids[number]]),
                "persistence": float(found.hierarchy.persistence[number]),
                "node": int(found.hierarchy.nodes[number]),
                "n_placed": int(found.labelled.placed[members].sum()),
            }
            for number, members in enumerate(members_of(found.labelled.label))
        ]
    )


def _algorithm(parameters: dict[str, Any]) -> str:
    """How the hierarchy was computed, in words."""
    of = "" if parameters["sample"] is None else f" of a sample of {parameters['sample']}"
    if parameters["neighbors"] is None:
        how = f"HDBSCAN on the exact minimum spanning tree{of}"
    else:
        how = f"HDBSCAN on the spanning tree of {parameters['neighbors']} neighbours each{of} (approximate)"
    return f"{how}; the others placed by approximate prediction" if parameters["n_placed"] else how


def _store(
    a: Atlas,
    parameters: dict[str, Any],
    found: _Found,
    ids: np.ndarray,
    labels: pd.Series,
    clusters: pd.DataFrame,
) -> int:
    number = next_number(a, "clusterings", "clustering_id")
    labelled, purity = label_statistics(found.labelled.label, labels)
    a.insert(
        "clusterings",
        pa.Table.from_pylist(
            [
                {
                    "clustering_id": number,
                    **parameters,
                    "algorithm": _algorithm(parameters),
                    "exact": parameters["neighbors"] is None and parameters["sample"] is None,
                    "proven": found.hierarchy.proven,
                    "n_examples": len(ids),
                    "n_clusters": len(clusters),
                    "n_noise": int((found.labelled.label < 0).sum()),
                    "purity": purity,
                }
            ]
        ),
    )
    a.insert(
        "cluster_labels",
        pa.table({"clustering_id": np.full(len(ids), number), "example_id": ids, **vars(found.labelled)}),
    )
    if len(clusters):
        rows = pd.concat([clusters, labelled], axis="columns").assign(clustering_id=number)
        a.insert("clusters", pa.Table.from_pandas(rows, preserve_index=False))
    tree = found.hierarchy.tree
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
