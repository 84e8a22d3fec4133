// Asks whether there is anything to hear, by a request that costs next to nothing: an event of Gradio's, which makes the browser go through
// the whole page, follows only where there is. What cannot be asked is left to the event, whose failure the page shows.
// Gradio's script leaves an answer at the server when it comes while the stream of answers is being closed; the next event fetches it. So
// an event without an answer is sent again, and one more follows when somebody has clicked or typed and then does no more.
const asking = element;
const OFTEN = 800, HIDDEN = 4000, PATIENCE = 10000, AGAIN = 5000, AFTER = 2500;
let heard = "", drawn = "", busy = false, asked = 0, gone = 0, told = 0, acted = 0;
watch("value", () => { told = 0; ({ heard, tab: drawn } = sent() || { heard: "", tab: "" }); });
function shown() {
  const panel = Array.from(document.querySelectorAll('[role=tabpanel][id^="tab-"]')).find((one) => one.getClientRects().length);
  return panel ? panel.id.slice("tab-".length) : "";
}
function tell(tab) {
  if (told && performance.now() - told < AGAIN) return;
  told = performance.now();
  if (told - acted > AFTER) acted = 0;
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
  const tab = shown(), rests = acted && performance.now() - acted > AFTER;
  if (rests || !now || now !== heard || tab !== drawn) tell(tab);
}
function act() { acted = performance.now(); }
for (const name of ["click", "keyup", "change"]) document.addEventListener(name, act, true);
const beat = setInterval(() => {
  gone = asking.isConnected ? 0 : gone + 1;
  if (gone > 50) {
    clearInterval(beat);
    for (const name of ["click", "keyup", "change"]) document.removeEventListener(name, act, true);
  }
  if (!gone && !busy && performance.now() - asked >= (document.hidden ? HIDDEN : OFTEN)) ask();
}, 200);
