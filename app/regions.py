"""What is dragged on a map, as the outline alone: of 40,000 points inside it the browser would send six megabytes,
and again with every click after it."""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

# Plotly tells who listens what was selected with all its points; here they are taken out on the way. The outline
# stays, and with it what the browser draws.
_SCRIPT = """
export default function ({ data }) {
  let tries = 100;
  const timer = setInterval(() => {
    const plot = document.querySelector(`.st-key-figure-${data.key} .js-plotly-plot`);
    if (plot && typeof plot.emit === "function" && !plot.tellsOutlines) {
      const emit = plot.emit;
      plot.emit = function (name, event, ...more) {
        const told = name === "plotly_selected" && event ? { ...event, points: [] } : event;
        return emit.call(this, name, told, ...more);
      };
      plot.tellsOutlines = true;
    }
    if (plot?.tellsOutlines || --tries === 0) clearInterval(timer);
  }, 50);
  return () => clearInterval(timer);
}
"""


def outlines_only(key: str, figure: Any) -> None:
    """Let the figure of that key tell outlines without points. ``figure``: changes whenever it is drawn anew."""
    _listener()(data={"key": key, "figure": figure}, key=f"outlines-{key}", height=0)


@cache
def _listener() -> Any:
    return st.components.v2.component("polytope_outlines", html="<span hidden></span>", js=_SCRIPT)
