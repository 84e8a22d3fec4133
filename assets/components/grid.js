const root = element.querySelector(".ltg-grid");
const state = { ids: [], focus: 0, selected: new Set(), anchor: 0 };
const KEYS = { a: "accepted", p: "accepted", x: "rejected", u: "undecided", f: "flagged" };
function curating() { return props.value && props.value.mode === "curate"; }
function chosen() {
  if (state.selected.size) return state.ids.filter((id) => state.selected.has(id));
  return state.ids.length ? [state.ids[state.focus]] : [];
}
function cardNode(item, index) {
  const marks = [];
  if (item.v && item.v !== "undecided") marks.push({ t: "span", c: "mark mark-" + item.v, x: { accepted: "✓", rejected: "✕", flagged: "⚑" }[item.v] || "" });
  if (item.b === "quarantined") marks.push({ t: "span", c: "mark mark-quarantined", x: "?", a: { title: "quarantined" } });
  if (item.r) marks.push({ t: "span", c: "mark mark-rating", x: "★".repeat(item.r) });
  const lines = [{ t: "span", c: "card-title", x: item.t || "" }];
  if (item.s) lines.push({ t: "span", c: "card-sub " + (item.k || ""), x: item.s });
  const kids = [{ t: "img", c: "card-img", a: { src: "thumb:" + item.id, alt: item.t || "" } }, { t: "span", c: "card-marks", k: marks },
    { t: "span", c: "card-text", k: lines }];
  if (item.p !== undefined && item.p !== null) kids.push({ t: "span", c: "card-bar", w: item.p + "%", k: [{ t: "span", c: "card-fill" }], a: { title: item.pt || "" } });
  const cls = ["card", item.k || "", item.v ? "v-" + item.v : "", state.selected.has(item.id) ? "is-selected" : "",
    index === state.focus ? "is-focus" : ""].join(" ");
  return { t: "div", c: cls, k: kids, key: item.id, a: { role: "option", title: item.h || item.t || "" } };
}
function draw() {
  const value = props.value || {};
  const items = value.items || [];
  const old = state.ids.join();
  state.ids = items.map((item) => item.id);
  if (old !== state.ids.join()) {
    state.selected = new Set((value.selected || []).filter((id) => state.ids.includes(id)));
    const wanted = value.focus ? state.ids.indexOf(value.focus) : 0;
    state.focus = state.anchor = Math.max(0, wanted);
    root.scrollTop = 0;
  }
  const kids = items.map(cardNode);
  if (!items.length) kids.push({ t: "div", c: "empty", k: (value.empty || []).map((x, i) => ({ t: i ? "p" : "b", x })) });
  patch(root, { c: "ltg-grid" + (items.length ? "" : " is-empty"), k: kids, a: { tabindex: "0", role: "listbox", "aria-label": value.label || "Samples" } }, () => {});
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
function columns() {
  const cards = root.querySelectorAll(".card");
  if (cards.length < 2) return 1;
  const top = cards[0].offsetTop;
  let count = 0;
  while (count < cards.length && cards[count].offsetTop === top) count += 1;
  return count;
}
function tellFocus() { if (state.ids.length) trigger("pick", { id: state.ids[state.focus], ids: chosen() }); }
function moveTo(index, extend) {
  if (!state.ids.length) return;
  state.focus = Math.min(state.ids.length - 1, Math.max(0, index));
  if (extend) selectRange(); else { state.anchor = state.focus; state.selected.clear(); }
  draw();
  const card = root.querySelectorAll(".card")[state.focus];
  if (card) card.scrollIntoView({ block: "nearest" });
  clearTimeout(root._tell);
  root._tell = setTimeout(tellFocus, 120);
}
function selectRange() {
  const [low, high] = [Math.min(state.anchor, state.focus), Math.max(state.anchor, state.focus)];
  state.selected = new Set(state.ids.slice(low, high + 1));
}
function decide(action) {
  const ids = chosen();
  if (!ids.length) return;
  trigger("decide", { action, ids, focus: state.ids[state.focus] });
  for (const item of props.value.items) if (ids.includes(item.id)) {
    if (action.startsWith("rate ")) item.r = Number(action[5]); else item.v = action; // shown at once; the server's answer follows
  }
  draw();
  const advance = ["accepted", "rejected", "flagged"].includes(action) && !state.selected.size;
  if (advance && state.focus < state.ids.length - 1) moveTo(state.focus + 1, false);
}
root.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card) return;
  const index = Array.from(root.querySelectorAll(".card")).indexOf(card);
  root.focus({ preventScroll: true });
  state.focus = index;
  if (event.shiftKey) selectRange();
  else if (event.ctrlKey || event.metaKey) {
    const id = state.ids[index];
    if (state.selected.has(id)) state.selected.delete(id); else state.selected.add(id);
    state.anchor = index;
  } else { state.selected.clear(); state.anchor = index; }
  draw();
  tellFocus();
});
root.addEventListener("dblclick", (event) => { if (event.target.closest(".card")) trigger("open", { id: state.ids[state.focus] }); });
root.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase();
  const command = event.ctrlKey || event.metaKey;
  const steps = { arrowright: 1, arrowleft: -1, arrowdown: columns(), arrowup: -columns() };
  let used = true;
  if (command && key === "z" && curating()) trigger("decide", { action: event.shiftKey ? "redo" : "undo", ids: [] });
  else if (command && key === "a") { state.selected = new Set(state.ids); draw(); tellFocus(); }
  else if (command || event.altKey) used = false;
  else if (key in steps) moveTo(state.focus + steps[key], event.shiftKey);
  else if (key === "home") moveTo(0, event.shiftKey);
  else if (key === "end") moveTo(state.ids.length - 1, event.shiftKey);
  else if (key === "escape") { state.selected.clear(); draw(); tellFocus(); }
  else if (key === "enter") trigger("open", { id: state.ids[state.focus] });
  else if (curating() && key in KEYS) decide(KEYS[key]);
  else if (curating() && /^[0-5]$/.test(key)) decide("rate " + key);
  else used = false;
  if (used) { event.preventDefault(); event.stopPropagation(); }
});
watch("value", draw);
draw();
