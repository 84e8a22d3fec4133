"""Verdicts, tags, ratings, notes and their undo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ltg_core import curation
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


def test_a_verdict_is_set_found_undone_and_repeated(ws: Workspace, ids):
    assert curation.set_verdict(ws, ids[:2], "accepted") == "accepted 2 samples"
    assert ws.query(Filter(verdict="accepted")) == ids[:2]
    assert curation.set_verdict(ws, ids[1:3], "rejected") == "rejected 2 samples"
    assert ws.query(Filter(verdict="rejected")) == ids[1:3]
    assert curation.undo(ws) == "rejected 2 samples"
    assert [s.verdict for s in ws.samples(ids[:3])] == ["accepted", "accepted", "undecided"]
    assert curation.redo(ws) == "rejected 2 samples"
    assert [s.verdict for s in ws.samples(ids[:3])] == ["accepted", "rejected", "rejected"]
    assert curation.redo(ws) is None
    assert [curation.undo(ws), curation.undo(ws), curation.undo(ws)] == [
        "rejected 2 samples",
        "accepted 2 samples",
        None,
    ]
    assert ws.count(Filter(verdict="undecided")) == 5


def test_undo_survives_a_restart(tmp_path: Path):
    with Workspace(tmp_path / "ws") as ws:
        id = ws.add_image(np.zeros((4, 4, 3), dtype=np.uint8), origin="real")
        curation.set_verdict(ws, [id], "flagged")
        curation.note(ws, [id], "look again")
        curation.undo(ws)
    with Workspace(tmp_path / "ws") as ws:
        assert curation.redo(ws) == "wrote a note on 1 sample"
        assert ws.sample(id).note == "look again" and ws.query(Filter(text="look")) == [id]
        curation.undo(ws)
        assert curation.undo(ws) == "flagged 1 sample"
        sample = ws.sample(id)
        assert (sample.verdict, sample.note) == ("undecided", "")


def test_a_new_action_ends_what_could_be_repeated(ws: Workspace, ids):
    curation.set_verdict(ws, ids, "accepted")
    curation.undo(ws)
    curation.rate(ws, ids[:1], 4)
    assert curation.redo(ws) is None
    assert [ws.sample(ids[0]).verdict, ws.sample(ids[0]).rating] == ["undecided", 4]
    assert curation.rate(ws, ids[:1], None) == "took the rating of 1 sample"
    assert ws.sample(ids[0]).rating is None


def test_tags_are_added_removed_and_undone(ws: Workspace, ids):
    curation.tag(ws, ids[:2], add=["night", " two  words "])
    assert ws.sample(ids[0]).tags == ("night", "two words") and ws.tags() == ["night", "two words"]
    curation.tag(ws, ids[:1], add=["<b>"], remove=["night"])
    assert ws.sample(ids[0]).tags == ("<b>", "two words")
    assert ws.query(Filter(tag="night")) == [ids[1]] and ws.query(Filter(text="words")) == ids[:2]
    curation.undo(ws)
    assert ws.sample(ids[0]).tags == ("night", "two words")
    curation.undo(ws)
    assert ws.tags() == []


def test_an_action_that_changes_nothing_is_not_journaled(ws: Workspace, ids):
    curation.set_verdict(ws, ids, "accepted")
    curation.set_verdict(ws, ids[:3], "accepted")
    curation.undo(ws)
    assert ws.count(Filter(verdict="accepted")) == 0


def test_a_wrong_value_or_sample_changes_nothing(ws: Workspace, ids):
    for wrong in (
        lambda: curation.set_verdict(ws, ids, "fine"),
        lambda: curation.set_verdict(ws, [*ids, "unknown"], "accepted"),
        lambda: curation.rate(ws, ids, 6),
        lambda: curation.rate(ws, ids, True),
        lambda: curation.tag(ws, ids, add=["  "]),
        lambda: curation.tag(ws, ids, add=["x" * 101]),
        lambda: curation.note(ws, ids, "x" * 10_001),
    ):
        with pytest.raises(InputError):
            wrong()
    assert ws.count(Filter(verdict="undecided")) == 5 and curation.undo(ws) is None


def test_each_field_keeps_the_others(ws: Workspace, ids):
    curation.rate(ws, ids[:1], 3)
    curation.set_verdict(ws, ids[:1], "accepted")
    curation.note(ws, ids[:1], "n")
    sample = ws.sample(ids[0])
    assert (sample.verdict, sample.rating, sample.note) == ("accepted", 3, "n")
