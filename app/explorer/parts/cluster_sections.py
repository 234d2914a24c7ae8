"""The parts of a cluster's page, each drawn only when it is looked at."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import partial
from typing import Any

import streamlit as st

import query
from atlas import Atlas
from query.clustering.clusterings import NOISE, find_clustering
from query.clustering.clusters import member_counts, near_clusters
from query.clustering.distinctive import distinctive_gates
from query.clustering.flow import fate, member_flow
from query.examples.description import describe
from query.examples.ids import is_span

from ...plain_text import cluster_title, counted
from .. import address
from ..charts import cluster_charts
from ..view import View, records
from . import cards, figures, gallery, markup, pin, pins, show
from .code import call, source
from .kinds import LOOKS
from .show import CODE, KEY, NUMBER, WIDE, Column

MOST_COUNTED = 20  # labels or tokens in a chart
MOST_GATES = 30
NEAR = 12  # clusters listed
STEPS = 3  # sites that members are followed through

PURITY = "Share of labelled members with the commonest label"

Part = Callable[[View, int, int], None]
"""Draws a part of a cluster of a clustering."""


def parts(cluster: int, space: str) -> dict[str, Part]:
    """What there is to see, by title. The noise has no medoid, so no neighbours, and nothing in common."""
    shown: dict[str, Part] = {"Members": members, "Labels and tokens": counts}
    if cluster != NOISE:
        shown |= {"Gates": gates, "Near clusters": neighbours}
    return shown | {"Flow": flow, "Against activations" if space == "codes" else "Against codes": against}


# --- who is in it ----------------------------------------------------------------------------------------------


def members(view: View, clustering: int, cluster: int) -> None:
    """The members in their contexts or as pictures, a page at a time, the medoid first."""
    which: dict[str, Any] = {"clustering": clustering, "cluster": cluster}
    per_page = LOOKS[view.network.kind].page_rows
    size = int(view.ask(query.members, **which, limit=1).attrs["size"])
    beside = None if cluster == NOISE else partial(_medoid, view, clustering, cluster)
    gallery.show(view, gallery.Selection(query.members, which, size, "strongest membership first"), beside)
    source(
        view,
        call(query.members, clustering=clustering, cluster=cluster, limit=per_page),
        sql=_members_sql(clustering, cluster, per_page),
    )


def _medoid(view: View, clustering: int, cluster: int) -> None:
    medoid = view.ask(medoid_of, clustering, cluster)
    row = records(view.ask(describe, view.network, [medoid]))[0]
    where = markup.link("look", f"example {medoid}", example=medoid, **view.state)
    seen = cards.excerpt(view, row, 48, markup.CONTEXT_BEFORE, markup.CONTEXT_AFTER)
    st.html(
        '<div class="pa"><span class="pa-muted" title="The member nearest to all others">Medoid</span> '
        f"{seen} {where}</div>"
    )


def medoid_of(atlas: Atlas, clustering: int, cluster: int) -> int:
    """The member nearest to all members."""
    rows = "select medoid from clusters where clustering_id = $1 and label = $2"
    return int(atlas.value(rows, [clustering, cluster]))


def _members_sql(clustering: int, cluster: int, limit: int) -> str:
    return (
        "select example_id, probability, token, context, label, prediction\nfrom cluster_members\n"
        f"where clustering_id = {clustering} and cluster = {cluster}\n"
        f"order by probability desc, example_id\nlimit {limit}"
    )


# --- what they are ---------------------------------------------------------------------------------------------


def counts(view: View, clustering: int, cluster: int) -> None:
    """Bar charts: members by label, and by token or by what the network makes of them."""
    second = LOOKS[view.network.kind].counted
    for place, by in zip(st.columns(2, gap="medium"), ("label", second), strict=True):
        with place:
            found = view.ask(member_counts, clustering=clustering, cluster=cluster, by=by, limit=MOST_COUNTED)
            about = found.attrs
            of = f"; the {len(found)} commonest of {about['n_values']:,}" if about["n_values"] > len(found) else ""
            title = f"By {by}, n = {about['size']:,} of {about['n_examples']:,}{of}"
            figures.show(
                cluster_charts.counts(found, by, title),
                f"cluster-{cluster}-{by}s",
                key=f"by-{by}",
                data=found,
                alt=title,
            )
            source(
                view,
                call(member_counts, clustering=clustering, cluster=cluster, by=by, limit=MOST_COUNTED),
                sql=_counts_sql(clustering, by),
            )


def _counts_sql(clustering: int, by: str) -> str:
    return (
        f"select cluster, {by}, count(*) as n\nfrom cluster_members\nwhere clustering_id = {clustering}\n"
        "group by all\norder by cluster, n desc"
    )


# --- what tells them from the rest -----------------------------------------------------------------------------


def gates(view: View, clustering: int, cluster: int) -> None:
    """The gates that tell the cluster from all other examples, at one of the target's sites."""
    target = view.atlas.catalog.target(site=view.target, network=view.network.name)
    names = [site.name for site in target.sites]
    site = names[-1]
    if len(names) > 1:
        site = address.one_of("Gates of", names, key="site", first=site, width=240)
    found = view.work(
        "Counting gates", distinctive_gates, clustering=clustering, cluster=cluster, site=site, most=MOST_GATES
    )
    if found is None:
        return
    about = found.attrs
    told = records(found[found["distinctive"]])
    show.notes(
        f"{about['n_distinctive']:,} of {about['n_gates']:,} gates of {site} tell its {about['n_inside']:,} members "
        f"from {about['n_outside']:,} others, at a false discovery rate of 5 %, {about['n_sure']:,} of them with a "
        "bound of at most 5 % for as many tests as there are gates"
        + (f"; the {len(told)} clearest:" if told else ".")
    )
    if told:
        show.table(told, _gate_columns(view, site, several=found["module"].nunique() > 1))
    gates_of = call(distinctive_gates, clustering=clustering, cluster=cluster, site=site, most=MOST_GATES)
    source(view, f"{gates_of}.query('distinctive')")


