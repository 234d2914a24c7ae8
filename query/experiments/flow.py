"""What converges and what diverges from one site to a later one (SCIENCE 9; post: Discussion)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Bool, Float64, Int64
from plotly.subplots import make_subplots

from atlas import Atlas, hamming
from atlas.checks import whole
from atlas.errors import NotStored, UsageError
from atlas.store.catalog import NetworkRecord, Target

from ..clustering.labels import Clusters, any_clusters, no_clustering, remark, remark_parameters, stored_clusters
from ..examples.description import describe
from ..examples.ids import holders, with_activation
from ..examples.kinds import EXAMPLES
from ..examples.labels import LABELLINGS, Labels, drawn, labels_of
from ..notes import Notes
from ..progress import Progress, tell
from ..sites import asked_network, asked_sites
from ..statistics import bootstrap, mean_interval, ratio, spearman_interval, weighted_mean
from .claims import Claim, Part, Verdict, number, vote_of, word_for
from .figures import cluster_title, finish, interval, text
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .sankey import sankey
from .schema import Column, table_of, with_interval

HELD_BYTES = 1 << 28  # activations or codes of both sites that are held at once
PAIRS_AT_ONCE = 2048
BINS = 40
SHOWN_CLUSTERS = 12  # a side of the Sankey diagram; the rest are drawn as one

KINDS = {
    "convergence": ("far", "near"),
    "divergence": ("near", "far"),
    "stays near": ("near", "near"),
    "stays far": ("far", "far"),
}
"""Kind of a pair: where its distance lies before, and after."""

NOTES = (
    "pairs drawn at random, never two examples of the same input; near: distance at or below the quantile at that "
    "site, far: at or above one minus it. Lift: share of such pairs over what it would be if near and far at the two "
    "sites were independent",
    "intervals: percentiles of a bootstrap over inputs, since pairs share them, and tokens of a text their context",
)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Places of both examples, their inputs, distances before and after, and whether the labels agree (NaN: one has
    none)."""

    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]
    inputs: Int64[np.ndarray, "pairs 2"]
    before: Float64[np.ndarray, " pairs"]
    after: Float64[np.ndarray, " pairs"]
    same: Float64[np.ndarray, " pairs"]


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    before: str | None = None
    """The earlier site; by default the first."""

    after: str | None = None
    """The later site; by default the last."""

    space: str = "activations"
    """Distance is 1 − cosine of activations, or the share of gates in which codes differ."""

    quantile: float = 0.1
    """Share of the pairs that is called near, and far, at each site; below 0.5."""

    pairs: int = 20_000
    """Drawn at random."""

    by: str = "label"
    """Label (class or source of the input) or token, in which the two of a pair agree or not."""

    clustering_before: int | None = None
    """Id of a clustering of the earlier site; by default the newest of its codes."""

    clustering_after: int | None = None
    """The same of the later site."""

    shown: int = 10
    """Pairs of each of convergence and divergence that are listed."""

    examples: int = 5000
    """At most this many, drawn at random; fewer where activations or codes of them take 256 MB."""

    resamples: int = 300
    """Resamples of an interval, and permutations of a test."""


