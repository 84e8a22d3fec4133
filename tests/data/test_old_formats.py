"""Workspaces of earlier formats, as users' disks hold them, are brought up to date; newer ones are left alone."""

from __future__ import annotations

import contextlib
import sqlite3
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ltg_core import curation
from ltg_core.data import database
from ltg_core.data.database import SCHEMA_VERSION
from ltg_core.data.joblog import JobRecords
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import WorkspaceError

FORMATS = Path(__file__).parent / "formats"
KEPT = sorted(int(path.stem.removeprefix("format-")) for path in FORMATS.glob("format-*.zip"))
MODEL = "abcdef0123456789"


@pytest.fixture
def old(tmp_path: Path):
    def unpack(version: int) -> Path:
        with zipfile.ZipFile(FORMATS / f"format-{version}.zip") as packed:
            packed.extractall(tmp_path / "ws")
        return tmp_path / "ws"

    return unpack


def version_of(folder: Path) -> int:
    with contextlib.closing(sqlite3.connect(folder / "longtail.sqlite")) as opened:
        return opened.execute("SELECT version FROM schema_version").fetchone()[0]


def schema_of(folder: Path) -> set[tuple[str, str, str]]:
    with contextlib.closing(sqlite3.connect(folder / "longtail.sqlite")) as opened:
        rows = opened.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}


def test_the_formats_that_are_kept_are_the_first_one_and_that_of_the_first_release():
    assert KEPT[:2] == [1, 6]


@pytest.mark.parametrize("version", KEPT)
def test_a_workspace_of_an_earlier_format_shows_all_that_was_in_it(old, tmp_path: Path, version: int):
    folder = old(version)
    assert version_of(folder) == version
    with Workspace(folder) as ws:
        assert version_of(folder) == SCHEMA_VERSION
        ids = ws.query()
        samples = ws.samples(ids)
        assert [s.caption for s in samples] == [f"picture number {i}" for i in range(6)]
        assert [s.verdict for s in samples] == ["accepted"] * 2 + ["rejected"] + ["undecided"] * 3
        assert samples[0].tags == ("odd",) and samples[0].rating == 4
        assert samples[0].note == "seen from behind"
        assert samples[4].belief == "believed" and samples[4].meta == {"site": "north 4", "speed": 2.0}
        assert ws.predictions(ids, MODEL)[ids[3]] == (1, 0.65, True)
        assert ws.scores(ids, MODEL, "margin")[ids[2]] == (0.2, 20.0)
        pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
        for place, one in enumerate(ids):
            assert np.array_equal(np.asarray(ws.image(one)), pixels[place]) and ws.thumb_path(one).is_file()
        assert ws.array("some-features")[5].tolist() == [10.0, 11.0]
        assert {(run.kind, run.state) for run in ws.runs()} == {
            ("generate", "done"),
            ("score", "interrupted"),
        }
        # What later formats keep beside it is there for old rows too: words, counters, the journal.
        assert ws.query(Filter(text="behind")) == ids[:1] == ws.query(Filter(text="odd"))
        assert ws.columns.mask(Filter(verdict="accepted")).tolist() == [True, True] + [False] * 4
        assert curation.undo(ws) is not None and curation.set_verdict(ws, ids[5:], "flagged")
    with Workspace(tmp_path / "new"):
        pass
    assert schema_of(folder) == schema_of(tmp_path / "new"), "there is one way to every schema"


def test_the_first_release_keeps_its_pins_sets_and_waiting_jobs(old):
    with Workspace(old(6)) as ws:
        ids = ws.query()
        assert [pin.id for pin in curation.pinned(ws)] == [ids[3]]
        (kept,) = curation.sets.every(ws)
        assert kept.ref == "first@1" and kept.n == 2
        assert curation.sets.content_hash(curation.sets.members(ws, kept.ref)) == kept.hash
        (job,) = JobRecords(ws.database).recover()
        assert (job.state, job.spec.task) == ("queued", "score")


def test_a_newer_workspace_is_refused_in_words_and_left_as_it_is(old):
    folder = old(6)
    with contextlib.closing(sqlite3.connect(folder / "longtail.sqlite")) as opened, opened:
        opened.execute("UPDATE schema_version SET version = ?", (SCHEMA_VERSION + 1,))
    before = schema_of(folder)
    with pytest.raises(WorkspaceError, match=r"newer version.*update this package"):
        Workspace(folder)
    assert version_of(folder) == SCHEMA_VERSION + 1 and schema_of(folder) == before


def test_a_migration_that_fails_leaves_the_workspace_as_it_was(old, monkeypatch: pytest.MonkeyPatch):
    folder = old(1)
    before = schema_of(folder)
    broken = (*database.MIGRATIONS[:-1], database.MIGRATIONS[-1] + "; INSERT INTO nothing VALUES (1)")
    monkeypatch.setattr(database, "MIGRATIONS", broken)
    with pytest.raises(WorkspaceError):
        Workspace(folder)
    assert version_of(folder) == 1 and schema_of(folder) == before
    monkeypatch.undo()
    with Workspace(folder) as ws:
        assert ws.count() == 6
