"""Samples counted by what they are: facets that combine, the confusion matrix, the table of classes.

One pass of the database groups the samples by their plain columns; conditions on those columns are applied to the
groups, so a facet can leave out its own condition without another pass.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from ltg_core.data.filters import where
from ltg_core.data.records import BELIEFS, REAL, VERDICTS, Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.workflows.checking import BINS

FACETS = ("label", "prediction", "correct", "split", "origin", "verdict", "believed")
"""Fields of a ``Filter`` that a ``Tally`` counts."""
_PLAIN: dict[str, Any] = dict.fromkeys(FACETS)
_OUTCOME: dict[str, Any] = {"label": None, "prediction": None, "correct": None}
_MODEL = "(SELECT key FROM models WHERE hash = ?)"
_GROUPS = """
SELECT coalesce(s.label, -1), coalesce(p.pred, -1), s.split, s.origin, coalesce(v.verdict, 'undecided'),
    coalesce(s.belief, ''), count(*)
FROM samples s LEFT JOIN predictions p ON p.sample = s.seq AND p.model = {model}
LEFT JOIN verdicts v ON v.sample = s.seq {where} GROUP BY 1, 2, 3, 4, 5, 6
"""
_BINS = """
SELECT s.label, p.pred, max(0, min({last}, CAST(p.confidence * {bins} AS INTEGER))), count(*), sum(p.confidence)
FROM samples s JOIN predictions p ON p.sample = s.seq AND p.model = {model} {where}
AND s.label IS NOT NULL GROUP BY 1, 2, 3
"""
_MEDIANS = """
SELECT label, avg(percentile) FROM (
    SELECT s.label AS label, x.percentile AS percentile,
        row_number() OVER (PARTITION BY s.label ORDER BY x.percentile) AS place,
        count(*) OVER (PARTITION BY s.label) AS size
    FROM samples s JOIN scores x ON x.sample = s.seq
        AND x.signal = (SELECT key FROM signals WHERE model = {model} AND name = ?)
    {where} AND x.percentile IS NOT NULL AND s.label IS NOT NULL
) WHERE place IN ((size + 1) / 2, (size + 2) / 2) GROUP BY label
"""


@dataclasses.dataclass(frozen=True)
class Tally:
    """Samples in groups of equal columns.

    Attributes:
        chosen: The filter; its fields in ``FACETS`` are applied to the groups, the others were in the query.
        columns: By name of a facet, one value a group, (K,); ``None`` where a group has none.
        n: Samples of each group, (K,) int64.
    """

    chosen: Filter
    columns: dict[str, np.ndarray]
    n: np.ndarray

    @property
    def total(self) -> int:
        """How many samples pass the whole filter."""
        return int(self.n[self._passing()].sum())

    def narrowed(self, chosen: Filter) -> Tally:
        """The same groups under another filter, which may differ in the fields of ``FACETS`` only.

        Raises:
            InputError: It differs in another field.
        """
        if dataclasses.replace(chosen, **_PLAIN) != dataclasses.replace(self.chosen, **_PLAIN):
            raise InputError("these groups were counted under other words, tags or metadata; count again")
        return dataclasses.replace(self, chosen=chosen)

    def facet(self, name: str) -> list[tuple[Any, int]]:
        """Values of one facet with the number of samples that pass all *other* conditions, the most first.

        Samples without a value (no label, no prediction) are not listed. Of ``origin``, "generated" comes as the
        sum of its runs, beside "real" and the runs.

        Raises:
            InputError: There is no such facet.
        """
        if name not in FACETS:
            raise InputError(f"there is no facet {name!r}; known: {', '.join(FACETS)}")
        found: dict[Any, int] = {}
        keep = self._passing(name)
        for value, count in zip(self.columns[name][keep], self.n[keep].tolist(), strict=True):
            if value is not None:
                found[value] = found.get(value, 0) + count
        if name == "origin" and (made := sum(count for value, count in found.items() if value != REAL)):
            found["generated"] = made
        return sorted(found.items(), key=lambda item: (-item[1], str(item[0])))

    def confusion(self, classes: int) -> np.ndarray:
        """Counts by true class (rows) and prediction (columns), (C, C) int64.

        All conditions hold but those on class, prediction and right or wrong.
        """
        keep = self._passing(*_OUTCOME)
        labels, said = (self.columns[name][keep] for name in ("label", "prediction"))
        matrix = np.zeros((classes, classes), dtype=np.int64)
        for label, pred, count in zip(labels, said, self.n[keep], strict=True):
            if label is not None and pred is not None and 0 <= label < classes and 0 <= pred < classes:
                matrix[label, pred] += count
        return matrix

    def _passing(self, *without: str) -> np.ndarray:
        keep = np.ones(len(self.n), dtype=bool)
        for name in FACETS:
            wanted = getattr(self.chosen, name)
            if wanted is None or name in without:
                continue
            if name == "origin" and wanted == "generated":
                keep &= self.columns[name] != REAL
            else:
                keep &= self.columns[name] == wanted
        return keep


def tally(ws: Workspace, chosen: Filter) -> Tally:
    """Count the samples that pass a filter, by everything that ``FACETS`` names.

    Args:
        ws: The workspace.
        chosen: ``model_hash`` says whose predictions count; without one there are none.

    Raises:
        InputError: An unknown verdict, or a condition on predictions without a classifier.
    """
    where(chosen)  # the same complaints as a query's
    condition, values = where(dataclasses.replace(chosen, **_PLAIN))
    sql = _GROUPS.format(model=_MODEL, where=condition)
    rows = ws.database.rows(sql, [chosen.model_hash or "", *values])
    columns: dict[str, list[Any]] = {name: [] for name in FACETS}
    for label, pred, split, origin, verdict, belief, _ in rows:
        columns["label"].append(label if label >= 0 else None)
        columns["prediction"].append(pred if pred >= 0 else None)
        columns["correct"].append(label == pred if label >= 0 and pred >= 0 else None)
        columns["split"].append(split)
        columns["origin"].append(origin)
        columns["verdict"].append(verdict if verdict in VERDICTS else None)
        columns["believed"].append(belief == BELIEFS[0] if belief else None)
    arrays = {name: _objects(values) for name, values in columns.items()}
    return Tally(chosen, arrays, np.array([row[6] for row in rows], dtype=np.int64))


def stamp(ws: Workspace) -> tuple[int, ...]:
    """Changes with every sample that comes and every verdict or tag that is given, taken back or done again."""
    row = ws.database.row(
        "SELECT (SELECT coalesce(max(seq), 0) FROM samples), (SELECT coalesce(max(id), 0) FROM actions),"
        " (SELECT count(*) FROM actions WHERE undone)"
    )
    return tuple(row) if row is not None else ()


def tag_counts(ws: Workspace, chosen: Filter) -> list[tuple[str, int]]:
    """Tags with the number of samples that pass all other conditions, the most first."""
    condition, values = where(dataclasses.replace(chosen, tag=None))
    rows = ws.database.rows(
        f"SELECT t.tag, count(*) FROM samples s JOIN tags t ON t.sample = s.seq {condition}"
        " GROUP BY 1 ORDER BY 2 DESC, 1",
        values,
    )
    return [(row[0], row[1]) for row in rows]


def column_counts(
    ws: Workspace, chosen: Filter, column: str, limit: int = 12
) -> tuple[list[tuple[Any, int]], int]:
    """Values of a metadata column with the number of samples that pass all other conditions.

    Args:
        ws: The workspace.
        chosen: The filter.
        column: Name of the column; a sample may be without it, and then counts nowhere.
        limit: At most so many values; those with the most samples.

    Returns:
        The values (text, numbers, true or false; lists are left out) and how many different ones there are.
    """
    condition, values = where(
        dataclasses.replace(chosen, meta={k: v for k, v in chosen.meta.items() if k != column})
    )
    rows = ws.database.rows(
        f"SELECT m.type, m.value, count(*), count(*) OVER () FROM samples s, json_each(s.meta) m {condition}"
        " AND m.key = ? AND m.type NOT IN ('null', 'array', 'object') GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT ?",
        [*values, column, limit],
    )
    found = [(bool(row[1]) if row[0] in ("true", "false") else row[1], int(row[2])) for row in rows]
    return found, int(rows[0][3]) if rows else 0


def class_table(ws: Workspace, chosen: Filter, classes: int, signal: str = "") -> list[dict[str, Any]]:
    """How the classifier does on each class, among the samples that pass a filter.

    Conditions on class, prediction and right or wrong are left out: they would answer their own question.

    Args:
        ws: The workspace.
        chosen: Which samples; needs ``model_hash``.
        classes: How many there are, C.
        signal: Of which the median percentile is taken; "" for none.

    Returns:
        C records: ``label`` (index), ``n`` (labelled samples with a prediction), ``right``, ``predicted`` (how
        often it was the answer), ``accuracy`` (right / n), ``precision`` (right / predicted), ``confidence``
        (mean), ``ece`` (expected calibration error over 15 bins of equal width, Guo et al. 2017) and ``median``
        (percentile of the signal against held-out real data, 0 to 100). NaN where there is nothing to divide.

    Raises:
        InputError: No classifier is named.
    """
    if chosen.model_hash is None:
        raise InputError("the table of classes needs a classifier: give the filter's model_hash")
    condition, values = where(dataclasses.replace(chosen, **_OUTCOME))
    n, hits, sure = (np.zeros((classes, BINS)) for _ in range(3))
    predicted = np.zeros(classes)
    sql = _BINS.format(model=_MODEL, where=condition, bins=BINS, last=BINS - 1)
    for label, pred, place, count, confidence in ws.database.rows(sql, [chosen.model_hash, *values]):
        if not (0 <= label < classes and 0 <= pred < classes) or confidence is None:
            continue
        n[label, place] += count
        hits[label, place] += count * (label == pred)
        sure[label, place] += confidence
        predicted[pred] += count
    medians: dict[int, float] = {}
    if signal:
        sql = _MEDIANS.format(model=_MODEL, where=condition)
        medians = dict(map(tuple, ws.database.rows(sql, [chosen.model_hash, signal, *values])))
    return [
        {
            "label": c,
            "n": int(n[c].sum()),
            "right": int(hits[c].sum()),
            "predicted": int(predicted[c]),
            "accuracy": _ratio(hits[c].sum(), n[c].sum()),
            "precision": _ratio(hits[c].sum(), predicted[c]),
            "confidence": _ratio(sure[c].sum(), n[c].sum()),
            "ece": _ratio(np.abs(hits[c] - sure[c]).sum(), n[c].sum()),
            "median": float(medians.get(c, math.nan)),
        }
        for c in range(classes)
    ]


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _objects(values: list[Any]) -> np.ndarray:
    """One object a place, whatever it is."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
