// Gradio's screen of the first moment counts in every frame, also when it is long gone, for as long as a page is open.
// Nobody sees what its trackers count. Gradio's own scripts keep the function that they find, so this comes before them.
(() => {
  const frame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (act) =>
    /statustracker/.test(new Error().stack) ? setTimeout(() => act(performance.now()), 1000) : frame(act);
})();

// After an event Gradio's script tells everything that the event has read how far the event is, and from then on after
// every other event too: most of what a click costs, and more with each kind of click. It asks the lists of what events
// read whether a part is among them, for streams of which this page has none; these lists say no.
(() => {
  let config;
  Object.defineProperty(window, "gradio_config", {
    configurable: true,
    get: () => config,
    set: (given) => {
      for (const event of (given && given.dependencies) || []) {
        Object.defineProperty(event.inputs, "includes", { value: () => false });
      }
      config = given;
    },
  });
})();
