// Asks whether there is anything to hear, by a request that costs next to nothing: an event of Gradio's, which makes the browser go through
// the whole page, follows only where there is. What cannot be asked is left to the event, whose failure the page shows.
const asking = element;
const OFTEN = 800, HIDDEN = 4000, PATIENCE = 10000;
let heard = "", drawn = "", busy = false, asked = 0, gone = 0;
watch("value", () => { ({ heard, tab: drawn } = sent() || { heard: "", tab: "" }); });
function shown() {
  const panel = Array.from(document.querySelectorAll('[role=tabpanel][id^="tab-"]')).find((one) => one.getClientRects().length);
  return panel ? panel.id.slice("tab-".length) : "";
}
async function ask() {
  busy = true;
  asked = performance.now();
  let now = "";
  try {
    const answer = await fetch(new URL("pulse", document.baseURI), { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (answer.ok) now = await answer.text();
  } catch (error) { console.debug("no pulse:", error); }
  busy = false;
  const tab = shown();
  if (!now || now !== heard || tab !== drawn) trigger("tick", { tab });
}
const beat = setInterval(() => {
  gone = asking.isConnected ? 0 : gone + 1;
  if (gone > 50) clearInterval(beat);
  if (!gone && !busy && performance.now() - asked >= (document.hidden ? HIDDEN : OFTEN)) ask();
}, 200);