def _gate_columns(view: View, site: str, several: bool) -> list[Column]:
    def gate(row: cards.Row) -> str:
        return cards.gate_link(view, site, row["gate"], str(row["gate"]))

    inside = "Share of the members that have it on"
    outside = "Share of all other clustered examples that have it on"
    odds = "Of being on, inside against outside (Haldane)"
    bound = "Of the chance that any gate of the site gets a p as small by accident (Holm)"
    q = "False discovery rate at which it is called distinctive (Fisher's exact test, Benjamini-Hochberg)"
    return [
        Column("Gate", NUMBER, gate, "Bit of the code at this site"),
        *([Column("Module", CODE, lambda row: markup.plain(row["module"]))] if several else []),
        Column("On inside", NUMBER, lambda row: f"{row['inside']:.0%}", inside),
        Column("On outside", NUMBER, lambda row: f"{row['outside']:.0%}", outside),
        Column("Log odds", NUMBER, lambda row: markup.number(float(row["log_odds"]), 3), odds),
        Column("q", NUMBER, lambda row: markup.number(float(row["q"]), 2), q),
        Column("Bound", NUMBER, lambda row: markup.number(float(row["holm"]), 2), bound),
    ]


# --- what lies near, and where they go -------------------------------------------------------------------------


def neighbours(view: View, clustering: int, cluster: int) -> None:
    """The clusters whose medoids are nearest."""
    found = view.ask(near_clusters, clustering=clustering, cluster=cluster, k=NEAR)
    if found.empty:
        show.notes("There is no other cluster.")
        return
    n_gates = found.attrs["n_gates"]
    unit = (
        "Euclidean distance of the medoids' activations" if n_gates is None else "Gates in which the medoids differ"
    )
    medoids = records(view.ask(describe, view.network, found["medoid"].tolist()))
    rows = [row | {"described": medoid} for row, medoid in zip(records(found), medoids, strict=True)]
    columns = [
        Column("Cluster", KEY, lambda row: _pinnable(view, clustering, row["cluster"])),
        Column("Gates apart", KEY, lambda row: _compared(view, clustering, cluster, row["cluster"])),
        Column("Distance", NUMBER, lambda row: _distance(row["distance"], n_gates), unit),
        Column("Size", NUMBER, lambda row: f"{row['size']:,}"),
        Column("Purity", NUMBER, lambda row: markup.number(row["purity"], 2), PURITY),
        Column("Commonest label", KEY, lambda row: markup.words(row["top_label"])),
        Column("Medoid", WIDE, lambda row: _small(view, row["described"]), "The member nearest to all others"),
    ]
    show.table(rows, columns)
    show.notes(f"{len(found)} of {found.attrs['n_clusters'] - 1:,} other clusters, by {unit.lower()}.")
    source(view, call(near_clusters, clustering=clustering, cluster=cluster, k=NEAR))


def _distance(distance: float, n_gates: int | None) -> str:
    if n_gates is None:
        return markup.number(float(distance))
    return f'{distance:,} <span class="pa-muted">{distance / n_gates:.1%}</span>'


def _pinnable(view: View, clustering: int, cluster: int) -> str:
    return cards.cluster_link(view, clustering, cluster) + pins.sign(pin.cluster(clustering, cluster))


def _compared(view: View, clustering: int, cluster: int, other: int) -> str:
    both = [pin.cluster(clustering, number).word for number in (cluster, other)]
    return markup.link("between", "compare with this", of=both, **view.state)


