// Decide by key: thumbnails, the sample in focus beside them, or alone and large. What is decided shows at once;
// the server is told in order, one parcel at a time, and its answer says what is really there.
const root = element.querySelector(".ltg-curate");
const KEYS = { a: "accepted", p: "accepted", x: "rejected", u: "undecided", f: "flagged" };
const now = { items: new Map(), value: {}, clock: 0, progress: [0, 0], tally: {}, undo: "", redo: "", tags: [], notice: "", known: null, turning: null };
const parcel = { waiting: [], flying: null, number: 0, timer: 0, late: false };
function reviewing() { return now.value.mode === "review"; }
function current() { return now.items.get(state.ids[state.focus]); }
function verdictOf(item) { return item.v || "undecided"; }
function box(cls, tag) { const made = document.createElement(tag || "div"); made.className = cls; return made; }
const bar = root.appendChild(box("curate-bar")), notice = root.appendChild(box("curate-notice"));
const main = root.appendChild(box("curate-main"));
const list = main.appendChild(box("ltg-grid")), side = main.appendChild(box("curate-side"));
const face = side.appendChild(box("curate-face")), editor = side.appendChild(box("curate-editor")), facts = side.appendChild(box("curate-facts"));
notice.setAttribute("role", "status");
const place = (sent() || {}).mode === "review" ? "review" : "curate";
side.id = place + "-panel";

// --- what is known ---------------------------------------------------------------------------------------
function arrive() {
  const value = sent() || {};
  const old = state.ids.join(), at = state.ids[state.focus];
  // What was drawn before a decision and comes after its answer must not take it back.
  const stale = "clock" in value && value.clock < now.clock, known = now.items;
  now.value = value;
  now.items = new Map((value.items || []).map((item) => [item.id, Object.assign({}, item, stale ? known.get(item.id) : null)]));
  state.ids = (value.items || []).map((item) => item.id);
  for (const name of ["clock", "progress", "tally", "undo", "redo", "tags"]) if (name in value && !stale) now[name] = value[name];
  for (const step of unsaved()) apply(step, true);
  if (old !== state.ids.join()) {
    const wanted = state.ids.indexOf(value.focus || at);
    state.selected = new Set(Array.from(state.selected).filter((id) => now.items.has(id)));
    const open = state.ids.findIndex((id) => verdictOf(now.items.get(id)) === "undecided");
    state.focus = state.anchor = wanted >= 0 ? wanted : Math.max(0, value.first ? open : 0);
    list.scrollTop = 0;
  } else if (state.ids.includes(value.focus)) state.focus = state.anchor = state.ids.indexOf(value.focus);
  draw();
  if (value.focus) intoView(list);
  if (large.open && !state.ids.length) large.close();
}
function learn() {
  const news = props.patch;
  if (!news || news === now.known) return;
  now.known = news;
  if (parcel.flying && news.ack >= parcel.flying.number) { clearTimeout(parcel.timer); parcel.flying = null; parcel.late = false; }
  for (const name of ["clock", "progress", "tally", "undo", "redo", "tags"]) if (name in news) now[name] = news[name];
  for (const [id, fields] of Object.entries(news.items || {})) if (now.items.has(id)) {
    if (fields) Object.assign(now.items.get(id), fields); else forget(id);
  }
  for (const step of unsaved()) apply(step, true);
  if (news.notice) say(news.notice);
  const wanted = state.ids.indexOf(news.focus || "");
  if (wanted >= 0 && !unsaved().length) { state.focus = state.anchor = wanted; intoView(list); }
  draw();
  send();
  if (unsaved().length) return;
  settle();
  if (now.turning) turn(now.turning);
}
function forget(id) { now.items.delete(id); state.selected.delete(id); state.ids = state.ids.filter((one) => one !== id); state.focus = inRange(state.focus); }
function settle() { clearTimeout(root._settle); root._settle = setTimeout(() => trigger("settle", { ids: state.ids }), 500); }

