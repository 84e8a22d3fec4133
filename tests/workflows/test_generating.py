"""Generation as a run: complete, examined, and nothing lost to a cancel, a kill or a full disk."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ltg_core import workflows
from ltg_core.data import blobs
from ltg_core.data.records import Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, ModelError, WorkspaceError
from ltg_core.export.guard import check as leaks
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken, Progress

PLAIN = Guidance(steps=2, search="none", climb="none")
QUICK = Guidance(
    steps=2, search="none", climb="denoiser-free", band_start=0.0, band_end=1.0, every=1, augment=False
)


def make(ws: Workspace, number: int = 3, guidance: Guidance = QUICK, **options: Any) -> Run:
    """One generation with the active models."""
    classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
    plan = workflows.plan_classes(classifier, generator, ["stop"], per_class=number)
    return workflows.generate(
        ws, classifier, generator, **dataclasses.asdict(plan), guidance=guidance, **options
    )


def pictures(ws: Workspace, run_id: str) -> dict[int, tuple[str, str | None]]:
    """Image hashes of the guided images and their controls, by index."""
    found = {}
    for row in workflows.triplets(ws, run_id):
        control = ws.sample(row["control"]).image_hash if row["control"] else None
        guided = ws.sample(row["guided"])
        found[guided.meta["index"]] = (guided.image_hash, control)
    return found


def test_every_image_is_kept_with_its_control_its_findings_and_its_scores(fitted: Workspace, classifier):
    reports: list[Progress] = []
    run = make(fitted, preset="explore", negative="fog", on_progress=reports.append)
    assert run.state == "done" and run.result["images"] == run.result["wanted"] == 3
    assert run.result["believed"] + run.result["quarantined"] == 3
    rows = workflows.triplets(fitted, run.id)
    assert [row["seed"] for row in rows] == [0, 1, 2]
    for row in rows:
        guided, control = fitted.samples([row["guided"], row["control"]])
        assert guided.origin == control.origin == run.id and guided.split == "generated"
        assert guided.label_name == "stop" and guided.caption == "a photo of a stop sign"
        assert guided.belief in ("believed", "quarantined") and guided.belief_reason == row["reason"]
        assert (guided.meta["role"], control.meta["role"]) == ("guided", "control")
        assert guided.meta["control"] == control.id and guided.meta["preset"] == "explore"
        assert 0 <= row["percentile"] <= 100 and 0 <= row["percentile_control"] <= 100
        assert fitted.samples(guided.meta["neighbours"])[0].real
        assert fitted.image(guided.id).size == (32, 32)
    everything = fitted.query(Filter(origin=run.id))
    assert len(everything) == 6
    assert fitted.predictions(everything, classifier.hash).keys() == set(everything)
    assert fitted.scores(everything, classifier.hash, "epistemic").keys() == set(everything)
    assert (
        run.hashes.keys() == {"classifier", "generator", "reference"}
        and run.settings["guidance"]["steps"] == 2
    )
    previews = [step.preview for step in reports if step.preview is not None]
    assert previews and previews[0].shape[1:] == (32, 32, 3)
    assert all(step.done <= step.total for step in reports) and "1 to 3 of 3" in reports[-1].message


def test_without_guidance_there_are_no_controls(fitted: Workspace):
    run = make(fitted, 2, PLAIN, preset="unguided")
    assert [row["control"] for row in workflows.triplets(fitted, run.id)] == [None, None]
    assert fitted.count(Filter(origin=run.id)) == 2


def test_the_control_of_a_guided_image_is_the_unguided_image_of_its_seed(fitted: Workspace):
    guided, plain = make(fitted, 2), make(fitted, 2, PLAIN)
    controls = [control for _, control in pictures(fitted, guided.id).values()]
    assert controls == [image for image, _ in pictures(fitted, plain.id).values()]


def test_a_stopped_generation_keeps_finished_units_and_resumes_to_the_images_of_an_unbroken_one(
    fitted: Workspace,
):
    whole = pictures(fitted, make(fitted, 10, PLAIN).id)
    token = CancelToken()

    def stop(step: Progress) -> None:
        if "9 to 10" in step.message:
            token.cancel()

    with pytest.raises(Cancelled):
        make(fitted, 10, PLAIN, on_progress=stop, cancel=token)
    run = fitted.runs("generate")[0]
    assert run.state == "cancelled" and run.result["images"] == 8
    assert len(workflows.triplets(fitted, run.id)) == 8
    again = workflows.resume_generate(fitted, run.id)
    assert again.id == run.id and again.state == "done" and again.result["images"] == 10
    assert pictures(fitted, run.id) == whole
    assert fitted.count(Filter(origin=run.id)) == 10
    with pytest.raises(InputError, match="nothing to resume"):
        workflows.resume_generate(fitted, run.id)


_MAKER = """
import dataclasses, sys
import torch
torch.set_num_threads(1)
from ltg_core import workflows
from ltg_core.data.workspace import Workspace
from ltg_core.guidance.settings import Guidance

