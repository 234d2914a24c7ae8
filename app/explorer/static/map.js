// A map of many points, drawn by the graphics card: names on it, a word about the point under the pointer, the wheel to
// zoom, and a word to the script when someone draws a region or chooses a cluster. Points come apart (points.js), so
// that another choice does not send them again.
const VERTEX = `#version 300 es
in vec2 place; in vec4 colour; uniform vec2 centre, scale; uniform float size; out vec4 shade;
void main() {
  gl_Position = vec4((place - centre) * scale, 0, 1);
  gl_PointSize = colour.a < 0.2 ? size * 0.75 : size;
  shade = vec4(colour.rgb * colour.a, colour.a);
}`;
const FRAGMENT = `#version 300 es
precision mediump float; in vec4 shade; out vec4 colour;
void main() {
  if (length(gl_PointCoord - 0.5) > 0.5) discard;
  colour = shade;
}`;
const SIDE = 65535, CELLS = 256; // a place is 0 to SIDE along the longer side of the map
const NEAR = 9, EDGE = 28, LINE = 16, ABOVE = 13; // pixels: to a point that is meant, around the map, of a name, over it
const MOVING = 150000, REST = 150; // points drawn of a larger map while it moves; milliseconds until it rests
const MOST_NAMES = 80, MOST_VECTORS = 20000;
const QUIET = 0.13, ASIDE = 0.08; // how much is seen of noise, and of what is not chosen

const keptPoints = (key) => {
  const kept = (window.polytopePoints ??= new Map());
  if (!kept.has(key)) kept.set(key, Promise.withResolvers());
  return kept.get(key).promise;
};

class PointMap {
  constructor(place) {
    this.place = place;
    [this.ground, this.paper] = place.querySelectorAll("canvas");
    this.tip = place.querySelector(".pa-map-tip");
    this.gl = this.ground.getContext("webgl2", { antialias: false, preserveDrawingBuffer: true });
    if (!this.gl) throw new Error("this browser draws no WebGL");
    this.program();
    this.mode = "move";
    this.listen();
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(place);
  }

  program() {
    const { gl } = this, program = gl.createProgram();
    for (const [type, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(type);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.uniforms = Object.fromEntries(["centre", "scale", "size"].map((name) => [name, gl.getUniformLocation(program, name)]));
    this.attributes = [["place", 2, gl.UNSIGNED_SHORT], ["colour", 4, gl.UNSIGNED_BYTE]].map(([name, size, type]) => {
      const buffer = gl.createBuffer(), location = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(location);
      return { buffer, location, size, type };
    });
    [this.places, this.colours] = this.attributes.map(({ buffer }) => buffer);
  }

  // --- what is shown ---

  async show(data) {
    this.data = data;
    const points = await keptPoints(data.points);
    if (this.data !== data) return;
    if (this.points !== points) {
      this.points = points;
      const places = new Uint16Array(2 * points.n);
      for (let i = 0; i < points.n; i++) [places[2 * i], places[2 * i + 1]] = [points.x[i], points.y[i]];
      this.fill(this.places, places);
      this.index();
      if (this.layout !== data.layout) [this.layout, this.view] = [data.layout, null];
    }
    this.colour();
    this.resize();
    this.place.setAttribute("aria-busy", "false");
  }

  fill(buffer, values) {
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.bufferData(this.gl.ARRAY_BUFFER, values, this.gl.STATIC_DRAW);
  }

  colour() {
    const { points: { n, kinds }, data } = this, opacity = Math.max(0.3, Math.min(0.85, 1.6 - 0.22 * Math.log10(n + 1)));
    const shades = Uint32Array.from(data.kinds, (kind, k) => {
      const seen = kind.quiet ? QUIET : opacity, aside = data.chosen !== null && data.chosen !== k;
      const alpha = Math.round(255 * (aside ? Math.min(seen, ASIDE) : seen));
      const [r, g, b] = [1, 3, 5].map((i) => parseInt(kind.colour.slice(i, i + 2), 16));
      return ((alpha << 24) | (b << 16) | (g << 8) | r) >>> 0; // red first in memory
    });
    const colours = new Uint32Array(n);
    for (let i = 0; i < n; i++) colours[i] = shades[kinds[i]];
    this.fill(this.colours, colours);
  }

  // A grid of cells, and the points in order of their cells: to find the one under the pointer.
  index() {
    const { n, x, y } = this.points, cell = (i) => (y[i] >> 8) * CELLS + (x[i] >> 8);
    this.starts = new Uint32Array(CELLS * CELLS + 1);
    for (let i = 0; i < n; i++) this.starts[cell(i) + 1]++;
    for (let c = 0; c < CELLS * CELLS; c++) this.starts[c + 1] += this.starts[c];
    const next = this.starts.slice();
    this.order = new Uint32Array(n);
    for (let i = 0; i < n; i++) this.order[next[cell(i)]++] = i;
  }

  near(px, py) {
    const [x, y] = this.at(px, py), reach = NEAR / this.view.zoom, { points } = this;
    const clamp = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor((value * SIDE) / 256)));
    let best = -1, least = Infinity;
    for (let row = clamp(y - reach); row <= clamp(y + reach); row++) {
      const first = this.starts[row * CELLS + clamp(x - reach)], last = this.starts[row * CELLS + clamp(x + reach) + 1];
      for (let place = first; place < last; place++) {
        const i = this.order[place], apart = Math.hypot(points.x[i] / SIDE - x, points.y[i] / SIDE - y);
        const far = apart + (this.data.kinds[points.kinds[i]].quiet ? reach / 2 : 0);
        if (apart <= reach && far < least) [best, least] = [i, far];
      }
    }
    return best;
  }

