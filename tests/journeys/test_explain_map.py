"""Explain and Map in a real browser: maps with their evidence, and a lasso that leads to them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from conftest import PATIENCE, Visit
from playwright.sync_api import expect

SLOW = 600_000


def opened(page: Any) -> None:
    expect(page.locator("#browse-grid .card").first).to_be_visible(timeout=SLOW)
    expect(page.locator("#header .chip", has_text="Accuracy")).to_contain_text("%", timeout=SLOW)
    expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)


def choose(page: Any, box: str, option: str) -> None:
    page.locator(f"{box} input").first.click()
    page.get_by_role("option", name=option, exact=True).first.click()


@pytest.mark.slow
def test_a_mistake_is_explained_and_its_map_is_checked(visit: Visit) -> None:
    page = visit.page
    opened(page)
    page.locator("#browse-facets details[open] .facet-row", has_text="Wrong").click()
    expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
    page.locator("#browse-grid .card").nth(2).click()
    expect(page.locator("#browse-panel .says.wrong")).to_be_visible()
    page.locator("#browse-panel").get_by_role("button", name="Explain", exact=True).click()
    results = page.locator("#explain-results")
    expect(results.locator(".heat img.over")).to_have_count(3, timeout=SLOW)

    # The overlay is faded and exchanged in the browser: only the page's clock goes to the server meanwhile.
    asked: list[Any] = []
    page.on("request", lambda r: asked.append(r.post_data_json) if "queue/join" in r.url else None)
    heat, rim = results.locator(".heat img.over").first, results.locator(".heat img.rim").first
    results.locator("input[type=range]").fill("0.3")
    expect(heat).to_have_css("opacity", "0.3")
    results.get_by_role("button", name="Outline", exact=True).click()
    expect(rim).to_be_visible()
    expect(heat).to_be_hidden()
    results.get_by_role("button", name="Image only", exact=True).click()
    expect(rim).to_be_hidden()
    results.get_by_role("button", name="Heat", exact=True).click()
    results.locator("input[type=range]").fill("0.8")
    assert [sent for sent in asked if sent.get("event_data") and "heard" not in sent["event_data"]] == []

    choose(page, "#explain-target", "The prediction rather than its label")
    page.locator("#explain-start").click()
    expect(results.locator("h3")).to_have_text(
        "What speaks for the prediction rather than the given label", timeout=SLOW
    )
    expect(results.locator(".heat img.over")).to_have_count(3, timeout=SLOW)
    results.get_by_role("button", name="Check this map").first.click()
    expect(results.locator(".evidence svg")).to_have_count(2, timeout=SLOW)
    expect(results.locator(".evidence svg .line.map").first).to_have_attribute("d", re.compile(r"^M[\d. ]+L"))
    expect(results.locator(".evidence-map")).to_have_count(2)
    expect(results.locator(".trust-mark")).to_have_count(2)
    visit.shot("explain-evidence")
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.body.classList.add('dark')")
    visit.shot("explain-evidence-dark")


@pytest.mark.slow
def test_a_lasso_on_the_map_becomes_a_table_of_explanations(visit: Visit, browser: Any) -> None:
    page = visit.page
    opened(page)
    visit.tab("Map")
    plot = page.locator("#map-plot .ltg-map")
    if not plot.get_attribute("data-drawn"):
        page.locator("#map-draw").click()
    expect(plot).to_have_attribute("data-drawn", re.compile(r"\d+"), timeout=SLOW)
    expect(page.locator("#map-note")).to_contain_text("real samples")
    expect(page.locator("#map-draw")).to_be_enabled(timeout=SLOW)

    at = page.evaluate(
        """() => { const plot = document.querySelector('#map-plot .ltg-map'), trace = plot.data[0];
        const { xaxis, yaxis } = plot._fullLayout, box = plot.getBoundingClientRect();
        return [box.x + xaxis._offset + xaxis.l2p(trace.x[0]), box.y + yaxis._offset + yaxis.l2p(trace.y[0])]; }"""
    )
    page.mouse.move(at[0] - 40, at[1])
    page.mouse.move(*at, steps=5)
    expect(page.locator("#map-plot .map-tip")).to_contain_text("read as")
    expect(page.locator("#map-plot .map-tip img")).to_have_js_property("complete", True)

    # The toolbar by keyboard: one stop, arrows, and the tool that is in hand is said.
    tools = plot.get_by_role("toolbar").get_by_role("button")
    expect(plot.get_by_role("toolbar").locator("[tabindex='0']")).to_have_count(1)
    tools.first.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("End")
    pan = plot.get_by_role("button", name="Pan")
    expect(pan).to_be_focused()
    page.keyboard.press("Enter")
    expect(pan).to_have_attribute("aria-pressed", "true")
    visit.shot("map-toolbar")
    lasso = plot.get_by_role("button", name="Lasso Select")
    lasso.press("Enter")
    expect(lasso).to_have_attribute("aria-pressed", "true")

    # Double click in the legend isolates; a real lasso around everything then holds that class only.
    entry = page.locator("#map-plot .map-legend button").first
    name = entry.locator(".legend-name").inner_text()
    entry.dblclick()
    expect(page.locator("#map-plot .legend-one[aria-pressed=false]").first).to_be_visible()
    drag(page, ((0.02, 0.02), (0.9, 0.02), (0.9, 0.97), (0.02, 0.97)))
    expect(page.locator("#map-chosen")).to_contain_text("selected")
    isolated = chosen(page)
    assert isolated > 0
    expect(page.locator("#map-gallery .card-title").first).to_have_text(name)
    assert set(page.locator("#map-gallery .card-title").all_inner_texts()) == {name}
    entry.dblclick()
    expect(page.locator("#map-plot .legend-one[aria-pressed=false]")).to_have_count(0)

    # Ctrl removes and Shift adds, also with a real drag.
    drag(page, ((0.02, 0.02), (0.9, 0.02), (0.9, 0.97), (0.02, 0.97)), "Control")
    expect(plot).to_have_attribute("data-selected", "0")
    emit(page, 0, 20)
    expect(page.locator("#map-gallery .card")).to_have_count(20)
    drag(page, ((0.02, 0.02), (0.9, 0.02), (0.9, 0.97), (0.02, 0.97)), "Shift")
    expect(plot).to_have_attribute("data-selected", re.compile(r"^\d{3,}$"))
    everything = chosen(page)
    assert everything > isolated

    # Grid to ring, point to neighbours, colours that keep the zoom and the selection.
    page.locator("#map-gallery .card").nth(3).click()
    expect(page.locator("#map-panel .near-one")).to_have_count(8)
    visit.shot("map-selection")
    page.locator("#map-panel .near-one").first.click()
    expect(page.locator("#map-panel .hero")).to_be_visible()
    choose(page, "#map-colour", "Entropy")
    expect(page.locator("#map-plot .map-scale")).to_contain_text("Entropy, percentile")
    assert chosen(page) == everything
    page.evaluate("document.body.classList.add('dark')")
    visit.shot("map-dark")
    page.evaluate("document.body.classList.remove('dark')")

    emit(page, 0, 4)
    expect(page.locator("#map-gallery .card")).to_have_count(4)
    page.locator("#map-chosen").get_by_role("button", name="Explain", exact=True).click()
    expect(page.locator("#explain-results .heat-head")).to_have_count(4, timeout=SLOW)
    expect(page.locator("#explain-results .heat img.over")).to_have_count(12, timeout=SLOW)
    visit.shot("explain-table")
    link = page.url
    page.locator("#explain-results .heat-open").nth(1).click()
    expect(page.locator("#explain-results")).to_contain_text("2 of 4")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#explain-results")).to_contain_text("3 of 4")

    # The address holds the samples, also for a browser that has never been here.
    other = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(link)
    expect(other.locator("#explain-results .heat img.over")).to_have_count(12)
    other.context.close()
    page.go_back()
    expect(page.locator("#explain-results .heat-head")).to_have_count(4)
    page.go_back()
    expect(page.locator("#map-gallery .card")).to_have_count(4)


def chosen(page: Any) -> int:
    return int(page.locator("#map-plot .ltg-map").get_attribute("data-selected"))


def emit(page: Any, first: int, last: int) -> None:
    """What Plotly says when a lasso has been drawn around these points."""
    page.evaluate(
        """([first, last]) => { const plot = document.querySelector('#map-plot .ltg-map');
        const points = Array.from(plot.data[0].customdata.slice(first, last), (row) => ({customdata: row}));
        plot.dispatchEvent(new MouseEvent('mousedown'));
        plot.emit('plotly_selected', {points}); }""",
        [first, last],
    )


def drag(page: Any, corners: tuple[tuple[float, float], ...], key: str = "") -> None:
    """A lasso with the mouse."""
    plot = page.locator("#map-plot .ltg-map")
    drawn = plot.get_attribute("data-drawn")
    box = plot.bounding_box()
    if key:
        page.keyboard.down(key)
    page.mouse.move(box["x"] + corners[0][0] * box["width"], box["y"] + corners[0][1] * box["height"])
    page.mouse.down()
    for right, down in (*corners[1:], corners[0]):
        page.mouse.move(box["x"] + right * box["width"], box["y"] + down * box["height"], steps=8)
    page.mouse.up()
    if key:
        page.keyboard.up(key)
    expect(plot).not_to_have_attribute("data-drawn", drawn)
