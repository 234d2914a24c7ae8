"""Networks of the same sites beside each other, such as checkpoints of a training."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import query
from atlas.errors import NotStored, UsageError

from ..charts import step_charts
from ..view import View, explained, guarded, records
from . import figures, markup, show
from .code import call, source
from .show import KEY, NUMBER, Column, Row

UNASKED_EXAMPLES = 20_000
"""Up to so many examples networks are compared without being asked to: some seconds."""

COMPARE = "compare"
"""What the URL says where networks are compared though they read more."""

MOVED = 5
"""Examples asked for of each step; the page shows none, the code beside it gives them."""


def beside(view: View, networks: pd.DataFrame, sites: pd.DataFrame) -> None:
    """Networks with the sites of the one that is looked at: a line over them, and what becomes of clusters.

    ``networks``, ``sites``: tables of `query.info`. Nothing where there is no other such network.
    """
    gates = {name: dict(zip(of["site"], of["n_gates"], strict=True)) for name, of in sites.groupby("network")}
    alike = [name for name in networks["name"] if gates.get(name) == gates.get(view.network.name)]
    if len(alike) < 2:
        return
    st.header("Networks beside each other", anchor=False)
    n_examples = int(networks.set_index("name")["n_examples"][alike].max())
    if n_examples > UNASKED_EXAMPLES and st.query_params.get(COMPARE) != "1":
        st.button("Compare networks", on_click=_ask)
        return
    with explained():
        try:
            found = view.work("Comparing networks", query.compare, networks=alike, k=MOVED)
        except (UsageError, NotStored) as reason:
            show.notes(str(reason))
            return
        if found is not None:
            _draw(found)
            source(view, call(query.compare, networks=alike, k=MOVED))


def _draw(found: query.Comparison) -> None:
    names = " to ".join((found.networks[0], found.networks[-1]))
    figures.show(
        step_charts.moved(found.steps, found.n_examples),
        "training",
        key="training",
        data=found.steps,
        alt=f"Share of gates that differ from the first network, by site, {names}",
    )

    def fates(row: Row) -> str:
        counts = {fate: row[fate] for fate in ("stays", "splits", "merges", "dies", "born", "undecided")}
        held = [f"{int(count)} {fate}" for fate, count in counts.items() if not pd.isna(count) and count]
        return ", ".join(held) or "–"

    columns = [
        Column("Step", KEY, lambda row: markup.plain(f"{row['before']} → {row['after']}")),
        Column("Site", KEY, lambda row: markup.plain(row["site"])),
        Column("Flips", NUMBER, lambda row: markup.number(row["flips"], 3), "Mean gates of an example that flip"),
        Column("Share", NUMBER, lambda row: f"{row['share']:.2%}", "Of the gates of the site"),
        Column("Same code", NUMBER, lambda row: f"{row['unchanged']:.1%}", "Examples of which no gate flips"),
        Column("Clusters", KEY, fates, "What becomes of the clusters of codes"),
    ]
    show.table(records(found.steps), columns)
    show.notes(*found.notes)


@guarded
def _ask() -> None:
    st.query_params[COMPARE] = "1"
