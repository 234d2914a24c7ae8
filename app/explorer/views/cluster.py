"""A cluster: its name and its members first, then what tells it from the rest, its neighbours, and where it goes."""

from __future__ import annotations

import streamlit as st

import query
from query.clustering.clusterings import NOISE, clustering_of
from query.clustering.names import borne_name

from ...plain_text import cluster_title, counted
from .. import address
from ..parts import cards, cluster_list, cluster_sections, markup, naming, pin, pins, saving
from ..parts.code import heading
from ..view import View, explained


def render(view: View) -> None:
    mine = cluster_list.of_target(view)
    if mine.empty:
        # Raises with the sentence that says how to make one.
        clustering_of(
            view.atlas, view.atlas.catalog.target(site=view.target, network=view.network.name), None, "codes"
        )
    named, written = st.container(), st.container()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        clustering = cluster_list.choose(mine)
        found = cluster_list.found(view, clustering)
        first = found["title"].iloc[0] if len(found) else cards.cluster_name(NOISE)
        with st.container(width=220):
            cluster = cluster_list.find(view, found, clustering, "find one by its name", first)
        if cluster is None:
            return
        pins.button(pin.cluster(clustering, cluster), pins.comparable(view))
        saving.draw(view)
        state = {"clustering": clustering, "cluster": cards.cluster_name(cluster)}
        st.html(f'<div class="pa pa-beside">{markup.link("atlas", "On the map", **state, **view.state)}</div>')
    with named:
        size = view.ask(query.member_counts, clustering=clustering, cluster=cluster).attrs["size"]
        called = cards.cluster_names(view, clustering).get(cluster)
        title = "Noise" if cluster == NOISE else markup.markdown(cluster_title(cluster, called))
        heading(f"{title}: {counted(size, 'member')}")
    if cluster != NOISE:
        with written:
            naming.draw(view, view.ask(borne_name, clustering=clustering, cluster=cluster))
    space = str(mine.loc[mine["clustering_id"] == clustering, "space"].iloc[0])
    parts = cluster_sections.parts(cluster, space)
    tabs = address.tabs(list(parts), key="part")
    for tab, draw in zip(tabs, parts.values(), strict=True):
        if tab.open:
            with tab, explained():
                draw(view, clustering, cluster)
    cluster_list.about(view, clustering, found)
