"""Neurons: how units rank, what activates one and what it adds to the answer, and whether directions do better."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import query
from atlas import Atlas
from atlas.store.catalog import SiteRecord
from query.examples.description import describe
from query.examples.ids import is_span

from .. import address, jobs
from ..charts import unit_charts
from ..parts import cards, directions, figures, glance, markup, show
from ..parts.code import call, source
from ..parts.kinds import LOOKS, TOP
from ..parts.show import NUMBER, WIDE, Column, Row
from ..view import View, explained, guarded, records

UNIT, RANKING, DIRECTIONS = "Unit", "Ranking", "Directions"
SECTIONS = [RANKING, UNIT, DIRECTIONS]

RANKED_ROWS = 25  # units a page of the ranking
ORDERS = {
    "Highest entropy of labels": ("label_entropy", False),
    "Lowest entropy of labels": ("label_entropy", True),
    "Highest entropy of groups": ("group_entropy", False),
    "Lowest entropy of groups": ("group_entropy", True),
    "Most active": ("active", False),
    "Highest": ("highest", False),
    "Number": ("unit", True),
}
MOST_LABELS, MOST_GROUPS = "Highest entropy of labels", "Highest entropy of groups"
"""Orders that begin the ranking: labels where there are labels."""

TELLING = 10
"""Examples that a unit needs in its top to be said to be about few things: of two examples nothing is learnt."""


GROUPS = "Clusters of its top: those with the same commonest label are one, noise is another"


def render(view: View) -> None:
    site = _site(view)
    if site is None:
        return
    # Also while its unit is computed: an address that asked for one that is not there names none any more.
    first = UNIT if "unit" in st.query_params or "unit" in st.session_state else RANKING
    section = address.segment("Show", SECTIONS, key="section", first=first, label_visibility="collapsed")
    address.name("section", section)
    with explained():
        {UNIT: _unit, RANKING: _ranking, DIRECTIONS: directions.draw}[section](view, site)


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
        "k": TOP,
        "bands": glance.BANDS,
        "per_band": look.per_band,
    }
    found = view.work(f"Reading unit {number}", query.unit, number, tells_names=False, **wanted)
    if found is None:
        return
    source(view, f"{call(query.unit, number, **wanted)}.table", sql=glance.top_sql(view, found))
    glance.draw(view, site, found)
    if found.n_on:
        glance.whole_range(view, found)


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


# --- all of them -----------------------------------------------------------------------------------------------


def _ranking(view: View, site: SiteRecord) -> None:
    wanted: dict[str, Any] = {"site": site.name, "network": view.network.name}
    found = view.work("Ranking units", query.units, turns=jobs.LONG, tells_names=False, **wanted)
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
    show.notes(
        "Highest examples of many labels, or in many groups of clusters, hint that a unit is polysemantic; of one, "
        "that it is about one thing. The page Claims judges by the groups alone, and over all units."
    )
    _rows(view, shown.iloc[address.paged(len(shown), RANKED_ROWS, of=(site.name, order, telling))])
    figures.show(
        unit_charts.entropies(shown, by, means.get("random sets"), title),
        f"units-{site.name}".replace(":", "-"),
        key="entropies",
        data=shown[["unit", by]],
        alt="Histogram of the entropies of units' tops",
    )
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
        Column(
            "Top", NUMBER, lambda row: str(row["top"]), f"Examples in its top: the highest above 0, at most {TOP}"
        ),
        Column("Labels", NUMBER, lambda row: str(row["labels"]), "Distinct labels in its top"),
        _entropy("Entropy of labels", "label_entropy", "Over the labels of its top, bits"),
        Column("Groups", NUMBER, lambda row: str(row["groups"]), GROUPS),
        _entropy("Entropy of groups", "group_entropy", "Over the groups of its top, bits"),
        Column("Noise", NUMBER, lambda row: str(row["noise"]), "Examples of its top that are in no cluster"),
    ]
    show.table(records(shown), columns)


def described_examples(atlas: Atlas, network: str, examples: list[int]) -> pd.DataFrame:
    """What is shown of examples, a row each."""
    return describe(atlas, atlas.catalog.network(network), examples)


def _entropy(title: str, name: str, hint: str) -> Column:
    return Column(title, NUMBER, lambda row: markup.number(row[name], 3), hint)
