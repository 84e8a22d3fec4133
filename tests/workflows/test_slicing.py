"""Slices by name, and the search for weak ones on a real workspace."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from ltg_core import workflows
from ltg_core.data.records import Filter, NewSample, Range
from ltg_core.data.saved import from_record, to_record
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.introspection.statistics import wilson
from ltg_core.jobs import CancelToken

LABELS = ["stop", "yield", "parking"]


@pytest.mark.parametrize(
    "chosen",
    (
        Filter(),
        Filter(split="", label=2, correct=False, model_hash="m"),
        Filter(
            split=("val", "test"), prediction=0, verdict="flagged", tag="a", believed=False, model_hash="m"
        ),
        Filter(
            text="<b>${1}", origin="real", meta={"hour": Range(-math.inf, 3.5), "lamp": True, "way": [1, "2"]}
        ),
        Filter(ids=()),
        Filter(ids=("ab", "cd")),
    ),
)
def test_a_saved_filter_is_the_same_filter(chosen: Filter) -> None:
    import json

    record = json.loads(json.dumps(to_record(chosen, LABELS)))
    assert from_record(record, LABELS, chosen.model_hash) == chosen


def test_a_saved_class_follows_its_name() -> None:
    record = to_record(Filter(label=0, prediction=1), LABELS)
    assert from_record(record, LABELS[::-1], "m") == Filter(label=2, prediction=1, model_hash="m")
    assert from_record(record, ["other"], "m").label == from_record(record, ["other"], "m").prediction == -9


@pytest.mark.parametrize(
    ("text", "expected"),
    (
        ("0.5..2", Range(0.5, 2)),
        ("-inf..-1e-3", Range(-math.inf, -0.001)),
        ("2..1", None),
        ("a..b", None),
        ("1..", None),
        ("1.5", None),
    ),
)
def test_a_range_is_read_from_its_text(text: str, expected: Range | None) -> None:
    assert Range.read(text) == expected
    assert expected is None or Range.read(str(expected)) == expected


def test_a_slice_is_saved_renamed_removed_and_brought_back(fitted: Workspace, classifier: Any) -> None:
    chosen = Filter(label=0, split="test")
    one = workflows.save_slice(fitted, "  stop signs \n to look at ", chosen, "for Monday")
    (found,) = workflows.slices(fitted)
    assert (found.id, found.name, found.description, found.kind) == (
        one,
        "stop signs to look at",
        "for Monday",
        "saved",
    )
    assert fitted.query(found.filter) == fitted.query(chosen) and found.n == 6
    assert workflows.rename_slice(fitted, one, "stops") == "stop signs to look at"
    assert workflows.remove_slice(fitted, one) == "stops"
    assert workflows.slices(fitted) == [] and fitted.count() == 72
    workflows.save_slice(fitted, "stops", Filter(label=1))
    assert workflows.restore_slice(fitted, one) == "stops (again)"
    assert [found.name for found in workflows.slices(fitted)] == ["stops", "stops (again)"]


def test_a_slice_says_how_the_classifier_does_on_it(fitted: Workspace, classifier: Any) -> None:
    chosen = Filter(split="test", model_hash=classifier.hash)
    workflows.save_slice(fitted, "test", chosen)
    (found,) = workflows.slices(fitted, signal="entropy")
    wrong = fitted.count(Filter(split="test", correct=False, model_hash=classifier.hash))
    assert (found.n, found.judged, found.wrong) == (18, 18, wrong) and found.error == wrong / 18
    assert (found.low, found.high) == wilson(wrong, 18)
    ranks = sorted(
        s.percentile for s in fitted.scores(fitted.query(chosen), classifier.hash, "entropy").values()
    )
    assert found.median == pytest.approx((ranks[8] + ranks[9]) / 2)


def test_names_are_not_empty_not_endless_and_not_taken(fitted: Workspace) -> None:
    workflows.save_slice(fitted, "one", Filter())
    for name in ("", " \n", "x" * 201, "one", " one "):
        with pytest.raises(InputError):
            workflows.save_slice(fitted, name, Filter())
    other = workflows.save_slice(fitted, "<img src=x>\ud800", Filter())
    with pytest.raises(InputError, match="one"):
        workflows.rename_slice(fitted, other, "one")
    with pytest.raises(InputError, match="no slice"):
        workflows.rename_slice(fitted, "nobody", "two")


@pytest.fixture
def planted(fitted: Workspace, classifier: Any, tiny_world: Any) -> Workspace:
    """200 more held-out samples; the classifier is made to be wrong on class 1 in the yard, and on nothing else."""
    pictures = np.random.default_rng(0).integers(0, 256, size=(200, 8, 8, 3), dtype=np.uint8)
    batch = [
        NewSample(
            pictures[i],
            split=("val", "test")[i % 2],
            label=i % 3,
            label_name=classifier.labels[i % 3],
            source=f"extra/{i}",
            meta={"place": ("yard", "road", "gate", "hall")[i % 4], "speed": 0.5 * i, "number": i},
        )
        for i in range(200)
    ]
    ids = fitted.add_images(batch)
    right = {one: (s.label, 0.9) for one, s in zip(ids, fitted.samples(ids), strict=True)}
    wrong = {one: (0, 0.8) for i, one in enumerate(ids) if i % 3 == 1 and i % 4 == 0}
    fitted.set_predictions(classifier.hash, {**right, **wrong})
    seen = fitted.query(Filter(split=("val", "test"), ids=tuple(set(fitted.query()) - set(ids))))
    fitted.set_predictions(classifier.hash, {s.id: (s.label, 0.9) for s in fitted.samples(seen)})
    return fitted


def test_the_search_finds_the_planted_slice_on_held_out_samples_only(
    planted: Workspace, classifier: Any
) -> None:
    # Errors on what it was trained with are no findings.
    train = planted.query(Filter(split="train"))
    planted.set_predictions(classifier.hash, {s.id: ((s.label + 1) % 3, 0.9) for s in planted.samples(train)})
    run = workflows.find_slices(planted, classifier)
    (found,) = workflows.slices(planted, "found")
    assert found.name == f"{classifier.labels[1]}, place yard"
    wanted = Filter(
        label=1, split=("val", "test"), origin="real", meta={"place": "yard"}, model_hash=classifier.hash
    )
    assert found.filter == wanted and found.wrong == found.judged == found.n == 17
    evidence = found.evidence
    assert (evidence["n"], evidence["bad"], evidence["rest"]) == (17, 17, 0.0) and evidence["low"] > 0.4
    assert (
        run.result["samples"] == 236
        and run.result["bad"] == 17
        and run.result["tried"] == evidence["tried"] > 10
    )
    assert run.result["splits"] == ["val", "test"] and run.state == "done"


def test_a_new_search_replaces_found_slices_and_leaves_those_that_were_kept(
    planted: Workspace, classifier: Any
) -> None:
    workflows.find_slices(planted, classifier)
    (found,) = workflows.slices(planted, "found")
    workflows.keep_slice(planted, found.id)
    workflows.find_slices(planted, classifier)
    kept, again = workflows.slices(planted)
    assert (kept.id, kept.kind, again.kind) == (found.id, "saved", "found") and again.filter == kept.filter


def test_the_search_goes_by_a_signal_where_nothing_is_labelled(planted: Workspace, classifier: Any) -> None:
    held = planted.query(Filter(split=("val", "test")))
    for i, sample in enumerate(planted.samples(held)):
        rare = sample.meta.get("place") == "gate"
        planted.set_scores(classifier.hash, "entropy", {sample.id: (float(i), 95.0 if rare else 50.0)})
    with planted.database.write() as connection:
        connection.execute("UPDATE samples SET label = NULL")
    run = workflows.find_slices(planted, classifier, "entropy")
    found = workflows.slices(planted, "found")
    assert [one.name for one in found] == ["place gate"] and run.result["outcome"] == "entropy"
    assert "P 90 of entropy" in found[0].description
    with pytest.raises(DatasetError, match="Hold"):
        workflows.find_slices(planted, classifier)
    assert [one.name for one in workflows.slices(planted, "found")] == ["place gate"], "the last ones stay"


def test_a_cancelled_search_leaves_the_slices_of_the_last_one(planted: Workspace, classifier: Any) -> None:
    from ltg_core.errors import Cancelled

    workflows.find_slices(planted, classifier)
    before = workflows.slices(planted)
    token = CancelToken()
    with pytest.raises(Cancelled):
        workflows.find_slices(planted, classifier, cancel=token, on_progress=lambda _: token.cancel())
    assert workflows.slices(planted) == before and planted.runs("slices")[0].state == "cancelled"
