"""What activates a unit, over its whole range, and how many things that is (SCIENCE 2; post: "Are directions…")."""

from __future__ import annotations

from dataclasses import dataclass

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
from ..statistics import share_interval
from .claims import Claim, Part, Verdict, number, word_for
from .composition import composition
from .figures import GREY, finish, style
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval

SHOWN_NAMES = 6  # labels or clusters with a colour of their own; the palette has eight


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    site: str | None = None
    """A site with stored activations; by default the one two thirds of the way up."""

    unit: int | None = None
    """From 0; by default the one whose top is spread over labels most evenly, or without any over groups."""

    k: int = 20
    """Examples at the top of a unit."""

    bands: int = 5
    """Equally full bands that the unit's activations above 0 are cut into."""

    per_band: int = 5
    """Examples shown of each band, drawn at random."""

    by: str = "label"
    """Label (class or source of the input) or token."""

    clustering: int | None = None
    """Id of a clustering of the site; by default the newest of its codes."""

    examples: int = 10_000
    """At most this many, drawn at random."""


TABLES = {
    "table": table_of(
        "an example of the unit",
        Column("part", str, "top, band 1 (lowest) and so on, or off (at or below 0)"),
        Column("rank", int, "place in the part, from 1"),
        Column("example_id", int, "id of the example"),
        Column("activation", float, "activation of the unit"),
        Column("label", str, "its label, or token, as asked"),
        Column("cluster", int, "its cluster; -1 is noise"),
        Column("token", str, "its token, of a text", optional=True),
        Column("context", str, "text around the token", optional=True),
        Column("context_offset", int, "character of the context at which the token starts", optional=True),
        Column("key", str, "its key, of an image", optional=True),
    ),
    "composition": table_of(
        "a part, and a cluster or label in it",
        Column("part", str, "name of the part"),
        Column("n_part", int, "examples in the part"),
        Column("low", float, "least activation in the part"),
        Column("high", float, "greatest activation in the part"),
        Column("what", str, "cluster or label"),
        Column("name", str, "of the cluster or label"),
        Column("n", int, "examples in both"),
    ),
    "ranking": table_of(
        "a unit that is ever above 0",
        Column("unit", int, "number of the unit, from 0"),
        Column("active", float, "share of the examples above 0"),
        Column("highest", float, "greatest activation"),
        Column("top", int, "examples in its top, at most k"),
        Column("clusters", int, "clusters in its top"),
        Column("cluster_entropy", float, "entropy of its top over clusters", "bits"),
        Column("noise", int, "examples of its top in no cluster"),
        Column("labels", int, "labels in its top"),
        Column("label_entropy", float, "entropy of its top over labels", "bits"),
        Column("groups", int, "groups in its top: clusters of one commonest label are one, noise is another"),
        Column("group_entropy", float, "entropy of its top over groups", "bits"),
    ),
    "summary": table_of(
        "all units, or as many random sets of k examples",
        Column("of", str, "units or random sets"),
        Column("n", int, "units or sets"),
        *with_interval("cluster_entropy", "mean entropy over clusters", "bits"),
        *with_interval("label_entropy", "mean entropy over labels", "bits"),
        *with_interval("group_entropy", "mean entropy over groups", "bits"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Rank all units by the entropy of their top, and show one over its whole range.

    Entropy is H = −Σ p log₂ p over the top's labels, clusters or groups of these; 2^H is how many equally common
    ones it is worth.

    Raises `UnknownName`, `NotStored`, and `UsageError` for a unit that the site does not have.
    """
    record = asked_network(atlas, options.network, options.site)
    place = asked_site(atlas, record, options.site)
    k, bands, per_band = whole("k", options.k, 2), whole("bands", options.bands), whole("per_band", options.per_band)
    if options.unit is not None and whole("unit", options.unit, 0) >= place.n_units:
        raise UsageError(f"unit is {options.unit}; site {place.name} has {place.n_units} units, numbered from 0")
    notes = Notes(*NOTES)
    part(progress, 0, 3)
    ids, values, clusters, labels = read_units(
        atlas, place, options.by, options.clustering, whole("examples", options.examples, 2), options.seed, notes
    )
    told = part(progress, 1, 3)
    ranking = rank_units(values, clusters, labels, k, lambda done, total: told(done / total))
    if ranking.empty:
        raise UsageError(f"no unit of site {place.name} is ever above 0 in these {len(ids)} examples")
    chosen = int(ranking["unit"].iloc[0]) if options.unit is None else int(options.unit)
    summary = summary_of_units(ranking, clusters, labels, k, options.seed, options.resamples, options.confidence)
    tell(progress, 2, 3)
    parts = parts_of_unit(values[:, chosen], k, bands)
    tables = {
        "table": examples_of_parts(
            atlas, place, ids, values[:, chosen], parts, per_band, clusters, labels, options.seed
        ),
        "composition": composition_of_parts(values[:, chosen], parts, clusters, labels),
        "ranking": ranking.drop(columns="first"),
        "summary": summary,
    }
    tell(progress, 3, 3)
    parameters = {
        "site": place.name,
        "unit": chosen,
        "clustering": clusters.clustering.clustering_id if clusters.clustering else None,
        "n": len(ids),
    }
    return Result("neuron", record.name, parameters, tables, notes.lines())


def figure(result: Result) -> go.Figure:
    """What the unit's top and bands are made of, and where it stands among all units."""
    drawing = make_subplots(
        rows=1,
        cols=3,
        column_widths=[0.36, 0.36, 0.28],
        horizontal_spacing=0.09,
        subplot_titles=("by cluster", f"by {result.parameters['by']}", "all units of the site"),
    )
    for column, what in enumerate(("cluster", "label"), start=1):
        _draw_composition(drawing, result, what, column)
    ranking, unit = result.tables["ranking"], result.parameters["unit"]
    entropy = ranking["group_entropy"]
    drawing.add_trace(
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
    chance = summary.loc[summary["of"] == "random sets", "group_entropy"].tolist()
    own = ranking.loc[ranking["unit"] == unit, "group_entropy"].tolist()
    sides = ("left", "right") if chance < own else ("right", "left")
    marks = zip((chance, own), ("dot", "solid"), ("random sets", "this unit"), sides, strict=True)
    for values, dash, words, side in marks:
        for value in values:
            drawing.add_vline(
                x=value,
                line={"color": GREY, "dash": dash, "width": 1.5},
                annotation_text=words,
                annotation_position=f"top {side}",
                row=1,
                col=3,
            )
    drawing.update_xaxes(title="Entropy of the top over groups of clusters (bits)", row=1, col=3)
    drawing.update_yaxes(title="Units", row=1, col=3)
    drawing.update_layout(barmode="stack", bargap=0.15, legend={"font": {"size": 10}})
    return finish(
        drawing,
        f"{result.network}, {result.parameters['site']}: unit {unit}",
        f"n = {result.parameters['n']:,} examples, {len(ranking):,} units that are ever above 0; in brackets: "
        "examples in that part",
        result.notes,
        height=440,
    )


def _draw_composition(figure: go.Figure, result: Result, what: str, column: int) -> None:
    table = result.tables["composition"]
    rows = table[(table["what"] == what) & (table["name"] != "noise")]
    active = rows[rows["part"] != OFF]  # what activates the unit gets the colours
    common = active.groupby("name")["n"].sum().sort_values(ascending=False, kind="stable")
    bars = composition(table, what, list(common.index[:SHOWN_NAMES]), result.names_in("clustering"))
    figure.add_traces(bars, rows=1, cols=column)
    figure.update_xaxes(title="Share of examples", tickformat=".0%", range=[0, 1], row=1, col=column)
    figure.update_yaxes(autorange="reversed", row=1, col=column, showticklabels=column == 1)


# --- what it decides -----------------------------------------------------------------------------------------------

POLYSEMANTIC_RULE = (
    "A unit is polysemantic where its top meets two groups or more: clusters whose commonest label is the same are"
    " one group, and noise may be one more or belong to the others. Supported: the interval (Wilson's) of the share"
    " of polysemantic units lies above one half, noise left out. Not supported: below, with noise as a group."
)


def neurons_are_polysemantic(result: Result) -> Verdict:
    """`POLYSEMANTIC_RULE`, on `neuron`: of units with at least two examples in their top."""
    ranking = result.tables["ranking"]
    known = ranking[ranking["top"] >= 2]
    clustered = known["groups"] - (known["noise"] > 0)
    least, most = (share_interval(int((groups >= 2).sum()), len(known)) for groups in (clustered, known["groups"]))
    summary = {row["of"]: row for row in result.tables["summary"].to_dict("records")}
    numbers = [
        {"what": f"share of units whose top meets 2 groups or more, {how}"}
        | {"value": share.value, "low": share.low, "high": share.high, "n": share.n}
        for share, how in ((least, "noise left out"), (most, "noise as one"))
    ]
    numbers += [
        number("entropy of a unit's top over groups, bits", summary["units"], "group_entropy", len(ranking)),
        number("the same of random examples", summary["random sets"], "group_entropy", summary["random sets"]["n"]),
    ]
    word = word_for(int(least.low > 0.5) - int(most.high < 0.5))
    return Verdict(word, f"{least.value:.0%} to {most.value:.0%} of {least.n} units", pd.DataFrame(numbers))


EXPERIMENT = Experiment(
    name="neuron",
    version=4,
    section=2,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    clusterings=True,
    quick={"resamples": 200},
    claims=(
        Claim(
            "neuron",
            Part.PREDICTION_1,
            4,
            "Neurons are polysemantic: what activates one most belongs to several clusters.",
            judge=neurons_are_polysemantic,
            rule=POLYSEMANTIC_RULE,
        ),
    ),
)
