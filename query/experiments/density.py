"""Do boundaries lie more densely between classes than within, and only after training? (SCIENCE 4; Prediction 2)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from atlas import Atlas, Span
from atlas.checks import whole
from atlas.errors import NotStored, UnknownName, UsageError
from atlas.network import FULL_SUFFIX
from atlas.store.catalog import NetworkRecord, SiteRecord

from ..notes import Notes
from ..pairs.class_density import LONE, NOTE, class_density
from ..pairs.density import exactness
from ..progress import Progress, tell
from ..store.spans import spans_with_density
from .claims import Claim, Part, Verdict, Word, everywhere, number, vote_of
from .controls import TRAINED, controls_of, kind_of, unfit_controls
from .figures import CHANCE, Style, finish, interval, legend_above, name_axis, points, style, text
from .options import IntervalOptions
from .record import Experiment
from .result import Result
from .schema import Column, table_of, with_interval


@dataclass(frozen=True, kw_only=True)
class Options(IntervalOptions):
    spans: Sequence[str] | None = None
    """Spans l->m; by default l-> for every site l whose activations are stored."""

    site_by_site: bool = False
    """Besides each l-> also the span that ends at the next site, whose gates are that site's alone."""

    beside: Sequence[str] | None = None
    """Networks of the atlas to show beside; by default its untrained controls of the same architecture."""

    pairs: int = 2000
    """Of the same and of different classes, each, drawn at random; two examples of one input never pair."""


BOUNDARIES = "boundaries a unit of distance"

TABLES = {
    "table": table_of(
        "a network and span",
        Column("network", str, "name of the network"),
        Column("weights", str, "as given; untrained; untrained, calibrated; untrained, raw"),
        Column("span", str, "name of the span"),
        Column("n_gates", int, "gates of the span"),
        Column("n_examples", int, "labelled examples, to draw from"),
        Column("n_unlabelled", int, "examples left out for want of a label"),
        Column("n_lone", int, "labels with examples of a single input, which only pairs of two classes can hold"),
        Column("n_intra", int, "pairs within a class"),
        Column("n_inter", int, "pairs between classes"),
        Column("dropped", int, "pairs at distance 0, which have no density"),
        *with_interval("intra_mean", "mean density within classes", BOUNDARIES),
        *with_interval("inter_mean", "mean density between classes", BOUNDARIES),
        *with_interval("ratio", "inter_mean over intra_mean"),
        Column("cohens_d", float, "difference of the means over the pooled standard deviation"),
        Column("auc", float, "probability that a pair between classes is the denser"),
        Column("p_value", float, "of a permutation test of the difference"),
        Column("n_permuted", int, "pairs behind p_value, no two of which share an input"),
        Column("intra_per_gate", float, "intra_mean over n_gates", BOUNDARIES),
        Column("inter_per_gate", float, "inter_mean over n_gates", BOUNDARIES),
        Column("exact", bool, "whether equal codes mean the same affine map"),
    )
}


def measure(atlas: Atlas, options: Options, *, progress: Progress | None = None) -> Result:
    """Measure every span of the network, and of the networks beside it.

    A span that a control does not store is left out, and a note says so. Raises `UnknownName`, `NotStored`, and
    `UsageError`: for impossible options, a span that ends before it starts, fewer than two classes, or no class with
    two inputs.
    """
    record = atlas.catalog.network(options.network)
    notes = Notes(NOTE)
    others = _beside(atlas, record, options.beside, notes)
    whole("pairs", options.pairs)
    names = _spans(atlas, record, options.spans, options.site_by_site)
    total = len(names) * (1 + len(others))
    frames, done = [], 0
    for place, shown in enumerate((record, *others)):
        for span in names:
            tell(progress, done, total)
            done += 1
            try:
                frame = class_density(
                    atlas,
                    network=shown.name,
                    spans=[span],
                    pairs=options.pairs,
                    seed=options.seed,
                    resamples=options.resamples,
                    confidence=options.confidence,
                )
            except (NotStored, UnknownName, UsageError) as error:
                if place == 0:
                    raise
                notes.add(f"left out: {error}", shown.name)  # a control that lacks a span is no reason to stop
                continue
            if n_lone := int(frame["n_lone"].iloc[0]):
                notes.add(f"{n_lone} {LONE}", shown.name)
            frame.insert(0, "network", shown.name)
            frame.insert(1, "weights", kind_of(shown))
            frames.append(frame)
    tell(progress, total, total)
    table = pd.concat(frames, ignore_index=True)
    for network, span in table.loc[~table["exact"].astype(bool), ["network", "span"]].itertuples(index=False):
        notes.add(exactness(atlas.catalog.target(span=span, network=network)))
    parameters = {"spans": names, "beside": [other.name for other in others]}
    return Result("density", record.name, parameters, {"table": table}, notes.lines())


