"""Fitting the head: on the right data, without touching the classifier, all or nothing."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, DatasetError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.signals.head import HeadSettings

SMALL = HeadSettings(members=4, hidden=8, epochs=2)


def test_the_classifier_is_bit_identical_before_and_after(fitted: Workspace, classifier):
    ids = fitted.query(Filter(split="test"))
    images = fitted.tensor(ids)
    state = {name: tensor.clone() for name, tensor in classifier.net.state_dict().items()}
    logits = classifier.logits(images)
    workflows.fit_head(fitted, classifier, SMALL)
    assert all(torch.equal(tensor, state[name]) for name, tensor in classifier.net.state_dict().items())
    assert torch.equal(classifier.logits(images), logits)
    assert all(p.grad is None for p in classifier.net.parameters())


def test_it_is_fitted_on_train_and_ranked_against_val_and_never_sees_test(fitted: Workspace, classifier):
    run = workflows.fit_head(fitted, classifier, SMALL, seed=3)
    assert (run.result["fitted_on"], run.result["held_out"]) == (36, 18)
    assert run.result["splits"] == {"fitted_on": "train", "held_out": "val"}
    first = _digest(fitted, classifier)
    with fitted.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE split = 'test'")
    workflows.fit_head(fitted, classifier, SMALL, seed=3)
    assert _digest(fitted, classifier) == first


def test_another_seed_is_another_head_and_all_samples_are_scored_again(fitted: Workspace, classifier):
    ids = fitted.query()
    before = fitted.scores(ids, classifier.hash, "epistemic")
    run = workflows.fit_head(fitted, classifier, SMALL, seed=8)
    after = fitted.scores(ids, classifier.hash, "epistemic")
    assert run.result["scored"] == len(ids) and run.seed == 8
    assert any(after[i].value != before[i].value for i in ids)


def test_without_a_validation_split_a_tenth_of_the_training_data_is_held_out(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
):
    shutil.copytree(tiny_world.folder / "train", tmp_path / "plain")
    classifier = workflows.use_classifier(empty_workspace, tiny_classifier_file)
    workflows.import_data(empty_workspace, tmp_path / "plain")
    result = workflows.fit_head(empty_workspace, classifier, SMALL).result
    assert result["fitted_on"] + result["held_out"] == 36 and 1 <= result["held_out"] < 18


def test_too_few_labelled_samples_are_refused_in_words(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path
):
    classifier = workflows.use_classifier(empty_workspace, tiny_classifier_file)
    with pytest.raises(DatasetError, match="labelled real samples"):
        workflows.fit_head(empty_workspace, classifier, SMALL)
    assert empty_workspace.runs("fit-head")[0].state == "failed"


def test_a_stopped_fit_leaves_the_earlier_head(fitted: Workspace, classifier):
    before, token = _digest(fitted, classifier), CancelToken()

    def stop(step: Progress) -> None:
        if "head" in step.message:
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.fit_head(fitted, classifier, SMALL, seed=9, on_progress=stop, cancel=token)
    assert fitted.runs("fit-head")[0].state == "cancelled"
    assert _digest(fitted, classifier) == before


def _digest(ws: Workspace, classifier) -> str:
    path = ws.path / "arrays" / f"reference-{classifier.hash}.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()
