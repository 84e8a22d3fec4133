// Asks whether there is anything to hear, by a request that costs next to nothing: an event of Gradio's, which makes the browser go through
// the whole page, follows only where there is. What cannot be asked is left to the event, whose failure the page shows.
const asking = element;
let heard = "";
watch("value", () => { heard = props.value ? props.value.heard : ""; });
async function ask() {
  if (!asking.isConnected) return;
  let now = "";
  try {
    const answer = await fetch(new URL("pulse", document.baseURI), { cache: "no-store" });
    if (answer.ok) now = await answer.text();
  } catch (error) { console.debug("no pulse:", error); }
  if (!now || now !== heard) trigger("tick", {});
  setTimeout(ask, document.hidden ? 4000 : 800);
}
document.addEventListener("visibilitychange", function seen() {
  if (!asking.isConnected) document.removeEventListener("visibilitychange", seen);
  else if (!document.hidden) trigger("tick", {});
});
ask();
