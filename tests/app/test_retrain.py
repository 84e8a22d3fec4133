"""Retrain and compare through the real endpoints: what it will learn from, a training, its comparison, its use."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from driver import Driver, actions, texts

from ltg_core.curation import verdicts
from ltg_core.data.records import Filter
from ltg_core.jobs import Job
from tests.conftest import draw

BAD = '<img src=x onerror="alert(1)">${alert(2)}\u202egnp'
CHEAP = {"retrain_epochs": 2, "retrain_seeds": 2, "retrain_batch_size": 12, "retrain_patience": 0}
Ended = Callable[..., Job]


@pytest.fixture(scope="module")
def made(ctx: Any) -> list[str]:
    """Six generated images: four accepted, of which one is made from a test image; two only believed."""
    ws = ctx.workspace
    run = ws.start_run("generate", {"preset": BAD, "label_names": [BAD]}, seed=1)
    test = ws.query(Filter(split="test"), limit=1)[0]
    ids = []
    for k in range(6):
        meta = {"role": "guided", "seed": k, "index": k} | ({"source": test} if k == 3 else {})
        given: dict[str, Any] = {"origin": run.id, "label": 0, "label_name": "stop", "belief": "believed"}
        ids.append(ws.add_image(draw("stop", 8000 + k, "night"), meta=meta, **given))
    ws.finish_run(run.id, "done")
    verdicts.set_verdict(ws, ids[:4], "accepted")
    ctx.changed()
    return ids


@pytest.fixture
def shown(page: Driver) -> Driver:
    """The tab, opened."""
    page.show("retrain")
    page.fill("retrain-plan")
    return page


def press(page: Driver, **given: Any) -> dict[str, Any]:
    return page.call("retrain-start", "click", **{**CHEAP, **given})


def listed(page: Driver) -> Any:
    return page.show("retrain")["retrain-trained"]


def test_the_lists_that_are_written_out_are_those_of_the_registries() -> None:
    from app.retraining import order
    from ltg_core.params import specs
    from ltg_core.training.losses import LOSSES
    from ltg_core.training.samplers import SAMPLERS
    from ltg_core.training.settings import SCOPES, MixSettings

    assert sorted(order.LOSSES) == sorted(LOSSES) and sorted(order.SAMPLERS) == sorted(SAMPLERS)
    assert tuple(order.SCOPES) == SCOPES
    for name, loss in LOSSES.items():
        own = [(s.name, s.default, s.low, s.high, s.help) for s in specs(loss)]
        assert list(order.LOSS_SETTINGS.get(name, ())) == own, name
    choices = {spec.name: spec.choices for spec in specs(MixSettings)}
    assert tuple(value for _, value in order.SYNTHETIC) == choices["synthetic"]
    assert tuple(value for _, value in order.ROLES) == choices["role"]


def test_before_the_start_it_says_what_will_be_learned_from_and_what_is_left_out(
    shown: Driver, made: list[str]
) -> None:
    def plan(at: str, **given: Any) -> str:
        return " ".join(texts(shown.call(at, "input", at=-1, **given)["retrain-plan"]).split())

    said = plan("retrain-synthetic")
    assert (
        "36 real images" in said and "3 generated images" in said and "18 real images that say when" in said
    )
    assert "1 generated image left out by the leakage guard" in said and "3 copies of tiny signs" in said
    assert (
        re.search("It takes (a few seconds|at most about)", said) and "Only 18 real validation images" in said
    )
    assert "5 generated images" in plan("retrain-synthetic", retrain_synthetic="believed")
    none = plan("retrain-synthetic", retrain_synthetic="none")
    assert "0 generated images" in none and "left out" not in none
    assert "No generated image was accepted" in plan("retrain-role", retrain_role="control")
    groups = plan("retrain-loss", retrain_loss="group-dro")
    assert "cannot be trained yet" in groups and "column" in groups
    assert "Trainings is None; give a number" in plan("retrain-seeds", retrain_seeds=None)
    about = shown.call("retrain-loss", "input", retrain_loss="focal")
    assert "Easy images count little" in texts(about["retrain-about-loss"])
    assert about["retrain-focal-gamma"]["visible"] and not about["retrain-ldam-margin"]["visible"]
    assert about["address"]["set"] == {"retrain.loss": "focal"}


def test_a_training_is_compared_told_fetched_and_put_to_use(
    shown: Driver, ctx: Any, made: list[str], ended: Ended
) -> None:
    first = ctx.model_hash
    press(shown, retrain_name=BAD, retrain_loss="ldam", retrain_ldam_margin=1.0)
    job = ended("retrain")
    assert job.state == "done", job.reason
    run = ctx.workspace.run(job.run)
    assert run.settings["loss"]["margin"] == 1.0 and run.result["data"]["synthetic"] == 3
    cards = listed(shown)
    assert (
        BAD in texts(cards)
        and "2 seeds" in texts(cards)
        and "balanced accuracy on validation" in texts(cards)
    )

    turned = shown.call("retrain-trained", "act", {"name": "compare", "run": run.id})
    assert turned["address"]["set"] == {"retrain.part": "compare"}
    compared = ended("compare")
    assert compared.state == "done", compared.reason
    result = ctx.workspace.run(compared.run).result
    opened = shown.go({"tab": "retrain", "retrain.part": "compare"})
    head, rest = opened["compare-head"], opened["compare-rest"]
    assert BAD[:20] in texts(head) and "18 real images (test)" in texts(head)
    worse = result["regressions"][result["arms"][0]["name"]]
    assert f"became worse: {len(worse)}" in texts(head) if worse else "Nothing became worse" in texts(head)
    assert "All in all" in texts(rest) and "by chance" in texts(rest)
    assert "What it learned from: 3 synthetic images" in texts(rest) and "only 3 made images" in texts(rest)
    rows = opened["compare-figure"]["rows"]
    assert rows and [one["at"] for one in rows] == sorted(one["at"] for one in rows)
    second = shown.call("compare-head", "act", {"name": "arm", "place": 1})
    assert second["address"]["set"] == {"retrain.part": "compare", "retrain.arm": "2"}
    assert "logit adjustment" in texts(second["compare-head"])
    assert ("free", {"run": compared.run, "place": 1}) in actions(second["compare-rest"])

    answer = shown.http.get(f"/media/comparison/{compared.run}")
    assert answer.status_code == 200 and answer.headers["content-disposition"].startswith("attachment")
    assert next(iter(answer.json())) == "regressions" and answer.json()["arms"] == json.loads(
        json.dumps(result["arms"])
    )
    for wrong in (run.id, "x", "..%2flongtail.sqlite", compared.run + ".json"):
        assert shown.http.get(f"/media/comparison/{wrong}").status_code == 404

    asked = shown.call("retrain-trained", "act", {"name": "use", "ref": run.id})["retrain-use"]
    assert "Use this classifier?" in texts(asked) and "tiny signs" in texts(asked)
    assert texts(shown.show("retrain")["retrain-use"]) == texts(asked), "it stays open meanwhile"
    assert shown.call("retrain-use", "act", {"name": "keep"})["retrain-use"]["k"] == []
    assert ctx.model_hash == first and ctx.latest("adopt") is None
    shown.call("retrain-use", "act", {"name": "use-now", "ref": run.id})
    assert ended("adopt").state == "done" and ctx.model_hash == run.result["best"]
    after = shown.show("retrain")
    assert ("fit", {}) in actions(after["retrain-use"]) and "in use" in texts(after["retrain-trained"])
    assert ("use", {"ref": first}) in actions(after["retrain-trained"]), "and there is a way back"
    shown.call("retrain-use", "act", {"name": "use-now", "ref": first})
    deadline = time.monotonic() + 240
    while ctx.model_hash != first and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ctx.model_hash == first


def test_how_good_the_images_are_that_were_learned_from_is_told_in_words() -> None:
    import numpy as np

    from app.retraining.outcome import _learned_from
    from ltg_core.evaluation.quality import quality

    rng = np.random.default_rng(0)
    found = quality(rng.normal(size=(20, 3)), rng.normal(size=(15, 3))).record()
    told = texts(_learned_from({"n": 15, "overall": found, "note": ""}))
    assert "15 synthetic images" in told and f"precision {found['precision']:.2f}" in told
    assert f"{found['vendi']:.1f} different ones in effect" in told and "20 real images" in told
    assert _learned_from(None) is None


def test_a_training_that_was_cancelled_goes_on_where_it_stopped(
    shown: Driver, ctx: Any, ended: Ended
) -> None:
    many = {
        "retrain_epochs": 10_000,
        "retrain_seeds": 1,
        "retrain_checkpoint_every": 1,
        "retrain_synthetic": "none",
    }
    press(shown, **many, retrain_first=7)
    job = ctx.latest("retrain")
    deadline = time.monotonic() + 240
    while job.progress.done < 5 and not job.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "epoch" in job.progress.message and "on real validation images" in job.progress.message
    press(shown, **many, retrain_first=7)
    assert "under way already" in shown.messages[-1] and ctx.latest("retrain") is job
    shown.call("retrain-cancel", "click")
    assert ended("retrain").state == "cancelled" and ctx.offer(job) == "Resume"
    assert ("resume", {"run": job.run}) in actions(listed(shown))
    shown.call("retrain-trained", "act", {"name": "resume", "run": job.run})
    again = ctx.latest("retrain")
    assert again.spec.task == "resume_retrain" and again.spec.arguments == {"run": job.run}
    while not again.progress.done and not again.ended and time.monotonic() < deadline:
        time.sleep(0.02)
    assert again.progress.done >= 5, "it does not begin anew"
    ctx.jobs.cancel(again.id)
    assert ended("retrain").state == "cancelled" and ctx.taken_up(job)


def test_events_that_no_page_would_send_change_nothing(shown: Driver, ctx: Any) -> None:
    jobs, runs = len(ctx.jobs.all()), len(ctx.workspace.runs())
    told = ctx.workspace.runs("generate")
    other = told[0].id if told else "x"
    for target, data in (
        ("retrain-trained", {"name": "use", "ref": "../../etc"}),
        ("retrain-trained", {"name": "compare", "run": BAD}),
        ("retrain-trained", {"name": "resume", "run": other}),
        ("retrain-use", {"name": "use-now", "ref": ["x"]}),
        ("retrain-use", {"name": "use-now", "ref": ctx.model_hash}),
        ("compare-rest", {"name": "free", "run": other, "place": 0}),
        ("compare-rest", {"name": "free", "run": None, "place": "all"}),
        ("compare-rest", {"name": "use"}),
    ):
        before = len(shown.messages)
        shown.call(target, "act", data)
        assert len(shown.messages) > before, (target, data)
        assert not any("went wrong" in one or "KeyError" in one for one in shown.messages[before:])
    for target, data in (
        ("retrain-top", {"name": "part", "part": BAD}),
        ("compare-head", {"name": "arm", "place": 10**9}),
        ("compare-head", {"name": "arm", "place": True}),
        ("retrain-use", {"name": "go", "tab": BAD}),
        ("retrain-use", [1, 2]),
    ):
        shown.call(target, "act", data)
    press(shown, retrain_ldam_margin=None, retrain_loss="ldam")
    assert "give a number" in shown.messages[-1]
    press(shown, retrain_first=2**40)
    assert "First seed" in shown.messages[-1]
    shown.call("compare-start", "click", compare_arms=[], compare_free=False)
    assert "choose a training" in shown.messages[-1].lower()
    assert len(ctx.jobs.all()) == jobs and len(ctx.workspace.runs()) == runs


def test_the_address_opens_what_it_names_and_says_what_is_not_here(page: Driver) -> None:
    opened = page.go(
        {"tab": "retrain", "retrain.loss": "focal", "retrain.scope": "whole", "retrain.role": BAD}
    )
    assert opened["tabs"]["selected"] == "retrain" and opened["retrain-loss"] == "focal"
    assert opened["retrain-scope"] == "whole" and "role" in page.messages[-1]
    role = page.go({"tab": "retrain", "retrain.role": "control"})["retrain-role"]
    assert role["value"] == "control" and role["visible"]
    page.go({"tab": "retrain", "retrain.part": "compare", "retrain.of": "x", "retrain.arm": "99"})
    assert "not here" in page.messages[-1]
