"""Neurons: what activates a unit over its whole range, how units rank, and whether directions do better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import query
from atlas import Atlas
from atlas.network import PART_UNITS
from atlas.store.catalog import SiteRecord
from query.examples.description import describe
from query.examples.ids import is_span
from query.experiments import archive
from query.experiments.result import Result
from query.neurons.bands import OFF
from query.neurons.units import NONE_NAMES, OTHERS, Unit

from ...plain_text import counted
from .. import address, jobs
from ..charts import unit_charts
from ..parts import cards, figures, markup, measured, show
from ..parts.code import call, source
from ..parts.kinds import LOOKS
from ..parts.show import KEY, NUMBER, WIDE, Column, Row
from ..view import View, explained, guarded, literal, records

UNIT, RANKING, DIRECTIONS = "Unit", "Ranking", "Directions"
SECTIONS = [UNIT, RANKING, DIRECTIONS]

BANDS = 5

RANKED_ROWS = 25  # units a page of the ranking
ORDERS = {
    "Most labels": ("label_entropy", False),
    "Fewest labels": ("label_entropy", True),
    "Most groups of clusters": ("group_entropy", False),
    "Fewest groups of clusters": ("group_entropy", True),
    "Most active": ("active", False),
    "Highest": ("highest", False),
    "Number": ("unit", True),
}
MOST_LABELS, MOST_GROUPS = "Most labels", "Most groups of clusters"
"""Orders that begin the ranking: labels where there are labels."""

TELLING = 10
"""Examples that a unit needs in its top to be said to be about few things: of two examples nothing is learnt."""


GROUPS = "Clusters of its top: those with the same commonest label are one, noise is another"


def render(view: View) -> None:
    site = _site(view)
    if site is None:
        return
    section = address.segment("Show", SECTIONS, key="section", label_visibility="collapsed")
    with explained():
        {UNIT: _unit, RANKING: _ranking, DIRECTIONS: _directions}[section](view, site)


def _site(view: View) -> SiteRecord | None:
    """The site that the sidebar names; None where it is a span or stores no activations, which the page then says."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    span = is_span(target)
    if not span and target.sites[0].n_activations:
        return target.sites[0]
    why = (
        f"a span ({target.name}) has gates but no units of its own"
        if span
        else f"no activations are stored for site {target.name} of network {view.network.name}; ingest with "
        "--store-activations"
    )
    show.notes(why)
    others = [site for site in view.atlas.catalog.sites_of(view.network) if site.n_activations]
    links = [markup.link("neurons", site.name, network=view.network.name, target=site.name) for site in others]
    if links:
        st.html(f'<div class="pa">Sites with activations: {", ".join(links)}</div>')
    return None


# --- a unit ----------------------------------------------------------------------------------------------------


def _unit(view: View, site: SiteRecord) -> None:
    number = _pick(site)
    look = LOOKS[view.network.kind]
    wanted: dict[str, Any] = {
        "site": site.name,
        "network": view.network.name,
        "k": look.top,
        "bands": BANDS,
        "per_band": look.per_band,
    }
    found = view.work(f"Reading unit {number}", query.unit, number, **wanted)
    if found is None:
        return
    _facts(view, site, found)
    if not found.n_on:
        show.notes(f"Unit {number} is at or below 0 in all {found.n:,} examples: nothing activates it.")
    else:
        what = _colour(found)
        _figures(view, found, what)
        _examples(view, found)
    source(view, f"{call(query.unit, number, **wanted)}.table", sql=_top_sql(view, found))
    _gate(view, found)


def _pick(site: SiteRecord) -> int:
    """The unit of the URL, with buttons to its neighbours."""
    last = site.n_units - 1

    @guarded
    def go(to: int) -> None:
        st.session_state["unit"] = to

    with st.container(horizontal=True, vertical_alignment="bottom"):
        number = address.number(
            f"Unit (0 to {last:,})",
            0,
            last,
            0,
            key="unit",
            width=170,
            expected=f"a unit of site {site.name}, which has {site.n_units:,}, numbered from 0",
        )
        st.button("Previous", on_click=go, args=(number - 1,), disabled=number == 0)
        st.button("Next", on_click=go, args=(number + 1,), disabled=number == last)
        st.button("Another at random", on_click=go, args=(int(np.random.default_rng().integers(last + 1)),))
    return number


def _facts(view: View, site: SiteRecord, found: Unit) -> None:
    shown = [
        ("Above 0", f"{found.n_on / found.n:.1%}", f"{found.n_on:,} of {found.n:,} examples"),
        ("Highest activation", markup.number(found.highest), None),
        (
            "Gate",
            "–" if found.gate is None else f"{found.gate:,}",
            "Of the code of the same site; it is on exactly where the unit is above 0",
        ),
    ]
    with st.container(horizontal=True, gap="small"):
        for name, value, hint in shown:
            st.metric(name, value, border=True, help=hint, width="stretch")
    if len(site.unit_shape) > 1:
        channel, *at = (int(i) for i in np.unravel_index(found.unit, site.unit_shape))
        show.notes(f"Channel {channel} at row {at[0]}, column {at[1]}.")