  // --- where it is seen from: `zoom` pixels a side of the map ---

  fit() {
    const { width, height } = this, [across, up] = this.data.extent;
    const zoom = Math.min((width - 2 * EDGE) / Math.max(across, 1e-6), (height - 2 * EDGE) / Math.max(up, 1e-6));
    this.view = { x: across / 2, y: up / 2, zoom: Math.max(zoom, 1) };
    this.whole = this.view.zoom;
  }

  at(px, py) {
    return [this.view.x + (px - this.width / 2) / this.view.zoom, this.view.y - (py - this.height / 2) / this.view.zoom];
  }

  to(x, y) {
    return [this.width / 2 + (x - this.view.x) * this.view.zoom, this.height / 2 - (y - this.view.y) * this.view.zoom];
  }

  scaled(x, y) { // a place in the numbers of the map
    const [x0, y0, side] = this.data.frame;
    return [x0 + x * side, y0 + y * side];
  }

  unscaled(x, y) {
    const [x0, y0, side] = this.data.frame;
    return [(x - x0) / side, (y - y0) / side];
  }

  zoomBy(factor, px = this.width / 2, py = this.height / 2) {
    const [x, y] = this.at(px, py);
    this.view.zoom = Math.max(this.whole / 2, Math.min(this.whole * 400, this.view.zoom * factor));
    const [nx, ny] = this.at(px, py);
    this.view.x += x - nx;
    this.view.y += y - ny;
    this.move();
  }

  moveBy(dx, dy) {
    this.view.x -= dx / this.view.zoom;
    this.view.y += dy / this.view.zoom;
    this.move();
  }

  // While a map of very many points moves, some of them are drawn; all of them once it rests.
  move() {
    if (this.points.n > MOVING) {
      clearTimeout(this.resting);
      this.resting = setTimeout(() => {
        this.resting = null;
        this.draw();
      }, REST);
    }
    this.draw();
  }

  resize(wanted) {
    const { clientWidth: width, clientHeight: height } = this.place;
    if (!width || !this.points) return;
    const ratio = wanted ?? (this.points.n > 200000 ? 1 : window.devicePixelRatio);
    Object.assign(this, { width, height, ratio });
    for (const canvas of [this.ground, this.paper]) {
      canvas.width = width * ratio;
      canvas.height = height * ratio;
    }
    if (!this.view) this.fit();
    this.paint();
  }

  // --- drawing ---

  draw() {
    this.drawing ??= requestAnimationFrame(() => this.paint());
  }

  size() {
    const { n } = this.points, first = n <= 1000 ? 8 : n <= 5000 ? 6 : n <= 20000 ? 4.5 : n <= 200000 ? 3 : 2;
    return first * Math.min(3, Math.max(1, (this.view.zoom / this.whole) ** 0.35));
  }

