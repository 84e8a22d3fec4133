"""A ``Filter`` as SQL. Every value is bound, none is pasted into the statement."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ltg_core.data.records import BELIEFS, REAL, VERDICTS, Filter, Range
from ltg_core.errors import InputError

Clause = tuple[str, list[Any]]

_HAYSTACK = (
    "s.caption || char(10) || coalesce(s.label_name, '') || char(10) || s.source || char(10) || s.meta"
    " || char(10) || coalesce((SELECT v.note FROM verdicts v WHERE v.sample = s.seq), '') || char(10)"
    " || coalesce((SELECT group_concat(t.tag, char(10)) FROM tags t WHERE t.sample = s.seq), '')"
)
_TERM = re.compile(r'"([^"]*)"?|(\S+)')
# Scripts without spaces between words: their text is one long token to the index, so it is searched as it is.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]"
)
# JSON knows true and false where SQL has 1 and 0; a page sends everything as text.
_META_TEXT = "CASE m.type WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE CAST(m.value AS TEXT) END"


def where(chosen: Filter) -> Clause:
    """The conditions on ``samples s``, starting with WHERE, and their values.

    Raises:
        InputError: An unknown verdict, or a filter on predictions without a classifier.
    """
    parts = [
        *_plain(chosen),
        *_curated(chosen),
        *_predicted(chosen),
        *_words(chosen.text),
        *_meta(chosen.meta),
    ]
    if chosen.ids is not None:
        parts.append(("s.id IN (SELECT value FROM json_each(?))", [json.dumps(list(chosen.ids))]))
    if not parts:
        return "WHERE 1", []
    return "WHERE " + " AND ".join(f"({sql})" for sql, _ in parts), [v for _, values in parts for v in values]


def _plain(chosen: Filter) -> list[Clause]:
    parts: list[Clause] = []
    if isinstance(chosen.split, tuple):
        parts.append(("s.split IN (SELECT value FROM json_each(?))", [json.dumps(chosen.split)]))
    elif chosen.split is not None:
        parts.append(("s.split = ?", [chosen.split]))
    if chosen.label is not None:
        parts.append(("s.label = ?", [int(chosen.label)]))
    if chosen.origin == "generated":
        parts.append(("s.origin <> ?", [REAL]))
    elif chosen.origin is not None:
        parts.append(("s.origin = ?", [chosen.origin]))
    if chosen.believed is not None:
        parts.append(("s.belief = ?", [BELIEFS[0] if chosen.believed else BELIEFS[1]]))
    return parts


def _curated(chosen: Filter) -> list[Clause]:
    parts: list[Clause] = []
    if chosen.verdict is not None:
        if chosen.verdict not in VERDICTS:
            raise InputError(f"there is no verdict {chosen.verdict!r}; known: {', '.join(VERDICTS)}")
        if chosen.verdict == "undecided":
            parts.append(("s.seq NOT IN (SELECT sample FROM verdicts WHERE verdict <> 'undecided')", []))
        else:
            parts.append(("s.seq IN (SELECT sample FROM verdicts WHERE verdict = ?)", [chosen.verdict]))
    if chosen.tag is not None:
        parts.append(("s.seq IN (SELECT sample FROM tags WHERE tag = ?)", [chosen.tag]))
    if chosen.rating is not None:
        rated = "IN (SELECT sample FROM verdicts WHERE rating >= ?)"
        if chosen.rating:
            parts.append((f"s.seq {rated}", [int(chosen.rating)]))
        else:
            parts.append((f"s.seq NOT {rated}", [1]))
    return parts


def _predicted(chosen: Filter) -> list[Clause]:
    conditions, values = [], []
    if chosen.prediction is not None:
        conditions.append("p.pred = ?")
        values.append(int(chosen.prediction))
    if chosen.correct is not None:
        conditions.append("p.pred = s.label" if chosen.correct else "p.pred <> s.label")
    if not conditions:
        return []
    if chosen.model_hash is None:
        raise InputError("a filter on predictions needs a classifier: give model_hash")
    sql = (
        "EXISTS (SELECT 1 FROM predictions p WHERE p.model = (SELECT key FROM models WHERE hash = ?) "
        f"AND p.sample = s.seq AND {' AND '.join(conditions)})"
    )
    return [(sql, [chosen.model_hash, *values])]


def _words(text: str) -> list[Clause]:
    """Words by their beginning and quoted phrases, all of which must occur, found through the index.

    What holds no letter or digit, and scripts that set no spaces, are looked for letter by letter. Nothing that is
    written here is an operator of the index: each term is one quoted string.
    """
    indexed: list[str] = []
    parts: list[Clause] = []
    for quoted, word in _TERM.findall(_plain_text(text)):
        term = quoted or word
        if not term.strip():
            continue
        if any(map(str.isalnum, term)) and not _UNSPACED.search(term):
            indexed.append('"' + term.replace('"', '""') + ('"' if quoted else '" *'))
            continue
        pattern = term.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        parts.append((f"{_HAYSTACK} LIKE ? ESCAPE '\\'", [f"%{pattern}%"]))
    if indexed:
        sql = "s.seq IN (SELECT w.rowid FROM words w WHERE w.words MATCH ?)"
        parts.insert(0, (sql, [" AND ".join(indexed)]))
    return parts


def _plain_text(text: str) -> str:
    """Without control characters, which would end the index's query, and halves of characters."""
    clean = "".join(" " if not letter.isprintable() else letter for letter in text)
    return clean.encode("utf-8", "replace").decode("utf-8")


def _meta(wanted: Mapping[str, Any]) -> list[Clause]:
    parts: list[Clause] = []
    for key, value in wanted.items():
        options = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        tests: list[str] = []
        values: list[Any] = []
        for option in options:
            if isinstance(option, Range):
                tests.append("m.type IN ('integer', 'real') AND m.value >= ? AND m.value < ?")
                values += [option.low, option.high]
                continue
            # A column can hold numbers in one sample and text in another; either spelling finds both. SQLite writes
            # fewer digits of a number than a page does, so the number itself is compared as well.
            tests.append(f"m.value = ? OR {_META_TEXT} = ? OR m.type IN ('integer', 'real') AND m.value = ?")
            values += [option, _text(option), number(option)]
        sql = f"EXISTS (SELECT 1 FROM json_each(s.meta) m WHERE m.key = ? AND ({' OR '.join(tests) or '0'}))"
        parts.append((sql, [key, *values]))
    return parts


def number(value: Any) -> float | None:
    """What a text says as a number; None where it says none."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if abs(found) < float("inf") else None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
