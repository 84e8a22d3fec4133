// Heat maps side by side. How strong the overlay is and whether it is filled, an outline or absent is decided here, without
// the server; curves come as numbers and are drawn as SVG.
const root = element.querySelector(".ltg-heats");
root.dataset.root = "1";
root.dataset.mode = "heat";
const SVG = "http://www.w3.org/2000/svg";
function onAct(name, payload) {
  if (name === "mode") { root.dataset.mode = payload.mode; marks(); return; }
  trigger("act", Object.assign({ name }, payload));
}
function marks() {
  for (const button of root.querySelectorAll("button.mode")) {
    const mode = button._act && button._act[0] === "mode" ? button._act[1].mode : null;
    if (mode === null) continue;
    button.classList.toggle("is-on", mode === root.dataset.mode);
    button.setAttribute("aria-pressed", String(mode === root.dataset.mode));
  }
}
function svg(tag, attributes, parent, text) {
  const el = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) el.setAttribute(name, value);
  if (text !== undefined) el.textContent = text;
  if (parent) parent.appendChild(el);
  return el;
}
function path(values, box) {
  const step = (box.right - box.left) / Math.max(1, values.length - 1);
  let open = false;
  return values.map((v, i) => {
    if (v === null) { open = false; return ""; }
    const point = (box.left + i * step).toFixed(1) + " " + (box.bottom - v * (box.bottom - box.top)).toFixed(1);
    const word = (open ? "L" : "M") + point;
    open = true;
    return word;
  }).join("");
}
function curve(holder, chart) {
  const box = { left: 40, right: 294, top: 10, bottom: 132 };
  const made = svg("svg", { viewBox: "0 0 300 164", role: "img", "aria-label": chart.label });
  for (const level of [0, 0.5, 1]) {
    const y = box.bottom - level * (box.bottom - box.top);
    svg("line", { class: "grid", x1: box.left, x2: box.right, y1: y, y2: y }, made);
    svg("text", { x: box.left - 5, y: y + 3.5, "text-anchor": "end" }, made, Math.round(100 * level) + " %");
  }
  for (const share of [0, 0.5, 1]) {
    const x = box.left + share * (box.right - box.left);
    svg("text", { x, y: box.bottom + 13, "text-anchor": share === 0 ? "start" : share === 1 ? "end" : "middle" }, made, Math.round(100 * share) + " %");
  }
  svg("text", { class: "axis", x: (box.left + box.right) / 2, y: box.bottom + 28, "text-anchor": "middle" }, made, chart.axis);
  for (const line of chart.lines) svg("path", { class: "line " + line.kind, d: path(line.values, box) }, made);
  holder.replaceChildren(made);
}
function draw() {
  const value = sent();
  const inside = root.contains(document.activeElement);
  patch(root, { c: "ltg-heats " + ((value && value.c) || ""), k: value ? [].concat(value.k || []) : [] }, onAct);
  const charts = (value && value.charts) || {};
  for (const holder of root.querySelectorAll(".curve")) if (charts[holder._key]) curve(holder, charts[holder._key]);
  marks();
  root.tabIndex = 0;
  if (inside && !root.contains(document.activeElement)) root.focus({ preventScroll: true }); // what was pressed is gone; keys go on
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
root.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
  const steps = { ArrowLeft: -1, ArrowRight: 1 };
  if (event.key in steps) trigger("act", { name: "step", by: steps[event.key] });
  else if (event.key === "Escape") trigger("act", { name: "back" });
  else return;
  event.preventDefault();
  event.stopPropagation();
});
watch("value", draw);
draw();
