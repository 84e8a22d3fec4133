// Stars, tags and the note; the large view; the list of keys; the keys themselves.
const starBox = editor.appendChild(box("stars")), tagBox = editor.appendChild(box("tag-chips")), tagForm = editor.appendChild(box("tag-form"));
const tagInput = tagForm.appendChild(box("text", "input")), noteInput = editor.appendChild(box("text note", "textarea"));
const suggestions = tagForm.appendChild(box("", "datalist"));
suggestions.id = place + "-known-tags";
tagInput.setAttribute("list", suggestions.id);
tagInput.maxLength = 300; noteInput.maxLength = 10000; noteInput.rows = 2;
for (const [input, text] of [[tagInput, "Add a tag (T), several with commas"], [noteInput, "Write a note (N)"]]) { input.placeholder = text; input.setAttribute("aria-label", text); }
tagInput.id = place + "-tag"; noteInput.id = place + "-note";
function drawEditor(items) {
  editor.hidden = reviewing();
  if (reviewing()) return;
  const stars = items.every((item) => item.r === items[0].r) ? items[0].r : 0;
  patch(starBox, { c: "stars", a: { role: "group", "aria-label": "Rating" }, k: [1, 2, 3, 4, 5].map((n) => button(n <= stars ? "★" : "☆", "do", { action: "rate", value: n === stars ? 0 : n },
    { c: "star" + (n <= stars ? " is-on" : ""), a: { "aria-label": n + (n > 1 ? " stars" : " star"), "aria-pressed": String(n <= stars), title: "Key " + n + "; 0 takes them back" } })) }, onAct);
  const counts = new Map();
  for (const item of items) for (const tag of item.g) counts.set(tag, (counts.get(tag) || 0) + 1);
  patch(tagBox, { c: "tag-chips", k: Array.from(counts).sort().map(([tag, n]) => ({ t: "span", c: "chip-tag", key: tag, a: { title: short(tag, 300) }, k: [
    { t: "span", c: "chip-text", x: n < items.length ? tag + " (" + n + ")" : tag },
    { t: "button", c: "chip-off", x: "✕", act: ["do", { action: "untag", value: tag }], a: { type: "button", "aria-label": "Remove the tag " + short(tag, 100) } }] })) }, onAct);
  if (suggestions._tags !== now.tags) suggestions.replaceChildren(...now.tags.slice(0, 500).map((tag) => Object.assign(document.createElement("option"), { value: tag })));
  suggestions._tags = now.tags;
  const who = items.map((item) => item.id).join();
  if (noteInput._who !== who || document.activeElement !== noteInput) {
    noteInput.value = items.every((item) => item.n === items[0].n) ? items[0].n : "";
    noteInput._who = who; noteInput._was = noteInput.value; noteInput._ids = items.map((item) => item.id);
  }
}
function saveNote() {
  if (reviewing() || noteInput._was === undefined || noteInput.value === noteInput._was) return;
  noteInput._was = noteInput.value;
  act("note", noteInput.value, noteInput._ids);
}
function addTags() {
  const wanted = tagInput.value.split(",").map((tag) => tag.trim().split(/\s+/).join(" ")).filter(Boolean);
  tagInput.value = "";
  for (const tag of wanted) { act("tag", tag.slice(0, 100)); if (!now.tags.includes(tag)) now.tags = now.tags.concat(tag).sort(); }
}
function back() { (large.open ? large : list).focus({ preventScroll: true }); }
tagInput.addEventListener("keydown", (event) => {
  if (event.key === "Enter") { addTags(); back(); } else if (event.key === "Escape") { tagInput.value = ""; back(); } else return;
  event.preventDefault(); event.stopPropagation();
});
noteInput.addEventListener("keydown", (event) => {
  if (event.key === "Escape") { noteInput.value = noteInput._was || ""; back(); }
  else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { saveNote(); back(); } else return;
  event.preventDefault(); event.stopPropagation();
});
noteInput.addEventListener("blur", saveNote);

// --- one image, large ------------------------------------------------------------------------------------
const large = root.appendChild(box("ltg-large", "dialog")), help = root.appendChild(box("ltg-keys", "dialog"));
const largeTop = large.appendChild(box("large-top")), largeMain = large.appendChild(box("large-main")), largeSlot = box("large-side");
const largeFace = largeMain.appendChild(box("large-face")), largeInfo = largeSlot.appendChild(box("large-info"));
largeMain.appendChild(largeSlot);
large.tabIndex = -1; large.setAttribute("aria-label", "One image at a time");
function showLarge() {
  if (!state.ids.length || large.open) return;
  state.selected.clear();
  large.showModal(); large.focus();
  largeSlot.appendChild(editor);
  draw();
}
large.addEventListener("close", () => { side.insertBefore(editor, facts); draw(); intoView(list); list.focus({ preventScroll: true }); });
function drawLarge() {
  const item = current();
  if (!item) return;
  patch(largeTop, { c: "large-top", k: [{ t: "b", x: progressText() }, { t: "div", c: "bar", w: share() + "%", k: [{ t: "div", c: "bar-fill" }] },
    { t: "span", c: "soft", x: "image " + (state.focus + 1) + " of " + state.ids.length + " on this page" }, { t: "span", c: "large-notice", x: now.notice, a: { role: "status" } },
    button("?", "help", {}, { a: { title: "All keys", "aria-label": "All keys" } }), button("Close", "close", {}, { a: { title: "Back to the grid (Esc)" } })] }, onAct);
  patch(largeFace, { c: "large-face v-" + verdictOf(item), k: [button("‹", "go", { by: -1 }, { c: "turn-over", a: { "aria-label": "Previous image" } }),
    { t: "img", c: "large-image", a: { src: "image:" + item.id, alt: short(item.t, 200) } }, button("›", "go", { by: 1 }, { c: "turn-over", a: { "aria-label": "Next image" } })] }, onAct);
  patch(largeInfo, { c: "large-info", k: [{ t: "h3", x: short(item.t, 120), a: { title: short(item.t, 2000) } }, reviewing() ? { t: "div", c: "badges is-none" } : badgeNodes(item), companyNodes(item),
    choiceNodes([item]), { t: "div", c: "facts", k: factNodes(item).slice(1) }] }, onAct);
}

