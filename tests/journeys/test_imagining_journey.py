"""From a thin cell of the coverage to images aimed at it, their trace, one of them closely, its film strip."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import Visit, slowly
from playwright.sync_api import expect
from test_main_loop import SLOW, choose, opened


@pytest.mark.slow
def test_a_thin_cell_is_found_imagined_looked_at_and_swept(visit: Visit) -> None:
    page = visit.page
    opened(page)
    aim_at_a_cell(visit)
    know_the_price(page)
    imagine(visit)
    look_closely(visit)
    sweep(visit)
    cancel_keeps_what_is_done(visit)


def aim_at_a_cell(visit: Visit) -> None:
    """The grid, the ranking, a cell's samples, and the way to Imagine."""
    page = visit.page
    visit.tab("Coverage")
    cells = page.locator("#coverage-grid .cover")
    expect(cells.first).to_be_visible(timeout=SLOW)
    expect(page.locator("#coverage-panel")).to_contain_text("Where images would help most")
    visit.shot("coverage")
    page.locator("#coverage-top").get_by_role("button", name="By need").click()
    expect(page.locator("#coverage-grid .needs tbody tr")).to_have_count(40)
    page.locator("#coverage-top").get_by_role("button", name="Grid").click()
    page.locator("#coverage-grid").get_by_role("button", name=re.compile(r"^stop, night")).click()
    panel = page.locator("#coverage-panel")
    expect(panel).to_contain_text("stop × night")
    expect(panel).to_contain_text("Asked for as “a photo of a stop sign at night”")
    visit.shot("coverage-cell")
    panel.get_by_role("button", name=re.compile(r"See its \d+ real samples")).click()
    expect(page.locator("#browse-grid .card").first).to_be_visible()
    expect(page).to_have_url(re.compile(r"meta\.condition=night"))
    visit.tab("Coverage")
    panel.get_by_role("button", name=re.compile(r"Imagine \d+ for this cell")).click()
    expect(page.locator("#imagine-source")).to_contain_text("condition: night")
    expect(page.locator("#imagine-prompt textarea")).to_have_value("a photo of a stop sign at night")
    expect(page.locator("#imagine-class input").first).to_have_value("stop")


def know_the_price(page: Any) -> None:
    """Time and memory before the start; they follow the controls; a changed preset says so."""
    price = page.locator("#imagine-estimate")
    expect(price).to_contain_text("About", timeout=SLOW)
    expect(price).to_contain_text("Memory: light")
    page.locator("#imagine-all > button").first.click()
    steps = page.locator("#imagine-steps input[type=number]")
    fill_number(page, "64")
    steps.fill("1000")
    steps.press("Tab")
    expect(price).to_contain_text("That is long")
    expect(page.locator("#imagine-about")).to_contain_text("Custom")
    page.locator("#imagine-about").get_by_role("button", name="Back to Explore").click()
    expect(steps).to_have_value("16")
    expect(page.locator("#imagine-about")).not_to_contain_text("Custom")
    page.locator("#imagine-all > button").first.click()
    fill_number(page, "4")
    expect(price).to_contain_text("for 4 images")


def fill_number(page: Any, value: str) -> None:
    number = page.locator("#imagine-number input[type=number]")
    number.fill(value)
    number.press("Tab")


def imagine(visit: Visit) -> None:
    """Live previews by stage, then triplets with reasons and the trace."""
    page = visit.page
    with slowly(visit.address):
        page.locator("#imagine-start").click()
        expect(page.locator("#imagine-progress .stage.is-now")).to_be_visible()
        expect(page.locator("#imagine-progress .previews img")).to_have_count(4)
        expect(page.locator("#imagine-progress .stage.is-now")).to_have_text("final images", timeout=SLOW)
        visit.shot("imagine-running")
    rows = page.locator("#imagine-results .trip")
    expect(rows).to_have_count(4, timeout=SLOW)
    page.locator("#imagine-results .trace-box > summary").click()
    plot = page.locator("#imagine-results svg.plot")
    expect(plot).to_be_visible()
    expect(plot).to_have_attribute("aria-label", re.compile(r"Guided: from P .* Unguided: from P "))
    visit.shot("imagine")
    rows.first.get_by_role("button", name="⚑ Flag").click()
    expect(rows.first.get_by_role("button", name="⚑ Flag")).to_have_attribute("aria-pressed", "true")
    rows.first.get_by_role("button", name="✓ Accept").click()
    expect(rows.first.get_by_role("button", name="✓ Accept")).to_have_attribute("aria-pressed", "true")


def look_closely(visit: Visit) -> None:
    """The large view by keyboard, and the way back by Esc."""
    page = visit.page
    results = page.locator("#imagine-results")
    opener = results.locator(".trip .opens").nth(1)
    opener.focus()
    page.keyboard.press("Enter")
    expect(results.locator(".large .back")).to_be_focused()
    expect(results).to_contain_text("Nearest real samples")
    expect(results).to_contain_text("condition: night")
    expect(results.locator(".large img").first).to_have_js_property("complete", True)
    visit.shot("imagine-large")
    results.get_by_role("button", name="Next image").click()
    expect(results).to_contain_text("3 of 4")
    page.keyboard.press("Escape")
    expect(results.locator(".trip")).to_have_count(4)


def sweep(visit: Visit) -> None:
    """The weight of one finished image as a film strip."""
    page = visit.page
    page.locator("#imagine-results .trip").first.get_by_role(
        "button", name="Sweep the weight of this image"
    ).click()
    stills = page.locator("#imagine-results .still")
    expect(stills).to_have_count(7, timeout=SLOW)
    expect(stills.nth(0)).to_contain_text("unguided")
    expect(stills.nth(6)).to_contain_text("weight 4")
    assert stills.first.bounding_box()["width"] >= 100, "frames stand side by side, large enough to compare"
    visit.shot("imagine-sweep")
    visit.tab("Coverage")
    cell = page.locator("#coverage-grid").get_by_role("button", name=re.compile(r"^stop, night"))
    expect(cell).to_have_attribute("aria-label", re.compile(r" 1 accepted synthetic"))


def cancel_keeps_what_is_done(visit: Visit) -> None:
    """Units of eight; cancelled somewhere in between, what is finished is shown and can be completed."""
    page = visit.page
    visit.tab("Imagine")
    choose(page, "#imagine-preset", "Unguided")
    fill_number(page, "64")
    with slowly(visit.address):
        page.locator("#imagine-start").click()
        expect(page.locator("#imagine-progress")).to_contain_text(
            re.compile(r"image (9|17|25|33|41) to"), timeout=SLOW
        )
        page.locator("#imagine-cancel").click()
        expect(page.locator("#imagine-progress .job-running")).to_have_count(0)
    results = page.locator("#imagine-results")
    stopped = results.locator(".stopped")
    said = re.compile(r"Cancelled\. (8|16|24|32|40|48|56) of 64 images were finished and are kept\.")
    expect(stopped).to_contain_text(said)
    kept = int(said.search(stopped.inner_text())[1])
    expect(results.locator(".trip")).to_have_count(kept)
    visit.shot("imagine-cancelled")
    expect(results.get_by_role("button", name=f"Make the other {64 - kept}")).to_be_visible()
