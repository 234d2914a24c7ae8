"""What activates a unit over its whole range, and which units are about how many things (SCIENCE 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import NotStored, UnknownName
from atlas.store.catalog import SiteRecord, Target

from ..clustering.clusterings import NOISE, latest_clustering
from ..clustering.labels import Clusters, stored_clusters
from ..examples.description import describe
from ..examples.ids import is_span
from ..examples.labels import Labels
from ..notes import Notes
from ..progress import Progress
from ..sites import asked_network, asked_site
from .activations import gate_of, no_activations, unit_values
from .bands import composition_of_parts, examples_of_parts, parts_of_unit
from .ranking import NOTES, mean_entropies, rank_units, read_units

SHOWN_GROUPS = 6
"""Clusters or labels that a histogram tells apart; the others are counted together."""

OTHERS, NONE_NAMES = "others", ("noise", "no label")


@dataclass(frozen=True, eq=False)
class Unit:
    """What is known of a unit.

    ``gate``: of the code of the same site, on exactly where the unit is above 0; None where no gate is the unit's.
    ``n``: examples with an activation. ``n_on``: of these above 0. ``highest``: activation.
    ``table``: the unit's top and examples of its bands, as `query.experiments.neuron` has them, with what `nearest`
    shows of an example. ``composition``: of each part, how many examples lie in each cluster and bear each label.
    ``histogram``: what (cluster or label), name, low, high (activations above 0), n.
    ``clustering``: whose clusters these are; None where none is stored.
    """

    site: str
    unit: int
    gate: int | None
    n: int
    n_on: int
    highest: float
    table: pd.DataFrame
    composition: pd.DataFrame
    histogram: pd.DataFrame
    clustering: int | None


def unit(
    atlas: Atlas,
    unit: int,
    *,
    site: str | None = None,
    network: str | None = None,
    k: int = 20,
    bands: int = 5,
    per_band: int = 5,
    bins: int = 40,
    clustering: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Unit:
    """What activates a unit, over all examples: the highest, and examples of equally full bands.

    The activations above 0 are cut into bands of as many examples each; band 1 is the lowest.

    Args:
        atlas: an open atlas.
        unit: its number at the site, from 0.
        site: by default the one two thirds of the way up.
        network: its network, where several have such a site.
        k: how many of the highest.
        bands: how many bands.
        per_band: how many examples of each band, drawn at random.
        bins: of the histogram.
        clustering: id of a clustering of the site; by default the newest of its codes.
        seed: of the draw.
        progress: is told (steps done, steps in all).

    Returns:
        The `Unit`.

    Raises:
        UsageError: for a unit that the site does not have, and for impossible parameters.
        UnknownName: for a site or clustering that is not there.
        NotStored: for a site without activations.
    """
    place, number = asked_unit(atlas, unit, site, network)
    k, bands, per_band, bins = whole("k", k), whole("bands", bands), whole("per_band", per_band), whole("bins", bins)
    target = atlas.catalog.target(site=place.name, network=place.network)
    ids, column = unit_values(atlas, place, number, progress)
    clusters, labels = _clusters(atlas, target, ids, clustering), _labels(atlas, place, ids)
    parts = parts_of_unit(column, k, bands)
    shown = examples_of_parts(atlas, place, ids, column, parts, per_band, clusters, labels, seed)
    described = describe(atlas, target.network, shown["example_id"].to_numpy(np.int64))
    known = shown[["part", "rank", "activation", "cluster"]]
    composition = composition_of_parts(column, parts, clusters, labels)
    if clusters.clustering is None:
        composition = composition[composition["what"] == "label"].reset_index(drop=True)
    return Unit(
        place.name,
        number,
        gate_of(place, number),
        len(ids),
        int((column > 0).sum()),
        float(column.max()),
        pd.concat([known, described], axis=1),
        composition,
        _histogram(column, clusters, labels, bins),
        clusters.clustering.clustering_id if clusters.clustering else None,
    )


def units(
    atlas: Atlas,
    *,
    site: str | None = None,
    network: str | None = None,
    k: int = 20,
    by: str = "label",
    clustering: int | None = None,
    examples: int = 10_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Every unit of a site that is ever above 0, those first whose top is spread over labels most evenly.

    Where no example bears a label, over groups: clusters whose commonest label is the same are one, noise is another.

    It is the ranking of the experiment ``neuron`` with the same parameters, without a unit to look at.

    Args:
        atlas: an open atlas.
        site: by default the one two thirds of the way up.
        network: its network, where several have such a site.
        k: how many of the highest examples make a unit's top.
        by: label or token.
        clustering: id of a clustering of the site; by default the newest of its codes.
        examples: at most so many, drawn at random.
        seed: of the draws.
        progress: is told (steps done, steps in all).

    Returns:
        A row a unit: unit, active (share of examples above 0), highest (activation), top (examples in it), clusters,
        labels and groups (distinct in the top), cluster_entropy, label_entropy and group_entropy (bits), noise,
        examples (ids of the highest, in order). ``frame.attrs``: site, network, n, clustering, notes, and chance: the
        means of the entropies over random sets of ``k``, and over the units.

    Raises:
        UnknownName: for a site or clustering that is not there.
        NotStored: for a site without activations.
        UsageError: for impossible parameters.
    """
    place = _site(atlas, site, network)
    notes = Notes(*NOTES)
    ids, values, clusters, labels = read_units(
        atlas, place, by, clustering, whole("examples", examples, 2), seed, notes
    )
    frame = rank_units(values, clusters, labels, whole("k", k, 2), progress)
    if not frame.empty:
        frame["examples"] = [ids[first].tolist() for first in frame.pop("first")]
    frame.attrs.update(
        site=place.name,
        network=place.network,
        n=len(ids),
        notes=list(notes.lines()),
        clustering=clusters.clustering.clustering_id if clusters.clustering else None,
        chance=None if frame.empty else mean_entropies(frame, clusters, labels, k, seed),
    )
    return frame


