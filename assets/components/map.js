const box = element.querySelector(".ltg-map");
const PALETTE = ["#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#ff8ab7", "#9c6b4e", "#97bbf5", "#9498a0"];
const SCALE = [[0, "#c9d3df"], [0.5, "#e7b75f"], [0.8, "#d9703b"], [1, "#a3123a"]];
let loading = null, ready = false, canGl = null;
function plotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  if (!loading) loading = new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = new URL("vendor/plotly.min.js", document.baseURI).href;
    script.onload = () => done(window.Plotly);
    script.onerror = () => fail(new Error("the plotting script did not load"));
    document.head.appendChild(script);
  });
  return loading;
}
function webgl() {
  if (canGl === null) { try { canGl = !!document.createElement("canvas").getContext("webgl"); } catch (error) { canGl = false; } }
  return canGl;
}
function ink(name) { return getComputedStyle(element).getPropertyValue(name).trim() || "#666"; }
function rows(value, test) { const found = []; for (let i = 0; i < value.ids.length; i += 1) if (test(i)) found.push(i); return found; }
function trace(value, which, extra, type) {
  return Object.assign({
    type, mode: "markers", x: which.map((i) => value.x[i]), y: which.map((i) => value.y[i]), customdata: which.map((i) => value.ids[i]),
    text: which.map((i) => value.text[i]), hovertemplate: "%{text}<extra></extra>",
  }, extra);
}
function traces(value, type) {
  const all = [], legend = new Set(value.names ? value.colour.filter((c, i) => !value.generated[i]) : []);
  for (const generated of [false, true]) {
    const symbol = generated ? "diamond" : "circle", size = generated ? 9 : 6;
    const line = generated ? { width: 1, color: ink("--ltg-ink") } : { width: 0 };
    if (value.names) value.names.forEach((name, n) => {
      const which = rows(value, (i) => value.colour[i] === n && !!value.generated[i] === generated);
      if (which.length) all.push(trace(value, which, { name: safe(name) + (generated ? " · generated" : ""), legendgroup: String(n), showlegend: !generated || !legend.has(n),
        marker: { color: (value.palette || PALETTE)[n % (value.palette || PALETTE).length], size, symbol, line, opacity: generated ? 1 : 0.75 } }, type));
    });
    else {
      const which = rows(value, (i) => !!value.generated[i] === generated);
      if (which.length) all.push(trace(value, which, { name: generated ? "generated" : "real", marker: {
        color: which.map((i) => value.colour[i]), colorscale: SCALE, cmin: 0, cmax: 100, size, symbol, line, opacity: 0.85,
        showscale: !all.length, colorbar: { thickness: 10, outlinewidth: 0, len: 0.5, title: { text: value.label, side: "right" }, tickfont: { color: ink("--ltg-soft") } } } }, type));
    }
  }
  const ring = new Set(props.highlight || []);
  const which = ring.size ? rows(value, (i) => ring.has(value.ids[i])) : [];
  all.push(trace(value, which, { name: "selected", hoverinfo: "skip", hovertemplate: null, showlegend: false, selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 1 } },
    marker: { symbol: "circle-open", size: 15, color: ink("--ltg-accent"), line: { width: 2.5, color: ink("--ltg-accent") } } }, type));
  return all;
}
// Plotly reads a little markup in names and hover texts; the signs that begin it are replaced.
function safe(text) { return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); }
function layout() {
  const axis = { visible: false, zeroline: false, showgrid: false };
  return { margin: { l: 4, r: 4, t: 4, b: 4 }, dragmode: "lasso", hovermode: "closest", xaxis: axis, yaxis: Object.assign({ scaleanchor: "x" }, axis),
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", uirevision: "map", selectionrevision: "map", font: { family: "system-ui, sans-serif", size: 12, color: ink("--ltg-soft") },
    legend: { orientation: "h", y: -0.02, yanchor: "top", itemsizing: "constant", bgcolor: "rgba(0,0,0,0)" }, hoverlabel: { align: "left" },
    newselection: { line: { color: ink("--ltg-accent"), width: 1.5, dash: "solid" } } };
}
async function draw() {
  const value = props.value;
  if (!value || !value.ids || !value.ids.length) {
    if (ready) { window.Plotly.purge(box); ready = false; }
    patch(box, { c: "ltg-map is-empty", k: [{ t: "div", c: "empty", k: ((value && value.empty) || []).map((x, i) => ({ t: i ? "p" : "b", x })) }] }, () => {});
    return;
  }
  let Plotly;
  try { Plotly = await plotly(); } catch (error) { box.textContent = error.message; return; }
  if (!ready) { box.replaceChildren(); box.className = "ltg-map"; }
  const shown = Object.assign({}, value, { text: value.text.map(safe) });
  const type = value.ids.length > 2000 && webgl() ? "scattergl" : "scatter";
  await Plotly.react(box, traces(shown, type), layout(), { displaylogo: false, responsive: true, scrollZoom: true,
    modeBarButtonsToRemove: ["toImage", "autoScale2d", "hoverClosestCartesian", "hoverCompareCartesian", "toggleSpikelines"] });
  if (!ready) {
    ready = true;
    box.on("plotly_selected", (event) => {
      if (event && event.points) trigger("lasso", { ids: Array.from(new Set(event.points.map((p) => p.customdata).filter(Boolean))) });
    });
    box.on("plotly_deselect", () => trigger("lasso", { ids: [] }));
    box.on("plotly_click", (event) => { const point = event.points && event.points[0]; if (point && point.customdata) trigger("point", { id: point.customdata }); });
  }
  box.dataset.drawn = String((Number(box.dataset.drawn) || 0) + 1);
}
let queue = Promise.resolve();
function later() { queue = queue.then(draw).catch((error) => console.error(error)); }
watch(["value", "highlight"], later);
new ResizeObserver(() => { if (ready && box.offsetParent) window.Plotly.Plots.resize(box); }).observe(box);
later();
