"""Verdicts, tags, ratings and notes, each as one action of the journal.

Two people, or two tabs of one, may decide on the same samples. An action that says what it was based on (``seen``, the
clock of the journal when its page was drawn) leaves those samples as they are that somebody else has changed since,
and names them in ``Done.kept``: no decision is overwritten unseen. Tags are added and taken singly; they never clash.
"""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ltg_core.curation import journal
from ltg_core.curation.journal import redo, undo
from ltg_core.data.records import VERDICTS
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

__all__ = ["Done", "decide", "note", "rate", "redo", "set_verdict", "tag", "undo"]

MAX_TAG = 100
MAX_NOTE = 10_000


@dataclasses.dataclass(frozen=True)
class Done:
    """What an action did.

    Attributes:
        description: In words, as ``undo`` will name it.
        changed: Ids of the samples that are not what they were.
        kept: Ids of the samples that somebody else had changed meanwhile; they were left alone.
    """

    description: str
    changed: tuple[str, ...]
    kept: tuple[str, ...] = ()


def set_verdict(ws: Workspace, ids: Sequence[str], verdict: str, *, author: str = "") -> str:
    """Accept, reject, flag or release samples.

    Args:
        ws: The workspace.
        ids: Sample ids; nothing is changed when one is not known.
        verdict: "accepted", "rejected", "flagged" or "undecided".
        author: Who decides.

    Returns:
        What was done, in words, as ``undo`` will name it.

    Raises:
        InputError: An unknown verdict or sample.
    """
    return decide(ws, ids, "verdict", verdict, author=author).description


def tag(ws: Workspace, ids: Sequence[str], add: Iterable[str] = (), remove: Iterable[str] = ()) -> str:
    """Add and remove tags; returns what was done.

    Raises:
        InputError: A tag that is empty or longer than 100 characters, or an unknown sample.
    """
    added, removed = _tags(add), _tags(remove)
    return _tag(ws, ids, added, removed, "").description


def rate(ws: Workspace, ids: Sequence[str], rating: int | None) -> str:
    """Give 1 to 5 stars, or None to take them back; returns what was done.

    Raises:
        InputError: Another number, or an unknown sample.
    """
    return decide(ws, ids, "rate", rating).description


def note(ws: Workspace, ids: Sequence[str], text: str) -> str:
    """Write a note (an empty one removes it); returns what was done.

    Raises:
        InputError: An unknown sample, or more than 10,000 characters.
    """
    return decide(ws, ids, "note", text).description


def decide(
    ws: Workspace, ids: Sequence[str], action: str, value: Any, *, author: str = "", seen: int | None = None
) -> Done:
    """One action on samples.

    Args:
        ws: The workspace.
        ids: Sample ids; nothing is changed when one is not known.
        action: "verdict", "rate" (0 or None takes the stars back), "note", "tag" or "untag" (one tag or several).
        value: What is decided.
        author: Who decides.
        seen: The journal's clock when what the decision is based on was read; None to overwrite whatever is there.

    Raises:
        InputError: An unknown action, value or sample.
    """
    if action in ("tag", "untag"):
        tags = _tags([value] if isinstance(value, str) else value)
        return _tag(ws, ids, tags if action == "tag" else set(), tags if action == "untag" else set(), author)
    if action == "verdict":
        if value not in VERDICTS:
            raise InputError(f"there is no verdict {value!r}; known: {', '.join(VERDICTS)}")
        return _act(ws, ids, "verdict", lambda n: f"{value} {n}", lambda _: value, author, seen)
    if action == "rate":
        stars = _stars(value)
        words = f"rated {stars}" if stars else "took the rating of"
        return _act(ws, ids, "rating", lambda n: f"{words} {n}", lambda _: stars, author, seen)
    if action == "note":
        if not isinstance(value, str) or len(value) > MAX_NOTE:
            size = len(value) if isinstance(value, str) else 0
            raise InputError(f"the note has {size:,} characters; the limit is {MAX_NOTE:,}")
        text = clean(value)
        return _act(ws, ids, "note", lambda n: f"wrote a note on {n}", lambda _: text, author, seen)
    raise InputError(f"there is no action {action!r}; known: verdict, rate, note, tag, untag")


def act(ws: Workspace, ids: Sequence[str], field: str, description: str, change: Callable[[Any], Any]) -> str:
    """Change one field of samples in one transaction with its journal entry; returns the description."""
    return _act(ws, ids, field, lambda _: description, change, "", None).description


def _tag(ws: Workspace, ids: Sequence[str], added: set[str], removed: set[str], author: str) -> Done:
    parts = [f"tagged {', '.join(sorted(added))}"] if added else []
    parts += [f"untagged {', '.join(sorted(removed))}"] if removed else []
    words = f"{' and '.join(parts) or 'left the tags of'}"
    return _act(
        ws,
        ids,
        "tags",
        lambda n: f"{words} {n}",
        lambda old: sorted((set(old) | added) - removed),
        author,
        None,
    )


def _act(
    ws: Workspace,
    ids: Sequence[str],
    field: str,
    describe: Callable[[str], str],
    change: Callable[[Any], Any],
    author: str,
    seen: int | None,
) -> Done:
    with ws.database.write() as connection:
        names = journal.keys(connection, ids)
        before = journal.current(connection, field, list(names))
        after = {key: change(value) for key, value in before.items()}
        differ = [key for key in before if before[key] != after[key]]
        taken = set() if seen is None else journal.edited_since(connection, field, differ, int(seen), author)
        changed = [key for key in differ if key not in taken]
        description = describe(samples(len(names) - len(taken)))
        if changed:
            journal.record(
                connection,
                description,
                {field: {key: before[key] for key in changed}},
                {field: {key: after[key] for key in changed}},
                author,
            )
    return Done(description, tuple(names[k] for k in changed), tuple(names[k] for k in differ if k in taken))


def _stars(value: Any) -> int | None:
    if value is None or (value == 0 and not isinstance(value, bool)):
        return None
    if isinstance(value, bool) or value not in (1, 2, 3, 4, 5):
        raise InputError(f"a rating is a whole number from 0 to 5 (0 for none), got {value!r}")
    return int(value)


def _tags(given: Iterable[str]) -> set[str]:
    found = {" ".join(clean(str(one)).split()) for one in ([given] if isinstance(given, str) else given)}
    if any(not one or len(one) > MAX_TAG for one in found):
        raise InputError(f"a tag has 1 to {MAX_TAG} characters")
    return found


def clean(text: str) -> str:
    """Without what no text file and no database can hold: control characters (but for tab and line end), half pairs."""
    kept = "".join(
        c if c in "\t\n" or unicodedata.category(c) != "Cc" else " " for c in text.replace("\r\n", "\n")
    )
    return kept.encode("utf-8", "replace").decode("utf-8")


def samples(number: int) -> str:
    """ "1 sample", "2 samples"."""
    return f"{number:,} sample{'s' if number != 1 else ''}"
