"""``make film``: the main loop on the demo in a minute, as the moving picture at the top of the README.

A real browser goes through the page; every frame is a picture of it. Waiting is cut: a frame is shown as long as a reader
needs, not as long as the machine did. What is generated and explained in it is computed in the run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.measure import ROOT
from benchmarks.ui import CHROMIUM, FLAGS, served

WIDTH, HEIGHT, SHOWN = 1120, 700, 960
"""Of the window, and the width of the film."""
LIMIT = 4_000_000  # bytes
SLOW = 600_000
_STAGE = """() => {
  const bar = document.createElement('div'), dot = document.createElement('div');
  bar.id = 'film-said'; dot.id = 'film-dot';
  bar.style.cssText = 'position:fixed;left:0;right:0;bottom:0;z-index:99999;padding:11px 22px;background:#0b1220;color:#fff;' +
    'font:600 17px system-ui,sans-serif;pointer-events:none;display:flex;gap:12px;align-items:baseline';
  dot.style.cssText = 'position:fixed;left:50vw;top:60vh;width:22px;height:22px;margin:-11px 0 0 -11px;border-radius:50%;z-index:99998;' +
    'background:rgb(37 99 235 / 35%);border:2px solid #2563eb;pointer-events:none';
  document.body.append(dot, bar);
}"""
_SAY = """([step, text]) => {
  const bar = document.getElementById('film-said'), name = document.createElement('span');
  name.style.color = '#7dd3fc'; name.textContent = step;
  bar.replaceChildren(name, document.createTextNode(text));
}"""
_MOVE = """([x, y, pressed]) => {
  const dot = document.getElementById('film-dot');
  dot.style.left = x + 'px'; dot.style.top = y + 'px'; dot.style.transform = pressed ? 'scale(.7)' : '';
}"""


class Film:
    """Frames of a page, each with how long it is shown."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.frames: list[tuple[Image.Image, int]] = []
        self.at = (WIDTH / 2, HEIGHT * 0.6)

    def say(self, step: str, text: str) -> None:
        """What is happening, in the bar below."""
        self.page.evaluate(_SAY, [step, text])

    def hold(self, seconds: float) -> None:
        """The page as it is, for so long."""
        shot = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        size = (SHOWN, round(SHOWN * HEIGHT / WIDTH))
        frame = shot.resize(size, Image.Resampling.LANCZOS)
        if self.frames and self.frames[-1][0].tobytes() == frame.tobytes():
            last, before = self.frames.pop()
            self.frames.append((last, before + round(1000 * seconds)))
        else:
            self.frames.append((frame, round(1000 * seconds)))

    def move(self, x: float, y: float, *, seconds: float = 0.3) -> None:
        """The pointer on its way."""
        steps = 3
        for step in range(1, steps + 1):
            share = step / steps
            spot = [a + (b - a) * share for a, b in zip(self.at, (x, y), strict=True)]
            self.page.evaluate(_MOVE, [*spot, False])
            self.hold(seconds / steps)
        self.at = (x, y)

    def click(self, target: Any, seconds: float = 0.2, **how: Any) -> None:
        """Go there, press; the frame after it is the caller's."""
        target.scroll_into_view_if_needed()
        box = target.bounding_box()
        self.move(box["x"] + min(box["width"] / 2, 160), box["y"] + box["height"] / 2)
        self.page.evaluate(_MOVE, [*self.at, True])
        self.hold(seconds)
        target.click(**how)
        self.page.evaluate(_MOVE, [*self.at, False])

    def save(self, path: Path) -> float:
        """Write the film; returns its seconds. The quality falls until it is small enough."""
        pictures = [picture for picture, _ in self.frames]
        times = [time for _, time in self.frames]
        for quality in (72, 60, 50, 40, 30):
            buffer = io.BytesIO()
            given: dict[str, Any] = {"duration": times, "loop": 0, "quality": quality, "method": 4}
            pictures[0].save(
                buffer,
                "WEBP",
                save_all=True,
                append_images=pictures[1:],
                allow_mixed=True,
                kmin=30,
                kmax=60,
                **given,
            )
            if len(buffer.getvalue()) <= LIMIT:
                break
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(buffer.getvalue())
        print(
            f"{len(pictures)} frames, {sum(times) / 1000:.0f} s, {path.stat().st_size / 1e6:.2f} MB, quality {quality}"
        )
        return sum(times) / 1000


