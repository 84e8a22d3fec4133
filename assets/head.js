// Gradio's screen of the first moment counts in every frame, also when it is long gone, for as long as a page is open.
// Nobody sees what its trackers count. Gradio's own scripts keep the function that they find, so this comes before them.
(() => {
  const frame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (act) =>
    /statustracker/.test(new Error().stack) ? setTimeout(() => act(performance.now()), 1000) : frame(act);
})();
