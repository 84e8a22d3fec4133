"""Verdicts, tags, ratings and notes.

Each action is one transaction together with its journal entry, so undo survives a restart.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ltg_core.data.records import VERDICTS
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

_KEPT_ACTIONS = 1000  # older ones can no longer be undone
_MAX_TAG = 100
_DEFAULTS: dict[str, Any] = {"verdict": "undecided", "rating": None, "note": "", "tags": []}


def set_verdict(ws: Workspace, ids: Sequence[str], verdict: str) -> str:
    """Accept, reject, flag or release samples.

    Args:
        ws: The workspace.
        ids: Sample ids; nothing is changed when one is not known.
        verdict: "accepted", "rejected", "flagged" or "undecided".

    Returns:
        What was done, in words, as ``undo`` will name it.

    Raises:
        InputError: An unknown verdict or sample.
    """
    if verdict not in VERDICTS:
        raise InputError(f"there is no verdict {verdict!r}; known: {', '.join(VERDICTS)}")
    return _act(ws, ids, "verdict", f"{verdict} {_samples(ids)}", lambda _: verdict)


def tag(ws: Workspace, ids: Sequence[str], add: Iterable[str] = (), remove: Iterable[str] = ()) -> str:
    """Add and remove tags; returns what was done.

    Raises:
        InputError: A tag that is empty or longer than 100 characters, or an unknown sample.
    """
    added, removed = _tags(add), _tags(remove)
    parts = [f"tagged {', '.join(sorted(added))}"] if added else []
    parts += [f"untagged {', '.join(sorted(removed))}"] if removed else []
    description = f"{' and '.join(parts) or 'left the tags of'} {_samples(ids)}"
    return _act(ws, ids, "tags", description, lambda old: sorted((set(old) | added) - removed))


def rate(ws: Workspace, ids: Sequence[str], rating: int | None) -> str:
    """Give 1 to 5 stars, or None to take them back; returns what was done.

    Raises:
        InputError: Another number, or an unknown sample.
    """
    if rating is not None and (isinstance(rating, bool) or rating not in (1, 2, 3, 4, 5)):
        raise InputError(f"a rating is a whole number from 1 to 5, got {rating!r}")
    stars = None if rating is None else int(rating)
    description = f"rated {stars} {_samples(ids)}" if stars else f"took the rating of {_samples(ids)}"
    return _act(ws, ids, "rating", description, lambda _: stars)


def note(ws: Workspace, ids: Sequence[str], text: str) -> str:
    """Write a note (an empty one removes it); returns what was done.

    Raises:
        InputError: An unknown sample, or more than 10,000 characters.
    """
    if len(text) > 10_000:
        raise InputError(f"the note has {len(text)} characters; the limit is 10,000")
    return _act(ws, ids, "note", f"wrote a note on {_samples(ids)}", lambda _: text)


def undo(ws: Workspace) -> str | None:
    """Take back the last action; returns what was undone, None where there is nothing."""
    return _step(ws, "SELECT * FROM actions WHERE undone = 0 ORDER BY id DESC LIMIT 1", "before", 1)


def redo(ws: Workspace) -> str | None:
    """Repeat the action that was undone last; returns what was repeated, None where there is nothing.

    A new action after an undo ends what could be repeated.
    """
    return _step(ws, "SELECT * FROM actions WHERE undone = 1 ORDER BY id LIMIT 1", "after", 0)


def _act(
    ws: Workspace, ids: Sequence[str], field: str, description: str, change: Callable[[Any], Any]
) -> str:
    with ws.database.write() as connection:
        keys = _keys(connection, ids)
        before = _current(connection, field, keys)
        after = {key: change(value) for key, value in before.items()}
        changed = [key for key in before if before[key] != after[key]]
        if not changed:
            return description
        _set(connection, field, {key: after[key] for key in changed})
        connection.execute("DELETE FROM actions WHERE undone = 1")
        connection.execute(
            "INSERT INTO actions (field, description, before, after, created) VALUES (?, ?, ?, ?, ?)",
            (field, description, _pack(before, changed), _pack(after, changed), time.time()),
        )
        connection.execute(
            "DELETE FROM actions WHERE id <= (SELECT max(id) FROM actions) - ?", (_KEPT_ACTIONS,)
        )
    return description


def _step(ws: Workspace, choose: str, side: str, undone: int) -> str | None:
    with ws.database.write() as connection:
        action = connection.execute(choose).fetchone()
        if action is None:
            return None
        values = {int(key): value for key, value in json.loads(action[side])}
        _set(connection, action["field"], values)
        connection.execute("UPDATE actions SET undone = ? WHERE id = ?", (undone, action["id"]))
    return str(action["description"])


def _keys(connection: sqlite3.Connection, ids: Sequence[str]) -> list[int]:
    wanted = list(dict.fromkeys(ids))
    rows = connection.execute(
        "SELECT s.seq FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value ORDER BY j.key",
        (json.dumps(wanted),),
    ).fetchall()
    if len(rows) != len(wanted):
        raise InputError(f"{len(wanted) - len(rows)} of {len(wanted)} samples are not in this workspace")
    return [row[0] for row in rows]


def _current(connection: sqlite3.Connection, field: str, keys: Sequence[int]) -> dict[int, Any]:
    values = dict.fromkeys(keys, _DEFAULTS[field])
    given = json.dumps(list(keys))
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


def _set(connection: sqlite3.Connection, field: str, values: Mapping[int, Any]) -> None:
    # A sample may have been removed since; its old actions must not bring a row back.
    if field == "tags":
        connection.executemany("DELETE FROM tags WHERE sample = ?", [(key,) for key in values])
        connection.executemany(
            "INSERT OR IGNORE INTO tags SELECT seq, ?2 FROM samples WHERE seq = ?1",
            [(key, one) for key, many in values.items() for one in many],
        )
        return
    if field not in _DEFAULTS:
        raise InputError(f"the journal names {field!r}, which this version does not know")
    connection.executemany(
        f"INSERT INTO verdicts (sample, {field}) SELECT seq, ?2 FROM samples WHERE seq = ?1"
        f" ON CONFLICT (sample) DO UPDATE SET {field} = excluded.{field}",
        list(values.items()),
    )


def _pack(values: Mapping[int, Any], keys: Sequence[int]) -> str:
    return json.dumps([[key, values[key]] for key in keys], ensure_ascii=False)


def _tags(given: Iterable[str]) -> set[str]:
    found = {" ".join(one.split()) for one in ([given] if isinstance(given, str) else given)}
    if any(not one or len(one) > _MAX_TAG for one in found):
        raise InputError(f"a tag has 1 to {_MAX_TAG} characters")
    return found


def _samples(ids: Sequence[str]) -> str:
    number = len(set(ids))
    return f"{number:,} sample{'s' if number != 1 else ''}"
