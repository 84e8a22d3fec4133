"""A ``Filter`` as SQL. Every value is bound, none is pasted into the statement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ltg_core.data.records import BELIEFS, REAL, VERDICTS, Filter
from ltg_core.errors import InputError

Clause = tuple[str, list[Any]]

_HAYSTACK = (
    "s.caption || char(10) || coalesce(s.label_name, '') || char(10) || s.source || char(10) || s.meta"
    " || char(10) || coalesce((SELECT v.note FROM verdicts v WHERE v.sample = s.seq), '') || char(10)"
    " || coalesce((SELECT group_concat(t.tag, char(10)) FROM tags t WHERE t.sample = s.seq), '')"
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
    if chosen.split is not None:
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
    parts: list[Clause] = []
    for word in text.split():
        pattern = word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        parts.append((f"{_HAYSTACK} LIKE ? ESCAPE '\\'", [f"%{pattern}%"]))
    return parts


def _meta(wanted: Mapping[str, Any]) -> list[Clause]:
    parts: list[Clause] = []
    for key, value in wanted.items():
        options = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
        tests, values = [], []
        for option in options:
            # A column can hold numbers in one sample and text in another; either spelling finds both.
            tests.append(f"m.value = ? OR {_META_TEXT} = ?")
            values += [option, _text(option)]
        sql = f"EXISTS (SELECT 1 FROM json_each(s.meta) m WHERE m.key = ? AND ({' OR '.join(tests) or '0'}))"
        parts.append((sql, [key, *values]))
    return parts


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