// --- decisions -------------------------------------------------------------------------------------------
function unsaved() { return (parcel.flying ? parcel.flying.steps : []).concat(parcel.waiting); }
function apply(step, count) {
  for (const id of step.ids || []) {
    const item = now.items.get(id);
    if (!item) continue;
    const before = verdictOf(item) !== "undecided";
    if (step.action === "verdict") item.v = step.value;
    else if (step.action === "rate") item.r = step.value;
    else if (step.action === "note") item.n = step.value;
    else if (step.action === "tag") { if (!item.g.includes(step.value)) item.g = item.g.concat(step.value).sort(); }
    else if (step.action === "untag") item.g = item.g.filter((tag) => tag !== step.value);
    if (count) now.progress = [now.progress[0] + (verdictOf(item) !== "undecided") - before, now.progress[1]];
  }
}
function act(action, value, ids) {
  const step = { action, value, ids: ids || (action === "undo" || action === "redo" ? [] : large.open ? [state.ids[state.focus]] : chosen()) };
  if (action !== "undo" && action !== "redo" && !step.ids.filter(Boolean).length) return;
  say("");
  apply(step, true);
  parcel.waiting.push(step);
  send();
  const on = action === "verdict" && value !== "undecided" && (large.open || state.selected.size < 2);
  if (on) nextOpen(); else draw();
}
function send() {
  if (parcel.flying || !parcel.waiting.length) return;
  parcel.flying = { number: parcel.number += 1, steps: parcel.waiting.splice(0, 50) };
  post();
}
function post() {
  trigger("decide", { number: parcel.flying.number, steps: parcel.flying.steps, seen: now.clock, shown: state.ids });
  clearTimeout(parcel.timer);
  parcel.timer = setTimeout(() => { parcel.late = true; draw(); }, 8000);
}
// To the next undecided one, after this one first, then from the beginning; else to the next page.
function nextOpen() {
  const order = state.ids.slice(state.focus + 1).concat(state.ids.slice(0, state.focus));
  const id = order.find((one) => verdictOf(now.items.get(one)) === "undecided");
  if (id) moveTo(state.ids.indexOf(id), false);
  else if (now.value.more) { say("This page is decided; here is the next one."); turn("next"); draw(); }
  else { say(reviewing() ? "Every image has an answer." : "Everything here is decided."); draw(); }
}
// What is decided is saved before the page is turned: the server counts from there.
function turn(to) {
  saveNote();
  now.turning = unsaved().length ? to : null;
  if (!now.turning) trigger("turn", { to, shown: state.ids });
}
function moveTo(index, extend) {
  if (!state.ids.length) return;
  saveNote();
  focusOn(index, extend);
  draw();
  intoView(list);
  here();
}
// The address names the sample in focus; a review is nobody else's.
function here() { if (!reviewing() && window.longtailHere) window.longtailHere("curate.sample", state.ids[state.focus]); }
function say(text) { now.notice = text; }

