"""A unit at one glance: its highest examples, what it is on for, and what it adds to what the network says."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
import streamlit as st

from atlas.network import PART_UNITS
from atlas.store.catalog import SiteRecord
from query.neurons.bands import OFF
from query.neurons.effects import unit_effects
from query.neurons.units import NONE_NAMES, OTHERS, Unit

from ...plain_text import cluster_title, counted, spaces_shown
from .. import address, jobs
from ..charts import unit_charts
from ..view import View, literal, records
from . import cards, figures, markup, pin, pins, show
from .code import call, heading, reader_of, source
from .kinds import LOOKS, TOP

BANDS = 5
"""Equally full ranges of the activations above 0."""

LISTED = 5
"""Labels, tokens or clusters of a top that are listed, and outputs that a unit raises or lowers."""

HIGHEST = "top"
"""The part of a unit's table that holds its highest examples (`query.unit`)."""

EXAMPLES = 8
"""Of the highest, that are run without the unit."""

BEFORE, AFTER = 30, 16
"""Characters shown around a token: a line or two of half a page."""


def draw(view: View, site: SiteRecord, found: Unit) -> None:
    """What one sees first; a unit that is never on has no more to show."""
    top = found.table[found.table["part"] == HIGHEST].drop(columns=["part", "rank"])
    show.block(f'<p class="pa-lead">{_sentence(site, found)}{_about(top)}</p>')
    if not found.n_on:
        show.notes(f"Unit {found.unit} is at or below 0 in all {found.n:,} examples: nothing activates it.")
        return
    left, right = st.columns([3, 2], gap="large")
    with left:
        heading(f"Highest {len(top)}")
        _highest(view, top)
    with right:
        heading("On for")
        st.html(_on_for(view, found, top))
        _gate(view, found)
        heading("Adds to the answer")
        _effects(view, found)


def _highest(view: View, top: pd.DataFrame) -> None:
    """The highest examples, as small as they can be read."""

    def link(row: show.Row) -> str:
        shown = markup.number(row["activation"], 3)
        return markup.link("look", shown, example=row["example_id"], **view.state)

    def pin_of(row: show.Row) -> str:
        return pins.sign(pin.example(row["example_id"]))

    rows = records(top)
    if LOOKS[view.network.kind].pictured:
        captions = [f"{link(row)}{pin_of(row)}<br>{markup.words(row['label'])}" for row in rows]
        cells = zip(rows, captions, strict=True)
        st.html(
            markup.grid((markup.figure(row["thumbnail"], text, str(row["key"])) for row, text in cells), "pa-dense")
        )
        return
    columns = [
        show.Column("Activation", show.NUMBER, link, "Follow it to see all about the example"),
        show.Column("Example", show.WIDE, lambda row: cards.excerpt(view, row, cards.THUMB, BEFORE, AFTER)),
        show.Column("Label", show.KEY, lambda row: markup.words(row["label"])),
        show.Column("Pin", show.KEY, pin_of),
    ]
    show.table(rows, columns)


def _sentence(site: SiteRecord, found: Unit) -> str:
    place = ""
    if len(site.unit_shape) > 1:
        channel, *at = (int(i) for i in np.unravel_index(found.unit, site.unit_shape))
        place = f", channel {channel} at row {at[0]}, column {at[1]}"
    return (
        f"Unit <b>{found.unit}</b> of {markup.plain(site.name)}{place} is above 0 in "
        f"<b>{found.n_on / found.n:.1%}</b> of {found.n:,} examples, at most {markup.number(found.highest)}."
    )


def _about(top: pd.DataFrame) -> str:
    """Of how many labels its highest examples are: a sign that it is about several things, and no verdict."""
    counts = top["label"].dropna().value_counts()
    if len(counts) == 1:
        return f" Its highest {len(top)} are all of label {markup.words(counts.index[0])}."
    if counts.empty:
        return ""
    most = f"{markup.words(counts.index[0])} the commonest, {counts.iloc[0] / len(top):.0%}"
    return f" Its highest {len(top)} bear <b>{len(counts)} labels</b> ({most})."


# --- what it is on for -----------------------------------------------------------------------------------------


def _on_for(view: View, found: Unit, top: pd.DataFrame) -> str:
    """The labels of its top beside those of all examples; of a text its tokens; its clusters."""
    parts = found.composition
    told = [_captioned("Labels", _shares(parts, "label", {}, ""))]
    if "token" in top:
        tokens = Counter(str(token) for token in top["token"])
        rows = [
            (f"<mark>{markup.visible(spaces_shown(token)) or '∅'}</mark>", n / len(top), f"{n} of {len(top)}")
            for token, n in tokens.most_common(LISTED)
        ]
        told.append(_captioned("Tokens", markup.bars(rows) + _more(len(tokens))))
    if found.clustering is not None:
        names = {
            str(number): cluster_title(number, name)
            for number, name in cards.cluster_names(view, found.clustering).items()
        }
        told.append(_captioned("Clusters", _shares(parts, "cluster", names, "cluster ")))
    return f'<div class="pa">{"".join(told)}</div>'


def _captioned(caption: str, shown: str) -> str:
    return f'<p class="pa-note">{caption}</p>{shown}'


