"""Curation and export in a real browser, on images that a generation left: keys, large view, sets, review, export."""

from __future__ import annotations

import re
import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, ROOT, Visit, serve, visiting
from playwright.sync_api import expect

from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.guidance.settings import Guidance
from tests.conftest import SIGNS, draw

MADE = 24


def order(number: int, **more: Any) -> dict[str, Any]:
    """What a run of a generation records, as far as the page reads it."""
    plain = {"preset": "explore", "generator": "tiny", "guidance": Guidance().to_dict()}
    return {**plain, "seeds": list(range(number)), "label_names": list(SIGNS), **more}


def generated(ws: Workspace, number: int = MADE) -> list[str]:
    """Guided images with their unguided twins, as a finished generation leaves them."""
    run = ws.start_run("generate", order(number), seed=7)
    real = ws.query(Filter(origin="real", split="train"))
    ids = []
    for i in range(number):
        sign = SIGNS[i % len(SIGNS)]
        made: dict[str, Any] = {"origin": run.id, "label": i % len(SIGNS), "label_name": sign}
        prompt = f"a photo of a {sign} sign at night"
        twin = ws.add_image(
            draw(sign, 5000 + i), meta={"role": "control", "prompt": prompt, "seed": i}, **made
        )
        meta = {
            "role": "guided",
            "prompt": prompt,
            "seed": i,
            "index": i,
            "control": twin,
            "neighbours": real[i : i + 3],
        }
        doubt = i % 8 == 7
        ids.append(
            ws.add_image(
                draw(sign, 6000 + i, "night"),
                meta=meta,
                caption=prompt,
                belief="quarantined" if doubt else "believed",
                belief_reason="the judge sees another class"
                if doubt
                else "the judge agrees; near to real data",
                **made,
            )
        )
    ws.finish_run(run.id, "done", result={"images": number})
    return ids


@pytest.fixture
def place(_fitted_workspace: Path, tmp_path: Path) -> Path:
    """A folder with a workspace ``ws`` in which a generation has ended."""
    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    with Workspace(tmp_path / "ws") as ws:
        generated(ws)
    return tmp_path


@pytest.fixture
def visit(browser: Any, place: Path, tiny_world: Any) -> Iterator[Visit]:
    """A curator on that workspace."""
    with serve(place, str(tiny_world.folder)) as address, visiting(browser, address) as seen:
        expect(seen.page.locator("#header")).to_contain_text("Samples")
        expect(seen.page.locator("#header .job-running")).to_have_count(0)
        opened(seen)
        yield seen


def opened(visit: Visit) -> None:
    visit.tab("Curate & Export")
    expect(visit.page.locator("#curate-grid .card")).to_have_count(MADE)


def part(page: Any, name: str) -> None:
    shown = page.get_by_role("tab", name=name, exact=True)
    if not (shown.count() and shown.first.is_visible()):
        page.locator("#curate-parts .overflow-menu > button").first.click()
        shown = page.locator("#curate-parts .overflow-dropdown button", has_text=name)
    shown.first.click()


def cards(page: Any) -> Any:
    return page.locator("#curate-grid .card")


def progress(page: Any, text: str) -> None:
    expect(page.locator("#curate-grid .curate-bar .count > b")).to_have_text(text)


def quiet(page: Any, seconds: float = 3.0) -> None:
    """Wait until the page has asked its server for nothing but its pulse for so long."""
    last = [time.monotonic()]

    def heard(request: Any) -> None:
        if not request.url.endswith("/pulse"):
            last.append(time.monotonic())

    page.on("request", heard)
    page.on("requestfinished", heard)
    started = time.monotonic()
    while time.monotonic() - last[-1] < seconds:
        assert time.monotonic() - started < 120, "the page does not come to rest"
        page.wait_for_timeout(100)


def saved(page: Any) -> None:
    expect(page.locator("#curate-grid .saving")).to_have_text("")


@pytest.mark.slow
def test_a_curator_works_through_a_generation_and_takes_the_set_away(visit: Visit) -> None:
    keys(visit)
    large(visit)
    bulk_and_undo(visit)
    sets(visit)
    review(visit)
    export(visit)
    narrow(visit)


def keys(visit: Visit) -> None:
    """The list of keys; a range; keys rest while somebody writes."""
    page = visit.page
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keys")
    expect(dialog).to_be_visible()
    visit.shot("curate-keys")
    page.keyboard.press("p")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    progress(page, f"0 of {MADE} decided")
    cards(page).nth(0).click()
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    expect(page.locator("#curate-grid .card.is-selected")).to_have_count(3)
    cards(page).nth(5).click(modifiers=["Control"])
    expect(page.locator("#curate-grid .picked")).to_contain_text("4 selected")
    page.keyboard.press("t")
    page.keyboard.type("night, xpf")
    expect(page.locator("#curate-tag")).to_have_value("night, xpf")
    page.keyboard.press("Enter")
    expect(page.locator("#curate-grid .chip-text")).to_have_text(["night", "xpf"])
    expect(page.locator("#curate-grid .card.is-selected")).to_have_count(4)
    progress(page, f"0 of {MADE} decided")
    page.locator("#curate-grid .chip-tag", has_text="xpf").get_by_role("button").click()
    expect(page.locator("#curate-grid .chip-text")).to_have_text(["night"])
    visit.shot("curate-selection")
    page.keyboard.press("Escape")
    expect(page.locator("#curate-grid .card.is-selected")).to_have_count(0)


