// The address bar: the server says what it should show, and is told what it shows when a page is opened or on back and forward.
const listening = element;
function arrived() {
  if (listening.isConnected) trigger("go", { query: location.search });
  else window.removeEventListener("popstate", arrived);
}
function show(set, replace, owns) {
  const url = new URL(location.href);
  for (const name of Array.from(url.searchParams.keys())) if (owns(name) && !(name in set)) url.searchParams.delete(name);
  for (const [name, value] of Object.entries(set)) url.searchParams.set(name, value);
  if (url.search === location.search) return;
  history[replace ? "replaceState" : "pushState"](history.state, "", url);
}
window.longtailTab = (tab) => {
  const now = new URLSearchParams(location.search).get("tab") || "browse";
  if (now !== tab) show(tab === "browse" ? {} : { tab }, false, (name) => name === "tab");
};
watch("value", () => {
  const value = props.value;
  if (value && value.set) show(value.set, value.replace, (name) => name !== "tab" && name !== "key");
});
window.addEventListener("popstate", arrived);
arrived();
