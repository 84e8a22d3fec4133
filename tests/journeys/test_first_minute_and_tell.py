"""The first minute and the last step in a real browser: from the start page to a finding, from pins to one file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import ROOT, visiting
from playwright.sync_api import expect

SLOW = 600_000
BAD = '<img src=x onerror="window.hit=1">${alert(1)}'


@pytest.mark.parametrize("width", (1440, 390))
def test_the_last_tab_that_is_clicked_before_the_page_has_been_answered_stays(
    browser: Any, server: str, width: int
) -> None:
    with visiting(browser, server, "/?tab=tell") as visit:
        page = visit.page
        page.set_viewport_size({"width": width, "height": 844})
        chip = page.locator("#header details.jobs > summary")
        expect(chip).to_be_visible(timeout=SLOW)
        expect(page.locator("#tab-tell")).to_be_visible()
        page.goto("about:blank")  # the page that was open asks no more
        held: list[Any] = []
        released = False
        page.route("**/queue/join*", lambda route: route.continue_() if released else held.append(route))
        page.goto(server + "/?tab=browse")
        while not held:
            page.wait_for_timeout(50)
        visit.tab("Coverage")
        expect(page.locator("#tab-coverage")).to_be_visible()
        visit.tab("Map")
        expect(page.locator("#tab-map")).to_be_visible()
        released = True
        for one in held:
            one.continue_()
        expect(chip).to_be_visible(timeout=SLOW)  # it is drawn after the answer
        page.wait_for_timeout(1500)  # a tab that is brought back is so after the answer
        expect(page.locator("#tab-map")).to_be_visible()
        expect(page).to_have_url(re.compile("tab=map"))
        assert held


def test_a_newcomer_is_led_from_the_start_page_to_the_first_finding(browser: Any, server: str) -> None:
    with visiting(browser, server, "/") as visit:
        page = visit.page
        expect(page.locator("#start-view h2")).to_contain_text("Where will your image classifier fail")
        sentence = page.locator("#start-view .sentence")
        expect(sentence).to_contain_text("read wrongly", timeout=SLOW)
        expect(page.locator("#start-view .glance .figure")).to_have_count(6)
        expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)
        expect(page.locator("#start-view .finding-pictures img").first).to_have_js_property("complete", True)
        visit.shot("start")
        told = re.search(r"(\d+) of (\d+) read wrongly", sentence.inner_text().replace("\u00a0", " "))
        assert told is not None
        page.get_by_role("button", name="Show me the first surprising finding").click()
        expect(page.locator("#browse-count .count > b")).to_have_text(f"{told[1]} samples")
        expect(page.locator("#browse-grid .card")).to_have_count(int(told[1]))
        expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
        given = parse_qs(urlsplit(page.url).query)
        assert given["answer"] == ["wrong"] and "tab" not in given
        visit.shot("start-finding")
        page.go_back()
        expect(page.locator("#start-view .sentence")).to_be_visible()
        expect(page.get_by_role("button", name=re.compile("^Browse: .*Done"))).to_be_visible()


FRAMES = """() => {
  window.frames_asked = 0;
  const frame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (act) => { window.frames_asked += 1; return frame(act); };
}"""


def test_a_page_at_rest_draws_nothing(browser: Any, server: str) -> None:
    with visiting(browser, server) as visit:
        page = visit.page
        page.add_init_script(f"({FRAMES})()")
        page.reload()
        expect(page.locator("#browse-grid .card").first).to_be_visible()
        expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)
        asked = [page.evaluate("window.frames_asked")]
        while len(asked) < 15 and (len(asked) < 2 or asked[-1] - asked[-2] >= 20):
            page.wait_for_timeout(2000)
            asked.append(page.evaluate("window.frames_asked"))
        assert 0 < asked[-1] < asked[-2] + 20, f"it goes on: {asked}"


GRID = "#browse-grid .card"


def test_a_click_tells_the_parts_that_it_is_about_and_no_others(browser: Any, server: str) -> None:
    """Gradio's script would tell everything that any event so far has read, before and after every further one."""
    with visiting(browser, server) as visit:
        page = visit.page
        expect(page.locator(GRID).first).to_be_visible()
        for name, drawn in (
            ("Coverage", "#coverage-grid .cover"),
            ("Curate & Export", "#curate-decide"),
            ("Browse", GRID),
        ):
            visit.tab(name)
            expect(page.locator(drawn).first).to_be_visible()
        expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)
        page.wait_for_timeout(2000)  # what the tabs have asked for
        counts = page.context.new_cdp_session(page)
        counts.send("Profiler.enable")
        counts.send("Profiler.startPreciseCoverage", {"callCount": True, "detailed": False})
        page.locator("#browse-facets details[open] .facet-row", has_text="Wrong").click()
        expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
        functions = [
            function
            for script in counts.send("Profiler.takePreciseCoverage")["result"]
            for function in script["functions"]
        ]
        told = sum(one["ranges"][0]["count"] for one in functions if one["functionName"] == "update_state")
        assert 0 < told < 300, "parts told of one click"


