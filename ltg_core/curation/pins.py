"""Pinned samples: the cases that a report tells of, in an order, each with a note. Undo as for verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ltg_core.curation.verdicts import act
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

_MOST = 60
_LONGEST = 2000


class Pin(NamedTuple):
    """One case.

    Attributes:
        id: Of the sample.
        note: What somebody wrote about it.
    """

    id: str
    note: str


def pinned(ws: Workspace) -> list[Pin]:
    """All cases in their order."""
    rows = ws.database.rows(
        "SELECT s.id, p.note FROM pins p JOIN samples s ON s.seq = p.sample ORDER BY place, s.seq"
    )
    return [Pin(row[0], row[1]) for row in rows]


def pin(ws: Workspace, ids: Sequence[str]) -> str:
    """Pin samples behind those that are pinned; returns what was done.

    Raises:
        InputError: An unknown sample, or more cases than a report can tell of.
    """
    there = [one.id for one in pinned(ws)]
    new = [one for one in dict.fromkeys(ids) if one not in there]
    if len(there) + len(new) > _MOST:
        raise InputError(f"{len(there)} samples are pinned; a report holds at most {_MOST}: unpin some first")
    with ws.database.write():
        last = ws.database.row("SELECT coalesce(max(place), 0) FROM pins")
        places = iter(range((last[0] if last else 0) + 1, _MOST * 10**6))
        return act(ws, ids, "pin", f"pinned {_samples(ids)}", lambda old: old or [next(places), ""])


def unpin(ws: Workspace, ids: Sequence[str]) -> str:
    """Take pins away; returns what was done.

    Raises:
        InputError: An unknown sample.
    """
    return act(ws, ids, "pin", f"unpinned {_samples(ids)}", lambda _: None)


def annotate(ws: Workspace, id: str, text: str) -> str:
    """Write what the report says about a pinned sample; returns what was done.

    Raises:
        InputError: It is not pinned, or the text is too long.
    """
    if len(text) > _LONGEST:
        raise InputError(f"the note has {len(text):,} characters; the limit is {_LONGEST:,}")
    _position(ws, id)
    return act(ws, [id], "pin", "wrote a note on a pinned sample", lambda old: [old[0], text])


def move(ws: Workspace, id: str, by: int) -> str:
    """Move a pinned sample up (negative) or down; at the end it stays. Returns what was done.

    Raises:
        InputError: It is not pinned.
    """
    order = [one.id for one in pinned(ws)]
    place = _position(ws, id)
    order.insert(min(len(order) - 1, max(0, place + by)), order.pop(place))
    numbers = iter(range(1, len(order) + 1))
    with ws.database.write():
        return act(ws, order, "pin", "moved a pinned sample", lambda old: [next(numbers), old[1]])


def _position(ws: Workspace, id: str) -> int:
    order = [one.id for one in pinned(ws)]
    if id not in order:
        raise InputError("this sample is not pinned")
    return order.index(id)


def _samples(ids: Sequence[str]) -> str:
    number = len(set(ids))
    return f"{number:,} sample{'s' if number != 1 else ''}"
