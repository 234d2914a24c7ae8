"""What is dragged on a map, as the outline alone: of 40,000 points inside it the browser would send six megabytes,
and again with every click after it. On a large map the browser does not even look for them."""

from __future__ import annotations

from functools import cache
from typing import Any

import streamlit as st

# Plotly tells who listens what was selected with all its points; here they are taken out on the way. The outline
# stays, and with it what the browser draws. A map may appear long after this, or be replaced by another: what becomes
# of the page is watched for as long as this is on it.
#
# While someone drags, Plotly looks for the points inside at every step and draws all points again: a quarter of a
# second each time for 100,000 of them, and several where no graphics card draws. It can't be told to leave that, but
# passes over traces that can't say which of their points are inside.
_SCRIPT = """
export default function ({ data }) {
  const passOver = (plot) => {
    for (const [{ trace }] of plot.calcdata ?? []) {
      if (trace._module?.selectPoints) trace._module = { ...trace._module, selectPoints: undefined };
    }
  };
  const listen = () => {
    const plot = document.querySelector(`.st-key-figure-${data.key} .js-plotly-plot`);
    if (typeof plot?.emit !== "function") return;
    plot.showsNoPoints = data.large;
    if (data.large) passOver(plot);
    if (plot.emit.tellsOutlines) return;
    const emit = plot.emit;
    plot.emit = function (name, event, ...more) {
      if (name === "plotly_afterplot" && this.showsNoPoints) passOver(this);
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


def outlines_only(key: str, figure: Any, *, large: bool) -> None:
    """Let the figure of that key tell outlines without points. ``figure``: changes whenever it is drawn anew;
    ``large``: it is not to show which points are inside, either."""
    _listener()(data={"key": key, "figure": figure, "large": large}, key=f"outlines-{key}", height=0)


@cache
def _listener() -> Any:
    return st.components.v2.component("polytope_outlines", html="<span hidden></span>", js=_SCRIPT)
