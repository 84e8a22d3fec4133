"""Search: choices within groups, their randomness, the plan of pruning."""

from __future__ import annotations

import torch

from ltg_core.guidance import search
from ltg_core.guidance.settings import Guidance


def test_the_best_of_every_image_is_chosen() -> None:
    groups = search.start_groups(2, 3)
    totals = torch.tensor([0.1, 0.9, 0.5, 3.0, float("nan"), 2.0])
    assert search.choose(totals, groups, 1, [5, 6]).tolist() == [1, 3]
    assert search.choose(totals, groups, 2, [5, 6]).tolist() == [1, 2, 3, 5]


def test_the_choice_of_one_image_does_not_depend_on_the_others() -> None:
    totals = torch.randn(12, generator=torch.Generator().manual_seed(0))
    both = search.choose(totals, search.start_groups(2, 6), 2, [5, 6], temperature=1.0)
    alone = search.choose(totals[6:], search.start_groups(1, 6), 2, [6], temperature=1.0)
    assert (both[2:] - 6).tolist() == alone.tolist()


def test_a_temperature_draws_in_proportion_to_the_softmax() -> None:
    totals = torch.tensor([0.0, 1.0])
    groups = search.start_groups(1, 2)
    wins = sum(int(search.choose(totals, groups, 1, [s], temperature=1.0)[0]) for s in range(2000)) / 2000
    expected = float(torch.tensor([0.0, 1.0]).softmax(0)[1])
    assert abs(wins - expected) < 0.04


def test_resampling_follows_the_weights_and_stays_within_the_image() -> None:
    groups = search.start_groups(2, 4)
    gain = torch.tensor([0.0, 0.0, 0.0, 50.0, 0.0, 0.0, 0.0, 0.0])
    rows = search.resample(gain, groups, [1, 2], salt=0)
    assert rows[:4].tolist() == [3, 3, 3, 3]
    assert sorted(rows[4:].tolist()) == [4, 5, 6, 7]  # equal weights: systematic resampling keeps each once


def test_candidate_zero_is_the_control() -> None:
    assert search.candidate_seed(42, 0) == 42
    assert len({search.candidate_seed(42, k) for k in range(50)}) == 50
    assert search.candidate_seed(42, 3) != search.candidate_seed(43, 3)


def test_halving_ends_with_one_candidate_whatever_their_number() -> None:
    for candidates in (2, 3, 8, 13, 100):
        plan = search.pruning_plan(Guidance(search="halving", candidates=candidates), 24)
        assert list(plan.values())[-1] == 1
        assert list(plan.values()) == sorted(plan.values(), reverse=True)
