"""Quality of generations and sets beside real images, from the command line and beside a comparison."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from ltg_core import workflows
from ltg_core.cli import main
from ltg_core.curation import sets, verdicts
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.evaluation.quality import quality
from ltg_core.guidance.settings import Guidance
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.store import FeatureStore

PLAIN = Guidance(steps=2, search="none", climb="none", like="train", strength=0.5)


def make(ws: Workspace, classes: list[str], number: int) -> str:
    classifier, generator = workflows.active_classifier(ws), workflows.active_generator(ws)
    plan = workflows.plan_classes(classifier, generator, classes, per_class=number)
    return workflows.generate(ws, classifier, generator, **dataclasses.asdict(plan), guidance=PLAIN).id


def test_a_run_and_a_set_beside_real_images_of_their_classes(
    fitted: Workspace, classifier: Classifier, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make(fitted, ["stop", "yield"], 4)
    settings = workflows.QualitySettings(neighbours=2)
    found = workflows.measure_quality(fitted, [run], settings, classifier=classifier)
    (one,) = found.result["sets"]  # without guidance there are no controls
    made = fitted.query(Filter(origin=run))
    real = [s.id for s in fitted.samples(fitted.query(Filter(origin="real", split="val")))]
    store = FeatureStore(fitted, classifier)
    every = store.features(real).astype(float)
    mean, deviation = every.mean(axis=0), every.std(axis=0)
    deviation = np.where(deviation > 1e-6, deviation, np.inf)
    own = [s.id for s in fitted.samples(real) if s.label in (0, 1)]
    expected = quality(
        (store.features(own) - mean) / deviation, (store.features(made) - mean) / deviation, neighbours=2
    ).record()
    assert one["overall"]["real"] == 12 and one["overall"]["made"] == one["n"] == 8
    for name in ("precision", "recall", "density", "coverage", "vendi", "kid"):
        assert one["overall"][name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name
    assert set(one["classes"]) == {"stop", "yield"} and one["classes"]["stop"]["real"] == 6
    assert found.result["images"]["split"] == "val"
    assert any("fewer than 100" in note for note in found.result["notes"])
    sets.snapshot(fitted, "kept", made[:5])
    at = ["--workspace", str(fitted.path), "--quiet", "--json"]
    asked = ["quality", run, "kept", "--neighbours", "2", "--space", "encoder", "--split", "train"]
    assert main([*asked, *at]) == 0
    data = json.loads(capsys.readouterr().out)
    assert [one["n"] for one in data["sets"]] == [8, 5] and data["space"] == "encoder"
    assert any("training images" in note for note in data["notes"])
    assert main([*asked, "--by-class", *at[:-1]]) == 0
    told = capsys.readouterr().out
    assert "kept@1" in told and "  yield" in told and "Vendi" in told


def test_too_few_images_are_said(fitted: Workspace, classifier: Classifier) -> None:
    run = make(fitted, ["stop"], 2)
    with pytest.raises(InputError, match="only 2 made images; at least 6"):
        workflows.measure_quality(fitted, [run], classifier=classifier)
    assert fitted.runs("quality")[0].state == "failed"
    with pytest.raises(InputError, match=r"nothing|no set"):
        workflows.measure_quality(fitted, ["nothing"], classifier=classifier)


def test_a_comparison_says_how_good_the_images_are_that_were_learned_from(
    fitted: Workspace, classifier: Classifier
) -> None:
    run = make(fitted, ["stop", "yield"], 4)
    verdicts.set_verdict(fitted, fitted.query(Filter(origin=run)), "accepted")
    settings = workflows.TrainSettings(epochs=1, warmup=0)
    trained = workflows.retrain(fitted, classifier, settings, runs=[run])
    assert trained.result["data"]["synthetic"] >= 6
    asked = workflows.CompareSettings(rounds=100)
    arms = workflows.compare(fitted, "", [trained.id], asked).result["arms"]
    assert arms[0]["quality"]["overall"]["made"] == trained.result["data"]["synthetic"]
    assert all(arm["quality"] is None for arm in arms[1:])