  paint() {
    this.drawing = undefined;
    const { gl, view, ratio } = this;
    gl.viewport(0, 0, this.ground.width, this.ground.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.uniforms.centre, view.x, view.y);
    gl.uniform2f(this.uniforms.scale, (2 * view.zoom) / this.width, (2 * view.zoom) / this.height);
    gl.uniform1f(this.uniforms.size, this.size() * ratio);
    const every = this.resting ? Math.max(1, Math.ceil(this.points.n / MOVING)) : 1; // which point is drawn
    for (const { buffer, location, size, type } of this.attributes) {
      gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
      gl.vertexAttribPointer(location, size, type, true, 4 * every, 0); // each takes 4 bytes
    }
    gl.drawArrays(gl.POINTS, 0, Math.floor(this.points.n / every));
    const style = getComputedStyle(this.place), pen = this.paper.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    this.overlay(pen, style.color, style.getPropertyValue("--st-background-color") || "#fff", style.fontFamily);
  }

  overlay(pen, ink, paper, family) {
    for (const corners of [this.data.outline, this.path]) if (corners?.length > 1) this.trace(pen, ink, corners);
    pen.font = `600 13px ${family}`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    this.names = [...this.marks(pen), ...this.named(pen)];
    for (const { words, x, y, mark } of this.names) {
      pen.lineWidth = 4;
      pen.strokeStyle = paper;
      pen.strokeText(words, x, y);
      pen.fillStyle = mark ? "#d55e00" : ink;
      pen.fillText(words, x, y);
    }
  }

  trace(pen, ink, corners) {
    const box = corners.length === 2, [[x0, y0], [x1, y1]] = corners;
    const around = box ? [[x0, y0], [x1, y0], [x1, y1], [x0, y1]] : corners;
    pen.beginPath();
    for (const corner of around) pen.lineTo(...this.to(...this.unscaled(...corner)));
    pen.closePath();
    pen.setLineDash([6, 4]);
    pen.lineWidth = 1.5;
    pen.strokeStyle = ink;
    pen.stroke();
    pen.setLineDash([]);
  }

  marks(pen) {
    return this.data.marks.map(({ words, at }) => {
      const [x, y] = this.to(...this.unscaled(...at)), shown = `✕ ${words}`, wide = pen.measureText(shown).width;
      return { words: shown, x: x + (wide - pen.measureText("✕").width) / 2, y, mark: true, wide }; // ✕ stands at it
    });
  }

  // Names of the largest kinds that have room, the chosen one first.
  named(pen) {
    const shown = [], { kinds, chosen } = this.data;
    const order = kinds.map((_, k) => k).filter((k) => kinds[k].at).sort((a, b) => (b === chosen) - (a === chosen) || kinds[b].n - kinds[a].n);
    for (const k of order) {
      const [x, middle] = this.to(...kinds[k].at), y = middle - ABOVE;
      if (x < 0 || y < 0 || x > this.width || y > this.height) continue;
      const wide = pen.measureText(kinds[k].words).width;
      if (shown.some((o) => Math.abs(o.x - x) < (o.wide + wide) / 2 + 6 && Math.abs(o.y - y) < LINE)) continue;
      shown.push({ words: kinds[k].words, x, y, wide, kind: k });
      if (shown.length >= MOST_NAMES) break;
    }
    return shown;
  }

  // --- pointer and keys ---

