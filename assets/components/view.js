const root = element.querySelector(".ltg-view");
root.dataset.root = "1";
function onAct(name, payload) {
  if (name === "result") root.querySelectorAll("details.popover[open]").forEach(close);
  trigger("act", Object.assign({ name }, payload));
}
function draw() {
  const value = sent();
  patch(root, { c: "ltg-view " + ((value && value.c) || ""), k: value ? [].concat(value.k || []) : [] }, onAct);
  // What was opened takes the focus once, so that the keyboard goes on from there.
  const into = root.querySelector(".takes-focus");
  if (into && into._key !== root._focused) into.focus();
  root._focused = into ? into._key : "";
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
// A panel that hangs from a button closes on Escape, on a click beside it, and when one of its buttons leads elsewhere; an
// enlarged picture goes back on Escape.
function close(one) { one.open = false; }
document.addEventListener("pointerdown", (event) => {
  for (const one of root.querySelectorAll("details.popover[open]")) if (!one.contains(event.target)) close(one);
});
root.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const one = root.querySelector("details.popover[open]");
  const back = one ? null : root.querySelector(".back");
  if (!one && !back) return;
  event.stopPropagation();
  if (back) { back.click(); return; }
  close(one);
  one.querySelector("summary").focus();
});
watch("value", draw);
draw();
