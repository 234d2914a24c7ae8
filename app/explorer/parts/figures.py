"""A figure on a page, with what it shows to take along: PNG and SVG as the browser draws them, CSV of the numbers.

`csv` is that of any table of a page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from . import plotly

PNG_SCALE = 2
"""Pixels of a downloaded PNG for each on the screen: sharp in a paper's column."""

# Plotly draws the file in the browser, which needs no Chrome on the server and shows the theme that the reader sees.
_BUTTONS = """
<span class="pa-take" role="group"></span>
"""

_SCRIPT = """
export default function ({ parentElement, data }) {
  const group = parentElement.querySelector(".pa-take");
  group.setAttribute("aria-label", `Download the figure ${data.name}`);
  group.replaceChildren();
  for (const format of ["png", "svg"]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = format.toUpperCase();
    button.title = `Download the figure as ${format.toUpperCase()}`;
    button.onclick = () => {
      const plot = parentElement.closest(`.st-key-figure-${data.key}`)?.querySelector(".js-plotly-plot");
      if (!plot) return;
      const onScreen = plot._context.plotGlPixelRatio;
      plot._context.plotGlPixelRatio = data.scale;
      window.Plotly.downloadImage(plot, { format, filename: data.name, scale: format === "png" ? data.scale : 1 });
      plot._context.plotGlPixelRatio = onScreen;
    };
    group.append(button);
  }
}
"""

_CSS = """
.pa-take { display: flex; gap: 0.75rem; }
.pa-take button {
  all: unset; cursor: pointer; font-size: 0.75rem; line-height: 1.6; opacity: 0.65; color: var(--st-text-color);
  font-family: var(--st-font);
}
.pa-take button:hover { opacity: 1; text-decoration: underline; }
.pa-take button:focus-visible { opacity: 1; outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
"""


def show(
    figure: go.Figure,
    name: str,
    *,
    key: str,
    data: pd.DataFrame | None = None,
    toolbar: Sequence[str] = (),
    on_drag: Callable[[], None] | None = None,
    alt: str | None = None,
    many: bool = False,
    shows_points: bool = True,
) -> None:
    """Draw a figure in the current place.

    ``name`` is the stem of the files; ``key`` holds letters, digits and hyphens; ``data`` are the figure's numbers.
    ``toolbar``: Plotly's buttons to zoom and select with. ``many``: points of WebGL so many that they are drawn pixel
    by pixel; Plotly would draw four times as many pixels, for smoother edges in twice the time. ``on_drag`` and
    ``shows_points``: as in `app.explorer.parts.plotly.draw`.
    """
    with st.container(key=f"figure-{key}", gap=None):
        tools = {"displayModeBar": bool(toolbar), "displaylogo": False, "modeBarButtons": [list(toolbar)]}
        plotly.draw(
            figure,
            key,
            alt=alt or name,
            config=tools | ({"plotGlPixelRatio": 1} if many else {}),
            on_drag=on_drag,
            shows_points=shows_points,
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"take-{key}"):
            _buttons()(data={"key": key, "name": name, "scale": PNG_SCALE}, key=f"take-figure-{key}", width="content")
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


def csv(rows: pd.DataFrame) -> bytes:
    """A table as a file: lists and structures as JSON, bytes in hexadecimal."""
    return in_text(rows).to_csv(index=False).encode()


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


@cache
def _buttons() -> Any:
    return st.components.v2.component("polytope_take", html=_BUTTONS, js=_SCRIPT, css=_CSS, isolate_styles=False)
