"""Curate & Export through its real endpoints."""

from __future__ import annotations

import io
import sqlite3
import zipfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from driver import Driver, actions, texts

from app.curation import decide
from ltg_core import curation
from ltg_core.curation import review, sets
from ltg_core.data.records import Filter
from ltg_core.jobs import Job

Ended = Callable[..., Job]


@pytest.fixture
def real(page: Driver, ctx: Any) -> list[str]:
    """Real training samples, shown in Decide; nothing is decided about them."""
    ids = ctx.workspace.query(Filter(origin="real", split="train"), limit=6)
    while curation.undo(ctx.workspace):
        pass
    page.call("curate-filters", "act", {"name": "filter", "field": "origin", "value": "real"})
    return ids


def send(
    page: Driver, number: int, *steps: tuple[str, Any, list[str]], seen: int | None = None, **more: Any
) -> Any:
    """A parcel of decisions; returns what the page is told."""
    sent = [{"action": action, "value": value, "ids": ids} for action, value, ids in steps]
    shown = sorted({one for _, _, ids in steps for one in ids})
    data = {"number": number, "steps": sent, "seen": seen, "shown": shown} | more
    return page.call("curate-grid", "decide", data)["curate-grid"]["patch"]


def drawn(answer: dict[str, Any]) -> dict[str, Any]:
    """What the grid shows."""
    value: dict[str, Any] = answer["curate-grid"]
    return value.get("value", value)


def test_decisions_are_done_in_order_and_the_answer_says_what_is_there(
    page: Driver, ctx: Any, real: list[str]
) -> None:
    one, two = real[:2]
    patch = send(
        page, 1,
        ("verdict", "accepted", [one, two]), ("rate", 4, [one]), ("tag", "night", [one]), ("note", "blurred", [two]),
        ("undo", None, []), ("verdict", "flagged", [two]),
    )  # fmt: skip
    assert patch["ack"] == 1 and patch["tally"]["accepted"] == 1 and patch["progress"][0] == 2
    assert patch["items"][one] == {"v": "accepted", "r": 4, "g": ["night"], "n": ""}
    assert patch["items"][two] == {"v": "flagged", "r": 0, "g": [], "n": ""}
    assert patch["undo"] == "flagged 1 sample" and patch["clock"] == curation.clock(ctx.workspace)
    assert ctx.workspace.sample(one).rating == 4
    assert send(page, 2, ("undo", None, []))["focus"] == two


def test_a_parcel_that_comes_twice_is_done_once(page: Driver, ctx: Any, real: list[str]) -> None:
    send(page, 1, ("verdict", "accepted", real[:1]), ("verdict", "rejected", real[1:2]))
    send(page, 2, ("undo", None, []))
    again = send(page, 2, ("undo", None, []))
    assert again["ack"] == 2 and ctx.workspace.sample(real[0]).verdict == "accepted"


def test_two_pages_do_not_overwrite_each_other_unseen(
    page: Driver, ctx: Any, real: list[str], address: str
) -> None:
    shown_at = curation.clock(ctx.workspace)
    send(page, 1, ("verdict", "rejected", real[:1]), seen=shown_at)
    with Driver(address) as other:
        patch = send(other, 1, ("verdict", "accepted", real[:2]), seen=shown_at)
        assert "1 sample was decided in another page" in patch["notice"]
        assert patch["items"][real[0]]["v"] == "rejected" and patch["items"][real[1]]["v"] == "accepted"
        patch = send(other, 2, ("verdict", "accepted", real[:1]), seen=patch["clock"])
        assert patch["notice"] == "" and patch["items"][real[0]]["v"] == "accepted"
    patch = send(page, 2, ("verdict", "flagged", real[1:2]), seen=shown_at)
    assert "another page" in patch["notice"] and ctx.workspace.sample(real[1]).verdict == "accepted"


