"""Guided images against their controls, whether a term moves a signal, and which terms make errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from ltg_core.errors import InputError
from ltg_core.introspection.paired import Errs, confirmed, errs, more_often, moved, promising


def test_the_test_is_the_exact_permutation_of_pairs() -> None:
    rng = np.random.default_rng(0)
    guided, control = rng.random((10, 1)) < 0.8, rng.random((10, 1)) < 0.2
    (one, _), tried = more_often(guided, control, np.zeros(10, dtype=int), smallest=1)
    assert tried == 2, "the class, and all classes"
    a, b = guided[:, 0].astype(int), control[:, 0].astype(int)
    signs = np.array(list(itertools.product((1, -1), repeat=10)))
    assert one.p == pytest.approx(((signs * (a - b)).sum(axis=1) >= (a - b).sum()).mean())
    only, lost = ((a == 1) & (b == 0)).sum(), ((a == 0) & (b == 1)).sum()
    assert one.p == pytest.approx(binomtest(int(only), int(only + lost), alternative="greater").pvalue)


def test_what_guidance_brings_is_found_in_its_class_and_chance_is_not() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], 60)
    guided, control = rng.random((180, 8)) < 0.15, rng.random((180, 8)) < 0.15
    guided[labels == 1, 3] = rng.random(60) < 0.6
    found, _ = more_often(guided, control, labels)
    hits = [(one.label, one.term) for one in found if one.q <= 0.05]
    assert hits[0] == (1, 3) and set(hits) <= {(1, 3), (-1, 3)}
    first = found[0]
    assert first.low > 0 and first.low < first.log_odds < first.high and first.q >= first.p


def test_odds_shrink_where_little_is_seen_and_stay_finite() -> None:
    one = np.ones((4, 1), dtype=bool)
    (few, *_), _ = more_often(one, ~one, np.zeros(4, dtype=int))
    one = np.ones((40, 1), dtype=bool)
    (many, *_), _ = more_often(one, ~one, np.zeros(40, dtype=int))
    assert 0 < few.log_odds < many.log_odds < 10 and few.high - few.low > many.high - many.low


def test_arrays_that_are_no_pairs_are_refused_and_nothing_is_nothing() -> None:
    with pytest.raises(InputError, match="pairs"):
        more_often(np.zeros((3, 2), dtype=bool), np.zeros((4, 2), dtype=bool), np.zeros(3, dtype=int))
    assert more_often(np.zeros((3, 2), dtype=bool), np.zeros((3, 2), dtype=bool), np.zeros(3, dtype=int)) == (
        [],
        0,
    )


def test_a_paired_change_has_an_interval_that_covers() -> None:
    rng = np.random.default_rng(2)
    inside = 0
    for seed in range(200):
        base = rng.normal(50, 20, 16)
        found = moved(base, base + rng.normal(5, 10, 16), seed)
        inside += found.low <= 5 <= found.high
    assert 180 <= inside <= 199
    still = moved(np.arange(16.0), np.arange(16.0))
    assert not still.moves and still.change == 0
    with pytest.raises(InputError, match="too few"):
        moved([1.0, np.nan, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0])


def test_errors_of_pairs_are_tested_as_mcnemar_does() -> None:
    without = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 0], dtype=bool)
    with_ = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1, 0], dtype=bool)
    found = errs(without, with_)
    # 6 pairs are wrong with the term only, 1 without it only: (7 + 1) / 2^7.
    assert (found.n, found.without, found.with_) == (10, 2, 7)
    assert found.p == pytest.approx(8 / 128) == binomtest(6, 7, 0.5, alternative="greater").pvalue
    assert found.excess == pytest.approx(0.5)
    assert errs(without, without).p == 1.0
    none = errs(without[:0], with_[:0])
    assert (none.n, none.p, none.excess) == (0, 1.0, 0.0)
    with pytest.raises(InputError, match="do not make pairs"):
        errs(without, with_[:3])


def test_what_errs_most_is_asked_for_again_and_corrected_for_that_alone() -> None:
    found = [
        Errs(10, 1, 2, 0.5),
        Errs(10, 3, 1, 0.9),
        Errs(20, 0, 12, 2e-4),
        Errs(10, 0, 4, 0.06),
        Errs(0, 0, 0, 1.0),
    ]
    assert promising(found, 9) == [2, 3, 0] and promising(found, 2) == [2, 3]
    made = confirmed([found[3], Errs(10, 0, 5, 0.04), found[2]], 0.07)
    # Benjamini-Hochberg of .0002, .04, .06: 3 × .0002, 3/2 × .04, .06
    assert [i for i, _ in made] == [2, 1, 0] and [q for _, q in made] == pytest.approx([6e-4, 0.06, 0.06])
    assert confirmed([found[3]]) == [] and confirmed([]) == []
