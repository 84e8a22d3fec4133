"""Scoring: right, complete, resumable, and no work twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError
from ltg_core.jobs import CancelToken, Progress
from ltg_core.signals.reference import score_all
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.store import FeatureStore


@pytest.fixture
def unscored(empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path) -> Workspace:
    """Classifier and data, nothing computed yet."""
    workflows.use_classifier(empty_workspace, tiny_classifier_file)
    workflows.import_data(empty_workspace, tiny_world.folder)
    return empty_workspace


def test_stored_outputs_are_those_of_the_classifier(fitted: Workspace, classifier):
    ids = fitted.query(Filter(split="test"))
    images = fitted.tensor(ids)
    assert isinstance(images, torch.Tensor)
    straight, stored = classifier.outputs(images), workflows.outputs(fitted, classifier, ids)
    torch.testing.assert_close(stored.logits, straight.logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stored.stacked(), straight.stacked(), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(workflows.features(fitted, classifier, ids), stored.features.numpy())
    said = fitted.predictions(ids, classifier.hash)
    assert [said[i].pred for i in ids] == straight.logits.argmax(dim=1).tolist()
    confidence = straight.logits.softmax(dim=1).amax(dim=1)
    np.testing.assert_allclose([said[i].confidence for i in ids], confidence, atol=1e-4)


def test_every_signal_is_stored_with_its_percentile(fitted: Workspace, classifier):
    ids = fitted.query(Filter(split="test"))
    out = workflows.outputs(fitted, classifier, ids)
    reference = workflows.reference(fitted, classifier)
    assert reference is not None
    labels = torch.tensor([sample.label for sample in fitted.samples(ids)])
    for name, values in score_all(out, reference, labels).items():
        stored = fitted.scores(ids, classifier.hash, name)
        np.testing.assert_allclose([stored[i].value for i in ids], values, rtol=1e-4, atol=1e-5)
        ranks = reference.percentile(name, values.double().numpy())
        np.testing.assert_allclose([stored[i].percentile for i in ids], ranks, atol=1e-6)


def test_before_the_head_is_fitted_the_signals_of_logits_are_there_without_percentiles(unscored: Workspace):
    classifier = workflows.active_classifier(unscored)
    run = workflows.score(unscored, classifier)
    assert run.state == "done" and run.result["computed"] == run.result["scored"] == 72
    assert set(unscored.score_names(classifier.hash)) == {"entropy", "margin", "energy", "loss"}
    found = unscored.scores(unscored.query(), classifier.hash, "entropy")
    assert all(np.isnan(score.percentile) for score in found.values())


def test_what_is_there_is_not_computed_again(fitted: Workspace, classifier):
    result = workflows.score(fitted, classifier).result
    assert (result["samples"], result["computed"], result["scored"]) == (72, 0, 0)


def test_samples_without_a_label_get_every_signal_that_needs_none(fitted: Workspace, classifier):
    new = fitted.add_image(Image.new("RGB", (32, 32), "blue"), origin="real", split="wild")
    workflows.score(fitted, classifier, filter=Filter(split="wild"))
    for name in fitted.score_names(classifier.hash):
        assert (new in fitted.scores([new], classifier.hash, name)) == (name != "loss")


def test_a_stopped_scoring_keeps_what_it_finished_and_goes_on_from_there(unscored: Workspace):
    classifier, token = workflows.active_classifier(unscored), CancelToken()

    def stop(step: Progress) -> None:
        if step.done >= 24:
            token.cancel()

    with pytest.raises(Cancelled):
        workflows.score(unscored, classifier, batch_size=8, on_progress=stop, cancel=token)
    assert unscored.runs("score")[0].state == "cancelled"
    kept = len(FeatureStore(unscored, classifier))
    assert 24 <= kept < 72
    assert workflows.score(unscored, classifier).result["computed"] == 72 - kept


def test_an_image_that_cannot_be_read_is_reported_and_the_others_are_scored(unscored: Workspace):
    classifier = workflows.active_classifier(unscored)
    broken = unscored.query()[5]
    unscored.image_path(broken).write_bytes(b"not a picture any more")
    result = workflows.score(unscored, classifier).result
    assert (result["computed"], result["skipped"]) == (71, 1)
    assert result["first_skipped"][0][0] == broken
    assert unscored.predictions([broken], classifier.hash) == {}


def test_when_no_image_can_be_read_the_run_fails_in_words(unscored: Workspace):
    classifier = workflows.active_classifier(unscored)
    for sample in unscored.query():
        unscored.image_path(sample).unlink()
    with pytest.raises(InputError, match="none of 72 images"):
        workflows.score(unscored, classifier)
    assert unscored.runs("score")[0].state == "failed"


def test_photographs_of_any_size_are_scored_like_one_alone(unscored: Workspace):
    classifier = workflows.active_classifier(unscored)
    rng = np.random.default_rng(0)
    ids = [
        unscored.add_image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), origin="real")
        for height, width in ((40, 90), (100, 33), (32, 32), (200, 200))
    ]
    compute_outputs(unscored, classifier, ids)
    stored = workflows.outputs(unscored, classifier, ids)
    images = unscored.tensor(ids)
    alone = torch.cat([classifier.outputs(image[None]).logits for image in images])
    torch.testing.assert_close(stored.logits, alone, rtol=1e-4, atol=1e-4)


def test_a_damaged_or_half_written_chunk_is_computed_again(unscored: Workspace):
    classifier = workflows.active_classifier(unscored)
    workflows.score(unscored, classifier)
    before = workflows.features(unscored, classifier, unscored.query())
    (file,) = (unscored.path / "arrays").glob(f"outputs-{classifier.hash}-*.npy")
    file.write_bytes(file.read_bytes()[:1000])
    assert len(FeatureStore(unscored, classifier)) == 0
    assert workflows.score(unscored, classifier).result["computed"] == 72
    np.testing.assert_allclose(workflows.features(unscored, classifier, unscored.query()), before, atol=1e-5)


def test_features_that_are_not_there_are_asked_for_in_words(unscored: Workspace):
    with pytest.raises(InputError, match="score them"):
        workflows.features(unscored, workflows.active_classifier(unscored), unscored.query()[:3])
