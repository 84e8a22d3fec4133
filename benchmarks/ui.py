"""``make bench-ui``: what a person waits for, in the real browser on the real server, 100,000 samples in the workspace.

Each figure is taken inside the page: from the click until what it opens is painted, with ``performance.now`` and the frames
after the grid has been drawn; once more when all thumbnails that are in sight have been loaded as well.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import RESULTS, ROOT, commit, machine, write_json

CHROMIUM = "/usr/bin/chromium"
# Quiet, and unable to reach anything but this machine.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
GRID = "#browse-grid .ltg-grid"
# Does something, waits until the element has drawn itself anew, for two frames, and for the pictures in sight.
_TIMED = """async ([act, root]) => {
  const box = document.querySelector(root), before = box ? box.dataset.drawn : "";
  const frame = () => new Promise((done) => requestAnimationFrame(() => done()));
  const start = performance.now();
  await (0, eval)(act)();
  const fresh = () => { const now = document.querySelector(root); return now && now.offsetParent && now.dataset.drawn !== before; };
  while (!fresh()) { if (performance.now() - start > 60000) throw new Error("nothing was drawn within a minute"); await frame(); }
  await frame(); await frame();
  const drawn = performance.now() - start;
  const seen = () => Array.from(document.querySelectorAll(root + " img")).filter((image) => {
    const at = image.getBoundingClientRect();
    return at.bottom > 0 && at.top < innerHeight && at.width > 0;
  });
  while (!seen().every((image) => image.complete)) await frame();
  await frame(); await frame();
  return { drawn, seen: performance.now() - start, cards: document.querySelectorAll(root + " .card").length };
}"""
_CLICK = "() => {{ const found = Array.from(document.querySelectorAll({css!r})).filter((one) => one.offsetParent && one.textContent.trim().startsWith({text!r})); if (!found.length) throw new Error('no ' + {css!r} + ' ' + {text!r}); found[0].click(); }}"
Result = dict[str, Any]


def click(css: str, text: str = "") -> str:
    """A script that clicks the first visible element of a kind that begins with a text."""
    return _CLICK.format(css=css, text=text)


class Page:
    """A page of the browser and the measurements on it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        page.set_default_timeout(180_000)

    def open(self, query: str, ready: str) -> None:
        """Go to an address and wait for something to be visible."""
        self.page.goto(f"{self.address}/{query}")
        self.page.locator(ready).first.wait_for(state="visible")
        self.settle()

    def settle(self) -> None:
        """Wait until nothing has been drawn for a second."""
        script = "() => Array.from(document.querySelectorAll('[data-drawn]')).map((one) => one.dataset.drawn).join()"
        before, quiet = "", 0
        while quiet < 4:
            self.page.wait_for_timeout(250)
            now = self.page.evaluate(script)
            quiet, before = (quiet + 1 if now == before else 0), now

    def timed(self, act: str, root: str = GRID) -> Result:
        """Milliseconds of one action."""
        found: Result = self.page.evaluate(_TIMED, [act, root])
        self.page.wait_for_timeout(
            400
        )  # what follows by itself (the panel, the address) is not the next one's
        return found

    def rounds(self, acts: list[str], repeats: int, root: str = GRID) -> list[Result]:
        """The actions in turn, ``repeats`` of each after one round that warms up."""
        found = [self.timed(act, root) for _ in range(repeats + 1) for act in acts]
        return found[len(acts) :]


