"""Auxiliary classes of a workspace: proposed, then accepted, rejected or renamed by a person. Each is one action."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ltg_core.curation import journal
from ltg_core.data.records import Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

AUXILIARY = "auxiliary_of"
"""Metadata column: the class of the classifier beside which an image of another class stands."""
KEY = "auxiliary"
"""Metadata column: the number of the auxiliary class that an image is of, where it is one of those kept here."""
STATUSES = ("proposed", "accepted", "rejected")
RANDOM = "random"
"""The source of classes that are no neighbours: the control."""
_SHOWN = 3
_OF = "json_extract(meta, '$.auxiliary')"  # as the index has it


@dataclasses.dataclass(frozen=True)
class Auxiliary:
    """A class that stands beside one of the classifier's.

    Attributes:
        key: Its number.
        parent: The classifier's class.
        name: As it is called now.
        proposed: As it was proposed.
        source: "llm", "wordnet", "clusters", "hand" or "random".
        status: One of ``STATUSES``.
        relation: To its parent, in words.
        difference: What to tell them apart by.
        about: Anything else, JSON values.
        images: Images of it.
    """

    key: int
    parent: str
    name: str
    proposed: str
    source: str
    status: str
    relation: str
    difference: str
    about: dict[str, Any]
    images: int

    @property
    def control(self) -> bool:
        """Whether it is of the random control."""
        return self.source == RANDOM


def add(ws: Workspace, found: Iterable[Mapping[str, Any]], *, author: str = "") -> list[int]:
    """Keep new classes; what is there already stays as it is.

    Args:
        ws: The workspace.
        found: Each with ``parent``, ``name``, ``source`` and, if it has them, ``relation``, ``difference``, ``about``
            and ``status``.
        author: Who does it; what is not only proposed is an action of the journal.

    Returns:
        Numbers of those that are new.
    """
    new, decided = [], {}
    with ws.database.write() as connection:
        for one in found:
            about = {key: one.get(key) for key in ("relation", "difference") if one.get(key)}
            about |= dict(one.get("about") or {})
            key = connection.execute(
                "INSERT OR IGNORE INTO auxiliaries (parent, proposed, source, about, decision, created)"
                " VALUES (?, ?, ?, ?, ?, ?) RETURNING key",
                (one["parent"], one["name"], one["source"], json.dumps(about, ensure_ascii=False),
                 _decision("proposed", one["name"]), time.time()),
            ).fetchone()  # fmt: skip
            if key is not None:
                new.append(int(key[0]))
                if one.get("status", "proposed") != "proposed":
                    decided[new[-1]] = (one["status"], one["name"])
        if decided:
            before = {key: _decision("proposed", name) for key, (_, name) in decided.items()}
            after = {key: _decision(status, name) for key, (status, name) in decided.items()}
            journal.record(
                connection,
                f"added {_classes(len(decided))}",
                {"auxiliaries": before},
                {"auxiliaries": after},
                author,
            )
    return new


def every(ws: Workspace) -> list[Auxiliary]:
    """All of them, by parent, the oldest first."""
    rows = ws.database.rows(
        f"SELECT a.*, (SELECT count(*) FROM samples WHERE {_OF} = a.key) AS images FROM auxiliaries a"
        " ORDER BY a.parent, a.key"
    )
    return [_one(row) for row in rows]


def images_of(ws: Workspace, key: int, limit: int = -1) -> list[str]:
    """Ids of the images of one of them, the oldest first; ``limit`` below 0 for all."""
    rows = ws.database.rows(f"SELECT id FROM samples WHERE {_OF} = ? ORDER BY seq LIMIT ?", (key, limit))
    return [row[0] for row in rows]


def decide(ws: Workspace, keys: Sequence[int], status: str, *, author: str = "") -> str:
    """Accept or reject classes, or put them back to "proposed"; the images of a rejected one are not learned from.

    Returns:
        What was done, in words.

    Raises:
        InputError: An unknown number or status.
    """
    if status not in STATUSES:
        raise InputError(f"there is no decision {status!r}; known: {', '.join(STATUSES)}")
    verb = {"accepted": "accepted", "rejected": "rejected", "proposed": "put back"}[status]
    return _change(ws, keys, verb, lambda old: {**old, "status": status}, author)


def rename(ws: Workspace, key: int, name: str, *, author: str = "") -> str:
    """Give a class another name; its images go with it. The name is checked by the caller.

    Raises:
        InputError: An unknown number, or a name that another class has.
    """
    taken = next((one for one in every(ws) if one.name == name and one.key != key), None)
    if taken is not None:
        raise InputError(
            f"{name!r} is the name of number {taken.key}, which stands beside {taken.parent!r}; give another"
        )
    return _change(ws, [key], "renamed", lambda old: {**old, "name": name}, author, f" to {name!r}")


def resolved(ws: Workspace, samples: Sequence[Sample], which: str) -> list[Sample]:
    """Images of auxiliary classes under their present names, without those of classes that were not accepted.

    Args:
        ws: The workspace.
        samples: Images with ``AUXILIARY`` in their metadata. Those that name no class of this table (``KEY``) count as
            neighbours and keep the class that they have.
        which: "neighbours", "random" (the control) or "none".
    """
    if which == "none":
        return []
    known = {one.key: one for one in every(ws)}
    found = []
    for sample in samples:
        key = sample.meta.get(KEY)
        if key is None:
            if which == "neighbours":
                found.append(sample)
            continue
        one = known.get(key) if isinstance(key, int) else None
        if one is not None and one.status == "accepted" and one.control == (which == RANDOM):
            meta = {**sample.meta, AUXILIARY: one.parent}
            found.append(dataclasses.replace(sample, label=None, label_name=one.name, meta=meta))
    return found


def _change(
    ws: Workspace, keys: Sequence[int], verb: str, change: Any, author: str, after_that: str = ""
) -> str:
    wanted = list(dict.fromkeys(int(key) for key in keys))
    with ws.database.write() as connection:
        rows = {
            row["key"]: row["decision"]
            for row in connection.execute(
                "SELECT key, decision FROM auxiliaries WHERE key IN (SELECT value FROM json_each(?))",
                (json.dumps(wanted),),
            )
        }
        if not wanted or len(rows) != len(wanted):
            missing = [key for key in wanted if key not in rows]
            raise InputError(
                f"there is no auxiliary class number {missing[0] if missing else ''}; 'extend list' shows them"
            )
        before = {key: rows[key] for key in wanted}
        after = {key: json.dumps(change(json.loads(rows[key])), ensure_ascii=False) for key in wanted}
        names = [json.loads(text)["name"] for text in before.values()]
        shown = ", ".join(names[:_SHOWN]) + (
            f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        )
        words = f"{verb} {_classes(len(names))} ({shown}){after_that}"
        if before != after:
            journal.record(connection, words, {"auxiliaries": before}, {"auxiliaries": after}, author)
    return words


def _classes(n: int) -> str:
    return f"{n:,} auxiliary class{'' if n == 1 else 'es'}"


def _decision(status: str, name: str) -> str:
    return json.dumps({"status": status, "name": name}, ensure_ascii=False)


def _one(row: sqlite3.Row) -> Auxiliary:
    about, decision = json.loads(row["about"]), json.loads(row["decision"])
    return Auxiliary(
        row["key"], row["parent"], decision["name"], row["proposed"], row["source"], decision["status"],
        str(about.pop("relation", "")), str(about.pop("difference", "")), about, int(row["images"]),
    )  # fmt: skip