def _site(atlas: Atlas, site: str | None, network: str | None) -> SiteRecord:
    record = asked_network(atlas, network, site)
    if site is not None:
        target = atlas.catalog.target(site=site, network=record.name)
        if len(target.sites) != 1 or is_span(target):
            raise NotStored(f"a span ({target.name}) has gates but no units of its own; name a site")
        if not target.sites[0].n_activations:
            raise no_activations(target.sites[0])
    return asked_site(atlas, record, site)


def asked_unit(atlas: Atlas, unit: object, site: str | None, network: str | None) -> tuple[SiteRecord, int]:
    """A unit of a site that stores activations. Raises as `unit` does."""
    place = _site(atlas, site, network)
    try:
        return place, whole("unit", unit, 0, place.n_units - 1)
    except ValueError as error:
        raise type(error)(f"{error}: site {place.name} has {place.n_units} units, numbered from 0") from None


def _clusters(atlas: Atlas, target: Target, ids: np.ndarray, clustering: int | None) -> Clusters:
    """Clusters of one id, or the newest of the site's codes, else of its activations; without any, all in none."""
    if clustering is not None:
        return stored_clusters(atlas, target, ids, clustering=clustering)
    newest = latest_clustering(atlas, target)
    if newest is None:
        return Clusters(np.full(len(ids), NOISE), None, "no clustering is stored")
    return stored_clusters(atlas, target, ids, clustering=newest.clustering_id, space=newest.space)


def _labels(atlas: Atlas, site: SiteRecord, ids: np.ndarray) -> Labels:
    """Labels of examples; unlike an experiment, this has an answer where none has one."""
    frame = atlas.frame(
        """
        select example_id, label, input_id
        from examples
        semi join (select example_id from activations where site_id = $1 and part = 0) using (example_id)
        order by example_id
        """,
        [site.site_id],
    )
    if len(frame) != len(ids):
        raise UnknownName(f"site {site.name} has activations of examples that are not there; `polytope verify`")
    values = pd.Categorical(frame["label"])
    return Labels(
        ids, values.codes.astype(np.int64), tuple(map(str, values.categories)), frame["input_id"].to_numpy(np.int64)
    )


def _histogram(column: np.ndarray, clusters: Clusters, labels: Labels, bins: int) -> pd.DataFrame:
    """Activations above 0 by cluster and by label, the commonest among them apart from the others."""
    on = column > 0
    if not on.any():
        return pd.DataFrame({"what": [], "name": [], "low": [], "high": [], "n": []})
    edges = np.linspace(0, float(column.max()), bins + 1)
    rows = []
    named = (
        *([("cluster", clusters.labels, lambda n: str(n), NONE_NAMES[0])] if clusters.clustering else []),
        ("label", labels.numbers, lambda n: labels.names[n], NONE_NAMES[1]),
    )
    for what, numbers, name, none in named:
        distinct, counts = np.unique(numbers[on & (numbers >= 0)], return_counts=True)
        shown = distinct[np.argsort(-counts, kind="stable")][:SHOWN_GROUPS].tolist()
        groups = [(name(int(number)), numbers == number) for number in shown]
        groups += [(OTHERS, (numbers >= 0) & ~np.isin(numbers, shown)), (none, numbers < 0)]
        for title, members in groups:
            heights = np.histogram(column[on & members], edges)[0]
            if heights.any():
                rows += [
                    {"what": what, "name": title, "low": low, "high": high, "n": int(height)}
                    for low, high, height in zip(edges[:-1].tolist(), edges[1:].tolist(), heights, strict=True)
                ]
    return pd.DataFrame(rows)
