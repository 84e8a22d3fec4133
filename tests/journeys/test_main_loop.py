"""The main loop in a real browser: browse, imagine, explain, map, curate, export."""

from __future__ import annotations

import contextlib
import re
import zipfile
from pathlib import Path
from typing import Any

import pytest
from conftest import Visit, serve, slowly, visiting
from playwright.sync_api import TimeoutError, expect

SLOW = 600_000


def test_an_engineer_goes_through_the_whole_loop(browser: Any, tmp_path: Path) -> None:
    # a workspace of its own: what it counts are its own images
    with serve(tmp_path) as address, visiting(browser, address) as visit:
        opened(visit.page)
        sample = browse(visit)
        explain(visit, sample)
        imagine(visit)
        draw_map(visit)
        curate_and_export(visit)


def test_work_survives_a_reload_and_stops_when_told(visit: Visit) -> None:
    page = visit.page
    opened(page)
    visit.tab("Imagine")
    number = page.locator("#imagine-number input[type=number]")
    number.fill("32")
    number.press("Tab")
    page.set_viewport_size({"width": 1120, "height": 420})
    with slowly(visit.address):
        page.locator("#imagine-start").scroll_into_view_if_needed()
        expect(page.locator("#imagine-results")).not_to_be_in_viewport()
        page.locator("#imagine-start").click()
        expect(page.locator("#imagine-progress .job-running")).to_be_in_viewport()
        page.reload()
        expect(page.locator("#header .chip.is-busy", has_text="Imagining")).to_be_visible()
        visit.tab("Imagine")
        expect(page.locator("#imagine-progress .previews img").first).to_be_visible()
        page.locator("#imagine-cancel").click()
        expect(page.locator("#imagine-progress .job-cancelled")).to_be_visible()
    expect(page.locator("#imagine-start")).to_be_enabled()


def test_bad_input_is_answered_in_words(visit: Visit) -> None:
    page = visit.page
    opened(page)
    visit.tab("Setup")
    setup_step(page, "Data")
    page.locator("#setup-path").get_by_role("textbox").fill("/no/such/folder")
    page.locator("#setup-import").click()
    expect(page.locator(".toast-body").last).to_contain_text("does not exist")
    setup_step(page, "Classifier")
    page.locator("#setup-weights input[type=file]").set_input_files(
        {"name": "net.pth", "mimeType": "application/octet-stream", "buffer": b"not a network"}
    )
    # The name is drawn in two parts, with a gap between them in some layouts.
    expect(page.locator("#setup-weights").get_by_role("cell", name="net.pth", exact=True)).to_be_visible()
    expect(page.locator(".toast-body").last).to_contain_text("no PyTorch checkpoint")
    page.locator("#setup-arch").get_by_role("textbox").fill("resnet20_cifar")
    page.locator("#setup-use").click()
    expect(page.locator("#setup-progress .job-failed")).to_contain_text("net.pth")
    expect(page.locator("#header")).not_to_contain_text("net.pth")
    visit.shot("setup")


FITS = "(width) => document.documentElement.scrollWidth <= width"


def test_every_tab_fits_every_window(visit: Visit) -> None:
    page = visit.page
    opened(page)
    for name in (
        "Start",
        "Browse",
        "Coverage",
        "Imagine",
        "Explain",
        "Map",
        "Curate & Export",
        "Extend",
        "Retrain",
        "Tell",
        "Setup",
    ):
        visit.tab(name)
        expect(page.locator(".tabitem:visible").first).to_be_visible()
        for width, height, scheme in ((390, 844, "light"), (3840, 2160, "light"), (1440, 900, "dark")):
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            try:  # the tabs that do not fit are put into their menu
                page.wait_for_function(FITS, arg=width, timeout=60_000)
            except TimeoutError:
                pytest.fail(f"{name} is wider than the window of {width}")
            if width < 3000 or name in ("Start", "Browse"):
                visit.shot(f"{width}-{scheme}-{name.split()[0].lower()}")


def opened(page: Any) -> None:
    """The demo is there: its name, its samples, its accuracy."""
    expect(page).to_have_title("Longtail — find the blind spots of a classifier")
    expect(page.locator("#browse-grid .card").first).to_be_visible(timeout=SLOW)
    expect(page.locator("#header .chip", has_text="Accuracy")).to_contain_text("%", timeout=SLOW)
    expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)


def setup_step(page: Any, name: str) -> None:
    """Go to a step of Setup."""
    step = page.locator("#setup-steps .step", has_text=name).first
    step.get_by_role("button").click()
    expect(step).to_have_class(re.compile("is-current"))


def choose(page: Any, box: str, option: str) -> None:
    """Pick an option of a dropdown."""
    page.locator(f"{box} input").first.click()
    page.get_by_role("option", name=option, exact=True).first.click()


def browse(visit: Visit) -> str:
    """Rank, narrow down, open one."""
    page = visit.page
    expect(page.locator("#browse-panel")).to_contain_text("How it does")
    visit.shot("browse")
    choose(page, "#browse-sort", "Entropy")
    expect(page.locator("#browse-count")).to_contain_text("ranked by Entropy")
    page.locator("#browse-facets details[open] .facet-row", has_text="Wrong").click()
    expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
    page.locator("#browse-grid .card").nth(1).click()
    panel = page.locator("#browse-panel")
    expect(panel.locator(".says.wrong")).to_be_visible()
    expect(panel).to_contain_text("Factors")
    page.keyboard.press("ArrowRight")
    third = page.locator("#browse-grid .card").nth(2)
    expect(third).to_have_class(re.compile("is-focus"))
    wanted = third.locator("img").get_attribute("src").rpartition("/")[2]
    expect(panel.locator(".hero img")).to_have_attribute("src", re.compile(f"image/{wanted}$"))
    expect(panel.locator(".hero img")).to_have_js_property("complete", True)
    visit.shot("sample")
    return str(panel.locator(".says b").first.inner_text())