def _colour(found: Unit) -> str:
    offered = ["cluster", "label"] if found.clustering is not None else ["label"]
    return address.segment("Colour", offered, key="colour")


def _figures(view: View, found: Unit, what: str) -> None:
    names = list(dict.fromkeys(found.histogram.loc[found.histogram["what"] == what, "name"]))
    shown = [str(name) for name in names if name not in (OTHERS, *NONE_NAMES)]
    bands = found.composition[found.composition["part"].str.startswith("band")]
    edges = sorted(set(bands["low"]))[1:]
    left, right = st.columns(2, gap="medium")
    stem = f"unit-{found.unit}-{found.site}".replace(":", "-")
    with left:
        title = f"Unit {found.unit}: {found.n_on:,} of {found.n:,} examples above 0"
        figures.show(
            unit_charts.activations(found.histogram, what, edges, title),
            stem,
            key="activations",
            data=found.histogram[found.histogram["what"] == what],
            alt=f"Histogram of the activations of unit {found.unit} by {what}",
        )
    with right:
        table = found.composition[found.composition["what"] == what]
        figures.show(
            unit_charts.parts(found.composition, what, shown, f"What its range is made of; n = {found.n:,}"),
            f"{stem}-parts",
            key="parts",
            data=table,
            alt=f"Share of each {what} in the top and the bands of unit {found.unit}",
        )


def _examples(view: View, found: Unit) -> None:
    """The top, then examples of every band from the highest to the lowest, then of where the unit is off."""
    held = {row["part"]: row for row in records(found.composition.drop_duplicates("part"))}
    for part, rows in found.table.groupby("part", sort=False):
        about = held[part]
        span = f"{markup.number(about['low'])} to {markup.number(about['high'])}"
        n = counted(about["n_part"], "example")
        title = {"top": f"Top {len(rows)}: {span}", OFF: f"Off, {span}: {len(rows)} of {n} at random"}.get(
            str(part), f"B{str(part)[1:]} of {BANDS}, {span}: {len(rows)} of {n} at random"
        )
        st.html(f'<div class="pa"><h2>{markup.plain(title)}</h2></div>')
        cards.examples(view, rows.drop(columns=["part", "rank"]), found.clustering)


def _top_sql(view: View, found: Unit) -> str:
    part, place = divmod(found.unit, PART_UNITS)
    return (
        f"select example_id, activation[{place + 1}] as activation, token, examples.label, prediction\n"
        "from activations join sites using (site_id) join examples using (example_id)\n"
        "join networks on networks.network_id = sites.network_id\n"
        f"where networks.name = {literal(view.network.name)} and sites.name = {literal(found.site)}\n"
        f"    and part = {part}\n"
        f"order by activation desc, example_id\nlimit {LOOKS[view.network.kind].top}"
    )


def _gate(view: View, found: Unit) -> None:
    if found.gate is None:
        return
    sql = (
        f"select label, avg(is_on(code, {found.gate})::int) as share_on, count(*) as examples\n"
        f"from spline_codes\nwhere network = {literal(view.network.name)} and site = {literal(found.site)}\n"
        "group by label\norder by share_on desc"
    )
    st.html(
        f'<div class="pa">In SQL the unit is above 0 where <code>is_on(code, {found.gate})</code>: '
        f"{markup.link('sql', 'labels where it is on', query=sql, **view.state)}</div>"
    )


# --- all of them -----------------------------------------------------------------------------------------------


