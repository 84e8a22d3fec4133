"""Explain and Map through their real endpoints."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from driver import Driver, actions, texts

from app import plots
from app.asked import Asked, clicked_in
from app.heats import Shown, matrix
from app.picked import Picked
from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.jobs import Job

Ended = Callable[..., Job]
HOSTILE = (
    '<img src=x onerror="alert(1)">',
    "<b>bold</b>",
    "${alert(1)}{{value}}",
    "\u202eright to left",
    "x" * 10_000,
)


def nodes(node: Any, kind: str) -> Iterator[dict[str, Any]]:
    """All nodes of a class."""
    if isinstance(node, dict):
        if kind in str(node.get("c", "")).split():
            yield node
        for child in node.get("k", []):
            yield from nodes(child, kind)


def chosen(page: Driver, ids: list[str], **given: Any) -> dict[str, Any]:
    """Bring samples to Explain the way the map does: as the selection of this visit; what the address keeps of it."""
    page.call("map-plot", "lasso", {"ids": ids})
    update = page.call("map-chosen", "act", {"name": "explain"}, **given)
    page.follow(update)
    return update


def clicked_below(page: Driver, panel: str, data: dict[str, Any]) -> dict[str, Any]:
    """A button below a sample: everything that listens hears of it, as in the browser."""
    wanted = [page.ids[panel], "act"]
    heard = [d for d in page.config["dependencies"] if wanted in [list(t) for t in d["targets"]]]
    found: dict[str, Any] = {}
    for handler in heard:
        found |= page.run(handler, data)
    return found


def followed(page: Driver) -> dict[str, Any]:
    """What a beat of the page's clock draws."""
    results, box = page.ids["explain-results"], page.ids["explain-chosen"]
    (handler,) = [
        d
        for d in page.config["dependencies"]
        if results in d["outputs"] and box not in d["outputs"] and d["targets"][0][1] == "change"
    ]
    return page.run(handler)


@pytest.fixture
def ids(ctx: Any) -> list[str]:
    found: list[str] = ctx.workspace.query(Filter(origin="real", split="test"))[:10]
    return found


@pytest.fixture
def mapped(page: Driver, ctx: Any, ended: Ended) -> None:
    """The workspace has a map."""
    if not plots.ids_of(ctx):
        page.fill("map-colour")
        page.call("map-draw", "click")
        job = ended("map", 540)
        assert job.state == "done", job.reason


def test_explain_answers_for_the_sample_that_was_clicked(page: Driver, ctx: Any, ended: Ended) -> None:
    one = ctx.workspace.query(Filter(origin="real"), limit=1)[0]
    jump = clicked_below(page, "browse-panel", {"name": "explain", "id": one})
    assert page.follow(jump)["tabs"]["selected"] == "explain"
    job = ended("explain")
    assert job.state == "done", job.reason
    shown = page.follow(jump)["explain-results"]
    assert "Grad-CAM" in texts(shown) and "Occlusion" in texts(shown)
    assert len(list(nodes(shown, "over"))) == 3 and len(list(nodes(shown, "rim"))) == 3


def test_several_samples_are_a_table_with_pages_and_one_can_be_shown_alone(
    page: Driver, ctx: Any, ended: Ended, ids: list[str]
) -> None:
    jump = chosen(page, ids, explain_methods=["saliency"])
    assert ended("explain").state == "done"
    shown = page.follow(jump)["explain-results"]
    assert len(list(nodes(shown, "over"))) == 8 and "1–8 of 10" in texts(shown)
    page.call("explain-results", "act", {"name": "step", "by": 1})
    assert ended("explain").state == "done"
    later = followed(page)["explain-results"]
    assert len(list(nodes(later, "over"))) == 2 and "9–10 of 10" in texts(later)
    alone = page.call("explain-results", "act", {"name": "only", "id": ids[9]})["explain-results"]
    assert "10 of 10" in texts(alone) and next(nodes(alone, "is-alone"))
    back = page.call("explain-results", "act", {"name": "back"})["explain-results"]
    assert "9–10 of 10" in texts(back)


def test_a_badge_opens_the_evidence_of_its_map(page: Driver, ended: Ended, ids: list[str]) -> None:
    jump = chosen(page, ids[:1], explain_methods=["saliency"])
    ended("explain")
    page.follow(jump)
    page.call("explain-results", "act", {"name": "check", "id": ids[0], "method": "saliency"})
    assert ended("explain").state == "done"
    shown = followed(page)["explain-results"]
    assert "Randomisation" in texts(shown) and "Last layers at random" in texts(shown)
    charts = shown["charts"]
    assert set(charts) == {f"{ids[0]}:saliency:deletion", f"{ids[0]}:saliency:insertion"}
    for chart in charts.values():
        assert [line["kind"] for line in chart["lines"]] == ["random", "map"]
        assert all(len(line["values"]) == 17 for line in chart["lines"])
    closed = page.call("explain-results", "act", {"name": "evidence", "id": ids[0], "method": "saliency"})
    assert closed["explain-results"]["charts"] == {}
    assert len(list(nodes(closed["explain-results"], "trust-mark"))) == 2


