// The field for a page, and the keys that turn pages once the first or the last picture of the grid has the focus.
root.addEventListener("keydown", (event) => {
  const field = event.target;
  if (event.key === "Enter" && field.tagName === "INPUT" && field.name === "page") onAct("page", { to: field.value.trim() });
});
function turn(event) {
  if (!root.isConnected) { document.removeEventListener("keydown", turn, true); return; }
  const down = event.key === "PageDown";
  if ((!down && event.key !== "PageUp") || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  const grid = event.target.closest ? event.target.closest(".ltg-grid") : null;
  if (!grid || !root.offsetParent || grid.closest(".tabitem") !== root.closest(".tabitem")) return;
  const cards = grid.querySelectorAll(".card"), end = cards[down ? cards.length - 1 : 0];
  const button = root.querySelector(down ? "button.next" : "button.previous");
  if (!end || !end.classList.contains("is-focus") || !button || button.disabled) return;
  event.preventDefault();
  event.stopPropagation();
  button.click();
}
document.addEventListener("keydown", turn, true); // before the grid, for which these keys move the focus