def test_pinned_cases_become_one_file_that_opens_without_a_network(
    browser: Any, server: str, tmp_path: Path
) -> None:
    with visiting(browser, server, "/?split=test&answer=wrong&rank=confidence") as visit:
        page = visit.page
        expect(page.locator("#header .chip", has_text="Accuracy")).to_contain_text("%", timeout=SLOW)
        expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)
        for number in range(2):
            page.locator("#browse-grid .card").nth(number).click()
            expect(page.locator("#browse-grid .card").nth(number)).to_have_class(re.compile("is-focus"))
            pin = page.locator("#browse-panel .pin-button")
            expect(pin).to_have_text("Pin")
            pin.click()
            expect(page.locator("#browse-panel .pin-button.is-on")).to_be_visible()
            page.locator("#browse-panel .back").click()
            expect(page.locator("#browse-panel .pin-button")).to_have_count(0)
        visit.tab("Tell")
        pins = page.locator("#tell-cases .pin")
        expect(pins).to_have_count(2)
        first = pins.nth(0).locator(".pin-text b").inner_text().split(" · ")[1]
        pins.nth(0).get_by_role("button", name="Move down").click()
        expect(pins.nth(1).locator(".pin-text b")).to_have_text(f"2 · {first}")
        note = pins.nth(1).locator("textarea")
        note.fill(BAD)
        note.press("Tab")
        page.get_by_role("button", name="Edit these words").click()
        expect(page.locator("#tell-title textarea, #tell-title input").first).not_to_have_value("")
        page.locator("#tell-redact").get_by_role("checkbox").check()
        page.locator("#tell-make").click()
        frame = page.frame_locator("iframe.preview")
        expect(frame.locator("article")).to_have_count(2, timeout=SLOW)
        expect(frame.locator("blockquote")).to_have_text(BAD)
        visit.shot("tell")
        with page.expect_download() as coming:
            page.get_by_role("link", name="Download the file").click()
        file = tmp_path / "report.html"
        coming.value.save_as(file)
    opened_from_disk(browser, file)


def opened_from_disk(browser: Any, file: Path) -> None:
    """With the network off: no request, no complaint, nothing that ran, and pages of paper without cut pictures."""
    for width, scheme in ((1100, "light"), (390, "dark")):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
        )
        page = context.new_page()
        wrong = complaints(page)
        page.goto(file.as_uri())
        expect(page.locator("article")).to_have_count(2)
        expect(page.locator("article img").first).to_have_js_property("complete", True)
        assert page.evaluate("Array.from(document.images).every((image) => image.naturalWidth > 0)")
        assert page.evaluate("window.hit === undefined") and not wrong, wrong
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert ".webp" not in page.inner_text("body"), "file names were left out"
        (ROOT / "test-results").mkdir(exist_ok=True)
        page.screenshot(path=ROOT / "test-results" / f"report-{width}-{scheme}.png", full_page=True)
        if scheme == "light":
            page.emulate_media(media="print")
            assert page.evaluate("getComputedStyle(document.querySelector('article')).breakInside") == "avoid"
            assert page.pdf(format="A4", prefer_css_page_size=True).startswith(b"%PDF")
        context.close()


def complaints(page: Any) -> list[str]:
    """What a page says on its console, what fails on it, and what it asks for outside of itself; filled as it comes."""
    found: list[str] = []
    page.on("console", lambda message: found.append(message.text))
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else found.append(r.url))
    return found
