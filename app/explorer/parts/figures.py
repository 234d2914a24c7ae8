"""A figure on a page, with what it shows to take along: PNG and SVG as the browser draws them, CSV of the numbers.

Streamlit's own chart offers one format of picture, sends all points of a region that is selected, and is made anew
whenever a number in it changes. So this one is a component (`static/figure.js`), which runs the script of Plotly that
its Python package brings along.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from contextvars import ContextVar
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.io
import plotly.offline
import streamlit as st

from ...row_files import as_csv

PNG_SCALE = 2
"""Pixels of a downloaded PNG for each on the screen: sharp in a paper's column."""

STATIC = Path(__file__).parents[1] / "static"


def show(
    figure: go.Figure,
    name: str,
    *,
    key: str,
    data: pd.DataFrame | None = None,
    toolbar: Sequence[str] = (),
    on_drawn: Callable[[], None] | None = None,
    alt: str | None = None,
) -> None:
    """Draw a figure in the current place, or change the one of that key that is there.

    ``name`` is the stem of the files; ``key`` holds letters, digits and hyphens; ``data`` are the figure's numbers.
    ``toolbar``: Plotly's buttons to zoom and draw with.
    ``on_drawn``: called once someone has drawn a region (`drawn_region`).
    """
    _send_library()
    figure.update_layout(template=None)
    config = {"displayModeBar": bool(toolbar), "displaylogo": False, "modeBarButtons": [list(toolbar)]}
    listening = {} if on_drawn is None else {"on_drawn_change": on_drawn}
    with st.container(key=f"figure-{key}", gap=None):
        _component()(
            data={
                "figure": plotly.io.to_json(figure, validate=False),
                "config": config,
                "alt": alt or name,
                "name": name,
                "scale": PNG_SCALE,
            },
            key=key,
            **listening,
        )
        if data is not None:
            st.download_button(
                "CSV",
                partial(csv, data),
                f"{name}.csv",
                "text/csv",
                on_click="ignore",
                type="tertiary",
                key=f"csv-{key}",
                help="Download the figure's numbers",
            )


def drawn_region(key: str) -> tuple[str, Sequence[float], Sequence[float]]:
    """What was drawn on the figure of that key, for its ``on_drawn``: box or lasso; x and y of corners."""
    drawn = st.session_state[key]["drawn"]
    return drawn["kind"], drawn["x"], drawn["y"]


_place: ContextVar[Any] = ContextVar("place of Plotly's script", default=None)

SENT = "plotly-sent"
"""In the session: whether this run of the script has sent Plotly's script, of 4.7 MB. A page without a figure does
not need it; the browser keeps it from run to run."""


def begin() -> None:
    """A run of the script begins: its first figure will send Plotly's script, to this place, which takes no room."""
    st.session_state[SENT] = False
    _place.set(st.container())


def _send_library() -> None:
    if not st.session_state.get(SENT):
        st.session_state[SENT] = True
        with _place.get() or nullcontext():
            _library()(data=_plotly(), key="plotly", height=0)


@cache
def _component() -> Any:
    html, css, js = ((STATIC / f"figure.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    return st.components.v2.component("polytope_figure", html=html, css=css, js=js, isolate_styles=False)


@cache
def _plotly() -> bytes:
    return plotly.offline.get_plotlyjs().encode()


@cache
def _library() -> Any:
    return st.components.v2.component("polytope_plotly", js=(STATIC / "plotly.js").read_text(encoding="utf-8"))


# --- tables as files -------------------------------------------------------------------------------------------


def csv(rows: pd.DataFrame) -> bytes:
    """A table as the file that `polytope … --format csv` writes."""
    return as_csv(rows).encode(errors="backslashreplace")


def in_text(rows: pd.DataFrame) -> pd.DataFrame:
    """Cells that hold lists or structures as JSON, and those that hold bytes in hexadecimal."""
    shown = rows.copy()
    for place, kind in enumerate(rows.dtypes):  # by place: a query may give two columns one name
        if kind.kind == "O":
            cells = [_in_text(value) for value in rows.iloc[:, place]]
            shown.isetitem(place, pd.Series(cells, dtype=object).array)
    return shown


def _in_text(value: object) -> object:
    if isinstance(value, list | dict | np.ndarray):
        return json.dumps(value, ensure_ascii=False, default=_in_json)
    return bytes(value).hex() if isinstance(value, bytes | bytearray) else value


def _in_json(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return bytes(value).hex() if isinstance(value, bytes | bytearray) else str(value)
