"""From a search to a slice in a real browser: words, similar images, a selection, slices, pages, calibration."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Visit, serve, visiting
from PIL import Image
from playwright.sync_api import expect
from test_browse import count, facet, opened, state
from test_main_loop import SLOW


def shown(page: Any) -> list[str]:
    """The pictures of the grid, in order."""
    return [image.get_attribute("src") for image in page.locator("#browse-grid .card img").all()]


def search(page: Any, words: str) -> None:
    field = page.locator("#browse-text textarea, #browse-text input").first
    field.fill(words)
    field.press("Enter")


def ask(page: Any, text: str) -> None:
    """Fill the line that has opened and send it; it has the focus by itself."""
    field = page.locator("#browse-words textarea, #browse-words input").first
    expect(field).to_be_focused()
    field.fill(text)
    field.press("Enter")
    expect(page.locator("#browse-ask")).to_be_hidden()


@pytest.fixture
def alone(browser: Any, opened_demo: Path, tmp_path: Path) -> Iterator[Visit]:
    """A visitor of a workspace to which no other journey has added samples that nobody has scored."""
    shutil.copytree(opened_demo, tmp_path / "ws")
    with serve(tmp_path) as address, visiting(browser, address) as seen:
        yield seen


@pytest.mark.slow
def test_from_a_search_to_a_slice(alone: Visit) -> None:
    visit = alone
    page = opened(visit, "?split=test")
    cards, bar = page.locator("#browse-grid .card"), page.locator("#browse-selection .selection")
    expect(cards.first).to_be_visible()
    search(page, '"no entry" nigh')
    expect(page.locator("#browse-count .condition")).to_have_count(2)
    expect(page.locator("#browse-grid .card-title").filter(has_not_text="no entry")).to_have_count(0)
    found = count(page)
    assert 0 < found < 200 and state(page)["find"] == '"no entry" nigh'

    cards.first.click()
    page.locator("#browse-panel button", has_text="More like this").click()
    banner = page.locator("#browse-count .banner")
    expect(banner).to_contain_text("Most similar to this no entry")
    assert count(page) == found - 1, "the filters stay; the sample itself is not among its likes"
    page.locator("#browse-count .link", has_text="Clear all").click()
    expect(page.locator("#browse-count .condition")).to_have_count(0)
    numbers = [float(text.split()[0]) for text in page.locator("#browse-grid .card-sub").all_inner_texts()]
    assert numbers == sorted(numbers, reverse=True) and numbers[0] > 0.8 and "like" in state(page)
    visit.shot("similar")
    link, order = page.url, shown(page)
    banner.get_by_role("button", name="Back to the ranking").click()
    expect(banner).to_have_count(0)
    page.go_back()
    expect(banner).to_be_visible()
    assert page.url == link and shown(page) == order

    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (180, 20, 30)).save(buffer, "PNG")
    file = {"name": "<img src=x>.png", "mimeType": "image/png", "buffer": buffer.getvalue()}
    page.locator(
        "input[type=file][data-testid=file-upload], #browse-upload input, input[type=file]"
    ).first.set_input_files([file])
    expect(banner).to_contain_text("Most similar to your picture")
    banner.get_by_role("button", name="Back to the ranking").click()
    expect(banner).to_have_count(0)

    cards.nth(1).click()
    expect(bar).to_have_count(0)
    cards.nth(4).click(modifiers=["Shift"])
    expect(bar).to_contain_text("4 selected")
    bar.get_by_role("button", name="Tag").click()
    ask(page, "look again, odd")
    bar.get_by_role("button", name="Save as slice").click()
    visit.shot("selection")
    ask(page, "four of them <b>")
    bar.get_by_role("button", name="Clear").click()
    expect(bar).to_have_count(0)
    expect(cards.locator(".is-selected")).to_have_count(0)
    assert page.locator("#browse-facets .facet-row", has_text="look again").count() == 1
    slices(visit, page)


def slices(visit: Visit, page: Any) -> None:
    """What was saved is listed, changed and brought back; what is found opens."""
    cards = page.locator("#browse-grid .card")
    page.locator("#browse-count .mode", has_text="Slices").click()
    saved = page.locator("#browse-summary .slice", has_text="four of them <b>")
    expect(saved).to_contain_text("4 samples")
    saved.get_by_role("button", name="Rename").click()
    ask(page, "the four")
    saved = page.locator("#browse-summary .slice", has_text="the four")
    saved.get_by_role("button", name="Remove").click()
    expect(saved).to_have_count(0)
    page.locator("#browse-summary .told .link", has_text="Undo").click()
    saved.locator(".slice-name").click()
    expect(cards).to_have_count(4)
    expect(page.locator("#browse-count .condition")).to_contain_text("the four")

    page.locator("#browse-count .mode", has_text="Slices").click()
    page.get_by_role("button", name="Find by errors").click()
    found = page.locator("#browse-summary .slices-search ~ .slice")
    expect(found.nth(2)).to_be_visible()
    expect(page.locator("#browse-summary .slices-search").first).to_contain_text("candidates were tested")
    visit.shot("slices")
    first = found.filter(has_not_text="Similar images").first
    wrong, n = re.search(r"([\d,]+) of ([\d,]+) wrong", first.inner_text()).groups()  # type: ignore[union-attr]
    first.locator(".slice-name").click()
    expect(cards).to_have_count(int(n))
    assert {"split", "origin"} & set(state(page)) == {"split"} and state(page)["split"] == "val or test"
    expect(cards.locator(".card-sub.wrong")).to_have_count(int(wrong))
    page.go_back()
    expect(found.first).to_be_visible()


def test_pages_turn_by_number_and_by_key_and_calibration_is_drawn(visit: Visit) -> None:
    page = opened(visit, "?split=test&rank=entropy")
    cards, field = page.locator("#browse-grid .card"), page.locator("#browse-count input.page-field")
    expect(cards).to_have_count(60)
    page.locator("#browse-count button.size", has_text="200").click()
    expect(cards).to_have_count(200)
    assert state(page)["size"] == "200"
    field.fill("2")
    field.press("Enter")
    page.wait_for_url(re.compile("page=2"))
    second = shown(page)
    cards.nth(5).click()
    page.keyboard.press("Home")
    page.keyboard.press("PageUp")
    page.wait_for_url(lambda url: "page=" not in url)
    expect(field).to_have_value("1")
    assert len(set(shown(page)) & set(second)) == 0
    page.keyboard.press("End")
    page.keyboard.press("PageDown")
    page.wait_for_url(re.compile("page=2"))
    expect(field).to_have_value("2")
    assert shown(page) == second
    page.reload()
    expect(field).to_have_value("2")
    expect(cards).to_have_count(200)
    assert shown(page) == second

    page.locator("#browse-count .mode", has_text="By class").click()
    plot = page.locator(".reliability-plot")
    expect(plot).to_have_attribute("aria-label", re.compile("all classes: calibration error"))
    page.locator(".by-class button.class-name", has_text="danger").click()
    expect(plot).to_have_attribute("aria-label", re.compile("danger: calibration error"))
    assert state(page)["of"] == "danger"
    assert plot.evaluate("one => one.namespaceURI") == "http://www.w3.org/2000/svg"
    visit.shot("calibration")


def test_a_number_of_the_metadata_is_filtered_by_its_range(visit: Visit) -> None:
    page = opened(visit)
    everything = count(page)
    page.locator("#browse-facets summary", has_text=re.compile("^Brightness$")).click()
    rows = page.locator("#browse-facets details[open]", has_text="Brightness").locator(".facet-row")
    expect(rows).to_have_count(8)
    promised = [int(text.replace(",", "")) for text in rows.locator(".facet-count").all_inner_texts()]
    assert sum(promised) == everything
    rows.nth(3).click()
    expect(page.locator("#browse-count .condition", has_text="Brightness")).to_contain_text(" to ")
    assert count(page) == promised[3] and ".." in state(page)["meta.brightness"]
    expect(facet(page, "Test")).to_be_visible()


@pytest.mark.slow
def test_findings_are_named_in_words_and_their_cause_is_tested(visit: Visit) -> None:
    page = opened(visit, "?split=test")
    page.locator("#browse-count .mode", has_text="Slices").click()
    page.get_by_role("button", name="Name in words").click()
    named = page.locator("#browse-summary .slices-search ~ .slice").filter(
        has_text=re.compile("covered in snow|that is tilted")  # no metadata says it so
    )
    found = named.filter(has_text="Test the cause")
    expect(found.first).to_be_visible(timeout=SLOW)
    expect(found.first).to_contain_text(re.compile(r"[\d,]+ of [\d,]+ wrong"))
    name = found.first.locator(".slice-name").inner_text()
    found.first.get_by_role("button", name="Test the cause").click()
    tested = page.locator("#browse-summary .slice", has_text=name).filter(has_text="Test again")
    expect(tested.locator(".cause-verdict")).to_contain_text("pairs with the same seeds", timeout=SLOW)
    expect(tested.locator(".cause-row")).to_have_count(2)
    expect(page.locator("#browse-summary")).to_contain_text("import unlabelled ones")
    visit.shot("name")
    tested.locator(".slice-name").click()
    expect(page.locator("#browse-grid .card").first).to_be_visible()
    expect(page.locator("#browse-count .condition", has_text=name)).to_be_visible()
