"""The first surprising finding: the group of held-out samples whose errors chance explains least."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ltg_core.data.records import Filter
from ltg_core.data.sources import canonical_split
from ltg_core.data.workspace import Workspace
from ltg_core.models.classifier import Classifier
from ltg_core.workflows.intervals import Share, share

_LEAST = 8  # samples in a group
_SIGNIFICANT = 0.05
_VALUES = 60  # a column with more different values is no condition
ENOUGH = 20
"""Real samples that a cell of class and condition needs to count as covered."""
_INSIDE = ("given_label", "prompt", "source", "control", "role", "seed", "caption", "path", "file_name")
_HELD_OUT = ("test", "val")
_COUNTS = (
    "SELECT s.label, m.key, CASE WHEN m.type = 'true' THEN 'true' WHEN m.type = 'false' THEN 'false'"
    " ELSE CAST(m.value AS TEXT) END, count(*), sum(p.pred != s.label)"
    " FROM samples s JOIN predictions p ON p.sample = s.seq JOIN models d ON d.key = p.model,"
    " json_each(s.meta) m WHERE d.hash = ? AND s.origin = 'real' AND s.split = ? AND s.label >= 0"
    " AND s.label < ? AND m.type IN ('text', 'true', 'false', 'integer') GROUP BY 1, 2, 3"
)
_CLASSES = (
    "SELECT s.label, count(*), sum(p.pred != s.label) FROM samples s JOIN predictions p ON p.sample = s.seq"
    " JOIN models d ON d.key = p.model WHERE d.hash = ? AND s.origin = 'real' AND s.split = ?"
    " AND s.label >= 0 AND s.label < ? GROUP BY 1"
)
_CELLS = (
    "SELECT s.label, CAST(m.value AS TEXT), count(*) FROM samples s, json_each(s.meta) m"
    " WHERE s.origin = 'real' AND s.label >= 0 AND m.key = ?"
    " AND m.type IN ('text', 'true', 'false', 'integer') GROUP BY 1, 2"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A group that is read wrongly more often than the rest.

    Attributes:
        label: Name of the class.
        column: Metadata column, "" where a whole class stands out.
        value: The column's value as text.
        split: Where it was measured.
        wrong: Errors in the group, of its samples.
        rest: Errors in what it is compared with: other samples of the class, or all other classes.
        p: One-sided, Fisher's exact test, times the number of groups that were looked at (Bonferroni).
        tried: How many groups were looked at.
    """

    label: str
    column: str
    value: str
    split: str
    wrong: Share
    rest: Share
    p: float
    tried: int

    @property
    def sentence(self) -> str:
        """In plain words."""
        under = f" with {self.column.replace('_', ' ')} “{self.value}”" if self.column else ""
        others = f"all other “{self.label}” samples" if self.column else "all other classes"
        return (
            f"“{self.label}”{under}: {self.wrong.part:,} of {self.wrong.whole:,} read wrongly, "
            f"{1 - self.wrong.value:.0%} right, against {1 - self.rest.value:.0%} of {others}."
        ).replace("%", "\u00a0%")

    @property
    def certainty(self) -> str:
        """How surprising it is, in plain words."""
        looked = f"{self.tried:,} group{'s' if self.tried != 1 else ''}"
        if self.p >= _SIGNIFICANT:
            return f"Chance could explain it: {looked} were looked at, and one of them is always the worst."
        odds = "fewer than 1 in 1,000,000" if self.p < 1e-6 else f"about 1 in {_round(1 / self.p):,}"
        return (
            f"If the group were read like the rest, a difference this large would come up in {odds} data sets, "
            f"already counting that {looked} were looked at."
        )


def held_out_split(ws: Workspace) -> str:
    """The split whose samples the classifier has not seen: "test", else "val", "" where there is none."""
    known = {canonical_split(name): name for name in ws.splits()}
    return next((known[role] for role in _HELD_OUT if role in known), "")


def surprising(ws: Workspace, classifier: Classifier) -> Finding | None:
    """The most surprising group among held-out real samples, None where nothing can be compared.

    Every class × metadata value with at least 8 samples is compared with the rest of its class, and every class with
    all others; the group with the smallest p-value wins. Only categorical columns count (text, true or false, whole
    numbers, up to 60 values). What somebody planted is never read.

    Args:
        ws: The workspace.
        classifier: Scored on it.
    """
    split = held_out_split(ws)
    if not split:
        return None
    given = (classifier.hash, split, classifier.num_classes)
    totals = {row[0]: (row[1], row[2]) for row in ws.database.rows(_CLASSES, given)}
    groups = _groups(ws, given, totals)
    if not groups:
        return None
    label, column, value, n, wrong, others, missed = groups[_smallest(groups)]
    return Finding(
        classifier.labels[label],
        column,
        value,
        split,
        share(wrong, n),
        share(missed, others),
        min(1.0, float(_p_values(groups).min()) * len(groups)),
        len(groups),
    )


