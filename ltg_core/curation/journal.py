"""The journal of curation: what was changed, from what to what, by whom; undo and redo of all of it.

Each action is one transaction together with its entry, so undo survives a restart. The journal belongs to the
workspace and is a line: undo takes back the last action, whoever did it, so it never overwrites a newer one.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

KEPT = 1000
"""Actions that can be undone; older ones are forgotten."""
SAMPLE_FIELDS = ("verdict", "rating", "note", "tags", "pin")
"""What is decided about a sample."""
SEVERAL = "several"
"""The field of an action that changed more than one: its values are by field."""
_DEFAULTS: dict[str, Any] = {"verdict": "undecided", "rating": None, "note": "", "tags": [], "pin": None}
_ROWS = {
    "sets": "UPDATE sets SET deleted = ?2 WHERE key = ?1",
    "reviews": "UPDATE reviews SET deleted = ?2 WHERE key = ?1",
    "answers": "UPDATE answers SET answer = ?2 WHERE key = ?1",
    "auxiliaries": "UPDATE auxiliaries SET decision = ?2 WHERE key = ?1",
}
_CLOCK = "curation_clock"
Values = Mapping[int, Any]
"""By the number of a row: of a sample, a set, a review, an answer or an auxiliary class."""


@dataclasses.dataclass(frozen=True)
class Action:
    """One entry of the journal.

    Attributes:
        id: Grows.
        description: In words.
        created: Seconds since 1970.
        undone: Whether it was taken back.
        author: Who did it, "" where nobody said.
        sample: Id of the sample, where it was a single one.
    """

    id: int
    description: str
    created: float
    undone: bool
    author: str
    sample: str | None


def clock(ws: Workspace) -> int:
    """Grows with every change of curation, also with undo and redo: what a page has seen, as one number."""
    return int(ws.get_state(_CLOCK, 0))


def record(
    connection: sqlite3.Connection,
    description: str,
    before: Mapping[str, Values],
    after: Mapping[str, Values],
    author: str = "",
) -> None:
    """Make a change and enter it; what could be redone until now is forgotten.

    Args:
        connection: Of a transaction that is open.
        description: In words, as ``undo`` will name it.
        before: Values by field and row.
        after: The same fields and rows.
        author: Who does it.
    """
    _apply(connection, after, author)
    fields = list(after)
    field = fields[0] if len(fields) == 1 else SEVERAL
    connection.execute("DELETE FROM actions WHERE undone = 1")
    connection.execute(
        "INSERT INTO actions (field, description, before, after, created, author) VALUES (?, ?, ?, ?, ?, ?)",
        (field, description, _pack(before), _pack(after), time.time(), author),
    )
    connection.execute("DELETE FROM actions WHERE id <= (SELECT max(id) FROM actions) - ?", (KEPT,))


def undo(ws: Workspace, to: int | None = None, author: str = "") -> str | None:
    """Take back the last action, or all back to and with the action ``to``.

    Returns:
        What was undone, None where there is nothing to undo.

    Raises:
        InputError: There is no action ``to`` that could be undone.
    """
    sql = "SELECT * FROM actions WHERE undone = 0 {} ORDER BY id DESC"
    return _walk(ws, sql.format("" if to is None else "AND id >= ?"), to, "before", 1, author)


def redo(ws: Workspace, to: int | None = None, author: str = "") -> str | None:
    """Repeat the action that was undone last, or all up to and with the action ``to``; as ``undo``.

    A new action after an undo ends what could be repeated.
    """
    sql = "SELECT * FROM actions WHERE undone = 1 {} ORDER BY id"
    return _walk(ws, sql.format("" if to is None else "AND id <= ?"), to, "after", 0, author)


def history(ws: Workspace, limit: int = 100) -> list[Action]:
    """What was done lately, the newest first, with what was taken back."""
    rows = ws.database.rows(
        "SELECT id, field, description, after, created, undone, author FROM actions ORDER BY id DESC LIMIT ?",
        (limit,),
    )
    single = {row["id"]: _single(row["field"], row["after"]) for row in rows}
    numbers = json.dumps([key for key in single.values() if key is not None])
    names = dict(
        tuple(row)
        for row in ws.database.rows(
            "SELECT seq, id FROM samples WHERE seq IN (SELECT value FROM json_each(?))", (numbers,)
        )
    )
    return [
        Action(
            row["id"],
            row["description"],
            row["created"],
            bool(row["undone"]),
            row["author"],
            names.get(single[row["id"]]),
        )
        for row in rows
    ]


def keys(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[int, str]:
    """Row numbers of samples, in order, with their ids.

    Raises:
        InputError: Some are not there.
    """
    wanted = list(dict.fromkeys(ids))
    found = known_keys(connection, wanted)
    if len(found) != len(wanted):
        gone = len(wanted) - len(found)
        raise InputError(
            f"{gone:,} of {len(wanted):,} samples are not in this workspace (any more); nothing was changed. "
            "Reload the page to see what is there"
        )
    return found


def known_keys(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[int, str]:
    """Row numbers of those samples that are there, with their ids, in order."""
    rows = connection.execute(
        "SELECT s.seq, s.id FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value ORDER BY j.key",
        (json.dumps(list(dict.fromkeys(ids))),),
    )
    return {row[0]: row[1] for row in rows}


def current(connection: sqlite3.Connection, field: str, rows: Sequence[int]) -> dict[int, Any]:
    """What is decided now, by row number of the sample."""
    values = dict.fromkeys(rows, _DEFAULTS[field])
    given = json.dumps(list(rows))
    if field == "pin":
        found = connection.execute(
            "SELECT sample, place, note FROM pins WHERE sample IN (SELECT value FROM json_each(?))", (given,)
        )
        return values | {row[0]: [row[1], row[2]] for row in found}
    if field == "tags":
        sql = (
            "SELECT sample, json_group_array(tag) FROM tags"
            " WHERE sample IN (SELECT value FROM json_each(?)) GROUP BY sample"
        )
        values.update({row[0]: sorted(json.loads(row[1])) for row in connection.execute(sql, (given,))})
    else:
        sql = f"SELECT sample, {field} FROM verdicts WHERE sample IN (SELECT value FROM json_each(?))"
        values.update({row[0]: row[1] for row in connection.execute(sql, (given,))})
    return values


def edited_since(
    connection: sqlite3.Connection, field: str, rows: Sequence[int], seen: int, author: str
) -> set[int]:
    """Samples whose field somebody else changed after the clock showed ``seen``."""
    found = connection.execute(
        "SELECT sample FROM edits WHERE sample IN (SELECT value FROM json_each(?)) AND field = ?"
        " AND stamp > ? AND author <> ?",
        (json.dumps(list(rows)), field, seen, author),
    )
    return {row[0] for row in found}


def _walk(ws: Workspace, choose: str, to: int | None, side: str, undone: int, author: str) -> str | None:
    with ws.database.write() as connection:
        if to is None:
            rows = connection.execute(choose + " LIMIT 1").fetchall()
        else:
            rows = connection.execute(choose, (to,)).fetchall()
            if to not in [row["id"] for row in rows]:
                raise InputError(
                    "this action is not in the history any more, or was taken back already; look again"
                )
        for row in rows:
            _apply(connection, _unpack(row["field"], row[side]), author)
            connection.execute("UPDATE actions SET undone = ? WHERE id = ?", (undone, row["id"]))
    if not rows:
        return None
    return str(rows[0]["description"]) if len(rows) == 1 else f"{len(rows):,} actions"


def _apply(connection: sqlite3.Connection, change: Mapping[str, Values], author: str) -> None:
    (stamp,) = connection.execute(
        "INSERT INTO state VALUES (?, '1') ON CONFLICT (key) DO UPDATE SET"
        " value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) RETURNING value",
        (_CLOCK,),
    ).fetchone()
    for field, values in change.items():
        if field in _ROWS:
            connection.executemany(_ROWS[field], list(values.items()))
            continue
        if field not in _DEFAULTS:
            raise InputError(f"the journal names {field!r}, which this version does not know")
        _set(connection, field, values)
        connection.executemany(
            "INSERT OR REPLACE INTO edits SELECT seq, ?2, ?3, ?4 FROM samples WHERE seq = ?1",
            [(key, field, int(stamp), author) for key in values],
        )


def _set(connection: sqlite3.Connection, field: str, values: Values) -> None:
    # A sample may have been removed since; its old actions must not bring a row back.
    if field == "tags":
        connection.executemany("DELETE FROM tags WHERE sample = ?", [(key,) for key in values])
        connection.executemany(
            "INSERT OR IGNORE INTO tags SELECT seq, ?2 FROM samples WHERE seq = ?1",
            [(key, one) for key, many in values.items() for one in many],
        )
        return
    if field == "pin":
        connection.executemany("DELETE FROM pins WHERE sample = ?", [(key,) for key in values])
        connection.executemany(
            "INSERT INTO pins SELECT seq, ?2, ?3 FROM samples WHERE seq = ?1",
            [(key, *value) for key, value in values.items() if value is not None],
        )
        return
    connection.executemany(
        f"INSERT INTO verdicts (sample, {field}) SELECT seq, ?2 FROM samples WHERE seq = ?1"
        f" ON CONFLICT (sample) DO UPDATE SET {field} = excluded.{field}",
        list(values.items()),
    )


def _pack(change: Mapping[str, Values]) -> str:
    lists = {field: [[key, value] for key, value in values.items()] for field, values in change.items()}
    return json.dumps(next(iter(lists.values())) if len(lists) == 1 else lists, ensure_ascii=False)


def _unpack(field: str, text: str) -> dict[str, Values]:
    read = json.loads(text)
    lists = read if field == SEVERAL else {field: read}
    return {name: {int(key): value for key, value in pairs} for name, pairs in lists.items()}


def _single(field: str, text: str) -> int | None:
    if field not in SAMPLE_FIELDS or len(text) > 50_000:
        return None
    pairs = json.loads(text)
    return int(pairs[0][0]) if len(pairs) == 1 else None
