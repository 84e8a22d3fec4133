"""Practise through the real endpoints: a plan, a loop of one round, its table, its refusals, its resumption."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from driver import Driver, actions, texts

from ltg_core.data.records import Filter
from ltg_core.jobs import Job

BAD = '<img src=x onerror="alert(1)">${alert(2)}'
TINY = {"practise_rounds": 1, "practise_number": 2, "practise_seeds": 1, "practise_resamples": 100}
TINY |= {"practise_preset": "unguided", "practise_epochs": 2, "practise_train_batch_size": 12}
Ended = Callable[..., Job]


@pytest.fixture
def shown(page: Driver) -> Driver:
    """The part, opened by its address."""
    page.go({"tab": "retrain", "retrain.part": "practise"}, number=1)
    return page


def press(page: Driver, **given: Any) -> dict[str, Any]:
    return page.call("practise-start", "click", **{**TINY, **given})


def planned(page: Driver, **given: Any) -> str:
    return texts(page.call("practise-number", "input", **{**TINY, **given})["practise-plan"])


def listed(page: Driver) -> Any:
    return page.show("retrain")["practise-list"]


def looping(ctx: Any) -> list[Job]:
    """All loops that were ever queued."""
    return [job for job in ctx.jobs.all() if job.kind == "loop"]


def begun(job: Job, word: str) -> None:
    """Waits until a job says that it does something."""
    deadline = time.monotonic() + 240
    while word not in job.progress.message and not job.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert word in job.progress.message, (job.state, job.reason, job.progress.message)


def test_every_setting_of_a_loop_has_words_and_every_preset_too() -> None:
    from app.imagining import ABOUT
    from app.retraining import practise

    assert {*practise._WORDS, "preset"} == set(practise.SPECS)
    assert set(practise.SPECS["preset"].choices) <= set(ABOUT)


def test_before_the_start_it_says_what_it_would_do(shown: Driver) -> None:
    said = planned(shown, practise_rounds=3, practise_seeds=2, practise_patience=2)
    for words in (
        "6 images at most",
        "3 rounds of 2",
        "6 trainings at most",
        "18 real images measure each round",
    ):
        assert words in said, said
    assert "People" not in said and "What people decided stays" in said and "unguided twins" not in said
    assert "2 rounds in a row" in said and "The first round asks for" in said
    assert "as many unguided twins" in planned(shown, practise_preset="explore")
    assert "It ends after 1 round." in planned(shown)
    assert "Rounds at most is None; give a whole number" in planned(shown, practise_rounds=None)
    about = shown.call("practise-preset", "input", practise_preset="explore")
    assert "Rare images of the class" in texts(about["practise-about-preset"])


def test_what_images_take_is_measured_when_the_part_is_shown(shown: Driver, ctx: Any, ended: Ended) -> None:
    shown.fill("practise-plan")
    assert ended("measure").state == "done"
    said = planned(shown)
    assert "for the images and about" in said and "measured once" not in said


def test_a_loop_goes_from_the_page_to_its_table(shown: Driver, ctx: Any, ended: Ended) -> None:
    first = ctx.model_hash
    assert listed(shown)["k"] == []
    press(shown)
    job = ctx.latest("loop")
    begun(job, "round 1 of 1")
    assert ended("loop").state == "done", job.reason
    run = ctx.workspace.run(job.run)
    assert run.kind == "loop" and job.result["run"] == run.id, (
        "the job has the loop's run, not that of a step"
    )
    assert ctx.model_hash == first
    seen = listed(shown)
    (one,) = run.result["rounds"]
    said = texts(seen)
    assert f"{one['accepted']} of 2" in said and "It ended: " in said and "unguided, 2 images a round" in said
    assert f"{100 * one['change']['before']:.1f} % → {100 * one['change']['after']:.1f} %" in said
    assert "nothing to put to use" in said and actions(seen) == []
    turned = shown.call("retrain-top", "act", {"name": "part", "part": "practise"})
    assert turned["address"]["set"] == {"retrain.part": "practise"}


def test_what_came_out_is_opened_and_put_to_use(shown: Driver, ctx: Any, ended: Ended) -> None:
    from ltg_core import workflows

    ws = ctx.workspace
    nothing = workflows.TrainSettings(epochs=1, batch_size=12, patience=0, lr=1e-9, fresh_head=True)
    beginner = workflows.retrain(ws, ctx.classifier(), nothing, mix=workflows.MixSettings(synthetic="none"))
    good = workflows.TrainSettings(epochs=60, batch_size=12, patience=0, lr=0.03)
    settings = workflows.LoopSettings(rounds=1, number=2, seeds=1, resamples=100, preset="unguided")
    run = workflows.loop(ws, workflows.arm_of(ws, beginner.id)[0], settings, good, guidance={"steps": 2})
    ctx.changed()
    best, last = run.result["best"], run.result["compare"]
    assert best and last
    seen = listed(shown)
    assert actions(seen)[:2] == [("use", {"ref": best}), ("open", {"run": last})]
    assert "On 18 real test images, looked at once: balanced accuracy" in texts(seen)
    assert "▲" in texts(seen) and "Practised before" in texts(seen)
    opened = shown.call("practise-list", "act", {"name": "open", "run": last})
    assert opened["address"]["set"]["retrain.part"] == "compare"
    assert "18 real images (test)" in texts(opened["compare-head"])
    asked = shown.call("practise-list", "act", {"name": "use", "ref": best})["retrain-use"]
    assert "Use this classifier?" in texts(asked)
    shown.call("retrain-use", "act", {"name": "keep"})


def test_a_loop_that_was_cancelled_goes_on(shown: Driver, ctx: Any, ended: Ended) -> None:
    press(shown, practise_epochs=10_000, practise_train_patience=0, practise_seed=7)
    job = ctx.latest("loop")
    begun(job, "training: seed 1 of 1")
    assert "training …" in texts(listed(shown)) and "under way" in texts(listed(shown))
    press(shown, practise_rounds=2)
    assert "under way already" in shown.messages[-1] and ctx.latest("loop") is job
    shown.call("practise-cancel", "click")
    assert ended("loop").state == "cancelled" and ctx.offer(job) == "Resume"
    seen = listed(shown)
    assert ("resume", {"run": job.run}) in actions(seen) and "stopped while training" in texts(seen)
    shown.call("practise-list", "act", {"name": "resume", "run": job.run})
    again = ctx.latest("loop")
    assert again.spec.task == "resume_loop" and again.spec.arguments == {"run": job.run}
    begun(again, "training: seed 1 of 1")
    assert again.run == job.run
    ctx.jobs.cancel(again.id)
    assert ended("loop").state == "cancelled" and ctx.taken_up(job)


def test_what_it_needs_is_said_before_the_start(shown: Driver, ctx: Any) -> None:
    ws, jobs = ctx.workspace, len(looping(ctx))
    generator = ws.get_state("generator")
    ws.put_state("generator", None)
    try:
        ctx.changed()
        assert "choose a generator first" in planned(shown)
        press(shown)
        assert "choose a generator first" in shown.messages[-1]
    finally:
        ws.put_state("generator", generator)
    held = ws.query(Filter(split="val"))
    for leave, words in ((9, "there are only 9 of them"), (0, "there are none")):
        with ws.database.write() as connection:
            connection.executemany(
                "UPDATE samples SET split = 'away' WHERE id = ?", [(id,) for id in held[leave:]]
            )
        ctx.changed()
        assert words in planned(shown)
        press(shown)
        assert words in shown.messages[-1]
    with ws.database.write() as connection:
        connection.execute("UPDATE samples SET split = 'val' WHERE split = 'away'")
        connection.execute("UPDATE samples SET split = 'away' WHERE split = 'test'")
    ctx.changed()
    assert "there will be no last comparison" in planned(shown)
    with ws.database.write() as connection:
        connection.execute("UPDATE samples SET split = 'test' WHERE split = 'away'")
    ctx.changed()
    assert len(looping(ctx)) == jobs


def test_events_that_no_page_would_send_change_nothing(shown: Driver, ctx: Any) -> None:
    jobs, runs = len(looping(ctx)), len(ctx.workspace.runs())
    other = ctx.workspace.runs("fit-head")[0].id
    for data in (
        {"name": "use", "ref": "../../etc"},
        {"name": "resume", "run": BAD},
        {"name": "resume", "run": other},
        {"name": "open", "run": other},
        {"name": "open"},
    ):
        before = len(shown.messages)
        shown.call("practise-list", "act", data)
        assert len(shown.messages) > before, data
        assert not any("went wrong" in one or "KeyError" in one for one in shown.messages[before:])
    for wrong in (
        {"practise_number": None},
        {"practise_seeds": None},
        {"practise_seed": None},
    ):
        before = len(shown.messages)
        press(shown, **wrong)
        assert len(shown.messages) > before, wrong
        assert not any("went wrong" in one or "KeyError" in one for one in shown.messages[before:])
    assert len(looping(ctx)) == jobs and len(ctx.workspace.runs()) == runs
