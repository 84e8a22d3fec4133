"""Imagine and Coverage through their real endpoints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from driver import Driver, actions, texts

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.errors import InputError
from ltg_core.guidance.settings import PRESETS
from ltg_core.jobs import Job
from tests.generators.tiny_models import model_folder

__all__ = ["model_folder"]

Ended = Callable[..., Job]
FAST = {"steps": 2, "candidates": 2, "draft_steps": 1, "survivors": 1}
QUICK = {f"imagine_{name}": value for name, value in FAST.items()} | {"imagine_class": "stop"}


@pytest.fixture(scope="module")
def planned(ctx: Any) -> Any:
    """The real samples know their time of day; a third of each class is by night."""
    ids = ctx.workspace.query(Filter(origin="real"))
    ctx.workspace.merge_meta({one: {"time": "night" if k % 3 == 2 else "day"} for k, one in enumerate(ids)})
    ctx.changed()
    return ctx


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
    page: Driver, ctx: Any, model_folder: Callable[[str], Path]
) -> None:
    own = ctx.workspace.get_state("generator")
    assert "imagine-steps" not in redrawn(page, ctx), "most generators ask for nothing"
    try:
        workflows.use_generator(ctx.workspace, model_folder("turbo"))
        shown = redrawn(page, ctx)
        assert shown["imagine-steps"] == 4 and shown["imagine-cfg"] == 1.0
        text = flat(shown["imagine-about"])
        assert "With steps 4 and guidance scale 1," in text and "Custom" not in text
        other = page.call("imagine-preset", "change", imagine_preset="feedback-guided")
        assert other["imagine-steps"] == 4 and other["imagine-every"] == 5
        changed = page.call("imagine-steps", "input", imagine_steps=9, imagine_cfg=1.0)
        assert "steps 4 → 9" in flat(changed["imagine-about"])
    finally:
        ctx.workspace.put_state("generator", own)
    back = redrawn(page, ctx)
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
        "imagine-start", "click", imagine_number=9, imagine_seed=501, **(QUICK | {"imagine_steps": 100})
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


def test_the_planner_counts_and_a_cell_opens_its_samples(page: Driver, planned: Any) -> None:
    shown = page.call("coverage-top", "act", {"name": "show", "mode": "grid"})
    found = workflows.coverage(planned.workspace, 3, "time", model_hash=planned.model_hash)
    cell = found.cells[0, found.values.index("night")]
    sent = {"label": "stop", "value": '"night"'}
    assert ("cell", sent) in actions(shown["coverage-grid"])
    opened = page.call("coverage-grid", "act", {"name": "cell", **sent})["coverage-panel"]
    assert "stop × night" in flat(opened) and f"In training {cell.train}" in flat(opened)
    jumped = page.call("coverage-panel", "act", {"name": "samples", **sent})["address"]
    assert jumped["set"] == {"class": "stop", "meta.time": "night"} and jumped["go"]
    assert page.call("coverage-panel", "act", {"name": "samples", "label": "x", "value": "[]"}) == {}
    assert "no longer there" in page.messages[-1]


def test_a_cell_is_imagined_and_counts_there_once_accepted(page: Driver, planned: Any, ended: Ended) -> None:
    from ltg_core.curation import verdicts

    sent = {"name": "imagine", "label": "stop", "value": '"night"'}
    aimed = page.call("coverage-panel", "act", sent)
    assert aimed["tabs"]["selected"] == "imagine" and aimed["imagine-class"]["value"] == "stop"
    assert aimed["imagine-prompt"] == "a photo of a stop sign, night"
    job = finished(page, ended, imagine_number=2, imagine_prompt=aimed["imagine-prompt"])
    made = [row["guided"] for row in workflows.triplets(planned.workspace, job.run)]
    assert {planned.workspace.sample(one).meta["time"] for one in made} == {"night"}
    verdicts.set_verdict(planned.workspace, made, "accepted")
    redrawn = page.call("coverage-top", "act", {"name": "show", "mode": "need"})
    assert "stop × night" in flat(redrawn["coverage-grid"]) and "+2" in flat(redrawn["coverage-grid"])
    from_its = page.call("coverage-panel", "act", sent | {"name": "from"})
    assert from_its["imagine-preset"] == "hard but believable" and from_its["imagine-number"] > 1


def test_saved_slices_are_the_columns_of_the_planner(page: Driver, planned: Any) -> None:
    from app.imagining import SLICE
    from app.planner import SAVED
    from ltg_core.workflows.coverage import SLICE as THEIRS

    assert SLICE == THEIRS
    ws = planned.workspace
    picked = ws.query(Filter(split="train", label=0), limit=5)
    workflows.save_slice(ws, "dark ones", Filter(meta={"time": "night"}, split="test"))
    gone = workflows.save_slice(ws, "picked", Filter(ids=tuple(picked)))
    page.fill("coverage-grid")
    shown = page.call("coverage-column", "input", coverage_column=SAVED)
    assert ["Saved slices", SAVED] in [list(one) for one in shown["coverage-column"]["choices"]]
    night = len(ws.query(Filter(meta={"time": "night"}, label=0, origin="real")))
    dark, five = ({"label": "stop", "value": json.dumps(name)} for name in ("dark ones", "picked"))
    assert {"dark", "picked"} <= set(flat(shown["coverage-grid"]).split())
    assert ("cell", dark) in actions(shown["coverage-grid"])

    def panel(sent: dict[str, Any], name: str = "cell") -> dict[str, Any]:
        return page.call("coverage-grid", "act", {"name": name, **sent}, coverage_column=SAVED)

    opened = flat(panel(dark)["coverage-panel"])
    assert f"See its {night} real samples" in opened and "a photo of a stop sign, night" in opened
    assert panel(dark, "samples")["address"]["set"] == {"class": "stop", "meta.time": "night"}
    aimed = panel(dark, "imagine")
    assert aimed["imagine-prompt"] == "a photo of a stop sign, night"
    opened = panel(five)["coverage-panel"]
    assert "re-drawn from its samples" in flat(opened) and "See its 5 real samples" in flat(opened)
    assert not any(name == "imagine" for name, _ in actions(opened))
    assert panel(five, "samples")["address"]["set"] == {"class": "stop", "slice": gone}
    aimed = panel(five, "from")
    assert aimed["imagine-number"] == 5 and aimed["imagine-prompt"] == "a photo of a stop sign"
    workflows.remove_slice(ws, gone)
    assert panel(five, "samples") == {} and "no longer there" in page.messages[-1]


def test_a_selection_aims_at_the_class_and_the_condition_that_it_shares(page: Driver, planned: Any) -> None:
    ws = planned.workspace
    by_night = ws.query(Filter(origin="real", label=1, meta={"time": "night"}), limit=3)
    mixed = [by_night[0], *ws.query(Filter(origin="real", label=1, meta={"time": "day"}), limit=1)]
    classes = [by_night[0], *ws.query(Filter(origin="real", label=0), limit=1)]

    def imagined(ids: list[str]) -> dict[str, Any]:
        page.call("browse-grid", "pick", {"id": ids[0], "ids": ids})
        found = [
            dependency
            for dependency in page.config["dependencies"]
            if [page.ids["browse-selection"], "act"] in [list(target) for target in dependency["targets"]]
            and page.ids["imagine-prompt"] in dependency["outputs"]
        ]
        return page.run(found[0], {"name": "imagine"})

    name = ws.label_names()[1]
    aimed = imagined(by_night)
    assert (aimed["imagine-class"]["value"], aimed["imagine-number"]) == (name, 4)
    assert name in [value for _, value in aimed["imagine-class"]["choices"]], (
        "its tab may not have been drawn yet"
    )
    assert aimed["imagine-prompt"].startswith("a photo of") and aimed["imagine-prompt"].endswith("night")
    aimed = imagined(mixed)
    assert aimed["imagine-class"]["value"] == name and aimed["imagine-prompt"] == ""
    aimed = imagined(classes)
    assert aimed["imagine-class"]["value"] == "any" and aimed["imagine-prompt"] == ""


def test_without_a_column_the_planner_says_what_would_help(ctx: Any, tmp_path: Any) -> None:
    from app.context import AppContext
    from app.settings import Settings
    from app.tabs import coverage

    bare = AppContext(Settings(workspace=tmp_path / "ws"))
    w = SimpleNamespace(column="column", top="top", grid="grid", panel="panel")
    assert "No samples yet" in flat(coverage.show(bare, w, None, "grid", {})["grid"])
    import numpy as np

    bare.workspace.add_image(np.zeros((8, 8, 3), np.uint8), origin="real", label=0, label_name="cat")
    bare.workspace.set_label_names(["cat"])
    bare.changed()
    assert "manifest" in flat(coverage.show(bare, w, None, "grid", {})["grid"])
    bare.workspace.close()


def test_hostile_values_of_a_column_are_text_in_the_grid(page: Driver, ctx: Any) -> None:
    bad = '<img src=x onerror="alert(1)">${alert(2)}'
    ids = ctx.workspace.query(Filter(origin="real"))
    ctx.workspace.merge_meta({one: {bad: bad if k % 2 else "fine"} for k, one in enumerate(ids)})
    ctx.changed()
    page.fill("coverage-grid")
    shown = page.call("coverage-column", "input", coverage_column=bad)
    assert bad in texts(shown["coverage-grid"])
    sent = {"label": "stop", "value": json.dumps(bad)}
    assert ("cell", sent) in actions(shown["coverage-grid"])
    aimed = page.call("coverage-panel", "act", {"name": "imagine", **sent}, coverage_column=bad)
    assert bad in aimed["imagine-prompt"]
