"""What activates a unit, over its whole range, and how many things that is (SCIENCE 2; post: "Are directions…")."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float, Int64
from plotly.subplots import make_subplots

from atlas import Atlas
from atlas.catalog import SiteRecord
from atlas.errors import UsageError

from ..examples import describe, holders, with_activation
from .clustered import Clusters, any_clusters, no_clustering, stored_clusters
from .figures import CHANCE, GREY, OTHERS, finish, one_line, style, text
from .groups import Members
from .result import Progress, Result
from .statistics import check_interval, mean_interval
from .targets import Labels, Notes, asked_network, asked_site, drawn, labels_of, tell, whole

OFF = "off"
SHOWN_NAMES = 6  # labels or clusters with a colour of their own; the palette has eight
RANDOM_TOPS = 500  # random sets of k examples behind the entropy to expect by chance

NOTES = (
    "polysemanticity: distinct clusters and labels among a unit's k highest activations above 0, and the entropy "
    "over them in bits; noise (examples in no cluster) is counted apart and not in the entropy",
)


def neuron(
    atlas: Atlas,
    *,
    network: str | None = None,
    site: str | None = None,
    unit: int | None = None,
    k: int = 20,
    bands: int = 5,
    per_band: int = 5,
    by: str = "label",
    clustering: int | None = None,
    examples: int = 10_000,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Result:
    """What activates a unit, over its whole range, and a ranking of units by how many things that is.

    ``site``: a site with stored activations; by default the one two thirds of the way up.
    ``unit``: from 0; by default the one whose top is spread over clusters most evenly.
    ``k``: examples at the top of a unit.
    ``bands``: equally full bands that the unit's activations above 0 are cut into.
    ``per_band``: examples shown of each band, drawn at random.
    ``by``: label (class or source of the input) or token.
    ``clustering``: id of a clustering of the site; by default the newest of its codes.
    ``examples``: at most this many, drawn at random.

    Tables. ``table``: the unit's examples: part (top, band 1 (lowest) …, off: at or below 0), rank, example_id,
    activation, label (as ``by`` says), cluster (−1: noise), and the token in its context, or the key of the image.
    ``composition``: of each part, all examples in it: part, n_part, low and high (activations), what (cluster or
    label), name, n. ``ranking``: every unit that is ever above 0: unit, active (share of examples above 0), highest,
    top (examples in its top, at most k), clusters, cluster_entropy, noise, labels, label_entropy. ``summary``: the
    means of the entropies over those units with bootstrap intervals over units, beside those of random sets of k.

    Entropy is H = −Σ p log₂ p over the top's clusters, or labels; 2^H is how many equally common ones it is worth.
    Raises `UnknownName`, `NotStored`, and `UsageError` for a unit that the site does not have.
    """
    record = asked_network(atlas, network, site)
    place = asked_site(atlas, record, site)
    k, bands, per_band = whole("k", k, 2), whole("bands", bands), whole("per_band", per_band)
    check_interval(resamples, confidence)
    if unit is not None and whole("unit", unit, 0) >= place.n_units:
        raise UsageError(f"unit is {unit}; site {place.name} has {place.n_units} units, numbered from 0")
    notes = Notes(*NOTES)
    tell(progress, 0, 3)
    ids, values, clusters, labels = _read(atlas, place, by, clustering, whole("examples", examples, 2), seed, notes)
    tell(progress, 1, 3)
    ranking = _ranking(values, clusters, labels, k)
    if ranking.empty:
        raise UsageError(f"no unit of site {place.name} is ever above 0 in these {len(ids)} examples")
    chosen = int(ranking["unit"].iloc[0]) if unit is None else int(unit)
    summary = _summary(ranking, clusters, labels, k, seed, resamples, confidence)
    tell(progress, 2, 3)
    parts = _parts(values[:, chosen], k, bands)
    tables = {
        "table": _shown(atlas, place, ids, values[:, chosen], parts, per_band, clusters, labels, seed),
        "composition": _composition(values[:, chosen], parts, clusters, labels),
        "ranking": ranking,
        "summary": summary,
    }
    tell(progress, 3, 3)
    parameters = {
        "site": place.name, "unit": chosen, "k": k, "bands": bands, "per_band": per_band, "by": by,
        "clustering": clusters.clustering.clustering_id if clusters.clustering else None, "examples": examples,
        "n": len(ids), "seed": seed, "resamples": resamples, "confidence": confidence,
    }  # fmt: skip
    return Result("neuron", record.name, parameters, tables, notes.lines())


def draw_neuron(result: Result) -> go.Figure:
    """What the unit's top and bands are made of, and where it stands among all units."""
    figure = make_subplots(
        rows=1, cols=3, column_widths=[0.36, 0.36, 0.28], horizontal_spacing=0.09,
        subplot_titles=("by cluster", f"by {result.parameters['by']}", "all units of the site"),
    )  # fmt: skip
    for column, what in enumerate(("cluster", "label"), start=1):
        _draw_composition(figure, result.tables["composition"], what, column)
    ranking, unit = result.tables["ranking"], result.parameters["unit"]
    entropy = ranking["cluster_entropy"]
    figure.add_trace(
        go.Histogram(x=entropy, marker={"color": style(0).colour}, showlegend=False, nbinsx=24,
                     hovertemplate="%{x} bits: %{y} units<extra></extra>"), row=1, col=3,
    )  # fmt: skip
    summary = result.tables["summary"]
    chance = summary.loc[summary["of"] == "random sets", "cluster_entropy"].tolist()
    own = ranking.loc[ranking["unit"] == unit, "cluster_entropy"].tolist()
    sides = ("left", "right") if chance < own else ("right", "left")
    marks = zip((chance, own), ("dot", "solid"), ("random sets", "this unit"), sides, strict=True)
    for values, dash, words, side in marks:
        for value in values:
            figure.add_vline(x=value, line={"color": GREY, "dash": dash, "width": 1.5}, annotation_text=words,
                             annotation_position=f"top {side}", row=1, col=3)  # fmt: skip
    figure.update_xaxes(title="Entropy of the top over clusters (bits)", row=1, col=3)
    figure.update_yaxes(title="Units", row=1, col=3)
    figure.update_layout(barmode="stack", bargap=0.15, legend={"font": {"size": 10}})
    return finish(
        figure, f"{result.network}, {result.parameters['site']}: unit {unit}",
        f"n = {result.parameters['n']:,} examples, {len(ranking):,} units that are ever above 0; in brackets: "
        "examples in that part",
        result.notes, height=440,
    )  # fmt: skip


