"""What the points of a map are: their columns, by which they are coloured, and their neighbours among real samples."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.data.records import REAL, VERDICTS, Filter
from ltg_core.data.workspace import Workspace
from ltg_core.embedding.colouring import Colouring, by_name, by_number, by_value
from ltg_core.embedding.density import Density, density
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.mapping import map_coordinates
from ltg_core.workflows.store import FeatureStore

COLOURS = ("class", "prediction", "correct", "origin", "run", "split", "verdict", "belief", "confidence")
"""What points can be coloured by, beside "signal:<name>" and "meta:<column>"."""
_SQL = """
SELECT j.key, s.label, s.label_name, s.origin, s.split, coalesce(s.belief, ''), coalesce(v.verdict, 'undecided'),
    p.pred, p.confidence
FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value LEFT JOIN verdicts v ON v.sample = s.seq
LEFT JOIN predictions p ON p.sample = s.seq AND p.model = (SELECT key FROM models WHERE hash = ?)
"""
_SCORES = """
SELECT j.key, x.percentile FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value
JOIN scores x ON x.sample = s.seq
    AND x.signal = (SELECT key FROM signals WHERE model = (SELECT key FROM models WHERE hash = ?) AND name = ?)
"""
_META = """
SELECT j.key, m.type, m.value FROM json_each(?) j CROSS JOIN samples s ON s.id = j.value, json_each(s.meta) m
WHERE m.key = ?
"""


@dataclasses.dataclass(frozen=True, eq=False)
class MapTable:
    """The last map as arrays of one length; samples that are gone are left out.

    Attributes:
        run: Id of the run that made it.
        ids: (N,) of the samples.
        coords: (N, 2) float32.
        generated: (N,) bool.
        label: (N,) position of the class in ``names``.
        pred: (N,) position of the predicted class in ``names``; ``len(names)`` where there is none.
        names: Class names, also those that the classifier does not know, and "no label".
        density: Of the real samples.
    """

    run: str
    ids: list[str]
    coords: np.ndarray
    generated: np.ndarray
    label: np.ndarray
    pred: np.ndarray
    names: list[str]
    density: Density | None


def map_table(ws: Workspace) -> MapTable | None:
    """The last map, None where there is none."""
    record = ws.get_state("map")
    ids, coords = map_coordinates(ws)
    if record is None or coords is None:
        return None
    rows = _rows(ws, ids, record["model_hash"])
    there = np.array(sorted(rows), dtype=np.int64)
    labels = ws.label_names()
    words = [_class(rows[key], labels) for key in there.tolist()]
    names = list(dict.fromkeys([*labels, *sorted(set(words) - set(labels))]))
    place = {name: i for i, name in enumerate(names)}
    pred = [_index(rows[key][7], len(labels), len(names)) for key in there.tolist()]
    generated = np.array([rows[key][3] != REAL for key in there.tolist()], dtype=bool)
    kept = coords[there] if len(there) else coords[:0]
    real = kept[~generated].astype(np.float64)
    return MapTable(
        run=record["run"],
        ids=[ids[key] for key in there.tolist()],
        coords=kept,
        generated=generated,
        label=np.array([place[word] for word in words], dtype=np.int64),
        pred=np.array(pred, dtype=np.int64),
        names=names,
        density=density(real[:, 0], real[:, 1]) if len(real) else None,
    )


def map_colouring(ws: Workspace, ids: Sequence[str], by: str) -> Colouring:
    """A colour for each of these samples.

    Args:
        ws: The workspace.
        ids: Samples that are there.
        by: One of ``COLOURS``, "signal:<name>" (the percentile among held-out real data) or "meta:<column>".

    Raises:
        InputError: An unknown way of colouring.
    """
    record = ws.get_state("map") or {}
    model = str(record.get("model_hash", ""))
    kind, _, rest = by.partition(":")
    if kind in ("signal", "meta"):
        sql, values = (_SCORES, [model, rest]) if kind == "signal" else (_META, [rest])
        found: list[Any] = [None] * len(ids)
        for row in ws.database.rows(sql, [json.dumps(list(ids)), *values]):
            found[row[0]] = row[1] if kind == "signal" else _meta(row[1], row[2])
        return by_number(found, 0.0, 100.0) if kind == "signal" else by_value(found)
    if by not in COLOURS:
        raise InputError(
            f"points cannot be coloured by {by!r}; known: {', '.join(COLOURS)}, signal:<name>, meta:<column>"
        )
    rows = _rows(ws, ids, model)
    labels = ws.label_names()
    given = [_value(by, rows.get(key), labels) for key in range(len(ids))]
    if by == "confidence":
        return by_number(given, 0.0, 1.0)
    order = {
        "class": labels,
        "prediction": labels,
        "correct": ("right", "wrong"),
        "origin": (REAL, "generated"),
        "run": (REAL,),
        "verdict": VERDICTS,
        "belief": (REAL, "believed", "quarantined"),
    }.get(by, ())
    return by_name(given, order)


def nearest_real(
    ws: Workspace, classifier: Classifier, sample_id: str, count: int = 8
) -> list[tuple[str, float]]:
    """The real samples whose features are nearest, nearest first, each with its distance; never the sample itself.

    All real samples that have features are looked at, in parts; those that have none are left out.

    Raises:
        InputError: The sample has no features yet; score it.
    """
    store = FeatureStore(ws, classifier)
    own = store.features([sample_id])[0]
    best: list[tuple[float, str]] = []
    real = ws.query(Filter(origin=REAL))
    missing = set(store.missing(real))
    known = [sample for sample in real if sample not in missing and sample != sample_id]
    for part, out in store.batches(known, size=16_384):
        away = np.linalg.norm(out.features.numpy() - own, axis=1)
        few = np.argpartition(away, min(count, len(away)) - 1)[:count]
        best = sorted([*best, *((float(away[i]), part[i]) for i in few.tolist())])[:count]
    return [(sample, distance) for distance, sample in best]


def _rows(ws: Workspace, ids: Sequence[str], model_hash: str) -> dict[int, Any]:
    """Plain columns by position in ``ids``."""
    return {row[0]: row for row in ws.database.rows(_SQL, (json.dumps(list(ids)), model_hash))}


def _class(row: Any, labels: Sequence[str]) -> str:
    if row[2]:
        return str(row[2])
    return labels[row[1]] if row[1] is not None and 0 <= row[1] < len(labels) else "no label"


def _index(pred: int | None, known: int, none: int) -> int:
    return pred if pred is not None and 0 <= pred < known else none


def _value(by: str, row: Any, labels: Sequence[str]) -> Any:
    """One value; None where there is none."""
    if row is None:
        return None
    _, label, _, origin, split, belief, verdict, pred, confidence = row
    if by == "class":
        return _class(row, labels)
    if by == "prediction":
        return labels[pred] if pred is not None and 0 <= pred < len(labels) else None
    if by == "correct":
        return None if pred is None or label is None else "right" if pred == label else "wrong"
    if by == "confidence":
        return None if confidence is None or math.isnan(confidence) else confidence
    plain = {
        "origin": REAL if origin == REAL else "generated",
        "run": origin,
        "split": split or None,
        "belief": belief or (REAL if origin == REAL else None),
        "verdict": verdict,
    }
    return plain[by]


def _meta(kind: str, value: Any) -> Any:
    """A value of JSON as SQLite gives it: booleans come as numbers, lists as text."""
    return bool(value) if kind in ("true", "false") else value
