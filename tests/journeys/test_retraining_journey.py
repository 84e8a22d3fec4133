"""Retrain and prove in a real browser: what will be learned from, a training, regressions first, the new classifier."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Visit, serve, visiting
from playwright.sync_api import expect

from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from tests.conftest import SIGNS, draw
from tests.journeys.test_curating import generated

_TEST = 16


@pytest.fixture
def place(_fitted_workspace: Path, tmp_path: Path) -> Path:
    """A folder with a workspace ``ws``: half of a generation is accepted; conditions, and more test images."""
    from ltg_core.curation import verdicts

    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    with Workspace(tmp_path / "ws") as ws:
        ids = generated(ws)
        verdicts.set_verdict(ws, ids[::2], "accepted")
        for label, sign in enumerate(SIGNS):
            for k in range(_TEST):
                picture = draw(sign, 20_000 + 100 * label + k, "night" if k % 2 else "clear day")
                ws.add_image(picture, origin="real", split="test", label=label, label_name=sign)
        real = ws.query(Filter(origin="real"))
        ws.merge_meta({one: {"light": "night" if k % 2 else "day"} for k, one in enumerate(real)})
    return tmp_path


@pytest.fixture
def visit(browser: Any, place: Path, tiny_world: Any) -> Iterator[Visit]:
    """An engineer on that workspace."""
    with serve(place, str(tiny_world.folder)) as address, visiting(browser, address, "/?tab=retrain") as seen:
        expect(seen.page.locator("#header")).to_contain_text("Samples")
        expect(seen.page.locator("#header .job-running")).to_have_count(0)
        yield seen


@pytest.mark.slow
def test_an_engineer_retrains_compares_and_uses_the_result(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#retrain-plan")).to_contain_text("real images that say when to stop")
    expect(page.locator("#retrain-plan")).to_contain_text("12generated images")
    expect(page.locator("#retrain-trained")).to_contain_text("Nothing trained yet")
    visit.shot("retrain-before")
    page.locator("#retrain-epochs input").fill("8")
    page.locator("#retrain-seeds input").fill("2")
    page.locator("#retrain-all > button").click()
    page.locator("#retrain-fresh-head input").check()
    page.get_by_role("button", name="Start retraining").click()
    expect(page.locator("#header details.jobs")).to_contain_text("Retraining")
    page.reload()
    expect(page.locator("#retrain-trained .trained.is-done")).to_have_count(1)
    expect(page.locator("#retrain-trained .is-done")).to_contain_text("2 seeds")
    visit.shot("retrain")
    page.locator("#retrain-trained").get_by_role("button", name="Compare").click()
    proved(visit)
    used(visit)


@pytest.mark.slow
def test_what_practising_would_do_stands_in_its_part_and_its_address_opens_it(visit: Visit) -> None:
    page = visit.page
    page.locator("#retrain-top").get_by_role("button", name="Practise").click()
    expect(page.locator("#practise-plan")).to_contain_text("120images at most")
    expect(page.locator("#practise-plan")).to_contain_text("for the images")
    expect(page.locator("#practise-start")).to_be_visible()
    expect(page.locator("#compare-start")).not_to_be_visible()
    assert "retrain.part=practise" in page.url
    page.locator("#practise-rounds input").fill("2")
    page.locator("#practise-rounds input").blur()
    expect(page.locator("#practise-plan")).to_contain_text("48images at most")
    page.reload()
    expect(page.locator("#practise-plan")).to_contain_text("120images at most")
    for width in (1440, 390):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        visit.shot(f"practise-{width}")


def proved(visit: Visit) -> None:
    """What became worse stands above everything else; the address opens the same again."""
    page = visit.page
    expect(page.locator("#compare-head .regressions")).to_be_visible()
    expect(page.locator("#compare-figure .forest-names li").first).to_be_visible()
    expect(page.locator("#compare-figure .forest-plot .main-svg").first).to_be_visible()
    above = page.locator("#compare-head .regressions").bounding_box()["y"]
    assert above < page.locator("#compare-figure").bounding_box()["y"]
    assert above < page.locator("#compare-rest").bounding_box()["y"]
    page.locator("#compare-head button.arm").nth(1).click()
    expect(page.locator("#compare-head button.arm").nth(1)).to_have_attribute("aria-pressed", "true")
    assert "retrain.part=compare" in page.url and "retrain.arm=2" in page.url
    page.locator("#compare-head button.arm").first.click()
    expect(page.locator("#compare-rest")).to_contain_text("Use this classifier")
    with page.expect_download() as fetched:
        page.get_by_role("link", name="Download (JSON)").click()
    assert Path(fetched.value.path()).read_text().startswith('{"regressions"')
    for scheme, width in (("light", 1440), ("dark", 1440), ("light", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 900})
        expect(page.locator("#compare-figure .forest-plot .main-svg").first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        visit.shot(f"compare-{scheme}-{width}" if (scheme, width) != ("light", 1440) else "compare")


def used(visit: Visit) -> None:
    """Asked once more, then in use; and the loop starts again."""
    page = visit.page
    page.set_viewport_size({"width": 1440, "height": 900})
    page.locator("#compare-rest").get_by_role("button", name="Use this classifier").click()
    expect(page.locator("#retrain-use")).to_contain_text("instead of “tiny signs”")
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#retrain-use")).to_contain_text("head is not fitted yet")
    page.get_by_role("button", name="Fit its head").click()
    expect(page.locator("#retrain-use")).to_contain_text("The loop starts again")
    visit.shot("retrain-used")
