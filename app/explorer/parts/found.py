"""Stored examples that bear the words that were looked for: marked in their context, or as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

import query
from atlas import Atlas
from query.clustering.clusterings import latest_clustering
from query.examples.description import describe
from query.examples.search import LIMIT

from ...plain_text import counted, spaces_shown
from .. import address
from ..view import View, guarded, records
from . import box, cards, markup, show
from .code import call, heading, source
from .kinds import LOOKS
from .show import KEY, NUMBER, WIDE, Column

MOST = 500
"""Examples of each way of matching that a page shows."""

MOST_CLUSTERS = 12
"""Clusters of a token that are listed, those with most of it first."""

WAYS = {
    "token": "As a token",
    "text": "In a text",
    "label": "As a label",
    "prediction": "As a prediction",
    "key": "In a name",
}


def draw(view: View, words: str) -> None:
    """All that bears the words, and how to have them read as a text."""
    exact = st.query_params.get("exact") == "1"
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        limit = address.number("Rows of each kind, at most", 1, MOST, LIMIT, key="limit", width=200)
        if view.network.kind == "text":
            st.button("Read it as a text", icon=":material/play_arrow:", on_click=_read, args=(words,))
    given: dict[str, Any] = {"network": view.network.name, "exact": exact, "limit": limit}
    found = view.ask(query.find, words, **given)
    counts, tokens = found.attrs["counts"], found.attrs["tokens"]
    called = view.ask(box.clusters_called, words, view.network.name)
    several = [f"{WAYS[way].lower()} {n:,}" for way, n in counts.items() if n]
    several += [f"as the name of {counted(len(called), 'cluster')}"] if called else []
    title = markup.visible(spaces_shown(words))
    st.html(f'<div class="pa">“<b>{title}</b>”: {", ".join(several) or "nothing stored bears it"}.</div>')
    if called:
        links = [
            f"{cards.cluster_link(view, clustering, cluster, target)} at {markup.plain(target)}"
            for target, clustering, cluster in called[:MOST_CLUSTERS]
        ]
        st.html(f'<div class="pa">Clusters of that name: {" · ".join(links)}{_more(called)}</div>')
    if tokens:
        _tokens(view, words, tokens, exact)
    for way, n in counts.items():
        if n:
            heading(f"{WAYS[way]}: {n:,}")
            _rows(view, found[found["match"] == way], n)
            source(view, call(query.find, words, **given))


@guarded
def _read(words: str) -> None:
    box.go({"text": words})


def _tokens(view: View, words: str, tokens: dict[str, int], exact: bool) -> None:
    """The very tokens that match, a space and all, and the clusters that they lie in."""
    shown: list[tuple[str, dict[str, Any], int, bool]] = (
        [("all", {}, sum(tokens.values()), not exact)] if len(tokens) > 1 or exact else []
    )
    shown += [(spaces_shown(token), {"exact": 1, "find": token}, n, exact) for token, n in tokens.items()]
    pieces = []
    for said, state, n, here in shown:
        where = markup.address_of("look", **{"find": words.strip(" "), **state, **view.state})
        current = ' aria-current="true"' if here else ""
        pieces.append(f'<a href="{markup.plain(where)}" target="_self"{current}>{markup.visible(said)}</a> {n:,}')
    st.html(f'<div class="pa">Tokens: {" · ".join(pieces)}</div>')
    lies = view.ask(clusters_of_tokens, view.target, view.network.name, list(tokens))
    if lies is None:
        return
    clustering, rows = lies
    links = [f"{cards.cluster_link(view, clustering, cluster)} {n:,}" for cluster, n in rows[:MOST_CLUSTERS]]
    st.html(f'<div class="pa">Their clusters at {markup.plain(view.target)}: {" · ".join(links)}{_more(rows)}</div>')


def _more(clusters: Sequence[object]) -> str:
    """What follows the clusters that are listed."""
    hidden = len(clusters) - MOST_CLUSTERS
    return f" and {counted(hidden, 'more cluster')}" if hidden > 0 else ""


def clusters_of_tokens(
    atlas: Atlas, target: str, network: str, tokens: list[str]
) -> tuple[int, list[tuple[int, int]]] | None:
    """The newest clustering of codes of a site or span, and in which of its clusters how many examples bear the
    tokens, most first; None where it is not clustered."""
    record = latest_clustering(atlas, atlas.catalog.target(site=target, network=network), ("codes",))
    if record is None:
        return None
    rows = atlas.rows(
        """
        select cluster_labels.label, count(*) from cluster_labels join examples using (example_id)
        where clustering_id = $1 and token in (select unnest($2::varchar[]))
        group by 1 order by 2 desc, 1
        """,
        [record.clustering_id, tokens],
    )
    return record.clustering_id, rows


def _rows(view: View, rows: pd.DataFrame, n: int) -> None:
    if LOOKS[view.network.kind].pictured:
        cards.examples(view, view.ask(describe, view.network, rows["example_id"].tolist()))
    else:
        columns = [
            Column("Context", WIDE, _marked, "What was found among the characters around it"),
            Column("Label", KEY, lambda row: markup.words(row["label"]), "Label of the input in its data set"),
            Column("Example", NUMBER, partial(cards.example_link, view), "Follow it to see all about it"),
        ]
        show.table(records(rows.astype(object).where(rows.notna(), None)), columns)
    if n > len(rows):
        show.notes(f"The first {len(rows):,} of {n:,}, by id.")


def _marked(row: dict[str, Any]) -> str:
    if row["found_at"] is None:
        return f"<b>{markup.words(row['found'])}</b>"
    return markup.context(row["context"], row["found"], row["found_at"])