def test_what_cannot_be_had_says_why_and_its_button_asks_another_question(
    page: Driver, ctx: Any, ended: Ended
) -> None:
    new = ctx.workspace.add_image(np.full((32, 32, 3), 77, np.uint8), origin="real", split="test")
    chosen(page, [new], explain_methods=["saliency"])
    page.call("explain-start", "click", explain_methods=["saliency"], explain_target="label")
    assert ended("explain").state == "done"
    shown = followed(page)["explain-results"]
    assert "Not possible here" in texts(shown) and "has no label" in texts(shown)
    (offer,) = [sent for name, sent in actions(shown) if name == "ask"]
    changed = page.call("explain-results", "act", {"name": "ask", **offer})
    assert changed["explain-target"] == "prediction"  # which the jump had asked already
    assert "Not possible here" not in texts(changed["explain-results"])
    assert len(list(nodes(changed["explain-results"], "over"))) == 1


def test_a_method_that_is_not_possible_offers_another_in_its_cell(ctx: Any, ids: list[str]) -> None:
    reason, offer = "There is no spatial layer.", {"method": "integrated_gradients"}
    refused = {(ids[0], "grad_cam"): {"reason": reason, "offer": offer}}
    shown = matrix(ctx, Shown([ids[0]], ["grad_cam"], "What speaks for the predicted class", {}, refused))
    assert reason in texts(shown) and "Use Integrated gradients" in texts(shown)
    assert ("instead", {**offer, "of": "grad_cam"}) in actions(shown)


def test_questions_need_their_classes(page: Driver, ctx: Any, ids: list[str]) -> None:
    chosen(page, ids[:1], explain_methods=["saliency"])
    page.fill("explain-first", "explain-second")
    before = len(ctx.jobs.all())
    page.call("explain-start", "click", explain_target="contrast", explain_first="1")
    assert "choose both classes" in page.messages[-1].lower() and len(ctx.jobs.all()) == before
    page.call("explain-start", "click", explain_target="contrast", explain_first="1", explain_second="0")
    job = ctx.latest("explain")
    assert ctx.about(job)["target"] == "contrast:yield|stop"


def test_clicks_that_mean_nothing_change_nothing() -> None:
    now = Asked(("a1", "b2"), ("saliency",), "prediction")
    for data in (
        {},
        {"name": "step", "by": 7},
        {"name": "only", "id": "zz"},
        {"name": "check", "id": "a1", "method": "x"},
    ):
        assert clicked_in(now, data) == (now, ())
    assert clicked_in(now, {"name": "step", "by": 1})[0] == now, "there is no page after the last"
    alone = clicked_in(now, {"name": "only", "id": "b2"})[0]
    assert alone.window == ("b2",) and alone.moved(1) == alone and alone.moved(-1).window == ("a1",)


