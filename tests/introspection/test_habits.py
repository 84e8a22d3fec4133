"""Spurious correlations: an answer that goes with the context, and not one that goes with the class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from ltg_core.introspection.habits import habits, lifts


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three classes of 200; term 0 goes with class 1, term 1 makes others read as class 2, term 2 is chance."""
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1, 2], 200)
    present = rng.random((600, 3)) < 0.2
    present[labels == 1, 0] = rng.random(200) < 0.7
    answers = labels.copy()
    pulled = (labels != 2) & present[:, 1] & (rng.random(600) < 0.4)
    answers[pulled] = 2
    confused = (labels == 1) & (rng.random(600) < 0.2)  # class 1 is often read as 0, with or without its term
    answers[confused] = 0
    return present, labels, answers


def test_context_that_pulls_is_found_and_a_term_of_a_class_is_not() -> None:
    for seed in range(10, 14):
        present, labels, answers = world(seed)
        found, tried = habits(present, labels, answers)
        hits = {(one.term, one.answer) for one in found if one.q <= 0.05}
        assert (1, 2) in hits and (0, 0) not in hits and tried > 3
        first = found[0]
        assert first.low > 1 and first.low < first.ratio < first.high and first.said > 2 * first.expected


def test_of_one_other_class_the_test_is_fishers() -> None:
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], 80)
    present = rng.random((160, 1)) < 0.4
    answers = np.where((labels == 0) & (rng.random(160) < 0.3), 1, labels)
    one = next(one for one in habits(present, labels, answers)[0] if one.answer == 1)
    rows = labels == 0
    with_, said = present[rows, 0], answers[rows] == 1
    table = [[(with_ & said).sum(), (with_ & ~said).sum()], [(~with_ & said).sum(), (~with_ & ~said).sum()]]
    exact = fisher_exact(table, alternative="greater")
    assert one.p == pytest.approx(exact.pvalue) and one.ratio == pytest.approx(exact.statistic)


def test_a_signal_is_compared_within_the_classes() -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([0, 1], 300)
    present = np.stack(
        [np.where(labels == 1, rng.random(600) < 0.8, rng.random(600) < 0.1), rng.random(600) < 0.3], axis=1
    )
    ranks = 40 + 30 * labels + 12 * present[:, 1] + rng.normal(0, 10, 600)
    found = {one.term: one for one in lifts(present, labels, ranks)[0]}
    assert found[0].low < 0 < found[0].high, "the class explains it"
    assert found[1].low < 12 < found[1].high and found[1].q < 1e-6
