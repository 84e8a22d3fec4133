"""Queries of the workspace: by filter, by score, by id."""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterator, Sequence

from ltg_core.data.database import Database
from ltg_core.data.filters import where
from ltg_core.data.records import REAL, Filter, Prediction, Sample, Score
from ltg_core.errors import InputError

# CROSS JOIN is SQLite's way to fix the order of loops: without it the planner, which cannot know how long a
# JSON list is, walks a table of millions for each of its entries.
_SAMPLE = """
SELECT s.*, coalesce(v.verdict, 'undecided') AS verdict, coalesce(v.note, '') AS note, v.rating,
    (SELECT json_group_array(tag) FROM (SELECT tag FROM tags WHERE sample = s.seq ORDER BY tag)) AS tags
FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value LEFT JOIN verdicts v ON v.sample = s.seq
ORDER BY j.key
"""
_ALL = -1  # SQLite's "no limit"


def samples(database: Database, ids: Sequence[str]) -> list[Sample]:
    """Samples in the order of ``ids``."""
    rows = database.rows(_SAMPLE, (json.dumps(list(ids)),))
    if len(rows) != len(ids):
        _unknown(ids, [row["id"] for row in rows])
    return [_sample(row) for row in rows]


def there(database: Database, ids: Sequence[str]) -> list[Sample]:
    """Those samples that are there, in the order of ``ids``."""
    return [_sample(row) for row in database.rows(_SAMPLE, (json.dumps(list(ids)),))]


def image_files(database: Database, ids: Sequence[str]) -> list[tuple[str, str]]:
    """Image hash and file ending of each id, in order."""
    rows = database.rows(
        "SELECT s.id, s.image_hash, s.suffix FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value"
        " ORDER BY j.key",
        (json.dumps(list(ids)),),
    )
    if len(rows) != len(ids):
        _unknown(ids, [row["id"] for row in rows])
    return [(row["image_hash"], row["suffix"]) for row in rows]


def count(database: Database, chosen: Filter) -> int:
    """How many samples pass."""
    condition, values = where(chosen)
    row = database.row(f"SELECT count(*) FROM samples s {condition}", values)
    return int(row[0]) if row else 0


def check_page(limit: int | None, offset: int) -> None:
    """Refuse what is no page.

    Raises:
        InputError: A negative number.
    """
    if offset < 0 or (limit is not None and limit < 0):
        raise InputError(f"limit and offset cannot be negative; got {limit} and {offset}")


def query(database: Database, chosen: Filter, sort: str | None, limit: int | None, offset: int) -> list[str]:
    """Ids that pass, sorted; ``Workspace.query`` says how."""
    check_page(limit, offset)
    size = _ALL if limit is None else limit
    key = (sort or "").removeprefix("-")
    turned = (sort or "").startswith("-")
    condition, values = where(chosen)
    if key in ("", "id", "created"):
        falling = (key == "created") != turned
        column = {"": "s.seq", "id": "s.id", "created": "s.created"}[key]
        way = "DESC" if falling else "ASC"
        order = f"{column} {way}" if key != "created" else f"{column} {way}, s.seq {way}"
        rows = database.rows(f"SELECT s.id FROM samples s {condition} ORDER BY {order} LIMIT ? OFFSET ?",
                             [*values, size, offset])  # fmt: skip
        return [row[0] for row in rows]
    return _by_value(database, chosen, key, turned, size, offset)


def check_key(database: Database, model_hash: str | None, key: str) -> int:
    """The number of the classifier (for its confidence) or of the signal by which samples are to be sorted.

    Raises:
        InputError: There is none, or nothing says of which classifier.
    """
    if model_hash is None:
        raise InputError(f"sorting by {key!r} needs a classifier: give the filter's model_hash")
    if key == "confidence":
        owner = database.row("SELECT key FROM models WHERE hash = ?", (model_hash,))
    else:
        owner = _signal(database, model_hash, key)
    if owner is None:
        known = ", ".join(score_names(database, model_hash)) or "none"
        raise InputError(f"nothing was scored by {key!r} with this classifier; scored: {known}")
    return int(owner[0])