def large(visit: Visit) -> None:
    """One image at a time: decide, on to the next undecided, in a hurry, nothing lost."""
    page = visit.page
    cards(page).nth(0).click()
    page.keyboard.press("Enter")
    view = page.get_by_role("dialog", name="One image at a time")
    expect(view.locator(".large-image")).to_have_js_property("complete", True)
    expect(view.locator(".company img")).to_have_count(2)
    visit.shot("curate-large")
    for key in "pxpf":
        page.keyboard.press(key)
    expect(view.locator(".large-top b")).to_have_text(f"4 of {MADE} decided")
    expect(view.locator(".large-top")).to_contain_text("image 5 of")
    page.keyboard.press("ArrowLeft")
    expect(view.locator(".choice-flagged")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("4")
    expect(view.locator(".star.is-on")).to_have_count(4)
    page.keyboard.press("n")
    page.keyboard.type("looks pasted")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(view).to_be_visible()
    page.keyboard.press("Escape")
    expect(view).to_be_hidden()
    expect(page.locator("#curate-grid .ltg-grid")).to_be_focused()
    expect(cards(page).nth(3).locator(".mark-rating")).to_have_text("★★★★")
    expect(page.locator("#curate-note")).to_have_value("looks pasted")
    saved(page)


def bulk_and_undo(visit: Visit) -> None:
    """A selection at once; undo survives a reload; the history goes back several steps."""
    page = visit.page
    cards(page).nth(8).click()
    cards(page).nth(13).click(modifiers=["Shift"])
    page.keyboard.press("a")
    progress(page, f"10 of {MADE} decided")
    expect(page.locator("#curate-grid .card.is-selected")).to_have_count(6)
    saved(page)
    page.reload()
    opened(visit)
    progress(page, f"10 of {MADE} decided")
    page.keyboard.press("Control+z")
    progress(page, f"4 of {MADE} decided")
    page.keyboard.press("Control+Shift+z")
    progress(page, f"10 of {MADE} decided")
    part(page, "History")
    past = page.locator("#curate-history .past")
    expect(past.first).to_contain_text("accepted 6 samples")
    visit.shot("curate-history")
    past.filter(has_text="flagged 1 sample").get_by_role("button").click()
    expect(page.locator("#curate-history .past.is-undone")).to_have_count(4)
    past.first.get_by_role("button", name=re.compile("Redo to here")).click()
    expect(page.locator("#curate-history .past.is-undone")).to_have_count(0)
    part(page, "Decide")
    progress(page, f"10 of {MADE} decided")
    page.locator("#curate-filters .facet-row", has_text="Flagged").click()
    expect(cards(page)).to_have_count(1)
    page.locator("#curate-filters .link", has_text="Clear filters").click()
    expect(cards(page)).to_have_count(MADE)
    visit.shot("curate")


def sets(visit: Visit) -> None:
    """Keep, change, compare, restore."""
    page = visit.page
    part(page, "Sets")
    name = page.locator("#set-name").get_by_role("textbox")
    name.fill("night signs")
    page.locator("#set-keep").click()
    first = page.locator("#set-list .set").first
    expect(first).to_contain_text("8 samples")
    part(page, "Decide")
    cards(page).nth(0).click()
    page.keyboard.press("x")
    cards(page).nth(20).click()
    page.keyboard.press("p")
    saved(page)
    part(page, "Sets")
    first.get_by_role("button", name=re.compile("Difference to now")).click()
    shown = page.locator("#set-difference")
    expect(shown.locator(".figure").nth(0)).to_contain_text("1")
    expect(shown).to_contain_text("Only in night signs@1")
    visit.shot("curate-sets")
    first.get_by_role("button", name=re.compile("Restore")).click()
    expect(page.locator(".toast-body").last).to_contain_text("changed 2 samples")
    part(page, "Decide")
    expect(cards(page).nth(0).locator(".mark-accepted")).to_be_visible()
    page.keyboard.press("Control+z")
    expect(cards(page).nth(0).locator(".mark-rejected")).to_be_visible()
    page.keyboard.press("Control+Shift+z")
    expect(cards(page).nth(0).locator(".mark-accepted")).to_be_visible()
    saved(page)


def review(visit: Visit) -> None:
    """Blind, in another order, then the agreement and its disagreements."""
    page = visit.page
    part(page, "Blind review")
    page.locator("#review-name").get_by_role("textbox").fill("Grace")
    page.locator("#review-start").click()
    grid = page.locator("#review-grid")
    expect(grid.locator(".card")).to_have_count(10)
    expect(grid.locator(".mark, .badge")).to_have_count(0)
    for hidden in ("believed", "quarantined", "judge", "accepted", "%"):
        expect(grid).not_to_contain_text(hidden)
    grid.locator(".card").first.click()
    visit.shot("curate-review")
    page.keyboard.press("Enter")
    for key in "ppppxxxxpp":
        page.keyboard.press(key)
    expect(page.locator("#review-grid .large-top b")).to_have_text("10 of 10 answered")
    page.keyboard.press("Escape")
    result = page.locator("#review-result")
    expect(result).to_contain_text("Cohen's kappa")
    expect(result).to_contain_text("10 samples tell little")
    visit.shot("curate-agreement")
    result.get_by_role("button", name="Resolve them in Decide").click()
    expect(page.locator("#curate-filters .only")).to_contain_text("Disagreements with Grace")
    shown = cards(page).count()
    assert 1 <= shown < 10
    page.locator("#curate-filters .only .link").click()
    expect(cards(page)).to_have_count(MADE)


def export(visit: Visit) -> None:
    """Look first, then take it away; a folder that exists is not replaced without being asked."""
    page = visit.page
    part(page, "Sets")
    page.locator("#set-list .set").first.get_by_role("button", name=re.compile("^Export")).click()
    expect(page.locator("#export-what input")).to_have_value(re.compile("The set night signs, version 1"))
    page.locator("#export-real input").check()
    page.locator("#export-name").get_by_role("textbox").fill("first")
    page.locator("#export-preview").click()
    state = page.locator("#export-state")
    expect(state).to_contain_text("What would be exported")
    expect(state.locator(".figure").nth(1)).to_contain_text("8")
    visit.shot("export-preview")
    page.locator("#export-start").click()
    link = state.locator("a.button")
    expect(link).to_be_visible()
    with page.expect_download() as coming:
        link.click()
    names = zipfile.ZipFile(coming.value.path()).namelist()
    assert any(name.endswith("manifest.jsonl") for name in names)
    assert sum(name.endswith(".png") for name in names) >= 8 + 30
    visit.shot("export")
    page.locator("#export-start").click()
    expect(state.locator(".job-failed")).to_contain_text("in use")
    page.locator("#export-overwrite input").check()
    page.locator("#export-start").click()
    expect(state.locator("a.button")).to_be_visible()


def narrow(visit: Visit) -> None:
    """A telephone, dark."""
    page = visit.page
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.goto(f"{visit.address}/?tab=curate")
    expect(cards(page)).to_have_count(MADE)
    cards(page).nth(2).click()
    for name in ("Decide", "Blind review", "Sets", "History", "Export"):
        part(page, name)
        expect(page.locator("#curate-parts .tabitem:visible").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, (
            f"{name} is wider than the window"
        )
        visit.shot(f"390-dark-curate-{name.split()[0].lower()}")
    part(page, "Decide")
    cards(page).nth(2).dblclick()
    visit.shot("390-dark-curate-large")
    page.set_viewport_size({"width": 1440, "height": 900})
    visit.shot("1440-dark-curate-large")
    page.keyboard.press("Escape")
    visit.shot("1440-dark-curate")


@pytest.mark.slow
def test_two_pages_that_decide_on_the_same_images_lose_nothing(visit: Visit) -> None:
    page = visit.page
    other = page.context.new_page()
    other.set_default_timeout(PATIENCE)
    other.goto(f"{visit.address}/?tab=curate")
    expect(cards(other)).to_have_count(MADE)
    expect(other.locator("#header .chip", has_text="Accuracy")).to_be_visible()
    cards(other).nth(5).click()
    other.keyboard.press("f")
    saved(other)
    expect(other.locator("#curate-filters .facet-row", has_text="Flagged")).to_contain_text("1")
    quiet(other)  # it has been drawn for the last time, and knows what there is
    with other.expect_response("**/pulse") as asked:
        pass
    heard = asked.value.text()
    other.route(
        "**/pulse", lambda route: route.fulfill(body=heard)
    )  # it hears of nothing new until it has decided
    cards(page).nth(1).click()
    page.keyboard.press("x")
    saved(page)
    cards(other).nth(0).click()
    cards(other).nth(2).click(modifiers=["Shift"])
    other.keyboard.press("p")
    expect(other.locator("#curate-grid .curate-notice")).to_contain_text(
        "1 sample was decided in another page"
    )
    other.unroute("**/pulse")
    expect(cards(other).nth(1).locator(".mark-rejected")).to_be_visible()
    expect(cards(other).nth(2).locator(".mark-accepted")).to_be_visible()
    other.screenshot(path=ROOT / "test-results" / "curate-two-pages.png")
    cards(other).nth(1).click()
    other.keyboard.press("p")
    expect(cards(other).nth(1).locator(".mark-accepted")).to_be_visible()
    saved(other)
    other.close()
