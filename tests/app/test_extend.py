"""Extend through its real endpoints: a class of one's own, decisions, names that are hostile, images of a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import Driver, actions, texts

from ltg_core import workflows
from ltg_core.curation import auxiliary
from ltg_core.jobs import Job
from tests.conftest import draw

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
