"""Plotly on a page. Streamlit's own chart is thrown away and made anew whenever a number in it changes, with whatever
draws in it; this one is changed.

The library is the one that the Python package brings along, served by this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import plotly
import plotly.graph_objects as go
import plotly.io
import streamlit as st

NAME, FILE = "drawing", "plotly.min.js"

# How a page gets hold of Plotly: one script element, whoever asks first.
LOADER = """
const plotly = (address) => window.drawingPlotly ??= new Promise((loaded, failed) => {
  const script = document.createElement("script");
  script.src = address;
  script.onload = () => loaded(window.Plotly);
  script.onerror = () => { window.drawingPlotly = undefined; failed(new Error(`${address} can't be loaded`)); };
  document.head.append(script);
});
const pages = document.querySelector('script[type="module"][src*="/static/js/"]')?.src ?? location.href;
const addressOf = (path) => new URL(`../../${path}`, pages);
"""

# While someone drags, Plotly looks for the points inside at every step and draws all points again: a quarter of a
# second each time for 100,000 of them, and several where no graphics card draws. It can't be told to leave that, but
# passes over traces that can't say which of their points are inside.
_SCRIPT = (
    LOADER
    + """
// A colour with so many hundredths of another, as Plotly reads it: a browser says "color(srgb red green blue)".
const mixed = (place, one, share, other) => {
  const probe = place.appendChild(document.createElement("i"));
  probe.style.color = `color-mix(in srgb, ${one} ${share}%, ${other})`;
  const parts = /^color\\(srgb ([\\d.]+) ([\\d.]+) ([\\d.]+)/.exec(getComputedStyle(probe).color);
  probe.remove();
  return parts ? `rgb(${parts.slice(1).map((part) => Math.round(255 * part)).join(", ")})` : one;
};
const themeOf = (place) => {
  const style = getComputedStyle(place), says = (name) => style.getPropertyValue(name).trim();
  const text = says("--st-text-color"), ground = says("--st-background-color"), font = says("--st-font");
  const line = mixed(place, text, 15, ground), icon = mixed(place, text, 45, ground);
  const small = { color: text, family: font, size: 12 };
  const axis = {
    automargin: true, gridcolor: line, zerolinecolor: line, tickcolor: line, tickfont: small,
    title: { font: { ...small, size: 13 }, standoff: 12 },
  };
  return {
    data: { sankey: [{ textfont: { color: text } }], heatmap: [{ colorbar: { outlinewidth: 0 } }] },
    layout: {
      font: small, paper_bgcolor: ground, plot_bgcolor: ground,
      title: { font: { ...small, size: 15, weight: 600 }, x: 0, xanchor: "left", pad: { l: 4 } },
      legend: { font: small, title: { font: small }, borderwidth: 0 },
      xaxis: { ...axis, showgrid: false, zeroline: false }, yaxis: axis,
      margin: { pad: 8, l: 0, r: 0 },
      hoverlabel: { bgcolor: ground, bordercolor: line, font: small },
      modebar: { bgcolor: "rgba(0, 0, 0, 0)", color: icon, activecolor: text },
      coloraxis: { colorbar: { outlinewidth: 0, thickness: 16, tickfont: small } },
    },
  };
};
const passOver = (plot) => {
  for (const [{ trace }] of plot.calcdata ?? []) {
    if (trace._module?.selectPoints) trace._module = { ...trace._module, selectPoints: undefined };
  }
};
const fullscreen = {
  name: "fullscreen", title: "Fullscreen",
  icon: { width: 20, height: 20, path: "M3 3h5v2H5v3H3zM12 3h5v5h-2V5h-3zM3 12h2v3h3v2H3zM15 12h2v5h-5v-2h3z" },
  click: (plot) => { document.fullscreenElement ? document.exitFullscreen() : plot.requestFullscreen(); },
};
const begin = (place, Plotly) => {
  const drawn = () => { if (place.now.showsNoPoints) passOver(place); };
  place.on("plotly_afterplot", drawn);
  drawn();
  place.on("plotly_selected", (event) => {
    const [kind, drawn] = event?.range ? ["box", event.range] : ["lasso", event?.lassoPoints];
    if (drawn) place.tell("drag", { kind, x: drawn.x, y: drawn.y });
  });
  place.on("plotly_deselect", () => place.tell("drag", { kind: "none", x: [], y: [] }));
  place.observer = new ResizeObserver(() => {
    const { width, height } = place._fullLayout ?? {};
    const changed = Math.abs(place.clientWidth - width) > 1 || Math.abs(place.clientHeight - height) > 1;
    if (changed && place.clientWidth) Plotly.Plots.resize(place);
  });
  place.observer.observe(place);
};
const change = async (place, Plotly, { figure, config }) => {
  const { data, layout, frames } = JSON.parse(figure), { modeBarButtons: [tools], ...more } = config;
  layout.template = themeOf(place);
  place.style.height = `${layout.height ?? 450}px`;
  delete layout.height;  // it fills its place, which may become the screen
  const modeBarButtons = [tools.length ? [...tools, fullscreen] : []];
  await Plotly.react(place, { data, layout, config: { ...more, modeBarButtons }, frames });
  if (!place.observer) begin(place, Plotly);
};
export default async function ({ parentElement, data, setTriggerValue }) {
  const place = parentElement.querySelector(".pa-figure");
  place.now = data;  // the newest of several, while the library is loaded
  place.tell = setTriggerValue;
  place.setAttribute("aria-label", data.alt);
  place.setAttribute("aria-busy", "true");
  try {
    const Plotly = await plotly(addressOf(data.library));
    if (place.now === data && place.isConnected) await change(place, Plotly, data);
    if (place.now === data) parentElement.querySelector(".pa-error")?.remove();
  } catch (error) {
    console.error(error);
    const said = parentElement.querySelector(".pa-error") ?? document.createElement("div");
    Object.assign(said, { className: "pa-error", role: "alert" });
    said.textContent = `This figure can't be drawn: ${error.message}.`;
    place.before(said);
  }
  if (place.now === data) place.setAttribute("aria-busy", "false");
  return () => setTimeout(() => {
    if (place.isConnected) return;
    place.observer?.disconnect();
    window.Plotly?.purge(place);
  });
}
"""
)


def draw(
    figure: go.Figure,
    key: str,
    *,
    alt: str,
    config: dict[str, Any],
    on_drag: Callable[[], None] | None = None,
    shows_points: bool = True,
) -> None:
    """Draw a figure in the current place, or change the one of that key that is there.

    ``on_drag``: called once a box or a lasso was dragged, or taken back (`dragged`). With ``shows_points`` False the
    browser does not show which points are inside, nor look for them.
    """
    figure.update_layout(template=None)
    listening = {} if on_drag is None else {"on_drag_change": on_drag}
    _component()(
        data={
            "figure": plotly.io.to_json(figure, validate=False),
            "config": config,
            "library": library(),
            "alt": alt,
            "showsNoPoints": not shows_points,
        },
        key=key,
        **listening,
    )


def dragged(key: str) -> tuple[str, Sequence[float], Sequence[float]]:
    """What was dragged on the figure of that key, for its ``on_drag``: box, lasso or none; x and y of corners."""
    drag = st.session_state[key]["drag"]
    return drag["kind"], drag["x"], drag["y"]


@cache
def library() -> str:
    """The path of Plotly's script on this server."""
    folder = Path(plotly.__file__).parent / "package_data"
    return f"component/{st.components.v1.declare_component(NAME, path=str(folder)).name}/{FILE}"


@cache
def _component() -> Any:
    return st.components.v2.component(
        "polytope_drawing",
        html='<div class="pa-figure" role="figure" aria-busy="true"></div>',
        js=_SCRIPT,
        isolate_styles=False,
    )
