"""The one box to look for anything, and what is meant by what is typed into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

import query
from atlas import Atlas
from atlas.errors import UsageError
from query.examples.search import LONGEST

from ...plain_text import numbers
from ..view import View

TEXT_LIMIT = 20_000
"""Characters of a pasted text: a long file, and seconds to read."""

LINK_LIMIT = 1500
"""Characters of a text that a link carries: escaped they are more, and some programs cut links at 2,000."""

PLACES = ("find", "exact", "text", "token", "vector")
"""What the address of Look says about what is looked at in place of the example of its field."""

TYPED, LONG = "typed-number", "long-text"
"""In the session: an id that was typed, which may be meant as a word; a text that no link holds."""

INVITES = {
    "text": "An id, a token, a word of a stored text, a cluster's name, or paste a text",
    "image": "An id, a label, a file's or a cluster's name",
    "vector": "An id, a label, a key, a cluster's name, or numbers with commas between them",
}


def draw(view: View, key: str) -> str | None:
    """The box; what was typed, in the run after it was."""
    with st.container():  # without one it would stand at the bottom of the window
        given: str | None = st.chat_input(INVITES[view.network.kind], key=key, max_chars=TEXT_LIMIT)
    return given


def meaning(atlas: Atlas, words: str, network: str) -> dict[str, str]:
    """What the address of Look says for what was typed: an example's id, a search, a text or numbers to be read.

    What is stored goes before what is read anew: a text that bears the words is found first, and its page offers to
    read them.
    """
    record = atlas.catalog.network(network)
    if words.strip().isdecimal() and _is_example(atlas, int(words), record.network_id):
        return {"example": words.strip()}
    if record.kind == "vector" and "," in words:
        return {"vector": ", ".join(f"{number:g}" for number in numbers("the vector", words))}
    if len(words) > LONGEST or "\n" in words.strip():
        return _read(record.kind, words)
    found = query.find(atlas, words, network=network, limit=1)
    if sum(found.attrs["counts"].values()) or record.kind != "text" or clusters_called(atlas, words, network):
        return {"find": words}
    return _read(record.kind, words)


def clusters_called(atlas: Atlas, words: str, network: str) -> list[tuple[str, int, int]]:
    """Site or span, clustering and number of the clusters to which people gave a name with these words, in either
    case: of the newest clustering of each site and space."""
    return atlas.rows(
        """
        with newest as (
            select max(clustering_id) as clustering_id, target from clusterings join networks using (network_id)
            where networks.name = $1 group by target, space
        )
        select target, clustering_id, label from named_clusters join newest using (clustering_id)
        where contains(lower(name), lower(trim($2))) order by clustering_id desc, label
        """,
        [network, words],
    )


def _read(kind: str, words: str) -> dict[str, str]:
    if kind != "text":
        raise UsageError(f"{len(words):,} characters were given; look for a name of at most {LONGEST:,}")
    return {"text": words}


def _is_example(atlas: Atlas, number: int, network_id: int) -> bool:
    if number >= 1 << 32:  # more than an id can be
        return False
    rows = atlas.rows("select 1 from examples where example_id = $1 and network_id = $2", [number, network_id])
    return bool(rows)


# --- the place that is looked at -------------------------------------------------------------------------------


def go(place: Mapping[str, Any]) -> None:
    """Look at something else from here: in a callback, or before widgets are drawn."""
    st.session_state.pop(LONG, None)
    for name in PLACES:
        st.query_params.pop(name, None)
    for name, value in place.items():
        if name == "example":
            st.session_state[name] = int(value)
        elif name == "text" and len(value) > LINK_LIMIT:
            st.session_state[LONG] = value
        else:
            st.query_params[name] = str(value)


def text() -> str:
    """The text that is looked at, of the address or too long for one; empty where there is none."""
    return str(st.session_state.get(LONG) or st.query_params.get("text", ""))[:TEXT_LIMIT]