def test_a_decision_that_falls_into_an_answer_is_not_taken_for_seen(
    page: Driver, ctx: Any, real: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = decide.state

    def interrupted(ctx: Any, ids: list[str]) -> dict[str, Any]:
        found = kept(ctx, ids)
        curation.decide(ctx.workspace, real[1:2], "verdict", "rejected", author="somebody else")
        return found

    monkeypatch.setattr(decide, "state", interrupted)
    patch = send(page, 1, ("verdict", "flagged", real[:1]), seen=curation.clock(ctx.workspace), shown=real)
    monkeypatch.undo()
    patch = send(page, 2, ("verdict", "accepted", real[1:2]), seen=patch["clock"])
    assert "another page" in patch["notice"] and ctx.workspace.sample(real[1]).verdict == "rejected"


@pytest.mark.parametrize(
    ("step", "said"),
    (
        ({"action": "explode", "value": 1, "ids": ["x"]}, "no action"),
        ({"action": "rate", "value": 9, "ids": ["abc"]}, "rating"),
        ({"action": "verdict", "value": "accepted", "ids": []}, "nothing is selected"),
        ({"action": "verdict", "value": ["accepted"], "ids": ["abc"]}, "no verdict"),
        ({"action": "verdict", "value": "accepted", "ids": ["0123456789"]}, "not in this workspace"),
        ({"action": "tag", "value": "x" * 101, "ids": ["abc"]}, "1 to 100 characters"),
        ({"action": "note", "value": "x" * 10_001, "ids": ["abc"]}, "10,000"),
        ("nonsense", "no action"),
    ),
)
def test_wrong_steps_are_told_and_change_nothing(
    page: Driver, ctx: Any, real: list[str], step: Any, said: str
) -> None:
    before = curation.clock(ctx.workspace)
    if isinstance(step, dict) and step["ids"] == ["abc"]:
        step = {**step, "ids": real[:1]}
    answer = page.call(
        "curate-grid", "decide", {"number": 1, "steps": [step], "seen": None, "shown": real[:1]}
    )
    assert said in answer["curate-grid"]["patch"]["notice"].lower()
    assert curation.clock(ctx.workspace) == before


@pytest.mark.parametrize(
    "data", ({}, {"number": "1", "steps": {}, "shown": "x"}, {"number": True, "steps": [None]})
)
def test_an_event_that_no_page_would_send_is_harmless(
    page: Driver, ctx: Any, real: list[str], data: Any
) -> None:
    before = curation.clock(ctx.workspace)
    assert page.call("curate-grid", "decide", data)["curate-grid"]["patch"]["ack"] == 0
    assert curation.clock(ctx.workspace) == before


def test_a_sample_that_another_process_deleted_leaves_the_page(
    page: Driver, ctx: Any, real: list[str]
) -> None:
    import numpy as np

    gone = ctx.workspace.add_image(
        np.full((8, 8, 3), 7, np.uint8), origin="real", split="train", source="gone"
    )
    with sqlite3.connect(ctx.workspace.path / "longtail.sqlite") as other:
        other.execute("PRAGMA foreign_keys=ON")
        other.execute("DELETE FROM samples WHERE id = ?", (gone,))
    patch = send(page, 1, ("verdict", "accepted", [gone]), ("verdict", "accepted", real[:1]))
    assert patch["items"][gone] is None and "not in this workspace (any more)" in patch["notice"]
    assert patch["items"][real[0]]["v"] == "accepted", "the next decision is not hindered"


def test_filters_have_counts_and_combine(page: Driver, ctx: Any, real: list[str]) -> None:
    send(page, 1, ("verdict", "accepted", real[:3]), ("rate", 3, real[2:5]), ("tag", "fog", real[:2]))
    shown = page.call("curate-filters", "act", {"name": "filter", "field": "verdict", "value": "accepted"})
    assert {one["id"] for one in drawn(shown)["items"]} == set(real[:3])
    assert "fog 2" in texts(shown["curate-filters"]) and "★★★ and more 1" in texts(shown["curate-filters"])
    both = page.call("curate-filters", "act", {"name": "filter", "field": "rating", "value": "3"})
    assert [one["id"] for one in drawn(both)["items"]] == [real[2]]
    for field, value in (("rating", "7"), ("nothing", "x"), ("verdict", "fine")):
        assert page.call("curate-filters", "act", {"name": "filter", "field": field, "value": value}) == {}
    unknown = page.call("curate-filters", "act", {"name": "filter", "field": "label", "value": "nobody"})
    assert drawn(unknown)["items"] == []
    cleared = page.call("curate-filters", "act", {"name": "clear"})
    assert len(drawn(cleared)["items"]) > 3


def test_the_next_page_begins_after_what_still_passes(
    page: Driver, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.curation import decide, items

    for module in (decide, items):
        monkeypatch.setattr(module, "PAGE", 5)
    page.call("curate-filters", "act", {"name": "filter", "field": "origin", "value": "real"})
    first = page.call("curate-filters", "act", {"name": "filter", "field": "verdict", "value": "undecided"})
    value = drawn(first)
    ids = [one["id"] for one in value["items"]]
    assert len(ids) == 5 and value["more"]
    every = ctx.workspace.query(Filter(origin="real", verdict="undecided"), sort="id", limit=10)
    send(page, 1, ("verdict", "accepted", ids[:3]), shown=ids)
    second = drawn(page.call("curate-grid", "turn", {"to": "next", "shown": ids}))
    assert [one["id"] for one in second["items"]] == every[5:10], "none is skipped, none comes twice"
    back = drawn(page.call("curate-grid", "turn", {"to": "previous", "shown": every[5:10]}))
    assert back["offset"] == 0 and [one["id"] for one in back["items"]][:2] == every[3:5]


def test_history_goes_back_to_a_point(page: Driver, ctx: Any, real: list[str]) -> None:
    send(page, 1, ("verdict", "accepted", real[:1]), ("tag", "a", real[:1]), ("tag", "b", real[:1]))
    wanted = curation.history(ctx.workspace)[1]
    shown = page.call("curate-history", "act", {"name": "undo", "to": wanted.id})["curate-history"]
    assert ctx.workspace.sample(real[0]).tags == () and ctx.workspace.sample(real[0]).verdict == "accepted"
    assert ("redo", {"to": wanted.id}) in actions(shown) and "accepted 1 sample" in texts(shown)
    assert page.call("curate-history", "act", {"name": "undo", "to": 10**9}) == {}
    assert any("not in the history" in message for message in page.messages)


def test_sets_are_kept_compared_restored_and_a_hostile_name_is_text(
    page: Driver, ctx: Any, real: list[str]
) -> None:
    bad = '<img src=x onerror="alert(1)">${7*7}'
    send(page, 1, ("verdict", "accepted", real[:2]))
    listed = page.call("set-keep", "click", set_name=bad, set_what="accepted")["set-list"]
    made = sets.every(ctx.workspace)[0]
    assert made.name == bad and bad in texts(listed) and ("restore", {"set": made.ref}) in actions(listed)
    assert "&lt;img" in page.messages[-1] and "<img" not in page.messages[-1]
    send(page, 2, ("verdict", "rejected", real[:1]))
    shown = page.call("set-list", "act", {"name": "compare", "set": made.ref})["set-difference"]
    assert "1 removed" in texts(shown) and "0 added" in texts(shown)
    page.call("set-list", "act", {"name": "restore", "set": made.ref})
    assert ctx.workspace.sample(real[0]).verdict == "accepted"
    page.call("set-list", "act", {"name": "delete", "set": made.ref})
    assert sets.every(ctx.workspace) == []
    assert page.call("set-list", "act", {"name": "restore", "set": made.ref}) == {}
    assert page.call("set-keep", "click", set_name="", set_what="accepted") == {}
    assert any("1 to 100 characters" in message for message in page.messages)


def test_a_review_shows_nothing_of_the_first_verdict_and_opens_its_disagreements(
    page: Driver, ctx: Any, real: list[str]
) -> None:
    send(
        page, 1, ("verdict", "accepted", real[:4]), ("tag", "secret", real[:4]), ("note", "secret", real[:1])
    )
    started = page.call("review-start", "click", review_name="Grace", review_what="all", review_number=0)
    grid = started["review-grid"]["value"]
    assert {one["id"] for one in grid["items"]} == set(real[:4])
    assert all(set(one) == {"id", "t", "v", "g", "n", "r", "from"} for one in grid["items"])
    assert {(one["v"], *one["g"], one["n"], one["r"]) for one in grid["items"]} == {("undecided", "", 0)}
    assert "secret" not in str(grid["items"]) and grid["tally"] == {}
    steps = [{"action": "verdict", "value": "accepted", "ids": real[:3]},
             {"action": "verdict", "value": "rejected", "ids": real[3:4]},
             {"action": "rate", "value": 3, "ids": real[:1]}]  # fmt: skip
    patch = page.call("review-grid", "decide", {"number": 1, "steps": steps, "shown": real[:4]})[
        "review-grid"
    ]["patch"]
    assert patch["progress"] == [4, 4] and "no more" in patch["notice"]
    assert all(ctx.workspace.sample(one).verdict == "accepted" for one in real[:4])
    (one,) = review.every(ctx.workspace)
    shown = page.call("review-list", "act", {"name": "agreement", "id": one.id})["review-result"]
    assert "75 %" in texts(shown) and "4 samples tell little" in texts(shown)
    opened = page.call("review-result", "act", {"name": "resolve", "id": one.id})
    assert [item["id"] for item in drawn(opened)["items"]] == real[3:4]
    assert opened["curate-parts"]["selected"] == "decide"


def test_the_preview_writes_nothing_and_the_export_can_be_fetched_also_after_it_was_replaced(
    page: Driver, ctx: Any, ended: Ended, real: list[str], address: str
) -> None:
    test = ctx.workspace.query(Filter(origin="real", split="test"), limit=1)
    send(page, 1, ("verdict", "accepted", [*real[:2], *test]))
    before = sorted(ctx.workspace.exports_folder.iterdir())
    page.call("export-preview", "click", export_what="accepted")
    plan = ended("export").result
    assert (plan["n"], plan["real"], plan["left_out"]) == (2, 2, 1)
    assert sorted(ctx.workspace.exports_folder.iterdir()) == before
    order = {"export_what": "accepted", "export_name": "mine", "export_format": "jsonl"}

    def fetched() -> list[str]:
        answer = httpx.get(f"{address}/media/export/mine.zip", timeout=240)
        return [
            name for name in zipfile.ZipFile(io.BytesIO(answer.content)).namelist() if name.endswith(".png")
        ]

    page.call("export-start", "click", **order)
    assert ended("export").state == "done" and len(fetched()) == 2
    page.call("export-start", "click", **order)
    assert "in use" in ended("export").reason
    page.call("export-start", "click", **order, export_overwrite=True, export_held=True)
    assert ended("export").state == "done" and len(fetched()) == 3, (
        "the packed file is that of the new export"
    )
    page.call("export-start", "click", export_what="accepted", export_name="../evil")
    assert any("folder name" in message for message in page.messages)
    assert not (ctx.workspace.path / "evil").exists()


def test_a_set_is_offered_for_export(page: Driver, ctx: Any, ended: Ended, real: list[str]) -> None:
    sets.snapshot(ctx.workspace, "two", real[:2])
    opened = page.call("set-list", "act", {"name": "export", "set": "two@1"}, at=1)
    assert opened["export-what"]["value"] == "set:two@1" and opened["curate-parts"]["selected"] == "export"
    page.call("export-preview", "click", export_what="set:two@1", export_real=True)
    plan = ended("export").result
    assert plan["n"] == ctx.workspace.count(Filter(origin="real", split="train"))
    sets.delete(ctx.workspace, "two@1")  # in another page
    page.call("export-preview", "click", export_what="set:two@1")
    assert "there is no set" in ended("export").reason
