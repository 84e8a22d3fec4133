// What the server sent; it comes as text, so that the framework does not watch each field.
let sentText = null, sentValue = null;
function sent() {
  if (props.value !== sentText) { sentText = props.value; sentValue = sentText ? JSON.parse(sentText)[1] : null; }
  return sentValue;
}
// Draws a tree of plain nodes {t: tag, c: class, x: text, a: attributes, k: children, act: [name, payload], w: width}.
// Text goes through textContent and attributes through a short list, so no string of a user can become markup.
const TAGS = new Set(("div span p h2 h3 h4 button img input label table thead tbody tr th td ul li b i small " +
  "details summary figure figcaption section header code kbd em a ol textarea select option iframe").split(" "));
const DRAWN = new Set("svg g path line rect circle text".split(" ")); // of a drawing; they have a namespace of their own
const ATTRS = new Set(("title alt role tabindex colspan min max step value type for id disabled open name " +
  "aria-label aria-live aria-pressed aria-valuenow aria-valuemin aria-valuemax aria-current aria-hidden aria-expanded aria-checked " +
  "scope rows maxlength placeholder " +
  "viewBox preserveAspectRatio d x y x1 x2 y1 y2 cx cy r width height text-anchor").split(" "));
function mediaUrl(source) {
  const match = /^(thumb|image):([A-Za-z0-9_-]{1,64})$/.exec(source);
  if (match) return new URL("media/" + match[1] + "/" + match[2], document.baseURI).href;
  return /^data:image\/(png|webp|jpeg);base64,/.test(source) ? source : "";
}
// Marks that turn the writing direction would show "safe<mark>gnp.exe" as "safeexe.png"; they are shown as what they are.
function plain(text) { return text.replace(/[\u202a-\u202e\u2066-\u2069]/g, "\ufffd"); }
function tagOf(node) { return TAGS.has(node.t) || DRAWN.has(node.t) ? node.t : "div"; }
function make(node, onAct) {
  if (typeof node === "string") return document.createTextNode(node);
  const el = DRAWN.has(node.t) ? document.createElementNS("http://www.w3.org/2000/svg", node.t) : document.createElement(tagOf(node));
  // A field tells its value when it was changed; everything else tells that it was clicked.
  const field = node.t === "select" || node.t === "textarea";
  el.addEventListener(field ? "change" : "click", (event) => {
    if (!el._act) return;
    event.stopPropagation();
    onAct(el._act[0], field ? Object.assign({}, el._act[1], { value: el.value }) : el._act[1] || {}, event);
  });
  if (node.t === "iframe") el.setAttribute("sandbox", "");
  if (node.t === "input") el.addEventListener("input", () => {
    const root = el.closest("[data-root]");
    if (root && el.name) root.style.setProperty("--" + el.name, el.value);
  });
  patch(el, node, onAct);
  return el;
}
function patch(el, node, onAct) {
  const cls = node.c || "";
  if ((el.getAttribute("class") || "") !== cls) el.setAttribute("class", cls);
  const attrs = node.a || {};
  const old = el._attrs || {};
  for (const name of Object.keys(old)) if (!(name in attrs) && name !== "open") el.removeAttribute(name);
  for (const [name, value] of Object.entries(attrs)) {
    if (old[name] === value) continue;
    if (name === "src" && node.t === "iframe") {
      const match = /^report:([A-Za-z0-9-]{1,64})$/.exec(value);
      if (match) el.src = new URL("media/report/" + match[1], document.baseURI).href;
    } else if (name === "src") { const url = mediaUrl(value); if (url) el.src = url; else el.removeAttribute("src"); }
    else if (name === "href") {
      const match = /^download:([A-Za-z0-9._-]{1,120})$/.exec(value);
      const report = /^report:([A-Za-z0-9-]{1,64})$/.exec(value);
      const compared = /^comparison:([A-Za-z0-9-]{1,64})$/.exec(value);
      if (compared) { el.href = new URL("media/comparison/" + compared[1], document.baseURI).href; el.setAttribute("download", compared[1] + ".json"); }
      if (value === "account:") el.href = new URL("account", document.baseURI).href;
      if (report) { el.href = new URL("media/report/" + report[1], document.baseURI).href; el.setAttribute("download", report[1] + ".html"); }
      if (match) { el.href = new URL("media/export/" + match[1] + ".zip", document.baseURI).href; el.setAttribute("download", match[1] + ".zip"); }
    } else if (ATTRS.has(name) && !(name === "type" && value !== "range" && value !== "button")) el.setAttribute(name, value);
  }
  el._attrs = attrs;
  if (node.t === "img" && !el.loading) { el.loading = "lazy"; el.decoding = "async"; }
  el._act = node.act || null;
  if (node.w !== undefined) el.style.setProperty("--w", node.w);
  const children = node.x !== undefined && node.x !== null ? [String(node.x)] : (node.k || []);
  children.forEach((given, i) => {
    const child = typeof given === "string" && el.tagName !== "TEXTAREA" && el.tagName !== "OPTION" ? plain(given) : given;
    const have = el.childNodes[i];
    if (!have) el.appendChild(make(child, onAct));
    else if (typeof child === "string") {
      if (have.nodeType === Node.TEXT_NODE) { if (have.nodeValue !== child) have.nodeValue = child; }
      else el.replaceChild(make(child, onAct), have);
    } else if (have.nodeType === Node.ELEMENT_NODE && have.tagName.toLowerCase() === tagOf(child)
      && (have._key || "") === (child.key || "")) patch(have, child, onAct);
    else el.replaceChild(make(child, onAct), have);
  });
  while (el.childNodes.length > children.length) el.removeChild(el.lastChild);
  // What somebody is writing is not overwritten.
  if ((node.t === "select" || node.t === "textarea") && el !== document.activeElement) el.value = attrs.value || "";
  el._key = node.key || "";
}
