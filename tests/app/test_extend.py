"""Extend through its real endpoints: a class of one's own, decisions, names that are hostile, images of a folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import Driver, actions, texts

from ltg_core import workflows
from ltg_core.curation import auxiliary
from ltg_core.jobs import Job
from tests.conftest import draw
from tests.speaker import speaking

Ended = Callable[..., Job]


def test_proposals_are_decided_renamed_and_taken_back_on_the_page(page: Driver, ctx: Any) -> None:
    ws = ctx.workspace
    (key,) = auxiliary.add(
        ws, [{"parent": "stop", "name": "octagon", "source": "llm", "difference": "<b>no letters</b>"}]
    )
    drawn = page.show("extend")
    assert "octagon" in texts(drawn["extend-list"]) and "<b>no letters</b>" in texts(drawn["extend-list"])
    assert {"accept", "reject", "rename"} <= {name for name, _ in actions(drawn["extend-list"])}
    drawn = page.call("extend-list", "act", {"name": "accept", "key": key})["extend-list"]
    assert "accepted" in texts(drawn) and auxiliary.every(ws)[0].status == "accepted"
    undo = next(data for name, data in actions(drawn) if name == "undo")
    page.call("extend-list", "act", {"name": "rename", "key": key})
    page.call("extend-save", "click", extend_name="<script>x</script>")
    assert "signs that no name has" in page.messages[-1]
    assert auxiliary.every(ws)[0].name == "octagon"
    workflows.rename_auxiliary(ws, ctx.need_classifier(), key, "eight corners")
    page.call("extend-list", "act", {"name": "undo", **undo})
    assert "something else was done since" in page.messages[-1].lower()
    drawn = page.call("extend-list", "act", {"name": "reject", "key": key})["extend-list"]
    assert "1 rejected" in texts(drawn)
    for wrong in ({"name": "accept", "key": 99}, {"name": "rename", "key": 99}):
        page.call("extend-list", "act", wrong)
        assert "auxiliary class" in page.messages[-1]


def test_images_of_a_folder_are_added_by_a_worker_and_what_was_left_out_is_said(
    page: Driver, ctx: Any, ended: Ended, tmp_path: Path
) -> None:
    workflows.add_by_hand(ctx.workspace, ctx.need_classifier(), "yield", "triangle")
    (tmp_path / "triangle").mkdir()
    for i in range(2):
        draw("yield", 8000 + i).save(tmp_path / "triangle" / f"{i}.png")
    (tmp_path / "triangle" / "broken.png").write_bytes(b"no image")
    page.call("extend-images", "click", extend_where="folder", extend_folder=str(tmp_path))
    job = ended("extend")
    assert job.state == "done", job.reason
    drawn = page.show("extend")
    added = next(one for one in auxiliary.every(ctx.workspace) if one.name == "triangle").images
    assert job.result["added"] == added and f"{added} images added" in texts(drawn["extend-outcome"])
    assert "triangle: 1 left out, it cannot be read" in texts(drawn["extend-outcome"])
    page.call("extend-measure", "click")
    assert ended("extend").result == {"classes": 3}  # of 12 training images each
    assert "mixed · nearest: " in texts(page.show("extend")["extend-list"])


def test_what_is_not_there_is_said_before_any_work(
    page: Driver, ctx: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LTG_LLM_BASE_URL", raising=False)
    jobs = len(ctx.jobs.all())
    page.call("extend-propose", "click", extend_source="llm")
    assert "LTG_LLM_BASE_URL" in page.messages[-1]
    page.call("extend-images", "click", extend_where="folder", extend_folder="/no/such/place")
    assert "does not exist" in page.messages[-1]
    assert len(ctx.jobs.all()) == jobs


def test_decisions_are_taken_back_one_after_another(page: Driver, ctx: Any) -> None:
    ws = ctx.workspace
    keys = auxiliary.add(ws, [{"parent": "stop", "name": name, "source": "hand"} for name in ("one", "two")])

    def statuses() -> list[str]:
        return [one.status for one in auxiliary.every(ws) if one.key in keys]

    for key in keys:
        drawn = page.call("extend-list", "act", {"name": "accept", "key": key})["extend-list"]
    assert statuses() == ["accepted", "accepted"]
    for expected in (["accepted", "proposed"], ["proposed", "proposed"]):
        undo = next(data for name, data in actions(drawn) if name == "undo")
        drawn = page.call("extend-list", "act", {"name": "undo", **undo})["extend-list"]
        assert statuses() == expected


def test_classes_are_proposed_by_a_model_and_from_a_pool_and_named_by_hand(
    page: Driver, ctx: Any, ended: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws = ctx.workspace
    known = {one.key for one in auxiliary.every(ws)}
    page.show("extend")
    worker = ctx.lanes.workers["compute"]
    worker.close(1)  # the next one begins with this environment, as a server does
    names = [
        {"name": name, "relation": "same shape", "difference": ""} for name in ("plate", "disc", "board")
    ]
    with speaking(lambda asked, n: json.dumps({"classes": names})) as server:
        monkeypatch.setenv("LTG_LLM_BASE_URL", server.url)
        monkeypatch.setenv("LTG_LLM_MODEL", "some-model")
        page.call("extend-propose", "click", extend_source="llm", extend_classes=["stop"], extend_most=2)
        job = ended("extend")
    worker.close(1)
    assert job.state == "done", job.reason
    drawn = page.show("extend")
    assert [one.name for one in auxiliary.every(ws) if one.key not in known] == ["plate", "disc"]
    assert "2 proposed beside stop" in texts(drawn["extend-outcome"])
    (tmp_path / "things").mkdir()
    for i in range(8):
        draw("stop", 8100 + i).save(tmp_path / "things" / f"{i}.png")
    workflows.import_data(ws, tmp_path / "things", split="pool")
    page.show("extend")
    wide = {"low": -1.0, "high": 1.0, "others": False}
    asked = {"extend_source": "clusters", "extend_classes": ["stop"], "extend_pool": "pool"}
    page.call("extend-propose", "click", **asked, **{f"extend_{name}": value for name, value in wide.items()})
    job = ended("extend")
    assert job.state == "done", job.reason
    assert ws.run(job.result["run"]).settings["band"] == wide
    assert any(one.source == "clusters" for one in auxiliary.every(ws))
    page.call("extend-add", "click", extend_parent=None, extend_own_name="hexagon")
    assert "choose the class" in page.messages[-1].lower()
    drawn = page.call("extend-add", "click", extend_parent="yield", extend_own_name="hexagon")
    assert "hexagon" in texts(drawn["extend-list"])
    key = next(one.key for one in auxiliary.every(ws) if one.source == "clusters")
    page.call("extend-list", "act", {"name": "accept", "key": key})
    band = {f"extend_{name}": value for name, value in wide.items()}
    page.call("extend-images", "click", extend_where="pool", extend_pool="pool", extend_limit=2, **band)
    job = ended("extend")
    assert job.state == "done" and job.result["added"] == 2, job.reason
    given = [one.images for one in auxiliary.every(ws) if one.status == "accepted" and one.images]
    page.call("extend-images", "click", extend_where="random", extend_pool="pool")
    job = ended("extend")
    assert job.state == "done" and job.result["added"] == sum(given), job.reason
    assert f"{sum(given)} random images stand beside" in texts(page.show("extend")["extend-outcome"])
