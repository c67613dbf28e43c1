
"use strict";

// Page state: `chosen` is the pixel that is shown; `large` whether its map is enlarged.
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("content").textContent);
const COLS = data.u.length;
const ROWS = data.v.length;
const PIXELS = ROWS * COLS;
const LEAST_CELL = 48; // px: smaller maps cannot be read, the page scrolls instead
const TALL = 760; // px of a window that has room for the help
const GAP = 4; // px, as in the style
const HIDDEN = [0xd9, 0xda, 0xdf];
const WHITE = [0xff, 0xff, 0xff];
const NEARBY = 10; // px, at which an evaluated pixel is still worth showing
const STEP = 10; // px that Shift moves

const classes = new Map(data.classes.map((each) => [each.number, each]));
const hidden = new Set();
let white = data.true !== null;
let chosen = { map: data.valid.indexOf(true), row: ROWS >> 1, col: COLS >> 1 };
let large = false;
let arrays = {};
const cells = [];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const nameOf = (number) => classes.get(number)?.name ?? `class ${number}`;
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children); // strings become text, never markup
  return made;
}

function chip(color) {
  const made = element("span", { className: "chip" });
  made.style.background = color;
  return made;
}

async function decoded(packed) {
  if (packed === null || typeof packed === "string") return null;
  const text = atob(packed.data);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const integers = packed.bits === 32 ? new Int32Array(buffer) : new Int16Array(buffer);
  return { integers, offset: packed.offset, scale: packed.scale };
}

const valueAt = (array, at) =>
  array.integers[at] === data.missing ? NaN : array.offset + array.scale * array.integers[at];

const labelAt = (map, row, col) => arrays.labels.integers[map * PIXELS + row * COLS + col];

// ---- numbers as people write them

