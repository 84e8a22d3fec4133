"""Samples counted by what they are: facets that combine, the confusion matrix, the table of classes.

The samples are grouped once by their plain columns; conditions on those columns are applied to the groups, so a facet
can leave out its own condition without another pass.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from ltg_core.data.column_reading import Base, Coded
from ltg_core.data.reading import check_key
from ltg_core.data.records import BELIEFS, REAL, Filter, Range
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.workflows.checking import BINS

FACETS = ("label", "prediction", "correct", "split", "origin", "verdict", "believed")
"""Fields of a ``Filter`` that a ``Tally`` counts."""
_PLAIN: dict[str, Any] = dict.fromkeys(FACETS)
_OUTCOME: dict[str, Any] = {"label": None, "prediction": None, "correct": None}


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
            elif isinstance(wanted, tuple):
                keep &= np.isin(self.columns[name].astype(str), wanted)
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
    columns = ws.columns
    base = columns.base()
    columns.mask(dataclasses.replace(chosen, text="", ids=None), base)  # the same complaints as a query's
    keep = np.flatnonzero(columns.mask(dataclasses.replace(chosen, **_PLAIN), base))
    verdicts = columns.verdicts(base)
    said = columns.predictions(chosen.model_hash, base).pred[keep]
    codes = [base.label[keep], said, base.split.codes[keep], base.origin.codes[keep],
             verdicts.codes[keep], base.believed.codes[keep]]  # fmt: skip
    groups, n = _groups(codes)
    label, pred = groups[0], groups[1]
    known = (label >= 0) & (pred >= 0)
    values: dict[str, list[Any]] = {
        "label": [one if one >= 0 else None for one in label.tolist()],
        "prediction": [one if one >= 0 else None for one in pred.tolist()],
        "correct": [
            right if there else None for right, there in zip((label == pred).tolist(), known, strict=True)
        ],
        "split": _named(base.split, groups[2]),
        "origin": _named(base.origin, groups[3]),
        "verdict": _named(verdicts, groups[4]),
        "believed": [one == BELIEFS[0] if one else None for one in _named(base.believed, groups[5])],
    }
    return Tally(chosen, {name: _objects(found) for name, found in values.items()}, n)


def ranked(ws: Workspace, chosen: Filter, sort: str = "") -> Ranked:
    """The samples that pass, in the order of ``Workspace.query``; counted and paged without another query.

    Args:
        ws: The workspace.
        chosen: Which samples.
        sort: As for ``Workspace.query``, but "id".

    Raises:
        InputError: As ``Workspace.query``.
    """
    columns = ws.columns
    base = columns.base()
    keep = columns.mask(chosen, base)
    key, turned = sort.removeprefix("-"), sort.startswith("-")
    if key not in ("", "created"):
        check_key(ws.database, chosen.model_hash, key)
    order = columns.order(key, turned, chosen.model_hash, base)
    return Ranked(ws, order[keep[order]])


@dataclasses.dataclass(frozen=True, eq=False)
class Ranked:
    """Samples in order, by their places in the columns of a workspace."""

    ws: Workspace
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def ids(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Ids of the samples from one place of the order up to another."""
        return self.ws.columns.ids(self.places[start:stop])


