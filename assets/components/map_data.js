// The points of a map as typed arrays, and the colours of a theme.
function bytes(text) {
  const raw = atob(text || "");
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) out[i] = raw.charCodeAt(i);
  return out;
}
function short(text) { return new Uint16Array(bytes(text).buffer); }
function scaled(text, low, span) {
  const steps = short(text), out = new Float32Array(steps.length);
  for (let i = 0; i < steps.length; i += 1) out[i] = low + (steps[i] / 65535) * span;
  return out;
}
function unpacked(value) {
  const ids = bytes(value.ids);
  const data = {
    stamp: value.stamp, n: value.n, run: value.run, classes: value.classes,
    x: scaled(value.x, value.box[0], value.box[2]), y: scaled(value.y, value.box[1], value.box[3]),
    generated: bytes(value.generated), label: value.wide ? short(value.label) : bytes(value.label),
    pred: value.wide ? short(value.pred) : bytes(value.pred), density: value.density || null, made: 0,
  };
  for (let i = 0; i < data.n; i += 1) data.made += data.generated[i];
  data.id = (row) => {
    let text = "";
    for (let i = 10 * row; i < 10 * row + 10; i += 1) text += (ids[i] < 16 ? "0" : "") + ids[i].toString(16);
    return text;
  };
  let rows = null;
  data.row = (id) => {
    if (!rows) { rows = new Map(); for (let i = 0; i < data.n; i += 1) rows.set(data.id(i), i); }
    return rows.has(id) ? rows.get(id) : -1;
  };
  return data;
}
// Which rows a slow browser draws: all generated ones, and of the real ones those with the smallest hash; always the same.
function thinned(data, most) {
  if (data.n <= most) return null;
  const keep = new Uint8Array(data.n), limit = (most - Math.min(most, data.made)) / Math.max(1, data.n - data.made);
  for (let i = 0; i < data.n; i += 1) keep[i] = data.generated[i] || (Math.imul(i + 1, 2654435761) >>> 0) / 4294967296 < limit ? 1 : 0;
  return keep;
}
function isDark() { return document.body.classList.contains("dark") || !!document.querySelector(".dark"); }
// Ten colours that stay apart for common kinds of colour blindness, after Okabe and Ito; twenty with a second shape.
const NAMED = {
  light: ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#6a3d9a", "#7f6a1c", "#12355b", "#a3b300"],
  dark: ["#4da3e0", "#f5b83d", "#2fc9a0", "#ff7d4a", "#a5dcff", "#f2a8d2", "#b795f7", "#cdb267", "#e6edf5", "#d3dd4a"],
};
const ROLES = {
  light: { good: "#0072b2", bad: "#d55e00", warn: "#e69f00", quiet: "#a9b4c2", made: "#d55e00" },
  dark: { good: "#4da3e0", bad: "#ff7d4a", warn: "#f5b83d", quiet: "#5d6b7d", made: "#ff9a5c" },
};
// Steadily darker on light ground, steadily lighter on dark: high values stand out, also without seeing hues.
const SCALES = {
  light: ["#d3dde8", "#a9c4dc", "#7fa3cd", "#6f7dbb", "#74549f", "#6c2a7c", "#430a4d"],
  dark: ["#34304f", "#572f78", "#8a2f80", "#c2436d", "#ec7150", "#fbae4b", "#fdf2ad"],
};
const NEUTRAL = { light: "#b9c2cd", dark: "#4b5666" };
const SHAPES = [["circle", "diamond"], ["square", "star"]];
function theme() { return isDark() ? "dark" : "light"; }
function colourOf(paint, code) {
  const mode = theme(), role = (paint.roles || [])[code];
  if (role) return ROLES[mode][role];
  if (code === paint.rest || code === paint.none) return NEUTRAL[mode];
  return NAMED[mode][code % NAMED[mode].length];
}
function shapeOf(paint, code, generated) {
  const row = (paint.roles || [])[code] || code === paint.rest || code === paint.none ? 0 : Math.floor(code / NAMED.light.length) % 2;
  return SHAPES[row][generated ? 1 : 0];
}
function ramp() { return SCALES[theme()].map((colour, i, all) => [i / (all.length - 1), colour]); }
