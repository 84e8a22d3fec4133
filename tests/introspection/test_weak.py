"""Weak slices of made worlds: what was planted is found, and nothing else."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ltg_core.errors import InputError
from ltg_core.introspection.candidates import Column, clusters, gather
from ltg_core.introspection.statistics import wilson
from ltg_core.introspection.weak import WeakSettings, WeakSlice, find_weak

SEEDS = range(6)
STRICT = WeakSettings(alpha=0.01)  # at 0.05 one seed in twenty shows something false, as it should
PLAIN = WeakSettings(alpha=0.01, use_clusters=False)


@dataclasses.dataclass(frozen=True)
class World:
    """Columns and features of samples; ``cell`` is where two values meet, ``blob`` a place in the features."""

    columns: list[Column]
    features: np.ndarray
    cell: np.ndarray
    blob: np.ndarray
    luck: np.ndarray

    def outcome(self, bad: np.ndarray | None = None, rate: float = 0.75) -> np.ndarray:
        """6 % of all samples are bad, and of some of them ``rate``."""
        chance = np.full(len(self.luck), 0.06)
        if bad is not None:
            chance[bad] = rate
        return self.luck < chance


def world(seed: int, n: int = 1500) -> World:
    rng = np.random.default_rng(seed)
    sizes = {"class": 8, "weather": 6, "site": 12, "hour": 4}
    columns = [Column(name, rng.integers(k, size=n), tuple(range(k))) for name, k in sizes.items()]
    cell = (columns[0].codes == 2) & (columns[1].codes == 5)
    features = rng.normal(size=(n, 12))
    blob = rng.random(n) < 0.03
    features[blob] += 6
    return World(columns, features, cell, blob, rng.random(n))


@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_the_planted_slice_is_found(seed: int) -> None:
    made = world(seed)
    found = find_weak(made.outcome(made.cell), made.columns, settings=PLAIN)
    assert [set(one.conditions) for one in found.slices] == [{("class", 2), ("weather", 5)}]
    (one,) = found.slices
    assert np.array_equal(one.mask, made.cell) and one.n == made.cell.sum()
    assert one.low < one.rate < one.high and one.low > one.rest and one.q <= 0.05
    assert found.tried > 300 and found.n == 1500


@pytest.mark.parametrize("seed", SEEDS)
def test_under_noise_nothing_is_found(seed: int) -> None:
    made = world(seed)
    found = find_weak(made.outcome(), made.columns, made.features, STRICT)
    assert not found.slices and found.tried > 300 and found.significant == 0


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_a_group_without_a_name_is_found_by_its_features(seed: int) -> None:
    made = world(seed)
    found = find_weak(made.outcome(made.blob), made.columns, made.features, STRICT)
    assert len(found.slices) == 1 and not found.slices[0].conditions
    one = found.slices[0]
    assert (one.mask & made.blob).sum() / (one.mask | made.blob).sum() > 0.9


def test_a_group_is_named_by_what_is_more_frequent_in_it_and_not_twice() -> None:
    made = world(0)
    lamp = Column("lamp", made.blob.astype(int), ("off", "on"))
    twin = Column("light", made.blob.astype(int), ("dark", "bright"))
    settings = WeakSettings(smallest=40)
    found = find_weak(made.outcome(made.blob), [*made.columns, lamp, twin], made.features, settings)
    groups = [one for one in found.slices if not one.conditions]
    assert found.slices[0].conditions in ((("lamp", "on"),), (("light", "bright"),))
    assert not groups, "the group is the value again, and a value says more"
    alone = find_weak(made.outcome(made.blob), [], made.features, settings)
    assert len(alone.slices) == 1 and alone.slices[0].typical == ()


def test_a_whole_is_shown_instead_of_its_parts_when_all_of_it_is_bad() -> None:
    made = world(1)
    night = made.columns[1].codes == 3
    found = find_weak(made.outcome(night, rate=0.5), made.columns, settings=PLAIN)
    assert [one.conditions for one in found.slices] == [(("weather", 3),)]


def test_the_same_slices_are_found_again() -> None:
    made = world(2)
    outcome = made.outcome(made.blob | made.cell)

    def told(one: WeakSlice) -> tuple[object, ...]:
        return (one.conditions, one.typical, one.n, one.bad, one.q)

    first, second = (find_weak(outcome, made.columns, made.features).slices for _ in range(2))
    assert [told(one) for one in first] == [told(one) for one in second] and first


def test_the_interval_is_wider_than_that_of_a_slice_that_was_named_before() -> None:
    made = world(0)
    found = find_weak(made.outcome(made.cell), made.columns, settings=PLAIN)
    (one,) = found.slices
    low, high = wilson(one.bad, one.n)
    assert one.low < low and one.high > high
    # false coverage rate: the level is 1 - alpha · shown / tried
    assert (one.low, one.high) == pytest.approx(wilson(one.bad, one.n, 1 - 0.01 / found.tried))


def test_columns_that_say_the_outcome_together_are_not_combined() -> None:
    label = np.arange(200) % 4
    said = label.copy()
    said[:30] = (said[:30] + 1) % 4
    columns = [Column("class", label, tuple("abcd")), Column("prediction", said, tuple("abcd"))]
    found = find_weak(
        label != said,
        columns,
        settings=WeakSettings(smallest=5, use_clusters=False),
        apart=[frozenset({"class", "prediction"})],
    )
    assert found.tried == 8


def test_candidates_leave_out_the_small_the_large_and_the_same_again() -> None:
    first = Column("a", np.array([0] * 60 + [1] * 30 + [2] * 10), ("x", "y", "z"))
    same = Column("b", np.array([1] * 60 + [0] * 40), ("no", "yes"))
    many = Column("c", np.arange(100), tuple(range(100)))
    found = gather([first, same, many], [], 100, 20)
    # x and yes are more than half; y and no are 30 and 40 samples; "y and no" is y again
    assert sorted(found.conditions) == [(("a", "y"),), (("b", "no"),)]
    assert found.n.tolist() == [30, 40] and not found.skipped
    crowded = gather([Column("c", np.arange(700) % 70, tuple(range(70)))], [], 700, 10)
    assert not crowded.conditions and "c (70 values)" in crowded.skipped


def test_counts_of_bad_samples_agree_with_a_loop() -> None:
    made = world(3, 400)
    found = gather(made.columns, [made.blob], 400, 5)
    outcome = made.outcome(made.cell)
    wanted = [int((found.mask(i) & outcome).sum()) for i in range(len(found.n))]
    assert found.bad(outcome).tolist() == wanted
    assert [int(found.mask(i).sum()) for i in range(len(found.n))] == found.n.tolist()


@pytest.mark.parametrize("alpha", (0.05, 0.5))
def test_at_most_the_promised_share_of_noise_worlds_shows_anything(alpha: float) -> None:
    settings = WeakSettings(alpha=alpha, use_clusters=False)
    shown = [
        bool(find_weak(made.outcome(), made.columns, settings=settings).slices)
        for made in map(world, range(40))
    ]
    # of 40 draws at this chance more than that many come in one of a thousand worlds
    assert sum(shown) <= {0.05: 8, 0.5: 29}[alpha]


def test_features_without_any_spread_make_no_groups() -> None:
    assert clusters(np.ones((200, 5)), 10, 0) == []


def test_nothing_bad_and_nothing_good_find_nothing() -> None:
    made = world(0, 100)
    for outcome in (np.zeros(100, dtype=bool), np.ones(100, dtype=bool)):
        assert find_weak(outcome, made.columns).slices == ()


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="1500"):
        find_weak(np.zeros(10, dtype=bool), world(0).columns)
