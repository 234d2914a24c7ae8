"""Is each direction of NMF or PCA about one cluster of codes? (SCIENCE 3; post: Prediction 1)"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float32, Int64
from plotly.subplots import make_subplots

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import UsageError
from atlas.store.catalog import SiteRecord

from ..clustering.labels import Clusters, any_clusters, no_clustering, remark, stored_clusters
from ..examples.ids import holders, with_activation
from ..examples.labels import drawn
from ..neurons.ranking import entropy
from ..notes import Notes
from ..progress import Progress, tell
from ..sites import asked_network, asked_site
from ..statistics import mean_interval, share_interval
from .claims import Claim, Part, Verdict, number, vote_of, word_for
from .decomposition import METHODS, Basis, decompose
from .figures import OTHERS, cluster_title, finish, interval, style, text
from .options import IntervalOptions
from .record import Experiment
from .result import Directions, Result
from .schema import Column, table_of, with_interval
from .targets import share

RANDOM = "random"
SHOWN_CLUSTERS = 5  # with a colour of their own; the rest are drawn as one
OTHER = -2  # number of "the rest" in the histograms

NOTES = (
    "of clustered examples only: noise has no cluster. Random: Gaussian directions of the activation space, cosines "
    "of centred activations, the baseline for PCA's; NMF's are of activations as they are",
    "intervals: Wilson's for the share of directions, which are not independent of each other; a bootstrap over "
    "directions for means",
)


@dataclass(frozen=True, eq=False)
class _Data:
    site: SiteRecord
    ids: Int64[np.ndarray, " examples"]
    activations: Float32[np.ndarray, "examples units"]
    clusters: Clusters


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    site: str | None = None
    """A site with stored activations; by default the one two thirds of the way up."""

    methods: Sequence[str] = METHODS
    """Nmf, pca, or both."""

    components: int = 64
    """Directions of each method."""

    k: int = 20
    """Examples of highest cosine that are a direction's top."""

    threshold: float = 0.5
    """A direction is monosemantic at the top when one cluster holds more than this share of it."""

    shown: int = 4
    """Directions of each method in the figure, evenly spaced from the purest top to the least pure."""

    bins: int = 40
    """Of a histogram."""

    clustering: int | None = None
    """Id of a clustering of the site; by default the newest of its codes."""

    examples: int = 10_000
    """Clustered examples, at most this many, drawn at random; the directions are fitted to them."""


