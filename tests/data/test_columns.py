"""Columns in memory against the database's own queries, while everything changes underneath."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ltg_core.curation import verdicts
from ltg_core.data import reading
from ltg_core.data.records import Filter, NewSample, Range
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

MODEL = "m"
FILTERS = (
    Filter(),
    Filter(split="test"),
    Filter(split=("test", "")),
    Filter(split="never"),
    Filter(label=1, correct=False, model_hash=MODEL),
    Filter(prediction=2, model_hash=MODEL),
    Filter(origin="real", verdict="undecided"),
    Filter(origin="generated"),
    Filter(origin="run-1", believed=True),
    Filter(verdict="accepted", tag="odd"),
    Filter(text="night"),
    Filter(text='"sign at night" odd'),
    Filter(meta={"hour": 3}),
    Filter(meta={"hour": "3"}),
    Filter(meta={"lamp": True}),
    Filter(meta={"lamp": "true"}),
    Filter(meta={"lamp": 1}),
    Filter(meta={"speed": 0.1 + 0.2}),
    Filter(meta={"speed": str(0.1 + 0.2)}),
    Filter(meta={"speed": Range(0.2, 0.6)}),
    Filter(meta={"speed": Range(-np.inf, 0.6), "hour": [1, 2, "3"]}),
    Filter(meta={"mixed": Range(0, 2)}),
    Filter(meta={"mixed": "one"}),
    Filter(meta={"list": "1"}),
    Filter(meta={"never": "1"}),
    Filter(ids=()),
)


def fill(ws: Workspace, make: Any, first: int, count: int) -> list[str]:
    batch = [
        NewSample(
            make(i),
            origin="run-1" if i % 4 == 3 else "real",
            split=("train", "test", "")[i % 3],
            label=None if i % 5 == 4 else i % 3,
            label_name=None if i % 5 == 4 else "abc"[i % 3],
            caption=f"a sign at {'night' if i % 2 else 'day'}",
            meta={"hour": i % 5, "lamp": i % 2 == 0, "speed": 0.1 * (i % 7) if i % 7 != 3 else 0.1 + 0.2,
                  "mixed": [1, "one", 1.5, True][i % 4], "list": [1, 2]},
            belief="believed" if i % 8 == 3 else None,
        )
        for i in range(first, first + count)
    ]  # fmt: skip
    ids = ws.add_images(batch)
    ws.set_predictions(MODEL, {one: (i % 3, 0.5 + i / 100) for i, one in enumerate(ids) if i % 6 != 5})
    ws.set_scores(
        MODEL, "entropy", {one: (float(i % 4), 10.0 * i) for i, one in enumerate(ids) if i % 7 != 5}
    )
    return ids


def agree(ws: Workspace) -> None:
    base = ws.columns.base()
    for chosen in FILTERS:
        found = ws.columns.ids(np.flatnonzero(ws.columns.mask(chosen, base)))
        assert found == ws.query(chosen), chosen


@pytest.fixture
def filled(ws: Workspace, make: Any) -> tuple[Workspace, list[str]]:
    ids = fill(ws, make, 0, 24)
    verdicts.set_verdict(ws, ids[:6], "accepted")
    verdicts.tag(ws, ids[2:9], add=["odd"])
    return ws, ids


def test_every_filter_finds_what_the_database_finds(filled: tuple[Workspace, list[str]]) -> None:
    agree(filled[0])


def test_every_change_is_seen(filled: tuple[Workspace, list[str]], make: Any) -> None:
    ws, ids = filled
    agree(ws)
    changes = (
        lambda: fill(ws, make, 24, 8),
        lambda: verdicts.set_verdict(ws, ids[3:9], "rejected"),
        lambda: verdicts.undo(ws),
        lambda: verdicts.tag(ws, ids[:4], add=["odd"], remove=["none"]),
        lambda: verdicts.note(ws, ids[10:12], "seen at night, odd"),
        lambda: verdicts.note(ws, ids[10:12], ""),
        lambda: ws.merge_meta({ids[0]: {"hour": 3, "lamp": "true"}}),
        lambda: ws.set_belief({ids[3]: ("quarantined", "far away")}),
        lambda: ws.set_predictions(MODEL, dict.fromkeys(ids[:5], (2, 0.1))),
        lambda: ws.set_label_names(["b", "c"]),
    )
    for change in changes:
        change()
        agree(ws)
    with ws.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (ids[7],))
    agree(ws)


def test_another_process_is_heard(filled: tuple[Workspace, list[str]], make: Any) -> None:
    ws, ids = filled
    agree(ws)
    with Workspace(ws.path) as other:
        fill(other, make, 40, 4)
        verdicts.set_verdict(other, ids[12:15], "accepted")
    agree(ws)


def test_new_samples_are_appended_and_old_arrays_stay_as_they_were(
    filled: tuple[Workspace, list[str]], make: Any
) -> None:
    ws, ids = filled
    before = ws.columns.base()
    fill(ws, make, 24, 8)
    after = ws.columns.base()
    assert len(before) == 24 and len(after) == 32
    assert np.array_equal(after.seq[:24], before.seq) and np.array_equal(after.ids[:24], before.ids)
    assert ws.columns.places_of(np.array([ids[5].encode(), b"nobody"], dtype="S20"), after).tolist() == [
        5,
        -1,
    ]


def test_pages_by_id_and_by_time_are_those_of_the_database(
    filled: tuple[Workspace, list[str]], make: Any
) -> None:
    ws, ids = filled
    verdicts.rate(ws, ids[3:9], 4)
    with ws.database.write() as connection:  # a clock that was set back, and samples of one moment
        connection.execute("UPDATE samples SET created = 1000 + (seq * 7) % 11")
        connection.execute("UPDATE changes SET n = n + 1 WHERE what = 'samples'")
    fill(ws, make, 500, 5)
    ws.columns.base()
    asked = 0
    for chosen in (*FILTERS[1:], Filter(rating=3), Filter(rating=0), Filter(ids=tuple(ids[2:20]))):
        for sort in ("id", "-id", "created", "-created"):
            for offset in (0, 4, 1000):
                said = reading.query(ws.database, chosen, sort, 7, offset)
                assert ws.query(chosen, sort=sort, limit=7, offset=offset) == said, (chosen, sort, offset)
                asked += len(said)
    assert asked > 500
    with pytest.raises(InputError, match="negative"):
        ws.query(FILTERS[1], sort="id", limit=-1)


def test_what_nobody_knows_is_refused_as_by_a_query(ws: Workspace) -> None:
    for chosen in (Filter(verdict="lost"), Filter(correct=True)):
        with pytest.raises(InputError):
            ws.columns.mask(chosen)


def test_scores_and_predictions_are_absent_where_there_are_none(filled: tuple[Workspace, list[str]]) -> None:
    ws, _ = filled
    scored = ws.columns.scores(MODEL, "entropy")
    assert np.isnan(scored.values[5]) and scored.values[6] == 2.0 and scored.percentiles[6] == 60.0
    assert np.isnan(ws.columns.scores(MODEL, "never").values).all()
    assert ws.columns.predictions(MODEL).pred[5] == -1 and (ws.columns.predictions(None).pred == -1).all()