Group = tuple[int, str, str, int, int, int, int]
"""Class, column, value, samples, errors, samples of the rest, errors of the rest."""


def _groups(ws: Workspace, given: tuple[Any, ...], totals: dict[int, tuple[int, int]]) -> list[Group]:
    rows = ws.database.rows(_COUNTS, given)
    different: dict[str, set[str]] = {}
    for row in rows:
        different.setdefault(row[1], set()).add(row[2])
    usable = {c for c, values in different.items() if 1 < len(values) <= _VALUES and c not in _INSIDE}
    found: list[Group] = []
    for label, column, value, n, wrong in sorted(map(tuple, rows), key=lambda r: (r[0], r[1], r[2])):
        rest, missed = totals[label][0] - n, totals[label][1] - wrong
        if column in usable and n >= _LEAST and rest >= _LEAST:
            found.append((label, column, value, n, wrong, rest, missed))
    n_all, wrong_all = (sum(total[i] for total in totals.values()) for i in (0, 1))
    for label, (n, wrong) in sorted(totals.items()):
        if n >= _LEAST and n_all - n >= _LEAST:
            found.append((label, "", "", n, wrong, n_all - n, wrong_all - wrong))
    return found


def _p_values(groups: list[Group]) -> np.ndarray:
    from scipy.stats import hypergeom

    n, wrong, rest, missed = np.array([group[3:] for group in groups], dtype=np.int64).T
    return np.asarray(hypergeom.sf(wrong - 1, n + rest, wrong + missed, n))


def _smallest(groups: list[Group]) -> int:
    order = sorted(zip(_p_values(groups).tolist(), [-g[3] for g in groups], range(len(groups)), strict=True))
    return order[0][2]


def samples_of(found: Finding, classifier: Classifier, *, correct: bool | None = False) -> Filter:
    """The samples behind a finding: those that are read wrongly, or rightly, or (None) all."""
    return Filter(
        split=found.split,
        label=classifier.labels.index(found.label),
        origin="real",
        correct=correct,
        meta={found.column: found.value} if found.column else {},
        model_hash=classifier.hash,
    )


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How many cells of class × condition have enough real samples.

    Attributes:
        column: The metadata column, "" where the classes alone are the cells.
        filled: Cells with ``ENOUGH`` real samples.
        cells: All cells.
    """

    column: str
    filled: int
    cells: int


def coverage(ws: Workspace, column: str = "") -> Coverage:
    """Cells of class × value with enough real samples; without a column, classes."""
    classes = len(ws.label_names())
    if not column:
        rows = ws.database.rows(
            "SELECT label, count(*) FROM samples WHERE origin = 'real' AND label >= 0 GROUP BY 1"
        )
        return Coverage("", sum(row[1] >= ENOUGH for row in rows), classes)
    rows = ws.database.rows(_CELLS, (column,))
    values = {row[1] for row in rows}
    return Coverage(column, sum(row[2] >= ENOUGH for row in rows), classes * len(values))


def condition_column(ws: Workspace, found: Finding | None) -> str:
    """The column that the finding is about; else the categorical one that most real samples have."""
    if found is not None and found.column:
        return found.column
    rows = ws.database.rows(
        "SELECT m.key, count(*), count(DISTINCT m.value) FROM samples s, json_each(s.meta) m"
        " WHERE s.origin = 'real' AND m.type IN ('text', 'true', 'false') GROUP BY 1 ORDER BY 2 DESC, 3 DESC, 1"
    )
    return next((row[0] for row in rows if 1 < row[2] <= _VALUES and row[0] not in _INSIDE), "")


@dataclasses.dataclass(frozen=True)
class State:
    """A workspace at a glance.

    Attributes:
        classes: How many.
        real: Real samples.
        generated: Generated ones.
        accepted: Generated samples that somebody accepted.
        split: Where accuracy was measured.
        right: Right answers among held-out samples.
        coverage: Cells with enough real samples.
        finding: The most surprising group, None where there is none.
    """

    classes: int
    real: int
    generated: int
    accepted: int
    split: str
    right: Share
    coverage: Coverage
    finding: Finding | None


def glance(ws: Workspace, classifier: Classifier | None) -> State:
    """What a start page shows; without a classifier there are no answers and no finding."""
    split = held_out_split(ws)
    found = None if classifier is None else surprising(ws, classifier)
    right = share(0, 0)
    if classifier is not None and split:
        rows = ws.database.rows(_CLASSES, (classifier.hash, split, classifier.num_classes))
        n, wrong = (sum(row[i] for row in rows) for i in (1, 2))
        right = share(n - wrong, n)
    return State(
        len(ws.label_names()),
        ws.count(Filter(origin="real")),
        ws.count(Filter(origin="generated")),
        ws.count(Filter(origin="generated", verdict="accepted")),
        split,
        right,
        coverage(ws, condition_column(ws, found)),
        found,
    )


def _round(number: float) -> int:
    """Two leading digits."""
    size = max(0, len(str(int(number))) - 2)
    return int(round(number, -size))
