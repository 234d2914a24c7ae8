"""A region of a map: its SQL and what lies in it, and its examples."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import query
from query.layout.layouts import StoredLayout
from query.layout.regions import Region, region_counts, region_sql

from ..view import View, guarded, records
from . import cards, gallery, markup, show
from .code import call, heading, source
from .kinds import LOOKS
from .show import KEY, NUMBER, Column

COUNTED = 8  # labels and clusters of a region that are listed
CLUSTER, LABEL = "cluster", "label"


def beside(view: View, layout: StoredLayout, clustering: int | None, region: Region) -> None:
    """How many lie in it, the query that gives them, and which labels and clusters they are."""
    counts = view.ask(region_counts, layout.layout_id, region, clustering=clustering)
    size = int(counts.loc[counts["what"] == LABEL, "n"].sum())
    kind = "box" if len(region.corners) == 2 else f"polygon of {len(region.corners)} corners"
    heading(f"{size:,} of {layout.n_examples:,} examples in this {kind}")
    st.code(region_sql(layout.layout_id, region), None, wrap_lines=True, height="content" if kind == "box" else 220)
    where = markup.link("sql", "Open in the SQL page", query=region_sql(layout.layout_id, region), **view.state)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(f'<div class="pa">{where}</div>')
        st.button("Clear the region", on_click=_clear)
    for what in (CLUSTER, LABEL):
        _counted(view, counts[counts["what"] == what], what, clustering)
    source(view, call(region_counts, layout.layout_id, _numbers(region), clustering=clustering))


def below(view: View, layout: StoredLayout, region: Region) -> None:
    """The examples in it, a page at a time."""
    which: dict[str, Any] = {"layout": layout.layout_id, "within": region}
    size = int(view.ask(query.layout_examples, **which, limit=1).attrs["size"])
    if not size:
        return
    gallery.show(view, gallery.Selection(query.layout_examples, which, size, "in order of id"))
    source(
        view,
        call(query.layout_examples, layout.layout_id, _numbers(region), limit=LOOKS[view.network.kind].page_rows),
        sql=region_sql(layout.layout_id, region),
    )


def _numbers(region: Region) -> list[float]:
    return [number for corner in region.corners for number in corner]


@guarded
def _clear() -> None:
    st.session_state["within"] = ""


def _counted(view: View, counts: pd.DataFrame, what: str, clustering: int | None) -> None:
    """The commonest labels or clusters of a region, with how much commoner they are than on the whole map."""
    if counts.empty:
        return

    def words(row: dict[str, Any]) -> str:
        if what == LABEL or clustering is None:
            return markup.words(row["name"])
        return cards.cluster_link(view, clustering, -1 if row["name"] == "noise" else int(row["name"]))

    columns = [
        Column(what.capitalize(), KEY, words),
        Column("Here", NUMBER, lambda row: f"{row['n']:,}", "Examples in the region"),
        Column("Lift", NUMBER, lambda row: markup.number(float(row["lift"]), 3), "Share over that on the whole map"),
    ]
    show.table(records(counts.head(COUNTED)), columns)
    if len(counts) > COUNTED:
        show.notes(f"and {len(counts) - COUNTED:,} more")
