"""What is dragged on a map, as the outline alone: of 40,000 points inside it the browser would send six megabytes,
and again with every click after it."""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

# Plotly tells who listens what was selected with all its points; here they are taken out on the way. The outline
# stays, and with it what the browser draws. A map may appear long after this, or be replaced by another: what becomes
# of the page is watched for as long as this is on it.
_SCRIPT = """
export default function ({ data }) {
  const listen = () => {
    const plot = document.querySelector(`.st-key-figure-${data.key} .js-plotly-plot`);
    if (typeof plot?.emit !== "function" || plot.emit.tellsOutlines) return;
    const emit = plot.emit;
    plot.emit = function (name, event, ...more) {
      const told = name === "plotly_selected" && event ? { ...event, points: [] } : event;
      return emit.call(this, name, told, ...more);
    };
    plot.emit.tellsOutlines = true;
  };
  const watcher = new MutationObserver(listen);
  watcher.observe(document.body, { childList: true, subtree: true });
  listen();
  return () => watcher.disconnect();
}
"""


def outlines_only(key: str, figure: Any) -> None:
    """Let the figure of that key tell outlines without points. ``figure``: changes whenever it is drawn anew."""
    _listener()(data={"key": key, "figure": figure}, key=f"outlines-{key}", height=0)


@cache
def _listener() -> Any:
    return st.components.v2.component("polytope_outlines", html="<span hidden></span>", js=_SCRIPT)
