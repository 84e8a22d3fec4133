"""The queue: whose jobs one sees, what ends them early, and how they go on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from driver import Driver, actions, texts

from app import visitors
from ltg_core.data.records import Filter
from ltg_core.jobs import Job, Spec


def until(true: Callable[[], bool], seconds: float = 200) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def tick(page: Driver, data: dict[str, str] | None = None) -> dict[str, Any]:
    """A beat of the page's clock, with what the page says of itself."""
    (clock,) = [d for d in page.config["dependencies"] if d["targets"][0][1] == "tick"]
    return page.run(clock, data)


def owner(page: Driver) -> str:
    return visitors.owner_of(page.http.cookies[visitors.COOKIE])


@pytest.fixture
def two(address: str) -> Iterator[tuple[Driver, Driver]]:
    """Two browsers."""
    with Driver(address) as ann, Driver(address) as bob:
        for page in (ann, bob):
            page.fill("imagine-class")
        yield ann, bob


def test_a_browser_is_known_by_a_cookie_that_scripts_and_other_sites_do_not_get(address: str) -> None:
    with httpx.Client(base_url=address, timeout=240) as http:
        given = http.get("/").headers["set-cookie"]
        assert given.startswith("ltg_visitor=") and "HttpOnly" in given and "SameSite=Strict" in given
        assert "set-cookie" not in http.get("/config").headers, "it stays the same"
    with httpx.Client(base_url=address, timeout=240) as http:
        led = http.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
        assert led.status_code == 200 and "set-cookie" not in led.headers, (
            "a strict cookie is not sent with a link from elsewhere, so none must be overwritten"
        )
        assert "set-cookie" in http.get("/config", headers={"sec-fetch-site": "same-origin"}).headers
        forged = http.get("/", headers={"Cookie": "ltg_visitor=x; ltg_visitor=<script>"})
        assert "set-cookie" in forged.headers


def test_nobody_sees_the_work_of_others_but_the_length_of_the_queue(
    two: tuple[Driver, Driver], ctx: Any
) -> None:
    ann, bob = two
    ann.call("imagine-start", "click", imagine_number=8, imagine_class="stop", imagine_steps=1000)
    job = ctx.latest("generate")
    assert job.owner == owner(ann) != owner(bob)
    hers, his = tick(ann), tick(bob)
    assert "Imagining 8 images" in texts(hers["header"]) and ("cancel", {"job": job.id}) in actions(
        hers["header"]
    )
    assert "Imagining" not in str(his["header"]) and job.id not in str(his)
    assert "1 job of others waits or runs" in texts(his["header"])

    bob.call("imagine-start", "click", imagine_number=3, imagine_class="yield")
    other = ctx.latest("generate")
    assert other.owner == owner(bob) and other.state == "queued"
    assert "starts after 1 job of others" in texts(tick(bob)["header"])
    assert "1 job of others waits or runs" in texts(tick(ann)["header"])

    for name in ("cancel", "again", "result"):
        before = len(bob.messages)
        assert bob.call("header", "act", {"name": name, "job": job.id}) == {}
        assert "not known to the server" in bob.messages[before]
    bob.call("imagine-progress", "act", {"name": "cancel", "job": job.id})
    bob.call("imagine-cancel", "click")
    assert other.state == "cancelled" and not job.token.cancelled and not job.ended

    with Driver(str(ann.http.base_url).rstrip("/")) as again:
        again.http.cookies = ann.http.cookies
        assert ("cancel", {"job": job.id}) in actions(tick(again)["header"]), "a reload finds it again"
        until(lambda: bool(job.run))
        again.call("header", "act", {"name": "cancel", "job": job.id})
    until(lambda: job.ended)
    assert job.state == "cancelled" and job.run
    assert ("again", {"job": job.id}) in actions(tick(ann)["header"]), "it can be resumed"


def test_a_page_asks_by_a_few_letters_whether_there_is_anything_to_hear(
    two: tuple[Driver, Driver], ctx: Any
) -> None:
    ann, bob = two
    first = [asked(ann), asked(bob)]
    assert all(len(one) == 16 for one in first) and asked(ann) == first[0]
    assert tick(ann)["pulse"]["heard"] == first[0], "what the event says is what the request says"
    ann.call("imagine-start", "click", imagine_number=1, imagine_class="stop", imagine_seed=5)
    job = ctx.latest("generate")
    assert asked(ann) != first[0] and asked(bob) != first[1], (
        "hers is told, his is told of one more in the queue"
    )
    until(lambda: job.ended)
    assert tick(ann)["pulse"]["heard"] == asked(ann)
    before = asked(bob)
    ctx.changed()
    assert asked(bob) != before
    with httpx.Client(base_url=ann.http.base_url, timeout=240) as stranger:
        assert stranger.get("/pulse").text == "", "a browser without cookies is told by the event alone"


