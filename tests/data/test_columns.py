"""Columns in memory against the database's own queries, while everything changes underneath."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ltg_core.curation import verdicts
from ltg_core.data import columns, reading
from ltg_core.data.database import Database
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


def test_pages_in_any_order_and_counts_are_those_of_the_database(
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
        chosen = dataclasses.replace(chosen, model_hash=MODEL)
        assert ws.count(chosen) == reading.count(ws.database, chosen), chosen
        for sort in ("id", "-id", "created", "-created", "confidence", "-confidence", "entropy", "-entropy"):
            for offset in (0, 4, 1000):
                said = reading.query(ws.database, chosen, sort, 7, offset)
                assert ws.query(chosen, sort=sort, limit=7, offset=offset) == said, (chosen, sort, offset)
                asked += len(said)
    assert asked > 500
    with pytest.raises(InputError, match="negative"):
        ws.query(FILTERS[1], sort="id", limit=-1)
    with pytest.raises(InputError, match="scored: entropy"):
        ws.query(dataclasses.replace(FILTERS[1], model_hash=MODEL), sort="margin", limit=1)
    with pytest.raises(InputError, match="needs a classifier"):
        ws.query(FILTERS[1], sort="entropy", limit=1)


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


def test_what_a_transaction_takes_back_is_not_counted(filled: tuple[Workspace, list[str]], make: Any) -> None:
    ws, _ = filled
    agree(ws)
    before = ws.count(Filter(split="test"))
    with pytest.raises(KeyboardInterrupt), ws.database.write():
        fill(ws, make, 24, 8)
        assert ws.count(Filter(split="test")) > before, "it sees what it has written"
        ws.query(Filter(split="test"), sort="id", limit=3)
        raise KeyboardInterrupt
    assert ws.count(Filter(split="test")) == before == ws.columns.mask(Filter(split="test")).sum()
    agree(ws)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each long query has given."""
    counts, parts = list[int](), Database.parts

    def counted(self: Database, *asked: Any, **options: Any) -> Any:
        counts.append(0)
        for rows in parts(self, *asked, **options):
            counts[-1] += len(rows)
            yield rows

    monkeypatch.setattr(Database, "parts", counted)
    return counts


def test_of_new_samples_only_what_came_with_them_is_read(
    filled: tuple[Workspace, list[str]], make: Any, read: list[int]
) -> None:
    ws, ids = filled
    agree(ws)
    ws.columns.scores(MODEL, "entropy")
    read.clear()
    fill(ws, make, 24, 3)
    agree(ws)
    assert ws.columns.scores(MODEL, "entropy").values.shape == (27,)
    assert len(read) >= 6 and max(read) == 3, "samples, four metadata columns, predictions, scores"
    read.clear()
    ws.set_scores(MODEL, "margin", dict.fromkeys(ids[:2], (0.5, 1.0)))
    ws.set_scores(MODEL, "entropy", {ids[0]: (7.0, 1.0), fill(ws, make, 30, 2)[0]: (8.0, 1.0)})
    assert ws.columns.scores(MODEL, "entropy").values[[0, 27]].tolist() == [7.0, 8.0]
    assert max(read) > 20, "an old sample has another score, too"
    agree(ws)


CHANGES = {
    "nothing": lambda ws, ids, make: None,
    "samples": lambda ws, ids, make: fill(ws, make, 24, 8),
    "metadata": lambda ws, ids, make: ws.merge_meta({ids[0]: {"hour": 3, "lamp": "true"}}),
    "predictions": lambda ws, ids, make: ws.set_predictions(MODEL, dict.fromkeys(ids[:5], (2, 0.1))),
    "names": lambda ws, ids, make: ws.set_label_names(["b", "c"]),
    "all": lambda ws, ids, make: (
        fill(ws, make, 24, 8),
        ws.merge_meta({ids[0]: {"hour": 3}}),
        fill(ws, make, 60, 2),
    ),
}


@pytest.fixture
def large(
    monkeypatch: pytest.MonkeyPatch, filled: tuple[Workspace, list[str]]
) -> tuple[Workspace, list[str]]:
    """A workspace that is large enough for files of its columns, all of which are read."""
    monkeypatch.setattr(columns, "_LARGE", 10)
    agree(filled[0])
    filled[0].columns.scores(MODEL, "entropy")
    return filled


def reopened(ws: Workspace) -> Workspace:
    ws.close()
    return Workspace(ws.path)


@pytest.mark.parametrize("change", CHANGES)
def test_a_new_start_reads_files_and_what_is_newer(
    large: tuple[Workspace, list[str]], make: Any, read: list[int], change: str
) -> None:
    ws, ids = large
    wanted = ws.columns.scores(MODEL, "entropy")
    with reopened(ws) as again:
        again.columns.warm(MODEL, ["entropy"])
        assert not any(read)
        assert np.array_equal(again.columns.scores(MODEL, "entropy").order, wanted.order)
        with Workspace(ws.path) as other:  # which tells this one nothing
            CHANGES[change](other, ids, make)
    with Workspace(ws.path) as last:
        agree(last)
        last.columns.warm(MODEL, ["entropy"])
        found = last.columns.scores(MODEL, "entropy").values
    with Workspace(ws.path) as fresh:
        shutil.rmtree(ws.path / "columns")
        assert np.array_equal(fresh.columns.scores(MODEL, "entropy").values, found, equal_nan=True)


def test_a_database_that_is_put_back_has_no_use_for_files_of_a_later_one(
    large: tuple[Workspace, list[str]], make: Any, tmp_path: Path
) -> None:
    ws, ids = large
    with reopened(ws) as once:
        once.columns.warm(MODEL, [])
    shutil.copy(ws.path / "longtail.sqlite", tmp_path / "copy")
    with Workspace(ws.path) as later:
        agree(later)
        later.merge_meta({ids[0]: {"hour": 99}})
        agree(later)
    assert not (ws.path / "longtail.sqlite-wal").exists()
    shutil.copy(tmp_path / "copy", ws.path / "longtail.sqlite")
    with Workspace(ws.path) as back:
        back.merge_meta({ids[1]: {"hour": 98}})  # the counters say what they said
        agree(back)
        assert len(back.query(Filter(meta={"hour": 98}))) == 1
        assert back.columns.mask(Filter(meta={"hour": 98})).sum() == 1
        assert back.columns.mask(Filter(meta={"hour": 99})).sum() == 0


@pytest.mark.parametrize("damage", ["cut", "nothing", "text", "gone", "pickle", "another"])
def test_a_file_that_cannot_be_read_costs_time_alone(
    large: tuple[Workspace, list[str]], tmp_path: Path, damage: str, read: list[int]
) -> None:
    ws, _ = large
    ws.close()
    files = sorted((ws.path / "columns").iterdir())
    assert len(files) > 5
    first = files[0].read_bytes()
    for file in files:
        content = file.read_bytes()
        if damage == "gone":
            file.unlink()
        elif damage == "pickle":
            np.savez(file, about=np.array([Path], dtype=object))
        else:
            damaged = {
                "cut": content[: len(content) // 2],
                "nothing": b"",
                "text": b"column",
                "another": first,
            }
            file.write_bytes(damaged[damage])
    with Workspace(ws.path) as again:
        agree(again)
        assert any(read)
    with Workspace(ws.path) as once_more:
        read.clear()
        once_more.columns.base()
        assert not read, "it was written anew"


def test_where_no_file_can_be_written_the_log_says_so(
    large: tuple[Workspace, list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    ws, _ = large
    (ws.path / "columns").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        ws.close()
    assert "the next start takes longer" in caplog.text
    with Workspace(ws.path) as again:
        agree(again)
