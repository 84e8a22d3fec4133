"""Changes of the workspace's rows: samples, labels, scores, predictions. Each is one transaction."""

from __future__ import annotations

import itertools
import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ltg_core.data import reading
from ltg_core.data.classes import match_names
from ltg_core.data.database import Database
from ltg_core.data.images import content_hash
from ltg_core.data.records import BELIEFS, REAL, NewSample, StoredImage
from ltg_core.data.runs import dump
from ltg_core.errors import InputError

# What makes two samples of one run different even where their pixels agree, such as a guided image at
# weight 0 and its control.
_IDENTITY_META = ("control", "source", "prompt", "seed")
_ROWS = 200  # of four values each: SQLite takes 999 in one statement everywhere
_INSERT = (
    "INSERT INTO samples (id, image_hash, suffix, origin, split, label, label_name, source, caption, meta,"
    " belief, belief_reason, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (id) DO NOTHING"
)


def insert(database: Database, batch: Sequence[tuple[NewSample, StoredImage]]) -> tuple[list[str], int]:
    """Add samples whose files are stored; returns their ids and how many were not there before."""
    now = time.time()
    check_beliefs(new.belief for new, _ in batch)
    rows = [_row(new, stored, now) for new, stored in batch]
    with database.write() as connection:
        cursor = connection.executemany(_INSERT, rows)
        _add_columns(database, (new.meta for new, _ in batch))
    return [row[0] for row in rows], cursor.rowcount


def set_belief(database: Database, values: Mapping[str, tuple[str | None, str | None]]) -> None:
    """Record believed or quarantined, and why, by sample id."""
    check_beliefs(belief for belief, _ in values.values())
    with database.write() as connection:
        connection.executemany(
            "UPDATE samples SET belief = ?, belief_reason = ? WHERE id = ?",
            [(belief, reason, i) for i, (belief, reason) in values.items()],
        )


def merge_meta(database: Database, values: Mapping[str, Mapping[str, Any]]) -> None:
    """Add metadata columns by sample id."""
    with database.write() as connection:
        samples = reading.samples(database, list(values))
        connection.executemany(
            "UPDATE samples SET meta = ? WHERE id = ?",
            [(_text(dump({**s.meta, **values[s.id]})), s.id) for s in samples],
        )
        _add_columns(database, values.values())


def set_label_names(database: Database, names: Sequence[str]) -> dict[str, str]:
    """Give every sample with a label name the index of that name, or none; ``Workspace.set_label_names`` says more."""
    if len(set(names)) != len(names):
        raise InputError("two classes have the same name")
    with database.write() as connection:
        rows = database.rows("SELECT DISTINCT label_name FROM samples WHERE label_name IS NOT NULL")
        read_as = match_names([row[0] for row in rows], names).read_as
        _rename_labels(database, read_as)
        connection.execute("CREATE TEMP TABLE numbered (name TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID")
        connection.executemany("INSERT INTO numbered VALUES (?, ?)", [(n, i) for i, n in enumerate(names)])
        number = "(SELECT number FROM numbered WHERE name = label_name)"
        connection.execute(
            f"UPDATE samples SET label = {number} WHERE label_name IS NOT NULL AND label IS NOT {number}"
        )
        connection.execute("DROP TABLE numbered")
        put_state(database, "label_names", list(names))
    return read_as


def _rename_labels(database: Database, read_as: Mapping[str, str]) -> None:
    """Label names in the classifier's spelling; what the data said stays in the metadata."""
    if not read_as:
        return
    first = "coalesce(json_extract(meta, '$.given_label'), label_name)"
    with database.write() as connection:
        connection.executemany(
            f"UPDATE samples SET meta = json_set(meta, '$.given_label', {first}), label_name = ? WHERE label_name = ?",
            [(label, name) for name, label in read_as.items()],
        )
        _add_columns(database, [{"given_label": ""}])


def set_scores(
    database: Database, model_hash: str, name: str, values: Mapping[str, tuple[float, float]]
) -> None:
    """Record one signal of one classifier; ``values`` by sample id."""
    pairs = list(values.values())
    set_signals(database, model_hash, list(values), {name: ([v for v, _ in pairs], [p for _, p in pairs])})


