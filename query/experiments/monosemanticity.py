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
from ..clustering.labels import (
    Clusters,
    Members,
    any_clusters,
    asked_clusterings,
    remark,
    remark_parameters,
    stored_clusters,
)
from ..examples.ids import holders, with_activation
from ..examples.labels import drawn, labels_of
from ..notes import Notes
from ..progress import Progress, tell
from ..sites import asked_sites
from ..statistics import Interval, mean_interval
from .claims import NUMBERS, Claim, Part, Row, Verdict, Word, everywhere, number, vote_of
from .decomposition import decompose
from .figures import CHANCE, finish, interval, legend_above, name_axis, points, style, text
from .groups import Chance, Codes, intruder, measure_groups, random_groups, share_monosemantic, top_groups
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

CODES, ACTIVATIONS, NEURONS, NMF, PCA, RANDOM = (
    "code clusters",
    "activation clusters",
    "neurons",
    "NMF",
    "PCA",
    "random groups",
)
MEASURES = ("purity", "entropy", "lift", "intruder")

Used = dict[tuple[str, str], int]
"""The clustering taken for a site's name and a space: those asked for, and what was found in the atlas."""

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


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    sites: Sequence[str] | None = None
    """Names of sites; by default every position site that has codes."""

    by: str = "label"
    """What a group is pure in: label (class or source of the input) or token."""

    k: int | None = None
    """Examples at the top of a neuron or direction; by default the median size of the site's code clusters."""

    units: int = 200
    """At most this many neurons of a site, drawn at random from those that are ever active."""

    components: int = 64
    """Of NMF and of PCA."""

    members: int = 5
    """Of a group that are shown in an intruder test, beside the one outsider."""

    trials: int = 20
    """Intruder tests of a group."""

    clusterings: Sequence[int] | None = None
    """Ids of clusterings of the sites' codes or activations, such as those by euclidean distance; by default the
    newest of each."""

    examples: int = 10_000
    """At most this many of a site, drawn at random; clusters are cut down to them."""


