"""Does one direction, or one neuron, meet several regions that are each about one thing? (SCIENCE 3; comments)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float64, Int64
from plotly.subplots import make_subplots

from atlas import Atlas
from atlas.checks import whole
from atlas.errors import NotStored, TooManyPoints, UnknownName, UsageError
from atlas.store.catalog import NetworkRecord, SiteRecord

from ..examples.ids import holders, with_activation
from ..examples.labels import Labels, drawn, labels_of
from ..notes import Notes
from ..polytope.directions import stored_direction
from ..progress import Progress, tell
from ..sites import asked_network, asked_site
from ..statistics import Interval, share_interval
from .claims import NUMBERS, Before, Claim, Part, Verdict, Word, number
from .figures import CHANCE, OTHERS, finish, one_line, style, text
from .groups import Chance, measure_groups
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval
from .targets import share

SHOWN_LABELS = 6
BINS = 60

NOTES = (
    "the scalars are clustered by HDBSCAN, whose clusters on a line lie one beside the other; what lies between "
    "them, and a few points inside them, is noise",
    "intervals of purity: Wilson's, with the distinct inputs among an interval's labelled members for n, since "
    "tokens of one text depend on each other",
)


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    site: str | None = None
    """A site with stored activations; by default the one two thirds of the way up."""

    unit: int | None = None
    """Project onto this unit of the site, from 0; or name a method and component instead."""

    method: str | None = None
    """Nmf or pca: a direction that the experiment directions has stored."""

    component: int | None = None
    """Which one, from 0."""

    by: str = "label"
    """Label (class or source of the input) or token."""

    min_cluster_size: int = 10
    """Least examples of an interval."""

    selection: str = "leaf"
    """How intervals are chosen from the hierarchy: leaf (the finest) or eom (the most persistent)."""

    threshold: float = 0.5
    """An interval is monosemantic when more than this share of its labelled examples bear one label."""

    examples: int = 5000
    """At most this many, drawn at random: the hierarchy takes a time that grows with their square."""


TABLES = {
    "table": table_of(
        "an interval of the scalars a·v, v of length 1",
        Column("interval", int, "number of the interval, from 0"),
        Column("low", float, "least scalar in it"),
        Column("high", float, "greatest scalar in it"),
        Column("size", int, "examples in it"),
        Column("labelled", int, "of these, examples with a label"),
        Column("inputs", int, "inputs that they are of"),
        *with_interval("purity", "share of the labelled with the commonest label"),
        Column("entropy", float, "entropy of their labels, 0 (pure) to 1"),
        Column("lift", float, "purity over that of random groups of the size"),
        Column("top_label", str, "the commonest label"),
        Column("monosemantic", bool, "whether purity exceeds the threshold"),
    ),
    "summary": table_of(
        "the direction",
        Column("intervals", int, "intervals"),
        Column("monosemantic", int, "monosemantic ones"),
        Column("top_labels", int, "distinct commonest labels of these: several mean several monosemantic regions"),
        Column("noise", float, "share of the examples in no interval"),
        Column("n", int, "examples"),
    ),
    "histogram": table_of(
        "a label and a bin of the scalars",
        Column("label", str, "the label; others for all that have no colour of their own"),
        Column("low", float, "lower edge of the bin"),
        Column("high", float, "upper edge of the bin"),
        Column("n", int, "examples"),
    ),
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Cluster the scalars on the line by HDBSCAN, and measure how pure each interval is.

    Raises `UnknownName` for a direction that is not stored, `NotStored`, and `UsageError` for impossible parameters.
    """
    record = asked_network(atlas, options.network, options.site)
    place = asked_site(atlas, record, options.site)
    threshold = share("threshold", options.threshold)
    vector, name = _vector(atlas, place, options.unit, options.method, options.component)
    notes = Notes(*NOTES)
    tell(progress, 0, 2)
    target = atlas.catalog.target(site=place.name, network=record.name)
    everyone = with_activation(atlas, place, holders(atlas, target))
    ids = drawn(everyone, whole("examples", options.examples, 2), options.seed)
    if len(ids) < len(everyone):
        notes.add(f"{len(ids):,} of {len(everyone):,} examples, drawn at random")
    labels = labels_of(atlas, ids, options.by)
    scalars = atlas.activations(place, ids)[1].astype(np.float64) @ vector
    found = _intervals(scalars, whole("min_cluster_size", options.min_cluster_size, 2), options.selection)
    tell(progress, 1, 2)
    table = _table(scalars, found, labels, threshold, options.confidence, np.random.default_rng([options.seed, 1]))
    mono = table[table["monosemantic"]]
    summary = pd.DataFrame(
        [
            {
                "intervals": len(table),
                "monosemantic": len(mono),
                "top_labels": mono["top_label"].nunique(),
                "noise": float((found < 0).mean()),
                "n": len(ids),
            }
        ]
    )
    tell(progress, 2, 2)
    parameters = {"site": place.name, "direction": name, "n": len(ids)}
    tables = {"table": table, "summary": summary, "histogram": _histogram(scalars, labels)}
    return Result("projection", record.name, parameters, tables, notes.lines())


