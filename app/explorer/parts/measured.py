"""Experiments on pages: an answer that is stored is there at once, any other is computed when someone asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import plotly.graph_objects as go
import streamlit as st

from atlas import Atlas, Network
from query.experiments.archive import load, recall
from query.experiments.figures import INK
from query.experiments.registry import find
from query.experiments.report import command
from query.experiments.result import MAIN, Result
from query.progress import Progress

from .. import jobs
from ..view import View, guarded
from . import show
from .code import fold

METRIC = 205  # pixels: four in a row beside the sidebar of a 1,280 pixel window, two in half of it

RUN = "run"
"""The URL says ``run=1`` where a page computes what it is asked, so that a link to it shows the same."""


class Answer(NamedTuple):
    """A result, and the number under which the atlas stores it; None where it does not."""

    result: Result
    number: int | None


# --- asking ----------------------------------------------------------------------------------------------------


def stored(view: View, name: str, options: Mapping[str, Any]) -> Answer | None:
    """The stored answer to a question about the network that the sidebar names."""
    number, result = view.ask(_stored, name, view.network.name, dict(options))
    return None if result is None else Answer(result, number)


def _stored(atlas: Atlas, name: str, network: str, options: dict[str, Any]) -> tuple[int | None, Result | None]:
    number = recall(atlas, find(name), network, options, "any")
    return number, None if number is None else load(atlas, number)


def compute(
    atlas: Atlas,
    name: str,
    options: dict[str, Any],
    *,
    reader: Network | None = None,
    progress: Progress | None = None,
) -> Result:
    """An experiment's result, not stored: a page never writes to the atlas."""
    return find(name).run(atlas, reader=reader, progress=progress, **options)


def answer(view: View, name: str, options: Mapping[str, Any], label: str) -> Answer | None:
    """The stored answer, or the computed one once it is there; None while it is computed."""
    known = stored(view, name, options)
    if known is not None:
        return known
    result = view.work(label, compute, name, dict(options), live=find(name).live, turns=jobs.LONG)
    return None if result is None else Answer(result, None)


def running() -> bool:
    """Whether the URL asks to compute."""
    return st.query_params.get(RUN) == "1"


def offer(what: str, key: str, words: str = "Compute") -> bool:
    """Whether to compute; a button where nobody has asked for it yet. ``what`` says how long it may take."""
    if running():
        return True
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(words, type="primary", key=f"go-{key}", on_click=_run)
        show.notes(what)
    return False


@guarded
def _run() -> None:
    st.query_params[RUN] = "1"


# --- showing ---------------------------------------------------------------------------------------------------


def drawn(result: Result) -> go.Figure:
    """An experiment's figure in the colours of the page, without the notes: they stand under it as text."""
    figure = replace(result, notes=()).figure()
    figure.update_layout(template=None, font={"color": None}, title={"font": {"size": 14, "color": None}})
    if result.kind == "slice":  # a square: beside it a legend would leave it half of a narrow window
        below = {"font": {"size": 11}, "orientation": "h", "x": 0, "y": -0.12, "yanchor": "top"}
        figure.update_layout(legend=below, margin={"r": 40})
    for label in figure.layout.annotations:
        if label.bgcolor is not None:  # its ground is light, whatever the theme
            label.font.color = INK
    return figure


def metrics(values: Sequence[tuple[str, str, str | None]]) -> None:
    """Numbers in a row that breaks where the window is narrow: name, value, and what it means."""
    with st.container(horizontal=True, gap="small"):
        for name, value, hint in values:
            st.metric(name, value, border=True, help=hint, width=METRIC)


def remarks(found: Answer) -> None:
    """What is approximate, what was dropped, and where the numbers are from."""
    where = "Computed now and not stored." if found.number is None else f"Stored as experiment {found.number}."
    show.notes(*found.result.notes, where)


def code(
    view: View, name: str, options: Mapping[str, Any], network: str | None = None, tables: Sequence[str] = (MAIN,)
) -> None:
    """The command line and the Python that give a result and the tables of it that are shown, folded."""
    asked = {key: value for key, value in options.items() if value is not None and key != "controls"}
    about = network or view.network.name
    line = command(name, options, about, view.atlas.address)
    fold(view, python(view, name, asked, about, tables), line=line)


def python(view: View, name: str, options: Mapping[str, Any], network: str, tables: Sequence[str] = (MAIN,)) -> str:
    """Python that gives the result, prints tables of it and draws its figure."""
    live = find(name).live
    given = dict(options) if live else {"network": network} | dict(options)
    lines = ["import atlas", *(["from ingest.networks import reload_network"] if live else [])]
    lines += ["from query.experiments import run", "", f"with atlas.open({view.atlas.address!r}) as a:"]
    lines += [f"    reader = reload_network(a.catalog.network({network!r}))"] if live else []
    words = ["a", repr(name), *(["reader=reader"] if live else [])]
    words += [f"{key}={value!r}" for key, value in given.items()]
    shown = ["result.table" if table == MAIN else f"result.tables[{table!r}]" for table in tables]
    lines += [f"    result = run({', '.join(words)})", *(f"    print({table})" for table in shown)]
    return "\n".join([*lines, "    result.figure().show()"])