def figure(result: Result) -> go.Figure:
    """Ratio inter/intra by span, and both densities per gate, a series a network."""
    table = result.table
    spans = list(dict.fromkeys(table["span"]))
    drawing = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.5, 0.5])
    networks = table[["network", "weights"]].drop_duplicates().to_dict("records")
    for place, shown in enumerate(networks):
        rows = table[table["network"] == shown["network"]].reset_index(drop=True)
        look = style(place)
        shift = 0.16 * (place - (len(networks) - 1) / 2)
        x = [spans.index(span) + shift for span in rows["span"]]
        name = result.network if place == 0 else shown["weights"] if shown["weights"] != TRAINED else shown["network"]
        hover = [_hover(row) for row in rows.to_dict("records")]
        drawing.add_trace(points(str(name), x, rows, "ratio", look, hover=hover), row=1, col=1)
        _draw_means(drawing, rows, x, look, hover)
    drawing.add_hline(y=1, line={"color": CHANCE.colour, "dash": "dot", "width": 1}, row=1, col=1)
    drawing.update_yaxes(title="Ratio between ÷ within", row=1, col=1)
    drawing.update_yaxes(
        title="Boundaries per unit distance and gate<br>open: within, filled: between classes",
        type="log",
        exponentformat="power",
        row=2,
        col=1,
    )
    name_axis(drawing, spans, "", row=1, col=1)
    name_axis(drawing, spans, "Span, from input to output", row=2, col=1)
    legend_above(drawing)
    n = [
        f"{table[column].min():,} to {table[column].max():,}"
        if table[column].nunique() > 1
        else f"{table[column].iloc[0]:,}"
        for column in ("n_intra", "n_inter")
    ]
    return finish(
        drawing,
        f"{result.network}: boundaries between classes and within",
        f"n = {n[0]} pairs within and {n[1]} between classes, a span and network; bars: "
        f"{result.parameters['confidence']:.0%} intervals; dotted: no difference",
        result.notes,
        height=620,
        below=100,
    )


def _draw_means(figure: go.Figure, rows: pd.DataFrame, x: list[float], look: Style, hover: list[str]) -> None:
    for kind, symbol, words, aside in (("intra", "-open", "within", -0.04), ("inter", "", "between", 0.04)):
        frame = pd.DataFrame(
            {
                "mean": rows[f"{kind}_per_gate"],
                "mean_low": rows[f"{kind}_low"] / rows["n_gates"],
                "mean_high": rows[f"{kind}_high"] / rows["n_gates"],
            }
        )
        shaped = Style(look.colour, look.symbol + symbol, look.dash, look.pattern)
        figure.add_trace(
            points(words, [place + aside for place in x], frame, "mean", shaped, hover=hover, showlegend=False),
            row=2,
            col=1,
        )


def _hover(row: dict[Any, Any]) -> str:
    means = (interval(row[f"{kind}_mean"], row[f"{kind}_low"], row[f"{kind}_high"]) for kind in ("intra", "inter"))
    within, between = means
    return (
        f"<b>{text(row['span'])}</b>, {text(row['network'])}<br>within {within}, between {between} boundaries a unit"
        f"<br>ratio {interval(row['ratio'], row['ratio_low'], row['ratio_high'])}, d {row['cohens_d']:.2f}, "
        f"AUC {row['auc']:.3f}, p {row['p_value']:.2g}<br>n = {row['n_intra']:,} + {row['n_inter']:,} pairs"
    )


def _beside(atlas: Atlas, network: NetworkRecord, names: Sequence[str] | None, notes: Notes) -> list[NetworkRecord]:
    if names is not None:
        return [atlas.catalog.network(name) for name in names if name != network.name]
    found = controls_of(atlas, network)
    if not found and kind_of(network) == TRAINED:
        notes.add(
            "; ".join(unfit_controls(atlas, network))
            or "no untrained control of this architecture is in the atlas, so nothing stands beside"
        )
        notes.add(
            "`polytope ingest` with --weights random:0, and random-raw:0, and else as the network was ingested (the "
            "same --image-size), adds both untrained controls"
        )
    return found


def _spans(atlas: Atlas, network: NetworkRecord, spans: Sequence[str] | None, site_by_site: bool) -> list[str]:
    if spans is not None:
        if site_by_site:
            raise UsageError(
                "site_by_site adds to the spans measured by default; name the spans yourself, or leave them out"
            )
        if isinstance(spans, str) or not spans:
            raise UsageError(f"spans is {spans!r}; expected a list of spans such as 'inception4c->:full'")
        return [atlas.catalog.target(span=span, network=network.name).name for span in spans]
    found = spans_with_density(atlas, network)
    if not site_by_site:
        return found
    targets = [atlas.catalog.target(span=span, network=network.name) for span in found]
    return [*found, *(str(replace(Span.parse(t.name), to=_block(t.sites[0]))) for t in targets if len(t.sites) > 1)]


