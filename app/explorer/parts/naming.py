"""The name and note of a cluster: shown to all, written by whoever may."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

import atlas
import query
from atlas.errors import PolytopeError
from query.clustering.names import NAME_LENGTH, NOTE_LENGTH, ClusterName

from ...plain_text import lines_with_signs
from ..view import View, guarded
from . import markup, show


def draw(view: View, borne: ClusterName) -> None:
    """What people wrote about a cluster, and a form to write it anew."""
    if borne.note is not None:
        st.html(f'<div class="pa pa-written">{markup.plain(lines_with_signs(borne.note))}</div>')
    if borne.example not in (None, borne.medoid):
        where = markup.link("look", f"example {borne.example}", example=borne.example, **view.state)
        st.html(
            f'<div class="pa"><p class="pa-note">Named in another clustering, in which {where} was the medoid; it is '
            "a member of this cluster.</p></div>"
        )
    if not view.read_only:
        _form(view, borne)


def _form(view: View, borne: ClusterName) -> None:
    """The form. What could not be saved stands in it still, under the reason."""
    place = f"{borne.clustering}-{borne.cluster}"
    typed, reason = st.session_state.get(_unsaved(borne), ((borne.name, borne.note), None))
    words = "Change the name or note" if borne.name or borne.note else "Name this cluster"
    # Of other words it is another form, so that what someone else has saved meanwhile is what it begins with.
    form = f"{place}-{abs(hash((borne.name, borne.note, typed))):x}"
    with (
        st.expander(words, expanded=reason is not None, icon=":material/edit:", key=f"naming-{place}"),
        st.form(form, border=False),
    ):
        if reason is not None:
            show.error(f"Not saved: {reason}")
        name, note = f"name-{form}", f"note-{form}"
        st.text_input("Name", typed[0] or "", max_chars=NAME_LENGTH, key=name)
        st.text_area("Note", typed[1] or "", max_chars=NOTE_LENGTH, key=note, height=100)
        st.form_submit_button(
            "Save",
            type="primary",
            key=f"go-{form}",
            on_click=_save,
            args=(view.path, borne, name, note),
            help="Everyone who opens this atlas sees it. Empty both to take the name away.",
        )


@guarded
def _save(path: Path, borne: ClusterName, name: str, note: str) -> None:
    """``borne``: what the cluster bore when the form was drawn. What somebody else has saved since is not replaced
    before the page has shown it."""
    typed, place = (st.session_state[name], st.session_state[note]), _unsaved(borne)
    st.session_state.pop(place, None)
    try:
        with atlas.open(path) as a:
            query.name_cluster(
                a, typed[0], note=typed[1], clustering=borne.clustering, cluster=borne.cluster, seen=borne
            )
    except PolytopeError as error:
        st.session_state[place] = typed, str(error)


def _unsaved(borne: ClusterName) -> str:
    return f"unsaved-{borne.clustering}-{borne.cluster}"
