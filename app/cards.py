"""Examples as people read them: tokens in their context in a table, images in a grid, and one of either by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pandas as pd
import streamlit as st

from app import marked
from app.view import View, records
from query.clusters import NOISE

Row = dict[str, Any]


class Column(NamedTuple):
    """How a column of a table of examples is headed and written; ``cell`` gives HTML."""

    title: str
    hint: str
    css: str
    cell: Callable[[View, Row, int | None], str]


def examples(view: View, frame: pd.DataFrame, clustering: int | None = None) -> None:
    """Rows of `query.nearest` or `query.members`: a table of tokens, or a grid of images."""
    rows = records(frame)
    if view.network.kind == "image":
        st.html(marked.grid(_figure(view, row, clustering) for row in rows))
        return
    shown = [column for name, column in _COLUMNS.items() if name in frame]
    heads = [(column.title, column.hint, column.css) for column in shown]
    st.html(marked.table(heads, [[column.cell(view, row, clustering) for column in shown] for row in rows]))


def one(view: View, row: Row) -> None:
    """One stored example, with what the network made of it."""
    facts = [
        ("example", marked.link("nearest", str(row["example_id"]), example=row["example_id"], **view.state)),
        ("label", marked.words(row["label"])),
        ("prediction", _prediction(view, row, None)),
        ("loss", f"{marked.number(row['loss'], 3)} nats"),
    ]
    if view.network.kind == "image":
        caption = "".join(f"<div>{name} {value}</div>" for name, value in facts)
        st.html(f'<div class="pa">{marked.figure(row["thumbnail"], caption, str(row["key"]), "")}</div>')
    else:
        shown = marked.passage(row["context"], row["token"], row["context_offset"])
        st.html(f'<div class="pa">{shown}{marked.facts(facts)}</div>')


def cluster_name(label: int) -> str:
    """What a cluster is called in lists and URLs."""
    return "noise" if label == NOISE else str(label)


# --- cells -----------------------------------------------------------------------------------------------------


def _id(view: View, row: Row, clustering: int | None) -> str:
    return marked.link("nearest", str(row["example_id"]), example=row["example_id"], **view.state)


def _distance(view: View, row: Row, clustering: int | None) -> str:
    return f"{row['distance']:,}"


def _cluster(view: View, row: Row, clustering: int | None) -> str:
    if clustering is None or pd.isna(row["cluster"]):
        return "–"
    name = cluster_name(row["cluster"])
    return marked.link("clusters", name, clustering=clustering, cluster=name, **view.state)


def _prediction(view: View, row: Row, clustering: int | None) -> str:
    return f'<span class="pa-mono">{marked.words(row["prediction"])}</span>'


def _number(name: str, digits: int = 3) -> Callable[[View, Row, int | None], str]:
    return lambda view, row, clustering: marked.number(row[name], digits)


def _words(name: str) -> Callable[[View, Row, int | None], str]:
    return lambda view, row, clustering: marked.words(row[name])


def _context(view: View, row: Row, clustering: int | None) -> str:
    return marked.context(row["context"], row["token"], row["context_offset"])


_COLUMNS = {
    "rank": Column("#", "Order by distance, then by example id", "pa-number", _number("rank")),
    "distance": Column("Distance", "Gates in which the two codes differ (Hamming)", "pa-number", _distance),
    "density": Column("Density", "Boundaries per unit distance", "pa-number", _number("density", 4)),
    "probability": Column("Strength", "Strength of membership, 0 to 1", "pa-number", _number("probability", 2)),
    "context": Column("Context", "The token among the characters around it", "pa-wide", _context),
    "label": Column("Label", "Label of the input in its data set", "pa-key", _words("label")),
    "cluster": Column("Cluster", "Cluster that the example lies in", "pa-key", _cluster),
    "prediction": Column("Prediction", "Most probable next token", "pa-key", _prediction),
    "loss": Column("Loss", "Negative log-likelihood of the true next token, nats", "pa-number", _number("loss")),
    "example_id": Column("Example", "Its id; follow it to ask for its own neighbours", "pa-number", _id),
}
"""Columns of a table of tokens, in order; those that a frame has are shown."""


def _figure(view: View, row: Row, clustering: int | None) -> str:
    lines = []
    if "distance" in row:
        lines.append(f"<b>{row['distance']:,} gates</b>")
        if pd.notna(row.get("density")):
            lines.append(f"density {marked.number(row['density'])}")
    if "probability" in row:
        lines.append(f"strength {marked.number(row['probability'], 2)}")
    lines.append(f"label {marked.words(row['label'])}, read as {marked.words(row['prediction'])}")
    if "cluster" in row:
        lines.append(f"cluster {_cluster(view, row, clustering)}")
    lines.append(f"example {_id(view, row, clustering)}")
    caption = "".join(f"<div>{line}</div>" for line in lines)
    return marked.figure(row["thumbnail"], caption, str(row["key"]))