TABLES = {
    "table": table_of(
        "a site and a method of grouping examples",
        Column("site", str, "name of the site"),
        Column("method", str, "code clusters, activation clusters, neurons, NMF or PCA directions, or random groups"),
        Column("examples", int, "examples of the site"),
        Column("groups", int, "groups"),
        Column("size", float, "median size of a group", "examples"),
        Column("coverage", float, "share of the examples that are in a group"),
        Column("inputs", float, "median of the distinct inputs in a group"),
        *with_interval("purity", "mean share of a group's labelled members with its commonest label"),
        *with_interval("entropy", "mean entropy of the labels of a group, 0 (pure) to 1"),
        *with_interval("lift", "mean of the purity over that of random groups of the size"),
        *with_interval("intruder", "mean share of intruder tests in which the outsider is told"),
        *with_interval("monosemantic", "share of the groups whose purity exceeds one half"),
        Column("n_judged", int, "groups behind that share: those of several inputs"),
        Column("chance", float, "what an intruder score would be by chance"),
    ),
    "groups": table_of(
        "a group",
        Column("site", str, "name of the site"),
        Column("method", str, "what made the group"),
        Column("group", int, "number of the group, from 0"),
        Column("size", int, "members"),
        Column("labelled", int, "of these, members with a label"),
        Column("inputs", int, "inputs that they are of"),
        Column("purity", float, "share of the labelled with the commonest label"),
        Column("entropy", float, "entropy of their labels, 0 (pure) to 1"),
        Column("lift", float, "purity over that of random groups of the size"),
        Column("top_label", str, "the commonest label"),
        Column("intruder", float, "share of intruder tests in which the outsider is told"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Group the examples of every site by each method, and measure the groups.

    Where no clustering of a site is stored, one is made with the defaults if the site has at most 5,000 examples. A
    clustering that is missing or finds no cluster has a row all the same, of 0 groups, and a note. Without stored
    activations there are code clusters and random groups alone, and no intruder test, whose outsiders are matched in
    activation norm.

    Raises `UnknownName`, `NotStored`, and `UsageError` for impossible parameters and where no example has
    a label.
    """
    record = atlas.catalog.network(options.network)
    chosen = asked_sites(atlas, record, options.sites)
    targets = [atlas.catalog.target(site=site.name, network=record.name) for site in chosen]
    used = asked_clusterings(atlas, targets, options.clusterings)
    for name, least in (("units", 1), ("components", 1), ("members", 2), ("trials", 1), ("examples", 2)):
        whole(name, getattr(options, name), least)
    if options.k is not None:
        whole("k", options.k, 2)
    notes, tables, compared = Notes(*NOTES), [], list[Clusters]()
    for done, site in enumerate(chosen):
        tell(progress, done, len(chosen))
        tables.append(_site(atlas, _read(atlas, site, options, notes), options, used, notes, compared))
    tell(progress, len(chosen), len(chosen))
    remark_parameters(notes, compared)
    groups = pd.concat([groups for groups, _ in tables], ignore_index=True)
    table = _summary(groups, [row for _, rows in tables for row in rows], options)
    clusterings = {site.name: {space: used.get((site.name, space)) for space in SPACES} for site in chosen}
    parameters = {"sites": [site.name for site in chosen], "clusterings": clusterings}
    return Result("monosemanticity", record.name, parameters, {"table": table, "groups": groups}, notes.lines())


def figure(result: Result) -> go.Figure:
    """Purity, lift and intruder score by site, a series a method."""
    table = result.table
    sites = list(dict.fromkeys(table["site"]))
    shown = [
        ("purity", "Purity (share of commonest)"),
        ("lift", "Lift over random groups"),
        ("intruder", "Intruder found (share)"),
    ]
    drawing = make_subplots(rows=len(shown), cols=1, shared_xaxes=True, vertical_spacing=0.05)
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
            drawing.add_trace(
                points(method, x, rows, measure_, look, hover=hover, legendgroup=method, showlegend=row == 1),
                row=row,
                col=1,
            )
    for row, (_, title) in enumerate(shown, start=1):
        drawing.update_yaxes(title=title, row=row, col=1)
    drawing.add_hline(y=1, line={"color": CHANCE.colour, "dash": "dot", "width": 1}, row=2, col=1)
    chance = 1 / (result.parameters["members"] + 1)
    drawing.add_hline(y=chance, line={"color": CHANCE.colour, "dash": "dot", "width": 1}, row=3, col=1)
    for row in range(1, len(shown) + 1):
        name_axis(drawing, sites, "Site, from input to output" if row == len(shown) else "", row=row, col=1)
    legend_above(drawing)
    n = table["examples"]
    count = f"{n.max():,}" if n.nunique() == 1 else f"{n.min():,} to {n.max():,}"
    what = "labels" if result.parameters["by"] == "label" else "tokens"
    return finish(
        drawing,
        f"{result.network}: are groups of examples about one thing?",
        f"n = {count} examples a site; purity in {what}; dotted: chance; bars: "
        f"{result.parameters['confidence']:.0%} intervals",
        result.notes,
        height=780,
        below=70,
    )


def _read(atlas: Atlas, site: SiteRecord, options: Options, notes: Notes) -> _Site:
    target = atlas.catalog.target(site=site.name, network=site.network)
    ids = holders(atlas, target)
    if site.n_activations:
        ids = with_activation(atlas, site, ids)
    else:
        notes.add("no activations are stored, so there are no directions and no intruder test", site.name)
    kept = drawn(ids, options.examples, options.seed)
    if len(kept) < len(ids):
        notes.add(f"{len(kept):,} of {len(ids):,} examples, drawn at random", site.name)
    activations = atlas.activations(site, kept)[1] if site.n_activations else None
    return _Site(target, kept, activations)


def _site(
    atlas: Atlas, read: _Site, options: Options, used: Used, notes: Notes, compared: list[Clusters]
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """A row a group of every method; and, whether it has groups or not, a row a method: site, method, examples and
    coverage. The clusterings looked at are added to ``compared``."""
    labels = labels_of(atlas, read.ids, options.by)
    seed, ordinal = options.seed, read.site.ordinal
    chance = Chance(labels, np.random.default_rng([seed, 1, ordinal]))
    methods = _methods(atlas, read, options, used, notes, compared)
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
            frame["intruder"] = intruder(codes, groups, options.members, options.trials, rng)
        frame.insert(0, "site", read.site.name)
        frame.insert(1, "method", method)
        frame.insert(2, "group", np.arange(len(groups)))
        frames.append(frame)
        covered = len(np.unique(np.concatenate(groups))) / len(read.ids) if groups else 0.0
        rows.append({"site": read.site.name, "method": method, "examples": len(read.ids), "coverage": covered})
    if labels.n_unlabelled:
        notes.add(
            f"{labels.n_unlabelled:,} examples have no {options.by} and do not count in a purity",
            read.site.name,
        )
    held = [frame for frame in frames if len(frame)]  # empty ones would make objects of the columns of the others
    return pd.concat(held, ignore_index=True), rows


def _methods(
    atlas: Atlas, read: _Site, options: Options, used: Used, notes: Notes, compared: list[Clusters]
) -> dict[str, list[Members]]:
    """The groups of every method that can be had at the site."""
    seed, name = options.seed, read.site.name
    found: dict[str, list[Members]] = {}
    for method, space in ((CODES, "codes"), (ACTIVATIONS, "activations")):
        if space == "activations" and read.activations is None:
            continue
        clusters: Clusters | None
        if (name, space) not in used:
            clusters = any_clusters(atlas, read.target, read.ids, space)
        else:
            clusters = stored_clusters(atlas, read.target, read.ids, clustering=used[name, space], space=space)
        if clusters is None:
            notes.add(f"no clustering of {space} is stored; `polytope cluster` makes one", name)
            found[method] = []
            continue
        found[method] = clusters.groups()
        compared.append(clusters)
        if clusters.clustering is not None:
            used[name, space] = clusters.clustering.clustering_id
            notes.add(f"clusters of {space} by {clusters.clustering.metric} distance", name)
        remark(notes, read.target, clusters, place=name)
        if not found[method]:
            notes.add(f"the clustering of {space} finds no cluster: all of the examples are noise", name)
        if clusters.clustering is None:
            notes.add(f"{space} were clustered for this experiment, with the defaults", name)
    sizes = [len(group) for group in found.get(CODES, [])] or [options.k or 10]
    k = min(options.k or max(2, int(np.median(sizes))), len(read.ids))
    if read.activations is not None:
        found |= _tops(read.activations, k, options, notes, name)
    rng = np.random.default_rng([seed, 3, read.site.ordinal])
    found[RANDOM] = random_groups(sizes, len(read.ids), rng)
    return found


def _tops(activations: np.ndarray, k: int, options: Options, notes: Notes, name: str) -> dict[str, list[Members]]:
    seed = options.seed
    active = np.flatnonzero(activations.max(axis=0) > 0)
    neurons = drawn(active, options.units, seed)
    if len(neurons) < len(active):
        notes.add(f"{len(neurons)} of {len(active)} active neurons, drawn at random", name)
    found = {NEURONS: _several(top_groups(activations[:, neurons], k))}
    for method, key in ((NMF, "nmf"), (PCA, "pca")):
        basis = decompose(activations, key, options.components, seed)
        found[method] = _several(top_groups(basis.cosines(activations), k))
        for note in basis.notes:
            notes.add(note)
    return found


def _several(groups: list[Members]) -> list[Members]:
    return [group for group in groups if len(group) >= 2]


def _summary(groups: pd.DataFrame, methods: list[dict[str, Any]], options: Options) -> pd.DataFrame:
    """A row a method of a site; one without groups has no numbers."""
    rows = []
    for place, method in enumerate(methods):
        frame = groups[(groups["site"] == method["site"]) & (groups["method"] == method["method"])]
        rng = np.random.default_rng([options.seed, 4, place])
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
                resamples=options.resamples,
                confidence=options.confidence,
            )
            row |= found.columns(name)
        share = share_monosemantic(frame, options.confidence)
        rows.append(
            row
            | share.columns("monosemantic")
            | {
                "n_judged": share.n,
                "chance": 1 / (options.members + 1),
            }
        )
    return pd.DataFrame(rows)


# --- what it decides -----------------------------------------------------------------------------------------------


def _share(what: str, found: Interval) -> Row:
    return {"what": what, "value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _numbers(rows: list[Row]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=NUMBERS)  # of no rows too


def _ballot(votes: Sequence[int], sites: int) -> Word:
    """`BALLOT`: sites that do not vote are neither for nor against."""
    return everywhere([*votes, *[0] * (sites - len(votes))])


# --- Prediction 1 ------------------------------------------------------------------------------------------------

LEAST_GROUPS = 10
"""Groups below which a site does not vote: intervals of the mean of fewer are far too narrow."""

BALLOT = "Supported: every site is for. Not supported: more than half of all sites are against. Else undecided."

CLUSTERS_RULE = (
    "A cluster is monosemantic where its purity exceeds one half; clusters of a single input are left out. A site "
    f"votes where at least {LEAST_GROUPS} clusters remain: for, where the interval (Wilson's) of the share of "
    "monosemantic clusters lies above one half and that of the mean lift (purity over that of random groups of the "
    f"same size) above 1; against, where either lies below. {BALLOT}"
)


def clusters_are_monosemantic(result: Result) -> Verdict:
    """`CLUSTERS_RULE`, on `monosemanticity`: of clusters of codes."""
    return _monosemantic(result, "code clusters")


def activation_clusters_are_monosemantic(result: Result) -> Verdict:
    """`CLUSTERS_RULE`, on `monosemanticity`: of clusters of activations."""
    return _monosemantic(result, "activation clusters")


def _monosemantic(result: Result, method: str) -> Verdict:
    groups = result.tables["groups"]
    votes, numbers = [], []
    rows = _rows_of(result, method)
    for row in rows:
        share, by_chance = (
            share_monosemantic(groups[(groups["site"] == row["site"]) & (groups["method"] == of)])
            for of in (method, "random groups")
        )
        if share.n >= LEAST_GROUPS:
            each = (vote_of(share.low, share.high, 0.5), vote_of(row["lift_low"], row["lift_high"], 1.0))
            votes.append(min(each))
        voice = "" if share.n >= LEAST_GROUPS else " (too few to vote)"
        numbers += [
            _share(f"{row['site']}: monosemantic {method}, share{voice}", share),
            _share(f"{row['site']}: the same of random groups of their sizes", by_chance),
            *(
                number(f"{row['site']}: {label} of {method}", row, name, row["groups"])
                for name, label in (("purity", "mean purity"), ("lift", "mean lift"), ("intruder", "intruder found"))
            ),
        ]
    because = (
        f"{sum(v > 0 for v in votes)} of {len(votes)} voting sites for, {sum(v < 0 for v in votes)} against; "
        f"{len(rows) - len(votes)} have fewer than {LEAST_GROUPS} clusters and do not vote"
    )
    return Verdict(_ballot(votes, len(rows)), because, _numbers(numbers))


NEURONS_RULE = (
    f"A site votes where it has at least {LEAST_GROUPS} code clusters and as many tops of neurons: for, where the "
    "interval of the mean lift of code clusters lies above that of the neurons' tops; against, where it lies below. "
    f"{BALLOT}"
)


def clusters_beat_neurons(result: Result) -> Verdict:
    """`NEURONS_RULE`, on `monosemanticity`."""
    clusters = {row["site"]: row for row in _rows_of(result, "code clusters")}
    neurons = {row["site"]: row for row in _rows_of(result, "neurons")}
    sites = [site for site in clusters if site in neurons]
    votes = [
        int(clusters[site]["lift_low"] > neurons[site]["lift_high"])
        - int(clusters[site]["lift_high"] < neurons[site]["lift_low"])
        for site in sites
        if min(clusters[site]["groups"], neurons[site]["groups"]) >= LEAST_GROUPS
    ]
    numbers = [
        number(f"{site}: mean lift of {words}", rows[site], "lift", rows[site]["groups"])
        for site in sites
        for words, rows in (("code clusters", clusters), ("neurons' tops", neurons))
    ]
    because = (
        f"clusters are clearly purer at {sum(v > 0 for v in votes)} of {len(votes)} voting sites, neurons at "
        f"{sum(v < 0 for v in votes)}; {len(clusters) - len(votes)} do not vote"
    )
    return Verdict(_ballot(votes, len(clusters)), because, _numbers(numbers))


# --- rows of tables ----------------------------------------------------------------------------------------------


def _rows_of(result: Result, method: str) -> list[Row]:
    return result.table[result.table["method"] == method].to_dict("records")


EXPERIMENT = Experiment(
    name="monosemanticity",
    version=3,
    section=1,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    clusterings=True,
    quick={"units": 30, "components": 8, "trials": 5, "resamples": 200},
    claims=(
        Claim(
            "clusters",
            Part.PREDICTION_1,
            1,
            "The majority of clusters of spline codes are monosemantic.",
            judge=clusters_are_monosemantic,
            rule=CLUSTERS_RULE,
            untrained=True,
        ),
        Claim(
            "activations",
            Part.PREDICTION_1,
            2,
            "The majority of clusters of activations are monosemantic.",
            judge=activation_clusters_are_monosemantic,
            rule=CLUSTERS_RULE,
            untrained=True,
        ),
        Claim(
            "tops",
            Part.PREDICTION_1,
            3,
            "Such regions are more monosemantic than what activates a neuron.",
            judge=clusters_beat_neurons,
            rule=NEURONS_RULE,
            untrained=True,
        ),
    ),
)