def browse(page: Page, repeats: int) -> Iterator[tuple[str, list[Result]]]:
    """Filters, rankings, words, pages; 200 pictures a page."""
    page.open("?size=200", "#browse-grid .card")
    row = "#browse-facets details[open] .facet-row"
    half = max(5, repeats // 2)
    yield "a class on and off", page.rounds([click(row, "danger"), click(row, "danger")], half)
    yield "only wrong ones on and off", page.rounds([click(row, "Wrong"), click(row, "Wrong")], half)
    bars = "#browse-panel .class-bar.plain"
    ranks = page.page.locator(f"{bars} .meter-name").all_inner_texts()
    if len(ranks) > 1:
        yield "another ranking", page.rounds([click(bars, name) for name in ranks], max(3, repeats // 3))
    page.page.locator("#browse-facets summary", has_text="Condition").click()
    page.settle()
    yield "a metadata value on and off", page.rounds([click(row, "fog"), click(row, "fog")], half)
    page.open(
        "?size=200&rank=entropy&answer=wrong&meta.condition=night&meta.camera=camera-007",
        "#browse-grid .card",
    )
    yield "one more filter beside three", page.rounds([click(row, "Test"), click(row, "Test")], half)
    page.open("?size=200&rank=-confidence", "#browse-grid .card")
    yield "the next page", page.rounds([click("#browse-count button.next")], repeats)
    page.open("?size=200&page=499", "#browse-grid .card")
    steps = [click("#browse-count button.next"), click("#browse-count button.previous")]
    yield "the last page and back", page.rounds(steps, half)
    page.open("?size=200", "#browse-grid .card")
    found = []
    for word in ("night", "danger fog", "camera-011", '"seen by camera-02"', "site rain", "a") * (
        max(1, repeats // 5)
    ):
        page.page.locator("#browse-text textarea, #browse-text input").first.fill(word)
        found.append(page.timed(click("#browse-text .submit-button")))
    yield "words that are searched for", found
    page.open("?size=200", "#browse-grid .card")
    found = []
    for place in range(repeats):
        page.page.locator("#browse-grid .card").nth(place).click()
        button = page.page.locator("#browse-panel button", has_text="More like this")
        button.wait_for(state="visible")
        page.settle()
        found.append(page.timed(click("#browse-panel button", "More like this")))
        page.timed(click(".banner button", "Back to the ranking"))
    yield "similar images", found


def matrix(page: Page, repeats: int) -> Iterator[tuple[str, list[Result]]]:
    """From a cell of the confusion matrix to its samples."""
    found = []
    for place in range(repeats + 1):
        page.open("?show=confusion&split=test&size=200", ".matrix td.wrong button.cell")
        act = f"() => document.querySelectorAll('.matrix td.wrong button.cell')[{place}].click()"
        found.append(page.timed(act))
    yield "a cell of the matrix opens its samples", found[1:]


def lasso(page: Page, repeats: int) -> Iterator[tuple[str, list[Result]]]:
    """2,000 of 20,000 points, as the plot reports them when the mouse is let go."""
    page.open("?tab=map", "#map-plot .ltg-map[data-drawn]")  # only then does it listen
    found = []
    for turn in range(repeats + 1):
        act = """() => {
          const plot = document.querySelector("#map-plot .js-plotly-plot"), points = [];
          for (const trace of plot.data) for (const one of trace.customdata || []) points.push({ customdata: one });
          plot.emit("plotly_selected", { points: points.slice(START, START + 2000) });
        }""".replace("START", str(1500 * turn))
        found.append(page.timed(act, "#map-gallery .ltg-grid"))
    yield "a lasso of 2,000 of 20,000 points fills the grid", found[1:]


def keys(page: Page, repeats: int) -> Iterator[tuple[str, list[Result]]]:
    """Accept and reject by key: until the next picture has the focus and is painted."""
    page.open("?tab=curate&curate.origin=real", "[id^=curate] .card")
    page.page.locator("[id^=curate] .card").first.click()
    page.settle()
    script = """async (key) => {
      const frame = () => new Promise((done) => requestAnimationFrame(() => done()));
      const where = () => { const card = document.querySelector("[id^=curate] .card.is-focus"); return card ? card._key : ""; };
      const before = where(), start = performance.now();
      const target = document.activeElement;
      for (const kind of ["keydown", "keyup"]) target.dispatchEvent(new KeyboardEvent(kind, { key, bubbles: true, cancelable: true }));
      while (where() === before) { if (performance.now() - start > 20000) throw new Error("the focus has not moved"); await frame(); }
      await frame(); await frame();
      const large = Array.from(document.querySelectorAll("[id^=curate] img")).filter((one) => one.offsetParent);
      while (!large.every((one) => one.complete || one.getBoundingClientRect().top > innerHeight)) await frame();
      return { drawn: performance.now() - start, seen: performance.now() - start, cards: 1 };
    }"""
    found = []
    for turn in range(2 * repeats):
        found.append(page.page.evaluate(script, "ax"[turn % 2]))
        page.page.wait_for_timeout(500)
    yield "accept or reject by key, to the next picture", found[1:]


def busy(page: Page, repeats: int) -> Iterator[tuple[str, list[Result]]]:
    """Filters while a generation runs, and the page loaded again in the middle of it."""
    page.open("?size=60", "#browse-grid .card")
    page.page.locator("#header .chip", has_text="%").first.wait_for(timeout=900_000)
    page.open("?tab=imagine", "#imagine-start")
    number = page.page.locator("#imagine-number input[type=number]")
    number.fill("64")  # enough to outlast the measurements
    number.blur()
    page.page.locator("#imagine-start").click()
    chip = page.page.locator("#header .chip.is-busy, #header .is-busy").first
    chip.wait_for(state="visible")
    row = "#browse-facets details[open] .facet-row"
    page.open("?size=60", "#browse-grid .card")
    acts = [click(row, "Wrong"), click(row, "Wrong"), click(row, "danger"), click(row, "danger")]
    found = page.rounds(acts, max(5, repeats // 2))
    if not chip.is_visible():
        raise RuntimeError("the generation ended before the measurements")
    yield "a filter while a generation runs", found
    started = time.perf_counter()
    page.page.reload()
    chip.wait_for(state="visible")
    waited = 1000 * (time.perf_counter() - started)
    yield "reload in the middle: the job is shown again", [{"drawn": waited, "seen": waited, "cards": 0}]


BARS = {
    "a cell of the matrix opens its samples": 600,
    "a lasso of 2,000 of 20,000 points fills the grid": 600,
    "accept or reject by key, to the next picture": 150,
    "a filter while a generation runs": 500,
    "reload in the middle: the job is shown again": 0,  # there is none
}
"""Milliseconds; everything else is a page of 200 thumbnails, 600."""
PARTS: tuple[Callable[[Page, int], Iterator[tuple[str, list[Result]]]], ...] = (browse, matrix, lasso, keys)


@contextlib.contextmanager
def served(log: Path, *arguments: str) -> Iterator[str]:
    """``python app.py`` as a process of its own; gives its address."""
    from app.settings import free_port

    port = free_port("127.0.0.1", 0)
    command = [sys.executable, "app.py", *arguments, "--no-browser", "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ}, stdout=file, stderr=subprocess.STDOUT
        )
    try:
        _answer(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(120)


def _answer(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(log.read_text())
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"{address}/healthz", timeout=5),
        ):
            return
        time.sleep(0.2)
    raise SystemExit("the server did not answer: " + log.read_text())


@contextlib.contextmanager
def browser(address: str) -> Iterator[Page]:
    """Chromium on a new profile."""
    from playwright.sync_api import sync_playwright

    path = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield Page(opened.new_page(viewport={"width": 1440, "height": 900}), address)
        opened.close()


def measure(page: Page, parts: Any, repeats: int) -> list[Result]:
    """All figures; a part that fails says so instead of ending the others."""
    found = []
    for part in parts:
        try:
            for name, rows in part(page, repeats):
                found.append(summed(name, rows))
                print(line(found[-1]), flush=True)
        except Exception as error:  # noqa: BLE001  # one screen that has changed must not cost the others
            traceback.print_exc()
            found.append({"what": part.__name__, "failed": str(error).splitlines()[0]})
    return found


def summed(name: str, rows: list[Result]) -> Result:
    """Median and 95th percentile, in milliseconds."""
    drawn, seen = [row["drawn"] for row in rows], [row["seen"] for row in rows]
    return {
        "what": name,
        "n": len(rows),
        "cards": int(statistics.median(row["cards"] for row in rows)),
        "drawn": statistics.median(drawn),
        "median": statistics.median(seen),
        "p95": float(np.percentile(seen, 95)),
        "bar": BARS.get(name, 600),
    }


def line(row: Result) -> str:
    """A row of the table."""
    if "failed" in row:
        return f"| {row['what']} | not measured: {row['failed']} | | | | |"
    bar = "found again" if not row["bar"] else f"≤ {row['bar'] / 1000:.2f} s"
    times = " | ".join(f"{row[key] / 1000:.2f} s" for key in ("drawn", "median", "p95"))
    return f"| {row['what']} | {row['n']} | {bar} | {times} |"


def main() -> None:
    """Measure and write the section of the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "ui")
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--only", default="", help="comma-separated: browse, matrix, lasso, keys, busy")
    options = parser.parse_args()
    wanted = [one for one in options.only.split(",") if one]
    model = crowd(options.work / "ws", options.samples)
    rows: list[Result] = []
    parts = [part for part in PARTS if not wanted or part.__name__ in wanted]
    if parts:
        arguments = ["--workspace", str(options.work / "ws"), "--model", str(model)]
        with served(options.work / "server.log", *arguments) as address, browser(address) as page:
            page.open("?size=200", "#browse-grid .card")
            page.page.wait_for_timeout(3000)  # what the server does when it opens a workspace is not measured
            page.page.locator("#header .chip.is-busy").wait_for(state="hidden")
            rows += measure(page, parts, options.repeats)
    if not wanted or "busy" in wanted:
        with (
            served(options.work / "demo.log", "--workspace", str(options.work / "demo")) as address,
            browser(address) as page,
        ):
            rows += measure(page, (busy,), options.repeats)
    report(rows, options.samples)


def crowd(folder: Path, count: int) -> Path:
    """Make the workspace unless it is there; returns its classifier's file."""
    from benchmarks import crowd as made

    with made.make(folder, count) as ws:
        return ws.models_folder / str(ws.get_state("classifier")["hash"]) / "classifier.safetensors"


def report(rows: list[Result], samples: int) -> None:
    """Write ``results/ui.json`` and ``results/ui.md``."""
    lines = [
        "## What a person waits for on the page",
        "",
        f"`make bench-ui`, {machine()}; Chromium without a GPU, {samples:,} samples in the workspace (for the map 20,000 of them, "
        "for the generation the demo). Drawn: the page is painted; the next two columns: all thumbnails in sight are there too.",
        "",
        "| what | n | bar | drawn, median | with pictures, median | with pictures, 95 % |",
        "|---|---|---|---|---|---|",
        *[line(row) for row in rows],
    ]
    out = RESULTS
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "ui.json", {"machine": machine(), "commit": commit(), "samples": samples, "rows": rows})
    (out / "ui.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
