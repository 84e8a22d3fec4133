"""Which samples a map shows where there are too many."""

from __future__ import annotations

import numpy as np
import pytest

from ltg_core.embedding.sampling import draw, stratified
from ltg_core.errors import InputError


def long_tail(generated: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """700, 200, 90, 8 and 2 real samples of five classes, then generated ones of the last class."""
    labels = np.repeat([0, 1, 2, 3, 4], [700, 200, 90, 8, 2])
    real = np.ones(len(labels), dtype=bool)
    return np.concatenate([labels, np.full(generated, 4)]), np.concatenate([real, np.zeros(generated, bool)])


def test_rare_classes_stay_whole_and_the_others_are_cut_to_equal_numbers() -> None:
    labels, real = long_tail()
    drawn = draw(labels, real, 100, seed=0)
    counts = np.bincount(labels[drawn.rows])
    assert counts.tolist()[3:] == [8, 2] and counts.sum() == 100
    assert counts[:3].max() - counts[:3].min() <= 1, "the large classes have the same number, or one more"
    assert drawn.words == "100 of 1,000 real samples, evenly by class"


def test_all_generated_samples_are_kept_and_it_is_said() -> None:
    labels, real = long_tail(generated=30)
    drawn = draw(labels, real, 100, seed=0)
    assert (~real[drawn.rows]).sum() == 30 and len(drawn.rows) == 100
    assert drawn.words == "70 of 1,000 real samples, evenly by class; all 30 generated"
    assert not drawn.whole


def test_generated_samples_take_no_more_than_half_of_the_places() -> None:
    labels, real = long_tail(generated=500)
    drawn = draw(labels, real, 100, seed=0)
    assert real[drawn.rows].sum() == 50
    assert "50 of 500 generated" in drawn.words


def test_where_all_fit_nothing_is_drawn() -> None:
    labels, real = long_tail(generated=3)
    drawn = draw(labels, real, 2000, seed=0)
    assert drawn.whole and drawn.rows.tolist() == list(range(len(labels)))
    assert drawn.words == "all 1,000 real samples; all 3 generated"


def test_the_same_seed_draws_the_same_samples_and_another_seed_others() -> None:
    labels, real = long_tail()
    first, again, other = (draw(labels, real, 100, seed=seed).rows for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


@pytest.mark.parametrize("size", (0, 1, 3, 4, 999, 1000, 5000))
def test_exactly_as_many_are_drawn_as_there_are_places(size: int) -> None:
    labels, _ = long_tail()
    rows = stratified(labels, size, np.random.default_rng(0))
    assert len(rows) == min(size, 1000) == len(np.unique(rows))
    assert (np.diff(rows) > 0).all()


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit together"):
        draw(np.zeros(3, np.int64), np.zeros(4, bool), 2, seed=0)
