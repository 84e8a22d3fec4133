"""The first surprising finding: the group of held-out samples whose errors chance explains least."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ltg_core.data.column_reading import Base, Coded
from ltg_core.data.records import REAL, Filter
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
_LOOK = 5000  # samples that show which columns have too many values
_MANY = (
    "SELECT m.key FROM (SELECT meta FROM samples WHERE origin = 'real' ORDER BY seq LIMIT ?) s, json_each(s.meta) m"
    f" WHERE m.type IN ('text', 'true', 'false', 'integer') GROUP BY 1 HAVING count(DISTINCT m.value) > {_VALUES}"
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
    groups = _groups(_answers(ws, classifier, split))
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


@dataclasses.dataclass(frozen=True, eq=False)
class _Answers:
    """What a classifier said of the labelled real samples of a split.

    Attributes:
        ws: The workspace.
        base: Its samples.
        places: (n,) of the samples.
        labels: (n,).
        wrong: (n,) bool.
        classes: How many there are.
    """

    ws: Workspace
    base: Base
    places: np.ndarray
    labels: np.ndarray
    wrong: np.ndarray
    classes: int

    def per_class(self, keep: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Samples and errors of each class, (C,)."""
        labels, wrong = (self.labels, self.wrong) if keep is None else (self.labels[keep], self.wrong[keep])
        return np.bincount(labels, minlength=self.classes), np.bincount(labels[wrong], minlength=self.classes)


def _answers(ws: Workspace, classifier: Classifier, split: str) -> _Answers:
    base = ws.columns.base()
    pred, classes = ws.columns.predictions(classifier.hash, base).pred, classifier.num_classes
    keep = (
        base.origin.of(REAL) & base.split.of(split) & (base.label >= 0) & (base.label < classes) & (pred >= 0)
    )
    places = np.flatnonzero(keep)
    labels = base.label[places]
    return _Answers(ws, base, places, labels, pred[places] != labels, classes)


def _columns(ws: Workspace) -> list[str]:
    """Metadata columns that may have few values; whether they have, only all their values can say."""
    many = {row[0] for row in ws.database.rows(_MANY, (_LOOK,))}
    return [name for name in ws.meta_columns() if name not in many and name not in _INSIDE]


def _texts(column: Coded) -> tuple[np.ndarray, list[str]]:
    """Each code's number among the texts (-1 for what is none: a number with a fraction, no value), and the texts."""
    texts: dict[str, int] = {}
    numbers = [
        -1 if isinstance(value, float) else texts.setdefault(_text(value), len(texts))
        for value in column.values
    ]
    return np.array([*numbers, -1]), list(texts)  # the last place is that of the code -1


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _groups(said: _Answers) -> list[Group]:
    found: list[Group] = []
    n_class, wrong_class = said.per_class()
    for name in _columns(said.ws):
        column = said.ws.columns.meta(name, said.base)
        number, texts = _texts(column)
        codes = number[column.codes[said.places]]
        if not 1 < len(np.unique(codes[codes >= 0])) <= _VALUES:
            continue
        for code in np.unique(codes[codes >= 0]):
            n, wrong = said.per_class(codes == code)
            for label in np.flatnonzero((n >= _LEAST) & (n_class - n >= _LEAST)).tolist():
                rest, missed = n_class[label] - n[label], wrong_class[label] - wrong[label]
                found.append(
                    (label, name, texts[code], int(n[label]), int(wrong[label]), int(rest), int(missed))
                )
    found.sort(key=lambda group: group[:3])
    n_all, wrong_all = int(n_class.sum()), int(wrong_class.sum())
    for label, (n, wrong) in enumerate(zip(n_class.tolist(), wrong_class.tolist(), strict=True)):
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
    classes, base = len(ws.label_names()), ws.columns.base()
    real = base.origin.of(REAL) & (base.label >= 0)
    if not column:
        return Coverage("", int((np.bincount(base.label[real]) >= ENOUGH).sum()), classes)
    values = ws.columns.meta(column, base)
    number, texts = _texts(values)
    codes = number[values.codes]
    real &= codes >= 0
    cells = np.bincount(base.label[real].astype(np.int64) * len(texts) + codes[real])
    return Coverage(column, int((cells >= ENOUGH).sum()), classes * len(np.unique(codes[real])))


def condition_column(ws: Workspace, found: Finding | None) -> str:
    """The column that the finding is about; else the categorical one that most real samples have."""
    if found is not None and found.column:
        return found.column
    base = ws.columns.base()
    real, ranks = base.origin.of(REAL), []
    for name in _columns(ws):
        column = ws.columns.meta(name, base)
        counts = np.bincount(column.codes[real] + 1, minlength=len(column.values) + 1)[1:]
        counts = counts * np.array(
            [isinstance(value, (str, bool)) for value in column.values], dtype=np.int64
        )
        ranks.append((-int(counts.sum()), -int((counts > 0).sum()), name))
    return next((name for _, different, name in sorted(ranks) if 1 < -different <= _VALUES), "")


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
        n, wrong = (int(count.sum()) for count in _answers(ws, classifier, split).per_class())
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
