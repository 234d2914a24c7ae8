"""What activates a unit, over its whole range, and how many things that is (SCIENCE 2; post: "Are directions…")."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import UsageError

from ..neurons.bands import OFF, composition_of_parts, examples_of_parts, parts_of_unit
from ..neurons.ranking import NOTES, rank_units, read_units, summary_of_units
from ..notes import Notes
from ..progress import Progress, part, tell
from ..sites import asked_network, asked_site
from ..statistics import check_interval
from .composition import composition
from .figures import GREY, finish, style
from .result import Result
from .targets import checked_seed

SHOWN_NAMES = 6  # labels or clusters with a colour of their own; the palette has eight


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
    checked_seed(seed)
    if unit is not None and whole("unit", unit, 0) >= place.n_units:
        raise UsageError(f"unit is {unit}; site {place.name} has {place.n_units} units, numbered from 0")
    notes = Notes(*NOTES)
    part(progress, 0, 3)
    ids, values, clusters, labels = read_units(
        atlas, place, by, clustering, whole("examples", examples, 2), seed, notes
    )
    told = part(progress, 1, 3)
    ranking = rank_units(values, clusters, labels, k, lambda done, total: told(done / total))
    if ranking.empty:
        raise UsageError(f"no unit of site {place.name} is ever above 0 in these {len(ids)} examples")
    chosen = int(ranking["unit"].iloc[0]) if unit is None else int(unit)
    summary = summary_of_units(ranking, clusters, labels, k, seed, resamples, confidence)
    part(progress, 2, 3)
    parts = parts_of_unit(values[:, chosen], k, bands)
    tables = {
        "table": examples_of_parts(atlas, place, ids, values[:, chosen], parts, per_band, clusters, labels, seed),
        "composition": composition_of_parts(values[:, chosen], parts, clusters, labels),
        "ranking": ranking,
        "summary": summary,
    }
    tell(progress, 3, 3)
    parameters = {
        "site": place.name,
        "unit": chosen,
        "k": k,
        "bands": bands,
        "per_band": per_band,
        "by": by,
        "clustering": clusters.clustering.clustering_id if clusters.clustering else None,
        "examples": examples,
        "n": len(ids),
        "seed": seed,
        "resamples": resamples,
        "confidence": confidence,
    }
    return Result("neuron", record.name, parameters, tables, notes.lines())


def draw_neuron(result: Result) -> go.Figure:
    """What the unit's top and bands are made of, and where it stands among all units."""
    figure = make_subplots(
        rows=1,
        cols=3,
        column_widths=[0.36, 0.36, 0.28],
        horizontal_spacing=0.09,
        subplot_titles=("by cluster", f"by {result.parameters['by']}", "all units of the site"),
    )
    for column, what in enumerate(("cluster", "label"), start=1):
        _draw_composition(figure, result.tables["composition"], what, column)
    ranking, unit = result.tables["ranking"], result.parameters["unit"]
    entropy = ranking["cluster_entropy"]
    figure.add_trace(
        go.Histogram(
            x=entropy,
            marker={"color": style(0).colour},
            showlegend=False,
            nbinsx=24,
            hovertemplate="%{x} bits: %{y} units<extra></extra>",
        ),
        row=1,
        col=3,
    )
    summary = result.tables["summary"]
    chance = summary.loc[summary["of"] == "random sets", "cluster_entropy"].tolist()
    own = ranking.loc[ranking["unit"] == unit, "cluster_entropy"].tolist()
    sides = ("left", "right") if chance < own else ("right", "left")
    marks = zip((chance, own), ("dot", "solid"), ("random sets", "this unit"), sides, strict=True)
    for values, dash, words, side in marks:
        for value in values:
            figure.add_vline(
                x=value,
                line={"color": GREY, "dash": dash, "width": 1.5},
                annotation_text=words,
                annotation_position=f"top {side}",
                row=1,
                col=3,
            )
    figure.update_xaxes(title="Entropy of the top over clusters (bits)", row=1, col=3)
    figure.update_yaxes(title="Units", row=1, col=3)
    figure.update_layout(barmode="stack", bargap=0.15, legend={"font": {"size": 10}})
    return finish(
        figure,
        f"{result.network}, {result.parameters['site']}: unit {unit}",
        f"n = {result.parameters['n']:,} examples, {len(ranking):,} units that are ever above 0; in brackets: "
        "examples in that part",
        result.notes,
        height=440,
    )


def _draw_composition(figure: go.Figure, table: pd.DataFrame, what: str, column: int) -> None:
    rows = table[(table["what"] == what) & (table["name"] != "noise")]
    active = rows[rows["part"] != OFF]  # what activates the unit gets the colours
    common = active.groupby("name")["n"].sum().sort_values(ascending=False, kind="stable")
    figure.add_traces(composition(table, what, list(common.index[:SHOWN_NAMES])), rows=1, cols=column)
    figure.update_xaxes(title="Share of examples", tickformat=".0%", range=[0, 1], row=1, col=column)
    figure.update_yaxes(autorange="reversed", row=1, col=column, showticklabels=column == 1)