def figure(result: Result) -> go.Figure:
    """The distribution of the scalars coloured by label, and the purity of each interval below it."""
    histogram, table = result.tables["histogram"], result.table
    drawing = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.6, 0.4])
    for place, label in enumerate(dict.fromkeys(histogram["label"])):
        bars = histogram[histogram["label"] == label]
        look = OTHERS if label == "others" else style(place)
        drawing.add_trace(
            go.Bar(
                x=(bars["low"] + bars["high"]) / 2,
                y=bars["n"],
                width=bars["high"] - bars["low"],
                name=one_line(label, 30),
                marker={"color": look.colour, "line": {"width": 0}, "pattern": {"shape": look.pattern, "size": 4}},
                hovertemplate=f"{one_line(label)}: %{{y}} at %{{x:.3g}}<extra></extra>",
            ),
            row=1,
            col=1,
        )
    for row in table.to_dict("records"):
        hover = (
            f"[{row['low']:.3g}, {row['high']:.3g}]: {one_line(row['top_label'])}, purity {row['purity']:.2f}, "
            f"n = {row['labelled']:,}"
        )
        look = style(0) if row["monosemantic"] else CHANCE
        drawing.add_trace(
            go.Scatter(
                x=[row["low"], row["high"]],
                y=[row["purity"]] * 2,
                mode="lines+markers",
                showlegend=False,
                line={"color": look.colour, "width": 3, "dash": "solid" if row["monosemantic"] else "dot"},
                marker={"symbol": "line-ns-open", "color": look.colour, "size": 8},
                hovertext=hover,
                hoverinfo="text",
            ),
            row=2,
            col=1,
        )
    drawing.add_hline(y=result.parameters["threshold"], line={"color": CHANCE.colour, "dash": "dot"}, row=2, col=1)
    drawing.update_yaxes(title="Examples", row=1, col=1)
    drawing.update_yaxes(title="Purity of interval", range=[0, 1.05], row=2, col=1)
    drawing.update_xaxes(title=f"Activation along {text(result.parameters['direction'])}", row=2, col=1)
    drawing.update_layout(barmode="stack", bargap=0, legend={"font": {"size": 10}})
    [summary] = result.tables["summary"].to_dict("records")
    return finish(
        drawing,
        f"{result.network}, {result.parameters['site']}: one direction, how many regions?",
        f"n = {summary['n']:,} examples, {summary['noise']:.0%} in no interval; {summary['intervals']} intervals, "
        f"{summary['monosemantic']} of them monosemantic, in {summary['top_labels']} different labels",
        result.notes,
        height=460,
    )


def _vector(
    atlas: Atlas, site: SiteRecord, unit: int | None, method: str | None, component: int | None
) -> tuple[Float64[np.ndarray, " units"], str]:
    """The direction, of length 1, and what to call it."""
    if (unit is None) == (method is None) or (method is None) != (component is None):
        raise UsageError("name a unit, or a method (nmf or pca) with a component; one of the two")
    if unit is not None:
        if whole("unit", unit, 0) >= site.n_units:
            raise UsageError(f"unit is {unit}; site {site.name} has {site.n_units} units, numbered from 0")
        return np.eye(site.n_units)[unit], f"unit {unit}"
    stored = stored_direction(
        atlas, atlas.catalog.network(site.network), site.name, str(method), whole("component", component, 0)
    )
    if stored is None:
        raise UnknownName(
            f"no direction {method} {component} of site {site.name} of network {site.network} is stored; "
            f"`polytope experiment directions {atlas.address} --site {site.name}` finds some"
        )
    vector = stored[1]
    return vector / np.linalg.norm(vector), f"{method} direction {component}"


def _intervals(
    scalars: Float64[np.ndarray, " examples"], least: int, selection: str
) -> Int64[np.ndarray, " examples"]:
    """Clusters of numbers on a line, numbered from low to high; −1 for noise."""
    from atlas.clustering.hdbscan import cluster_activations

    if selection not in ("eom", "leaf"):
        raise UsageError(f"selection is {selection!r}; expected eom or leaf")
    try:
        labels = cluster_activations(
            scalars.astype(np.float32)[:, None], min_cluster_size=least, selection=cast(Any, selection)
        ).labels
    except TooManyPoints as error:
        raise UsageError(f"examples: {error}") from None
    found = sorted(range(int(labels.max(initial=-1)) + 1), key=lambda label: scalars[labels == label].min())
    number = {label: place for place, label in enumerate(found)}
    return np.array([number.get(int(label), -1) for label in labels], dtype=np.int64)


