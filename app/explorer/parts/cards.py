"""Examples as people read them: tokens and vectors in a table, images in a grid, and one of any by itself."""

from __future__ import annotations

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from query.clustering.clusterings import NOISE
from query.clustering.made_names import cluster_titles
from query.examples.kinds import numbers_in_words

from ...plain_text import cluster_title
from ..view import View, records
from . import markup, pin, pins, show
from .kinds import LOOKS
from .show import KEY, NUMBER, WIDE, Column, Row

THUMB = 40  # pixels of a picture in a row of a table
NUMBERS_SHOWN = 256
"""Numbers of a vector that stands by itself."""


def examples(view: View, frame: pd.DataFrame, clustering: int | None = None) -> None:
    """Rows of `query.nearest` or `query.members`: a table of tokens or vectors, or a grid of images."""
    rows = records(frame)
    if LOOKS[view.network.kind].pictured:
        st.html(markup.grid(_figure(view, row, clustering) for row in rows))
        return
    known = frame.dropna(axis="columns", how="all") if "thumbnail" in frame else frame
    show.table(rows, [column for name, column in _columns(view, clustering).items() if name in known])


def card(view: View, row: Row) -> None:
    """One stored example, with what the network made of it."""
    listed = facts(view, row)
    if LOOKS[view.network.kind].pictured:
        caption = "".join(f"<div>{name} {value}</div>" for name, value in listed)
        st.html(f'<div class="pa">{markup.figure(row["thumbnail"], caption, str(row["key"]), "pa-one")}</div>')
    else:
        st.html(f'<div class="pa">{input_of(row)}{markup.facts(listed)}</div>')


def input_of(row: Row) -> str:
    """What an example is: a token in its passage, a picture, or the numbers of a vector and its picture, if any."""
    if "token" in row:
        return markup.passage(row["context"], row["token"], row["context_offset"])
    picture = markup.figure(row["thumbnail"], "", str(row["key"]), "pa-one")
    if "vector" not in row:
        return picture
    numbers = f'<div class="pa-mono">{markup.plain(numbers_in_words(row["vector"], NUMBERS_SHOWN))}</div>'
    return numbers if pd.isna(row["thumbnail"]) else picture + numbers


def beside(view: View) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Where an example stands, and where what is said of it does: to its right, if it is a picture, else below."""
    if LOOKS[view.network.kind].pictured:
        left, right = st.columns([1, 4], gap="medium")
        return left, right
    place = st.container()
    return place, place


def facts(view: View, row: Row) -> list[tuple[str, str]]:
    """What the network made of an example: names, and values as HTML."""
    return [
        ("example", example_link(view, row)),
        ("label", markup.words(row["label"])),
        ("prediction", _prediction(row)),
        ("loss", f"{markup.number(row['loss'], 3)} nats"),
    ]


# --- clusters --------------------------------------------------------------------------------------------------


def cluster_name(label: int) -> str:
    """What a cluster is called in lists and URLs."""
    return "noise" if label == NOISE else str(label)


def cluster_names(view: View, clustering: int) -> dict[int, str]:
    """What the clusters of a clustering are called, by number: by a person, else by what tells them from the rest."""
    return view.ask(cluster_titles, int(clustering))


def cluster_link(view: View, clustering: int, cluster: int, target: str | None = None) -> str:
    """A link to a cluster, called by its name and its number; of another site or span with ``target``."""
    state = {**view.state, "target": target or view.target}
    words = cluster_title(int(cluster), cluster_names(view, clustering).get(int(cluster)))
    return markup.link("cluster", words, clustering=int(clustering), cluster=cluster_name(cluster), **state)


# --- cells -----------------------------------------------------------------------------------------------------


def example_link(view: View, row: Row) -> str:
    """A link to an example, and the sign that pins it."""
    number = row["example_id"]
    return markup.link("look", str(number), example=number, **view.state) + pins.sign(pin.example(number))


def _cluster(view: View, row: Row, clustering: int | None) -> str:
    if clustering is None or pd.isna(row["cluster"]):
        return "–"
    return cluster_link(view, clustering, row["cluster"])


def _prediction(row: Row) -> str:
    return f'<span class="pa-mono">{markup.words(row["prediction"])}</span>'


def _gates(view: View, row: Row) -> str:
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
    if "token" in row:
        return markup.context(row["context"], row["token"], row["context_offset"], before, after)
    if "vector" in row and pd.isna(row["thumbnail"]):
        return _numbers(row)
    return markup.thumb(row["thumbnail"], height, str(row["key"]))


STRIP_HEIGHT, STRIP_AROUND = 28, 8
"""Of a row of examples in a cell: pixels of a picture, and characters either side of a token."""


def strip(view: View, rows: list[Row]) -> str:
    """Examples side by side in a cell, each a link to itself."""
    pieces = []
    for row in rows:
        where = markup.plain(markup.address_of("look", example=row["example_id"], **view.state))
        title = markup.plain(f"example {row['example_id']}: {row['label']}")
        seen = excerpt(view, row, STRIP_HEIGHT, STRIP_AROUND, STRIP_AROUND)
        seen = f"({seen})" if "vector" in row and pd.isna(row["thumbnail"]) else seen
        pieces.append(f'<a href="{where}" target="_self" title="{title}" class="pa-piece">{seen}</a>')
    return f'<div class="pa-pieces">{"".join(pieces)}</div>'


def without_unknown_density(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of `query.nearest` without the column of densities where none is known."""
    return frame if frame["density"].notna().any() else frame.drop(columns="density")


