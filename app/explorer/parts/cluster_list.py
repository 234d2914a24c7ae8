"""The clusters of a clustering as a list, one of which can be found by its name and chosen."""

from __future__ import annotations

import re

import pandas as pd
import streamlit as st

import query
from atlas.errors import NotStored, UsageError
from query.clustering.clusterings import NOISE
from query.clustering.names import borne_name
from query.experiments.intruders import intruder_scores

from ...plain_text import cluster_title, counted, spaces_shown
from .. import address, jobs
from ..view import View, guarded, records
from . import cards, markup, naming, pins, show
from .code import call, source
from .pin import Pin

PAGE_ROWS = 100  # clusters that are sent at once; a clustering may have thousands
TABLE_ROWS, TABLE_HEIGHT = 10, 380  # from so many rows on the table scrolls; pixels
SAMPLE_AROUND = 12  # characters of context either side of a token in the table of clusters
BESIDE = 8  # members that are shown of the chosen one

OF = "cluster-of"
"""In the session: the clustering whose cluster was chosen."""

CLUSTERS_SQL = """select label, name, note, size, persistence, purity, top_label, entropy, medoid
from named_clusters
where clustering_id = {}
order by size desc, label"""

SORTED = ".sort_values('size', ascending=False, kind='stable', ignore_index=True)"


# --- which clustering, and which cluster -----------------------------------------------------------------------


def of_target(view: View) -> pd.DataFrame:
    """The clusterings of the site or span that the sidebar names, oldest first."""
    held = view.ask(query.clusterings)
    named = view.atlas.catalog.target(site=view.target, network=view.network.name).name
    return held[(held["network"] == view.network.name) & (held["target"] == named)]


def choose(mine: pd.DataFrame) -> int:
    """One of the clusterings, at first the newest of codes; of activations where there is none."""
    spaces = dict(zip(mine["clustering_id"].tolist(), mine["space"], strict=True))
    counts = dict(zip(mine["clustering_id"].tolist(), mine["n_clusters"], strict=True))
    titles = {number: f"{number}: {counted(counts[number], 'cluster')} of {spaces[number]}" for number in spaces}
    codes = [number for number in spaces if spaces[number] == "codes"]
    chosen = address.one_of(
        "Clustering",
        list(titles.values()),
        key="clustering",
        first=titles[(codes or list(spaces))[-1]],
        width=200,
        bound=False,
        also={str(number): title for number, title in titles.items()},
    )
    return next(number for number, title in titles.items() if title == chosen)


def found(view: View, clustering: int) -> pd.DataFrame:
    """The clusters of a clustering, the largest first, each with its ``title``; ``attrs`` has n_noise as well."""
    clusters = view.ask(query.clusters, clustering=clustering)
    clusters = clusters.sort_values("size", ascending=False, kind="stable", ignore_index=True)
    names = cards.cluster_names(view, clustering)
    held = view.ask(query.clusterings).set_index("clustering_id")
    clusters.attrs["n_noise"] = int(held["n_noise"].loc[clustering])
    clusters.insert(1, "title", [cluster_title(label, names.get(label)) for label in clusters["label"].tolist()])
    return clusters


def find(
    view: View,
    clusters: pd.DataFrame,
    clustering: int,
    placeholder: str,
    first: str | None = None,
) -> int | None:
    """A list to find a cluster in by its name, for the keyboard and the address; −1 is the noise."""
    titles = dict(zip(clusters["title"], clusters["label"].tolist(), strict=True))
    if clusters.attrs["n_noise"]:
        titles[cards.cluster_name(NOISE)] = NOISE
    if not titles:
        show.notes("This clustering found no cluster: every example is noise.")
        return None
    held = re.search(r"#(\d+)$", str(st.session_state.get("cluster")))
    if held and st.session_state.get(OF) == clustering and st.session_state["cluster"] not in titles:
        renamed = (title for title, label in titles.items() if label == int(held[1]))
        st.session_state["cluster"] = next(renamed, None)  # somebody has named it meanwhile
    st.session_state[OF] = clustering
    chosen = address.one_of(
        "Cluster",
        list(titles),
        key="cluster",
        first=first,
        width="stretch",
        placeholder=placeholder,
        on_change=_chosen,
        bound=False,
        also={cards.cluster_name(label): title for title, label in titles.items()},
        expected=f"the number of a cluster of clustering {clustering}, or noise",
    )
    return None if chosen is None else titles[chosen]


@guarded
def _chosen() -> None:
    address.step("cluster", in_address(st.session_state["cluster"]))


def choose_titled(title: str | None) -> None:
    """In a callback: choose the cluster of a title in place of a region, or none."""
    st.session_state["cluster"] = title
    st.session_state["within"] = ""
    address.step("cluster", in_address(title))


