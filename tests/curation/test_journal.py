"""The history: undo up to a point, two people at once, samples that vanish."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ltg_core import curation
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


def test_the_history_lists_what_was_done_and_goes_back_to_any_point(ws: Workspace, ids):
    curation.set_verdict(ws, ids[:1], "accepted", author="ada")
    curation.tag(ws, ids, add=["night"])
    curation.rate(ws, ids[1:2], 5)
    curation.note(ws, ids[2:3], "blurred")
    found = curation.history(ws)
    assert [one.description for one in found] == [
        "wrote a note on 1 sample",
        "rated 5 1 sample",
        "tagged night 5 samples",
        "accepted 1 sample",
    ]
    assert found[3].author == "ada" and found[3].sample == ids[0] and found[2].sample is None
    assert curation.undo(ws, to=found[2].id) == "3 actions"
    assert ws.tags() == [] and ws.sample(ids[1]).rating is None and ws.sample(ids[2]).note == ""
    assert ws.sample(ids[0]).verdict == "accepted"
    assert [one.undone for one in curation.history(ws)] == [True, True, True, False]
    with pytest.raises(InputError, match="taken back already"):
        curation.undo(ws, to=found[1].id)
    assert curation.redo(ws, to=found[1].id) == "2 actions"
    assert ws.tags() == ["night"] and ws.sample(ids[1]).rating == 5 and ws.sample(ids[2]).note == ""


def test_a_decision_does_not_overwrite_what_another_page_decided_since(ws: Workspace, ids):
    drawn = curation.clock(ws)  # both pages show the same
    first = curation.decide(ws, ids[:2], "verdict", "rejected", author="one", seen=drawn)
    assert set(first.changed) == set(ids[:2])
    second = curation.decide(ws, ids[1:4], "verdict", "accepted", author="two", seen=drawn)
    assert second.kept == (ids[1],) and set(second.changed) == {ids[2], ids[3]}
    assert second.description == "accepted 2 samples"
    assert [s.verdict for s in ws.samples(ids[:4])] == ["rejected", "rejected", "accepted", "accepted"]
    # having seen it, the second page may decide otherwise; its own earlier decisions never hinder it
    again = curation.decide(ws, ids[1:2], "verdict", "accepted", author="two", seen=curation.clock(ws))
    assert again.kept == () and ws.sample(ids[1]).verdict == "accepted"
    own = curation.decide(ws, ids[2:3], "verdict", "flagged", author="two", seen=drawn)
    assert own.changed == (ids[2],)


def test_fields_do_not_hinder_each_other_tags_merge_and_equal_decisions_agree(ws: Workspace, ids):
    drawn = curation.clock(ws)
    curation.decide(ws, ids[:1], "verdict", "accepted", author="one", seen=drawn)
    curation.decide(ws, ids[:1], "tag", "night", author="one", seen=drawn)
    done = [
        curation.decide(ws, ids[:1], "rate", 4, author="two", seen=drawn),
        curation.decide(ws, ids[:1], "tag", "fog", author="two", seen=drawn),
        curation.decide(ws, ids[:1], "verdict", "accepted", author="two", seen=drawn),
    ]
    assert all(one.kept == () for one in done)
    sample = ws.sample(ids[0])
    assert (sample.verdict, sample.rating, sample.tags) == ("accepted", 4, ("fog", "night"))


def test_an_undo_by_another_page_counts_as_its_change(ws: Workspace, ids):
    curation.decide(ws, ids[:1], "verdict", "accepted", author="one")
    drawn = curation.clock(ws)
    curation.undo(ws, author="two")
    assert curation.clock(ws) > drawn
    done = curation.decide(ws, ids[:1], "verdict", "rejected", author="one", seen=drawn)
    assert done.kept == (ids[0],) and ws.sample(ids[0]).verdict == "undecided"


def test_a_sample_that_another_process_deleted_is_told_and_undo_goes_on_without_it(ws: Workspace, ids):
    curation.set_verdict(ws, ids, "accepted")
    code = (
        "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as c:\n"
        "    c.execute('PRAGMA foreign_keys=ON')\n    c.execute('DELETE FROM samples WHERE id = ?', sys.argv[2:])"
    )
    subprocess.run([sys.executable, "-c", code, str(ws.path / "longtail.sqlite"), ids[0]], check=True)
    with pytest.raises(InputError, match="1 of 5 samples are not in this workspace"):
        curation.set_verdict(ws, ids, "rejected")
    assert ws.count(Filter(verdict="accepted")) == 4
    assert curation.undo(ws) == "accepted 5 samples" and ws.count(Filter(verdict="accepted")) == 0
    assert curation.redo(ws) and ws.count(Filter(verdict="accepted")) == 4


def test_a_workspace_of_the_first_version_keeps_its_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from ltg_core.data import database

    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", ())
        patch.setattr(database, "SCHEMA_VERSION", 1)
        with Workspace(tmp_path / "old") as ws:
            import numpy as np

            one = ws.add_image(np.zeros((4, 4, 3), np.uint8), origin="real")
            with ws.database.write() as connection:
                connection.execute("INSERT INTO verdicts (sample, verdict) VALUES (1, 'accepted')")
                connection.execute(
                    "INSERT INTO actions (field, description, before, after, created)"
                    " VALUES ('verdict', 'accepted 1 sample', '[[1, \"undecided\"]]', '[[1, \"accepted\"]]', 0)"
                )
    with Workspace(tmp_path / "old") as ws:
        assert curation.history(ws)[0].sample == one
        assert curation.undo(ws) == "accepted 1 sample" and ws.sample(one).verdict == "undecided"


def test_ratings_filter_by_at_least_and_by_none(ws: Workspace, ids):
    curation.rate(ws, ids[:1], 2)
    curation.rate(ws, ids[1:3], 4)
    assert ws.query(Filter(rating=2)) == ids[:3] and ws.query(Filter(rating=3)) == ids[1:3]
    assert ws.query(Filter(rating=0)) == ids[3:]