def explain(visit: Visit, label: str) -> None:
    """From the sample to its heat maps; the slider fades them."""
    page = visit.page
    page.locator("#browse-panel").get_by_role("button", name="Explain", exact=True).click()
    expect(page.locator("#explain-chosen")).to_contain_text(label)
    expect(page.locator("#explain-results .heat img.over")).to_have_count(3, timeout=SLOW)
    page.locator("#explain-results input[type=range]").fill("0.3")
    heat = page.locator("#explain-results .heat img.over").first
    expect(heat).to_have_css("opacity", "0.3")
    page.locator("#explain-results input[type=range]").fill("0.8")
    visit.shot("explain")


def imagine(visit: Visit) -> None:
    """Guided images beside their twins; one accepted, one rejected."""
    page = visit.page
    visit.tab("Imagine")
    choose(page, "#imagine-class", "stop")
    expect(page.locator("#imagine-prompt textarea")).to_have_value("a photo of a stop sign")
    number = page.locator("#imagine-number input[type=number]")
    number.fill("6")
    number.press("Tab")
    with slowly(visit.address):
        page.locator("#imagine-start").click()
        expect(page.locator("#imagine-progress .previews img").first).to_be_visible()
        visit.shot("imagine-running")
    rows = page.locator("#imagine-results .trip")
    expect(rows).to_have_count(6, timeout=SLOW)
    expect(rows.first.locator("figure")).to_have_count(4)
    rows.nth(0).get_by_role("button", name="✓ Accept").click()
    expect(rows.nth(0).get_by_role("button", name="✓ Accept")).to_have_attribute("aria-pressed", "true")
    rows.nth(1).get_by_role("button", name="✕ Reject").click()
    expect(rows.nth(1).get_by_role("button", name="✕ Reject")).to_have_attribute("aria-pressed", "true")
    visit.shot("imagine")


def draw_map(visit: Visit) -> None:
    """Real and generated together; lasso to gallery, gallery to ring, a real drag."""
    page = visit.page
    visit.tab("Map")
    page.locator("#map-draw").click()
    plot = page.locator("#map-plot .ltg-map")
    expect(plot).to_have_attribute("data-drawn", re.compile(r"\d+"), timeout=SLOW)
    page.evaluate(
        """() => { const plot = document.querySelector('#map-plot .ltg-map');
        const points = plot.data[0].customdata.slice(0, 12).map((id) => ({customdata: id}));
        plot.emit('plotly_selected', {points}); }"""
    )
    expect(page.locator("#map-gallery .card")).to_have_count(12)
    page.locator("#map-gallery .card").nth(3).click()
    expect(page.locator("#map-panel .hero")).to_be_visible()
    visit.shot("map")
    box = plot.bounding_box()
    corners = ((0.02, 0.02), (0.98, 0.02), (0.98, 0.8), (0.02, 0.8), (0.02, 0.04))
    page.mouse.move(box["x"] + 0.02 * box["width"], box["y"] + 0.02 * box["height"])
    page.mouse.down()
    for right, down in corners:
        page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"], steps=8)
    page.mouse.up()
    expect(page.locator("#map-chosen")).to_contain_text("shown")


def curate_and_export(visit: Visit) -> None:
    """Decide with the keyboard, undo, tag, take the set away."""
    page = visit.page
    visit.tab("Curate & Export")
    cards, tally = page.locator("#curate-grid .card"), page.locator("#curate-grid .curate-bar .count")
    expect(cards).to_have_count(6)
    cards.nth(2).click()
    page.keyboard.press("p")
    expect(cards.nth(2).locator(".mark-accepted")).to_be_visible()
    expect(tally).to_contain_text("2 accepted, 1 rejected")
    page.keyboard.press("x")
    expect(tally).to_contain_text("2 accepted, 2 rejected")
    page.keyboard.press("Control+z")
    expect(tally).to_contain_text("2 accepted, 1 rejected")
    page.keyboard.press("Control+Shift+z")
    expect(tally).to_contain_text("2 accepted, 2 rejected")
    cards.nth(2).click()
    page.keyboard.press("4")
    expect(cards.nth(2).locator(".mark-rating")).to_be_visible()
    tags = page.locator("#curate-tag")
    tags.fill("worth a look, p")
    tags.press("Enter")
    expect(page.locator("#curate-grid .chip-text")).to_have_text(["p", "worth a look"])
    expect(tally).to_contain_text("2 accepted, 2 rejected")
    page.get_by_role("tab", name="Export", exact=True).click()
    page.locator("#export-start").click()
    link = page.locator("#export-state a")
    expect(link).to_be_visible(timeout=SLOW)
    with page.expect_download() as coming:
        link.click()
    names = zipfile.ZipFile(coming.value.path()).namelist()
    assert any(name.endswith("manifest.jsonl") for name in names)
    assert sum(name.endswith(".png") for name in names) == 2


@pytest.mark.slow
def test_the_server_stops_although_a_page_is_open(browser: Any, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        with serve(tmp_path) as address:
            visit = stack.enter_context(visiting(browser, address))
            expect(visit.page.locator("#header")).to_be_visible()
        log = (tmp_path / "server.log").read_text()
        assert "Traceback" not in log and "Cancel" not in log, log
        # leaving ``serve`` has asked the server to stop, and would have failed if it had waited for the page
        assert visit.page.locator("#header").is_visible()
