// From points, colours and what is hidden to the traces that Plotly draws. No text of a user reaches Plotly.
function ink(name) { return getComputedStyle(element).getPropertyValue(name).trim() || "#666"; }
function gather(values, rows) {
  const out = new Float32Array(rows.length);
  for (let i = 0; i < rows.length; i += 1) out[i] = values[rows[i]];
  return out;
}
// Rows by colour and kind: key = 2 * colour + generated. Of numbers colour 0 has one, colour 1 has none.
function groups(data, paint, codes, keep, hidden) {
  const keyOf = paint.names ? (i) => 2 * codes[i] + data.generated[i] : (i) => (codes[i] === 255 ? 2 : 0) + data.generated[i];
  const found = new Map();
  for (let i = 0; i < data.n; i += 1) {
    if (keep && !keep[i]) continue;
    const key = keyOf(i);
    if (!found.has(key)) found.set(key, []);
    found.get(key).push(i);
  }
  const visible = ([key]) => !hidden.has("c" + (key >> 1)) && !hidden.has(key & 1 ? "generated" : "real");
  // Generated points last, so that they lie on top.
  return Array.from(found).filter(visible).sort((a, b) => (a[0] & 1) - (b[0] & 1) || a[0] - b[0]);
}
function pointTraces(data, paint, codes, look) {
  const base = (data.n > 50000 ? 3 : data.n > 12000 ? 4 : data.n > 2000 ? 5 : 7) * look.size;
  const alpha = Math.min(1, look.opacity);
  return groups(data, paint, codes, look.keep, look.hidden).map(([key, rows]) => {
    const generated = key & 1, code = key >> 1;
    const marker = { size: generated ? base * 1.5 : base, opacity: generated ? Math.min(1, alpha + 0.2) : alpha,
      line: { width: generated ? 1 : 0, color: ink("--ltg-ink") } };
    if (paint.names) Object.assign(marker, { color: colourOf(paint, code), symbol: shapeOf(paint, code, generated) });
    else if (code === 0 && codes) Object.assign(marker, { color: gather(codes, rows), colorscale: ramp(), cmin: 0, cmax: 254, symbol: SHAPES[0][generated] });
    else Object.assign(marker, { color: NEUTRAL[theme()], symbol: SHAPES[0][generated] });
    const trace = { type: look.type, mode: "markers", x: gather(data.x, rows), y: gather(data.y, rows), customdata: rows, hoverinfo: "none",
      showlegend: false, marker, unselected: { marker: { opacity: 0.07 } }, selected: { marker: { opacity: 1 } } };
    if (look.count) trace.selectedpoints = rows.map((row, i) => (look.mask[row] ? i : -1)).filter((i) => i >= 0);
    return trace;
  });
}
function ringTrace(data, rows, type) {
  return { type, mode: "markers", x: gather(data.x, rows), y: gather(data.y, rows), customdata: rows, hoverinfo: "none", showlegend: false,
    selected: { marker: { opacity: 1 } }, unselected: { marker: { opacity: 1 } },
    marker: { symbol: "circle-open", size: rows.map((row, i) => (i ? 13 : 18)), color: ink("--ltg-ink"), line: { width: 2, color: ink("--ltg-ink") } } };
}
function densityTrace(grid) {
  const level = bytes(grid.level), z = [], line = (ends) => Array.from({ length: grid.bins }, (_, i) => ends[0] + ((ends[1] - ends[0]) * i) / (grid.bins - 1));
  for (let row = 0; row < grid.bins; row += 1) z.push(Array.from(level.subarray(row * grid.bins, (row + 1) * grid.bins), (v) => v / 255));
  const shade = theme() === "dark" ? "190,205,225" : "70,90,120";
  return { type: "contour", x: line(grid.x), y: line(grid.y), z, hoverinfo: "skip", showscale: false, showlegend: false, autocontour: false,
    contours: { start: 0.05, end: 0.95, size: 0.15, coloring: "fill", showlines: true }, line: { width: 0.7, color: "rgba(" + shade + ",.35)", smoothing: 1 },
    colorscale: [[0, "rgba(" + shade + ",0)"], [0.02, "rgba(" + shade + ",.05)"], [1, "rgba(" + shade + ",.30)"]], zmin: 0, zmax: 1 };
}
function layout(data, turn) {
  const axis = { visible: false, zeroline: false, showgrid: false };
  return { margin: { l: 4, r: 4, t: 4, b: 4 }, dragmode: "lasso", hovermode: "closest", hoverdistance: 12, showlegend: false, xaxis: axis,
    yaxis: Object.assign({ scaleanchor: "x" }, axis), paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    // Zoom and tool stay while colours change; the selection is ours, so Plotly's own is replaced every time.
    uirevision: data.run, selectionrevision: turn, selections: [], font: { family: "system-ui, sans-serif", size: 12, color: ink("--ltg-soft") },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: ink("--ltg-soft"), activecolor: ink("--ltg-accent"), orientation: "v" },
    newselection: { line: { color: ink("--ltg-accent"), width: 1.5, dash: "solid" } } };
}
