"""Clusters: what a clustering found at the chosen site or span, and each cluster from all sides."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import streamlit as st

import query
from atlas.errors import NotStored, UsageError
from query.clustering.clusterings import NOISE, clustering_of
from query.clustering.names import borne_name
from query.experiments.intruders import intruder_scores

from ...plain_text import counted, spaces_shown
from .. import address, jobs
from ..parts import cards, cluster_sections, markup, naming, show
from ..parts.code import call, source
from ..view import View, explained, guarded, records

PAGE_ROWS = 100  # clusters that are sent at once; a clustering may have thousands
TABLE_ROWS, TABLE_HEIGHT = 9, 300  # from so many rows on the table scrolls; pixels
SAMPLE_AROUND = 12  # characters of context either side of a token in the table of clusters


def render(view: View) -> None:
    mine = _of_target(view)
    if mine.empty:
        # Raises with the sentence that says how to make one.
        clustering_of(
            view.atlas, view.atlas.catalog.target(site=view.target, network=view.network.name), None, "codes"
        )
    numbers = [str(number) for number in mine["clustering_id"]]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        newest = numbers[_first_shown(mine)]
        clustering = int(address.one_of("Clustering", numbers, key="clustering", first=newest, width=160))
        chosen = next(row for row in records(mine) if row["clustering_id"] == clustering)
        st.html(f'<div class="pa pa-beside">{_in_words(chosen)}</div>')
    _counts(chosen)
    found = view.ask(query.clusters, clustering=clustering)
    found = found.sort_values("size", ascending=False, kind="stable", ignore_index=True)
    if found.attrs["note"]:
        show.notes(found.attrs["note"])
    if not found.attrs["current"]:
        show.notes(f"Examples were added to {view.target} since: cluster again to include them.")
    if found.empty:
        show.notes("This clustering found no cluster: every example is noise.")
    cluster = _choose(view, found, clustering, int(chosen["n_noise"]))
    if cluster is not None:
        _cluster(view, clustering, cluster, mine)


_CLUSTERS_SQL = """select label, name, note, size, persistence, purity, top_label, entropy, medoid
from named_clusters
where clustering_id = {}
order by size desc, label"""

SORTED = ".sort_values('size', ascending=False, kind='stable', ignore_index=True)"


def _of_target(view: View) -> pd.DataFrame:
    held = view.ask(query.clusterings)
    named = view.atlas.catalog.target(site=view.target, network=view.network.name).name
    return held[(held["network"] == view.network.name) & (held["target"] == named)]


def _first_shown(mine: pd.DataFrame) -> int:
    """The newest of codes; of activations where there is none."""
    codes = [place for place, space in enumerate(mine["space"]) if space == "codes"]
    return (codes or list(range(len(mine))))[-1]


def _in_words(chosen: dict[str, Any]) -> str:
    """How a clustering was made."""
    how = (
        f"{chosen['space']} of {chosen['target']}, {chosen['metric']} distance, clusters of "
        f"{chosen['min_cluster_size']} or more, {chosen['min_samples']} neighbours, {chosen['selection']}. "
        f"{chosen['algorithm']}."
    )
    return markup.plain(how[0].upper() + how[1:])


def _counts(chosen: dict[str, Any]) -> None:
    n_examples, n_noise = int(chosen["n_examples"]), int(chosen["n_noise"])
    shown = [
        ("Clusters", f"{int(chosen['n_clusters']):,}", None),
        ("Examples", f"{n_examples:,}", None),
        ("In no cluster (noise)", f"{n_noise / n_examples:.1%}", counted(n_noise, "example")),
        (
            "Purity",
            markup.number(chosen["purity"], 3),
            "Share of clustered, labelled examples that bear their cluster's commonest label",
        ),
    ]
    with st.container(horizontal=True, gap="small", key="counts"):  # a grid, of two columns on half a screen
        for name, value, hint in shown:
            st.metric(name, value, border=True, help=hint)


# --- choosing one ----------------------------------------------------------------------------------------------


def _choose(view: View, found: pd.DataFrame, clustering: int, n_noise: int) -> int | None:
    """The table, whose rows can be clicked on, and a list for the keyboard and the URL; they follow each other."""
    labels = [int(label) for label in found["label"]] + ([NOISE] if n_noise else [])
    if not labels:
        return None
    names = [cards.cluster_name(label) for label in labels]
    place = st.container()
    cluster = labels[names.index(address.one_of("Cluster", names, key="cluster", first=names[0], width=160))]
    with place:
        scores = _intruders(view, clustering)
        shown = found if scores is None else found.merge(scores, on="label", how="left")
        rows = _paged(len(found), labels.index(cluster), (clustering, cluster))
        _table(shown.iloc[rows], names[rows], cluster, f"clusters-{clustering}-{rows.start}")
        said = call(query.clusters, clustering=clustering) + SORTED
        if scores is not None:
            said += f".merge({call(intruder_scores, clustering=clustering)}, on='label', how='left')"
        source(view, said, sql=_CLUSTERS_SQL.format(clustering))
    return cluster


def _paged(n: int, place: int, chosen: tuple[int, int]) -> slice:
    """The rows of the table that are sent: at first, and when another cluster is chosen, those around it."""
    if st.session_state.get("rows-of") != chosen:
        if "rows-of" in st.session_state or "rows" not in st.query_params:
            st.session_state["rows"] = 1 + max(0, min(place, n - 1)) // PAGE_ROWS
        st.session_state["rows-of"] = chosen
    return address.paged(n, PAGE_ROWS, key="rows", of=chosen)


def _intruders(view: View, clustering: int) -> pd.DataFrame | None:
    """The intruder scores, once they are computed; where there are none, the page says why."""
    try:
        scores = view.work("Intruder tests", intruder_scores, clustering=clustering, turns=jobs.LONG)
    except (NotStored, UsageError) as reason:
        show.notes(f"No intruder scores: {reason}")
        return None
    if scores is not None:
        n, chance = scores.attrs["trials"], scores.attrs["chance"]
        show.notes(
            f"Intruder: share of {n} tests in which an outsider stood out among {scores.attrs['members']} "
            f"members, by the distances of their codes; by chance {chance:.2f}. Seed {scores.attrs['seed']}."
        )
    return scores


def _short(sample: str) -> str:
    """A sample, which marks its token «so», cut to what a cell of a table has room for."""
    start, end = sample.find("«"), sample.rfind("»")
    if not 0 <= start < end:
        return " ".join(sample.split())
    before, token, after = sample[:start], sample[start + 1 : end], sample[end + 1 :]
    left, right = (re.sub(r"\s+", " ", part) for part in (before, after))
    return f"{left[max(0, len(left) - SAMPLE_AROUND) :]}«{spaces_shown(token)}»{right[:SAMPLE_AROUND]}"


COLUMNS = ["label", "name", "size", "purity", "top_label", "entropy", "persistence", "intruder", "samples"]


def _table(found: pd.DataFrame, names: list[str], cluster: int, key: str) -> None:
    """Clusters, and no column of them that is not shown; the one that is chosen is marked, and a click chooses."""

    @guarded
    def follow() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            st.session_state["cluster"] = names[rows[0]]

    labels = found["label"].tolist()
    rows = [labels.index(cluster)] if cluster in labels else []
    st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    shown = found.assign(samples=["   ".join(map(_short, strings)) for strings in found["samples"]])
    absent = {name for name in ("name", "intruder") if name not in shown or shown[name].isna().all()}
    st.dataframe(
        shown[[name for name in COLUMNS if name not in absent]],
        key=key,
        on_select=follow,
        selection_mode="single-row",
        hide_index=True,
        placeholder="–",
        height="content" if len(shown) < TABLE_ROWS else TABLE_HEIGHT,
        column_config={
            "label": st.column_config.NumberColumn("Cluster", width=70),
            "name": st.column_config.TextColumn("Name", width="medium", help="Given by a person"),
            "size": st.column_config.NumberColumn("Size", format="localized", width=70),
            "purity": st.column_config.ProgressColumn(
                "Purity",
                format="%.2f",
                min_value=0,
                max_value=1,
                color="blue",
                width=120,
                help="Share of labelled members with the commonest label",
            ),
            "top_label": st.column_config.TextColumn("Commonest label", width=120),
            "entropy": st.column_config.NumberColumn(
                "Entropy", format="%.2f", width=70, help="Of the members' labels: 0 is pure, 1 is as mixed as can be"
            ),
            "persistence": st.column_config.NumberColumn(
                "Persistence", format="%.3f", width=90, help="HDBSCAN's stability of the cluster, 0 to 1"
            ),
            "intruder": st.column_config.NumberColumn(
                "Intruder", format="%.2f", width=80, help="How often an outsider stands out among members, 0 to 1"
            ),
            "samples": st.column_config.TextColumn("Strongest members", width="large"),
        },
    )


# --- one of them -----------------------------------------------------------------------------------------------


def _cluster(view: View, clustering: int, cluster: int, mine: pd.DataFrame) -> None:
    counts = view.ask(query.member_counts, clustering=clustering, cluster=cluster)
    size = counts.attrs["size"]
    if cluster == NOISE:
        st.header(f"Noise: {counted(size, 'member')}", anchor=False)
    else:
        borne = view.ask(borne_name, clustering=clustering, cluster=cluster)
        called = f" · {markup.markdown(borne.name)}" if borne.name else ""
        st.header(f"Cluster {cluster}{called}: {counted(size, 'member')}", anchor=False)
        naming.draw(view, borne)
    space = str(mine.loc[mine["clustering_id"] == clustering, "space"].iloc[0])
    parts = cluster_sections.parts(cluster, space)
    tabs = address.tabs(list(parts), key="part")
    for tab, draw in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab, explained():
                draw(view, clustering, cluster)
