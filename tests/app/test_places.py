"""What each tab keeps in the address, through the real endpoints: told when it changes, shown when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from driver import Driver, texts

from app.asked import Asked, from_place, place
from app.curation.choice import Choice
from ltg_core.data.records import Filter
from ltg_core.jobs import Job


def kept(update: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = update["address"]["set"]
    return found


@pytest.fixture
def columns(ctx: Any) -> None:
    """Two metadata columns to plan by."""
    ids = ctx.workspace.query(Filter(origin="real"))
    ctx.workspace.merge_meta(
        {
            one: {"light": ("day", "night")[k % 2], "place": ("road", "town")[k % 3 > 1]}
            for k, one in enumerate(ids)
        }
    )
    ctx.changed()


def test_coverage_keeps_its_column_view_and_cell(page: Driver, columns: None) -> None:
    page.fill("coverage-grid")
    shown = page.call("coverage-column", "input", coverage_column="place")
    assert kept(shown) == {"coverage.by": "place"}
    cell = page.call(
        "coverage-grid", "act", {"name": "cell", "label": "stop", "value": '"road"'}, coverage_column="place"
    )
    assert kept(cell) == {"coverage.by": "place", "coverage.class": "stop", "coverage.value": '"road"'}
    opened = page.go({"tab": "coverage", **kept(cell)})
    assert opened["tabs"]["selected"] == "coverage" and opened["coverage-column"]["value"] == "place"
    assert texts(opened["coverage-panel"]) == texts(cell["coverage-panel"])
    back = page.go({"tab": "coverage"})
    assert back["coverage-column"]["value"] == "light"
    assert "Where images would help most" in texts(back["coverage-panel"])
    page.go({"tab": "coverage", "coverage.class": "stop", "coverage.value": '"moon"'})
    assert "not here" in page.messages[-1]


def test_explain_keeps_its_samples_methods_and_question(
    page: Driver, ctx: Any, ended: Callable[..., Job]
) -> None:
    ids = ctx.workspace.query(Filter(split="test"), limit=3)
    names = {
        "explain.of": ",".join([*ids, "f00"]),
        "explain.with": "saliency",
        "explain.what": "contrast",
        "explain.first": "yield",
        "explain.second": "stop",
        "explain.alone": ids[1],
    }
    shown = page.go({"tab": "explain", **names})
    assert ended("explain").state == "done"
    shown = page.go({"tab": "explain", **names})
    assert shown["explain-methods"] == ["saliency"] and shown["explain-target"] == "contrast"
    assert "2 of 3" in texts(shown["explain-results"]) and "yield rather than stop" in texts(
        shown["explain-results"]
    )
    back = page.call("explain-results", "act", {"name": "back"})
    assert "explain.alone" not in kept(back) and kept(back)["explain.of"] == ",".join(ids)
    less = page.call("explain-chosen", "act", {"name": "remove", "id": ids[0]})
    assert kept(less)["explain.of"] == ",".join(ids[1:])
    assert "Nothing explained yet" in texts(page.go({"tab": "explain"})["explain-results"])
    page.go({"tab": "explain", "explain.of": ids[0], "explain.what": "secrets"})
    assert "not known here" in page.messages[-1]


def test_more_samples_than_an_address_names_stay_on_the_page_that_has_them(ctx: Any) -> None:
    ids = ctx.workspace.query(limit=70)
    given = place(Asked(tuple(ids), ("saliency",), "signal:entropy", page=3), ctx.workspace.label_names())
    assert len(given["of"].split(",")) == 60 and given["more"] == "10"
    whole = from_place(ctx, given, ids)
    assert (list(whole.ids), whole.methods, whole.target, whole.page) == (
        ids,
        ("saliency",),
        "signal:entropy",
        3,
    )
    assert list(from_place(ctx, given).ids) == ids[:60]


def test_the_map_keeps_its_colour_and_imagine_its_preset_and_class(page: Driver) -> None:
    assert kept(page.call("map-colour", "input", map_colour="origin")) == {"map.by": "origin"}
    assert page.go({"tab": "map", "map.by": "origin"})["map-colour"]["value"] == "origin"
    assert page.go({"tab": "map", "map.by": "moon"})["map-colour"]["value"] == "class"
    told = page.call("imagine-preset", "input", imagine_preset="unguided", imagine_class="any", at=0)
    assert kept(told) == {"imagine.preset": "unguided"}
    opened = page.go({"tab": "imagine", "imagine.preset": "unguided", "imagine.class": "yield"})
    assert opened["imagine-preset"] == "unguided" and opened["imagine-class"]["value"] == "yield"
    assert "yield" in opened["imagine-prompt"]
    assert "imagine-preset" not in page.go({"tab": "map"}), "a tab that is not shown stays as it is"


def test_curate_keeps_its_filters_and_finds_the_page_of_its_sample(
    page: Driver, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.curation import decide, items

    monkeypatch.setattr(items, "PAGE", 5)
    monkeypatch.setattr(decide, "PAGE", 5)
    page.call("curate-filters", "act", {"name": "filter", "field": "origin", "value": "real"})
    told = kept(page.call("curate-filters", "act", {"name": "filter", "field": "label", "value": "yield"}))
    assert told == {"curate.origin": "real", "curate.class": "yield"}
    order = ctx.workspace.query(Filter(origin="real", label=1), sort="id")
    shown = page.go({"tab": "curate", **told, "curate.sample": order[7]})["curate-grid"]
    assert [one["id"] for one in shown["items"]] == order[5:10] and shown["focus"] == order[7]
    page.go({"tab": "curate", **told, "curate.sample": "f00"})
    assert "not among these" in page.messages[-1]
    hostile = Choice.from_place(
        {"verdict": "great", "rating": "9", "tag": "x" * 1000, "origin": "", "nothing": "1"}
    )
    assert hostile == Choice(tag="x" * 300)