def _block(site: SiteRecord) -> str:
    return site.name.removesuffix(FULL_SUFFIX)


# --- what it decides ---------------------------------------------------------------------------------------------

NO_DIFFERENCE = 0.05
"""How far from 1 the ratio of densities lies at most where there is no difference that counts: less than any that a
trained network showed (6 to 18 %, docs/FINDINGS.md)."""

DENSITY_RULE = (
    "Supported: the interval of the ratio (between over within classes) lies above 1 at every span, and in the "
    f"untrained controls all of it lies within {NO_DIFFERENCE:.0%} of 1 at every span: less than any difference that "
    "a trained network showed. Not supported: the interval lies below 1 at more than half of the spans, or in the "
    f"controls above {1 + NO_DIFFERENCE:.2f} at more than half. Else undecided, as without a control in the atlas."
)


def boundaries_separate_classes(result: Result) -> Verdict:
    """`DENSITY_RULE`, on `density`."""
    table = result.table
    given = {row["span"]: row for row in table[table["network"] == result.network].to_dict("records")}
    controls = table[table["weights"].str.startswith("untrained")].to_dict("records")
    votes = [vote_of(row["ratio_low"], row["ratio_high"], 1.0) for row in given.values()]
    quiet = [row["ratio_low"] > 1 - NO_DIFFERENCE and row["ratio_high"] < 1 + NO_DIFFERENCE for row in controls]
    loud = [row["ratio_low"] > 1 + NO_DIFFERENCE for row in controls]
    numbers = [
        number(f"{row['span']}, {row['weights']}: ratio", row, "ratio", f"{row['n_intra']} + {row['n_inter']} pairs")
        for row in [*given.values(), *controls]
    ]
    word = everywhere(votes)
    if sum(loud) * 2 > len(loud):
        word = "not supported"
    elif word == "supported" and not (quiet and all(quiet)):
        word = "undecided"
    beside = (
        f"; untrained: no difference that counts at {sum(quiet)} of {len(quiet)}, one at {sum(loud)}"
        if controls
        else "; no untrained control that fits is in the atlas"
    )
    above = sum(vote > 0 for vote in votes)
    return Verdict(word, f"the ratio lies above 1 at {above} of {len(votes)} spans{beside}", pd.DataFrame(numbers))


DEPTH_RULE = (
    "Of the trained network's ratio per span: supported where the interval at the last span lies above that at "
    "the first and the rank correlation with depth is positive; not supported where the interval at the last lies"
    " below that at the first; else undecided."
)


def difference_grows_with_depth(result: Result) -> Verdict:
    """`DEPTH_RULE`, on `density`."""
    table = result.table
    rows = table[table["network"] == result.network].to_dict("records")
    first, last = rows[0], rows[-1]
    ratios = pd.Series([row["ratio"] for row in rows])
    correlation = float(ratios.rank().corr(pd.Series(range(len(ratios)), dtype=float))) if len(rows) > 1 else np.nan
    if len(rows) > 1 and last["ratio_low"] > first["ratio_high"] and correlation > 0:
        word: Word = "supported"
    elif len(rows) > 1 and last["ratio_high"] < first["ratio_low"]:
        word = "not supported"
    else:
        word = "undecided"
    numbers = [
        number(f"{row['span']}: ratio", row, "ratio", f"{row['n_intra']} + {row['n_inter']} pairs") for row in rows
    ]
    # Of all spans that there are, which share gates: no sample, and so no interval.
    numbers.append(
        {
            "what": "rank correlation of ratio and depth, of these spans",
            "value": correlation,
            "low": np.nan,
            "high": np.nan,
            "n": len(rows),
        }
    )
    because = f"{first['ratio']:.3g} at {first['span']}, {last['ratio']:.3g} at {last['span']}"
    return Verdict(word, because, pd.DataFrame(numbers))


EXPERIMENT = Experiment(
    name="density",
    version=2,
    section=4,
    options=Options,
    tables=TABLES,
    measure=measure,
    figure=figure,
    beside=True,
    quick={"pairs": 300, "resamples": 200},
    claims=(
        Claim(
            "density",
            Part.PREDICTION_2,
            1,
            "Networks place more boundaries between inputs of different classes than of the same class; untrained "
            "networks do not.",
            judge=boundaries_separate_classes,
            rule=DENSITY_RULE,
        ),
        Claim(
            "depth",
            Part.PREDICTION_2,
            2,
            "The difference gets more robust in higher layers.",
            judge=difference_grows_with_depth,
            rule=DEPTH_RULE,
        ),
    ),
)