NEARER = "Share of this atlas's examples whose own nearest neighbour lies farther than this"
DIFFERING = "The first gates in which the codes differ, by number: + is on in this example, − is off"


def _columns(view: View, clustering: int | None) -> dict[str, Column]:
    """Columns of a table of tokens or vectors, in order; those that a frame has are shown."""
    context = "The token among the characters around it"
    loss = "Negative log-likelihood of the true next token or class, nats"
    return {
        "rank": _number("#", "rank", 3, "Order by distance, then by example id"),
        "distance": Column(
            "Distance", NUMBER, lambda row: f"{row['distance']:,}", "Gates in which the two codes differ (Hamming)"
        ),
        "nearer_than": Column("Nearer than", NUMBER, lambda row: f"{row['nearer_than']:.0%}", NEARER),
        "activation": _number("Activation", "activation", 3, "Of the unit, after the nonlinearity"),
        "density": _number("Density", "density", 4, "Boundaries per unit distance"),
        "probability": _number("Strength", "probability", 2, "Strength of membership, 0 to 1"),
        "context": Column("Context", WIDE, _context, context),
        "vector": Column("Numbers", WIDE, _numbers, "The numbers of the vector, the first of many"),
        "thumbnail": Column("Picture", KEY, _thumbnail, "Its numbers in the shape of an image"),
        "label": Column("Label", KEY, lambda row: markup.words(row["label"]), "Label of the input in its data set"),
        "cluster": Column("Cluster", KEY, lambda row: _cluster(view, row, clustering), "That the example lies in"),
        "prediction": Column("Prediction", KEY, _prediction, "Most probable next token, or class"),
        "loss": _number("Loss", "loss", 3, loss),
        "gates": Column("Gates that differ", "pa-gates", lambda row: _gates(view, row), DIFFERING),
        "example_id": Column("Example", NUMBER, lambda row: example_link(view, row), "Follow it to see all about it"),
    }


def _number(title: str, name: str, digits: int, hint: str) -> Column:
    return Column(title, NUMBER, lambda row: markup.number(row[name], digits), hint)


def _numbers(row: Row) -> str:
    return f'<span class="pa-mono">{markup.plain(numbers_in_words(row["vector"]))}</span>'


def _thumbnail(row: Row) -> str:
    return markup.thumb(row["thumbnail"], THUMB, str(row["key"]))


def _context(row: Row) -> str:
    return markup.context(row["context"], row["token"], row["context_offset"])


def _figure(view: View, row: Row, clustering: int | None) -> str:
    lines = []
    if "distance" in row:
        lines.append(f"<b>{row['distance']:,} gate{'' if row['distance'] == 1 else 's'}</b>")
        if "nearer_than" in row:
            lines[-1] += f', <span title="{markup.plain(NEARER)}">nearer than {row["nearer_than"]:.0%}</span>'
        if pd.notna(row.get("density")):
            lines.append(f"density {markup.number(row['density'])}")
    if "activation" in row:
        lines.append(f"<b>{markup.number(row['activation'])}</b>")
    if "probability" in row:
        lines.append(f"strength {markup.number(row['probability'], 2)}")
    lines.append(f"label {markup.words(row['label'])}, predicted {markup.words(row['prediction'])}")
    if "cluster" in row:
        lines.append(f"cluster {_cluster(view, row, clustering)}")
    if "gates" in row:
        lines.append(f'<span title="{markup.plain(DIFFERING)}">gates {_gates(view, row)}</span>')
    lines.append(f"example {example_link(view, row)}")
    caption = "".join(f"<div>{line}</div>" for line in lines)
    return markup.figure(row["thumbnail"], caption, str(row["key"]))