TABLES = {
    "table": table_of(
        "a method, and as many random directions",
        Column("method", str, "nmf, pca or random"),
        Column("directions", int, "directions"),
        *with_interval("monosemantic", "share of the directions whose top is mostly of one cluster"),
        *with_interval("top_share", "mean share of a top that its commonest cluster holds"),
        Column("explained", float, "share of the variance, of all together"),
    ),
    "components": table_of(
        "a direction",
        Column("method", str, "nmf, pca or random"),
        Column("component", int, "number of the direction, from 0"),
        Column("explained", float, "share of the variance"),
        Column("top", int, "examples in its top"),
        Column("top_share", float, "share of the top that its commonest cluster holds"),
        Column("top_cluster", int, "that cluster"),
        Column("clusters", int, "clusters in the top"),
        Column("entropy", float, "entropy of the top over clusters", "bits"),
        Column("highest", float, "highest cosine"),
        Column("monosemantic", bool, "whether top_share exceeds the threshold"),
    ),
    "histogram": table_of(
        "a direction, a cluster and a bin of cosines",
        Column("method", str, "nmf or pca"),
        Column("component", int, "number of the direction"),
        Column("cluster", int, "the cluster; -2 is all the others"),
        Column("low", float, "lower edge of the bin"),
        Column("high", float, "upper edge of the bin"),
        Column("n", int, "examples"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Fit the directions of each method to clustered activations, and see whose examples lie at the top of each.

    A direction v and an example of activation a have the cosine (a − c)·v / (‖a − c‖₂ ‖v‖₂), with c the mean
    activation for PCA and 0 for NMF. The directions themselves are stored with the result, in the table
    ``directions`` of the atlas.

    Raises `UnknownName`, `NotStored`, and `UsageError` for impossible parameters and where nothing is clustered.
    """
    record = asked_network(atlas, options.network, options.site)
    place = asked_site(atlas, record, options.site)
    chosen = _methods(options.methods)
    threshold = share("threshold", options.threshold)
    k, bins, components = (
        whole("k", options.k, 2),
        whole("bins", options.bins, 2),
        whole("components", options.components),
    )
    whole("shown", options.shown)
    notes = Notes(*NOTES)
    data = _read(atlas, place, options.clustering, whole("examples", options.examples, 2), options.seed, notes)
    frames, histograms, found, rows = [], [], [], []
    for done, method in enumerate((*chosen, RANDOM)):
        tell(progress, done, len(chosen) + 1)
        basis = _basis(data.activations, method, components, options.seed)
        for note in basis.notes:
            notes.add(note)
        angles = basis.cosines(data.activations)
        frame = _components(method, basis, angles, data.clusters.labels, k, threshold)
        frames.append(frame)
        rng = np.random.default_rng([options.seed, 2, done])
        rows.append(_row(method, basis, frame, rng, options.resamples, options.confidence))
        if method != RANDOM:
            histograms.append(_histograms(method, frame, angles, data.clusters.labels, bins))
            found.append(Directions(place.name, method, basis.vectors, basis.explained))
    tell(progress, len(chosen) + 1, len(chosen) + 1)
    parameters = {
        "site": place.name,
        "methods": chosen,
        "n": len(data.ids),
        "clustering": data.clusters.clustering.clustering_id if data.clusters.clustering else None,
    }
    tables = {
        "table": pd.DataFrame(rows),
        "components": pd.concat(frames, ignore_index=True),
        "histogram": pd.concat(histograms, ignore_index=True),
    }
    return Result("directions", record.name, parameters, tables, notes.lines(), directions=tuple(found))


def figure(result: Result) -> go.Figure:
    """Histograms of cosines coloured by cluster, a row a method, the purest top on the left."""
    table, components = result.tables["histogram"], result.tables["components"]
    panels = table[["method", "component"]].drop_duplicates()
    shown = result.parameters["shown"]
    panels = pd.concat([_spread(rows, shown) for _, rows in panels.groupby("method", sort=False)])
    methods = list(dict.fromkeys(panels["method"]))
    columns = int(panels.groupby("method").size().max())
    titles = {
        (
            row["method"],
            row["component"],
        ): f"{row['method'].upper()} {row['component']}<br>{row['top_share']:.0%} one cluster"
        for row in components.to_dict("records")
    }
    order = {method: panels.loc[panels["method"] == method, "component"].tolist() for method in methods}
    drawing = make_subplots(
        rows=len(methods),
        cols=columns,
        horizontal_spacing=0.05,
        vertical_spacing=0.16,
        subplot_titles=[
            titles.get((m, order[m][c]), "") if c < len(order[m]) else "" for m in methods for c in range(columns)
        ],
    )
    drawing.update_annotations(font={"size": 10})  # in half a screen a panel is 80 pixels wide
    legend: set[str] = set()
    for row, method in enumerate(methods, start=1):
        for column, component in enumerate(order[method], start=1):
            here = table[(table["method"] == method) & (table["component"] == component)]
            _draw_histogram(drawing, here, row, column, legend, result.names_in("clustering"))
    drawing.update_layout(barmode="stack", bargap=0, legend={"font": {"size": 10}})
    drawing.update_yaxes(title="Examples", col=1)
    drawing.update_xaxes(title="Cosine", row=len(methods))
    shares = "; ".join(
        f"{row['method']} {interval(*(row[f'monosemantic{end}'] for end in ('', '_low', '_high')))} of "
        f"{row['directions']}"
        for row in result.table.to_dict("records")
    )
    return finish(
        drawing,
        f"{result.network}, {result.parameters['site']}: is a direction about one cluster?",
        f"n = {result.parameters['n']:,} clustered examples; share of directions whose top {result.parameters['k']} "
        f"are mostly of one cluster: {shares}",
        result.notes,
        height=240 * len(methods),
    )


def _spread(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many of the rows, evenly spaced, the first and the last among them."""
    return rows.iloc[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]


def _draw_histogram(
    figure: go.Figure, here: pd.DataFrame, row: int, column: int, legend: set[str], names: Mapping[int, str]
) -> None:
    """The clusters of a panel have colours in order of their share of its top; the legend names the ranks."""
    ranked = [cluster for cluster in dict.fromkeys(here["cluster"]) if cluster != OTHER]
    ranks = ("its commonest cluster", *(f"{n}. cluster" for n in range(2, len(ranked) + 1)))
    for place, cluster in enumerate([*ranked, OTHER]):
        bars = here[here["cluster"] == cluster]
        name = "other clusters" if cluster == OTHER else ranks[place]
        look = OTHERS if cluster == OTHER else style(place)
        words = "other clusters" if cluster == OTHER else f"cluster {cluster_title(cluster, names)}"
        figure.add_trace(
            go.Bar(
                x=(bars["low"] + bars["high"]) / 2,
                y=bars["n"],
                width=bars["high"] - bars["low"],
                name=name,
                legendgroup=name,
                showlegend=name not in legend,
                marker={"color": look.colour, "pattern": {"shape": look.pattern, "size": 4}, "line": {"width": 0}},
                hovertemplate=f"{text(words)}: %{{y}} at cosine %{{x:.3f}}<extra></extra>",
            ),
            row=row,
            col=column,
        )
        legend.add(name)


def _methods(methods: Sequence[str]) -> list[str]:
    chosen = [methods] if isinstance(methods, str) else list(methods)
    unknown = [method for method in chosen if method not in METHODS]
    if unknown or not chosen or len(set(chosen)) < len(chosen):
        raise UsageError(f"methods is {chosen}; expected one or both of {', '.join(METHODS)}")
    return chosen


def _read(atlas: Atlas, site: SiteRecord, clustering: int | None, most: int, seed: int, notes: Notes) -> _Data:
    target = atlas.catalog.target(site=site.name, network=site.network)
    everyone = with_activation(atlas, site, holders(atlas, target))
    if clustering is not None:
        clusters = stored_clusters(atlas, target, everyone, clustering=clustering)
    else:
        found = any_clusters(atlas, target, everyone, "codes")
        if found is None:
            raise no_clustering(atlas, target, "codes")
        clusters = found
    clustered = np.flatnonzero(clusters.labels >= 0)
    if len(clustered) < 2:
        raise UsageError(f"{clusters.name} has {len(clustered)} clustered examples with activations; 2 are needed")
    kept = drawn(clustered, most, seed)
    if len(kept) < len(clustered):
        notes.add(f"{len(kept):,} of {len(clustered):,} clustered examples, drawn at random")
    notes.add(f"clusters: {clusters.name}")
    remark(notes, target, clusters)
    ids = everyone[kept]
    return _Data(
        site,
        ids,
        atlas.activations(site, ids)[1],
        Clusters(clusters.labels[kept], clusters.clustering, clusters.name),
    )


def _basis(activations: np.ndarray, method: str, components: int, seed: int) -> Basis:
    if method != RANDOM:
        return decompose(activations, method, components, seed)
    rng = np.random.default_rng([seed, 1])
    vectors = rng.standard_normal((components, activations.shape[1])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Basis(RANDOM, vectors, activations.mean(axis=0), None, ())


def _components(
    method: str, basis: Basis, angles: np.ndarray, labels: np.ndarray, k: int, threshold: float
) -> pd.DataFrame:
    rows = []
    for component, angle in enumerate(angles.T):
        top = labels[np.argsort(-angle, kind="stable")[:k]]
        found, counts = np.unique(top, return_counts=True)
        largest = counts.max() / len(top)
        rows.append(
            {
                "method": method,
                "component": component,
                "explained": basis.explained[component] if basis.explained else np.nan,
                "top": len(top),
                "top_share": float(largest),
                "top_cluster": int(found[counts.argmax()]),
                "clusters": len(found),
                "entropy": entropy(top),
                "highest": float(angle.max()),
                "monosemantic": bool(largest > threshold),
            }
        )
    return pd.DataFrame(rows)


def _row(
    method: str, basis: Basis, frame: pd.DataFrame, rng: np.random.Generator, resamples: int, confidence: float
) -> dict[str, Any]:
    mono = share_interval(int(frame["monosemantic"].sum()), len(frame), confidence=confidence)
    top = mean_interval(frame["top_share"].to_numpy(np.float64), rng, resamples=resamples, confidence=confidence)
    return {
        "method": method,
        "directions": len(frame),
        **mono.columns("monosemantic"),
        **top.columns("top_share"),
        "explained": sum(basis.explained) if basis.explained else np.nan,
    }


def _histograms(method: str, frame: pd.DataFrame, angles: np.ndarray, labels: np.ndarray, bins: int) -> pd.DataFrame:
    """Of every direction, in the order of their tops' purity, the purest first."""
    rows = []
    order = frame.sort_values(["top_share", "component"], ascending=[False, True])["component"]
    for component in order.to_numpy():
        angle = angles[:, component]
        edges = np.linspace(angle.min(), angle.max() + 1e-6, bins + 1)
        top = labels[np.argsort(-angle, kind="stable")[: int(frame["top"].iloc[component])]]
        found, counts = np.unique(top, return_counts=True)
        named = found[np.argsort(-counts, kind="stable")][:SHOWN_CLUSTERS]
        for cluster in [*named, OTHER]:
            chosen = ~np.isin(labels, named) if cluster == OTHER else labels == cluster
            heights = np.histogram(angle[chosen], edges)[0]
            rows += [
                {
                    "method": method,
                    "component": int(component),
                    "cluster": int(cluster),
                    "low": low,
                    "high": high,
                    "n": int(height),
                }
                for low, high, height in zip(edges[:-1].tolist(), edges[1:].tolist(), heights, strict=True)
            ]
    return pd.DataFrame(rows)


# --- what it decides -----------------------------------------------------------------------------------------------

NMF_RULE = (
    "A direction is monosemantic where one cluster holds more than half of its k examples of highest cosine. "
    "Supported: the interval (Wilson's) of the share of monosemantic NMF directions lies above one half. Not "
    "supported: below."
)


def nmf_is_monosemantic(result: Result) -> Verdict:
    """`NMF_RULE`, on `directions`."""
    rows = {row["method"]: row for row in result.table.to_dict("records")}
    numbers = [
        number(f"{method}: {words}", row, name, row["directions"])
        for method, row in rows.items()
        for name, words in (
            ("monosemantic", "share of monosemantic directions"),
            ("top_share", "mean share of a top"),
        )
    ]
    nmf = rows["nmf"]
    return Verdict(
        word_for(vote_of(nmf["monosemantic_low"], nmf["monosemantic_high"], 0.5)),
        f"{nmf['monosemantic']:.0%} of {nmf['directions']} directions",
        pd.DataFrame(numbers),
    )


EXPERIMENT = Experiment(
    name="directions",
    version=3,
    section=3,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    clusterings=True,
    quick={"components": 8, "resamples": 200},
    claims=(
        Claim(
            "directions",
            Part.PREDICTION_1,
            6,
            "Directions found by NMF are largely monosemantic.",
            judge=nmf_is_monosemantic,
            rule=NMF_RULE,
        ),
    ),
)
