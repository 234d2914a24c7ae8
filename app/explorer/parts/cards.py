"""Examples as people read them: tokens in their context in a table, images in a grid, and one of either by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from atlas import Atlas
from query.clustering.clusterings import NOISE

from ...plain_text import one_line
from ..view import View, records
from . import markup

Row = dict[str, Any]

NAME_SHOWN = 28
"""Characters of a cluster's name in a cell."""


class Column(NamedTuple):
    """How a column of a table of examples is headed and written; ``cell`` gives HTML."""

    title: str
    hint: str
    css: str
    cell: Callable[[View, Row, int | None], str]


def examples(view: View, frame: pd.DataFrame, clustering: int | None = None) -> None:
    """Rows of `query.nearest` or `query.members`: a table of tokens, or a grid of images."""
    rows = records(frame)
    if clustering is not None and "cluster" in frame:
        names = cluster_names(view, clustering)
        for row in rows:
            row["cluster_name"] = None if pd.isna(row["cluster"]) else names.get(row["cluster"])
    if view.network.kind == "image":
        st.html(markup.grid(_figure(view, row, clustering) for row in rows))
        return
    shown = [column for name, column in _COLUMNS.items() if name in frame]
    heads = [(column.title, column.hint, column.css) for column in shown]
    st.html(markup.table(heads, [[column.cell(view, row, clustering) for column in shown] for row in rows]))


def card(view: View, row: Row) -> None:
    """One stored example, with what the network made of it."""
    listed = facts(view, row)
    if view.network.kind == "image":
        caption = "".join(f"<div>{name} {value}</div>" for name, value in listed)
        st.html(f'<div class="pa">{markup.figure(row["thumbnail"], caption, str(row["key"]), "pa-one")}</div>')
    else:
        shown = markup.passage(row["context"], row["token"], row["context_offset"])
        st.html(f'<div class="pa">{shown}{markup.facts(listed)}</div>')


def facts(view: View, row: Row) -> list[tuple[str, str]]:
    """What the network made of an example: names, and values as HTML."""
    return [
        ("example", _id(view, row, None)),
        ("label", markup.words(row["label"])),
        ("prediction", _prediction(view, row, None)),
        ("loss", f"{markup.number(row['loss'], 3)} nats"),
    ]


# --- clusters --------------------------------------------------------------------------------------------------


def cluster_name(label: int) -> str:
    """What a cluster is called in lists and URLs."""
    return "noise" if label == NOISE else str(label)


def cluster_names(view: View, clustering: int) -> dict[int, str]:
    """The names that people gave to clusters, by number; those without are left out."""
    return view.ask(_names, int(clustering))


def _names(atlas: Atlas, clustering: int) -> dict[int, str]:
    rows = "select label, name from named_clusters where clustering_id = $1 and name is not null"
    return dict(atlas.rows(rows, [clustering]))


def cluster_link(view: View, clustering: int, cluster: int, name: str | None, target: str | None = None) -> str:
    """A link to a cluster, called by its number and its name; of another site or span with ``target``."""
    number = cluster_name(cluster)
    state = {**view.state, "target": target or view.target}
    words = number if name is None or pd.isna(name) else f"{number} · {one_line(name, NAME_SHOWN)}"
    return markup.link("clusters", words, clustering=clustering, cluster=number, **state)


# --- cells -----------------------------------------------------------------------------------------------------


def _id(view: View, row: Row, clustering: int | None) -> str:
    return markup.link("example", str(row["example_id"]), example=row["example_id"], **view.state)


def _distance(view: View, row: Row, clustering: int | None) -> str:
    return f"{row['distance']:,}"


def _cluster(view: View, row: Row, clustering: int | None) -> str:
    if clustering is None or pd.isna(row["cluster"]):
        return "–"
    return cluster_link(view, clustering, row["cluster"], row.get("cluster_name"))


def _prediction(view: View, row: Row, clustering: int | None) -> str:
    return f'<span class="pa-mono">{markup.words(row["prediction"])}</span>'


