"""Versioned sets: what was chosen, under a name, with a hash of its content; differences, restoring.

The content hash of a set is SHA-256 over one line for each sample, sorted by sample id and joined by line ends, UTF-8.
A line is the JSON list ``[sample id, image hash, class, verdict, [tags, sorted]]`` without spaces, other characters
than ASCII written as they are. Name, date, ratings and notes do not enter: the same content gives the same hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ltg_core.curation import journal
from ltg_core.curation.verdicts import clean, samples
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

ACCEPTED = "accepted"
"""Scope of a set of all accepted samples; restoring it releases those that were accepted since."""
CHOSEN = "chosen"
"""Scope of any other set; restoring it changes its own samples only."""
NOW = "now"
"""In the place of a set: what is accepted now."""
_MAX_NAME = 100
_CHUNK = 1000


@dataclasses.dataclass(frozen=True)
class Member:
    """One sample as it was when the set was made."""

    sample: str
    image_hash: str
    class_name: str | None
    verdict: str
    tags: tuple[str, ...]

    @property
    def line(self) -> str:
        """Its line of the content hash."""
        values = [self.sample, self.image_hash, self.class_name, self.verdict, sorted(self.tags)]
        return json.dumps(values, ensure_ascii=False, separators=(",", ":"))


@dataclasses.dataclass(frozen=True)
class SampleSet:
    """A version of a set.

    Attributes:
        ref: ``name@version``, as commands take it.
        name: As it was given.
        version: From 1.
        hash: Of its content, 64 hex digits; the module says of what.
        n: Samples.
        classes: Samples by class name, the most first.
        scope: ``ACCEPTED`` or ``CHOSEN``.
        created: Seconds since 1970.
    """

    name: str
    version: int
    hash: str
    n: int
    classes: dict[str, int]
    scope: str
    created: float

    @property
    def ref(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


@dataclasses.dataclass(frozen=True)
class Difference:
    """From one set to another.

    Attributes:
        added: Ids that only the second has.
        removed: Ids that only the first has.
        changed: (id, "class", "verdict" or "tags", value before, value after).
        same: Samples that are equal in both.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[tuple[str, str, str, str], ...]
    same: int


@dataclasses.dataclass(frozen=True)
class Restored:
    """What restoring did: the action in words, samples that differ now, members that are gone from the workspace."""

    description: str
    changed: int
    gone: tuple[str, ...]


def content_hash(members: Iterable[Member]) -> str:
    """The hash of a set's content; the module says how."""
    lines = sorted((member.sample, member.line) for member in members)
    return hashlib.sha256("\n".join(line for _, line in lines).encode("utf-8", "replace")).hexdigest()


