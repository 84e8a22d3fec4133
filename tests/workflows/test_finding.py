"""The first surprising finding is computed from errors, and says how sure it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ltg_core import workflows
from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.models.classifier import Classifier
from ltg_core.workflows import finding
from ltg_core.workflows.finding import ENOUGH
from ltg_core.workflows.intervals import share


@pytest.fixture
def world(empty_workspace: Workspace, tiny_classifier_file: Path) -> tuple[Workspace, Classifier]:
    """A classifier, and answers written by hand: 12 of 15 foggy stop signs of the test split are read wrongly."""
    ws = empty_workspace
    classifier = workflows.use_classifier(ws, tiny_classifier_file)
    rows, wrong = [], []
    for label, name in enumerate(classifier.labels):
        for number in range(60):
            weather = "fog" if number % 4 == 0 else "sun"
            rows.append((label, name, weather, "train" if number >= 60 else "test", number))
            foggy = name == "stop" and weather == "fog"
            wrong.append((number < 48) if foggy else number in (5, 6))
    samples = [
        NewSample(
            np.full((8, 8, 3), place, np.uint8),
            split=split,
            label=label,
            label_name=name,
            source=f"{name}/{number}",
            meta={"weather": weather, "number": number, "given_label": name.upper(), "exact": number / 7},
        )
        for place, (label, name, weather, split, number) in enumerate(rows)
    ]
    ids = ws.add_images(samples)
    said = {
        one: ((row[0] + 1) % 3 if bad else row[0], 0.9)
        for one, row, bad in zip(ids, rows, wrong, strict=True)
    }
    ws.set_predictions(classifier.hash, said)
    return ws, classifier


def test_the_group_that_chance_explains_least_is_found_and_told_in_one_sentence(world) -> None:
    ws, classifier = world
    found = workflows.surprising(ws, classifier)
    assert (found.label, found.column, found.value, found.split) == ("stop", "weather", "fog", "test")
    assert (found.wrong.part, found.wrong.whole) == (12, 15) and (found.rest.part, found.rest.whole) == (
        2,
        45,
    )
    text = found.sentence.replace("\u00a0", " ")
    assert text == (
        "“stop” with weather “fog”: 12 of 15 read wrongly, 20 % right, against 96 % of all other “stop” samples."
    )
    ids = ws.query(workflows.samples_of(found, classifier))
    assert len(ids) == 12 and all(s.meta["weather"] == "fog" for s in ws.samples(ids))


def test_the_probability_is_fishers_times_the_number_of_groups(world) -> None:
    from scipy.stats import fisher_exact

    ws, classifier = world
    found = workflows.surprising(ws, classifier)
    exact = fisher_exact([[12, 3], [2, 43]], alternative="greater").pvalue
    # two values of the weather in three classes, and the three classes; columns of many or broken values do not count
    assert found.tried == 9
    assert found.p == pytest.approx(9 * exact)
    assert "9 groups" in found.certainty


def test_groups_are_those_that_are_counted_one_by_one(world) -> None:
    ws, classifier = world
    rng = np.random.default_rng(0)
    kinds = ["1", 1, True, "true", False, 2.5, None, [1], 0]
    messy = {one: {"mixed": kinds[rng.integers(9)], "odd": bool(rng.integers(2)), "name": f"n{rng.integers(70)}",
                   "most": "other" if number % 12 == 0 else "usual"}
             for number, one in enumerate(ws.query())}  # fmt: skip
    ws.merge_meta(messy)
    said = ws.predictions(list(messy), classifier.hash)
    wanted: dict[tuple[int, str, str], list[bool]] = {}
    for sample in ws.samples(list(messy)):
        wrong = said[sample.id].pred != sample.label
        for column in ("mixed", "odd", "weather", "most"):
            value = sample.meta.get(column)
            if isinstance(value, (str, int)):
                text = str(value).lower() if isinstance(value, bool) else str(value)
                wanted.setdefault((sample.label, column, text), []).append(wrong)
    groups = finding._groups(finding._answers(ws, classifier, "test"))
    found = {group[:3]: group[3:5] for group in groups if group[1]}
    assert found == {cell: (len(all_), sum(all_)) for cell, all_ in wanted.items() if 8 <= len(all_) <= 52}
    assert {column for _, column, _ in found} == {"mixed", "odd", "weather"} and len(found) > 15
    cells = finding.coverage(ws, "mixed")
    sizes = [len(all_) for (_, column, _), all_ in wanted.items() if column == "mixed"]
    assert (cells.filled, cells.cells) == (sum(size >= 20 for size in sizes), 3 * 4)


def test_without_metadata_a_class_is_the_finding(world) -> None:
    ws, classifier = world
    with ws.database.write() as connection:
        connection.execute("UPDATE samples SET meta = '{}'")
    found = workflows.surprising(ws, classifier)
    assert (found.label, found.column) == ("stop", "")
    assert "all other classes" in found.sentence
    assert len(ws.query(workflows.samples_of(found, classifier))) == 14


def test_an_even_classifier_is_not_accused(world) -> None:
    ws, classifier = world
    for one in ws.samples(ws.query()):
        ws.set_predictions(classifier.hash, {one.id: (one.label, 0.9)})
    found = workflows.surprising(ws, classifier)
    assert found.p == 1 and found.certainty.startswith("Chance could explain it")


def test_training_samples_are_never_a_finding(world) -> None:
    ws, classifier = world
    with ws.database.write() as connection:
        connection.execute("UPDATE samples SET split = 'train'")
    assert workflows.surprising(ws, classifier) is None
    state = workflows.glance(ws, classifier)
    assert state.finding is None and state.right.whole == 0 and state.real == 180


def test_a_glance_counts_what_there_is(world) -> None:
    ws, classifier = world
    state = workflows.glance(ws, classifier)
    assert (state.classes, state.real, state.generated, state.accepted) == (3, 180, 0, 0)
    assert (state.right.part, state.right.whole) == (180 - 12 - 2 * 3, 180)
    # 15 foggy and 45 sunny samples a class
    assert (state.coverage.column, state.coverage.filled, state.coverage.cells) == ("weather", 3, 6)
    assert ENOUGH == 20
    assert workflows.glance(ws, None).finding is None


@pytest.mark.parametrize(("part", "whole"), ((0, 11), (2, 11), (11, 11), (1400, 1500), (1, 1)))
def test_intervals_are_wilsons(part: int, whole: int) -> None:
    from scipy.stats import binomtest

    low, high = binomtest(part, whole).proportion_ci(method="wilson")
    found = share(part, whole)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-12), pytest.approx(high, abs=1e-12))
    assert np.isnan(share(0, 0).value) and np.isnan(share(0, 0).low)
