// Plotly comes from this server, and only where something is drawn with it.
let loading = null;
function plotly() {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  if (!loading) loading = new Promise((done, fail) => {
    const script = document.createElement("script");
    script.src = new URL("vendor/plotly.min.js", document.baseURI).href;
    script.onload = () => done(window.Plotly);
    script.onerror = () => fail(new Error("The plotting script did not load. Reload the page."));
    document.head.appendChild(script);
  });
  return loading;
}
