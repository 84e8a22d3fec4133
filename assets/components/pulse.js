// Asks whether there is anything to hear, by a request that costs next to nothing: an event of Gradio's, which makes the browser go through
// the whole page, follows only where there is. What cannot be asked is left to the event, whose failure the page shows.
// Gradio's script leaves an answer at the server when it comes while the stream of answers is being closed; the next event fetches it. So
// an event without an answer is sent again, and one more follows where the page asked something after the last stream had been opened.
const asking = element;
const OFTEN = 800, HIDDEN = 4000, PATIENCE = 10000, AGAIN = 5000, LEFT = 1500;
let heard = "", drawn = "", busy = false, asked = 0, gone = 0, told = 0, joined = 0, served = 0;
watch("value", () => { told = 0; served = performance.now(); ({ heard, tab: drawn } = sent() || { heard: "", tab: "" }); });
const requests = new PerformanceObserver((list) => {
  for (const one of list.getEntries()) {
    if (one.name.includes("/queue/join")) joined = Math.max(joined, one.responseEnd);
    else if (one.name.includes("/queue/data")) served = Math.max(served, one.startTime);
  }
});
requests.observe({ type: "resource" });
function shown() {
  const panel = Array.from(document.querySelectorAll('[role=tabpanel][id^="tab-"]')).find((one) => one.getClientRects().length);
  return panel ? panel.id.slice("tab-".length) : "";
}
function tell(tab) {
  if (told && performance.now() - told < AGAIN) return;
  told = performance.now();
  trigger("tick", { tab, heard });
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
  const tab = shown(), left = joined > served && performance.now() - joined > LEFT;
  if (left || !now || now !== heard || tab !== drawn) tell(tab);
}
const beat = setInterval(() => {
  gone = asking.isConnected ? 0 : gone + 1;
  if (gone > 50) {
    clearInterval(beat);
    requests.disconnect();
  }
  if (!gone && !busy && performance.now() - asked >= (document.hidden ? HIDDEN : OFTEN)) ask();
}, 200);