def start(film: Film) -> None:
    """What this is, and one surprising finding."""
    page = film.page
    page.locator("#start-view .finding-pictures img").first.wait_for()
    film.say("Start", "Where will your image classifier fail? What is loaded, and the first finding.")
    film.hold(3.6)
    film.click(page.get_by_role("button", name="Show me the first surprising finding"))
    page.locator("#browse-grid .card").first.wait_for()
    page.wait_for_timeout(800)


def browse(film: Film) -> None:
    """The samples of the finding, one of them, the matrix."""
    page = film.page
    film.say("Browse", "A group of samples that it reads wrongly, and is sure of.")
    film.hold(2.6)
    film.click(page.locator("#browse-grid .card").nth(2))
    page.locator("#browse-panel .hero img").wait_for()
    page.wait_for_timeout(600)
    film.hold(2.4)
    film.click(page.locator("#browse-count .link", has_text="Clear all"))
    film.click(page.locator("#browse-count .mode", has_text="Confusion matrix"))
    page.locator("#browse-summary .matrix").wait_for()
    page.wait_for_timeout(500)
    film.say("Browse", "Every figure opens the samples behind it.")
    film.hold(2.4)


def aim(film: Film) -> None:
    """A cell that the classifier never saw."""
    page = film.page
    page.get_by_role("tab", name="Coverage", exact=True).click()
    page.locator("#coverage-grid .cover").first.wait_for()
    page.wait_for_timeout(600)
    film.say("Coverage", "Every class under every condition; dashed cells were never seen in training.")
    film.hold(2.2)
    film.click(page.locator("#coverage-grid").get_by_role("button", name=re.compile("^speed limit, snow")))
    button = page.locator("#coverage-panel").get_by_role(
        "button", name=re.compile(r"Imagine \d+ for this cell")
    )
    button.wait_for()
    page.wait_for_timeout(600)
    film.hold(1.8)
    film.click(button)
    page.locator("#imagine-source").get_by_text("condition: snow").wait_for()


def imagine(film: Film) -> None:
    """Guided images beside their unguided twins."""
    page = film.page
    number = page.locator("#imagine-number input[type=number]")
    number.fill("6")
    number.press("Tab")
    page.locator("#imagine-estimate").get_by_text("About").first.wait_for(timeout=SLOW)
    page.wait_for_timeout(700)
    film.say("Imagine", "New images that lie in this blind spot. Time and memory are said before the start.")
    film.hold(2.6)
    film.click(page.locator("#imagine-start"))
    page.locator("#imagine-progress .previews img").first.wait_for(timeout=SLOW)
    film.say("Imagine", "Many quick drafts are compared; the rarest are drawn and pushed further (sped up).")
    rows, shown = page.locator("#imagine-results .trip"), 0
    while not rows.count() and shown < 60:
        film.hold(0.45)
        page.wait_for_timeout(1500)
        shown += 1
    rows.first.wait_for(timeout=SLOW)
    page.wait_for_timeout(900)
    film.say(
        "Imagine", "Real, unguided, guided, difference: one seed. Believed or quarantined, with the reason."
    )
    film.hold(3.4)
    for place in range(min(2, rows.count())):
        film.click(rows.nth(place).get_by_role("button", name="✓ Accept"))
        page.wait_for_timeout(500)
        film.hold(0.5)
    film.click(rows.first.locator(".opens"))
    page.locator("#imagine-results .large img").first.wait_for()
    page.wait_for_timeout(700)
    film.hold(2.6)
    page.keyboard.press("Escape")


def explain(film: Film) -> None:
    """What the uncertainty rests on."""
    page = film.page
    page.goto(page.url.split("?")[0] + "?split=test&answer=wrong&rank=confidence")
    staged(page)
    page.locator("#browse-grid .card").nth(3).click()
    page.locator("#browse-panel").get_by_role("button", name="Explain", exact=True).click()
    page.locator("#explain-results .heat img.over").nth(2).wait_for(timeout=SLOW)
    page.wait_for_timeout(700)
    film.say("Explain", "Which pixels move the answer, by several methods side by side.")
    film.hold(2.6)
    film.click(page.locator("#explain-results").get_by_role("button", name="Check this map").first)
    page.locator("#explain-results .evidence svg").nth(1).wait_for(timeout=SLOW)
    page.wait_for_timeout(500)
    film.say("Explain", "Does the map deserve belief? Randomisation and faithfulness, with their curves.")
    film.hold(3.0)


