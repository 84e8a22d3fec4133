"""The grid of class by condition against counts by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from ltg_core import workflows
from ltg_core.curation import verdicts
from ltg_core.data.records import Filter, NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.workflows.coverage import coverage, coverage_columns, prompt_for_cell, wilson

MODEL = "c" * 16


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)


@pytest.fixture
def planned(empty_workspace: Workspace) -> Workspace:
    """Two classes by day and night: 8 cats by day in training and none at night; errors at night."""
    ws = empty_workspace
    rows: list[tuple[str, int, str, int]] = [
        *[("train", 0, "day", 0)] * 8,
        *[("train", 1, "day", 1)] * 4,
        *[("train", 1, "night", 1)] * 2,
        *[("test", 0, "day", 0)] * 5,
        *[("test", 0, "night", 1)] * 3,
        ("test", 0, "night", 0),
        *[("test", 1, "night", 1)] * 4,
    ]
    ids = ws.add_images(
        [
            NewSample(
                picture(i),
                split=split,
                label=label,
                meta={"time": time, "shot": i, "odd": [1, time], "source": time},
            )
            for i, (split, label, time, _) in enumerate(rows)
        ]
    )
    ws.set_predictions(MODEL, {one: (row[3], 0.9) for one, row in zip(ids, rows, strict=True)})
    ws.set_label_names(["cat", "dog"])
    return ws


def made(ws: Workspace, start: int, number: int, **meta: Any) -> list[str]:
    return ws.add_images(
        [NewSample(picture(1000 + start + i), origin="generate-1", label=0, meta=meta) for i in range(number)]
    )


def test_every_cell_has_the_counts_that_one_finds_by_hand(planned: Workspace) -> None:
    accepted = made(planned, 0, 3, time="night")
    made(planned, 3, 2, time="night")
    verdicts.set_verdict(planned, accepted, "accepted")
    verdicts.set_verdict(planned, made(planned, 9, 1, time="night"), "rejected")
    found = coverage(planned, 2, "time", model_hash=MODEL)
    # 16 real samples by day, 11 at night
    assert found.values == ["day", "night"] and found.split == "test" and found.trained
    counts = {
        (c, found.values[p]): (cell.real, cell.train, cell.held, cell.wrong, cell.accepted, cell.waiting)
        for (c, p), cell in found.cells.items()
    }
    assert counts == {
        (0, "day"): (13, 8, 5, 0, 0, 0),
        (0, "night"): (4, 0, 4, 3, 3, 2),
        (1, "day"): (4, 4, 0, 0, 0, 0),
        (1, "night"): (6, 2, 4, 0, 0, 0),
    }
    assert found.overall == pytest.approx(3 / 13) and found.goal == 4
    night = found.cells[0, 1]
    rate = (3 + 10 * 3 / 13) / 14
    assert night.need == pytest.approx(rate * (0.5 + 0.5 * 1 / 4)) and night.wanted == 8
    assert night.error == 0.75 and found.ranked()[0] == night
    assert math.isnan(found.cells[1, 0].error) and found.cells[1, 0].interval == (0.0, 1.0)
    assert found.cells[0, 0].wanted == 0


def test_without_a_classifier_or_a_training_split_there_are_still_counts(planned: Workspace) -> None:
    found = coverage(planned, 2, "time")
    assert math.isnan(found.overall) and found.cells[0, 1].held == 0 and found.cells[0, 0].real == 13
    with planned.database.write() as connection:
        connection.execute("UPDATE samples SET split = ''")
    bare = coverage(planned, 2, "time", model_hash=MODEL)
    assert bare.split is None and not bare.trained
    assert bare.cells[0, 1].train == bare.cells[0, 1].real == 4 and bare.cells[0, 0].held == 13


def test_rare_values_and_values_beyond_the_limit_are_left_out_and_counted(planned: Workspace) -> None:
    planned.add_images([NewSample(picture(500), split="train", label=0, meta={"time": "dusk"})])
    assert coverage(planned, 2, "time", rare=0.05).left_out == 1
    few = coverage(planned, 2, "time", limit=1)
    assert few.values == ["day"] and few.left_out == 2
    assert set(coverage(planned, 2, "time", rare=0.0).values) == {"day", "night", "dusk"}
    assert coverage(planned, 2, "nothing").cells == {}


def test_saved_slices_can_be_the_columns(planned: Workspace) -> None:
    made(planned, 20, 2, slice="cats")
    slices = {"cats": Filter(label=0), "night": Filter(meta={"time": "night"})}
    found = coverage(planned, 2, model_hash=MODEL, slices=slices)
    assert found.values == ["cats", "night"] and found.column == "slice"
    assert (found.cells[0, 0].real, found.cells[0, 0].waiting, found.cells[1, 0].real) == (17, 2, 0)
    assert (found.cells[0, 1].real, found.cells[0, 1].wrong, found.cells[1, 1].held) == (4, 3, 4)


def test_columns_that_can_stand_for_conditions_are_offered(planned: Workspace) -> None:
    assert coverage_columns(planned) == [("time", 2)], "no numbers of shots, no lists, no source"
    with Workspace(planned.path / "none") as bare:
        assert coverage_columns(bare) == []


@pytest.mark.parametrize("column", ('sp"ace', "a.b", "$", "naïve ${x}", "it's"))
def test_hostile_column_names_are_only_names(empty_workspace: Workspace, column: str) -> None:
    empty_workspace.add_images(
        [NewSample(picture(i), label=0, meta={column: f"<b>{i % 2}"}) for i in range(4)]
    )
    found = coverage(empty_workspace, 1, column)
    assert [cell.real for cell in found.cells.values()] == [2, 2] and set(found.values) == {"<b>0", "<b>1"}


def test_the_interval_is_that_of_wilson() -> None:
    from scipy.stats import binomtest

    for hits, n in ((0, 5), (3, 4), (15, 150), (7, 7)):
        expected = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson(hits, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_a_cell_is_asked_for_in_the_words_that_the_generator_knows(fitted: Workspace) -> None:
    generator = workflows.active_generator(fitted)
    labels = fitted.label_names()
    stop, parking = labels.index("stop"), labels.index("parking")

    def ask(label: int, value: Any, column: str = "time") -> str:
        return prompt_for_cell(fitted, labels, label, column, value)

    assert ask(stop, "night") == "a photo of a stop sign, night"
    assert ask(stop, 3, "lane_count") == "a photo of a stop sign, lane count 3"
    assert ask(stop, False, "wet") == "a photo of a stop sign, no wet"
    folder = fitted.path.parent / "generator"
    import shutil

    shutil.copytree(generator.folder, folder)
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps(card | {"phrases": {"night": "at night", "fog": "in fog"}}))
    workflows.use_generator(fitted, folder)
    assert ask(stop, "night") == "a photo of a stop sign at night"
    assert ask(stop, "fog + night") == "a photo of a stop sign in fog at night"
    fitted.add_images(
        [NewSample(picture(9), label=stop, caption="one stop sign after dark", meta={"time": "night"})]
    )
    assert ask(stop, "night") == "one stop sign after dark"
    assert ask(parking, "night") == "one parking sign after dark"