def _table(
    scalars: np.ndarray,
    found: Int64[np.ndarray, " examples"],
    labels: Labels,
    threshold: float,
    confidence: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    groups = [np.flatnonzero(found == number) for number in range(int(found.max(initial=-1)) + 1)]
    frame = measure_groups(groups, labels, Chance(labels, rng))
    frame.insert(0, "interval", np.arange(len(groups)))
    frame.insert(1, "low", [float(scalars[group].min()) for group in groups])
    frame.insert(2, "high", [float(scalars[group].max()) for group in groups])
    ends = [
        _purity(row["purity"], row["labelled"], labels.inputs[group[labels.numbers[group] >= 0]], confidence)
        for row, group in zip(frame.to_dict("records"), groups, strict=True)
    ]
    place = list(frame.columns).index("purity") + 1
    frame.insert(place, "purity_low", [end.low for end in ends])
    frame.insert(place + 1, "purity_high", [end.high for end in ends])
    return frame.assign(monosemantic=frame["purity"] > threshold)


def _purity(purity: float, labelled: int, inputs: Int64[np.ndarray, " labelled"], confidence: float) -> Interval:
    """A purity with Wilson's interval; NaN where it is unknown."""
    if np.isnan(purity):
        return share_interval(0, 0, confidence=confidence)
    return share_interval(
        round(purity * labelled), labelled, independent=len(np.unique(inputs)), confidence=confidence
    )


def _histogram(scalars: np.ndarray, labels: Labels) -> pd.DataFrame:
    counts = np.bincount(labels.numbers[labels.numbers >= 0], minlength=len(labels.names))
    named = np.argsort(-counts, kind="stable")[:SHOWN_LABELS]
    edges = np.linspace(scalars.min(), scalars.max() + 1e-9, BINS + 1)
    series = [(labels.names[n], labels.numbers == n) for n in named]
    rest = ~np.isin(labels.numbers, named)
    if rest.any():
        series.append(("others", rest))
    return pd.DataFrame(
        [
            {"label": name, "low": low, "high": high, "n": int(height)}
            for name, chosen in series
            for low, high, height in zip(
                edges[:-1].tolist(), edges[1:].tolist(), np.histogram(scalars[chosen], edges)[0], strict=True
            )
        ]
    )


# --- what it decides -----------------------------------------------------------------------------------------------


def unit_of_the_claim_on_neurons(_: Atlas, network: NetworkRecord, before: Before) -> dict[str, Any]:
    """The site and unit of the claim on neurons."""
    neuron = before("neuron")
    if neuron is None:
        raise NotStored("no neuron was measured, so none is projected on")
    return {"network": network.name, "site": neuron.parameters["site"], "unit": neuron.parameters["unit"]}


REGIONS_RULE = (
    "An interval of the neuron's activations is about a label where the Wilson interval of its purity lies above "
    "one half, and surely is not where it lies below. Supported: two intervals or more are, of different labels. Not "
    "supported: of two or more, all but one at most surely are not. Else undecided."
)


def one_neuron_meets_regions(result: Result) -> Verdict:
    """`REGIONS_RULE`, on `projection`."""
    rows = result.table.to_dict("records")
    sure = {row["top_label"] for row in rows if row["purity_low"] > 0.5}
    not_about_one = sum(row["purity_high"] < 0.5 for row in rows)
    refuted = len(rows) > 1 and len(rows) - not_about_one < 2
    word: Word = "supported" if len(sure) > 1 else "not supported" if refuted else "undecided"
    numbers = [
        number(f"[{row['low']:.3g}, {row['high']:.3g}], {row['top_label']}: purity", row, "purity", row["labelled"])
        for row in rows
    ]
    because = f"{len(rows)} intervals, surely about {len(sure)} labels; {not_about_one} surely about none"
    return Verdict(word, because, pd.DataFrame(numbers, columns=NUMBERS))


EXPERIMENT = Experiment(
    name="projection",
    version=2,
    section=3,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    clusterings=True,
    claims=(
        Claim(
            "projection",
            Part.PREDICTION_1,
            5,
            "The meanings of a polysemantic direction are monosemantic regions along it.",
            asking=unit_of_the_claim_on_neurons,
            judge=one_neuron_meets_regions,
            rule=REGIONS_RULE,
        ),
    ),
)