ws = Workspace(sys.argv[1])
classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
plan = workflows.plan_classes(classifier, generator, ["stop"], per_class=400)
guidance = Guidance(steps=2, search="none", climb="none")
workflows.generate(ws, classifier, generator, **dataclasses.asdict(plan), guidance=guidance)
"""


@pytest.mark.slow
def test_a_killed_generation_leaves_whole_images_and_resumes_to_the_same_ones(fitted: Workspace):
    maker = subprocess.Popen([sys.executable, "-W", "ignore", "-c", _MAKER, str(fitted.path)])
    try:
        while not fitted.query(Filter(origin="generated"), limit=9)[8:]:
            assert maker.poll() is None, "the generation ended before it was killed"
            time.sleep(0.02)
    finally:
        os.kill(maker.pid, signal.SIGKILL)
        maker.wait()
    with Workspace(fitted.path) as ws:
        (run_id,) = ws.interrupted
        kept = pictures(ws, run_id)
        assert len(kept) >= 8 and len(kept) % 8 == 0
        for sample in ws.query(Filter(origin=run_id)):
            assert ws.image(sample).size == (32, 32)
        # The rest of the run is cut to what a test can wait for; rows that are there keep their place.
        settings = ws.run(run_id).settings
        short = {k: v[: len(kept) + 8] if isinstance(v, list) else v for k, v in settings.items()}
        with ws.database.write() as connection:
            from ltg_core.data.runs import dump

            connection.execute("UPDATE runs SET settings = ? WHERE id = ?", (dump(short), run_id))
        done = workflows.resume_generate(ws, run_id)
        resumed = pictures(ws, run_id)
        assert done.state == "done" and len(resumed) == len(kept) + 8
        assert {index: resumed[index] for index in kept} == kept
        last = sorted(resumed)[-2:]
        classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
        alone = workflows.generate(
            ws,
            classifier,
            generator,
            prompts=[short["prompts"][i] for i in last],
            labels=[short["labels"][i] for i in last],
            seeds=[short["seeds"][i] for i in last],
            guidance=PLAIN,
        )
        assert list(pictures(ws, alone.id).values()) == [resumed[i] for i in last]


def test_a_full_disk_ends_the_run_in_words_and_keeps_what_was_finished(
    fitted: Workspace, monkeypatch: pytest.MonkeyPatch
):
    replace, written = os.replace, []

    def full(source: Any, target: Any) -> None:
        image = "images" in Path(target).parts
        if image and len(written) >= 8:
            raise OSError(28, "No space left on device")
        replace(source, target)
        written.extend([target] if image else [])

    monkeypatch.setattr(blobs.os, "replace", full)
    with pytest.raises(WorkspaceError, match="full"):
        make(fitted, 12, PLAIN)
    monkeypatch.undo()
    run = fitted.runs("generate")[0]
    assert run.state == "failed" and "full" in run.reason and run.result["images"] == 8
    assert workflows.resume_generate(fitted, run.id).result["images"] == 12


def test_a_resumed_run_refuses_models_that_have_changed(fitted: Workspace, classifier):
    token = CancelToken()
    with pytest.raises(Cancelled):
        make(fitted, 2, PLAIN, on_progress=lambda step: token.cancel(), cancel=token)
    run = fitted.runs("generate")[0]
    workflows.fit_head(fitted, classifier, workflows.HeadSettings(members=4, hidden=8, epochs=1), seed=5)
    with pytest.raises(ModelError, match="the reference changed"):
        workflows.resume_generate(fitted, run.id)


def test_a_counterfactual_starts_from_a_real_sample_and_carries_its_origin(fitted: Workspace, classifier):
    generator = workflows.active_generator(fitted)
    held, free = (
        fitted.query(Filter(split="test", label=0))[0],
        fitted.query(Filter(split="train", label=0))[0],
    )
    plan = workflows.plan_sources(fitted, classifier, generator, [held, free], toward="yield")
    assert plan.labels == [1, 1] and plan.prompts == ["a photo of a yield sign"] * 2
    run = workflows.generate(
        fitted,
        classifier,
        generator,
        **dataclasses.asdict(plan),
        guidance=dataclasses.replace(PLAIN, strength=0.5),
    )
    rows = workflows.triplets(fitted, run.id)
    assert [row["source"] for row in rows] == [held, free]
    kept, left_out = leaks(fitted, [row["guided"] for row in rows], needs_label=True)
    assert kept == [rows[1]["guided"]] and "held-out split 'test'" in left_out[0][1]


def test_wrong_orders_are_refused_before_anything_is_made(fitted: Workspace, classifier):
    generator = workflows.active_generator(fitted)

    def ask(**changed: Any) -> None:
        order: dict[str, Any] = {"prompts": ["a", "b"], "labels": [0, 1], "seeds": [1, 2], "guidance": PLAIN}
        workflows.generate(fitted, classifier, generator, **(order | changed))

    for changed, words in (
        ({"seeds": [1]}, "one of each"),
        ({"labels": [0, 3]}, "class 3 does not exist"),
        ({"seeds": [1, -2]}, "seeds are whole numbers"),
        ({"sources": ["nobody", "nowhere"]}, "not in this workspace"),
        ({"prompts": [], "labels": [], "seeds": []}, "0 images"),
    ):
        with pytest.raises(InputError, match=words):
            ask(**changed)
    with pytest.raises(InputError, match=r"no class 'bus'.*stop, yield, parking"):
        workflows.plan_classes(classifier, generator, ["bus"])
    assert fitted.runs("generate") == []


def test_without_a_fitted_head_generation_says_so(fitted: Workspace, classifier):
    (fitted.path / "arrays" / f"reference-{classifier.hash}.safetensors").unlink()
    with pytest.raises(InputError, match="fit its head first"):
        make(fitted, 1)


def test_search_and_climb_together_run_through_a_workspace(fitted: Workspace):
    guidance = dataclasses.replace(Guidance(), steps=2, draft_steps=1, candidates=2, survivors=1)
    run = make(fitted, 2, guidance, preset="explore")
    assert run.result["calls"]["U"] > 0 and len(list(fitted.run_folder(run.id).glob("unit-*.json"))) == 1