def draw(film: Film) -> None:
    """Real and generated together; a lasso."""
    page = film.page
    page.get_by_role("tab", name="Map", exact=True).click()
    plot = page.locator("#map-plot .ltg-map")
    if not plot.get_attribute("data-drawn"):
        page.locator("#map-draw").click()
    page.locator("#map-plot .ltg-map[data-drawn]").wait_for(timeout=SLOW)
    page.wait_for_timeout(1500)
    film.say("Map", "Real and generated images as the classifier sees them. Draw a lasso.")
    film.hold(2.4)
    box = plot.bounding_box()
    corners = ((0.3, 0.3), (0.46, 0.24), (0.56, 0.4), (0.5, 0.62), (0.34, 0.56), (0.3, 0.3))
    spots = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in corners]
    film.move(*spots[0])
    page.mouse.move(*spots[0])
    page.mouse.down()
    for spot in spots[1:]:
        page.mouse.move(*spot, steps=6)
        page.evaluate(_MOVE, [*spot, True])
        film.hold(0.16)
    page.mouse.up()
    page.locator("#map-gallery .card").first.wait_for()
    page.wait_for_timeout(900)
    film.at = spots[-1]
    film.hold(1.6)
    film.click(page.locator("#map-gallery .card").nth(1))
    page.locator("#map-panel .near-one").first.wait_for()
    page.wait_for_timeout(600)
    film.hold(1.8)


def curate(film: Film) -> None:
    """By key."""
    page = film.page
    page.get_by_role("tab", name="Curate & Export", exact=True).click()
    cards = page.locator("#curate-grid .card")
    cards.nth(3).wait_for()
    page.wait_for_timeout(700)
    film.say("Curate", "P accepts, X rejects, the next image comes at once. Everything can be undone.")
    film.hold(1.8)
    cards.nth(2).click()
    page.keyboard.press("Enter")
    page.wait_for_timeout(500)
    film.hold(1.2)
    for key in ("p", "x", "p"):
        page.keyboard.press(key)
        page.wait_for_timeout(450)
        film.hold(0.7)
    page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    film.hold(1.0)


def take_away(film: Film) -> None:
    """What goes out, and what is left out."""
    page = film.page
    page.get_by_role("tab", name="Export", exact=True).click()
    page.locator("#export-start").wait_for()
    page.wait_for_timeout(500)
    film.say("Export", "What would go out, and what is left out and why: nothing leaks from held-out data.")
    film.click(page.locator("#export-preview"))
    page.locator("#export-state .figures, #export-state h3").first.wait_for(timeout=SLOW)
    page.wait_for_timeout(500)
    film.hold(2.4)
    film.click(page.locator("#export-start"))
    page.locator("#export-state a").wait_for(timeout=SLOW)
    page.wait_for_timeout(500)
    film.say("Export", "Training data with its provenance, in eight formats.")
    film.hold(3.0)


SCENES: tuple[Callable[[Film], None], ...] = (start, browse, aim, imagine, explain, draw, curate, take_away)


def staged(page: Any) -> None:
    """Wait for the page, and put the bar and the pointer on it."""
    page.locator("#header .chip", has_text="Accuracy").get_by_text("%").wait_for(timeout=SLOW)
    page.wait_for_function("() => !document.querySelector('#header .job-running')", timeout=SLOW)
    page.wait_for_timeout(500)
    page.evaluate(_STAGE)


@contextlib.contextmanager
def window(address: str) -> Iterator[Any]:
    """Chromium on a new profile."""
    from playwright.sync_api import sync_playwright

    path = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        page = opened.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(180_000)
        page.goto(address)
        yield page
        opened.close()


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "screenshots" / "film.webp")
    parser.add_argument("--frames", type=Path, help="a folder for single frames, one a scene")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        log, workspace = Path(folder) / "server.log", str(Path(folder) / "ws")
        with served(log, "--workspace", workspace) as address, window(address) as page:
            staged(page)
            film = Film(page)
            for scene in SCENES:
                before = len(film.frames)
                scene(film)
                print(
                    scene.__name__,
                    f"{sum(time for _, time in film.frames[before:]) / 1000:.1f} s",
                    flush=True,
                )
    if options.frames:
        options.frames.mkdir(parents=True, exist_ok=True)
        for number, (picture, time) in enumerate(film.frames):
            if time >= 1000:
                picture.save(options.frames / f"{number:03d}.png")
    film.save(options.out)


if __name__ == "__main__":
    main()
