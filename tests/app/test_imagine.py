"""Imagine through its real endpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driver import Driver, actions, texts

from app.pricing import _calls
from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.errors import InputError
from ltg_core.guidance.cost import batch_cost
from ltg_core.guidance.settings import PRESETS
from ltg_core.jobs import Job
from tests.generators.tiny_models import model_folder

__all__ = ["model_folder"]

Ended = Callable[..., Job]
FAST = {"steps": 2, "candidates": 2, "draft_steps": 1, "survivors": 1}
QUICK = {f"imagine_{name}": value for name, value in FAST.items()} | {"imagine_class": "stop"}


def flat(node: Any) -> str:
    return " ".join(texts(node).split())


def nodes(node: Any, tag: str) -> list[dict[str, Any]]:
    """All nodes of a tree with this tag."""
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("t") == tag else []
    kids = node.get("k") or (node.get("value") or {}).get("k", [])
    return [*own, *[found for child in kids for found in nodes(child, tag)]]


def test_every_preset_says_in_words_what_it_is_for() -> None:
    from app.imagining import ABOUT, SWEEP

    assert set(ABOUT) == {*PRESETS, SWEEP}
    assert all(len(purpose) > 40 for _, purpose in ABOUT.values())


def test_a_preset_leaves_the_number_of_images_that_is_typed_meanwhile(page: Driver) -> None:
    other = page.call("imagine-preset", "change", imagine_preset="unguided", imagine_number=4)
    assert other["imagine-number"]["label"] == "Images" and "value" not in other["imagine-number"]
    strips = page.call("imagine-preset", "change", imagine_preset="sweep", imagine_number=8)
    assert strips["imagine-number"]["value"] == 1
    kept = page.call("imagine-preset", "change", imagine_preset="sweep", imagine_number=3)
    assert "value" not in kept["imagine-number"]


def test_a_changed_setting_makes_the_preset_custom_and_the_way_back_restores_it(page: Driver) -> None:
    changed = page.call("imagine-weight", "input", imagine_weight=2.0)
    assert "Custom , from Explore: weight 0.5 → 2" in flat(changed["imagine-about"])
    assert ("preset", {}) in actions(changed["imagine-about"])
    back = page.call("imagine-about", "act", {"name": "preset"}, imagine_weight=2.0)
    assert back["imagine-weight"] == 0.5 and "Custom" not in flat(back["imagine-about"])


def redrawn(page: Driver, ctx: Any) -> dict[str, Any]:
    """What the tab becomes when something in the workspace has changed."""
    ctx.changed()
    return page.show("imagine")


def test_a_generator_made_for_few_steps_brings_its_settings_and_takes_them_along(
    page: Driver, ctx: Any, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.imagining.measure", lambda ctx: None)
    own = ctx.workspace.get_state("generator")
    assert "imagine-steps" not in redrawn(page, ctx), "most generators ask for nothing"
    try:
        workflows.use_generator(ctx.workspace, model_folder("turbo"))
        shown = redrawn(page, ctx)
        assert shown["imagine-steps"] == 4 and shown["imagine-cfg"] == 1.0
        offered = [name for name, _ in shown["imagine-sampler"]["choices"]]
        assert offered == ["default", "ddim", "dpm++", "unipc", "euler"], (
            "a flow's sampler does not fit, nor a pace"
        )
        text = flat(shown["imagine-about"])
        assert "With steps 4 and guidance scale 1," in text and "Custom" not in text
        other = page.call("imagine-preset", "change", imagine_preset="feedback-guided")
        assert other["imagine-steps"] == 4 and other["imagine-every"] == 5
        changed = page.call("imagine-steps", "input", imagine_steps=9, imagine_cfg=1.0)
        assert "steps 4 → 9" in flat(changed["imagine-about"])
    finally:
        ctx.workspace.put_state("generator", own)
    back = redrawn(page, ctx)
    assert ["flow euler", "flow euler"] in [list(pair) for pair in back["imagine-sampler"]["choices"]]
    assert back["imagine-steps"] == 16 and back["imagine-cfg"] == 3.0
    assert "guidance scale" not in flat(back["imagine-about"])


def test_the_price_is_unknown_then_measured_then_follows_the_controls(
    page: Driver, ctx: Any, ended: Ended
) -> None:
    before = page.call("imagine-number", "change", imagine_number=8)
    assert "First run" in flat(before["imagine-estimate"])
    page.show("imagine")
    assert ended("measure").state == "done"
    one = page.call("imagine-number", "change", imagine_number=4)
    assert "About" in flat(one["imagine-estimate"]) and "for 4 images" in flat(one["imagine-estimate"])
    assert "Memory: light" in flat(one["imagine-estimate"])
    long = page.call("imagine-steps", "input", imagine_number=64, imagine_steps=1000, imagine_candidates=256)
    assert "That is long" in flat(long["imagine-estimate"])
    wrong = page.call("imagine-band-start", "input", imagine_band_start=0.9)
    assert "swap them" in flat(wrong["imagine-estimate"])
    page.show("imagine")
    assert sum(job.kind == "measure" for job in ctx.jobs.all()) == 1, "it is measured once"


def test_the_way_back_through_the_full_decoder_is_in_the_price() -> None:
    calls = batch_cost(dataclasses.replace(PRESETS["explore"], search="none"), 8, tiny=False).total
    shown = flat(_calls(workflows.Estimate(8, dict(calls))))
    assert f"full decoder {calls['D']:,} + {calls['Db']:,} gradients" in shown and calls["Db"] > 0
    assert "small decoder" not in shown


def test_images_that_balance_the_classes_are_asked_for_in_the_list_of_classes(page: Driver, ctx: Any) -> None:
    from app.imagining import BALANCE

    balance = {"imagine_class": BALANCE, "imagine_preset": "feedback-guided"}
    priced = page.call("imagine-number", "change", imagine_number=4, **balance)
    assert "gradients" in flat(priced["imagine-estimate"])
    assert page.call("imagine-class", "input", imagine_class=BALANCE)["imagine-prompt"] == ""
    started = page.call("imagine-start", "click", **(QUICK | balance))
    assert started == {} and "nothing is missing: every class has 12" in page.messages[-1].lower()


def test_a_counterfactual_asks_for_its_class_and_its_source(page: Driver, ctx: Any) -> None:
    shown = page.call("imagine-preset", "change", imagine_preset="counterfactual")
    assert shown["imagine-toward"]["visible"] and "Imagine from this" in flat(shown["imagine-about"])
    page.fill("imagine-toward")
    started = page.call(
        "imagine-start", "click", imagine_preset="counterfactual", imagine_toward="yield", **QUICK
    )
    assert started == {} and "starts from a real sample" in page.messages[-1]
    one = ctx.workspace.query(Filter(split="train"), limit=1)[0]
    from_panel, preset = [page.ids["browse-panel"], "act"], page.ids["imagine-preset"]
    jump = next(
        d
        for d in page.config["dependencies"]
        if from_panel in [list(t) for t in d["targets"]] and preset in d["outputs"]
    )
    jumped = page.run(jump, {"name": "imagine", "id": one})
    assert jumped["imagine-preset"] == "counterfactual" and jumped["imagine-number"] == 4


def test_sources_are_shown_counted_and_can_be_removed_one_by_one(ctx: Any) -> None:
    from app.pricing import sources_view

    ids = ctx.workspace.query(Filter(split="train"), limit=20)
    shown = sources_view(ctx, ids, "slice: dark stops")
    assert "From 20 real samples slice: dark stops" in flat(shown) and "and 8 more" in flat(shown)
    removing = [sent["id"] for name, sent in actions(shown) if name == "remove"]
    assert removing == ids[:12] and ("clear", {}) in actions(shown)
    assert sources_view(ctx, [], "") == {"c": "", "k": []}


def finished(page: Driver, ended: Ended, **given: Any) -> Job:
    """Start and wait."""
    page.call("imagine-start", "click", **(QUICK | given))
    return ended("generate")


def test_triplets_come_with_a_trace_and_open_closely(page: Driver, ctx: Any, ended: Ended) -> None:
    job = finished(page, ended, imagine_number=2)
    assert job.state == "done", job.reason
    run = job.run
    one = workflows.triplets(ctx.workspace, run)[1]["guided"]
    from app.enlarged import enlarged
    from app.triplets import results

    shown = results(ctx, run)
    (plot,) = nodes(shown, "svg")
    assert plot["a"]["aria-label"].startswith("Signal by step. Guided: from P ")
    assert ("enlarge", {"id": one}) in actions(shown) and ("sweep", {"id": one}) in actions(shown)
    large = flat(enlarged(ctx, run, one))
    for words in (
        "Judge",
        "Distance",
        "Survival",
        "Prompt",
        "Seed 1",
        "Nearest real samples",
        "Provenance",
        run,
    ):
        assert words in large
    with pytest.raises(InputError, match="no longer"):
        enlarged(ctx, run, "nobody")


def test_a_sweep_is_drawn_as_strips_with_weight_percentile_and_belief(
    page: Driver, ctx: Any, ended: Ended
) -> None:
    from app.triplets import results

    page.fill("imagine-weights")
    job = finished(page, ended, imagine_preset="sweep", imagine_weights="0, 1; 4", imagine_number=2)
    assert job.state == "done", job.reason
    shown = results(ctx, job.run)
    assert flat(shown).count("weight 4") == 2 and flat(shown).count("unguided") >= 2 and "P " in flat(shown)
    assert len(nodes(shown, "section")) == 2
    one = workflows.triplets(ctx.workspace, job.run)[0]["guided"]
    again = page.call("imagine-results", "act", {"name": "sweep", "id": one})
    assert "Sweeping the weight, 6 frames" in flat(again["imagine-progress"])
    assert ended("generate").state == "done"


@pytest.mark.parametrize("text", ("", "a, b", "0", "1,2,3,4,5,6,7,8,9"))
def test_weights_that_are_none_are_refused_in_words(page: Driver, ctx: Any, text: str) -> None:
    before = len(ctx.jobs.all())
    page.fill("imagine-weights")
    assert (
        page.call(
            "imagine-start", "click", imagine_preset="sweep", imagine_weights=text, imagine_number=1, **QUICK
        )
        == {}
    )
    assert "weights" in page.messages[-1] and len(ctx.jobs.all()) == before


def test_a_cancelled_run_shows_what_is_kept_and_can_be_completed(
    page: Driver, ctx: Any, ended: Ended
) -> None:
    from app.triplets import results
    from ltg_core.errors import Cancelled
    from ltg_core.jobs import CancelToken, Progress

    token, wanted = (
        CancelToken(),
        workflows.Order(number=10, label="stop", guidance=PRESETS["unguided"].to_dict() | {"steps": 2}),
    )

    def stop(step: Progress) -> None:
        if "image 9 to" in step.message:
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.imagine(ctx.workspace, wanted.to_dict(), on_progress=stop, cancel=token)
    run = ctx.workspace.runs("generate")[0].id
    shown = results(ctx, run)
    assert "Cancelled. 8 of 10 images were finished and are kept." in flat(shown)
    assert ("resume", {}) in actions(shown)
    from app import imagining

    assert imagining.resume(ctx, run) and ended("generate").state == "done"
    captions = [nodes(one, "figcaption") for one in nodes(results(ctx, run), "div") if one["c"] == "quad"]
    assert {flat(parts[1]).split()[0] for parts in captions} == {"unguided"}, "nothing was guided here"
    assert all(len(parts) == 2 for parts in captions) and "→" not in flat(results(ctx, run))
    assert len(workflows.triplets(ctx.workspace, run)) == 10 and "Cancelled" not in flat(results(ctx, run))


def test_a_second_generation_waits_in_the_queue_and_then_runs_by_itself(
    page: Driver, ctx: Any, ended: Ended
) -> None:
    from test_queue import until

    page.call(
        "imagine-start", "click", imagine_number=9, imagine_seed=501, **(QUICK | {"imagine_steps": 1000})
    )
    first = ctx.latest("generate")
    shown = page.call("imagine-start", "click", imagine_number=1, imagine_seed=502, **QUICK)
    second = ctx.latest("generate")
    assert second.id != first.id and second.state == "queued" and not first.ended
    assert "Next in the queue 1. Imagining 1 image" in flat(shown["imagine-progress"])
    assert "imagine-results" not in shown, "what is on view stays while the new one waits"
    same = page.call("imagine-start", "click", imagine_number=1, imagine_seed=502, **QUICK)
    assert same == {} and "exactly these images are under way" in page.messages[-1].lower()
    page.call("imagine-start", "click", imagine_number=2, imagine_seed=503, **QUICK)
    third = ctx.latest("generate")
    assert ctx.followed("generate") is first
    page.call("imagine-progress", "act", {"name": "cancel", "job": third.id})
    assert third.state == "cancelled" and not first.token.cancelled
    until(lambda: bool(first.run))
    page.call("imagine-cancel", "click")
    until(lambda: second.ended)
    assert first.state == "cancelled" and second.state == "done", second.reason
    assert len(workflows.triplets(ctx.workspace, second.run)) == 1
    assert ctx.followed("generate") is second


@pytest.mark.slow
def test_a_stopped_run_has_one_way_on_and_is_completed_once(page: Driver, ctx: Any) -> None:
    from test_queue import until

    from app import imagining
    from app.generations import following
    from app.triplets import results

    page.call(
        "imagine-start", "click", imagine_number=9, imagine_seed=601, **(QUICK | {"imagine_steps": 100})
    )
    job = ctx.latest("generate")
    until(lambda: bool(job.run))
    page.call("imagine-cancel", "click")
    until(lambda: job.ended)
    w = SimpleNamespace(progress="progress", start="start", cancel="cancel")
    assert ctx.offer(job) == "Resume" and "Resume" not in flat(following(ctx, job, w)["progress"])
    assert ("resume", {}) in actions(results(ctx, job.run))
    rest = imagining.resume(ctx, job.run)
    assert ctx.offer(job) == "" and ("resume", {}) not in actions(results(ctx, job.run))
    with pytest.raises(InputError, match="under way already"):
        imagining.resume(ctx, job.run)
    until(lambda: rest.ended)
    assert rest.state == "done" and len(workflows.triplets(ctx.workspace, job.run)) == 9


def test_a_run_whose_record_lacks_what_was_asked_for_is_listed_and_shown(ctx: Any) -> None:
    from app import imagining
    from app.generations import run_choices
    from app.triplets import results
    from ltg_core.workflows.recording import recorded

    with recorded(ctx.workspace, "generate", {"label_names": []}) as recording:
        run = recording.run.id
    (listed,) = [words for words, one in run_choices(ctx) if one == run]
    assert "class unknown" in listed and listed.endswith("· ?")
    assert "kept no image" in flat(results(ctx, run))
    found = workflows.run_trace(ctx.workspace, run)
    assert found.images == {} and found.mean.guided == []
    with pytest.raises(InputError, match="does not say what was asked for"):
        imagining.resume(ctx, run)
