"""Views that people saved: the address of a page under a name, for everyone who opens the atlas."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

import atlas
import query
from atlas.errors import PolytopeError
from query.clustering.names import NAME_LENGTH

from .. import address
from ..view import View, guarded, records
from . import markup, show

NAME = "view-name"


def draw(view: View) -> None:
    """What is saved, as links, and a field to save this view under a name."""
    held = view.ask(query.saved_views)
    with st.popover("Saved views", icon=":material/bookmark:"):
        links = [f"<li>{markup.saved_link(row['address'], row['name'])}</li>" for row in records(held)]
        if links:
            show.block(f'<ul class="pa-saved">{"".join(links)}</ul>')
        else:
            show.notes("None yet. A saved view is this page's address under a name.")
        if not view.read_only:
            reason = st.session_state.pop("unsaved-view", None)
            if reason is not None:
                show.error(f"Not saved: {reason}")
            st.text_input("Name of this view", key=NAME, max_chars=NAME_LENGTH)
            with st.container(horizontal=True):
                st.button("Save this view", key="save-view", on_click=_save, args=(view.path, False))
                st.button("Forget it", key="remove-view", on_click=_save, args=(view.path, True))


def _here() -> str:
    """The address of the page that was drawn, with all that it names: for a callback."""
    state = {**st.query_params.to_dict(), **address.named()}
    page = st.context.url.rsplit("/", 1)[-1] if st.context.url else ""
    return f"{page.partition('?')[0] or 'start'}?{urlencode(state, doseq=True)}"


@guarded
def _save(path: Path, remove: bool) -> None:
    try:
        with atlas.open(path) as a:
            query.save_view(a, st.session_state[NAME], address=None if remove else _here())
    except PolytopeError as error:
        st.session_state["unsaved-view"] = str(error)
