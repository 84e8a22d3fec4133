// Draws a tree of plain nodes {t: tag, c: class, x: text, a: attributes, k: children, act: [name, payload], w: width}.
// Text goes through textContent and attributes through a short list, so no string of a user can become markup.
const TAGS = new Set(("div span p h2 h3 h4 button img input label table thead tbody tr th td ul li b i small " +
  "details summary figure figcaption section header code kbd em a").split(" "));
const ATTRS = new Set(("title alt role tabindex colspan min max step value type for id disabled open name " +
  "aria-label aria-live aria-pressed aria-valuenow aria-valuemin aria-valuemax").split(" "));
function mediaUrl(source) {
  const match = /^(thumb|image):([A-Za-z0-9_-]{1,64})$/.exec(source);
  if (match) return new URL("media/" + match[1] + "/" + match[2], document.baseURI).href;
  return /^data:image\/(png|webp|jpeg);base64,/.test(source) ? source : "";
}
function make(node, onAct) {
  if (typeof node === "string") return document.createTextNode(node);
  const el = document.createElement(TAGS.has(node.t) ? node.t : "div");
  el.addEventListener("click", (event) => {
    if (!el._act) return;
    event.stopPropagation();
    onAct(el._act[0], el._act[1] || {}, event);
  });
  if (node.t === "input") el.addEventListener("input", () => {
    const root = el.closest("[data-root]");
    if (root && el.name) root.style.setProperty("--" + el.name, el.value);
  });
  patch(el, node, onAct);
  return el;
}
function patch(el, node, onAct) {
  const cls = node.c || "";
  if (el.className !== cls) el.className = cls;
  const attrs = node.a || {};
  const old = el._attrs || {};
  for (const name of Object.keys(old)) if (!(name in attrs) && name !== "open") el.removeAttribute(name);
  for (const [name, value] of Object.entries(attrs)) {
    if (old[name] === value) continue;
    if (name === "src") { const url = mediaUrl(value); if (url) el.src = url; else el.removeAttribute("src"); }
    else if (name === "href") {
      const match = /^download:([A-Za-z0-9._-]{1,120})$/.exec(value);
      if (match) { el.href = new URL("media/export/" + match[1] + ".zip", document.baseURI).href; el.setAttribute("download", match[1] + ".zip"); }
    } else if (ATTRS.has(name) && !(name === "type" && value !== "range" && value !== "button")) el.setAttribute(name, value);
  }
  el._attrs = attrs;
  if (node.t === "img" && !el.loading) { el.loading = "lazy"; el.decoding = "async"; }
  el._act = node.act || null;
  if (node.w !== undefined) el.style.setProperty("--w", node.w);
  const children = node.x !== undefined && node.x !== null ? [String(node.x)] : (node.k || []);
  children.forEach((child, i) => {
    const have = el.childNodes[i];
    if (!have) el.appendChild(make(child, onAct));
    else if (typeof child === "string") {
      if (have.nodeType === Node.TEXT_NODE) { if (have.nodeValue !== child) have.nodeValue = child; }
      else el.replaceChild(make(child, onAct), have);
    } else if (have.nodeType === Node.ELEMENT_NODE && have.tagName.toLowerCase() === (TAGS.has(child.t) ? child.t : "div")
      && (have._key || "") === (child.key || "")) patch(have, child, onAct);
    else el.replaceChild(make(child, onAct), have);
  });
  while (el.childNodes.length > children.length) el.removeChild(el.lastChild);
  el._key = node.key || "";
}