def _draw_composition(figure: go.Figure, table: pd.DataFrame, what: str, column: int) -> None:
    rows = table[table["what"] == what]
    parts = list(dict.fromkeys(table["part"]))
    totals = rows.groupby("part", sort=False)["n_part"].first()
    ticks = [f"{text(part)} ({totals.get(part, 0):,})" for part in parts]
    counted = rows[(rows["name"] != "noise") & (rows["part"] != OFF)]  # what activates the unit gets the colours
    common = counted.groupby("name")["n"].sum().sort_values(ascending=False, kind="stable")
    named = list(common.index[:SHOWN_NAMES])
    series = [
        *named,
        *(["others"] if set(rows["name"]) - {*named, "noise"} else []),
        *(["noise"] if what == "cluster" else []),
    ]
    for place, name in enumerate(series):
        if name == "others":
            counts = rows[~rows["name"].isin([*named, "noise"])].groupby("part")["n"].sum()
        else:
            counts = rows[rows["name"] == name].set_index("part")["n"]
        look = CHANCE if name == "noise" else OTHERS if name == "others" else style(place)
        shares = [counts.get(part, 0) / max(1, totals.get(part, 0)) for part in parts]
        figure.add_trace(
            go.Bar(
                y=ticks, x=shares, orientation="h", name=f"{what} {one_line(name, 18)}", legendgroup=what,
                marker={"color": look.colour, "pattern": {"shape": look.pattern, "size": 5}},
                hovertemplate=f"{one_line(name)}: %{{x:.0%}} of %{{y}}<extra></extra>",
            ),
            row=1, col=column,
        )  # fmt: skip
    figure.update_xaxes(title="Share of examples", tickformat=".0%", range=[0, 1], row=1, col=column)
    figure.update_yaxes(autorange="reversed", row=1, col=column, showticklabels=column == 1)


def _read(
    atlas: Atlas, site: SiteRecord, by: str, clustering: int | None, most: int, seed: int, notes: Notes
) -> tuple[Int64[np.ndarray, " examples"], Float[np.ndarray, "examples units"], Clusters, Labels]:
    target = atlas.catalog.target(site=site.name, network=site.network)
    everyone = with_activation(atlas, site, holders(atlas, target))
    ids = drawn(everyone, most, seed)
    if len(ids) < len(everyone):
        notes.add(f"{len(ids):,} of {len(everyone):,} examples, drawn at random")
    labels = labels_of(atlas, ids, by)
    if clustering is not None:
        clusters = stored_clusters(atlas, target, ids, clustering=clustering)
    else:
        found = any_clusters(atlas, target, ids, "codes")
        if found is None:
            raise no_clustering(atlas, target, "codes")
        clusters = found
    notes.add(f"clusters: {clusters.name}")
    return ids, atlas.activations(site, ids)[1], clusters, labels


