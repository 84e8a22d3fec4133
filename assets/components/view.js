const root = element.querySelector(".ltg-view");
root.dataset.root = "1";
function onAct(name, payload) { trigger("act", Object.assign({ name }, payload)); }
function draw() {
  const value = props.value;
  patch(root, { c: "ltg-view " + ((value && value.c) || ""), k: value ? [].concat(value.k || []) : [] }, onAct);
  root.dataset.drawn = String((Number(root.dataset.drawn) || 0) + 1);
}
watch("value", draw);
draw();
