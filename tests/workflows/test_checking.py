"""Figures against an independent library, and warnings that name the likely cause."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from ltg_core import workflows
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError
from ltg_core.workflows.checking import auroc, average_precision, calibration_error, measures


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_auroc_and_average_precision_are_those_of_scikit_learn_ties_included(rng: np.random.Generator):
    for step in (0.0, 0.25):
        scores = rng.normal(size=500)
        scores = np.round(scores / step) * step if step else scores
        positive = rng.random(500) < 0.2 + 0.2 * (scores > 0)
        assert auroc(scores, positive) == pytest.approx(metrics.roc_auc_score(positive, scores))
        assert average_precision(scores, positive) == pytest.approx(
            metrics.average_precision_score(positive, scores)
        )
    assert np.isnan(auroc(scores, np.zeros(500))) and np.isnan(average_precision(scores, np.zeros(500)))


def test_the_measures_are_those_of_scikit_learn(rng: np.random.Generator):
    labels, confidence = rng.integers(0, 4, 300), rng.random(300)
    chosen = np.where(rng.random(300) < 0.8, labels, rng.integers(0, 4, 300))
    found = measures(labels, chosen, confidence, ("a", "b", "c", "d"))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(labels, chosen))
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, chosen))
    np.testing.assert_array_equal(found["confusion"], metrics.confusion_matrix(labels, chosen))
    assert [row["n"] for row in found["per_class"]] == np.bincount(labels).tolist()
    assert found["chance"] == 0.25 and found["warning"] == ""


def test_classes_without_samples_have_no_accuracy_and_do_not_count():
    found = measures(np.array([0, 0, 2]), np.array([0, 1, 2]), np.ones(3), ("a", "b", "c"))
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["per_class"][1] == {"label": "b", "n": 0, "accuracy": None}


def test_the_calibration_error_is_the_weighted_gap():
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False, True, False])
    assert calibration_error(confidence, correct) == pytest.approx((4 * 0.2 + 2 * 0.05) / 6)


def test_chance_accuracy_names_the_usual_causes(rng: np.random.Generator):
    labels, chosen = rng.integers(0, 10, 500), rng.integers(0, 10, 500)
    warning = measures(labels, chosen, np.ones(500), tuple("abcdefghij"))["warning"]
    assert "chance" in warning and "preprocessing" in warning and "order" in warning


def test_class_names_in_another_order_are_recognised(rng: np.random.Generator):
    labels = rng.integers(0, 10, 500)
    chosen = np.where(rng.random(500) < 0.9, (labels + 3) % 10, labels)
    warning = measures(labels, chosen, np.ones(500), tuple("abcdefghij"))["warning"]
    assert "in another order" in warning and "9" in warning


def test_one_answer_to_everything_is_a_warning(rng: np.random.Generator):
    labels = np.r_[np.zeros(60, int), np.ones(40, int)]
    assert "one class" in measures(labels, np.zeros(100, int), np.ones(100), ("a", "b"))["warning"]


def test_a_good_classifier_gets_no_warning(fitted: Workspace, classifier):
    found = workflows.check_classifier(fitted, classifier, "test")
    assert found["n"] == 18 and found["accuracy"] > 0.8 and found["warning"] == ""


def test_without_labelled_scored_samples_there_is_nothing_to_check(empty_workspace: Workspace, classifier):
    with pytest.raises(DatasetError, match="no labelled real sample"):
        workflows.check_classifier(empty_workspace, classifier)
    with pytest.raises(DatasetError, match="test"):
        workflows.discovery(empty_workspace, classifier)


def test_discovery_measures_every_signal_that_does_not_know_the_answer(fitted: Workspace, classifier):
    ids = fitted.query()
    samples = [sample for sample in fitted.samples(ids) if sample.split == "test"]
    names = list(classifier.labels)
    # Four labels of the test split are made wrong, so that there are errors to find.
    with fitted.database.write() as connection:
        for sample in samples[:4]:
            connection.execute(
                "UPDATE samples SET label = ? WHERE id = ?", ((sample.label + 1) % len(names), sample.id)
            )
    found = workflows.discovery(fitted, classifier)
    assert "loss" not in {row["signal"] for row in found}
    assert {"epistemic", "entropy", "hardness", "density"} <= {row["signal"] for row in found}
    assert {(row["split"], row["n"]) for row in found} == {("test", 18)}
    said = fitted.predictions([sample.id for sample in samples], classifier.hash)
    wrong = np.array([said[sample.id].correct is False for sample in samples])
    assert {row["n_errors"] for row in found} == {int(wrong.sum())}
    stored = fitted.scores([sample.id for sample in samples], classifier.hash, "entropy")
    entropy = np.array([stored[sample.id].value for sample in samples])
    row = next(row for row in found if row["signal"] == "entropy")
    assert row["auroc_errors"] == pytest.approx(metrics.roc_auc_score(wrong, entropy))
    assert [r["auroc_errors"] for r in found] == sorted((r["auroc_errors"] for r in found), reverse=True)