def _small(view: View, row: cards.Row) -> str:
    words = markup.link("look", str(row["example_id"]), example=row["example_id"], **view.state)
    return f"{cards.excerpt(view, row, 32, 40, 24)} {words}"


def flow(view: View, clustering: int, cluster: int) -> None:
    """Where the members lie at the next sites, or came from."""
    forward, back = (
        view.ask(member_flow, clustering=clustering, cluster=cluster, steps=STEPS, backwards=b) for b in (False, True)
    )
    ways = {name: frame for name, frame in (("Next sites", forward), ("Sites before", back)) if len(frame)}
    if not ways:
        show.notes("No other site of this network is clustered in the same space: `polytope cluster`.")
        return
    way = next(iter(ways))
    if len(ways) > 1:
        way = address.segment("Follow them to", list(ways), key="way", label_visibility="collapsed")
    elif way == "Sites before":
        show.notes(f"{view.target} is the last site: shown is where its members lie at the sites before.")
    found = ways[way]
    names = {
        (number, label): name
        for number in {*found["from_clustering"], *found["to_clustering"]}
        for label, name in cards.cluster_names(view, int(number)).items()
    }
    members_of = f"{counted(found.attrs['size'], 'member')} of {_called(view, clustering, cluster)}"
    title = f"{members_of}, by their cluster at {counted(found['step'].nunique(), 'other site')}"
    figures.show(
        cluster_charts.flow(found, names, title), f"cluster-{cluster}-flow", key="flow", data=found, alt=title
    )
    source(
        view, call(member_flow, clustering=clustering, cluster=cluster, steps=STEPS, backwards=way == "Sites before")
    )


def against(view: View, clustering: int, cluster: int) -> None:
    """The same examples in another clustering."""
    mine = view.ask(find_clustering, clustering)
    held = view.ask(query.clusterings)
    held = held[(held["network"] == view.network.name) & (held["clustering_id"] != clustering)]
    other_space = "activations" if mine.space == "codes" else "codes"
    best = held[(held["target"] == mine.target.name) & (held["space"] == other_space)]
    if best.empty:
        option = "--span" if is_span(mine.target) else "--site"
        how = (
            f"polytope cluster {shlex.quote(view.atlas.address)} {option} {shlex.quote(mine.target.name)} "
            f"--network {shlex.quote(view.network.name)} --space {other_space}"
        )
        reason = "a span has no activations of its own" if is_span(mine.target) else f"`{how}` makes one"
        show.notes(f"No clustering of the {other_space} of {mine.target.name}: {reason}.")
    if held.empty:
        return
    numbers = [int(number) for number in held["clustering_id"]]
    words = {int(r["clustering_id"]): f"{r['clustering_id']}: {r['space']} of {r['target']}" for r in records(held)}
    offered = [words[number] for number in numbers]
    chosen = address.one_of(
        "Against clustering",
        offered,
        key="other",
        width=340,
        placeholder="choose another",
        first=words[int(best["clustering_id"].iloc[-1])] if len(best) else None,
        also={str(number): words[number] for number in numbers},
    )
    if chosen is not None:
        _fate(view, clustering, cluster, int(chosen.split(":")[0]))


def _fate(view: View, clustering: int, cluster: int, other: int) -> None:
    found = view.ask(fate, clustering=clustering, cluster=cluster, other=other)
    if found.empty:
        show.notes("None of its members is in that clustering.")
        return
    about, shown = found.attrs, found.head(MOST_COUNTED)
    whose = f"{about['n_both']:,} of {about['size']:,} members of {_called(view, clustering, cluster)}"
    title = f"{whose}, by their cluster in clustering {other}"
    left, right = st.columns([3, 2], gap="medium")
    with left:
        figures.show(
            cluster_charts.fates(shown, cards.cluster_names(view, other), title),
            f"cluster-{cluster}-fate",
            key="fate",
            data=found,
            alt=title,
        )
    with right:
        target = str(view.ask(find_clustering, other).target.name)
        overlap = "Members of both over members of either: 1 where they are the same"

        def link(row: cards.Row) -> str:
            return cards.cluster_link(view, other, row["cluster"], target)

        columns = [
            Column("Cluster", KEY, link),
            Column("Share", NUMBER, lambda row: f"{row['share']:.0%}", "Of the members"),
            Column("Size", NUMBER, lambda row: f"{row['size']:,}"),
            Column("Overlap", NUMBER, lambda row: markup.number(row["overlap"], 2), overlap),
        ]
        show.table(records(shown), columns)
    if len(found) > len(shown):
        show.notes(f"The first {len(shown)} of {len(found):,}.")
    source(view, call(fate, clustering=clustering, cluster=cluster, other=other))


def _called(view: View, clustering: int, cluster: int) -> str:
    if cluster == NOISE:
        return "the noise"
    return cluster_title(cluster, cards.cluster_names(view, clustering).get(cluster))