def _groups(codes: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """Different rows of whole numbers from -1 on, as columns, and how often each occurs."""
    key = np.zeros(len(codes[0]), dtype=np.int64)
    sizes = [int(column.max(initial=-1)) + 2 for column in codes]
    for column, size in zip(codes, sizes, strict=True):
        key = key * size + (column + 1)
    different, n = np.unique(key, return_counts=True)
    found = []
    for size in reversed(sizes):
        found.append(different % size - 1)
        different = different // size
    return found[::-1], n.astype(np.int64)


def _named(column: Coded, codes: np.ndarray) -> list[Any]:
    return [column.values[code] if code >= 0 else None for code in codes.tolist()]


def stamp(ws: Workspace) -> tuple[int, ...]:
    """Changes with every sample that comes, goes or is changed, and every verdict or tag given or taken back."""
    rows = ws.database.rows(
        "SELECT n FROM changes WHERE what IN ('added', 'samples', 'verdicts', 'tags') ORDER BY what"
    )
    return tuple(int(row[0]) for row in rows)


def samples_stamp(ws: Workspace) -> int:
    """Changes with every sample that goes, or whose class, split, metadata or belief is another; nothing else."""
    row = ws.database.row("SELECT n FROM changes WHERE what = 'samples'")
    return int(row[0]) if row is not None else 0


def tag_counts(ws: Workspace, chosen: Filter) -> list[tuple[str, int]]:
    """Tags with the number of samples that pass all other conditions, the most first."""
    base = ws.columns.base()
    places, tags = ws.columns.tags(base)
    if not len(places):
        return []
    keep = ws.columns.mask(dataclasses.replace(chosen, tag=None), base)
    n = np.bincount(tags.codes[keep[places]], minlength=len(tags.values))
    found = [(str(tag), int(count)) for tag, count in zip(tags.values, n, strict=True) if count]
    return sorted(found, key=lambda item: (-item[1], item[0]))


def column_counts(
    ws: Workspace, chosen: Filter, column: str, limit: int = 12
) -> tuple[list[tuple[Any, int]], int]:
    """Values of a metadata column with the number of samples that pass all other conditions.

    Args:
        ws: The workspace.
        chosen: The filter.
        column: Name of the column; a sample may be without it, and then counts nowhere.
        limit: At most so many values; those with the most samples. A column of many different numbers is cut into
            parts of about equal size instead.

    Returns:
        The values (text, numbers, true or false, ``Range``; lists are left out) and how many there are.
    """
    base = ws.columns.base()
    others = {k: v for k, v in chosen.meta.items() if k != column}
    keep = ws.columns.mask(dataclasses.replace(chosen, meta=others), base)
    found = ws.columns.meta(column, base)
    n = np.bincount(found.codes[keep] + 1, minlength=len(found.values) + 1)[1:]
    counts = [(value, int(count)) for value, count in zip(found.values, n, strict=True) if count]
    parts = ranges(found)
    if parts:
        sums = [
            (part, sum(count for value, count in counts if part.low <= value < part.high)) for part in parts
        ]
        return sums, len(parts)
    counts.sort(key=lambda item: (-item[1], isinstance(item[0], str), item[0]))
    return counts[:limit], len(counts)


def ranges(column: Coded, most: int = 12, parts: int = 8) -> list[Range]:
    """Numbers of a column in parts of about equal size; none where the column holds few values, or others.

    Args:
        column: Of a workspace.
        most: So many different numbers are left as they are.
        parts: How many parts at most.
    """
    values = column.values
    if len(values) <= most or any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values):
        return []
    given = np.array([float(v) for v in values])[column.codes[column.codes >= 0]]
    if not len(given):  # a column that other samples have
        return []
    edges = np.unique(np.quantile(given, np.linspace(0, 1, parts + 1)[1:-1]))
    edges = np.unique([float(f"{edge:.3g}") for edge in edges])  # as a person would cut
    edges = edges[(edges > given.min()) & (edges <= given.max())]
    ends = [-np.inf, *edges.tolist(), np.inf]
    return [Range(low, high) for low, high in itertools.pairwise(ends)]


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
    base = ws.columns.base()
    n, hits, sure = (np.zeros((classes, BINS)) for _ in range(3))
    _, label, pred, confidence = _judged(ws, base, chosen, classes)
    place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    np.add.at(n, (label, place), 1)
    np.add.at(hits, (label, place), label == pred)
    np.add.at(sure, (label, place), confidence)
    predicted = np.bincount(pred, minlength=classes)
    medians = _medians(ws, base, chosen, signal) if signal else {}
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


def reliability(
    ws: Workspace, chosen: Filter, classes: int, label: int | None = None
) -> list[dict[str, Any]]:
    """Confidence against accuracy, by bins of equal width (Guo et al. 2017), among the samples that pass.

    Conditions on class, prediction and right or wrong are left out.

    Args:
        ws: The workspace.
        chosen: Which samples; needs ``model_hash``.
        classes: How many there are.
        label: Samples of this class only; None for all.

    Returns:
        15 records: ``low``, ``high`` (of confidence), ``n``, ``confidence`` (mean) and ``accuracy``, NaN where n is 0.

    Raises:
        InputError: No classifier is named.
    """
    if chosen.model_hash is None:
        raise InputError("calibration needs a classifier: give the filter's model_hash")
    _, label_, pred, confidence = _judged(ws, ws.columns.base(), chosen, classes)
    keep = np.ones(len(pred), dtype=bool) if label is None else label_ == label
    place = np.clip((confidence * BINS).astype(int), 0, BINS - 1)[keep]
    n = np.bincount(place, minlength=BINS)
    sure = np.bincount(place, confidence[keep], minlength=BINS)
    hits = np.bincount(place, (label_ == pred)[keep], minlength=BINS)
    return [
        {
            "low": b / BINS,
            "high": (b + 1) / BINS,
            "n": int(n[b]),
            "confidence": _ratio(sure[b], n[b]),
            "accuracy": _ratio(hits[b], n[b]),
        }
        for b in range(BINS)
    ]


def _judged(
    ws: Workspace, base: Base, chosen: Filter, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Labelled samples with a prediction that pass, whatever their outcome: place, label, answer, confidence."""
    said = ws.columns.predictions(chosen.model_hash, base)
    keep = ws.columns.mask(dataclasses.replace(chosen, **_OUTCOME), base)
    keep &= (base.label >= 0) & (base.label < classes) & (said.pred >= 0) & (said.pred < classes)
    keep &= ~np.isnan(said.confidence)
    places = np.flatnonzero(keep)
    return places, base.label[places], said.pred[places], said.confidence[places]


def _medians(ws: Workspace, base: Base, chosen: Filter, signal: str) -> dict[int, float]:
    """Median percentile by class."""
    ranks = ws.columns.scores(chosen.model_hash, signal, base).percentiles
    keep = (
        ws.columns.mask(dataclasses.replace(chosen, **_OUTCOME), base) & ~np.isnan(ranks) & (base.label >= 0)
    )
    label, ranks = base.label[keep], ranks[keep]
    return {int(c): float(np.median(ranks[label == c])) for c in np.unique(label)}


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _objects(values: list[Any]) -> np.ndarray:
    """One object a place, whatever it is."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