def _gates(view: View, row: Row, clustering: int | None) -> str:
    """The first gates in which an example differs: + where it has the gate on, − where off; units are links."""
    several = len({site for site, _, _ in row["gates"]}) > 1 or "span" in view.named
    shown, last = [], None
    for site, gate, on in row["gates"]:
        words = f"{'+' if on else '−'}{gate}"
        if several and site != last:
            shown.append(f'<span class="pa-muted">{markup.plain(site)}</span>')
            last = site
        shown.append(gate_link(view, site, gate, words))
    more = " …" if row["distance"] > len(row["gates"]) else ""
    return f'<span class="pa-mono">{" ".join(shown) or "none"}{more}</span>'


def gate_link(view: View, site: str, gate: int, words: str) -> str:
    """A gate, as a link to its unit where the gates of the site are its units: a block of several convolutions has
    gates that are none, and a code of all positions has a gate for each of them."""
    found = next(one for one in view.atlas.catalog.sites_of(view.network) if one.name == site)
    if found.scope != "position" or found.n_gates != found.n_units:
        return markup.plain(words)
    return markup.link("neurons", words, unit=gate, **{**view.state, "target": site})


def excerpt(view: View, row: Row, height: int, before: int, after: int) -> str:
    """An example inside a line or cell: its token among so many characters, or its picture."""
    if view.network.kind == "image":
        return markup.thumb(row["thumbnail"], height, str(row["key"]))
    return markup.context(row["context"], row["token"], row["context_offset"], before, after)


def without_unknown_density(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `query.nearest` without the column of densities where none is known."""
    return frame if frame["density"].notna().any() else frame.drop(columns="density")


def _number(name: str, digits: int = 3) -> Callable[[View, Row, int | None], str]:
    return lambda view, row, clustering: markup.number(row[name], digits)


def _words(name: str) -> Callable[[View, Row, int | None], str]:
    return lambda view, row, clustering: markup.words(row[name])


def _context(view: View, row: Row, clustering: int | None) -> str:
    return markup.context(row["context"], row["token"], row["context_offset"])


DIFFERING = "The first gates in which the codes differ, by number: + is on in this example, − is off"

_COLUMNS = {
    "rank": Column("#", "Order by distance, then by example id", "pa-number", _number("rank")),
    "distance": Column("Distance", "Gates in which the two codes differ (Hamming)", "pa-number", _distance),
    "activation": Column("Activation", "Of the unit, after the nonlinearity", "pa-number", _number("activation")),
    "density": Column("Density", "Boundaries per unit distance", "pa-number", _number("density", 4)),
    "probability": Column("Strength", "Strength of membership, 0 to 1", "pa-number", _number("probability", 2)),
    "context": Column("Context", "The token among the characters around it", "pa-wide", _context),
    "label": Column("Label", "Label of the input in its data set", "pa-key", _words("label")),
    "cluster": Column("Cluster", "Cluster that the example lies in", "pa-key", _cluster),
    "prediction": Column("Prediction", "Most probable next token", "pa-key", _prediction),
    "loss": Column("Loss", "Negative log-likelihood of the true next token, nats", "pa-number", _number("loss")),
    "gates": Column("Gates that differ", DIFFERING, "pa-gates", _gates),
    "example_id": Column("Example", "Its id; follow it to see all about it", "pa-number", _id),
}
"""Columns of a table of tokens, in order; those that a frame has are shown."""


def _figure(view: View, row: Row, clustering: int | None) -> str:
    lines = []
    if "distance" in row:
        lines.append(f"<b>{row['distance']:,} gate{'' if row['distance'] == 1 else 's'}</b>")
        if pd.notna(row.get("density")):
            lines.append(f"density {markup.number(row['density'])}")
    if "activation" in row:
        lines.append(f"<b>{markup.number(row['activation'])}</b>")
    if "probability" in row:
        lines.append(f"strength {markup.number(row['probability'], 2)}")
    lines.append(f"label {markup.words(row['label'])}, read as {markup.words(row['prediction'])}")
    if "cluster" in row:
        lines.append(f"cluster {_cluster(view, row, clustering)}")
    if "gates" in row:
        lines.append(f'<span title="{markup.plain(DIFFERING)}">gates {_gates(view, row, clustering)}</span>')
    lines.append(f"example {_id(view, row, clustering)}")
    caption = "".join(f"<div>{line}</div>" for line in lines)
    return markup.figure(row["thumbnail"], caption, str(row["key"]))