// --- drawing ---------------------------------------------------------------------------------------------
function button(text, name, payload, extra) { return { t: "button", c: (extra && extra.c) || "", x: text, act: [name, payload || {}], a: Object.assign({ type: "button" }, (extra && extra.a) || {}) }; }
function onAct(name, payload) {
  if (name === "do") act(payload.action, payload.value);
  else if (name === "turn") turn(payload.to);
  else if (name === "help") showHelp();
  else if (name === "large") showLarge();
  else if (name === "close") large.close();
  else if (name === "go") moveTo(state.focus + payload.by, false);
  else if (name === "again") { parcel.late = false; if (parcel.flying) post(); draw(); }
  else if (name === "none") { state.selected.clear(); draw(); }
}
function drawBar() {
  const value = now.value, total = value.total || 0, from = value.offset || 0, saving = unsaved().length;
  const where = total > state.ids.length ? (from + 1) + "–" + (from + state.ids.length) + " of " + total.toLocaleString("en") : "";
  const tally = ["accepted", "rejected", "flagged"].filter((name) => name in now.tally).map((name) => now.tally[name].toLocaleString("en") + " " + name).join(", ");
  const kids = [{ t: "b", x: progressText() }, { t: "div", c: "bar", w: share() + "%", k: [{ t: "div", c: "bar-fill" }] }];
  if (tally) kids.push({ t: "span", c: "soft", x: "in all " + tally });
  kids.push({ t: "span", c: "soft saving" + (parcel.late ? " is-late" : ""), x: parcel.late ? saving + " not saved yet: the server does not answer" : saving ? "saving …" : "" });
  if (parcel.late) kids.push(button("Try again", "again", {}, { c: "link" }));
  const tools = [{ t: "span", c: "soft where", x: where }];
  if (where) tools.push(button("←", "turn", { to: "previous" }, { a: Object.assign({ "aria-label": "Previous page" }, from ? {} : { disabled: "disabled" }) }),
    button("→", "turn", { to: "next" }, { a: Object.assign({ "aria-label": "Next page" }, value.more ? {} : { disabled: "disabled" }) }));
  tools.push(button("Undo", "do", { action: "undo" }, { c: "undo", a: Object.assign({ title: now.undo ? "Undo: " + short(now.undo, 200) : "Nothing to undo" }, now.undo || saving ? {} : { disabled: "disabled" }) }),
    button("Redo", "do", { action: "redo" }, { c: "redo", a: Object.assign({ title: now.redo ? "Redo: " + short(now.redo, 200) : "Nothing to redo" }, now.redo || saving ? {} : { disabled: "disabled" }) }),
    button("Large", "large", {}, { a: Object.assign({ title: "One image at a time (Enter)" }, state.ids.length ? {} : { disabled: "disabled" }) }),
    button("?", "help", {}, { a: { title: "All keys", "aria-label": "All keys" } }));
  patch(bar, { c: "curate-bar", k: [{ t: "div", c: "count", k: kids }, { t: "div", c: "tools", k: tools }] }, onAct);
  notice.textContent = large.open ? "" : now.notice;
}
function progressText() { return now.progress[0].toLocaleString("en") + " of " + now.progress[1].toLocaleString("en") + (reviewing() ? " answered" : " decided"); }
function share() { return now.progress[1] ? (100 * now.progress[0] / now.progress[1]).toFixed(1) : 0; }
const CHOICES = [["accepted", "Accept", "P"], ["rejected", "Reject", "X"], ["flagged", "Flag", "F"], ["undecided", "Undecided", "U"]];
function choiceNodes(items) {
  return { t: "div", c: "choices", k: CHOICES.map(([value, text, key]) => ({ t: "button", c: "choice choice-" + value + (items.every((item) => verdictOf(item) === value) ? " is-on" : ""),
    act: ["do", { action: "verdict", value }], k: [{ t: "span", x: reviewing() && value === "undecided" ? "No answer" : text }, { t: "kbd", x: key }],
    a: { type: "button", "aria-pressed": String(items.every((item) => verdictOf(item) === value)) } })) };
}
function factNodes(item) {
  const rows = [[item.from === "generated" ? "Asked for" : "Label", item.t], ["Prediction", item.said], ["Why", item.why], ["Prompt", item.prompt], ["Split", item.split]];
  return rows.filter((row) => row[1]).map(([name, text]) => ({ t: "div", c: "fact", k: [{ t: "span", c: "fact-name", x: name }, long(text)] }));
}
// Cut where it is very long; the whole unfolds.
function long(text) {
  text = String(text);
  if (text.length <= 240) return { t: "span", c: "fact-value", x: text };
  return { t: "details", c: "fact-value unfold", k: [{ t: "summary", x: short(text, 200) }, { t: "span", x: text.slice(200) }] };
}
function badgeNodes(item) {
  const marks = [{ t: "span", c: "badge badge-" + verdictOf(item), x: verdictOf(item) }];
  if (item.b) marks.push({ t: "span", c: "badge badge-" + item.b, x: item.b });
  return { t: "div", c: "badges", k: marks };
}
function companyNodes(item) {
  const all = [["twin", "same seed, unguided"], ["near", item.source ? "made from" : "nearest real"]];
  const shown = all.filter(([name]) => item[name]).map(([name, text]) => ({ t: "figure", c: "frame", k: [
    { t: "img", a: { src: (large.open ? "image:" : "thumb:") + item[name], alt: text } }, { t: "figcaption", k: [{ t: "span", x: text }] }] }));
  return shown.length ? { t: "div", c: "company", k: shown } : { t: "div", c: "company is-none" };
}
function drawSide() {
  const picked = chosen().map((id) => now.items.get(id)).filter(Boolean), item = current();
  side.hidden = !item;
  if (!item) return;
  if (picked.length > 1) {
    patch(face, { c: "curate-face", k: [{ t: "div", c: "picked", k: [{ t: "b", x: picked.length + " selected" }, button("Clear", "none", {}, { c: "link" })] }, choiceNodes(picked)] }, onAct);
    patch(facts, { c: "curate-facts", k: [{ t: "p", c: "soft", x: "Everything here acts on the selection, and the selection stays." }] }, onAct);
  } else {
    patch(face, { c: "curate-face", k: [{ t: "div", c: "hero", k: [{ t: "img", c: "picture", a: { src: "image:" + item.id, alt: short(item.t, 200) } }, companyNodes(item)] },
      reviewing() ? { t: "div", c: "badges is-none" } : badgeNodes(item), choiceNodes([item])] }, onAct);
    patch(facts, { c: "curate-facts facts", k: factNodes(item) }, onAct);
  }
  drawEditor(large.open ? [item] : picked);
}
function draw() {
  drawBar();
  drawCards(list, state.ids.map((id) => now.items.get(id)), now.value.empty, now.value.label);
  drawSide();
  if (large.open) drawLarge();
  ahead();
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
// The pictures that come next are fetched before they are needed.
function ahead() {
  for (const step of [1, 2, -1]) {
    const item = now.items.get(state.ids[state.focus + step]);
    if (item) for (const id of [item.id].concat(large.open ? [item.twin, item.near] : [])) if (id) new Image().src = mediaUrl("image:" + id);
  }
}