// --- keys ------------------------------------------------------------------------------------------------
const LIST = [["← → ↑ ↓", "move"], ["P or A", "accept"], ["X", "reject"], ["F", "flag"], ["U", "undecided"], ["0 – 5", "rating; 0 takes it back"], ["T", "write a tag"], ["N", "write a note"],
  ["Enter", "one image at a time"], ["Space", "select or release"], ["Shift + click, Shift + arrows", "select a range"], ["Ctrl + click", "one more or less"], ["Ctrl + A", "select the page"],
  ["Ctrl + Z", "undo"], ["Shift + Ctrl + Z", "redo"], ["Esc", "back out one level"], ["?", "these keys"]];
const REVIEW = ["0 – 5", "T", "N"];
help.setAttribute("aria-label", "Keys");
function showHelp() {
  if (help.open) { help.close(); return; }
  const rows = LIST.filter((row) => !reviewing() || !REVIEW.includes(row[0])).map(([key, text]) => ({ t: "div", c: "key", k: [{ t: "span", x: text }, { t: "kbd", x: key }] }));
  patch(help, { c: "ltg-keys", k: [{ t: "h3", x: "Keys" }, { t: "div", c: "key-list", k: rows }, { t: "p", c: "soft", x: "On a Mac, Cmd in the place of Ctrl. Keys rest while you write, and in menus." },
    button("Close", "shut", {}, { c: "primary" })] }, () => help.close());
  help.showModal();
}
help.addEventListener("keydown", (event) => { if (event.key === "?") { help.close(); event.preventDefault(); } event.stopPropagation(); });
for (const dialog of [large, help]) dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
// Never while a text field, a menu or another dialog has the focus.
function mine(event) {
  const at = event.target, field = at.closest && at.closest("input, textarea, select, [contenteditable=true], [role=menu], [role=combobox], [role=listbox]:not(.ltg-grid)");
  if (field || help.open || event.altKey || event.isComposing) return false;
  if (large.open) return large.contains(at) || at === document.body;
  if (document.querySelector("dialog[open], [role=dialog][aria-modal=true]")) return false;
  return root.offsetParent !== null;
}
function onKey(event) {
  if (!root.isConnected) { document.removeEventListener("keydown", onKey); return; }
  if (!mine(event)) return;
  const key = event.key.toLowerCase(), command = event.ctrlKey || event.metaKey, onButton = event.target.closest && event.target.closest("button, a, summary");
  // A button outside keeps the keys that buttons and tabs have themselves.
  const outside = event.target !== document.body && !root.contains(event.target);
  if ((onButton && (key === "enter" || key === " ")) || (outside && !command && (key.length > 1 || key === " "))) return;
  let used = true;
  if (command && key === "z") act(event.shiftKey ? "redo" : "undo");
  else if (command && key === "y") act("redo");
  else if (command && key === "a" && !large.open) { state.selected = new Set(state.ids); draw(); }
  else if (command) used = false;
  else if (event.key === "?") showHelp();
  else if (!state.ids.length) used = false;
  else if (large.open && (key === "arrowup" || key === "arrowdown" || key.startsWith("page"))) used = false;
  else if (target(key, list) !== null) moveTo(target(key, list), event.shiftKey && !large.open);
  else if (key === "escape") { if (large.open) large.close(); else if (state.selected.size) { state.selected.clear(); draw(); } else used = false; }
  else if (key === "enter") { if (!large.open) showLarge(); }
  else if (key === " ") { if (!large.open) { toggle(state.focus); draw(); } }
  else if (key in KEYS) act("verdict", KEYS[key]);
  else if (!reviewing() && /^[0-5]$/.test(key)) act("rate", Number(key));
  else if (!reviewing() && key === "t") tagInput.focus();
  else if (!reviewing() && key === "n") noteInput.focus();
  else used = false;
  if (used) { event.preventDefault(); event.stopPropagation(); }
}
document.addEventListener("keydown", onKey);
list.addEventListener("click", (event) => {
  const card = event.target.closest(".card");
  if (!card) return;
  list.focus({ preventScroll: true });
  saveNote();
  clickCard(Array.from(list.querySelectorAll(".card")).indexOf(card), event);
  draw();
  here();
});
list.addEventListener("dblclick", (event) => { if (event.target.closest(".card")) showLarge(); });
watch("value", arrive);
watch("patch", learn);
arrive();
