"""Versioned sets: the hash of their content, differences, restoring and its undo."""

from __future__ import annotations

import hashlib

import pytest

from ltg_core import curation
from ltg_core.curation import sets
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


def accepted(ws: Workspace) -> set[str]:
    return set(ws.query(Filter(verdict="accepted")))


def test_the_hash_is_that_of_the_documented_lines_and_the_same_content_gives_the_same(ws: Workspace, ids):
    ws.set_label_names(["夜"])
    curation.set_verdict(ws, ids[:2], "accepted")
    curation.tag(ws, ids[:1], add=["b", "a"])
    first = sets.snapshot(ws, "night signs")
    lines = []
    for sample in sorted(ws.samples(ids[:2]), key=lambda one: one.id):
        tags = '["a","b"]' if sample.id == ids[0] else "[]"
        lines.append(f'["{sample.id}","{sample.image_hash}",null,"accepted",{tags}]')
    assert first.hash == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert (first.ref, first.n, first.scope) == ("night signs@1", 2, "accepted")
    assert sets.snapshot(ws, "night signs") == first, "nothing changed: no new version"
    curation.rate(ws, ids[:1], 5)
    assert sets.snapshot(ws, "other").hash == first.hash, "name, ratings and notes do not enter"
    curation.tag(ws, ids[1:2], add=["a"])
    second = sets.snapshot(ws, "night signs")
    assert second.version == 2 and second.hash != first.hash
    assert [one.ref for one in sets.every(ws)] == ["night signs@2", "other@1", "night signs@1"]
    assert sets.get(ws, "night signs") == second and sets.get(ws, "night signs@1") == first


def test_the_difference_names_what_came_went_and_changed(ws: Workspace, ids):
    curation.set_verdict(ws, ids[:3], "accepted")
    sets.snapshot(ws, "a")
    curation.set_verdict(ws, ids[:1], "rejected")
    curation.set_verdict(ws, ids[3:4], "accepted")
    curation.tag(ws, ids[1:2], add=["fog"])
    found = sets.difference(ws, "a")
    assert found.added == (ids[3],) and found.removed == (ids[0],) and found.same == 1
    assert found.changed == ((ids[1], "tags", "", "fog"),)
    sets.snapshot(ws, "b", ids[:4])
    both = sets.difference(ws, "a", "b")
    assert both.added == (ids[3],) and both.removed == ()
    assert set(both.changed) == {(ids[0], "verdict", "accepted", "rejected"), (ids[1], "tags", "", "fog")}
    with pytest.raises(InputError, match="not made of the accepted"):
        sets.difference(ws, "b", sets.NOW)


def test_restoring_sets_verdicts_and_tags_back_exactly_and_can_be_undone(ws: Workspace, ids):
    curation.set_verdict(ws, ids[:3], "accepted")
    curation.tag(ws, ids[:1], add=["night"])
    curation.rate(ws, ids[:1], 3)
    kept = sets.snapshot(ws, "good")
    curation.set_verdict(ws, ids[:2], "rejected")
    curation.set_verdict(ws, ids[3:], "accepted")
    curation.tag(ws, ids[:1], add=["late"], remove=["night"])
    before = [(s.verdict, s.tags, s.rating) for s in ws.samples(ids)]
    done = sets.restore(ws, "good")
    assert done.changed == 4 and done.gone == () and done.description in curation.history(ws)[0].description
    assert accepted(ws) == set(ids[:3]) and ws.sample(ids[0]).tags == ("night",)
    assert sets.snapshot(ws, "again").hash == kept.hash
    curation.undo(ws)  # the new set
    curation.undo(ws)  # the restoring
    assert [(s.verdict, s.tags, s.rating) for s in ws.samples(ids)] == before
    curation.redo(ws)
    assert accepted(ws) == set(ids[:3])


def test_restoring_a_set_of_chosen_samples_leaves_the_others_alone(ws: Workspace, ids):
    curation.set_verdict(ws, ids[:1], "rejected")
    sets.snapshot(ws, "looked at", ids[:2])
    curation.set_verdict(ws, ids, "accepted")
    assert sets.restore(ws, "looked at").changed == 2
    assert [s.verdict for s in ws.samples(ids)] == ["rejected", "undecided", *["accepted"] * 3]
    assert sets.restore(ws, "looked at").changed == 0


def test_deleting_a_set_is_undone_and_its_number_is_not_used_again(ws: Workspace, ids):
    sets.snapshot(ws, "a", ids[:1])
    assert sets.delete(ws, "a") == "deleted the set a@1"
    assert sets.every(ws) == []
    with pytest.raises(InputError, match="no set 'a'"):
        sets.get(ws, "a")
    curation.undo(ws)
    assert [one.ref for one in sets.every(ws)] == ["a@1"]
    curation.redo(ws)
    assert sets.snapshot(ws, "a", ids[1:2]).ref == "a@2"


def test_a_member_that_is_gone_is_named_and_the_rest_is_restored(ws: Workspace, ids):
    curation.set_verdict(ws, ids[:2], "accepted")
    sets.snapshot(ws, "a")
    curation.set_verdict(ws, ids[:2], "rejected")
    with ws.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (ids[0],))
    assert sets.restore(ws, "a").gone == (ids[0],) and accepted(ws) == {ids[1]}
    assert sets.difference(ws, "a").removed == (ids[0],)


def test_what_cannot_be_a_set_is_refused(ws: Workspace, ids):
    for name in ("", "  ", "a@1", "now", "x" * 101):
        with pytest.raises(InputError, match="a set's name"):
            sets.snapshot(ws, name, ids)
    with pytest.raises(InputError, match="no sample is accepted"):
        sets.snapshot(ws, "a")
    with pytest.raises(InputError, match="not in this workspace"):
        sets.snapshot(ws, "a", [*ids, "unknown"])
    for ref in ("b", "b@1", "a@x", "a@99999999999"):
        with pytest.raises(InputError, match="there is no set"):
            sets.restore(ws, ref)
    assert curation.history(ws) == []


def test_hostile_names_stay_what_they_are(ws: Workspace, ids):
    bad = '<img src=x onerror="alert(1)">${7*7}\u202e'
    made = sets.snapshot(ws, bad, ids[:1])
    assert made.name == bad and sets.get(ws, made.ref) == made
