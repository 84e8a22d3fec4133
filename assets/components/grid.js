// Thumbnails to look at and to choose from.
const root = element.querySelector(".ltg-grid");
function draw() {
  const value = sent() || {}, items = value.items || [];
  const old = state.ids, at = old[state.focus], picked = Array.from(state.selected);
  state.ids = items.map((item) => item.id);
  if (old.join() !== state.ids.join()) {
    // What was drawn anew by itself does not take back what has been clicked meanwhile.
    const own = Boolean(value.again) && state.ids.includes(at), wanted = own ? at : value.focus;
    state.selected = new Set((own ? picked : value.selected || []).filter((id) => state.ids.includes(id)));
    state.focus = state.anchor = wanted ? Math.max(0, state.ids.indexOf(wanted)) : 0;
    if (!own) root.scrollTop = 0;
  }
  drawCards(root, items, value.empty, value.label);
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
function tellFocus() { if (state.ids.length) trigger("pick", { id: state.ids[state.focus], ids: chosen() }); }
function moveTo(index, extend) {
  if (!state.ids.length) return;
  focusOn(index, extend);
  draw();
  intoView(root);
  clearTimeout(root._tell);
  root._tell = setTimeout(tellFocus, 120);
}
root.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card) return;
  root.focus({ preventScroll: true });
  clickCard(Array.from(root.querySelectorAll(".card")).indexOf(card), event);
  draw();
  tellFocus();
});
root.addEventListener("dblclick", (event) => { if (event.target.closest(".card")) trigger("open", { id: state.ids[state.focus] }); });
root.addEventListener("keydown", (event) => {
  const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey;
  let used = true;
  if (command && key === "a") { state.selected = new Set(state.ids); draw(); tellFocus(); }
  else if (command || event.altKey) used = false;
  else if (target(key, root) !== null) moveTo(target(key, root), event.shiftKey);
  else if (key === "escape" && state.selected.size) { state.selected.clear(); draw(); tellFocus(); }
  else if (key === "enter") { if (state.ids.length) trigger("open", { id: state.ids[state.focus] }); }
  else used = false;
  if (used) { event.preventDefault(); event.stopPropagation(); }
});
watch("value", draw);
draw();