def in_address(title: str | None) -> str:
    """What an address calls the cluster of a title."""
    number = re.search(r"#(\d+)$", title or "")
    return number[1] if number else title or ""


def beside(view: View, clusters: pd.DataFrame, clustering: int, cluster: int | None) -> None:
    """The list beside the map: a click chooses, and what is chosen is shown in brief."""
    if clusters.empty:
        return
    labels = clusters["label"].tolist()
    place = labels.index(cluster) if cluster in labels else 0
    held = st.container()
    if cluster is not None:
        _in_brief(view, clusters, clustering, cluster)
    scores = None
    if address.switch("Intruder tests", key="intruders", help="How often an outsider stands out among the members"):
        scores = _intruders(view, clustering)
    with held:
        shown = clusters if scores is None else clusters.merge(scores, on="label", how="left")
        rows = _paged(len(clusters), place, (clustering, place))
        _table(shown.iloc[rows], cluster, f"clusters-{clustering}-{rows.start}")
    about(view, clustering, clusters)
    said = call(query.clusters, clustering=clustering) + SORTED
    if scores is not None:
        said += f".merge({call(intruder_scores, clustering=clustering)}, on='label', how='left')"
    source(view, said, sql=CLUSTERS_SQL.format(clustering))


def _in_brief(view: View, clusters: pd.DataFrame, clustering: int, cluster: int) -> None:
    """The chosen cluster: its name as a link to its page, how many it has, its strongest members, and what people
    call it."""
    size = clusters.attrs["n_noise"] if cluster == NOISE else int(clusters.set_index("label")["size"].loc[cluster])
    members = view.ask(query.members, clustering=clustering, cluster=cluster, limit=BESIDE)
    pin = pins.sign(Pin("cluster", f"{clustering}:{cluster}"))
    st.html(
        f'<div class="pa pa-brief"><b>{cards.cluster_link(view, clustering, cluster)}</b> '
        f'<span class="pa-muted">{counted(size, "member")}</span> {pin}{cards.strip(view, records(members))}</div>'
    )
    pins.compare(Pin("cluster", f"{clustering}:{cluster}"), pins.comparable(view))
    if cluster != NOISE:
        naming.draw(view, view.ask(borne_name, clustering=clustering, cluster=cluster))


def about(view: View, clustering: int, clusters: pd.DataFrame) -> None:
    """How a clustering was made, and what is to be known of it."""
    chosen = next(row for row in records(view.ask(query.clusterings)) if row["clustering_id"] == clustering)
    n_examples, n_noise = int(chosen["n_examples"]), int(chosen["n_noise"])
    purity = "" if pd.isna(chosen["purity"]) else f", purity {markup.number(chosen['purity'], 3)}"
    show.notes(
        f"{counted(len(clusters), 'cluster')} of {n_examples:,} examples, {n_noise / n_examples:.1%} of them in none "
        f"(noise){purity}. By {chosen['metric']} distance of {chosen['space']}, {chosen['min_cluster_size']} members "
        f"or more, {chosen['min_samples']} neighbours, {chosen['selection']}. {chosen['algorithm']}.",
        clusters.attrs["note"],
        None
        if clusters.attrs["current"]
        else f"Examples were added to {view.target} since: cluster again to include them.",
    )


# --- the list --------------------------------------------------------------------------------------------------


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


COLUMNS = ["title", "size", "purity", "top_label", "samples", "intruder", "entropy", "persistence"]


def _table(found: pd.DataFrame, cluster: int | None, key: str) -> None:
    """Clusters, and no column of them that is not shown; the one that is chosen is marked, and a click chooses."""

    @guarded
    def follow() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        choose_titled(titles[rows[0]] if rows else None)

    labels, titles = found["label"].tolist(), found["title"].tolist()
    rows = [labels.index(cluster)] if cluster in labels else []
    st.session_state[key] = {"selection": {"rows": rows, "columns": [], "cells": []}}
    shown = found.assign(samples=["   ".join(map(_short, strings)) for strings in found["samples"]])
    st.dataframe(
        shown[[name for name in COLUMNS if name in shown and not shown[name].isna().all()]],
        key=key,
        on_select=follow,
        selection_mode="single-row",
        hide_index=True,
        placeholder="–",
        height="content" if len(shown) < TABLE_ROWS else TABLE_HEIGHT,
        column_config={
            "title": st.column_config.TextColumn(
                "Cluster",
                width=125,
                help="Its name: a person's, or made of what tells it from the rest. And its number",
            ),
            "size": st.column_config.NumberColumn("Size", format="localized", width=60),
            "purity": st.column_config.ProgressColumn(
                "Purity",
                format="%.2f",
                min_value=0,
                max_value=1,
                color="blue",
                width=80,
                help="Share of labelled members with the commonest label",
            ),
            "top_label": st.column_config.TextColumn("Commonest label", width=110),
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
