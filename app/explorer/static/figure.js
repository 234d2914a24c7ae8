// A figure of Plotly that is changed where Streamlit's own would be made anew, so that it stays zoomed; with buttons
// to take it along, and a word to the script when someone draws a region on it.

const source = () => (window.polytopePlotly ??= Promise.withResolvers()).promise; // plotly.js
const plotly = () => (window.polytopePlotlyRuns ??= source().then((code) => new Promise((loaded, failed) => {
  const script = document.createElement("script");
  script.src = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  script.onload = () => loaded(window.Plotly);
  script.onerror = () => failed(new Error("Plotly's script can't be loaded"));
  document.head.append(script);
})));

const themeOf = (place) => {
  const style = getComputedStyle(place), says = (name) => style.getPropertyValue(`--st-${name}`).trim();
  return template(says("text-color"), says("background-color"), says("border-color"), says("font"));
};

// Of files: what a paper prints, whatever the page looks like. The page's own font would not be in them, and words be
// laid out for it and drawn in another. These are on every machine, or one of the same widths.
const print = () => template("#1f1f1f", "#ffffff", "#d4d4d4", "Arial, Helvetica, 'Liberation Sans', sans-serif");

const template = (text, ground, line, family) => {
  const small = { color: text, family, size: 12 };
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
      modebar: { bgcolor: "rgba(0, 0, 0, 0)", color: line, activecolor: text },
      newshape: { line: { color: text, width: 1.5, dash: "dash" }, fillcolor: "rgba(0, 0, 0, 0)" },
      coloraxis: { colorbar: { outlinewidth: 0, thickness: 16, tickfont: small } },
    },
  };
};

const fullscreen = {
  name: "fullscreen", title: "Fullscreen",
  icon: { width: 20, height: 20, path: "M3 3h5v2H5v3H3zM12 3h5v5h-2V5h-3zM3 12h2v3h3v2H3zM15 12h2v5h-5v-2h3z" },
  click: (plot) => { document.fullscreenElement ? document.exitFullscreen() : plot.requestFullscreen(); },
};

// A box or a hand-drawn outline as x and y of its corners.
const region = ({ type, path, x0, y0, x1, y1 }) => {
  if (type !== "path") return { kind: "box", x: [x0, x1], y: [y0, y1] };
  const corners = path.match(/[-+.\de]+,[-+.\de]+/g).map((corner) => corner.split(",").map(Number));
  return { kind: "lasso", x: corners.map(([x]) => x), y: corners.map(([, y]) => y) };
};

// As a link of the page that is clicked: whoever listens for that hears of it.
const follow = (place, href) => {
  const around = Object.assign(document.createElement("span"), { className: "pa", hidden: true });
  const link = around.appendChild(Object.assign(document.createElement("a"), { href }));
  place.append(around);
  link.click();
  around.remove();
};

const begin = (place, Plotly) => {
  place.on("plotly_relayout", ({ shapes }) => {
    if (shapes?.length > place.shapes.length) place.tell("drawn", region(shapes.at(-1)));
  });
  place.on("plotly_click", ({ points: [point] }) => { // of a figure whose points are links
    if (place.layout.meta?.links && point.customdata) follow(place, point.customdata);
  });
  place.observer = new ResizeObserver(() => { if (place.clientWidth) Plotly.Plots.resize(place); });
  place.observer.observe(place);
};

const change = async (place, Plotly, { figure, config }) => {
  const template = themeOf(place), drawn = figure + JSON.stringify(template);
  const { data, layout, frames } = JSON.parse(figure), { modeBarButtons: [tools], ...more } = config;
  place.shapes = layout.shapes ?? [];
  if (place.drawn === drawn) return Plotly.relayout(place, { shapes: place.shapes });
  place.style.height = `${layout.height ?? 450}px`;
  delete layout.height; // it fills its place, which may become the screen
  const modeBarButtons = [tools.length ? [...tools, fullscreen] : []];
  const whole = { ...layout, template, shapes: place.shapes };
  await Plotly.react(place, { data, layout: whole, config: { ...more, modeBarButtons }, frames });
  place.drawn = drawn;
  if (!place.observer) begin(place, Plotly);
};

const take = (place, { name, scale }) => ["png", "svg"].map((format) => {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: format.toUpperCase(), title: `Download as ${format}` });
  button.onclick = () => {
    const { clientWidth: width, clientHeight: height } = place;
    const size = { width, height, scale: format === "png" ? scale : 1 };
    const layout = { ...place.layout, template: print() };
    const data = place.data.map((trace) => (trace.type === "scattergl" ? { ...trace, type: "scatter" } : trace));
    window.Plotly?.downloadImage({ data, layout }, { format, filename: name, ...size });
  };
  return button;
});

export default async function ({ parentElement, data, setTriggerValue }) {
  const place = parentElement.querySelector(".pa-figure"), group = parentElement.querySelector(".pa-take");
  place.now = data; // the newest of several, while the library is loaded
  place.tell = setTriggerValue;
  place.setAttribute("aria-label", data.alt);
  place.setAttribute("aria-busy", "true");
  group.setAttribute("aria-label", `Download the figure ${data.name}`);
  group.replaceChildren(...take(place, data));
  try {
    const Plotly = await plotly();
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