def _by_value(
    database: Database, chosen: Filter, key: str, turned: bool, size: int, offset: int
) -> list[str]:
    """Walk the index of values: the first page of a million samples costs a page. The unscored follow."""
    condition, values = where(chosen)
    owner = check_key(database, chosen.model_hash, key)
    table, column, match = ("scores", "value", "x.signal = ?")
    if key == "confidence":
        table, column, match = "predictions", "confidence", "x.model = ?"
    way = "ASC" if turned else "DESC"
    present = f"{match} AND x.{column} IS NOT NULL"
    # A few chosen samples are looked up; anything else follows the index of values until the page is full.
    few = chosen.ids is not None or chosen.tag is not None or chosen.verdict not in (None, "undecided")
    joined = f"samples s CROSS JOIN {table} x" if few else f"{table} x CROSS JOIN samples s"
    scored = f"FROM {joined} ON s.seq = x.sample {condition} AND {present}"
    rows = database.rows(
        f"SELECT s.id {scored} ORDER BY x.{column} {way}, x.sample LIMIT ? OFFSET ?",
        [*values, owner, size, offset],
    )
    found = [row[0] for row in rows]
    if size != _ALL and len(found) == size:
        return found
    skip = 0
    if not found and offset:
        total = database.row(f"SELECT count(*) {scored}", [*values, owner])
        skip = offset - int(total[0] if total else 0)
    rest = database.rows(
        f"SELECT s.id FROM samples s {condition} AND NOT EXISTS (SELECT 1 FROM {table} x WHERE {present}"
        f" AND x.sample = s.seq) ORDER BY s.seq LIMIT ? OFFSET ?",
        [*values, owner, size if size == _ALL else size - len(found), skip],
    )
    return found + [row[0] for row in rest]


def iterate(database: Database, chosen: Filter, chunk: int) -> Iterator[list[str]]:
    """Ids in chunks by keyset: no offset, so the last chunk costs what the first does."""
    condition, values = where(chosen)
    last = 0
    while True:
        rows = database.rows(
            f"SELECT s.seq, s.id FROM samples s {condition} AND s.seq > ? ORDER BY s.seq LIMIT ?",
            [*values, last, chunk],
        )
        if not rows:
            return
        last = rows[-1]["seq"]
        yield [row["id"] for row in rows]


def label_names(database: Database) -> list[str]:
    """Class names by index as the real samples give them; an index without one is named after its number."""
    known: dict[int, str | None] = {}
    for (number,) in database.rows("SELECT DISTINCT label FROM samples WHERE label >= 0"):
        named = (
            "SELECT label_name FROM samples WHERE label = ? AND origin = ? AND label_name IS NOT NULL LIMIT 1"
        )
        row = database.row(named, (number, REAL))
        known[int(number)] = row[0] if row else None
    return [known.get(i) or f"class {i}" for i in range(max(known, default=-1) + 1)]


def scores(database: Database, ids: Sequence[str], model_hash: str, name: str) -> dict[str, Score]:
    """Scores of those ids that have one."""
    rows = database.rows(
        "SELECT s.id, x.value, x.percentile FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value"
        " CROSS JOIN scores x ON x.sample = s.seq AND x.signal ="
        " (SELECT g.key FROM signals g JOIN models m ON m.key = g.model WHERE m.hash = ? AND g.name = ?)",
        (json.dumps(list(ids)), model_hash, name),
    )
    return {row[0]: Score(_number(row[1]), _number(row[2])) for row in rows}


def predictions(database: Database, ids: Sequence[str], model_hash: str) -> dict[str, Prediction]:
    """Predictions of those ids that have one."""
    rows = database.rows(
        "SELECT s.id, p.pred, p.confidence, s.label FROM json_each(?) j"
        " CROSS JOIN samples s ON s.id = j.value"
        " CROSS JOIN predictions p ON p.sample = s.seq AND p.model = (SELECT key FROM models WHERE hash = ?)",
        (json.dumps(list(ids)), model_hash),
    )
    return {r[0]: Prediction(r[1], _number(r[2]), None if r[3] is None else r[1] == r[3]) for r in rows}


