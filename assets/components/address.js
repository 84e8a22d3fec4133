// The address bar: the server says what it should show, and is told what it shows when a page is opened or on back and forward.
const listening = element;
// Until the page shows what the address says, no tab that it shows on the way is written into the address.
let asked = 0, answered = 0, since = 0, meant = null;
function waiting() { return answered < asked && performance.now() - since < 15000; }
function arrived() {
  if (!listening.isConnected) return window.removeEventListener("popstate", arrived);
  asked += 1; since = performance.now(); meant = null;
  hold(new URLSearchParams(location.search));
  trigger("go", { query: location.search, number: asked });
}
// The last tab that somebody clicks meanwhile wins, also one in the menu of those that a narrow window has no room for.
function tabAt(target) {
  const one = target && target.closest && target.closest('[role=tab][id^="tab-"], .overflow-dropdown button');
  const tabs = one && one.closest(".tabs");
  return tabs && tabs.id === "tabs" ? one : null;
}
document.addEventListener("click", function clicked(event) {
  if (!listening.isConnected) return document.removeEventListener("click", clicked, true);
  const tab = event.isTrusted && tabAt(event.target);
  if (tab && (answered < asked || meant)) { answered = asked; meant = tab.textContent.trim(); }
}, true);
function tabNamed(title) {
  const all = document.querySelectorAll('#tabs [role=tab][id^="tab-"], #tabs .overflow-dropdown button');
  return Array.from(all).find((one) => tabAt(one) && one.textContent.trim() === title);
}
function isShown(tab) { return tab.getAttribute("aria-selected") === "true" || tab.classList.contains("selected"); }
function settled(number) {
  // An answer that comes after that to a later question has changed the page back.
  if (number < answered) { arrived(); return; }
  answered = number;
  const title = meant;
  meant = null;
  if (title) setTimeout(() => { const tab = tabNamed(title); if (tab && !isShown(tab)) tab.click(); }, 60);
}
// "coverage.by" belongs to the tab before the dot, "meta.…" and names without a dot to Browse. Browse's stay in the address whatever
// is shown; what another tab keeps leaves with it and comes back with it.
function owner(name) { const at = name.indexOf("."); return at < 0 || name.startsWith("meta.") ? "browse" : name.slice(0, at); }
// Without a tab the address means Browse where it names a view, and the start page where it names nothing.
function viewed(name) { return name !== "tab" && name !== "key" && !name.startsWith("__"); }
function names(params) { return Array.from(params.keys()).some(viewed); }
function shown(params) { return params.get("tab") || (names(params) ? "browse" : "start"); }
const held = new Map();
function of(tab, params) { return Object.fromEntries(Array.from(params).filter(([name]) => viewed(name) && owner(name) === tab)); }
function hold(params) { const tab = shown(params); if (tab !== "browse") held.set(tab, of(tab, params)); }
function show(set, replace, owns) {
  const url = new URL(location.href), params = url.searchParams;
  const before = shown(params), tab = "tab" in set ? set.tab : before;
  for (const name of Array.from(params.keys())) {
    const left = viewed(name) && owner(name) !== "browse" && owner(name) !== tab;
    if (name === "tab" || left || (owns(name) && !(name in set))) params.delete(name);
  }
  const kept = tab !== before && !Object.keys(set).some((name) => owner(name) === tab) ? held.get(tab) : {};
  for (const [name, value] of Object.entries({ ...kept, ...set })) if (name !== "tab") params.set(name, value);
  if (tab !== shown(params)) params.set("tab", tab);
  hold(params);
  if (url.search === location.search) return;
  history[replace ? "replaceState" : "pushState"](history.state, "", url);
}
// What has the focus goes into the address without a step to go back to; of many in a hurry the last one.
let timer = 0;
window.longtailHere = (name, value) => {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (listening.isConnected && !waiting() && shown(new URLSearchParams(location.search)) === owner(name)) show({ [name]: value }, true, (one) => one === name);
  }, 250);
};
// The word that a tab was selected may come late, when another is shown already: what is shown counts.
window.longtailTab = (tab) => setTimeout(() => {
  const panel = document.getElementById(`tab-${tab}`);
  if (waiting() || !panel || !panel.getClientRects().length) return;
  if (shown(new URLSearchParams(location.search)) !== tab) show({ tab }, false, () => false);
}, 50);
watch("value", () => {
  const value = sent();
  if (value && value.answered) settled(value.answered);
  if (!value || !value.set) return;
  // What a tab says while the page is on its way to another address is overtaken: the answer sets that tab too.
  if (!value.go && waiting()) return;
  const tab = value.of || "browse", own = (name) => viewed(name) && owner(name) === tab;
  if (tab !== "browse" && !("tab" in value.set) && shown(new URLSearchParams(location.search)) !== tab) { held.set(tab, value.set); return; }
  // A jump from another tab leads to Browse unless it says where: everything follows the address, as if it had been opened.
  show(value.go ? { tab: "browse", ...value.set } : value.set, value.replace, value.only ? (name) => value.only.includes(name) : own);
  if (value.go) arrived();
});
window.addEventListener("popstate", arrived);
arrived();
