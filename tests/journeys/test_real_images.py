"""The loop on real images by page: CIFAR-10, and a classifier that somebody else trained, uploaded as published."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, serve, visiting
from playwright.sync_api import expect
from test_main_loop import SLOW, choose, explain, setup_step

SHARED = ROOT.parent / "shared" / "data"
WEIGHTS = SHARED / "weights" / "resnet_cifar10" / "resnet20-12fca82f.th"
TABLE = SHARED / "cifar10" / "test.parquet"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The first 400 test images; the classifier has seen none of them, so any may stand for training here."""
    if not (WEIGHTS.is_file() and TABLE.is_file()):
        pytest.skip("CIFAR-10 and the published ResNet-20 are not there (../shared/data)")
    table = pq.read_table(TABLE).slice(0, 400)
    split = pa.array(["val"] * 100 + ["train"] * 300)
    pq.write_table(table.append_column("split", split), tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


@pytest.mark.slow
def test_a_published_classifier_is_uploaded_ranked_explained_mapped_and_exported(
    browser: Any, photos: Path, tmp_path: Path
) -> None:
    with serve(tmp_path, str(photos)) as address, visiting(browser, address) as visit:
        page = visit.page
        expect(page.locator("#header")).to_contain_text("400", timeout=SLOW)
        visit.tab("Setup")
        page.locator("#setup-weights input[type=file]").set_input_files(WEIGHTS)
        expect(page.locator("#setup-weights")).to_contain_text(WEIGHTS.name)
        expect(page.locator("#setup-inspected")).to_contain_text("tensors", timeout=SLOW)
        page.locator("#setup-arch").get_by_role("textbox").fill("resnet20_cifar")
        page.locator("#setup-use").click()
        accuracy = page.locator("#header .chip", has_text="Accuracy")
        expect(accuracy).to_contain_text("%", timeout=SLOW)
        shown = re.search(r"(\d+(\.\d+)?)\s*%", accuracy.inner_text())
        assert shown is not None and 86 <= float(shown.group(1)) <= 97  # published: 91.7 on all 10,000
        setup_step(page, "Check")
        expect(page.locator("#setup-check .reliability svg")).to_be_visible()
        expect(page.locator("#setup-check .stop")).to_have_count(0)
        visit.shot("real-check")
        page.locator("#setup-check .onward button").click()
        expect(page.locator("#setup-fit")).to_be_enabled(timeout=SLOW)
        page.locator("#setup-fit").click()
        expect(page.get_by_text("It is fitted")).to_be_visible(timeout=SLOW)
        visit.shot("real-setup")
        visit.tab("Browse")
        choose(page, "#browse-sort", "Epistemic")
        page.locator("#browse-facets .facet-row", has_text="Wrong").click()
        expect(page.locator("#browse-grid .card-sub:not(.wrong)")).to_have_count(0)
        page.locator("#browse-grid .card").first.click()
        panel = page.locator("#browse-panel")
        expect(panel.locator(".says.wrong")).to_be_visible()
        visit.shot("real-browse")
        explain(visit, str(panel.locator(".says b").first.inner_text()))
        visit.tab("Map")
        page.locator("#map-draw").click()
        expect(page.locator("#map-plot .ltg-map")).to_have_attribute(
            "data-drawn", re.compile(r"\d+"), timeout=SLOW
        )
        visit.shot("real-map")
        accept_and_export(visit)


def accept_and_export(visit: Any) -> None:
    """Some images are accepted by key and taken away; those of validation stay, and it is said."""
    page = visit.page
    visit.tab("Curate & Export")
    page.locator("#curate-filters .facet-row", has_text="Real").click()
    cards = page.locator("#curate-grid .card")
    expect(cards.nth(6)).to_be_visible()
    for number in range(6):
        cards.nth(number).click()
        page.keyboard.press("p")
        expect(cards.nth(number).locator(".mark-accepted")).to_be_visible()
    page.get_by_role("tab", name="Export", exact=True).click()
    page.locator("#export-start").click()
    link = page.locator("#export-state a")
    expect(link).to_be_visible(timeout=SLOW)
    with page.expect_download() as coming:
        link.click()
    names = zipfile.ZipFile(coming.value.path()).namelist()
    assert 1 <= sum(name.endswith(".png") for name in names) <= 6
    assert any(name.endswith("manifest.jsonl") for name in names)