def all_scores(database: Database, ids: Sequence[str]) -> dict[str, dict[str, dict[str, Score]]]:
    """Every score of those ids: sample id → model hash → signal → score."""
    found: dict[str, dict[str, dict[str, Score]]] = {}
    for row in database.rows(
        "SELECT s.id, m.hash, g.name, x.value, x.percentile FROM json_each(?) j"
        " CROSS JOIN samples s ON s.id = j.value"
        " CROSS JOIN signals g CROSS JOIN models m ON m.key = g.model"
        " CROSS JOIN scores x ON x.signal = g.key AND x.sample = s.seq",
        (json.dumps(list(ids)),),
    ):
        found.setdefault(row[0], {}).setdefault(row[1], {})[row[2]] = Score(_number(row[3]), _number(row[4]))
    return found


def all_predictions(database: Database, ids: Sequence[str]) -> dict[str, dict[str, Prediction]]:
    """Every prediction for those ids: sample id → model hash → prediction."""
    found: dict[str, dict[str, Prediction]] = {}
    for model in [row[0] for row in database.rows("SELECT hash FROM models ORDER BY key")]:
        for key, prediction in predictions(database, ids, model).items():
            found.setdefault(key, {})[model] = prediction
    return found


def protected_hashes(database: Database, splits: Sequence[str], hashes: Sequence[str]) -> dict[str, str]:
    """Those of the image hashes that real samples of these splits have, with the split."""
    rows = database.rows(
        "SELECT DISTINCT s.image_hash, s.split FROM json_each(?) j"
        " CROSS JOIN samples s ON s.image_hash = j.value"
        " WHERE s.origin = ? AND s.split IN (SELECT value FROM json_each(?))",
        (json.dumps(list(hashes)), REAL, json.dumps(list(splits))),
    )
    return {row[0]: row[1] for row in rows}


def score_names(database: Database, model_hash: str | None) -> list[str]:
    """Names of signals with scores."""
    rows = database.rows(
        "SELECT DISTINCT g.name FROM signals g JOIN models m ON m.key = g.model"
        " WHERE m.hash = coalesce(?, m.hash)"
        " AND EXISTS (SELECT 1 FROM scores x WHERE x.signal = g.key) ORDER BY g.name",
        (model_hash,),
    )
    return [row[0] for row in rows]


def model_key(connection: sqlite3.Connection, model_hash: str) -> int:
    """The number of a classifier inside the database; a new one is added."""
    connection.execute("INSERT OR IGNORE INTO models (hash) VALUES (?)", (model_hash,))
    return int(connection.execute("SELECT key FROM models WHERE hash = ?", (model_hash,)).fetchone()[0])


def signal_key(connection: sqlite3.Connection, model_hash: str, name: str) -> int:
    """The number of a classifier's signal inside the database; a new one is added."""
    model = model_key(connection, model_hash)
    connection.execute("INSERT OR IGNORE INTO signals (model, name) VALUES (?, ?)", (model, name))
    found = connection.execute(
        "SELECT key FROM signals WHERE model = ? AND name = ?", (model, name)
    ).fetchone()
    return int(found[0])


def _signal(database: Database, model_hash: str, name: str) -> sqlite3.Row | None:
    return database.row(
        "SELECT g.key FROM signals g JOIN models m ON m.key = g.model WHERE m.hash = ? AND g.name = ?",
        (model_hash, name),
    )


def _unknown(ids: Sequence[str], found: Sequence[str]) -> None:
    missing = sorted(set(ids) - set(found))
    shown = ", ".join(repr(str(i)[:40]) for i in missing[:3])
    raise InputError(f"{len(missing)} sample(s) are not in this workspace: {shown}")


def _sample(row: sqlite3.Row) -> Sample:
    return Sample(
        id=row["id"],
        image_hash=row["image_hash"],
        origin=row["origin"],
        split=row["split"],
        label=row["label"],
        label_name=row["label_name"],
        source=row["source"],
        caption=row["caption"],
        meta=json.loads(row["meta"]),
        verdict=row["verdict"],
        tags=tuple(json.loads(row["tags"])),
        rating=row["rating"],
        note=row["note"],
        belief=row["belief"],
        belief_reason=row["belief_reason"],
        created=row["created"],
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
