"""Counts against plain loops and an independent library."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn import metrics

from ltg_core import workflows
from ltg_core.curation import verdicts
from ltg_core.data.column_reading import Coded
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.workflows.breakdown import (
    FACETS,
    class_table,
    column_counts,
    ranges,
    stamp,
    tag_counts,
    tally,
)
from ltg_core.workflows.checking import calibration_error


@pytest.fixture
def messy(fitted: Workspace, classifier: Any) -> Workspace:
    """Some labels made wrong, some taken away, verdicts and tags given."""
    ids = fitted.query()
    with fitted.database.write() as connection:
        for sample in fitted.samples(ids[:9]):
            label = (sample.label + 1) % classifier.num_classes
            connection.execute("UPDATE samples SET label = ? WHERE id = ?", (label, sample.id))
        connection.execute("UPDATE samples SET label = NULL WHERE id = ?", (ids[11],))
    verdicts.set_verdict(fitted, ids[:4], "accepted")
    verdicts.set_verdict(fitted, ids[3:6], "flagged")
    verdicts.tag(fitted, ids[2:8], add=["odd", "night"])
    fitted.set_belief({ids[0]: ("believed", ""), ids[1]: ("quarantined", "far away")})
    fitted.merge_meta({one: {"light": k % 3, "lamp": k % 2 == 0} for k, one in enumerate(ids[:20])})
    return fitted


def expected(ws: Workspace, chosen: Filter, name: str, values: Any) -> dict[Any, int]:
    """The slow way: one count of the workspace for each value."""
    counts = {v: ws.count(dataclasses.replace(chosen, **{name: v})) for v in values}
    return {value: count for value, count in counts.items() if count}


@pytest.mark.parametrize(
    "given",
    (
        {},
        {"label": 1},
        {"correct": False, "split": "train"},
        {"label": 0, "prediction": 0, "verdict": "undecided"},
        {"tag": "odd", "correct": False},
        {"text": "sign", "believed": True, "origin": "real"},
        {"meta": {"light": 1}, "verdict": "accepted"},
        {"origin": "generated"},
    ),
)
def test_each_facet_counts_what_the_other_conditions_leave(
    messy: Workspace, classifier: Any, given: dict[str, Any]
) -> None:
    chosen = Filter(model_hash=classifier.hash, **given)
    found = tally(messy, chosen)
    assert found.total == messy.count(chosen)
    offered = {
        "label": range(classifier.num_classes),
        "prediction": range(classifier.num_classes),
        "correct": (True, False),
        "split": ["", *messy.splits()],
        "origin": ("real", "generated"),
        "verdict": ("accepted", "rejected", "flagged", "undecided"),
        "believed": (True, False),
    }
    for name in FACETS:
        assert dict(found.facet(name)) == expected(messy, chosen, name, offered[name]), name
    assert dict(tag_counts(messy, chosen)) == expected(messy, chosen, "tag", messy.tags())
    values, different = column_counts(messy, chosen, "light")
    counts = {v: messy.count(dataclasses.replace(chosen, meta={"light": v})) for v in (0, 1, 2)}
    assert dict(values) == {v: c for v, c in counts.items() if c} and different == len(values)


def test_groups_serve_another_filter_of_the_same_kind(messy: Workspace, classifier: Any) -> None:
    groups = tally(messy, Filter(text="sign", model_hash=classifier.hash))
    chosen = Filter(text="sign", label=1, correct=True, model_hash=classifier.hash)
    assert groups.narrowed(chosen).total == messy.count(chosen) == tally(messy, chosen).total
    with pytest.raises(InputError, match="count again"):
        groups.narrowed(Filter(text="other", model_hash=classifier.hash))


def test_the_stamp_changes_with_samples_verdicts_and_undo(messy: Workspace) -> None:
    seen = [stamp(messy)]
    one = messy.query()[0]
    for change in (
        lambda: verdicts.set_verdict(messy, [one], "rejected"),
        lambda: verdicts.undo(messy),
        lambda: verdicts.tag(messy, [one], add=["new"]),
        lambda: messy.add_image(np.full((8, 8, 3), 7, np.uint8), origin="real", source="new"),
    ):
        change()
        seen.append(stamp(messy))
    assert len(set(seen)) == len(seen) and stamp(messy) == seen[-1]


def test_generated_samples_count_by_run_and_together(messy: Workspace) -> None:
    for run in ("one", "two"):
        for shade in (10, 20):
            messy.add_image(np.full((8, 8, 3), shade, np.uint8), origin=run, source=run)
    counts = dict(tally(messy, Filter()).facet("origin"))
    assert counts["one"] == counts["two"] == 2 and counts["generated"] == 4
    assert (
        tally(messy, Filter(origin="generated")).total == 4 and tally(messy, Filter(origin="one")).total == 2
    )


def test_a_column_tells_how_many_values_it_has_and_keeps_true_and_false(messy: Workspace) -> None:
    values, different = column_counts(messy, Filter(), "light", limit=2)
    assert values == [(0, 7), (1, 7)] and different == 3
    lamp, _ = column_counts(messy, Filter(), "lamp")
    assert {type(value) for value, _ in lamp} == {bool} and dict(lamp) == {True: 10, False: 10}
    assert column_counts(messy, Filter(), "no such column") == ([], 0)


def truth(ws: Workspace, model: str, chosen: Filter) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    ids = ws.query(chosen)
    said = ws.predictions(ids, model)
    kept = [sample for sample in ws.samples(ids) if sample.label is not None and sample.id in said]
    return (
        np.array([sample.label for sample in kept]),
        np.array([said[sample.id].pred for sample in kept]),
        np.array([said[sample.id].confidence for sample in kept]),
        [sample.id for sample in kept],
    )


@pytest.mark.parametrize("split", (None, "train"))
def test_the_matrix_and_the_table_are_those_of_scikit_learn(
    messy: Workspace, classifier: Any, split: str | None
) -> None:
    classes, model = classifier.num_classes, classifier.hash
    labels, said, confidence, ids = truth(messy, model, Filter(split=split))
    # A condition on the class or the answer must not change what is said about the classes.
    chosen = Filter(split=split, label=0, correct=False, model_hash=model)
    np.testing.assert_array_equal(
        tally(messy, chosen).confusion(classes), metrics.confusion_matrix(labels, said, labels=range(classes))
    )
    table = class_table(messy, chosen, classes, "entropy")
    precision, recall, _, support = metrics.precision_recall_fscore_support(
        labels, said, labels=range(classes), zero_division=np.nan
    )
    scores = messy.scores(ids, model, "entropy")
    percentiles = np.array([scores[one].percentile for one in ids])
    for c, row in enumerate(table):
        own = labels == c
        assert (row["label"], row["n"], row["predicted"]) == (c, support[c], (said == c).sum())
        assert row["accuracy"] == pytest.approx(recall[c]) and row["right"] == (own & (said == c)).sum()
        assert row["precision"] == pytest.approx(precision[c], nan_ok=True)
        assert row["confidence"] == pytest.approx(confidence[own].mean())
        assert row["ece"] == pytest.approx(calibration_error(confidence[own], said[own] == c))
        assert row["median"] == pytest.approx(np.median(percentiles[own]))


def test_classes_without_samples_have_no_figures(fitted: Workspace, classifier: Any) -> None:
    table = class_table(
        fitted, Filter(text="no such word", model_hash=classifier.hash), classifier.num_classes
    )
    assert [row["n"] for row in table] == [0] * classifier.num_classes
    assert all(np.isnan([row["accuracy"], row["ece"], row["median"]]).all() for row in table)


def test_wrong_questions_are_refused(fitted: Workspace, classifier: Any) -> None:
    with pytest.raises(InputError, match="facet"):
        tally(fitted, Filter()).facet("colour")
    with pytest.raises(InputError, match="classifier"):
        tally(fitted, Filter(correct=True))
    with pytest.raises(InputError, match="classifier"):
        class_table(fitted, Filter(), classifier.num_classes)
    with pytest.raises(InputError, match="verdict"):
        tally(fitted, Filter(verdict="perhaps"))
    assert workflows.tally is tally


@pytest.mark.parametrize(
    "sort", ("", "created", "-created", "confidence", "-confidence", "entropy", "-entropy")
)
def test_a_ranking_in_memory_is_the_query_of_the_database(
    messy: Workspace, classifier: Any, sort: str
) -> None:
    unscored = messy.add_image(np.zeros((8, 8, 3), np.uint8), origin="real", split="test", source="late")
    for chosen in (
        Filter(),
        Filter(split="test"),
        Filter(correct=False),
        Filter(tag="odd"),
        Filter(text="sign"),
    ):
        chosen = dataclasses.replace(chosen, model_hash=classifier.hash)
        ranked = workflows.ranked(messy, chosen, sort)
        assert ranked.ids() == messy.query(chosen, sort=sort or None) and len(ranked) == messy.count(chosen)
        assert ranked.ids(3, 7) == ranked.ids()[3:7]
    assert workflows.ranked(messy, Filter(model_hash=classifier.hash), "entropy").ids()[-1] == unscored


def test_a_ranking_without_scores_says_what_there_is(messy: Workspace, classifier: Any) -> None:
    with pytest.raises(InputError, match="entropy"):
        workflows.ranked(messy, Filter(model_hash=classifier.hash), "never")
    with pytest.raises(InputError, match="model_hash"):
        workflows.ranked(messy, Filter(), "entropy")


def test_many_numbers_are_cut_into_ranges_that_count_what_they_open(
    fitted: Workspace, classifier: Any
) -> None:
    fitted.merge_meta({one: {"speed": 0.3 * i, "gear": i % 4} for i, one in enumerate(fitted.query())})
    parts, n = column_counts(fitted, Filter(), "speed")
    assert n == len(parts) == 8 and sum(count for _, count in parts) == 72
    assert parts[0][0].low == -np.inf and parts[-1][0].high == np.inf
    for part, count in parts:
        assert fitted.count(Filter(meta={"speed": part})) == count and 5 <= count <= 13
    assert column_counts(fitted, Filter(), "gear") == ([(0, 18), (1, 18), (2, 18), (3, 18)], 4)


def test_a_column_that_no_sample_here_has_is_cut_into_nothing() -> None:
    elsewhere = Coded(np.full(5, -1, dtype=np.int32), tuple(float(n) for n in range(20)))
    assert ranges(elsewhere) == []


def test_reliability_adds_up_to_the_calibration_error(messy: Workspace, classifier: Any) -> None:
    chosen = Filter(split="test", model_hash=classifier.hash)
    rows = workflows.reliability(messy, chosen, classifier.num_classes)
    assert len(rows) == 15 and rows[0]["low"] == 0 and rows[-1]["high"] == 1
    known = [row for row in rows if row["n"]]
    total = sum(row["n"] for row in known)
    ids = messy.query(chosen)
    said = [messy.predictions(ids, classifier.hash)[one] for one in ids]
    error = calibration_error(
        np.array([one.confidence for one in said if one.correct is not None]),
        np.array([one.correct for one in said if one.correct is not None]),
    )
    assert sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in known) / total == pytest.approx(
        error
    )
    by_class = [workflows.reliability(messy, chosen, 3, label) for label in range(3)]
    assert [sum(rows[b]["n"] for rows in by_class) for b in range(15)] == [row["n"] for row in rows]
    with pytest.raises(InputError):
        workflows.reliability(messy, Filter(), 3)
