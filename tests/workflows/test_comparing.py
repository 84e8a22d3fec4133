"""Comparing on fixed real images: the figures, what is worse first, groups, slices, the free baselines."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from sklearn import metrics

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.evaluation.posthoc import adjusted

QUICK = workflows.CompareSettings(rounds=100, smallest=3)
TRAIN = workflows.TrainSettings(epochs=3, batch_size=12, patience=0, lr=0.02)


def figures(arm: dict) -> dict[str, dict]:
    return {one["name"]: one for one in arm["differences"]}


@pytest.fixture
def condition(fitted: Workspace) -> None:
    """A column of two values on all real images."""
    fitted.merge_meta({id: {"sky": "dark" if k % 3 else "light"} for k, id in enumerate(fitted.query())})


def test_a_run_is_compared_with_its_origin_on_the_test_images_seeds_together(
    fitted: Workspace, classifier, condition: None
):
    run = workflows.retrain(fitted, classifier, TRAIN, seeds=(0, 1), name="again")
    settings = dataclasses.replace(QUICK, column="sky")
    result = workflows.compare(fitted, "", [run.id], settings).result
    ids = sorted(fitted.query(Filter(split="test")))
    assert result["images"]["n"] == len(ids) == 18 and result["images"]["split"] == "test"
    assert result["base"]["classifiers"] == [classifier.hash]
    names = [arm["name"] for arm in result["arms"]]
    assert names == ["again (2 seeds)", "logit adjustment, free"]
    found = figures(result["arms"][0])
    y = np.array([s.label for s in fitted.samples(ids)])
    light = np.array([s.meta["sky"] == "light" for s in fitted.samples(ids)])

    def said(one) -> np.ndarray:
        return one.outputs(torch.stack(list(fitted.tensor(ids)))).logits.argmax(1).numpy()

    before, after = said(classifier), [said(one) for one in workflows.arm_of(fitted, run.id)]
    assert found["accuracy"]["before"] == pytest.approx(metrics.accuracy_score(y, before))
    assert found["accuracy"]["after"] == pytest.approx(np.mean([metrics.accuracy_score(y, p) for p in after]))
    assert found["macro_f1"]["before"] == pytest.approx(metrics.f1_score(y, before, average="macro"))
    group = light & (y == 0)
    name = f"set:{classifier.labels[0]}, sky light"
    assert found[name]["n"] == group.sum() and found[name]["before"] == pytest.approx(
        (before == y)[group].mean()
    )
    assert {"head", "mid", "tail", "few", "worst_class", "worst_group", "ece"} <= set(found)
    assert found["accuracy"]["spread"] is not None
    again = workflows.compare(fitted, classifier.hash[:8], [run.id], settings).result
    assert again["arms"][0]["differences"] == result["arms"][0]["differences"]
    assert again["images"] == result["images"]


def test_what_became_worse_is_listed_for_every_arm_and_only_that(fitted: Workspace, classifier):
    run = workflows.retrain(fitted, classifier, dataclasses.replace(TRAIN, fresh_head=True, epochs=1))
    result = workflows.compare(fitted, "active", [run.id], QUICK).result
    for arm in result["arms"]:
        listed = result["regressions"][arm["name"]]
        assert {one["name"] for one in listed} == {d["name"] for d in arm["differences"] if d["worse"]}
        order = [(not one["certain"], -abs(one["change"])) for one in listed]
        assert order == sorted(order)
    assert result["regressions"][result["arms"][0]["name"]]  # a head of one epoch is no improvement


def test_slices_stay_those_of_the_base_whatever_another_classifier_says(fitted: Workspace, classifier):
    workflows.save_slice(fitted, "read as stop", Filter(prediction=0, model_hash=classifier.hash))
    run = workflows.retrain(fitted, classifier, dataclasses.replace(TRAIN, fresh_head=True, epochs=1))
    test = Filter(split="test", origin="real", prediction=0, model_hash=classifier.hash)
    wanted = fitted.count(test)
    assert 0 < wanted < 18
    for active in (classifier.hash, run.id):
        workflows.adopt(fitted, active)
        found = figures(workflows.compare(fitted, classifier.hash, [run.id], QUICK).result["arms"][0])
        assert found["set:slice read as stop"]["n"] == wanted


def test_the_free_baselines_are_the_formulas_and_need_validation_images(fitted: Workspace, classifier):
    accepted = {id: {"sky": "x"} for id in fitted.query(Filter(split="train", label=0))[:10]}
    with fitted.database.write() as connection:  # a tail: two images of class 0 are left
        connection.executemany(
            "UPDATE samples SET split = 'other_test' WHERE id = ?", [(id,) for id in accepted]
        )
    result = workflows.compare(fitted, "active", [], QUICK).result
    arms = {arm["name"]: arm for arm in result["arms"]}
    ids = sorted(fitted.query(Filter(split="test")))
    y = np.array([s.label for s in fitted.samples(ids)])
    z = workflows.outputs(fitted, classifier, ids).logits.numpy()
    said = adjusted(z, np.array([2, 12, 12])).argmax(1)
    found = figures(arms["logit adjustment, free"])
    assert found["balanced_accuracy"]["after"] == pytest.approx(metrics.balanced_accuracy_score(y, said))
    # 18 validation images are too few, and it is said
    assert list(arms) == ["logit adjustment, free"] and any(
        "18 real validation" in n for n in result["notes"]
    )
    assert any("only 18 images" in note for note in result["notes"])
    with fitted.database.write() as connection:
        connection.execute("UPDATE samples SET split = 'val' WHERE split = 'other_test'")
    result = workflows.compare(fitted, "active", [], QUICK).result
    scaled = figures(next(arm for arm in result["arms"] if arm["name"] == "temperature, free"))
    assert scaled["accuracy"]["change"] == 0 and len(result["arms"]) == 3


def test_nothing_is_compared_on_images_that_were_learned_from(fitted: Workspace, classifier):
    with pytest.raises(InputError, match=r"of the split 'train' are learned from.*'test' or 'val'"):
        workflows.compare(fitted, "active", [], dataclasses.replace(QUICK, split="train"))
    run = workflows.retrain(fitted, classifier, TRAIN)
    row = fitted.query(Filter(split="train"))[0]
    with fitted.database.write() as connection:  # moved after the training
        connection.execute("UPDATE samples SET split = 'test' WHERE id = ?", (row,))
    with pytest.raises(InputError, match="1 of the 19 images of the split 'test' are learned from"):
        workflows.compare(fitted, classifier.hash, [run.id], QUICK)
    with pytest.raises(InputError, match="1 of the 19"):  # named by its hash, it is the same
        workflows.compare(fitted, classifier.hash, [run.result["best"]], QUICK)
    assert workflows.compare(fitted, classifier.hash, [], QUICK).result["images"]["n"] == 19


def test_without_enough_images_for_an_interval_it_is_said_that_nothing_is_proved(
    fitted: Workspace, classifier
):
    ids = fitted.query(Filter(split="test"))
    with fitted.database.write() as connection:
        connection.executemany("UPDATE samples SET split = '' WHERE id = ?", [(id,) for id in ids[9:]])
    result = workflows.compare(fitted, classifier.hash, [], QUICK).result
    assert result["images"]["n"] == 9 and figures(result["arms"][0])["accuracy"]["low"] is None
    assert any("only 9 images: too few for an interval" in note for note in result["notes"])
    assert not any("wide" in note for note in result["notes"])


def test_what_cannot_be_compared_is_said(fitted: Workspace, classifier, empty_workspace: Workspace):
    with pytest.raises(InputError, match="nothing to compare"):
        workflows.compare(fitted, "active", [], dataclasses.replace(QUICK, free=False))
    with pytest.raises(InputError, match="no metadata column 'sky'"):
        workflows.compare(fitted, "active", [], dataclasses.replace(QUICK, column="sky"))
    with pytest.raises(DatasetError, match="none in night"):
        workflows.compare(fitted, "active", [], dataclasses.replace(QUICK, split="night"))
    with pytest.raises(InputError, match="no classifier is active"):
        workflows.compare(empty_workspace, "active", [], QUICK)
    other = workflows.active_classifier(fitted).restricted(classifier.labels[:2])
    workflows.use_classifier(fitted, other)
    with pytest.raises(InputError, match="other classes"):
        workflows.compare(fitted, classifier.hash, [other.hash], QUICK)


def test_an_image_that_cannot_be_read_is_left_out_and_without_a_test_split_val_is_said(
    fitted: Workspace, classifier
):
    ids = fitted.query(Filter(split="test"))
    with fitted.database.write() as connection:
        connection.execute("UPDATE samples SET split = 'train' WHERE split = 'test'")
    fresh = workflows.retrain(fitted, classifier, TRAIN).result["best"]
    fitted.image_path(fitted.query(Filter(split="val"))[0]).write_bytes(b"broken")
    result = workflows.compare(fitted, fresh, [classifier.hash], QUICK).result
    assert result["images"] == result["images"] | {"n": 17, "split": "val"}
    assert any("too good" in note for note in result["notes"]) and len(ids) == 18


@pytest.mark.parametrize("method", ["logit-adjustment", "temperature"])
def test_a_free_baseline_becomes_a_classifier_that_says_what_the_formula_says(
    fitted: Workspace, classifier, method: str
):
    with fitted.database.write() as connection:  # a tail of 2, and enough validation images
        rows = fitted.query(Filter(split="train", label=0))[:10]
        connection.executemany("UPDATE samples SET split = 'val' WHERE id = ?", [(id,) for id in rows])
    run = workflows.without_training(fitted, classifier, method)
    made = workflows.adopt(fitted, run.id)
    ids = sorted(fitted.query(Filter(split="test")))
    x = torch.stack(list(fitted.tensor(ids)))
    z = classifier.outputs(x).logits.double().numpy()
    if method == "temperature":
        expected = z / run.result["temperature"]
        assert run.result["temperature"] != 1
    else:
        expected = adjusted(z, np.array([2, 12, 12]), run.result["tau"])
    np.testing.assert_allclose(made.outputs(x).logits.numpy(), expected, atol=1e-4, rtol=1e-4)
    assert run.state == "done" and made.hash != classifier.hash
    # as an arm it scores as the same change of the logits does
    name = {"logit-adjustment": "logit adjustment, strength from val", "temperature": "temperature, free"}[
        method
    ]
    arms = {
        arm["name"]: figures(arm) for arm in workflows.compare(fitted, "", [run.id], QUICK).result["arms"]
    }
    for figure in ("accuracy", "ece"):
        assert arms[made.name][figure]["after"] == pytest.approx(arms[name][figure]["after"], abs=1e-6)