def set_signals(
    database: Database,
    model_hash: str,
    ids: Sequence[str],
    values: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Record several signals of one classifier in one transaction; ``Workspace.set_signals`` says more."""
    with database.write() as connection:
        places = _places(connection, ids)
        for name, (numbers, percentiles) in values.items():
            key = itertools.repeat(reading.signal_key(connection, model_hash, name))
            _replace(connection, "scores", key, places, _numbers(numbers), _numbers(percentiles))


def set_predictions(database: Database, model_hash: str, values: Mapping[str, Sequence[Any]]) -> None:
    """Record the predictions of one classifier."""
    found = values.values()
    with database.write() as connection:
        model = itertools.repeat(reading.model_key(connection, model_hash))
        chosen = [int(value[0]) for value in found]
        places = _places(connection, list(values))
        _replace(connection, "predictions", model, places, chosen, _numbers([value[1] for value in found]))


def _places(connection: sqlite3.Connection, ids: Sequence[str]) -> list[int | None]:
    """The number of each sample inside the database, None for one that is not there."""
    found: dict[str, int] = dict(
        connection.execute(
            "SELECT s.id, s.seq FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value",
            (json.dumps(list(ids)),),
        ).fetchall()
    )
    return [found.get(sample) for sample in ids]


def _replace(
    connection: sqlite3.Connection,
    table: str,
    key: Iterable[int],
    places: Sequence[int | None],
    *columns: Sequence[float | None],
) -> None:
    """Write columns into a table, many rows a statement: most of what a row costs is its statement."""
    rows: Iterator[tuple[Any, ...]] = zip(key, places, *columns, strict=False)  # the key repeats for ever
    if None in places:
        rows = (row for row in rows if row[1] is not None)
    one = f"({', '.join('?' * (2 + len(columns)))})"
    while part := list(itertools.islice(rows, _ROWS)):
        many = ", ".join([one] * len(part))
        flat = list(itertools.chain.from_iterable(part))
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES {many}", flat)


def put_state(database: Database, key: str, value: Any) -> None:
    """Keep a small JSON value."""
    with database.write() as connection:
        connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (key, dump(value)))


def check_beliefs(beliefs: Iterable[str | None]) -> None:
    """Raise InputError at a belief of another name."""
    for belief in beliefs:
        if belief is not None and belief not in BELIEFS:
            raise InputError(f"there is no belief {belief!r}; known: {', '.join(BELIEFS)}")


def merge_columns(database: Database, names: Sequence[str]) -> None:
    """Make metadata columns known that were written past ``insert`` and ``merge_meta``."""
    _add_columns(database, [dict.fromkeys(names)])


def _add_columns(database: Database, metas: Iterable[Mapping[str, Any]]) -> None:
    columns = {_text(str(key)) for meta in metas for key in meta}
    with database.write() as connection:
        connection.executemany("INSERT OR IGNORE INTO meta_columns VALUES (?)", [(c,) for c in columns])


def _row(new: NewSample, stored: StoredImage, now: float) -> tuple[Any, ...]:
    split, source = _text(new.split or ""), _text(new.source)
    marks = {key: new.meta[key] for key in _IDENTITY_META if key in new.meta} if new.origin != REAL else {}
    identity = "\n".join((stored.hash, new.origin, split, source, _text(dump(marks))))
    return (
        content_hash(identity.encode())[:20],
        stored.hash,
        stored.suffix,
        new.origin,
        split,
        None if new.label is None else int(new.label),
        None if new.label_name is None else _text(new.label_name),
        source,
        _text(new.caption),
        _text(dump(dict(new.meta))),
        new.belief,
        new.belief_reason,
        now,
    )


def _text(value: str) -> str:
    """File names may hold bytes that are no text; the database takes text only."""
    return value.encode("utf-8", "replace").decode("utf-8")


def _numbers(values: Sequence[float]) -> list[float | None]:
    """SQLite has no NaN; infinities stay, they sort where they should."""
    return [float(value) if value == value else None for value in values]