  listen() {
    const { place } = this, where = (event) => {
      const box = place.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    const on = (name, act, options) => place.addEventListener(name, (event) => this.points && act(event, ...where(event)), options);
    on("wheel", (event, x, y) => {
      event.preventDefault();
      this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), x, y);
    }, { passive: false });
    on("pointerdown", (event, x, y) => {
      if (event.button) return;
      place.setPointerCapture(event.pointerId);
      this.drag = { x, y, from: [x, y], mode: event.shiftKey ? "box" : this.mode };
      this.hide();
    });
    on("pointermove", (event, x, y) => (this.drag ? this.dragged(x, y) : this.hover(x, y)));
    on("pointerup", (event, x, y) => this.drag && this.dropped(x, y));
    on("pointercancel", () => Object.assign(this, { drag: null, path: null }));
    on("pointerleave", () => this.hide());
    on("dblclick", () => { this.fit(); this.draw(); });
    const step = 60, keys = {
      ArrowLeft: () => this.moveBy(step, 0), ArrowRight: () => this.moveBy(-step, 0),
      ArrowUp: () => this.moveBy(0, step), ArrowDown: () => this.moveBy(0, -step),
      "+": () => this.zoomBy(1.5), "=": () => this.zoomBy(1.5), "-": () => this.zoomBy(1 / 1.5),
      0: () => { this.fit(); this.draw(); },
    };
    on("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation();
      keys[event.key]();
    });
    this.told = ({ detail }) => this.tell(detail);
    window.addEventListener("polytope-told", this.told);
  }

  dragged(x, y) {
    const { drag } = this;
    if (drag.mode === "move") this.moveBy(x - drag.x, y - drag.y);
    else {
      const corner = this.scaled(...this.at(x, y)), first = this.scaled(...this.at(...drag.from));
      this.path = drag.mode === "box" ? [first, corner] : [...(this.path ?? [first]), corner];
      this.draw();
    }
    Object.assign(drag, { x, y });
  }

  dropped(x, y) {
    const { drag, path } = this, still = Math.hypot(x - drag.from[0], y - drag.from[1]) < 4 && !(path?.length > 3);
    Object.assign(this, { drag: null, path: null });
    if (still) this.clicked(x, y);
    else if (path) {
      const [xs, ys] = [0, 1].map((axis) => path.map((corner) => corner[axis]));
      this.say("drawn", { kind: path.length === 2 ? "box" : "lasso", x: xs, y: ys });
    }
    this.draw();
  }

  over(x, y) { // the name of a kind under the pointer
    return this.names?.find((one) => one.kind !== undefined && Math.abs(one.x - x) < one.wide / 2 && Math.abs(one.y - y) < LINE / 2);
  }

  clicked(x, y) {
    const name = this.over(x, y), point = name ? -1 : this.near(x, y);
    if (name) this.say("kind", this.data.kinds[name.kind].name);
    else if (point >= 0) this.open(this.points.ids[point]);
  }

  open(example) { // by a link, which takes the pins along (pins.js)
    const link = Object.assign(document.createElement("a"), { href: this.data.link.replace("EXAMPLE", example) });
    this.place.querySelector(".pa-map-link").replaceChildren(link);
    link.click();
  }

  hover(x, y) {
    const name = this.over(x, y), point = name ? -1 : this.near(x, y);
    this.place.classList.toggle("pa-over", Boolean(name) || point >= 0);
    if (point < 0) return this.hide();
    const id = this.points.ids[point], kind = this.data.kinds[this.points.kinds[point]];
    if (this.shown !== id) {
      const title = document.createElement("b");
      title.textContent = kind.name;
      this.tip.replaceChildren(title);
      this.shown = id;
      clearTimeout(this.asking);
      this.asking = setTimeout(() => window.dispatchEvent(new CustomEvent("polytope-hover", { detail: id })), 60);
    }
    this.tip.hidden = false;
    this.tip.style.left = `${Math.max(4, Math.min(x + 14, this.width - this.tip.offsetWidth - 6))}px`;
    this.tip.style.top = `${Math.max(4, y + 18 + this.tip.offsetHeight > this.height ? y - this.tip.offsetHeight - 10 : y + 16)}px`;
  }

  // What the server says of the example under the pointer.
  tell({ example, before, token, after, picture, pixels, words }) {
    if (this.shown !== example || this.tip.hidden) return;
    const rest = [];
    if (picture) rest.push(Object.assign(document.createElement("img"), { src: picture, alt: "", className: pixels ? "pa-pixels" : "" }));
    if (token !== undefined) {
      const line = document.createElement("span"), mark = document.createElement("mark");
      mark.textContent = token;
      line.className = "pa-context";
      line.append(before, mark, after);
      rest.push(line);
    }
    rest.push(Object.assign(document.createElement("small"), { textContent: words }));
    this.tip.replaceChildren(this.tip.firstChild, ...rest);
  }

  hide() {
    clearTimeout(this.asking);
    this.shown = null;
    this.tip.hidden = true;
  }

  end() {
    this.observer.disconnect();
    window.removeEventListener("polytope-told", this.told);
    this.gl.getExtension("WEBGL_lose_context")?.loseContext();
  }
}

// --- buttons ---

const button = (words, title, act, label = title) => {
  const made = document.createElement("button");
  Object.assign(made, { type: "button", textContent: words, title });
  made.setAttribute("aria-label", label);
  made.onclick = act;
  return made;
};