TABLES = {
    "table": table_of(
        "a kind of pair",
        Column("kind", str, "convergence (far before, near after), divergence (the reverse), stays near, stays far"),
        Column("n", int, "pairs of the kind"),
        Column("share", float, "share of all pairs"),
        *with_interval("lift", "share over what it would be if near and far at the sites were independent"),
        *with_interval("same", "share of these pairs that agree in label"),
        *with_interval("same_all", "that share of all pairs"),
    ),
    "pairs": table_of(
        "a pair that converges or diverges, of those whose distance changed most, in ranks",
        Column("kind", str, "convergence or divergence"),
        Column("a", int, "example id"),
        Column("b", int, "example id"),
        Column("before", float, "distance at the earlier site"),
        Column("after", float, "distance at the later site"),
        Column("label_a", str, "label of a"),
        Column("token_a", str, "token of a, of a text", optional=True),
        Column("key_a", str, "key of a, of an image", optional=True),
        Column("label_b", str, "label of b"),
        Column("token_b", str, "token of b, of a text", optional=True),
        Column("key_b", str, "key of b, of an image", optional=True),
    ),
    "matrix": table_of(
        "a cluster before and one after",
        Column("from", int, "cluster at the earlier site; -1 is noise"),
        Column("to", int, "cluster at the later site; -1 is noise"),
        Column("n", int, "examples in both"),
    ),
    "summary": table_of(
        "both sites",
        *with_interval("spearman", "rank correlation of the distances before and after"),
        Column("ami", float, "adjusted mutual information of the clusterings, over examples in a cluster of both"),
        Column("n_both", int, "examples in a cluster of both"),
        Column("n_pairs", int, "pairs"),
        Column("n", int, "examples"),
    ),
    "distances": table_of(
        "a cell of a two-dimensional histogram",
        Column("before", float, "lower edge of the distance at the earlier site"),
        Column("after", float, "lower edge of the distance at the later site"),
        Column("n", int, "pairs"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Draw pairs, compare their distances at both sites, and follow the clusters from one to the other.

    Raises `UnknownName`, `NotStored`, and `UsageError`: for impossible parameters, for sites in the wrong order.
    """
    record = asked_network(atlas, options.network, options.before or options.after)
    if not 0 < options.quantile < 0.5:
        raise UsageError(f"quantile is {options.quantile!r}; expected a share between 0 and 0.5")
    if options.space not in ("activations", "codes"):
        raise UsageError(f"space is {options.space!r}; expected activations or codes")
    if options.by not in LABELLINGS:
        raise UsageError(f"by is {options.by!r}; expected {' or '.join(LABELLINGS)}")
    shown, seed = whole("shown", options.shown), options.seed
    notes = Notes(*NOTES)
    tell(progress, 0, 4)
    ends = _ends(atlas, record, options.before, options.after)
    ids = _examples(atlas, ends, options.space, whole("examples", options.examples, 3), seed, notes)
    labels = labels_of(atlas, ids, options.by)
    found = _pairs(atlas, ends, options.space, ids, labels, whole("pairs", options.pairs, 10), seed)
    tell(progress, 1, 4)
    kinds = _kinds(found, options.quantile)
    table = _table(found, kinds, seed, options.resamples, options.confidence)
    tell(progress, 2, 4)
    chosen = (options.clustering_before, options.clustering_after)
    clusters = [_clusters(atlas, end, ids, number) for end, number in zip(ends, chosen, strict=True)]
    for found_clusters in clusters:
        notes.add(f"clusters: {found_clusters.name}")
        remark(notes, found_clusters)
    remark_parameters(notes, clusters)
    remark(notes, *ends)
    tell(progress, 3, 4)
    tables = {
        "table": table,
        "pairs": _shown(atlas, record, ids, labels, found, kinds, shown),
        "matrix": _matrix(*clusters),
        "summary": _summary(found, clusters, len(ids), seed, options.resamples, options.confidence),
        "distances": _distances(found),
    }
    tell(progress, 4, 4)
    parameters = {
        "before": ends[0].name,
        "after": ends[1].name,
        "clustering_before": clusters[0].clustering.clustering_id if clusters[0].clustering else None,
        "clustering_after": clusters[1].clustering.clustering_id if clusters[1].clustering else None,
        "n": len(ids),
        "n_pairs": len(found.first),
    }
    return Result("flow", record.name, parameters, tables, notes.lines())


def figure(result: Result) -> go.Figure:
    """Where the clusters go (Sankey), and how the distance of pairs changes."""
    parameters, [summary] = result.parameters, result.tables["summary"].to_dict("records")
    drawing = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.55, 0.45],
        specs=[[{"type": "domain"}, {"type": "xy"}]],
        subplot_titles=("members of clusters", "distance of pairs"),
    )
    flows = result.tables["matrix"].rename(columns={"from": "from_cluster", "to": "to_cluster"}).assign(step=0)
    names = (result.names_in("clustering_before"), result.names_in("clustering_after"))
    flowing = sankey(flows, lambda column, cluster: cluster_title(cluster, names[column]), SHOWN_CLUSTERS)
    drawing.add_trace(flowing, row=1, col=1)
    grid = result.tables["distances"].pivot(index="after", columns="before", values="n").astype(np.float64)
    grid = grid.where(grid > 0)  # no pair, no colour
    drawing.add_trace(
        go.Heatmap(
            x=grid.columns,
            y=grid.index,
            z=np.log10(grid.to_numpy()),
            colorscale="Cividis",
            customdata=grid.to_numpy(),
            colorbar={
                "title": "Pairs",
                "tickvals": [0, 1, 2, 3, 4],
                "ticktext": ["1", "10", "100", "1,000", "10,000"],
            },
            hovertemplate="before %{x:.3g}, after %{y:.3g}: %{customdata:,} pairs<extra></extra>",
        ),
        row=1,
        col=2,
    )
    unit = "1 − cosine" if parameters["space"] == "activations" else "share of gates that differ"
    drawing.update_xaxes(title=f"At {text(parameters['before'])} ({unit})", row=1, col=2)
    drawing.update_yaxes(title=f"At {text(parameters['after'])} ({unit})", row=1, col=2)
    rows = {row["kind"]: row for row in result.table.to_dict("records")}
    lifts = "; ".join(
        f"{kind} {interval(rows[kind]['lift'], rows[kind]['lift_low'], rows[kind]['lift_high'])} times as often as "
        "by chance"
        for kind in ("convergence", "divergence")
    )
    return finish(
        drawing,
        f"{result.network}: from {parameters['before']} to {parameters['after']}",
        f"n = {parameters['n']:,} examples, {parameters['n_pairs']:,} pairs; {lifts}; rank correlation of distances "
        f"{interval(summary['spearman'], summary['spearman_low'], summary['spearman_high'])}; clusterings agree with "
        f"AMI {summary['ami']:.2f} (n = {summary['n_both']:,})",
        result.notes,
        height=440,
    )


def _ends(atlas: Atlas, network: NetworkRecord, before: str | None, after: str | None) -> tuple[Target, Target]:
    """The two sites as targets, the earlier first."""
    sites = asked_sites(atlas, network, None)
    names = (before or sites[0].name, after or sites[-1].name)
    first, second = (asked_sites(atlas, network, [name])[0] for name in names)
    if first.scope != second.scope or first.ordinal >= second.ordinal:
        raise UsageError(
            f"flow goes from a site to a later one of the same scope; {first.name} does not come before "
            f"{second.name} ({', '.join(site.name for site in sites)})"
        )
    return tuple(atlas.catalog.target(site=site.name, network=network.name) for site in (first, second))  # type: ignore[return-value]


def _examples(
    atlas: Atlas, ends: tuple[Target, Target], space: str, most: int, seed: int, notes: Notes
) -> Int64[np.ndarray, " examples"]:
    everyone = np.intersect1d(holders(atlas, ends[0]), holders(atlas, ends[1]), assume_unique=True)
    sites = [end.sites[0] for end in ends]
    if space == "activations":
        for site in asked_sites(atlas, ends[0].network, [site.name for site in sites], activations=True):
            everyone = with_activation(atlas, site, everyone)
    bytes_each = sum(4 * site.n_units if space == "activations" else site.n_bytes for site in sites)
    ids = drawn(everyone, min(most, max(3, HELD_BYTES // bytes_each)), seed)
    if len(ids) < 3:
        raise NotStored(f"{len(ids)} examples have {space} at both {sites[0].name} and {sites[1].name}; 3 are needed")
    if len(ids) < len(everyone):
        notes.add(f"{len(ids):,} of {len(everyone):,} examples, drawn at random")
    return ids


def _pairs(
    atlas: Atlas,
    ends: tuple[Target, Target],
    space: str,
    ids: Int64[np.ndarray, " examples"],
    labels: Labels,
    wanted: int,
    seed: int,
) -> _Pairs:
    rng = np.random.default_rng([seed, 1])
    first, second = rng.integers(len(ids), size=(2, 2 * wanted))
    low, high = np.minimum(first, second), np.maximum(first, second)
    apart = labels.inputs[low] != labels.inputs[high]
    numbers = np.unique(low[apart] * len(ids) + high[apart])
    if len(numbers) < 2:
        raise UsageError(f"no two of the {len(ids)} examples are of different inputs, so there are no pairs")
    numbers = np.sort(rng.permutation(numbers)[:wanted])
    first, second = numbers // len(ids), numbers % len(ids)
    known = (labels.numbers[first] >= 0) & (labels.numbers[second] >= 0)
    same = np.where(known, (labels.numbers[first] == labels.numbers[second]).astype(np.float64), np.nan)
    distances = [_distance(atlas, end, space, ids, first, second) for end in ends]
    inputs = np.column_stack([labels.inputs[first], labels.inputs[second]])
    return _Pairs(first, second, inputs, distances[0], distances[1], same)


def _distance(
    atlas: Atlas, end: Target, space: str, ids: np.ndarray, first: np.ndarray, second: np.ndarray
) -> Float64[np.ndarray, " pairs"]:
    """1 − cosine of activations (of a zero vector: 1), or the share of gates that differ."""
    found = np.empty(len(first))
    chunks = [slice(start, start + PAIRS_AT_ONCE) for start in range(0, len(first), PAIRS_AT_ONCE)]
    if space == "codes":
        _, codes = atlas.codes(end.sites, ids)
        for chunk in chunks:
            found[chunk] = hamming(codes[first[chunk]], codes[second[chunk]]) / end.n_gates
        return found
    _, points = atlas.activations(end.sites[0], ids)
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    unit = np.divide(points, lengths, out=np.zeros_like(points), where=lengths > 0)
    for chunk in chunks:
        found[chunk] = 1 - np.einsum("ij,ij->i", unit[first[chunk]], unit[second[chunk]], dtype=np.float64)
    return found


def _kinds(pairs: _Pairs, quantile: float) -> dict[str, Bool[np.ndarray, " pairs"]]:
    """For each kind, which pairs are of it; and where they are near and far before and after."""
    where = {}
    for place, values in (("before", pairs.before), ("after", pairs.after)):
        where["near", place] = values <= np.quantile(values, quantile)
        where["far", place] = values >= np.quantile(values, 1 - quantile)
    found = {kind: where[first, "before"] & where[then, "after"] for kind, (first, then) in KINDS.items()}
    return found | {f"{side} {place}": chosen for (side, place), chosen in where.items()}


def _table(pairs: _Pairs, kinds: dict[str, np.ndarray], seed: int, resamples: int, confidence: float) -> pd.DataFrame:
    options: dict[str, Any] = {"resamples": resamples, "confidence": confidence}
    everyone = mean_interval(pairs.same, np.random.default_rng([seed, 4]), units=pairs.inputs, **options)
    rows = []
    for place, (kind, (before, after)) in enumerate(KINDS.items()):
        chosen = kinds[kind]
        was, becomes = (kinds[side].astype(np.float64) for side in (f"{before} before", f"{after} after"))

        def lift(weights: np.ndarray, chosen: Any = chosen, was: Any = was, becomes: Any = becomes) -> np.ndarray:
            return ratio(
                weighted_mean(weights, chosen.astype(np.float64)),
                weighted_mean(weights, was) * weighted_mean(weights, becomes),
            )

        rng = np.random.default_rng([seed, 2, place])
        agree = mean_interval(pairs.same[chosen], rng, units=pairs.inputs[chosen], **options)
        rows.append(
            {
                "kind": kind,
                "n": int(chosen.sum()),
                "share": float(chosen.mean()),
                **bootstrap(len(chosen), lift, rng, units=pairs.inputs, **options).columns("lift"),
                **agree.columns("same"),
                **everyone.columns("same_all"),
            }
        )
    return pd.DataFrame(rows)


def _clusters(atlas: Atlas, end: Target, ids: np.ndarray, clustering: int | None) -> Clusters:
    if clustering is not None:
        return stored_clusters(atlas, end, ids, clustering=clustering)
    found = any_clusters(atlas, end, ids, "codes")
    if found is None:
        raise no_clustering(atlas, end, "codes")
    return found


def _matrix(before: Clusters, after: Clusters) -> pd.DataFrame:
    frame = pd.DataFrame({"from": before.labels, "to": after.labels})
    return frame.value_counts(sort=False).rename("n").reset_index().sort_values(["from", "to"], ignore_index=True)


def _summary(
    pairs: _Pairs, clusters: list[Clusters], n: int, seed: int, resamples: int, confidence: float
) -> pd.DataFrame:
    from sklearn.metrics import adjusted_mutual_info_score

    found = spearman_interval(
        pairs.before,
        pairs.after,
        np.random.default_rng([seed, 3]),
        units=pairs.inputs,
        resamples=resamples,
        confidence=confidence,
    )
    both = (clusters[0].labels >= 0) & (clusters[1].labels >= 0)
    ami = adjusted_mutual_info_score(clusters[0].labels[both], clusters[1].labels[both]) if both.any() else np.nan
    return pd.DataFrame(
        [{**found.columns("spearman"), "ami": float(ami), "n_both": int(both.sum()), "n_pairs": found.n, "n": n}]
    )


def _shown(
    atlas: Atlas,
    network: NetworkRecord,
    ids: np.ndarray,
    labels: Labels,
    pairs: _Pairs,
    kinds: dict[str, np.ndarray],
    count: int,
) -> pd.DataFrame:
    change = pd.Series(pairs.after).rank().to_numpy() - pd.Series(pairs.before).rank().to_numpy()
    rows = []
    for kind, sign in (("convergence", 1), ("divergence", -1)):
        chosen = np.flatnonzero(kinds[kind])
        for pair in chosen[np.argsort(sign * change[chosen], kind="stable")[:count]]:
            a, b = pairs.first[pair], pairs.second[pair]
            rows.append((kind, a, b, float(pairs.before[pair]), float(pairs.after[pair])))
    kinds_of_column = {"kind": "str", "a": "int64", "b": "int64", "before": "float64", "after": "float64"}
    frame = pd.DataFrame(rows, columns=list(kinds_of_column)).astype(kinds_of_column)  # typed though it may be empty
    shows = EXAMPLES[network.kind].shows
    for side in ("a", "b"):
        places = frame[side].to_numpy(np.int64)
        names = [labels.names[number] if number >= 0 else None for number in labels.numbers[places]]
        frame[f"label_{side}"] = pd.Series(names, dtype=object)
        frame[f"{shows}_{side}"] = pd.Series(describe(atlas, network, ids[places])[shows].tolist(), dtype=object)
        frame[side] = ids[places]
    return frame


def _distances(pairs: _Pairs) -> pd.DataFrame:
    counts, x, y = np.histogram2d(pairs.before, pairs.after, bins=BINS)
    return pd.DataFrame(
        {"before": np.repeat(x[:-1], BINS), "after": np.tile(y[:-1], BINS), "n": counts.astype(np.int64).ravel()}
    )


# --- what it decides -----------------------------------------------------------------------------------------------

FLOW_RULE = (
    "Lift: how often pairs converge, or diverge, over how often they would if near and far at the two layers were "
    "independent of each other. Supported: the intervals of both lifts lie above 1. Not supported: one lies below 1. "
    "Else undecided."
)


def representations_flow(result: Result) -> Verdict:
    """`FLOW_RULE`, on `flow`."""
    rows = {row["kind"]: row for row in result.table.to_dict("records")}
    [summary] = result.tables["summary"].to_dict("records")
    votes = [vote_of(rows[kind]["lift_low"], rows[kind]["lift_high"], 1.0) for kind in ("convergence", "divergence")]
    word = word_for(min(votes))
    numbers = [
        number(f"{kind}: times as often as if independent", row, "lift", row["n"]) for kind, row in rows.items()
    ]
    numbers.append(number("rank correlation of distances", summary, "spearman", summary["n_pairs"]))
    lifts = " and ".join(f"{kind} {rows[kind]['lift']:.2g}" for kind in ("convergence", "divergence"))
    because = f"{lifts} times as often as if near and far were independent"
    return Verdict(word, because, pd.DataFrame(numbers))


EXPERIMENT = Experiment(
    name="flow",
    version=2,
    section=9,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    clusterings=True,
    quick={"resamples": 200},
    claims=(
        Claim(
            "flow",
            Part.DISCUSSION,
            1,
            "Representations converge and diverge between layers, more than if layers were independent.",
            judge=representations_flow,
            rule=FLOW_RULE,
        ),
    ),
)
