"""Clusters: what a clustering found at the chosen site or span, and who is in each cluster."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import query
from app import cards, marked, plots
from app.pages.overview import PLAIN
from app.view import View, call, records, source
from atlas import Atlas
from query.clusters import NOISE, clustering_of

PAGE_ROWS = {"text": 20, "image": 36}  # members a page: about two screens
TABLE_ROWS, TABLE_HEIGHT = 9, 300  # from so many rows on the table scrolls; pixels
SAMPLE_AROUND = 12  # characters of context either side of a token in the table of clusters


def render(view: View) -> None:
    mine = _of_target(view)
    if mine.empty:
        # Raises with the sentence that says how to make one.
        clustering_of(
            view.atlas, view.atlas.catalog.target(site=view.target, network=view.network.name), None, "codes"
        )
    numbers = [int(number) for number in mine["clustering_id"]]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        clustering = st.selectbox(
            "Clustering", numbers, index=len(numbers) - 1, key="clustering", bind="query-params", width=160
        )
        chosen = next(row for row in records(mine) if row["clustering_id"] == clustering)
        st.html(f'<div class="pa pa-beside">{_in_words(chosen)}</div>')
    _counts(chosen)
    found = view.ask(query.clusters, int(clustering))
    found = found.sort_values("size", ascending=False, kind="stable", ignore_index=True)
    if not found.attrs["current"]:
        st.html(marked.notes([f"Examples were added to {view.target} since: cluster again to include them."]))
    if found.empty:
        st.html(marked.notes(["This clustering found no cluster: every example is noise."]))
    cluster = _choose(found, int(clustering), int(chosen["n_noise"]))
    source(view, call("clusters", int(clustering)) + SORTED, _CLUSTERS_SQL.format(clustering))
    if cluster is not None:
        _cluster(view, int(clustering), cluster, found)


_CLUSTERS_SQL = """select label, name, size, persistence, purity, top_label, entropy, medoid
from clusters
where clustering_id = {}
order by size desc, label"""

SORTED = ".sort_values('size', ascending=False, kind='stable')"


def _of_target(view: View) -> pd.DataFrame:
    held = view.ask(query.clusterings)
    named = view.atlas.catalog.target(site=view.target, network=view.network.name).name
    return held[(held["network"] == view.network.name) & (held["target"] == named)]


def _in_words(chosen: dict[str, Any]) -> str:
    """How a clustering was made."""
    how = (
        f"{chosen['space']} of {chosen['target']}, {chosen['metric']} distance, clusters of "
        f"{chosen['min_cluster_size']} or more, {chosen['min_samples']} neighbours, {chosen['selection']}. "
        f"{chosen['algorithm']}."
    )
    return marked.plain(how[0].upper() + how[1:])


def _counts(chosen: dict[str, Any]) -> None:
    n_examples, n_noise = int(chosen["n_examples"]), int(chosen["n_noise"])
    shown = [
        ("Clusters", f"{int(chosen['n_clusters']):,}", None),
        ("Examples", f"{n_examples:,}", None),
        ("In no cluster (noise)", f"{n_noise / n_examples:.1%}", f"{n_noise:,} examples"),
        ("Purity", marked.number(chosen["purity"], 3),
         "Share of clustered, labelled examples that bear their cluster's commonest label"),
    ]  # fmt: skip
    for place, (name, value, hint) in zip(st.columns(len(shown)), shown, strict=True):
        place.metric(name, value, border=True, help=hint)


# --- choosing one ----------------------------------------------------------------------------------------------


def _choose(found: pd.DataFrame, clustering: int, n_noise: int) -> int | None:
    """The table, whose rows can be clicked on, and a list for the keyboard and the URL; they follow each other."""
    labels = [int(label) for label in found["label"]] + ([NOISE] if n_noise else [])
    if not labels:
        return None
    names = [cards.cluster_name(label) for label in labels]
    if st.session_state.get("cluster", names[0]) not in names:
        st.session_state["cluster"] = names[0]  # of another clustering, that had more
    table = f"clusters-{clustering}"
    place = st.container()
    cluster = labels[names.index(st.selectbox("Cluster", names, key="cluster", bind="query-params", width=160))]
    rows = [labels.index(cluster)] if cluster != NOISE else []
    st.session_state[table] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    with place:
        _table(found, table, names)
    return cluster


def _short(sample: str) -> str:
    """A sample, which marks its token «so», cut to what a cell of a table has room for."""
    squeezed = " ".join(sample.split())
    start, end = squeezed.find("«"), squeezed.rfind("»")
    return squeezed[max(0, start - SAMPLE_AROUND) : end + 1 + SAMPLE_AROUND] if 0 <= start < end else squeezed


def _table(found: pd.DataFrame, key: str, names: list[str]) -> None:
    def follow() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            st.session_state["cluster"] = names[rows[0]]

    shown = found.assign(samples=["   ".join(map(_short, strings)) for strings in found["samples"]])
    if shown["name"].isna().all():
        shown = shown.drop(columns="name")
    st.dataframe(
        shown, key=key, on_select=follow, selection_mode="single-row", hide_index=True,
        height="content" if len(shown) < TABLE_ROWS else TABLE_HEIGHT,
        column_order=["label", "name", "size", "purity", "top_label", "entropy", "persistence", "samples"],
        column_config={
            "label": st.column_config.NumberColumn("Cluster", width=70),
            "name": "Name",
            "size": st.column_config.NumberColumn("Size", format="localized", width=70),
            "purity": st.column_config.ProgressColumn(
                "Purity", format="%.2f", min_value=0, max_value=1, color="blue", width=120,
                help="Share of labelled members with the commonest label",
            ),
            "top_label": st.column_config.TextColumn("Commonest label", width=120),
            "entropy": st.column_config.NumberColumn(
                "Entropy", format="%.2f", width=70, help="Of the members' labels: 0 is pure, 1 is as mixed as can be"
            ),
            "persistence": st.column_config.NumberColumn(
                "Persistence", format="%.3f", width=90, help="HDBSCAN's stability of the cluster, 0 to 1"
            ),
            "samples": st.column_config.TextColumn("Strongest members", width="large"),
        },
    )  # fmt: skip


# --- one of them -----------------------------------------------------------------------------------------------


def _cluster(view: View, clustering: int, cluster: int, found: pd.DataFrame) -> None:
    counts = view.ask(label_counts, clustering, cluster)
    size = int(counts["n"].sum())
    title = "Noise" if cluster == NOISE else f"Cluster {cluster}"
    st.subheader(f"{title}: {size:,} members", anchor=False)
    per_page = PAGE_ROWS[view.network.kind]
    n_pages = -(-size // per_page)
    left, right = st.columns([1, 3], gap="medium")
    with left:
        st.plotly_chart(plots.labels(counts, f"Labels; n = {size:,}"), key="labels", config=PLAIN)
        if cluster != NOISE:
            medoid = next(row["medoid"] for row in records(found) if row["label"] == cluster)
            st.html(
                '<div class="pa"><span class="pa-muted">Medoid, the member nearest to all others:</span> '
                f"{marked.link('nearest', f'example {medoid}', example=medoid, **view.state)}</div>"
            )
    with right:
        page = st.pagination(n_pages, key=f"page-{clustering}-{cluster}") if n_pages > 1 else 1
        start = (page - 1) * per_page
        shown = view.ask(query.members, cluster, clustering, limit=per_page, offset=start)
        cards.examples(view, shown)
        st.html(marked.notes([f"{start + 1:,} to {start + len(shown):,} of {size:,}, strongest membership first."]))
        source(
            view,
            call("members", cluster, clustering, limit=per_page, offset=start or None),
            _members_sql(clustering, cluster, per_page, start),
        )


def _members_sql(clustering: int, cluster: int, limit: int, offset: int) -> str:
    return (
        "select example_id, probability, token, context, label, prediction\nfrom cluster_members\n"
        f"where clustering_id = {clustering} and cluster = {cluster}\n"
        f"order by probability desc, example_id\nlimit {limit} offset {offset}"
    )


def label_counts(atlas: Atlas, clustering: int, cluster: int) -> pd.DataFrame:
    """How many members of a cluster bear each label, commonest first: label, n."""
    parameters: list[Any] = [clustering, cluster]
    return atlas.frame(
        """
        select label, count(*) as n from cluster_members
        where clustering_id = $1 and cluster = $2
        group by label
        order by n desc, label nulls last
        """,
        parameters,
    )