const tools = (map) => {
  const modes = [["move", "Move", "Drag moves the map"], ["box", "Box", "Drag draws a box (or hold Shift)"], ["outline", "Outline", "Drag draws an outline"]];
  const choose = (mode) => {
    map.mode = map.place.dataset.mode = mode;
    chosen.forEach((made, i) => made.setAttribute("aria-pressed", String(modes[i][0] === mode)));
  };
  const chosen = modes.map(([mode, words, title]) => button(words, title, () => choose(mode)));
  choose(map.mode);
  const full = () => (document.fullscreenElement ? document.exitFullscreen() : map.place.requestFullscreen());
  return [
    ...chosen, button("+", "Zoom in", () => map.zoomBy(1.5)), button("−", "Zoom out", () => map.zoomBy(1 / 1.5)),
    button("Whole", "The whole map", () => { map.fit(); map.draw(); }), button("Full", "Fullscreen", full),
  ];
};

// --- files ---

const save = (blob, name) => {
  const link = document.createElement("a");
  Object.assign(link, { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};

// As a paper prints it: dark on white, in letters that every machine has.
const FAMILY = "Arial, Helvetica, 'Liberation Sans', sans-serif";

const PRINTED = 2; // pixels of the file for each on the screen, as of the figures

const asPicture = (map) => {
  map.resize(Math.max(PRINTED, map.ratio));
  const made = document.createElement("canvas");
  [made.width, made.height] = [map.ground.width, map.ground.height];
  const pen = made.getContext("2d");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, made.width, made.height);
  map.paint();
  pen.drawImage(map.ground, 0, 0);
  pen.setTransform(map.ratio, 0, 0, map.ratio, 0, 0);
  map.overlay(pen, "#1f1f1f", "#fff", FAMILY);
  map.resize();
  return made;
};

const escaped = (words) => words.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);

const asVectors = (map) => {
  const { points, width, height, data } = map, radius = (map.size() / 2).toFixed(2), drawn = [];
  for (let i = 0; i < points.n; i++) {
    const [x, y] = map.to(points.x[i] / SIDE, points.y[i] / SIDE), kind = points.kinds[i], { colour, quiet } = data.kinds[kind];
    if (x < 0 || y < 0 || x > width || y > height) continue;
    const opacity = data.chosen !== null && data.chosen !== kind ? ASIDE : quiet ? QUIET : 0.75;
    drawn.push(`<circle cx="${x.toFixed(2)}" cy="${y.toFixed(2)}" r="${radius}" fill="${colour}" fill-opacity="${opacity}"/>`);
  }
  return drawn.join("");
};

const asSvg = (map) => {
  const { width, height } = map, inside = map.points.n <= MOST_VECTORS
    ? asVectors(map) : `<image width="${width}" height="${height}" href="${map.ground.toDataURL()}"/>`;
  const words = map.names.map(({ words: said, x, y }) => `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}">${escaped(said)}</text>`);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`
    + `<rect width="100%" height="100%" fill="#fff"/>${inside}<g font-family="${FAMILY}" font-size="13" font-weight="600" `
    + `fill="#1f1f1f" text-anchor="middle" dominant-baseline="middle" paint-order="stroke" stroke="#fff" stroke-width="4">`
    + `${words.join("")}</g></svg>`;
};

const files = (map) => [
  button("PNG", "Download as png", () => asPicture(map).toBlob((blob) => save(blob, `${map.data.name}.png`)), "PNG"),
  button("SVG", "Download as svg", () => save(new Blob([asSvg(map)], { type: "image/svg+xml" }), `${map.data.name}.svg`), "SVG"),
];

export default function ({ parentElement, data, setTriggerValue }) {
  const place = parentElement.querySelector(".pa-map");
  place.setAttribute("aria-label", data.alt);
  try {
    if (!place.map) {
      place.map = new PointMap(place);
      parentElement.querySelector(".pa-map-tools").replaceChildren(...tools(place.map));
      parentElement.querySelector(".pa-take").replaceChildren(...files(place.map));
      parentElement.querySelector(".pa-take").setAttribute("aria-label", "Download the map");
    }
    place.map.say = setTriggerValue;
    place.map.show(data);
  } catch (error) {
    const said = Object.assign(document.createElement("div"), { className: "pa-error", textContent: `This map can't be drawn: ${error.message}.` });
    said.setAttribute("role", "alert");
    place.replaceChildren(said);
    place.setAttribute("aria-busy", "false");
  }
  return () => setTimeout(() => place.isConnected || place.map?.end());
}