def test_a_page_that_did_not_get_the_last_answer_is_told_all_of_it_again(two: tuple[Driver, Driver]) -> None:
    ann, _ = two
    heard = tick(ann)["pulse"]["heard"]
    told = tick(ann, {"tab": "start", "heard": heard})
    assert "header" not in told, "what the page shows already"
    assert "header" in tick(ann, {"tab": "start", "heard": "lost"})
    assert "header" not in tick(ann, {"tab": "start", "heard": heard})


def asked(page: Driver) -> str:
    answer = page.http.get("/pulse")
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    return answer.text


def test_a_page_does_not_follow_a_run_of_somebody_else(two: tuple[Driver, Driver], ctx: Any) -> None:
    ann, bob = two
    ann.call("imagine-start", "click", imagine_number=1, imagine_class="stop", imagine_seed=77)
    job = ctx.latest("generate")
    until(lambda: job.ended)
    assert job.state == "done", job.reason
    (mine,) = [
        sample.id
        for sample in ctx.workspace.samples(
            ctx.workspace.query(Filter(origin=job.run, meta={"role": "guided"}))
        )
    ]
    assert mine in str(refreshed(ann)) and mine not in str(refreshed(bob))
    shown = ann.call("header", "act", {"name": "result", "job": job.id})
    assert shown["tabs"]["selected"] == "imagine" and mine in str(shown["imagine-results"])


def refreshed(page: Driver) -> dict[str, Any]:
    """What the Imagine tab draws when the workspace has changed."""
    tick(page)
    found: dict[str, Any] = {}
    for dependency in page.config["dependencies"]:
        if page.ids["imagine-results"] in dependency["outputs"] and dependency["targets"][0][1] == "change":
            found |= page.run(dependency)
    return found


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_job_which_can_be_resumed(page: Driver, ctx: Any) -> None:
    page.call("imagine-start", "click", imagine_number=9, imagine_class="stop", imagine_steps=30)
    job = ctx.latest("generate")
    until(lambda: bool(job.run))
    os.kill(ctx.lanes.workers["compute"].pid, signal.SIGKILL)
    until(lambda: job.ended)
    assert (
        job.state == "failed" and "what was finished is kept" in job.reason and "Press Resume" in job.reason
    )
    assert ctx.workspace.run(job.run).state == "interrupted"
    assert ctx.offer(job) == "Resume"
    page.call("header", "act", {"name": "again", "job": job.id})
    resumed = ctx.latest("generate")
    assert resumed.owner == owner(page) and resumed.spec == Spec("resume_generate", {"run": job.run})
    assert ctx.offer(job) == "", "it is taken up already"
    until(lambda: resumed.ended)
    assert resumed.state == "done", resumed.reason
    assert ctx.workspace.count(Filter(origin=job.run, meta={"role": "guided"})) == 9


def test_a_restart_starts_what_waited_and_shows_what_it_cut_off(
    _fitted_workspace: Path, tmp_path: Path
) -> None:
    from app.context import AppContext
    from app.settings import Settings
    from ltg_core.data.joblog import JobRecords

    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    first = AppContext(Settings(workspace=tmp_path / "ws"))
    gone = subprocess.Popen(["true"])
    gone.wait()
    ids = first.workspace.query(limit=1)
    spec = Spec("explain", {"ids": ids, "methods": ["saliency"]})
    for state, name in (("running", "ran"), ("queued", "waited")):
        job = Job(name, "explain", "compute", lambda p, c: None, "Explaining", {}, "ann", spec)
        job.state, job.started = state, None if state == "queued" else time.time()
        JobRecords(first.workspace.database).save(job)
    with first.workspace.database.write() as connection:
        connection.execute("UPDATE jobs SET process = ?", (f"{gone.pid}:1",))
    first.workspace.close()

    second = AppContext(Settings(workspace=tmp_path / "ws"))
    try:
        second.restore()
        waited, ran = second.jobs.get("waited"), second.jobs.get("ran")
        assert ran.state == "interrupted" and waited.owner == "ann"
        until(lambda: waited.ended)
        assert waited.state == "done", waited.reason
        assert waited.result["ids"] == ids
    finally:
        second.close()
        second.workspace.close()