def snapshot(ws: Workspace, name: str, ids: Sequence[str] | None = None, *, author: str = "") -> SampleSet:
    """Keep samples, with their classes, verdicts and tags, as the next version of a set.

    Args:
        ws: The workspace.
        name: Of the set; a name that is known gets a new version, unless nothing changed since the last one.
        ids: The samples; None for all that are accepted.
        author: Who does it.

    Raises:
        InputError: A name that is empty, too long or holds "@", no samples, or an unknown one.
    """
    name = _checked(name)
    chosen = ws.query(Filter(verdict="accepted")) if ids is None else list(dict.fromkeys(ids))
    if not chosen:
        raise InputError("no sample is accepted yet; accept some, or choose the samples of the set")
    members = _members(ws, chosen)
    digest = content_hash(members)
    scope = ACCEPTED if ids is None else CHOSEN
    with ws.database.write() as connection:
        last = connection.execute(
            "SELECT * FROM sets WHERE name = ? AND deleted = 0 ORDER BY version DESC LIMIT 1", (name,)
        ).fetchone()
        if last is not None and (last["hash"], last["scope"]) == (digest, scope):
            return _set(last)
        (version,) = connection.execute(
            "SELECT coalesce(max(version), 0) + 1 FROM sets WHERE name = ?", (name,)
        ).fetchone()
        classes = Counter(member.class_name or "no label" for member in members)
        values = (
            name,
            version,
            digest,
            len(members),
            json.dumps(dict(classes.most_common())),
            scope,
            time.time(),
        )
        key = connection.execute(
            "INSERT INTO sets (name, version, hash, n, classes, scope, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        ).lastrowid
        assert key is not None
        connection.executemany(
            "INSERT INTO members VALUES (?, ?, ?, ?, ?, ?)",
            [(key, m.sample, m.image_hash, m.class_name, m.verdict, json.dumps(m.tags)) for m in members],
        )
        words = f"kept {samples(len(members))} as {name}@{version}"
        journal.record(connection, words, {"sets": {key: 1}}, {"sets": {key: 0}}, author)
        return _set(connection.execute("SELECT * FROM sets WHERE key = ?", (key,)).fetchone())


def every(ws: Workspace) -> list[SampleSet]:
    """All sets, the newest first."""
    return [_set(row) for row in ws.database.rows("SELECT * FROM sets WHERE deleted = 0 ORDER BY key DESC")]


def get(ws: Workspace, ref: str) -> SampleSet:
    """A set by ``name@version``, or the last version of ``name``.

    Raises:
        InputError: There is none; names those that there are.
    """
    return _set(_row(ws, ref))


def members(ws: Workspace, ref: str) -> list[Member]:
    """The samples of a set as they were, sorted by id; of ``NOW`` those that are accepted now."""
    if ref == NOW:
        return sorted(_members(ws, ws.query(Filter(verdict="accepted"))), key=lambda member: member.sample)
    rows = ws.database.rows("SELECT * FROM members WHERE owner = ? ORDER BY sample", (_row(ws, ref)["key"],))
    return [_member(row) for row in rows]


def delete(ws: Workspace, ref: str, *, author: str = "") -> str:
    """Take a set away; the samples stay as they are. Returns what was done; ``undo`` brings it back."""
    row = _row(ws, ref)
    description = f"deleted the set {row['name']}@{row['version']}"
    with ws.database.write() as connection:
        key = row["key"]
        journal.record(connection, description, {"sets": {key: 0}}, {"sets": {key: 1}}, author)
    return description


def difference(ws: Workspace, first: str, second: str = NOW) -> Difference:
    """What the second set has more, less and otherwise than the first.

    Args:
        ws: The workspace.
        first: A set, or ``NOW``.
        second: The same.
    """
    if NOW in (first, second):
        _compare_accepted(ws, second if first == NOW else first)
    old, new = ({m.sample: m for m in members(ws, ref)} for ref in (first, second))
    changed = []
    for sample in sorted(old.keys() & new.keys()):
        a, b = old[sample], new[sample]
        for field, before, after in (
            ("class", a.class_name or "no label", b.class_name or "no label"),
            ("verdict", a.verdict, b.verdict),
            ("tags", ", ".join(a.tags), ", ".join(b.tags)),
        ):
            if before != after:
                changed.append((sample, field, before, after))
    return Difference(
        tuple(sorted(new.keys() - old.keys())),
        tuple(sorted(old.keys() - new.keys())),
        tuple(changed),
        len(old.keys() & new.keys()) - len({sample for sample, *_ in changed}),
    )


def restore(ws: Workspace, ref: str, *, author: str = "") -> Restored:
    """Set verdicts and tags of a set's samples back to what they were, as one action that can be undone.

    Of a set of all accepted samples, those that were accepted since become undecided, so that exactly the set is
    accepted. Ratings, notes and classes stay as they are, and so do samples that are gone from the workspace.
    """
    row, wanted = _row(ws, ref), {member.sample: member for member in members(ws, ref)}
    name = f"{row['name']}@{row['version']}"
    with ws.database.write() as connection:
        ids = list(wanted)
        if row["scope"] == ACCEPTED:
            ids += [one for one in ws.query(Filter(verdict="accepted")) if one not in wanted]
        names = journal.known_keys(connection, ids)
        before, after = {}, {}
        for field in ("verdict", "tags"):
            now = journal.current(connection, field, list(names))
            then = {key: _then(wanted.get(id), field, now[key]) for key, id in names.items()}
            differ = [key for key in names if now[key] != then[key]]
            if differ:
                before[field] = {key: now[key] for key in differ}
                after[field] = {key: then[key] for key in differ}
        changed = len({key for values in after.values() for key in values})
        description = f"restored the set {name}: changed {samples(changed)}"
        if after:
            journal.record(connection, description, before, after, author)
    there = set(names.values())
    return Restored(description, changed, tuple(sample for sample in wanted if sample not in there))


def _then(member: Member | None, field: str, now: Any) -> Any:
    if member is None:
        return "undecided" if field == "verdict" else now
    return member.verdict if field == "verdict" else sorted(member.tags)


def _compare_accepted(ws: Workspace, ref: str) -> None:
    if ref != NOW and _row(ws, ref)["scope"] != ACCEPTED:
        raise InputError(
            f"the set {ref!r} was not made of the accepted samples, so it cannot be compared with them; compare it "
            "with another set"
        )


def _members(ws: Workspace, ids: Sequence[str]) -> list[Member]:
    found = []
    for start in range(0, len(ids), _CHUNK):
        for sample in ws.samples(ids[start : start + _CHUNK]):
            name = sample.label_name or (None if sample.label is None else f"class {sample.label}")
            found.append(Member(sample.id, sample.image_hash, name, sample.verdict, sample.tags))
    return found


def _row(ws: Workspace, ref: str) -> sqlite3.Row:
    name, _, version = ref.rpartition("@") if "@" in ref else (ref, "", "")
    number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None
    sql = "SELECT * FROM sets WHERE name = ? AND deleted = 0 AND version = coalesce(?, version)"
    row = ws.database.row(f"{sql} ORDER BY version DESC LIMIT 1", (name, number))
    if row is None or (version and number is None):
        known = ", ".join(one.ref for one in every(ws)[:10]) or "none yet"
        raise InputError(f"there is no set {ref[:120]!r}; there are: {known}")
    return row


def _checked(name: str) -> str:
    name = " ".join(clean(name).split())
    if not name or len(name) > _MAX_NAME or "@" in name or name == NOW:
        raise InputError(
            f"a set's name has 1 to {_MAX_NAME} characters, no @ and is not {NOW!r}; got {name[:120]!r}"
        )
    return name


def _set(row: sqlite3.Row) -> SampleSet:
    classes = json.loads(row["classes"])
    return SampleSet(
        row["name"], row["version"], row["hash"], row["n"], classes, row["scope"], row["created"]
    )


def _member(row: sqlite3.Row) -> Member:
    return Member(
        row["sample"], row["image_hash"], row["class_name"], row["verdict"], tuple(json.loads(row["tags"]))
    )
