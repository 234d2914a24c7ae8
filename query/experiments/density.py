"""Do boundaries lie more densely between classes than within, and only after training? (SCIENCE 4; Prediction 2)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
from ..statistics import check_interval
from ..store.spans import spans_with_density
from .controls import TRAINED, controls_of, kind_of
from .figures import CHANCE, Style, finish, interval, legend_above, name_axis, points, style, text
from .result import Result
from .targets import checked_seed


def density(
    atlas: Atlas,
    *,
    network: str | None = None,
    spans: Sequence[str] | None = None,
    site_by_site: bool = False,
    beside: Sequence[str] | None = None,
    pairs: int = 2000,
    seed: int = 0,
    resamples: int = 1000,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> Result:
    """Whether boundaries lie more densely between classes than within, trained and untrained side by side.

    ``spans``: spans l->m; by default l-> for every site l whose activations are stored.
    ``site_by_site``: besides each l-> also the span that ends at the next site, whose gates are that site's alone.
    ``beside``: networks of the atlas to show beside; by default its untrained controls of the same architecture.
    ``pairs``: of the same and of different classes, each, drawn at random; two examples of one input never pair.

    Table, a row a network and span: network, weights (as given; untrained, calibrated; untrained, raw), and the
    columns of `query.class_density`: means within (intra) and between (inter) classes, their ratio, all with
    bootstrap intervals over inputs, Cohen's d, AUC, permutation p, both means per gate, n_intra and n_inter,
    dropped (pairs at distance 0), n_permuted (pairs behind p). A span that a control does not store is left out, and
    a note says so.

    Raises `UnknownName`, `NotStored`, and `UsageError`: for impossible parameters, a span that ends before it starts,
    fewer than two classes, or no class with two inputs.
    """
    record = atlas.catalog.network(network)
    notes = Notes(NOTE)
    others = _beside(atlas, record, beside, notes)
    pairs, seed = whole("pairs", pairs), checked_seed(seed)
    check_interval(resamples, confidence)
    names = _spans(atlas, record, spans, site_by_site)
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
                    pairs=pairs,
                    seed=seed,
                    resamples=resamples,
                    confidence=confidence,
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
    parameters = {
        "spans": names,
        "site_by_site": site_by_site,
        "beside": [other.name for other in others],
        "pairs": pairs,
        "seed": seed,
        "resamples": resamples,
        "confidence": confidence,
    }
    return Result("density", record.name, parameters, {"table": table}, notes.lines())


def draw_density(result: Result) -> go.Figure:
    """Ratio inter/intra by span, and both densities per gate, a series a network."""
    table = result.table
    spans = list(dict.fromkeys(table["span"]))
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.06, row_heights=[0.5, 0.5])
    networks = table[["network", "weights"]].drop_duplicates().to_dict("records")
    for place, shown in enumerate(networks):
        rows = table[table["network"] == shown["network"]].reset_index(drop=True)
        look = style(place)
        shift = 0.16 * (place - (len(networks) - 1) / 2)
        x = [spans.index(span) + shift for span in rows["span"]]
        name = result.network if place == 0 else shown["weights"] if shown["weights"] != TRAINED else shown["network"]
        hover = [_hover(row) for row in rows.to_dict("records")]
        figure.add_trace(points(str(name), x, rows, "ratio", look, hover=hover), row=1, col=1)
        _draw_means(figure, rows, x, look, hover)
    figure.add_hline(y=1, line={"color": CHANCE.colour, "dash": "dot", "width": 1}, row=1, col=1)
    figure.update_yaxes(title="Ratio between ÷ within", row=1, col=1)
    figure.update_yaxes(
        title="Boundaries per unit distance and gate<br>open: within, filled: between classes",
        type="log",
        exponentformat="power",
        row=2,
        col=1,
    )
    name_axis(figure, spans, "", row=1, col=1)
    name_axis(figure, spans, "Span, from input to output", row=2, col=1)
    legend_above(figure)
    n = [
        f"{table[column].min():,} to {table[column].max():,}"
        if table[column].nunique() > 1
        else f"{table[column].iloc[0]:,}"
        for column in ("n_intra", "n_inter")
    ]
    return finish(
        figure,
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
            "no untrained control of this architecture is in the atlas, so nothing stands beside; "
            "`polytope ingest` with --weights random:0, and random-raw:0, adds both"
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