def _shares(parts: pd.DataFrame, what: str, names: dict[str, str], before: str) -> str:
    """Bars of the commonest of a unit's top; each says how common it is among all examples."""
    rows = parts[parts["what"] == what]
    top, everyone = rows[rows["part"] == HIGHEST], rows[rows["part"] != HIGHEST]
    n_top, n_all = int(top["n"].sum()), int(everyone["n"].sum())
    overall = everyone.groupby("name")["n"].sum()
    bars = []
    for row in records(top.sort_values("n", ascending=False, kind="stable").head(LISTED)):
        name, share = str(row["name"]), row["n"] / n_top
        title = name if name in NONE_NAMES else names.get(name, f"{before}{name}")
        bars.append((markup.words(title), share, f"{share:.0%}, of all {overall[name] / n_all:.0%}"))
    return markup.bars(bars) + _more(len(top))


def _more(n: int) -> str:
    """How many are not listed."""
    return f'<p class="pa-note">and {n - LISTED:,} more</p>' if n > LISTED else ""


def _gate(view: View, found: Unit) -> None:
    if found.gate is None:
        return
    sql = (
        f"select label, avg(is_on(code, {found.gate})::int) as share_on, count(*) as examples\n"
        f"from spline_codes\nwhere network = {literal(view.network.name)} and site = {literal(found.site)}\n"
        "group by label\norder by share_on desc"
    )
    show.block(
        f"In SQL: <code>is_on(code, {found.gate})</code>, "
        f"{markup.link('sql', 'labels where it is on', query=sql, **view.state)}"
    )


# --- what it adds ----------------------------------------------------------------------------------------------


def _effects(view: View, found: Unit) -> None:
    """Asked for once, and then of every unit that is looked at: the network itself is run."""
    if not address.switch(
        "Run the network without it",
        key="effect",
        help="Its highest examples, with the unit as it is and at 0: how much higher or lower each output is with it",
    ):
        return
    asked = {"site": found.site, "k": EXAMPLES, "outputs": LISTED}
    effects = view.work(
        f"Running without unit {found.unit}",
        unit_effects,
        found.unit,
        live=True,
        turns=jobs.PAGE,
        tells_names=False,
        **asked,
    )
    if effects is None:
        return
    most = max(float(effects["effect"].abs().max()), 1e-30)
    told = []
    for words, rows in (("raises", effects[effects["effect"] > 0]), ("lowers", effects[effects["effect"] < 0][::-1])):
        bars = [
            (
                f'<span class="pa-mono">{markup.words(row["name"])}</span>',
                abs(row["effect"]) / most,
                f"{row['effect']:+.3g}",
            )
            for row in records(rows)
        ]
        told.append(f'<p class="pa-note">It {words}</p>{markup.bars(bars, f"pa-{words}")}')
    show.block("".join(told))
    n = counted(len(effects.attrs["examples"]), "example")
    show.notes(
        f"logits with the unit less those with it at 0, about their mean over all outputs; mean of its highest {n}",
        effects.attrs["remark"],
    )
    source(view, f"{call(unit_effects, found.unit, **asked)[:-1]}, reader={reader_of(view.network.name)})")


# --- its whole range -------------------------------------------------------------------------------------------


def whole_range(view: View, found: Unit) -> None:
    """Histogram and composition, then examples of every band, the highest first, and of where it is off."""
    heading("Its whole range")
    what = address.segment(
        "Colour", ["cluster", "label"] if found.clustering is not None else ["label"], key="colour"
    )
    _figures(view, found, what)
    held = {row["part"]: row for row in records(found.composition.drop_duplicates("part"))}
    for part, rows in found.table[found.table["part"] != HIGHEST].groupby("part", sort=False):
        about = held[part]
        span = f"{markup.number(about['low'])} to {markup.number(about['high'])}"
        n = counted(about["n_part"], "example")
        title = f"Off, {span}" if part == OFF else f"B{str(part)[1:]} of {BANDS}, {span}"
        show.block(f"<h3>{markup.plain(title)}: {len(rows)} of {n} at random</h3>")
        cards.examples(view, rows.drop(columns=["part", "rank"]), found.clustering)


def _figures(view: View, found: Unit, what: str) -> None:
    names = list(dict.fromkeys(found.histogram.loc[found.histogram["what"] == what, "name"]))
    shown = [str(name) for name in names if name not in (OTHERS, *NONE_NAMES)]
    titles = {} if found.clustering is None else cards.cluster_names(view, found.clustering)
    bands = found.composition[found.composition["part"].str.startswith("band")]
    edges = sorted(set(bands["low"]))[1:]
    left, right = st.columns(2, gap="medium")
    stem = f"unit-{found.unit}-{found.site}".replace(":", "-")
    with left:
        title = f"Unit {found.unit}: {found.n_on:,} of {found.n:,} examples above 0"
        figures.show(
            unit_charts.activations(found.histogram, what, edges, titles, title),
            stem,
            key="activations",
            data=found.histogram[found.histogram["what"] == what],
            alt=f"Histogram of the activations of unit {found.unit} by {what}",
        )
    with right:
        table = found.composition[found.composition["what"] == what]
        figures.show(
            unit_charts.parts(found.composition, what, shown, titles, f"What its range is made of; n = {found.n:,}"),
            f"{stem}-parts",
            key="parts",
            data=table,
            alt=f"Share of each {what} in the top and the bands of unit {found.unit}",
        )


def top_sql(view: View, found: Unit) -> str:
    """The highest examples of a unit, as a query."""
    part, place = divmod(found.unit, PART_UNITS)
    return (
        f"select example_id, activation[{place + 1}] as activation, token, examples.label, prediction\n"
        "from activations join sites using (site_id) join examples using (example_id)\n"
        "join networks on networks.network_id = sites.network_id\n"
        f"where networks.name = {literal(view.network.name)} and sites.name = {literal(found.site)}\n"
        f"    and part = {part}\n"
        f"order by activation desc, example_id\nlimit {TOP}"
    )
