"""A workspace full of hostile texts, walked in a real browser: nothing runs, all of it is shown as text."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Visit, serve, visiting
from playwright.sync_api import expect
from test_curating import order

from ltg_core import curation
from ltg_core.curation import review, sets
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from tests.conftest import draw

EVIL = (
    '<img src=x onerror="window.hit=1">',
    "${window.hit=2}{{window.hit=3}}",
    "<script>window.hit=4</script>",
    "safe\u202egnp.exe\u2066",
    "x" * 10_000,
    "line\nline\u2028line",
    "=cmd|' /C calc'!A0",
    '<a href="javascript:window.hit=5">here</a>',
)


@pytest.fixture
def place(_fitted_workspace: Path, tmp_path: Path) -> Path:
    """Hostile classes, captions, sources, metadata, tags, notes, names of sets and reviewers, a map, a generation."""
    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    with Workspace(tmp_path / "ws") as ws:
        settings = order(
            len(EVIL), preset=EVIL[0], generator=EVIL[1], label_names=list(EVIL), prompts=list(EVIL)
        )
        run = ws.start_run("generate", settings, seed=1)
        near = ws.query(Filter(origin="real"), limit=1)
        for i, text in enumerate(EVIL):
            common: dict[str, Any] = {"label_name": text, "caption": text, "source": text}
            meta = {text[:80]: text, "prompt": text, "seed": i}
            ws.add_image(draw("stop", 900 + i), origin="real", split="train", meta=meta, **common)
            twin = ws.add_image(
                draw("stop", 930 + i), origin=run.id, meta=meta | {"role": "control"}, **common
            )
            more = {"role": "guided", "index": i, "control": twin, "neighbours": near}
            ws.add_image(draw("stop", 960 + i), origin=run.id, meta=meta | more, belief="believed",
                         belief_reason=text, **common)  # fmt: skip
        ws.finish_run(run.id, "done", result={"images": len(EVIL)})
        made = ws.query(Filter(origin=run.id, meta={"role": "guided"}))
        for id, text in zip(made, EVIL, strict=True):
            curation.tag(ws, [id], add=[text[:90]])
            curation.note(ws, [id], text)
        curation.set_verdict(ws, made, "accepted")
        sets.snapshot(ws, EVIL[0])
        curation.undo(ws)
        curation.redo(ws)
        asked = review.start(ws, made, EVIL[0])
        review.answer(ws, asked.id, {made[0]: "rejected"})
        drawn = ws.start_run("map", {}, hashes={"classifier": ws.get_state("classifier")["hash"]})
        ids = ws.query()
        ws.put_array(
            f"map-{drawn.id}", np.random.default_rng(0).normal(size=(len(ids), 2)).astype(np.float32)
        )
        ws.put_array(f"map-{drawn.id}-ids", np.array([one.encode() for one in ids]))
        ws.put_state("map", {"run": drawn.id, "model_hash": ws.get_state("classifier")["hash"]})
        ws.finish_run(drawn.id, "done", result={"samples": len(ids), "notes": []})
    return tmp_path


@pytest.mark.slow
def test_hostile_texts_are_shown_and_do_nothing(browser: Any, place: Path, tiny_world: Any) -> None:
    with serve(place, str(tiny_world.folder)) as address, visiting(browser, address) as visit:
        page = visit.page
        expect(page.locator("#header .chip", has_text="Accuracy")).to_contain_text("%", timeout=300_000)
        expect(page.locator("#header .job-running")).to_have_count(0, timeout=300_000)
        browse(visit)
        curate(visit)
        imagine(visit)
        the_map(visit)


def harmless(visit: Visit, name: str) -> None:
    """Nothing ran, nothing is wider than the window, no element came out of a text."""
    page = visit.page
    assert page.evaluate("window.hit") is None, name
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440, f"{name} is wider than the window"
    assert page.locator("img[src='x'], img[onerror], a[href^='javascript']").count() == 0, name
    wide = page.evaluate(
        """Array.from(document.querySelectorAll('.says b, .facet summary, .unfold summary')).filter((one) => {
        const around = one.closest('.panel, .facets, .curate-side, .large-side') || document.body;
        return one.offsetParent && one.getBoundingClientRect().right > around.getBoundingClientRect().right + 1;
        }).length"""
    )
    assert wide == 0, f"{name}: a long word leaves its box"
    tall = page.evaluate(
        "Math.max(0, ...Array.from(document.querySelectorAll('.card, .fact, .past, .set, .review'))"
        ".filter((one) => one.offsetParent).map((one) => one.offsetHeight))"
    )
    assert tall < 600, f"{name}: a long text breaks the layout ({tall} px)"
    visit.shot(f"hostile-{name}")


def browse(visit: Visit) -> None:
    page = visit.page
    visit.tab("Browse")
    search = page.locator("#browse-text").get_by_role("textbox")
    search.fill("window.hit=1")
    search.press("Enter")
    expect(page.locator("#browse-grid .card-title").first).to_have_text(EVIL[0])
    page.locator("#browse-grid .card").first.click()
    expect(page.locator("#browse-panel .says")).to_contain_text(EVIL[0])
    for group in page.locator("#browse-facets summary").all()[-4:]:
        group.click()
    search.fill("xxxxxxxxxx")
    search.press("Enter")
    expect(page.locator("#browse-grid .card-title").first).to_contain_text("xxxxx")
    page.locator("#browse-grid .card").first.click()
    expect(page.locator("#browse-panel .says")).to_contain_text("xxxxx")
    harmless(visit, "browse")


def curate(visit: Visit) -> None:
    page = visit.page
    visit.tab("Curate & Export")
    cards = page.locator("#curate-grid .card")
    expect(cards).to_have_count(len(EVIL))
    shown = cards.locator(".card-title").all_inner_texts()
    assert any(EVIL[0] in text for text in shown) and any("${window.hit=2}" in text for text in shown)
    assert any("safe\ufffdgnp.exe\ufffd" in text for text in shown), "the mark does not turn the name round"
    for number in range(len(EVIL)):
        cards.nth(number).click()
        expect(page.locator("#curate-grid .curate-facts")).to_be_visible()
    harmless(visit, "curate")
    page.keyboard.press("Enter")
    for _ in EVIL:
        page.keyboard.press("ArrowLeft")
    harmless(visit, "large")
    page.keyboard.press("t")
    page.keyboard.type(EVIL[0])
    page.keyboard.press("Enter")
    expect(page.locator("#curate-grid .chip-text", has_text="onerror")).to_be_visible()
    page.keyboard.press("Escape")
    for name, place in (
        ("Sets", "#set-list .set"),
        ("History", "#curate-history .past"),
        ("Blind review", ".review"),
    ):
        page.get_by_role("tab", name=name, exact=True).click()
        expect(page.locator(place).first).to_be_visible()
        if name == "Sets":
            page.locator("#set-list").get_by_role("button", name=re.compile("Difference")).first.click()
            expect(page.locator("#set-difference")).to_contain_text(EVIL[0])
            page.locator("#set-list").get_by_role("button", name=re.compile("Restore")).first.click()
            expect(page.locator(".toast-body").last).to_contain_text("<img src=x")
        if name == "Blind review":
            page.locator(".review").get_by_role("button", name="Agreement").click()
            expect(page.locator("#review-result")).to_contain_text(EVIL[0])
        harmless(visit, name.split()[0].lower())
    page.get_by_role("tab", name="Export", exact=True).click()
    page.locator("#export-preview").click()
    expect(page.locator("#export-state")).to_contain_text("What would be exported")
    expect(page.locator("#export-state")).to_contain_text(EVIL[0])
    harmless(visit, "export")


def imagine(visit: Visit) -> None:
    page = visit.page
    visit.tab("Imagine")
    expect(page.locator("#imagine-results .trip")).to_have_count(len(EVIL))
    expect(page.locator("#imagine-results")).to_contain_text(EVIL[0])
    harmless(visit, "imagine")


def the_map(visit: Visit) -> None:
    page = visit.page
    visit.tab("Map")
    expect(page.locator("#map-plot .ltg-map")).to_have_attribute("data-drawn", re.compile(r"\d+"))
    page.evaluate(
        """() => { const plot = document.querySelector('#map-plot .ltg-map');
        const points = plot.data.flatMap((one) => one.customdata || []).map((id) => ({customdata: id}));
        plot.emit('plotly_selected', {points}); }"""
    )
    expect(page.locator("#map-gallery .card").first).to_be_visible()
    plot = page.locator("#map-plot .ltg-map").bounding_box()
    for step in range(12):
        page.mouse.move(
            plot["x"] + plot["width"] * (0.2 + 0.05 * step), plot["y"] + plot["height"] * (0.3 + 0.03 * step)
        )
    harmless(visit, "map")