def _ranking(view: View, site: SiteRecord) -> None:
    wanted: dict[str, Any] = {"site": site.name, "network": view.network.name}
    found = view.work("Ranking units", query.units, turns=jobs.LONG, **wanted)
    if found is None:
        return
    if found.empty:
        show.notes(f"No unit of {site.name} is ever above 0 in {found.attrs['n']:,} examples.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        most = MOST_LABELS if found["label_entropy"].notna().any() else MOST_GROUPS
        order = address.one_of("Order", list(ORDERS), key="order", first=most, width=230)
        telling = address.switch(
            f"Only units with {TELLING} or more in their top",
            default=True,
            key="telling",
            help="Of a unit that is above 0 in two examples it means little that they are of one cluster.",
        )
    column, ascending = ORDERS[order]
    shown = found[found["top"] >= TELLING] if telling else found
    sorting: dict[str, Any] = {"by": [column, "unit"], "ascending": [ascending, True], "kind": "stable"}
    shown = shown.sort_values(**sorting)
    by = column if column.endswith("entropy") else ORDERS[most][0]
    means = {row["of"]: row[by] for row in found.attrs["chance"]}
    title = f"{len(shown):,} of {site.n_units:,} units; n = {found.attrs['n']:,} examples"
    figures.show(
        unit_charts.entropies(shown, by, means.get("random sets"), title),
        f"units-{site.name}".replace(":", "-"),
        key="entropies",
        data=shown[["unit", by]],
        alt="Histogram of the entropies of units' tops",
    )
    _rows(view, shown.iloc[address.paged(len(shown), RANKED_ROWS, of=(site.name, order, telling))])
    show.notes(*found.attrs["notes"])
    kept = f".query('top >= {TELLING}')" if telling else ""
    sorted_by = ", ".join(f"{name}={value!r}" for name, value in sorting.items())
    source(view, f"{call(query.units, **wanted)}{kept}.sort_values({sorted_by})")


def _rows(view: View, shown: pd.DataFrame) -> None:
    everyone = sorted({example for ids in shown["examples"] for example in ids})
    described = {row["example_id"]: row for row in records(view.ask(described_examples, view.network.name, everyone))}

    def unit(row: Row) -> str:
        return markup.link("neurons", str(row["unit"]), unit=row["unit"], **view.state)

    def examples(row: Row) -> str:
        return cards.strip(view, [described[example] for example in row["examples"]])

    columns = [
        Column("Unit", NUMBER, unit, "Follow it to see what activates it"),
        Column("Highest examples", WIDE, examples, "The highest first; follow one to see all about it"),
        Column("Active", NUMBER, lambda row: f"{row['active']:.1%}", "Share of the examples in which it is above 0"),
        Column("Highest", NUMBER, lambda row: markup.number(row["highest"]), "Its highest activation"),
        Column("Top", NUMBER, lambda row: str(row["top"]), "Examples in its top: the highest above 0, at most 20"),
        Column("Labels", NUMBER, lambda row: str(row["labels"]), "Distinct labels in its top"),
        _entropy("Entropy", "label_entropy", "Over the labels of its top, bits"),
        Column("Groups", NUMBER, lambda row: str(row["groups"]), GROUPS),
        _entropy("Entropy", "group_entropy", "Over the groups of its top, bits"),
        Column("Noise", NUMBER, lambda row: str(row["noise"]), "Examples of its top that are in no cluster"),
    ]
    show.table(records(shown), columns)


def described_examples(atlas: Atlas, network: str, examples: list[int]) -> pd.DataFrame:
    """What is shown of examples, a row each."""
    return describe(atlas, atlas.catalog.network(network), examples)


def _entropy(title: str, name: str, hint: str) -> Column:
    return Column(title, NUMBER, lambda row: markup.number(row[name], 3), hint)


# --- directions ------------------------------------------------------------------------------------------------


def _directions(view: View, site: SiteRecord) -> None:
    options: dict[str, Any] = {"site": site.name}
    found = measured.stored(view, "directions", options) or _any_stored(view, site)
    if found is None:
        if not measured.offer(
            "64 directions of NMF and 64 of PCA, fitted to at most 10,000 clustered examples: seconds on the demo, "
            "minutes on a large atlas. The command below stores the result.",
            "directions",
        ):
            measured.code(view, "directions", options)
            return
        found = measured.answer(view, "directions", options, "Fitting NMF and PCA")
        if found is None:
            return
    result = found.result
    figures.show(
        measured.drawn(result),
        f"directions-{site.name}".replace(":", "-"),
        key="directions",
        data=result.tables["histogram"],
        alt="Histograms of cosines with directions of NMF and PCA, by cluster",
    )
    measured.remarks(found)
    _components(view, result)
    given = {name: value for name, value in result.options.items() if name != "network"}
    measured.code(view, "directions", given or options, tables=["components"])


def _any_stored(view: View, site: SiteRecord) -> measured.Answer | None:
    """The newest stored result on this site whose data has not changed, whatever else it was asked with."""
    number, result = view.ask(_newest, view.network.name, site.name)
    return None if number is None or result is None else measured.Answer(result, number)


def _newest(atlas: Atlas, network: str, site: str) -> tuple[int | None, Result | None]:
    for row in records(archive.stored(atlas, "directions", network)):
        if row["current"] and row["parameters"].get("site") == site:
            return int(row["experiment_id"]), archive.load(atlas, int(row["experiment_id"]))
    return None, None


def _components(view: View, result: Result) -> None:
    """The directions, those whose top is mostly of one cluster first."""
    clustering = result.parameters.get("clustering")
    shown = result.tables["components"].sort_values(
        ["top_share", "method", "component"], ascending=[False, True, True], kind="stable"
    )
    rows_shown = address.paged(len(shown), RANKED_ROWS, of=DIRECTIONS)

    def cluster(row: Row) -> str:
        number = row["top_cluster"]
        return cards.cluster_link(view, clustering, number) if clustering else str(number)

    columns = [
        Column("Method", KEY, lambda row: markup.plain(row["method"])),
        Column("Direction", NUMBER, lambda row: str(row["component"]), "Number of the component"),
        Column("Top in one cluster", NUMBER, lambda row: f"{row['top_share']:.0%}", "That the commonest holds"),
        Column("Cluster", KEY, cluster, "The commonest of its top"),
        Column("Clusters", NUMBER, lambda row: str(row["clusters"]), "In its top"),
        _entropy("Entropy", "entropy", "Over the clusters of its top, bits"),
        Column("Highest cosine", NUMBER, lambda row: markup.number(row["highest"], 3)),
        Column("Explained", NUMBER, lambda row: markup.number(row["explained"], 3), "Share of the variance"),
    ]
    show.table(records(shown.iloc[rows_shown]), columns)
