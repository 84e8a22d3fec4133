"""Samples that are deleted while a page shows them, and values too long for an address, through the real endpoints."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from driver import Driver, texts


def grid(update: dict[str, Any]) -> list[str]:
    return [item["id"] for item in update["browse-grid"]["value"]["items"]]


@pytest.fixture
def gone(ctx: Any) -> str:
    """Id of a sample that exists until ``delete`` is called."""
    picture = np.random.default_rng(5).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    return str(ctx.workspace.add_image(picture, origin="real", split="test", label=0, label_name="stop"))


def delete(ctx: Any, sample: str) -> None:
    with ctx.workspace.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (sample,))


def test_browse_says_that_its_sample_is_gone_and_shows_the_others(page: Driver, ctx: Any, gone: str) -> None:
    shown = page.call("address", "go", {"query": f"?rank=created&split=test&sample={gone}"})
    assert gone in grid(shown)
    delete(ctx, gone)
    assert "This sample is gone" in texts(page.call("browse-grid", "pick", {"id": gone})["browse-panel"])
    again = page.call("browse-facets", "act", {"name": "filter", "field": "split", "value": "test"})
    assert gone not in grid(again) and page.messages == []


def test_a_picture_that_is_gone_from_the_disk_is_drawn_as_gone(page: Driver, ctx: Any, gone: str) -> None:
    ctx.workspace.image_path(gone).unlink()
    answer = page.http.get(f"/media/image/{gone}")
    assert answer.status_code == 404 and answer.headers["content-type"] == "image/svg+xml"
    assert "picture gone" in answer.text and answer.headers["cache-control"] == "no-store"
    panel = page.call("browse-grid", "pick", {"id": gone})["browse-panel"]
    assert "no longer on the disk" in texts(panel)
    delete(ctx, gone)


def test_a_selection_on_the_map_tells_how_many_of_it_are_gone(page: Driver, ctx: Any, gone: str) -> None:
    others = ctx.workspace.query(limit=3)
    delete(ctx, gone)
    found = page.call("map-plot", "lasso", {"ids": [*others, gone]})
    assert [item["id"] for item in found["map-gallery"]["items"]] == others
    assert "1 of these were deleted" in texts(found["map-chosen"])


def test_a_filter_by_a_value_of_5000_characters_finds_its_samples_also_by_its_address(
    page: Driver, ctx: Any, gone: str
) -> None:
    long = "fog, " * 1000
    ctx.workspace.merge_meta({gone: {"remark": long}})
    found = page.call("browse-facets", "act", {"name": "filter", "field": "meta.remark", "value": long})
    assert grid(found) == [gone]
    address = found["address"]["set"]
    assert len(address["meta.remark"]) < 100
    assert grid(page.call("address", "go", {"query": "?" + urlencode(address)})) == [gone]
    delete(ctx, gone)
