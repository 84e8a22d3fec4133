// Thumbnails with a focus and a selection. grid.js and curate.js say where they stand and what the keys do.
const state = { ids: [], focus: 0, selected: new Set(), anchor: 0 };
const SIGNS = { accepted: "✓", rejected: "✕", flagged: "⚑" };
function short(text, size) { text = String(text || ""); return text.length > size ? text.slice(0, size) + " …" : text; }
function chosen() {
  if (state.selected.size) return state.ids.filter((id) => state.selected.has(id));
  return state.ids.length ? [state.ids[state.focus]] : [];
}
function cardNode(item, index) {
  const marks = [], name = short(item.t, 300), reads = [name];
  if (SIGNS[item.v]) { marks.push({ t: "span", c: "mark mark-" + item.v, x: SIGNS[item.v], a: { title: item.v } }); reads.push(item.v); }
  if (item.b === "quarantined") { marks.push({ t: "span", c: "mark mark-quarantined", x: "?", a: { title: "quarantined" } }); reads.push("quarantined"); }
  if (item.r) { marks.push({ t: "span", c: "mark mark-rating", x: "★".repeat(item.r) }); reads.push(item.r + " stars"); }
  if (item.g && item.g.length) marks.push({ t: "span", c: "mark mark-tags", x: "#" + item.g.length, a: { title: short(item.g.join(", "), 300) } });
  const lines = [{ t: "span", c: "card-title", x: name }];
  if (item.s) { lines.push({ t: "span", c: "card-sub " + (item.k || ""), x: short(item.s, 300) }); reads.push(short(item.s, 100)); }
  const kids = [{ t: "img", c: "card-img", a: { src: "thumb:" + item.id, alt: "" } }, { t: "span", c: "card-marks", k: marks },
    { t: "span", c: "card-text", k: lines }];
  if (item.p !== undefined && item.p !== null) kids.push({ t: "span", c: "card-bar", w: item.p + "%", k: [{ t: "span", c: "card-fill" }], a: { title: item.pt || "" } });
  const cls = ["card", item.k || "", item.v ? "v-" + item.v : "", state.selected.has(item.id) ? "is-selected" : "",
    index === state.focus ? "is-focus" : ""].join(" ");
  return { t: "div", c: cls, k: kids, key: item.id, a: { role: "option", title: short(item.h || item.t, 600), "aria-label": reads.join(", ") } };
}
// The listbox with its options; what assistive technology needs beyond the nodes is set here.
function drawCards(box, items, empty, label) {
  const kids = items.map(cardNode), options = items.length > 0;
  if (!options) kids.push({ t: "div", c: "empty", k: (empty || []).map((x, i) => ({ t: i ? "p" : "b", x })) });
  patch(box, { c: "ltg-grid" + (options ? "" : " is-empty"), k: kids, a: { tabindex: "0", role: options ? "listbox" : "group", "aria-label": label || "Samples" } }, () => {});
  if (options) box.setAttribute("aria-multiselectable", "true"); else box.removeAttribute("aria-multiselectable");
  box.removeAttribute("aria-activedescendant");
  if (options) box.querySelectorAll(".card").forEach((card, index) => {
    card.setAttribute("aria-selected", String(state.selected.has(state.ids[index]) || (index === state.focus && !state.selected.size)));
    card.id = (element.id || "grid") + "-" + index;
    if (index === state.focus) box.setAttribute("aria-activedescendant", card.id);
  });
}
function columns(box) {
  const cards = box.querySelectorAll(".card");
  if (cards.length < 2) return 1;
  const top = cards[0].offsetTop;
  let count = 0;
  while (count < cards.length && cards[count].offsetTop === top) count += 1;
  return count;
}
function inRange(index) { return Math.min(state.ids.length - 1, Math.max(0, index)); }
function selectRange() {
  const [low, high] = [Math.min(state.anchor, state.focus), Math.max(state.anchor, state.focus)];
  state.selected = new Set(state.ids.slice(low, high + 1));
}
function focusOn(index, extend) {
  state.focus = inRange(index);
  if (extend) selectRange(); else { state.anchor = state.focus; state.selected.clear(); }
}
// A click: plain, with Shift a range, with Ctrl one more or less.
function clickCard(index, event) {
  state.focus = index;
  if (event.shiftKey) selectRange();
  else if (event.ctrlKey || event.metaKey) toggle(index);
  else { state.selected.clear(); state.anchor = index; }
}
function toggle(index) {
  const id = state.ids[index];
  if (state.selected.has(id)) state.selected.delete(id); else state.selected.add(id);
  state.anchor = index;
}
// Where a movement key leads; null for every other key.
function target(key, box) {
  const across = key === "arrowdown" || key === "arrowup" || key === "pagedown" || key === "pageup" ? columns(box) : 1;
  const rows = key.startsWith("page") ? Math.max(1, Math.floor(box.clientHeight / ((box.querySelector(".card") || box).offsetHeight + 10))) : 1;
  const steps = { arrowright: 1, arrowleft: -1, arrowdown: across, arrowup: -across, pagedown: across * rows, pageup: -across * rows,
    home: -state.ids.length, end: state.ids.length };
  return key in steps ? inRange(state.focus + steps[key]) : null;
}
function intoView(box) {
  const card = box.querySelectorAll(".card")[state.focus];
  if (card) card.scrollIntoView({ block: "nearest" });
}