function number(value, digits = 3) {
  const text = value === 0 ? "0" : String(Number(value.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

const signed = (value) => (value > 0 ? "+" : "") + number(value);

// Grey levels, where that is how such ε are written.
function levels(value) {
  const usual = data.unit.startsWith("ε") && data.bounds && data.bounds[0] === 0 && data.bounds[1] === 1;
  return usual && data.u[COLS - 1] * 255 <= 64 ? ` (${number(value * 255)}/255)` : "";
}

// ---- maps

function colorsOf(map) {
  const true_ = data.true === null ? null : data.true[map];
  const table = new Map();
  for (const each of data.classes) {
    const shown = hidden.has(each.number) ? HIDDEN : rgb(each.color);
    table.set(each.number, white && each.number === true_ ? WHITE : shown);
  }
  return table;
}

function paintMap(canvas, map) {
  canvas.width = COLS;
  canvas.height = ROWS;
  const context = canvas.getContext("2d");
  const image = context.createImageData(COLS, ROWS);
  const table = colorsOf(map);
  let at = 0;
  for (let row = ROWS - 1; row >= 0; row--) { // row 0 is the lowest
    for (let col = 0; col < COLS; col++) {
      image.data.set(table.get(labelAt(map, row, col)), at);
      image.data[at + 3] = 255;
      at += 4;
    }
  }
  context.putImageData(image, 0, 0);
}

// Place of a coordinate, or of the centre of a pixel, in % of the map's width or height.
const percent = (place, count) => `${(100 * (place + 0.5)) / count}%`;
const placeOf = (value, axis) => ((value - axis[0]) / (axis[axis.length - 1] - axis[0])) * (axis.length - 1);

function put(mark, row, col) {
  mark.style.left = percent(col, COLS);
  mark.style.top = percent(ROWS - 1 - row, ROWS);
  return mark;
}

function crosses(map) {
  return data.anchors[map].map(([u, v]) => put(element("div", { className: "cross" }), placeOf(v, data.v), placeOf(u, data.u)));
}

function titleOf(map) {
  const true_ = data.true === null ? "" : ` · true class: ${nameOf(data.true[map])}`;
  return `Map ${map + 1} · ${data.hasExample ? "example" : "plane"} ${data.index[map]}${true_}`;
}

function makeCells() {
  for (let map = 0; map < data.maps; map++) {
    let cell;
    if (data.valid[map]) {
      cell = element("button", { type: "button", className: "cell map" }, element("canvas"), ...crosses(map));
      cell.setAttribute("aria-label", titleOf(map));
      cell.addEventListener("pointermove", (event) => hover(event, cell, map));
      cell.addEventListener("focus", () => chosen.map === map || choose(map, chosen.row, chosen.col));
      cell.addEventListener("click", () => (chosen.map === map || choose(map, chosen.row, chosen.col), enlarge(true)));
      cell.addEventListener("keydown", keys);
    } else {
      cell = element("div", { className: "cell map missing" }, data.missingNote);
      cell.setAttribute("role", "img");
      cell.setAttribute("aria-label", `${titleOf(map)}: ${data.missingNote}`);
    }
    cells.push(cell);
  }
  byId("grid").append(...cells);
}

function paintAll() {
  cells.forEach((cell, map) => data.valid[map] && paintMap(cell.querySelector("canvas"), map));
  if (large) paintMap(byId("map").querySelector("canvas"), chosen.map);
}

// As many columns as rows where that fits, and more where the cells become clearly larger.
function layOut() {
  const main = document.querySelector("main");
  const width = main.clientWidth;
  const height = window.innerHeight - main.getBoundingClientRect().top - window.scrollY - 22;
  const sizeWith = (columns) => {
    const rows = Math.ceil(data.maps / columns);
    return Math.floor(Math.min((width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows, 300));
  };
  let columns = Math.min(Math.ceil(Math.sqrt(data.maps)), data.maps);
  for (let other = 1; other <= data.maps; other++) {
    if (sizeWith(other) > 1.15 * sizeWith(columns)) columns = other;
  }
  let size = sizeWith(columns);
  if (size < LEAST_CELL) {
    columns = Math.max(1, Math.floor((width + GAP) / (LEAST_CELL + 8 + GAP)));
    size = Math.floor((width - GAP * (columns - 1)) / columns);
  }
  const grid = byId("grid");
  grid.style.gridTemplateColumns = `repeat(${columns}, ${size}px)`;
  grid.style.gridAutoRows = `${size}px`;
  grid.style.gap = `${GAP}px`;
  for (const cell of cells) cell.classList.toggle("crisp", size > 1.5 * COLS);

  const available = Math.max(Math.min(width - 76 - 14, height - 45 - 46), 160);
  const dots = window.devicePixelRatio || 1; // whole screen pixels per pixel of the map, where that costs little room
  const factor = Math.floor((available * dots) / COLS);
  const side = (factor * COLS) / dots > 0.92 * available ? (factor * COLS) / dots : available;
  byId("map").style.width = byId("map").style.height = `${side + 2}px`;
  byId("map").classList.toggle("crisp", factor >= 2);
}

// ---- the large map

function enlarge(on, { focus = true } = {}) {
  large = on;
  byId("grid").hidden = on;
  byId("large").hidden = !on;
  if (on) {
    const box = byId("map");
    const canvas = element("canvas");
    box.replaceChildren(canvas, ...crosses(chosen.map));
    paintMap(canvas, chosen.map);
    byId("large-title").textContent = titleOf(chosen.map);
    box.setAttribute("aria-label", titleOf(chosen.map));
    byId("previous").disabled = neighbour(-1) === null;
    byId("next").disabled = neighbour(1) === null;
    if (focus) box.focus({ preventScroll: true });
  } else {
    cells[chosen.map].focus();
  }
  mark();
}

function neighbour(step) {
  for (let map = chosen.map + step; map >= 0 && map < data.maps; map += step) if (data.valid[map]) return map;
  return null;
}

function turnTo(step, options) {
  const map = neighbour(step);
  if (map === null) return;
  choose(map, chosen.row, chosen.col);
  if (large) enlarge(true, options);
  else cells[map].focus();
}

function ticks(box, axis, side) {
  const last = axis.length - 1;
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const value = axis[0] + share * (axis[last] - axis[0]);
    const tick = element("span", {}, number(Math.abs(value) < 1e-9 * Math.abs(axis[last]) ? 0 : value));
    tick.style[side] = percent(share * last, axis.length);
    box.append(tick);
  }
}

// ---- the chosen pixel

function hover(event, box, map) {
  const area = box.querySelector("canvas").getBoundingClientRect();
  const col = Math.floor(((event.clientX - area.left) / area.width) * COLS);
  const row = ROWS - 1 - Math.floor(((event.clientY - area.top) / area.height) * ROWS);
  choose(map, clamp(row, 0, ROWS - 1), clamp(col, 0, COLS - 1));
}

function keys(event) {
  const far = event.shiftKey ? STEP : 1;
  const moves = { ArrowLeft: [0, -far], ArrowRight: [0, far], ArrowUp: [far, 0], ArrowDown: [-far, 0] };
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  if (moves[event.key]) {
    const [up, right] = moves[event.key];
    choose(chosen.map, clamp(chosen.row + up, 0, ROWS - 1), clamp(chosen.col + right, 0, COLS - 1));
  } else if (event.key === "Home") choose(chosen.map, ROWS >> 1, COLS >> 1);
  else if (event.key === "PageDown") turnTo(1);
  else if (event.key === "PageUp") turnTo(-1);
  else return;
  event.preventDefault();
}

function choose(map, row, col) {
  chosen = { map, row, col };
  mark();
  describe();
}

const marks = ["hair u", "hair v", "ring"].map((className) => element("div", { className }));

function mark() {
  document.querySelector(".cell.active")?.classList.remove("active");
  const box = large ? byId("map") : cells[chosen.map];
  if (!large) box.classList.add("active");
  marks.forEach((each) => put(each, chosen.row, chosen.col));
  marks[0].style.left = "";
  marks[1].style.top = "";
  marks.slice(0, 2).forEach((each) => each.remove());
  box.append(...(large ? marks : marks.slice(2)));
}

// The value at the pixel, or at the nearest one that was sent through the network.
function measured(array, digits) {
  const start = chosen.map * PIXELS;
  let best = null;
  for (let row = Math.max(chosen.row - NEARBY, 0); row <= Math.min(chosen.row + NEARBY, ROWS - 1); row++) {
    for (let col = Math.max(chosen.col - NEARBY, 0); col <= Math.min(chosen.col + NEARBY, COLS - 1); col++) {
      const value = valueAt(array, start + row * COLS + col);
      const away = Math.hypot(row - chosen.row, col - chosen.col);
      if (!Number.isNaN(value) && (best === null || away < best.away)) best = { value, away };
    }
  }
  if (best === null) return ["not evaluated nearby"];
  const text = number(best.value, digits);
  return best.away === 0 ? [text] : [text, element("small", {}, ` at ${best.away.toFixed(0)} px`)];
}

function describe() {
  const { map, row, col } = chosen;
  const label = labelAt(map, row, col);
  const [u, v] = [data.u[col], data.v[row]];
  const facts = [];
  const fact = (id, name, value, className = "") => {
    facts.push(element("dt", { className }, name), element("dd", { id, className }, ...value));
  };
  const true_ = data.true === null ? null : data.true[map];
  const right = label === true_;
  fact("fact-label", "label here", [chip(right && white ? "#fff" : classes.get(label).color), ` ${nameOf(label)}`], "main");
  if (true_ !== null) fact("fact-true", "true class", [nameOf(true_), element("small", {}, right ? "  same" : "  differs")]);
  if (arrays.margin) fact("fact-margin", true_ === null ? "gap of the top two logits" : "margin (logits)", measured(arrays.margin, 3));
  if (arrays.probability) fact("fact-probability", true_ === null ? "probability of the label" : "probability of the true class", measured(arrays.probability, 3));
  fact("fact-u", `→ ${data.axisNames[0]}`, [signed(u), element("small", {}, levels(u))]);
  fact("fact-v", `↑ ${data.axisNames[1]}`, [signed(v), element("small", {}, levels(v))]);
  fact("fact-l2", data.hasExample ? "L2 from the example" : "L2 from the middle", [number(Math.hypot(u, v) * data.axisLength[map])]);
  fact("fact-map", `map ${map + 1} of ${data.maps}`, [`${data.hasExample ? "example" : "plane"} ${data.index[map]}`]);
  byId("facts").replaceChildren(...facts);
  Object.assign(byId("panel").dataset, { map, row, col, label });
  showImages();
  say(`${titleOf(map)}. Label here: ${nameOf(label)}. ${data.axisNames[0]} ${signed(u)}, ${data.axisNames[1]} ${signed(v)}.`);
}

let pending = 0;
function say(text) { // once the pixel rests: nobody wants to hear each one that is passed
  clearTimeout(pending);
  pending = setTimeout(() => (byId("status").textContent = text), 250);
}

// ---- images

function showImages() {
  const images = data.images;
  if (typeof images === "string") return;
  const [channels, rows, cols] = images.origin.shape.slice(1);
  const size = channels * rows * cols;
  const { map, row, col } = chosen;
  const [u, v] = [data.u[col], data.v[row]];
  const at = map * size;
  const bound = (value) => (data.clip ? clamp(value, images.low, images.high) : value);
  const origin = new Float64Array(size);
  const moved = new Float64Array(size);
  const change = new Float64Array(size);
  let largest = 0;
  for (let i = 0; i < size; i++) {
    origin[i] = bound(valueAt(arrays.origin, at + i));
    const first = valueAt(arrays.axes, 2 * at + i);
    const second = valueAt(arrays.axes, 2 * at + size + i);
    moved[i] = bound(valueAt(arrays.origin, at + i) + u * first + v * second);
    change[i] = moved[i] - origin[i];
    largest = Math.max(largest, Math.abs(change[i]));
  }
  const span = images.high - images.low;
  const half = largest || 1;
  paintImage("perturbed", moved, (value) => (value - images.low) / span, `perturbed image, called ${nameOf(labelAt(map, row, col))}`);
  paintImage("example", origin, (value) => (value - images.low) / span, data.hasExample ? "example" : "middle of the plane");
  paintImage("perturbation", change, (value) => 0.5 + value / (2 * half), `perturbation, from −${number(largest, 2)} (black) to ${number(largest, 2)} (white)`);
  byId("perturbation").querySelector("figcaption").textContent = `change ±${number(largest, 2)}`;

  function paintImage(id, values, shade, description) {
    const canvas = byId(id).querySelector("canvas");
    canvas.width = cols;
    canvas.height = rows;
    canvas.setAttribute("aria-label", description);
    const context = canvas.getContext("2d");
    const image = context.createImageData(cols, rows);
    for (let pixel = 0; pixel < rows * cols; pixel++) {
      for (let channel = 0; channel < 3; channel++) {
        const value = values[(channels === 3 ? channel : 0) * rows * cols + pixel];
        image.data[4 * pixel + channel] = Math.round(255 * shade(value)); // clamped by the array
      }
      image.data[4 * pixel + 3] = 255;
    }
    context.putImageData(image, 0, 0);
  }
}

function notesOfImages() {
  const images = data.images;
  const notes = [];
  if (typeof images === "string") {
    byId("pictures").hidden = true;
    notes.push(`No images: ${images}`);
  } else {
    if (images.averaged > 1) {
      notes.push(`Images are averaged over squares of ${images.averaged}² pixels, to keep this file small: noise looks fainter than it is.`);
    }
    if (!data.clip) notes.push("Not clipped to the bounds; values outside them are drawn black or white.");
    if (!data.hasExample) byId("example").querySelector("figcaption").textContent = "middle of plane";
  }
  byId("picture-note").hidden = !notes.length;
  byId("picture-note").textContent = notes.join(" ");
}

// ---- classes

function makeLegend() {
  const legend = byId("legend");
  const total = data.valid.filter(Boolean).length * PIXELS;
  const named = data.classes.filter((each) => each.named);
  const others = data.classes.filter((each) => !each.named);
  const toggle = (children, title, isShown, set) => {
    const button = element("button", { type: "button", title }, ...children);
    const show = () => button.setAttribute("aria-pressed", String(isShown()));
    button.addEventListener("click", () => (set(!isShown()), repaint()));
    button.addEventListener("repaint", show);
    show();
    legend.append(button);
    return button;
  };
  const setHidden = (which, shown) => which.forEach((each) => (shown ? hidden.delete(each.number) : hidden.add(each.number)));
  if (data.true !== null) {
    const title = "The true class of each map in white; off: in its own colour";
    toggle([chip("#fff"), element("span", {}, "white: true class")], title, () => white, (on) => (white = on)).id = "legend-white";
  }
  for (const each of named) {
    const title = `${each.name}: ${number((100 * each.pixels) / total, 2)} % of all pixels${data.true === null ? "" : " outside its own maps"}`;
    const button = toggle([chip(each.color), element("span", {}, each.name)], title, () => !hidden.has(each.number), (on) => setHidden([each], on));
    button.dataset.class = each.number;
  }
  if (others.some((each) => each.pixels)) {
    const several = element("span", { className: "chip several" });
    const count = others.filter((each) => each.pixels).length;
    toggle([several, element("span", {}, `${count} other classes`)], "Classes with fewer pixels", () => !hidden.has(others[0].number), (on) => setHidden(others, on));
  }
  const all = element("button", { type: "button", className: "all", id: "legend-all" });
  const anyShown = () => named.some((each) => !hidden.has(each.number));
  const word = () => (all.textContent = anyShown() ? "hide all" : "show all");
  all.addEventListener("click", () => (setHidden(data.classes, !anyShown()), repaint()));
  all.addEventListener("repaint", word);
  word();
  if (named.length) legend.append(all);

  function repaint() {
    for (const button of legend.querySelectorAll("button")) button.dispatchEvent(new Event("repaint"));
    paintAll();
    if (chosen.map >= 0) describe();
  }
}

// ---- start

function describePage() {
  const maps = `${data.maps} map${data.maps === 1 ? "" : "s"} of ${COLS}×${ROWS} pixels`;
  byId("axes").textContent = `${maps}. ${data.axesText[0]}; ${data.axesText[1].split(", in ")[0]}`;
  byId("unit").textContent = `Axes in ${data.unit}.` + (data.clip ? " Inputs are clipped to their bounds; L2 is before that." : "");
  const unit = data.unit.split(" (")[0];
  byId("u-name").textContent = `${data.axisNames[0]} (${unit})`;
  byId("v-name").textContent = `${data.axisNames[1]} (${unit})`;
  ticks(byId("u-ticks"), data.u, "left");
  ticks(byId("v-ticks"), data.v, "bottom");
  byId("provenance").replaceChildren(...data.provenance.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]));
}

async function start() {
  if (typeof DecompressionStream === "undefined") {
    byId("notice").textContent = "This browser cannot unpack the maps: it needs DecompressionStream (Chrome 80, Firefox 113, Safari 16.4 or newer).";
    return;
  }
  arrays.labels = await decoded(data.labels);
  arrays.margin = await decoded(data.margin);
  arrays.probability = await decoded(data.probability);
  if (typeof data.images !== "string") {
    arrays.origin = await decoded(data.images.origin);
    arrays.axes = await decoded(data.images.axes);
  }
  describePage();
  notesOfImages();
  makeLegend();
  makeCells();
  byId("notice").remove();
  byId("grid").hidden = false;
  byId("panel").hidden = chosen.map < 0;
  byId("help").open = window.innerHeight >= TALL;
  paintAll();
  layOut();
  window.addEventListener("resize", layOut);
  byId("map").addEventListener("pointermove", (event) => hover(event, byId("map"), chosen.map));
  byId("map").addEventListener("pointerdown", (event) => hover(event, byId("map"), chosen.map));
  byId("map").addEventListener("keydown", keys);
  byId("back").addEventListener("click", () => enlarge(false));
  byId("previous").addEventListener("click", () => turnTo(-1, { focus: false }));
  byId("next").addEventListener("click", () => turnTo(1, { focus: false }));
  document.addEventListener("keydown", (event) => event.key === "Escape" && large && enlarge(false));
  if (chosen.map >= 0) choose(chosen.map, chosen.row, chosen.col);
  document.body.dataset.ready = "true";
}

start().catch((error) => {
  byId("notice").textContent = `The maps could not be shown: ${error.message}`;
});
