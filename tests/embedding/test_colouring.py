"""Values of samples as colours."""

from __future__ import annotations

import numpy as np

from ltg_core.embedding.colouring import LEVELS, by_name, by_number, by_value


def test_names_of_the_given_order_come_first_then_the_most_frequent() -> None:
    found = by_name(["b", "c", "c", "a", "d", "c", "d"], order=("a", "b", "never"))
    assert found.names == ("a", "b", "c", "d") and found.counts == (1, 1, 3, 2)
    assert [found.names[code] for code in found.codes] == ["b", "c", "c", "a", "d", "c", "d"]


def test_beyond_twenty_names_the_rarest_share_one() -> None:
    values = [f"v{i:02d}" for i in range(30) for _ in range(60 - i)]
    found = by_name(values)
    assert len(found.names) == 21 and found.merged == 10
    assert found.names[0] == "v00" and found.names[-1] == "other (10 values)"
    assert found.counts[-1] == sum(60 - i for i in range(20, 30))
    assert sum(found.counts) == len(values)


def test_samples_without_a_value_are_named_so_and_come_last() -> None:
    found = by_name(["x", None, "x"])
    assert found.names == ("x", "no value") and found.counts == (2, 1)
    assert by_name(["no value", None]).names == ("no value", "no value*"), (
        "a value of that name stays its own"
    )


def test_numbers_keep_their_order_and_outliers_do_not_take_the_scale() -> None:
    values = [*np.linspace(0, 1, 500).tolist(), 1e9]
    found = by_number(values)
    assert not found.names and found.high < 1.01
    assert (np.diff(found.codes[:500].astype(int)) >= 0).all() and found.codes[:500].max() > 245


def test_a_missing_number_is_no_number_and_nothing_at_all_is_no_scale() -> None:
    found = by_number([None, float("nan"), 0.0, 100.0], 0, 100)
    assert found.codes.tolist() == [LEVELS, LEVELS, 0, LEVELS - 1]
    assert by_number([None, None]).names == ("no value",)
    assert by_number([3.0, 3.0]).codes.tolist() == [0, 0]


def test_a_column_is_a_scale_only_where_it_holds_many_numbers() -> None:
    assert not by_value([i / 7 for i in range(50)]).names
    assert by_value([2024, 2023, 2023, None]).names == ("2023", "2024", "no value")
    assert by_value([10, 9, 10]).names == ("9", "10"), "numbers as names stand in their own order"
    assert by_value([True, False, True]).names == ("true", "false")
    assert by_value([1, "one", 2.5]).counts == (1, 1, 1)
    assert by_value([]).names == ()
