"""Pinned cases: an order, notes, undo."""

from __future__ import annotations

import pytest

from ltg_core.curation import Pin, annotate, move, pin, pinned, redo, set_verdict, undo, unpin
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError


def ids_of(ws: Workspace) -> list[str]:
    return [one.id for one in pinned(ws)]


def test_cases_keep_their_order_and_can_be_moved(fitted: Workspace) -> None:
    a, b, c = fitted.query(limit=3)
    pin(fitted, [b])
    pin(fitted, [a, c, b])
    assert ids_of(fitted) == [b, a, c], "what was pinned stays where it is"
    move(fitted, c, -1)
    assert ids_of(fitted) == [b, c, a]
    move(fitted, a, 1)
    assert ids_of(fitted) == [b, c, a], "the last one cannot go further"
    unpin(fitted, [c])
    assert ids_of(fitted) == [b, a]


def test_notes_stay_with_their_case_and_everything_can_be_undone(fitted: Workspace) -> None:
    a, b = fitted.query(limit=2)
    pin(fitted, [a, b])
    annotate(fitted, a, "<b>hit</b>")
    move(fitted, a, 1)
    assert pinned(fitted) == [Pin(b, ""), Pin(a, "<b>hit</b>")]
    assert undo(fitted) == "moved a pinned sample" and ids_of(fitted) == [a, b]
    assert undo(fitted) == "wrote a note on a pinned sample" and pinned(fitted)[0].note == ""
    assert undo(fitted) == "pinned 2 samples" and pinned(fitted) == []
    for _ in range(3):
        redo(fitted)
    assert pinned(fitted) == [Pin(b, ""), Pin(a, "<b>hit</b>")]
    set_verdict(fitted, [a], "accepted")
    unpin(fitted, [a])
    undo(fitted)
    assert ids_of(fitted) == [b, a] and fitted.sample(a).verdict == "accepted"


def test_pins_survive_reopening(fitted: Workspace) -> None:
    one = fitted.query(limit=1)
    pin(fitted, one)
    with Workspace(fitted.path) as again:
        assert ids_of(again) == one


def test_what_cannot_be_is_refused_and_changes_nothing(fitted: Workspace) -> None:
    some = fitted.query(limit=61)
    with pytest.raises(InputError, match="at most 60"):
        pin(fitted, some)
    with pytest.raises(InputError, match="not in this workspace"):
        pin(fitted, [some[0], "nobody"])
    for wrong in (lambda: annotate(fitted, some[0], "x"), lambda: move(fitted, some[0], 1)):
        with pytest.raises(InputError, match="not pinned"):
            wrong()
    assert pinned(fitted) == []
    pin(fitted, some[:1])
    with pytest.raises(InputError, match="2,001 characters"):
        annotate(fitted, some[0], "x" * 2001)
