"""Intervals and tests against hand-computed values and an independent library."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control, fisher_exact

from ltg_core.errors import InputError
from ltg_core.introspection.statistics import corrected, excess, wilson


def test_the_wilson_interval_of_five_in_ten_is_computed_by_hand() -> None:
    # z² = 3.841459, so z² / n = .3841459: (.5 + .1920729 ± √(.3841459 · .25 + .1920729²)) / 1.3841459
    low, high = wilson(5, 10)
    assert low == pytest.approx(0.236593, abs=1e-6) and high == pytest.approx(0.763407, abs=1e-6)


@pytest.mark.parametrize(("bad", "n", "level"), ((0, 7, 0.95), (7, 7, 0.95), (3, 40, 0.99), (19, 30, 0.9999)))
def test_the_wilson_interval_agrees_with_scipy(bad: int, n: int, level: float) -> None:
    wanted = binomtest(bad, n).proportion_ci(level, method="wilson")
    assert wilson(bad, n, level) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_of_nothing_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("given", ((3, 2, 0.95), (-1, 2, 0.95), (1, 2, 1.0)))
def test_an_impossible_share_is_refused(given: tuple[int, int, float]) -> None:
    with pytest.raises(InputError):
        wilson(*given)


def test_the_excess_of_a_slice_is_counted_by_hand() -> None:
    # 5 samples, 2 bad; a slice of 2 with both: 1 of the 10 ways to draw 2 of 5. With at least one: 1 - 3 / 10.
    assert excess(np.array([2, 1, 0]), 2, 2, 5) == pytest.approx([0.1, 0.7, 1.0])


def test_the_excess_is_fishers_exact_test() -> None:
    table = [[9, 11], [30, 400]]
    wanted = fisher_exact(table, alternative="greater").pvalue
    assert float(excess(9, 20, 39, 450)) == pytest.approx(wanted, rel=1e-9)


def test_the_correction_agrees_with_hand_and_scipy() -> None:
    # .01 · 4 / 1, .02 · 4 / 2, .03 · 4 / 3 and .5: the first three are all raised to .04
    assert corrected(np.array([0.5, 0.03, 0.01, 0.02])) == pytest.approx([0.5, 0.04, 0.04, 0.04])
    p = np.random.default_rng(0).random(200) ** 3
    assert corrected(p) == pytest.approx(false_discovery_control(p))
    assert math.isclose(corrected(np.array([0.2]))[0], 0.2)
