"""Bring your own in a real browser: class names in the wrong order are caught and repaired."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import serve, visiting
from playwright.sync_api import expect

SLOW = 600_000


@pytest.mark.slow
def test_a_wrong_order_of_class_names_is_caught_repaired_and_the_head_fitted(
    browser: Any, tiny_world: Any, tiny_classifier_file: Path, tmp_path: Path
) -> None:
    with serve(tmp_path, str(tiny_world.folder)) as address, visiting(browser, address, "/") as visit:
        page = visit.page
        expect(page.locator("#start-view .needs li.is-there")).to_have_count(1, timeout=SLOW)
        expect(page.locator("#header .job-running")).to_have_count(0, timeout=SLOW)
        visit.shot("own-start")
        page.locator("#start-view").get_by_role("button", name="Bring your own", exact=True).click()
        step = page.locator("#setup-steps .step")
        expect(step.nth(1)).to_have_class(re.compile("is-done"))
        expect(step.nth(0)).to_have_class(re.compile("is-current"))
        card = tiny_classifier_file.with_suffix(".json")
        page.locator("#setup-weights input[type=file]").set_input_files([tiny_classifier_file, card])
        expect(page.locator("#setup-inspected")).to_contain_text("3 outputs", timeout=SLOW)
        expect(page.locator("#setup-arch").get_by_role("textbox")).to_have_value("resnet14_small")
        names = page.locator("#setup-labels").get_by_role("textbox")
        expect(names).to_have_value("stop\nyield\nparking")
        names.fill("yield\nparking\nstop")
        visit.shot("own-classifier")
        page.locator("#setup-use").click()
        expect(step.nth(2)).to_have_class(re.compile("is-attention"), timeout=SLOW)
        step.nth(2).get_by_role("button").click()
        stop = page.locator("#setup-check .stop")
        expect(stop).to_contain_text("No better than always giving the same answer")
        expect(page.locator("#setup-check .onward button")).to_be_disabled()
        expect(page.locator("#setup-check-grid .card").first).to_be_visible()
        visit.shot("own-stop")
        tick = stop.get_by_role("checkbox")
        tick.click()
        expect(page.locator("#setup-check .onward button")).to_be_enabled()
        tick.click()
        expect(page.locator("#setup-check .onward button")).to_be_disabled()
        repair = stop.locator(".alternative", has_text="class names in another order").first
        repair.get_by_role("button", name="Use this").click()
        expect(step.nth(2)).to_have_class(re.compile("is-done"), timeout=SLOW)
        expect(page.locator("#setup-check .stop")).to_have_count(0)
        expect(page.locator("#setup-check .reliability svg")).to_be_visible()
        map_a_name(page)
        visit.shot("own-check")
        page.locator("#setup-check .onward button").click()
        page.locator("#setup-fit").click()
        expect(page.get_by_text("It is fitted")).to_be_visible(timeout=SLOW)
        expect(step.nth(3)).to_have_class(re.compile("is-done"))
        visit.shot("own-head")
        step.nth(0).get_by_role("button").click()
        expect(names).to_have_value("yield\nparking\nstop")
        expect(page.locator("#setup-weights")).to_contain_text(tiny_classifier_file.suffix)
        step.nth(1).get_by_role("button").click()
        expect(page.locator("#setup-data-now")).to_contain_text("72 images added")


def map_a_name(page: Any) -> None:
    """One name of the data is taken away from its class and given back."""
    row = page.locator("#setup-mapping tbody tr", has_text="parking").first
    row.get_by_label("Class of parking").select_option("")
    expect(row.locator(".how")).to_have_text("set by hand", timeout=SLOW)
    expect(page.locator("#setup-mapping .warn")).to_contain_text("1 have none")
    row.get_by_label("Class of parking").select_option("parking")
    expect(page.locator("#setup-mapping .warn")).to_have_count(0, timeout=SLOW)
    page.locator("#setup-check-modes").get_by_role("button", name="Wrong first").click()
    expect(page.locator("#setup-check-modes .is-on")).to_have_text("Wrong first")
