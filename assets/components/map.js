// A map of points: lasso, legend, sliders and density without the server; it is told what is selected and what was clicked.
const root = element.querySelector(".ltg-mapbox");
root.dataset.root = "1";
const parts = {};
for (const [name, cls] of [["tools", "map-tools"], ["legend", "map-legend"], ["box", "ltg-map"], ["said", "map-said"], ["tip", "map-tip"]]) {
  parts[name] = document.createElement("div");
  parts[name].className = cls;
  root.appendChild(parts[name]);
}
const { box, tip } = parts;
const SLOW = 6000; // points that a browser without WebGL draws
const look = { size: 1, opacity: 0.75, density: true, hidden: new Set(), mask: new Uint8Array(0), count: 0, keep: null, type: "scatter" };
let data = null, paint = {}, codes = null, ready = false, canGl = null, turn = 0, chosenSeen = null, held = { add: false, cut: false }, pressed = false, drawing = false, ringed = "";
function webgl() {
  if (canGl === null) { try { canGl = !!document.createElement("canvas").getContext("webgl"); } catch (error) { canGl = false; } }
  return canGl;
}
function take() {
  const value = sent();
  if (!value || !value.n) { data = null; return; }
  if (!data || data.stamp !== value.stamp) {
    data = unpacked(value);
    look.mask = new Uint8Array(data.n);
    look.count = 0;
    look.type = data.n > 2000 && webgl() ? "scattergl" : "scatter";
    look.keep = look.type === "scatter" ? thinned(data, SLOW) : null;
  }
  const next = props.paint || {};
  if (next.by !== paint.by) for (const key of Array.from(look.hidden)) if (key[0] === "c") look.hidden.delete(key);
  paint = next;
  codes = paint.codes ? bytes(paint.codes) : null;
  if (codes && codes.length !== data.n) { codes = null; paint = {}; }
  if (props.chosen && props.chosen !== chosenSeen) {
    chosenSeen = props.chosen;
    mark(chosenSeen.map(data.row).filter((row) => row >= 0), {});
  }
}
function mark(rows, how) {
  if (!how.add && !how.cut) { look.mask.fill(0); look.count = 0; }
  for (const row of rows) {
    const on = how.cut ? 0 : 1;
    if (look.mask[row] !== on) { look.mask[row] = on; look.count += on ? 1 : -1; }
  }
}
function tell() {
  const ids = [];
  for (let i = 0; i < data.n; i += 1) if (look.mask[i]) ids.push(data.id(i));
  trigger("lasso", { ids });
  setTimeout(later, 0); // the server is asked first, and answers while this is drawn
}
function visibleRows() {
  if (!data) return [];
  return groups(data, codes ? paint : {}, codes || new Uint8Array(data.n), look.keep, look.hidden).flatMap((group) => group[1]);
}
function onAct(name, payload) {
  if (name === "legend") { if (look.hidden.has(payload.key)) look.hidden.delete(payload.key); else look.hidden.add(payload.key); later(); }
  else if (name === "density") { look.density = !look.density; later(); }
  else if (name === "all") { mark(visibleRows(), {}); tell(); }
  else if (name === "none") { mark([], {}); tell(); }
}
function slider(name, text, low, high, step) {
  return { t: "label", c: "fader", k: [{ t: "span", x: text }, { t: "input", a: { type: "range", min: low, max: high, step, value: look[name], name, "aria-label": text } }] };
}
function drawTools() {
  patch(parts.tools, { c: "map-tools", k: !data ? [] : [slider("size", "Size", 0.3, 2.5, 0.1), slider("opacity", "Opacity", 0.1, 1, 0.05),
    { t: "button", c: "toggle" + (look.density ? " is-on" : ""), x: "Density", act: ["density", {}], a: { type: "button", "aria-pressed": look.density, title: "Where the real samples lie: the outermost line surrounds 95 % of them, each further one 15 % less" } },
    { t: "button", c: "toggle", x: "Select all visible", act: ["all", {}], a: { type: "button" } }] }, onAct);
}
function entry(key, name, count, colour, shape) {
  const on = !look.hidden.has(key);
  return { t: "button", c: "legend-one" + (on ? "" : " is-off"), key, act: ["legend", { key }], w: colour, a: { type: "button", "aria-pressed": on, title: name + ": click hides or shows, double click isolates" },
    k: [{ t: "i", c: "swatch is-" + shape }, { t: "span", c: "legend-name", x: name }, { t: "span", c: "legend-count", x: count === null ? "" : count.toLocaleString("en") }] };
}
function drawLegend() {
  const kids = [];
  if (data && paint.names) paint.names.forEach((name, code) => kids.push(entry("c" + code, name, paint.counts[code], colourOf(paint, code), shapeOf(paint, code, paint.roles[code] === "made"))));
  else if (data && codes) {
    kids.push({ t: "span", c: "map-scale", k: [{ t: "span", x: paint.label }, { t: "b", x: number(paint.low) }, { t: "i", c: "map-ramp", w: "linear-gradient(90deg," + SCALES[theme()].join(",") + ")" }, { t: "b", x: number(paint.high) }] });
    if (codes.includes(255)) kids.push(entry("c1", "no value", null, NEUTRAL[theme()], "circle"));
  }
  if (data && data.made && paint.by !== "origin") kids.push({ t: "span", c: "legend-gap" }, entry("real", "real", data.n - data.made, ink("--ltg-soft"), "circle"), entry("generated", "generated", data.made, ink("--ltg-soft"), "diamond"));
  patch(parts.legend, { c: "map-legend", k: kids, a: { role: "group", "aria-label": "Legend" } }, onAct);
}
function number(value) { return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en") : String(Number(Number(value).toPrecision(3))); }
function drawSaid(shown) {
  const lines = [];
  if (look.keep) lines.push("This browser cannot use WebGL, so " + look.keep.reduce((sum, v) => sum + v, 0).toLocaleString("en") + " of " + data.n.toLocaleString("en") + " points are drawn; a lasso selects among these.");
  if (data && !shown) lines.push("Everything is hidden: click a name in the legend to show it again.");
  patch(parts.said, { c: "map-said", k: lines.map((x) => ({ t: "p", c: "soft", x })) }, () => {});
}
function nothing(lines) {
  if (ready) { window.Plotly.purge(box); ready = false; }
  for (const name of ["tools", "legend", "said"]) parts[name].replaceChildren();
  tip.hidden = true;
  patch(box, { c: "ltg-map is-empty", k: [{ t: "div", c: "empty", k: (lines || []).map((x, i) => ({ t: i ? "p" : "b", x })) }] }, () => {});
}
async function draw() {
  take();
  if (!data) { nothing((sent() || {}).empty); return; }
  let Plotly;
  try { Plotly = await plotly(); } catch (error) { nothing([error.message]); return; }
  if (!ready) { box.replaceChildren(); box.className = "ltg-map"; box._key = undefined; }
  const traces = pointTraces(data, codes ? paint : {}, codes || new Uint8Array(data.n).fill(255), look);
  ringed = wanted();
  const rings = (props.highlight || []).map(data.row).filter((row) => row >= 0);
  const shown = traces.length;
  if (rings.length) traces.push(ringTrace(data, rings, look.type));
  if (look.density && data.density) traces.push(densityTrace(data.density));
  drawTools();
  drawLegend();
  drawSaid(shown);
  turn += 1;
  drawing = true;
  await Plotly.react(box, traces, layout(data, turn), { displaylogo: false, responsive: true, scrollZoom: true, displayModeBar: true,
    modeBarButtons: [["lasso2d", "select2d", "pan2d"], ["zoomIn2d", "zoomOut2d", "resetScale2d"]] });
  drawing = false;
  if (!ready) { ready = true; listen(); }
  reachable();
  box.setAttribute("aria-label", "Map of " + data.n + " samples; " + look.count + " selected");
  box.dataset.drawn = String((Number(box.dataset.drawn) || 0) + 1);
  box.dataset.selected = String(look.count);
}
// Plotly's buttons as one toolbar: a single stop of the Tab key, arrows between them, and said which tool is in hand.
function reachable() {
  const bar = box.querySelector(".modebar");
  if (!bar) return;
  bar.setAttribute("role", "toolbar");
  bar.setAttribute("aria-label", "Tools of the map");
  const all = Array.from(bar.querySelectorAll(".modebar-btn")), at = all.includes(document.activeElement) ? document.activeElement : all.find((one) => one.dataset.stop);
  for (const one of all) {
    one.tabIndex = one === (at || all[0]) ? 0 : -1;
    if (one.tabIndex === 0) one.dataset.stop = "1"; else delete one.dataset.stop;
    if (one.dataset.attr === "dragmode") one.setAttribute("aria-pressed", String(one.classList.contains("active")));
  }
}
function rowsIn(event) { return Array.from(new Set(((event && event.points) || []).map((p) => p.customdata).filter((row) => Number.isInteger(row) && row >= 0 && row < data.n))); }
function listen() {
  for (const name of ["plotly_selected", "plotly_deselect", "plotly_click", "plotly_hover", "plotly_unhover"]) box.removeAllListeners(name);
  // Plotly also speaks of selections that it finds while it draws; those are ours, and nobody pressed a button for them.
  box.on("plotly_selected", (event) => {
    if (!event || !event.points || (!pressed && event.selections && (drawing || !event.points.length))) return;
    pressed = false;
    mark(rowsIn(event), held);
    tell();
  });
  box.on("plotly_deselect", () => { if (pressed) { pressed = false; mark([], {}); tell(); } });
  box.on("plotly_click", (event) => {
    pressed = false;
    const row = rowsIn(event)[0];
    if (row === undefined) return;
    if (held.add || held.cut) { mark([row], held); tell(); } else trigger("point", { id: data.id(row) });
  });
  box.on("plotly_hover", (event) => { const row = rowsIn(event)[0]; if (row !== undefined) hover(row, event.event); });
  box.on("plotly_unhover", () => { tip.hidden = true; });
}
function hover(row, at) {
  const lines = [{ t: "b", x: data.classes[data.label[row]] || "" }];
  const said = data.classes[data.pred[row]];
  if (said !== undefined) lines.push({ t: "span", c: data.pred[row] === data.label[row] ? "" : "wrong", x: "read as " + said });
  if (codes && !["class", "prediction"].includes(paint.by)) {
    const value = paint.names ? paint.names[codes[row]] : codes[row] === 255 ? "no value" : number(paint.low + ((paint.high - paint.low) * codes[row]) / 254);
    lines.push({ t: "span", x: paint.label + ": " + value });
  }
  if (data.generated[row]) lines.push({ t: "span", x: "generated" });
  patch(tip, { c: "map-tip", k: [{ t: "img", key: data.id(row), a: { src: "thumb:" + data.id(row), alt: "" } }, { t: "div", k: lines }] }, () => {});
  const frame = root.getBoundingClientRect();
  tip.hidden = false;
  tip.style.left = Math.max(4, Math.min(frame.width - tip.offsetWidth - 4, at.clientX - frame.left + 14)) + "px";
  tip.style.top = Math.max(4, Math.min(frame.height - tip.offsetHeight - 4, at.clientY - frame.top + 14)) + "px";
}
let queue = Promise.resolve(), waiting = false;
function later() {
  if (waiting) return;
  waiting = true; // several changes at once are one drawing
  queue = queue.then(() => { waiting = false; return draw(); }).catch((error) => { drawing = false; console.error(error); });
}
// Shift adds and Ctrl removes. To Plotly these keys mean other things, so it gets the press without them.
let passing = false;
box.addEventListener("mousedown", (event) => {
  if (passing || event.button !== 0) return;
  pressed = true;
  held = { add: event.shiftKey, cut: event.ctrlKey || event.metaKey || event.altKey };
  if (!event.isTrusted || (!held.add && !held.cut)) return;
  event.stopImmediatePropagation();
  event.preventDefault();
  passing = true;
  event.target.dispatchEvent(new MouseEvent("mousedown", { bubbles: true, cancelable: true, view: window, button: 0, buttons: 1, clientX: event.clientX, clientY: event.clientY }));
  passing = false;
}, true);
box.addEventListener("keydown", (event) => {
  const one = event.target.closest(".modebar-btn");
  if (!one) return;
  const all = Array.from(box.querySelectorAll(".modebar-btn")), here = all.indexOf(one), last = all.length - 1;
  const to = { ArrowRight: here + 1, ArrowDown: here + 1, ArrowLeft: here - 1, ArrowUp: here - 1, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  all[(to + all.length) % all.length].focus();
  reachable();
  event.preventDefault();
  event.stopPropagation();
});
box.addEventListener("click", (event) => { if (event.target.closest(".modebar-btn")) setTimeout(reachable, 0); });
box.addEventListener("mouseleave", () => { tip.hidden = true; });
parts.tools.addEventListener("input", (event) => { if (event.target.name in look) { look[event.target.name] = Number(event.target.value); later(); } });
parts.legend.addEventListener("dblclick", (event) => {
  const button = event.target.closest("button");
  if (!button || !button._act) return;
  const key = button._act[1].key, all = Array.from(parts.legend.querySelectorAll("button"), (one) => one._act[1].key).filter((one) => (one[0] === "c") === (key[0] === "c"));
  const alone = all.every((one) => (one === key) !== look.hidden.has(one));
  for (const one of all) if (alone || one === key) look.hidden.delete(one); else look.hidden.add(one);
  later();
});
root.addEventListener("keydown", (event) => { if (event.key === "Escape" && look.count) { mark([], {}); tell(); event.stopPropagation(); } });
box.tabIndex = 0;
box.setAttribute("role", "application");
tip.hidden = true;
function wanted() { return (props.highlight || []).join(); }
watch(["value", "paint", "chosen"], later);
watch("highlight", () => { if (wanted() !== ringed) later(); }); // to draw the same again costs a tenth of a second
new ResizeObserver(() => { if (ready && box.offsetParent) window.Plotly.Plots.resize(box); }).observe(box);
new MutationObserver(() => { if (ready) later(); }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
later();
