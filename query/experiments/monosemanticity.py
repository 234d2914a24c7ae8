"""Are clusters of codes about one thing, more so than other groups of examples? (SCIENCE 1; post: Prediction 1)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Int64
from plotly.subplots import make_subplots

from atlas import Atlas
from atlas.checks import whole
from atlas.store.catalog import SiteRecord, Target

from ..clustering.clusterings import SPACES
from ..clustering.labels import Clusters, Members, any_clusters, asked_clusterings, remark, stored_clusters
from ..examples.ids import holders, with_activation
from ..examples.labels import drawn, labels_of
from ..notes import Notes
from ..progress import Progress, tell
from ..sites import asked_sites
from ..statistics import check_interval, mean_interval
from .decomposition import decompose
from .figures import CHANCE, finish, interval, legend_above, name_axis, points, style, text
from .groups import Chance, Codes, intruder, measure_groups, random_groups, share_monosemantic, top_groups
from .result import Result

CODES, ACTIVATIONS, NEURONS, NMF, PCA, RANDOM = (
    "code clusters",
    "activation clusters",
    "neurons",
    "NMF",
    "PCA",
    "random groups",
)
MEASURES = ("purity", "entropy", "lift", "intruder")

NOTES = (
    "intervals: percentiles of a bootstrap over groups; groups of neurons and directions overlap, so theirs are "
    "rather too narrow. Lift: purity over that of random groups of the same size",
    "monosemantic: share of the groups whose purity exceeds one half, of those that hold two inputs or more (tokens "
    "of one text share its label); Wilson's interval",
    "clusters leave out the noise (see coverage); the top of a neuron or direction is its k highest examples above 0",
)


@dataclass(frozen=True, eq=False)
class _Site:
    """A site, the examples looked at there, and their activations where they are stored."""

    target: Target
    ids: Int64[np.ndarray, " examples"]
    activations: Float32[np.ndarray, "examples units"] | None

    @property
    def site(self) -> SiteRecord:
        return self.target.sites[0]


def monosemanticity(
    atlas: Atlas,
    *,
    network: str | None = None,
    sites: Sequence[str] | None = None,
    by: str = "label",
    k: int | None = None,
    units: int = 200,
    components: int = 64,
    members: int = 5,
    trials: int = 20,
    clusterings: Sequence[int] | None = None,
    examples: int = 10_000,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Result:
    """How alike the labels are within clusters of codes, against activations, neurons, directions and chance.

    ``sites``: names of sites; by default every position site that has codes.
    ``by``: what a group is pure in: label (class or source of the input) or token.
    ``k``: examples at the top of a neuron or direction; by default the median size of the site's code clusters.
    ``units``: at most this many neurons of a site, drawn at random from those that are ever active.
    ``components``: of NMF and of PCA.
    ``members``: of a group that are shown in an intruder test, beside the one outsider.
    ``trials``: intruder tests of a group.
    ``clusterings``: ids of clusterings of the sites' codes or activations, such as those by euclidean distance; by
    default the newest of each.
    ``examples``: at most this many of a site, drawn at random; clusters are cut down to them.

    Table: site, method, groups, size (median), coverage (share of the examples that are in a group), inputs (median
    of distinct inputs in a group), and the means over groups of purity, entropy, lift and intruder score, each with
    _low and _high, the ends of its bootstrap interval over groups; monosemantic (the share of groups whose purity
    exceeds one half, see `groups.share_monosemantic`) with Wilson's interval, n_judged (groups behind it); chance,
    what an intruder score would be by chance. Table ``groups``: a row a group (see `groups.measure_groups`,
    `groups.intruder`).

    Where no clustering of a site is stored, one is made with the defaults if the site has at most 5,000 examples. A
    clustering that is missing or finds no cluster has a row all the same, of 0 groups, and a note.
    Without stored activations there are code clusters and random groups alone, and no intruder test, whose outsiders
    are matched in activation norm. Raises `UnknownName`, `NotStored`, and `UsageError` for impossible parameters and
    where no example has a label.
    """
    record = atlas.catalog.network(network)
    chosen = asked_sites(atlas, record, sites)
    targets = [atlas.catalog.target(site=site.name, network=record.name) for site in chosen]
    asked = asked_clusterings(atlas, targets, clusterings)
    parameters = {
        "sites": [site.name for site in chosen],
        "by": by,
        "k": None if k is None else whole("k", k, 2),
        "units": whole("units", units),
        "components": whole("components", components),
        "members": whole("members", members, 2),
        "trials": whole("trials", trials),
        "examples": whole("examples", examples, 2),
        "seed": whole("seed", seed, 0),
        "resamples": resamples,
        "confidence": confidence,
        "clusterings": {site.name: {space: asked.get((site.name, space)) for space in SPACES} for site in chosen},
    }
    check_interval(resamples, confidence)
    notes, tables = Notes(*NOTES), []
    for done, site in enumerate(chosen):
        tell(progress, done, len(chosen))
        tables.append(_site(atlas, _read(atlas, site, parameters, notes), parameters, notes))
    tell(progress, len(chosen), len(chosen))
    groups = pd.concat([groups for groups, _ in tables], ignore_index=True)
    table = _summary(groups, [row for _, rows in tables for row in rows], parameters)
    return Result("monosemanticity", record.name, parameters, {"table": table, "groups": groups}, notes.lines())


def draw_monosemanticity(result: Result) -> go.Figure:
    """Purity, lift and intruder score by site, a series a method."""
    table = result.table
    sites = list(dict.fromkeys(table["site"]))
    shown = [
        ("purity", "Purity (share of commonest)"),
        ("lift", "Lift over random groups"),
        ("intruder", "Intruder found (share)"),
    ]
    figure = make_subplots(rows=len(shown), cols=1, shared_xaxes=True, vertical_spacing=0.05)
    methods = [method for method in (CODES, ACTIVATIONS, NEURONS, NMF, PCA, RANDOM) if method in set(table["method"])]
    for place, method in enumerate(methods):
        rows = table[(table["method"] == method) & (table["groups"] > 0)]
        look = CHANCE if method == RANDOM else style(place)
        x = [sites.index(site) + 0.11 * (place - (len(methods) - 1) / 2) for site in rows["site"]]
        for row, (measure_, _) in enumerate(shown, start=1):
            hover = [
                f"<b>{text(r.site)}</b>, {method}<br>{measure_} "
                f"{interval(*(getattr(r, measure_ + end) for end in ('', '_low', '_high')))}<br>"
                f"n = {r.groups:,} groups, median size {r.size:g}, coverage {r.coverage:.0%}"
                for r in rows.itertuples()
            ]
            figure.add_trace(
                points(method, x, rows, measure_, look, hover=hover, legendgroup=method, showlegend=row == 1),
                row=row,
                col=1,
            )
    for row, (_, title) in enumerate(shown, start=1):
        figure.update_yaxes(title=title, row=row, col=1)
    figure.add_hline(y=1, line={"color": CHANCE.colour, "dash": "dot", "width": 1}, row=2, col=1)
    chance = 1 / (result.parameters["members"] + 1)
    figure.add_hline(y=chance, line={"color": CHANCE.colour, "dash": "dot", "width": 1}, row=3, col=1)
    for row in range(1, len(shown) + 1):
        name_axis(figure, sites, "Site, from input to output" if row == len(shown) else "", row=row, col=1)
    legend_above(figure)
    n = table["examples"]
    count = f"{n.max():,}" if n.nunique() == 1 else f"{n.min():,} to {n.max():,}"
    what = "labels" if result.parameters["by"] == "label" else "tokens"
    return finish(
        figure,
        f"{result.network}: are groups of examples about one thing?",
        f"n = {count} examples a site; purity in {what}; dotted: chance; bars: "
        f"{result.parameters['confidence']:.0%} intervals",
        result.notes,
        height=780,
        below=70,
    )


def _read(atlas: Atlas, site: SiteRecord, parameters: dict, notes: Notes) -> _Site:
    target = atlas.catalog.target(site=site.name, network=site.network)
    ids = holders(atlas, target)
    if site.n_activations:
        ids = with_activation(atlas, site, ids)
    else:
        notes.add("no activations are stored, so there are no directions and no intruder test", site.name)
    kept = drawn(ids, parameters["examples"], parameters["seed"])
    if len(kept) < len(ids):
        notes.add(f"{len(kept):,} of {len(ids):,} examples, drawn at random", site.name)
    activations = atlas.activations(site, kept)[1] if site.n_activations else None
    return _Site(target, kept, activations)


def _site(atlas: Atlas, read: _Site, parameters: dict, notes: Notes) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """A row a group of every method; and, whether it has groups or not, a row a method: site, method, examples and
    coverage."""
    labels = labels_of(atlas, read.ids, parameters["by"])
    seed, ordinal = parameters["seed"], read.site.ordinal
    chance = Chance(labels, np.random.default_rng([seed, 1, ordinal]))
    methods = _methods(atlas, read, parameters, notes)
    codes = None
    if read.activations is not None:
        norms = np.linalg.norm(read.activations.astype(np.float64), axis=1)
        codes = Codes(atlas, read.site, read.ids, norms)
    frames, rows = [], []
    for place, (method, groups) in enumerate(methods.items()):
        frame = measure_groups(groups, labels, chance)
        frame["intruder"] = np.nan
        if codes is not None:
            rng = np.random.default_rng([seed, 2, ordinal, place])
            frame["intruder"] = intruder(codes, groups, parameters["members"], parameters["trials"], rng)
        frame.insert(0, "site", read.site.name)
        frame.insert(1, "method", method)
        frame.insert(2, "group", np.arange(len(groups)))
        frames.append(frame)
        covered = len(np.unique(np.concatenate(groups))) / len(read.ids) if groups else 0.0
        rows.append({"site": read.site.name, "method": method, "examples": len(read.ids), "coverage": covered})
    if labels.n_unlabelled:
        notes.add(
            f"{labels.n_unlabelled:,} examples have no {parameters['by']} and do not count in a purity",
            read.site.name,
        )
    held = [frame for frame in frames if len(frame)]  # empty ones would make objects of the columns of the others
    return pd.concat(held, ignore_index=True), rows


def _methods(atlas: Atlas, read: _Site, parameters: dict, notes: Notes) -> dict[str, list[Members]]:
    """The groups of every method that can be had at the site."""
    seed, name = parameters["seed"], read.site.name
    found: dict[str, list[Members]] = {}
    for method, space in ((CODES, "codes"), (ACTIVATIONS, "activations")):
        if space == "activations" and read.activations is None:
            continue
        used = parameters["clusterings"][name]
        clusters: Clusters | None
        if used[space] is None:
            clusters = any_clusters(atlas, read.target, read.ids, space)
        else:
            clusters = stored_clusters(atlas, read.target, read.ids, clustering=used[space], space=space)
        if clusters is None:
            notes.add(f"no clustering of {space} is stored; `polytope cluster` makes one", name)
            found[method] = []
            continue
        found[method] = clusters.groups()
        if clusters.clustering is not None:
            used[space] = clusters.clustering.clustering_id
            notes.add(f"clusters of {space} by {clusters.clustering.metric} distance", name)
        remark(notes, read.target, clusters, place=name)
        if not found[method]:
            notes.add(f"the clustering of {space} finds no cluster: all of the examples are noise", name)
        if clusters.clustering is None:
            notes.add(f"{space} were clustered for this experiment, with the defaults", name)
    sizes = [len(group) for group in found.get(CODES, [])] or [parameters["k"] or 10]
    k = min(parameters["k"] or max(2, int(np.median(sizes))), len(read.ids))
    if read.activations is not None:
        found |= _tops(read.activations, k, parameters, notes, name)
    rng = np.random.default_rng([seed, 3, read.site.ordinal])
    found[RANDOM] = random_groups(sizes, len(read.ids), rng)
    return found


def _tops(activations: np.ndarray, k: int, parameters: dict, notes: Notes, name: str) -> dict[str, list[Members]]:
    seed = parameters["seed"]
    active = np.flatnonzero(activations.max(axis=0) > 0)
    neurons = drawn(active, parameters["units"], seed)
    if len(neurons) < len(active):
        notes.add(f"{len(neurons)} of {len(active)} active neurons, drawn at random", name)
    found = {NEURONS: _several(top_groups(activations[:, neurons], k))}
    for method, key in ((NMF, "nmf"), (PCA, "pca")):
        basis = decompose(activations, key, parameters["components"], seed)
        found[method] = _several(top_groups(basis.cosines(activations), k))
        for note in basis.notes:
            notes.add(note)
    return found


def _several(groups: list[Members]) -> list[Members]:
    return [group for group in groups if len(group) >= 2]


def _summary(groups: pd.DataFrame, methods: list[dict[str, Any]], parameters: dict) -> pd.DataFrame:
    """A row a method of a site; one without groups has no numbers."""
    rows = []
    for place, method in enumerate(methods):
        frame = groups[(groups["site"] == method["site"]) & (groups["method"] == method["method"])]
        rng = np.random.default_rng([parameters["seed"], 4, place])
        row: dict[str, object] = {
            "site": method["site"],
            "method": method["method"],
            "examples": method["examples"],
            "groups": len(frame),
            "size": float(frame["size"].median()),
            "coverage": method["coverage"],
            "inputs": float(frame["inputs"].median()),
        }
        for name in MEASURES:
            found = mean_interval(
                frame[name].to_numpy(np.float64),
                rng,
                resamples=parameters["resamples"],
                confidence=parameters["confidence"],
            )
            row |= found.columns(name)
        share = share_monosemantic(frame, parameters["confidence"])
        rows.append(
            row
            | share.columns("monosemantic")
            | {
                "n_judged": share.n,
                "chance": 1 / (parameters["members"] + 1),
            }
        )
    return pd.DataFrame(rows)
