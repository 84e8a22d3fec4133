// Differences with their intervals, one a row: names and figures are text of the page, Plotly draws between them.
const root = element.querySelector(".ltg-forest");
root.dataset.root = "1";
const ROW = 26, TOP = 8, BOTTOM = 38;
let drawnRows = null;
function ink(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }
function colourOf(kind) { return ink(kind === "bad" ? "--ltg-bad" : kind === "good" ? "--ltg-good" : "--ltg-soft"); }
function scaffold(value) {
  const rows = value.rows;
  patch(root, { c: "ltg-forest", k: [
    { t: "h3", x: value.title }, { t: "p", c: "soft", x: value.note },
    { t: "div", c: "forest", k: [
      { t: "ul", c: "forest-names", k: rows.map((row) => ({ t: "li", c: "is-" + row.kind, x: row.name, a: { title: row.name } })) },
      { t: "div", c: "forest-plot", key: "plot", a: { "aria-hidden": "true" } },
      { t: "ul", c: "forest-said", k: rows.map((row) => ({ t: "li", c: "is-" + row.kind, x: row.said })) }] }] }, () => {});
}
function traces(rows) {
  return ["open", "good", "bad"].map((kind) => {
    const some = rows.map((row, i) => [row, i]).filter(([row]) => row.kind === kind), colour = colourOf(kind);
    return { type: "scatter", mode: "markers", x: some.map(([row]) => row.at), y: some.map(([, i]) => i), hoverinfo: "skip",
      marker: { size: 9, color: kind === "open" ? ink("--ltg-surface") : colour, line: { color: colour, width: 1.6 } },
      error_x: { type: "data", symmetric: false, array: some.map(([row]) => row.high - row.at), arrayminus: some.map(([row]) => row.at - row.low),
        color: colour, thickness: kind === "open" ? 1.4 : 2.2, width: 0 } };
  });
}
function layout(rows) {
  const soft = ink("--ltg-soft"), line = ink("--ltg-line");
  const far = Math.max(0.5, ...rows.flatMap((row) => [Math.abs(row.low), Math.abs(row.high)])) * 1.06;
  return { height: TOP + rows.length * ROW + BOTTOM, margin: { l: 6, r: 6, t: TOP, b: BOTTOM }, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(root).fontFamily, size: 12, color: soft }, dragmode: false,
    xaxis: { range: [-far, far], zeroline: true, zerolinecolor: ink("--ltg-ink"), zerolinewidth: 1.2, gridcolor: line, nticks: 7, fixedrange: true, title: { text: "← worse        points        better →", standoff: 6 } },
    yaxis: { range: [rows.length - 0.5, -0.5], showgrid: false, zeroline: false, showticklabels: false, fixedrange: true } };
}
async function draw() {
  const value = sent();
  const old = root.querySelector(".forest-plot");
  if (!value || !value.rows || !value.rows.length) {
    if (old && window.Plotly) window.Plotly.purge(old);
    root.replaceChildren();
    drawnRows = null;
    return;
  }
  let Plotly;
  try { Plotly = await plotly(); } catch (error) { root.replaceChildren(make({ t: "p", c: "warn", x: error.message }, () => {})); return; }
  if (old) { Plotly.purge(old); old.remove(); }
  root.replaceChildren();
  scaffold(value);
  const box = root.querySelector(".forest-plot");
  await Plotly.newPlot(box, traces(value.rows), layout(value.rows), { staticPlot: true, responsive: true });
  drawnRows = value.rows;
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
let queue = Promise.resolve();
function later() { queue = queue.then(draw).catch((error) => { console.error(error); }); }
watch("value", later);
new MutationObserver(() => { if (drawnRows) later(); }).observe(document.body, { attributes: true, attributeFilter: ["class"] });
new ResizeObserver(() => { const box = root.querySelector(".forest-plot"); if (box && drawnRows && box.offsetParent) window.Plotly.Plots.resize(box); }).observe(root);
later();