def _ranking(values: np.ndarray, clusters: Clusters, labels: Labels, k: int) -> pd.DataFrame:
    """A row a unit that is ever above 0, those first whose top is spread most evenly."""
    rows = []
    for unit in np.flatnonzero(values.max(axis=0) > 0):
        column = values[:, unit]
        top = _top(column, k)
        own = clusters.labels[top]
        known = labels.numbers[top]
        rows.append({
            "unit": int(unit), "active": float((column > 0).mean()), "highest": float(column.max()), "top": len(top),
            "clusters": len(np.unique(own[own >= 0])), "cluster_entropy": entropy(own[own >= 0]),
            "noise": int((own < 0).sum()), "labels": len(np.unique(known[known >= 0])),
            "label_entropy": entropy(known[known >= 0]),
        })  # fmt: skip
    frame = pd.DataFrame(rows)
    if frame.empty:
        return frame
    order = ["cluster_entropy", "label_entropy", "unit"]
    return frame.sort_values(order, ascending=[False, False, True], ignore_index=True)


def entropy(numbers: Int64[np.ndarray, " members"]) -> float:
    """−Σ p log₂ p over the shares of equal numbers, in bits; NaN for fewer than 2 members."""
    if len(numbers) < 2:
        return np.nan
    shares = np.unique(numbers, return_counts=True)[1] / len(numbers)
    return abs(float((shares * np.log2(shares)).sum()))


def _top(column: Float[np.ndarray, " examples"], k: int) -> Int64[np.ndarray, " top"]:
    """The k highest values above 0, highest first; of equals the first."""
    top = np.argsort(-column, kind="stable")[:k]
    return top[column[top] > 0]


def _summary(
    ranking: pd.DataFrame, clusters: Clusters, labels: Labels, k: int, seed: int, resamples: int, confidence: float
) -> pd.DataFrame:
    """Mean entropies over units, and over random sets of k examples."""
    rng = np.random.default_rng([seed, 1])
    n = len(labels.ids)
    sets = [rng.choice(n, size=min(k, n), replace=False) for _ in range(RANDOM_TOPS)]
    by_chance = pd.DataFrame({
        "cluster_entropy": [entropy(clusters.labels[chosen][clusters.labels[chosen] >= 0]) for chosen in sets],
        "label_entropy": [entropy(labels.numbers[chosen][labels.numbers[chosen] >= 0]) for chosen in sets],
    })  # fmt: skip
    rows = []
    for of, frame in (("units", ranking), ("random sets", by_chance)):
        row: dict[str, Any] = {"of": of, "n": len(frame)}
        for name in ("cluster_entropy", "label_entropy"):
            values = frame[name].to_numpy(np.float64)
            row |= mean_interval(values, rng, resamples=resamples, confidence=confidence).columns(name)
        rows.append(row)
    return pd.DataFrame(rows)


def _parts(column: Float[np.ndarray, " examples"], k: int, bands: int) -> dict[str, Members]:
    """The top, the bands from the highest to the lowest, and what is at or below 0, as places of examples."""
    on = np.flatnonzero(column > 0)
    rising = on[np.argsort(column[on], kind="stable")]
    parts = {"top": _top(column, k)}
    for number, members in reversed(list(enumerate(np.array_split(rising, bands), start=1))):
        parts[f"band {number}"] = members[::-1]
    parts[OFF] = np.flatnonzero(column <= 0)
    return {name: members for name, members in parts.items() if len(members)}


def _shown(
    atlas: Atlas,
    site: SiteRecord,
    ids: np.ndarray,
    column: np.ndarray,
    parts: dict[str, np.ndarray],
    per_band: int,
    clusters: Clusters,
    labels: Labels,
    seed: int,
) -> pd.DataFrame:
    rng = np.random.default_rng([seed, 2])
    rows = []
    for part, members in parts.items():
        shown = members if part == "top" else np.sort(rng.permutation(len(members))[:per_band])
        chosen = members if part == "top" else members[shown]
        rows += [(part, rank, place) for rank, place in enumerate(chosen, start=1)]
    places = np.array([place for _, _, place in rows], dtype=np.int64)
    described = describe(atlas, atlas.catalog.network(site.network), ids[places])
    frame = pd.DataFrame({
        "part": [part for part, _, _ in rows], "rank": [rank for _, rank, _ in rows], "example_id": ids[places],
        "activation": column[places].astype(np.float64),
        "label": [labels.names[n] if n >= 0 else None for n in labels.numbers[places]],
        "cluster": clusters.labels[places],
    })  # fmt: skip
    for name in ("token", "context", "context_offset", "key"):
        if name in described:
            frame[name] = described[name]
    return frame


def _composition(
    column: np.ndarray, parts: dict[str, np.ndarray], clusters: Clusters, labels: Labels
) -> pd.DataFrame:
    rows = []
    for part, members in parts.items():
        bounds = {"n_part": len(members), "low": float(column[members].min()), "high": float(column[members].max())}
        for what, numbers, name in (
            ("cluster", clusters.labels[members], lambda n: str(n) if n >= 0 else "noise"),
            ("label", labels.numbers[members], lambda n: labels.names[n] if n >= 0 else "none"),
        ):
            found, counts = np.unique(numbers, return_counts=True)
            rows += [
                {"part": part, **bounds, "what": what, "name": name(int(n)), "n": int(count)}
                for n, count in zip(found, counts, strict=True)
            ]
    return pd.DataFrame(rows)
