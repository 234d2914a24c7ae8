"""Overview: what an atlas holds."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import query
from app import marked, plots
from app.view import View, call, source

DIGEST_SHOWN = 12  # hexadecimal digits: 48 bits tell any two weights apart


def render(view: View) -> None:
    held = view.ask(query.info)
    networks, sites, clusterings = held["networks"], held["sites"], held["clusterings"]
    stored = sites[sites["n_codes"] > 0]
    counts = [
        ("Networks", len(networks)),
        ("Examples", int(networks["n_examples"].sum())),
        ("Sites with codes", len(stored)),
        ("Codes", int(stored["n_codes"].sum())),
        ("Clusterings", len(clusterings)),
    ]
    for place, (name, count) in zip(st.columns(len(counts)), counts, strict=True):
        place.metric(name, f"{count:,}", border=True)

    st.subheader(f"Sites of {marked.markdown(view.network.name)}", anchor=False)
    _strip(view, sites, clusterings)

    st.subheader("Networks", anchor=False)
    _networks(networks)
    st.subheader("Datasets", anchor=False)
    st.dataframe(
        held["datasets"], hide_index=True, height="content",
        column_config={
            "name": "Dataset", "kind": "Kind", "source": "Source",
            "n_inputs": st.column_config.NumberColumn("Inputs", format="localized", help="Duplicates counted"),
            "n_labels": st.column_config.NumberColumn("Labels"),
            "n_unlabelled": st.column_config.NumberColumn("Without label", format="localized"),
        },
    )  # fmt: skip
    st.subheader("Clusterings", anchor=False)
    _clusterings(clusterings)
    st.subheader("Runs", anchor=False)
    st.dataframe(
        held["runs"], hide_index=True, height="content",
        column_config={
            "run": "Run", "network": "Network", "dataset": "Dataset",
            "n_examples": st.column_config.NumberColumn("Examples", format="localized"),
            "n_bad": st.column_config.NumberColumn("Inputs skipped"),
            "started_at": st.column_config.DatetimeColumn("Started (UTC)", format="YYYY-MM-DD HH:mm"),
            "published_at": st.column_config.DatetimeColumn("Published (UTC)", format="YYYY-MM-DD HH:mm"),
        },
    )  # fmt: skip
    source(view, call("info"), _SITES_SQL)


_SITES_SQL = """select networks.name as network, sites.name as site, scope, n_units, n_gates, nonlinearity, n_codes
from sites join networks using (network_id)
where n_codes > 0
order by network_id, scope desc, ordinal"""


SCOPES = {"position": "Codes of one position", "full": "Codes of all positions"}

LEAST_SHARE = 0.4
"""Of the width of the longer of two charts: narrower, a chart of two sites could not hold its title."""


def _strip(view: View, sites: pd.DataFrame, clusterings: pd.DataFrame) -> None:
    """A bar chart for each scope, and what is not in it, counted."""
    mine = sites[sites["network"] == view.network.name]
    clustered = newest(clusterings[clusterings["network"] == view.network.name])
    mine = mine.merge(clustered, how="left", left_on="site", right_on="target")
    shown = {scope: mine[(mine["scope"] == scope) & (mine["n_codes"] > 0)] for scope in SCOPES}
    shown = {scope: frame for scope, frame in shown.items() if len(frame)}
    widest = max(map(len, shown.values()))
    places = st.columns([max(len(frame) / widest, LEAST_SHARE) for frame in shown.values()], gap="medium")
    for place, (scope, frame) in zip(places, shown.items(), strict=True):
        n = sorted(set(frame["n_codes"]))
        many = f"n = {n[0]:,}" if len(n) == 1 else f"n = {n[0]:,} to {n[-1]:,}"
        place.plotly_chart(plots.sites(frame, f"{SCOPES[scope]}, {many}"), key=f"sites-{scope}", config=PLAIN)
    left_out = mine[mine["n_codes"] == 0]["scope"].value_counts()
    st.html(
        marked.notes(
            f"{count} {scope} site{'s' if count > 1 else ''} of {view.network.name} hold no codes and are not shown"
            for scope, count in left_out.items()
        )
    )


PLAIN = {"displayModeBar": False}
"""Plotly without its toolbar: it covers the first line of a chart, and holds nothing that these charts need."""


def newest(clusterings: pd.DataFrame) -> pd.DataFrame:
    """Of every target its newest clustering of codes: target, n_clusters, purity."""
    codes = clusterings[clusterings["space"] == "codes"].sort_values("clustering_id")
    return codes.drop_duplicates("target", keep="last")[["target", "n_clusters", "purity"]]


def _networks(networks: pd.DataFrame) -> None:
    heads = [
        ("Name", "", "pa-key"), ("Architecture", "", "pa-key"), ("Reads", "", "pa-key"), ("Source", "", "pa-key"),
        ("Examples", "Tokens or images that it read", "pa-number"),
        ("Weights digest", "SHA-256 over all parameters and buffers", "pa-key"),
    ]  # fmt: skip
    rows = [
        [
            f"<b>{marked.plain(row['name'])}</b>", marked.plain(row["architecture"]), f"{marked.plain(row['kind'])}s",
            f"{marked.plain(row['source'])}, weights {marked.plain(row['weights'])}", f"{row['n_examples']:,}",
            f'<code title="{marked.plain(row["weights_digest"])}">'
            f"{marked.plain(row['weights_digest'][:DIGEST_SHOWN])}…</code>",
        ]
        for row in networks.to_dict("records")
    ]  # fmt: skip
    st.html(marked.table(heads, rows))


def _clusterings(clusterings: pd.DataFrame) -> None:
    shown = clusterings.assign(noise=clusterings["n_noise"] / clusterings["n_examples"])
    st.dataframe(
        shown, hide_index=True, height="content" if len(shown) <= 12 else 420,
        column_order=["clustering_id", "network", "target", "space", "metric", "n_clusters", "purity", "noise",
                      "n_examples", "min_cluster_size", "current"],
        column_config={
            "clustering_id": st.column_config.NumberColumn("Id", width=50), "network": "Network",
            "target": "Site or span", "space": "Space", "metric": "Metric",
            "n_clusters": st.column_config.NumberColumn("Clusters", format="localized"),
            "purity": st.column_config.ProgressColumn(
                "Purity", format="%.2f", min_value=0, max_value=1, color="blue",
                help="Share of clustered, labelled examples that bear their cluster's commonest label",
            ),
            "noise": st.column_config.NumberColumn(
                "Noise", format="percent", width=80,
                help="Share of examples in no cluster",
            ),
            "n_examples": st.column_config.NumberColumn("Examples", format="localized"),
            "min_cluster_size": st.column_config.NumberColumn("Least size", width=80),
            "current": st.column_config.CheckboxColumn(
                "Current", width=70, help="Nothing was added to the target since"
            ),
        },
    )  # fmt: skip