def test_explain_without_a_sample_says_where_to_find_one(page: Driver, ctx: Any) -> None:
    before = len(ctx.jobs.all())
    page.call("explain-start", "click")
    assert "Browse" in page.messages[-1] and len(ctx.jobs.all()) == before


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("mapped")
def test_the_map_is_drawn_and_a_lasso_fills_the_gallery(page: Driver, ctx: Any) -> None:
    sent = page.call("map-colour", "input", map_colour="correct")["map-plot"]
    points, paint = sent["value"], sent["paint"]
    ids = [points_id.hex() for points_id in np.frombuffer(base64.b64decode(points["ids"]), "V10").tolist()]
    assert points["n"] == len(ids) == len(base64.b64decode(paint["codes"])) == ctx.workspace.count()
    assert set(paint["names"]) <= {"right", "wrong", "no value"} and sum(paint["counts"]) == len(ids)
    again = page.call("map-colour", "input", map_colour="signal:entropy")["map-plot"]
    assert "value" not in again and (again["paint"]["low"], again["paint"]["high"]) == (0.0, 100.0)
    some = ids[:5]
    picked = page.call("map-plot", "lasso", {"ids": [*some, "../etc", 7]})
    assert [item["id"] for item in picked["map-gallery"]["items"]] == some
    near = page.call("map-plot", "point", {"id": some[0]})
    sent_near = [data["id"] for name, data in actions(near["map-panel"]) if name == "near"]
    assert len(sent_near) == 8 and some[0] not in sent_near
    assert near["map-plot"]["highlight"] == [some[0], *sent_near]


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("mapped")
def test_a_selection_is_paged_kept_tagged_and_taken_elsewhere(page: Driver, ctx: Any) -> None:
    ids = plots.ids_of(ctx)[:70]
    first = page.call("map-plot", "lasso", {"ids": ids})
    assert len(first["map-gallery"]["items"]) == 60 and "70 selected" in texts(first["map-chosen"])
    second = page.call("map-chosen", "act", {"name": "page", "by": 1})
    assert [item["id"] for item in second["map-gallery"]["items"]] == ids[60:]
    page.call("map-chosen", "act", {"name": "keep"})
    page.call("map-tag", "submit", map_tag="fog, look again")
    assert ctx.workspace.count(Filter(tag="fog")) == ctx.workspace.count(Filter(tag="look again")) == 70
    cleared = page.call("map-chosen", "act", {"name": "clear"})
    assert cleared["map-gallery"]["items"] == [] and "Back to the last 70" in texts(cleared["map-chosen"])
    recalled = page.call("map-chosen", "act", {"name": "recall", "list": "List 1"})
    assert recalled["map-plot"]["chosen"] == ids
    assert page.call("map-chosen", "act", {"name": "imagine"})["tabs"]["selected"] == "imagine"


def test_lists_of_a_selection_are_kept_recalled_and_forgotten() -> None:
    one = Picked().with_ids(["a", "b"]).after("keep", {}, pages=1).with_ids(["c"])
    assert one.after("back", {}, pages=1).ids == ("a", "b")
    assert one.after("recall", {"list": "List 1"}, pages=1).ids == ("a", "b")
    two = one.after("keep", {}, pages=1)
    assert [name for name, _ in two.kept] == ["List 1", "List 2"]
    left = two.after("forget", {"list": "List 1"}, pages=1)
    assert [name for name, _ in left.after("keep", {}, pages=1).kept] == ["List 2", "List 3"]
    for data in ({"name": "recall", "list": "none"}, {"name": "page", "by": "x"}, {"name": "boom"}):
        assert one.after(str(data["name"]), data, pages=3) == one


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("mapped")
@pytest.mark.parametrize("bad", HOSTILE)
def test_hostile_names_reach_the_map_as_plain_values(ctx: Any, bad: str) -> None:
    pixels = np.full((32, 32, 3), 100 + HOSTILE.index(bad), np.uint8)
    one = ctx.workspace.add_image(pixels, origin="real", split="train", label_name=bad, meta={"where": bad})
    workflows.place_on_map(ctx.workspace, [one])
    ctx.changed()
    assert bad[:60] in plots.base(ctx)["classes"]
    assert (
        bad[:60] in plots.paint(ctx, "class")["names"] and bad[:60] in plots.paint(ctx, "meta:where")["names"]
    )


def test_a_hundred_thousand_points_are_about_two_megabytes() -> None:
    from ltg_core.embedding.density import density
    from ltg_core.workflows.mapcolumns import MapTable

    rng = np.random.default_rng(0)
    n = 100_000
    coords = rng.normal(size=(n, 2)).astype(np.float32)
    label, pred = (rng.integers(0, 12, n) for _ in range(2))
    names, grid = [f"class {i}" for i in range(12)], density(coords[:, 0], coords[:, 1])
    ids = [f"{i:020x}" for i in range(n)]
    table = MapTable("run", ids, coords, np.zeros(n, bool), label, pred, names, grid)
    packed = plots._packed(table)
    assert sum(len(v) for v in packed.values() if isinstance(v, str)) < 2_400_000
    x = np.frombuffer(base64.b64decode(packed["x"]), "<u2") / 65535 * packed["box"][2] + packed["box"][0]
    np.testing.assert_allclose(x, coords[:, 0], atol=packed["box"][2] / 60_000)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("mapped")
def test_a_sample_that_is_not_on_the_map_is_placed_when_it_is_asked_for(page: Driver, ctx: Any) -> None:
    new = ctx.workspace.add_image(np.full((32, 32, 3), 201, np.uint8), origin="real", split="train")
    ctx.changed()
    assert new not in plots.ids_of(ctx)
    shown = clicked_below(page, "browse-panel", {"name": "map", "id": new})
    assert shown["tabs"]["selected"] == "map" and shown["map-plot"]["highlight"][0] == new
    assert plots.ids_of(ctx)[-1] == new
