"""Habits: context that moves an answer or a signal although it says nothing about the class (spurious correlations)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ltg_core.introspection.statistics import corrected

Array = np.ndarray[Any, Any]
_Z = 1.959964


@dataclasses.dataclass(frozen=True)
class Habit:
    """An answer that is given more often where a term is, to samples of other classes.

    Attributes:
        term: Place of the term.
        answer: The class that is said.
        n: Samples of other classes with the term.
        said: How many of them are read as that class.
        rest: Share of the samples of other classes without the term that are.
        expected: How many there would be by the shares within each class.
        ratio: Odds ratio of Mantel and Haenszel over the classes.
        low: Lower end of its 95 % interval (Robins, Breslow and Greenland 1986).
        high: Upper end.
        p: Exact test, stratified by class, one side.
        q: The same, corrected for all that were tried.
    """

    term: int
    answer: int
    n: int
    said: int
    rest: float
    expected: float
    ratio: float
    low: float
    high: float
    p: float
    q: float


def habits(present: Array, labels: Array, answers: Array, smallest: int = 12) -> tuple[list[Habit], int]:
    """Every term and answer, tested over samples whose class is another one.

    Within each true class, the term is exchanged among its samples: given how many have it and how many are read as the
    answer, their overlap is hypergeometric. The overlaps of all classes add up; the distribution of the sum is exact
    (the conditional test of Cochran, Mantel and Haenszel). So a term that goes with a class is no habit by that alone.

    Args:
        present: (N, T) bool.
        labels: (N,) true classes.
        answers: (N,) what the classifier says.
        smallest: Terms that fewer samples of other classes show are not tried.

    Returns:
        The tested ones, the smallest q first, and how many that were.
    """
    tried: list[Habit] = []
    for answer in np.unique(answers).tolist():
        rows = labels != answer
        said = answers[rows] == answer
        if not said.any():
            continue
        strata = [labels[rows] == label for label in np.unique(labels[rows])]
        for term in np.flatnonzero(present[rows].sum(axis=0) >= smallest).tolist():
            with_ = present[rows][:, term]
            if with_.all():
                continue
            tables = np.array(
                [[(with_ & said & s).sum(), (with_ & s).sum(), (said & s).sum(), s.sum()] for s in strata]
            )
            a, n1, m, n = (tables[:, i].astype(np.int64) for i in range(4))
            p = _exact(int(a.sum()), n1, m, n)
            ratio, low, high = _odds(a, n1 - a, m - a, n - n1 - m + a)
            rest = float(said[~with_].mean())
            expected = float((n1 * m / n).sum())
            found = Habit(term, answer, int(n1.sum()), int(a.sum()), rest, expected, ratio, low, high, p, p)
            tried.append(found)
    if not tried:
        return [], 0
    q = corrected(np.array([one.p for one in tried]))
    made = [dataclasses.replace(one, q=float(value)) for one, value in zip(tried, q, strict=True)]
    return sorted(made, key=lambda one: (one.q, one.p)), len(tried)


def _exact(total: int, n1: Array, m: Array, n: Array) -> float:
    """P(sum of hypergeometric overlaps >= total); strata without either margin add nothing."""
    from scipy.stats import hypergeom

    chance = np.ones(1)
    for some, marked, all_ in zip(n1.tolist(), m.tolist(), n.tolist(), strict=True):
        if some and marked:
            values = np.arange(min(some, marked) + 1)
            chance = np.convolve(chance, hypergeom.pmf(values, all_, marked, some))
    return float(min(1.0, chance[total:].sum())) if total < len(chance) else 0.0


def _odds(a: Array, b: Array, c: Array, d: Array) -> tuple[float, float, float]:
    """Mantel-Haenszel odds ratio with its 95 % interval; half an observation is added to every cell of a table in which
    something is zero in the sum.
    """
    if min(a.sum(), b.sum(), c.sum(), d.sum()) == 0:
        a, b, c, d = (x + 0.5 for x in (a, b, c, d))
    n = a + b + c + d
    r, s = a * d / n, b * c / n
    if not r.sum() or not s.sum():
        return float("inf") if r.sum() else 0.0, 0.0, float("inf")
    p, q = (a + d) / n, (b + c) / n
    spread = (
        (p * r).sum() / (2 * r.sum() ** 2)
        + (p * s + q * r).sum() / (2 * r.sum() * s.sum())
        + (q * s).sum() / (2 * s.sum() ** 2)
    )
    ratio, reach = r.sum() / s.sum(), np.exp(_Z * np.sqrt(spread))
    return float(ratio), float(ratio / reach), float(ratio * reach)


@dataclasses.dataclass(frozen=True)
class Lift:
    """How much a term raises a signal within the classes.

    Attributes:
        term: Place of the term.
        n: Samples that show it.
        change: Mean percentile with minus without, weighted over classes by n1 n0 / (n1 + n0).
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Normal test, two sides.
        q: The same, corrected for all that were tried.
    """

    term: int
    n: int
    change: float
    low: float
    high: float
    p: float
    q: float


def lifts(present: Array, labels: Array, ranks: Array, smallest: int = 12) -> tuple[list[Lift], int]:
    """Every term, tested for the difference of a signal's percentile within classes.

    Args:
        present: (N, T) bool.
        labels: (N,) true classes.
        ranks: (N,) percentiles, finite.
        smallest: Terms that fewer samples show are not tried.
    """
    from scipy.special import ndtr

    tried: list[Lift] = []
    for term in np.flatnonzero(present.sum(axis=0) >= smallest).tolist():
        total, spread, weights = 0.0, 0.0, 0.0
        for label in np.unique(labels):
            here = labels == label
            one, other = ranks[here & present[:, term]], ranks[here & ~present[:, term]]
            if len(one) < 2 or len(other) < 2:
                continue
            w = len(one) * len(other) / (len(one) + len(other))
            total += w * (one.mean() - other.mean())
            spread += w * w * (one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
            weights += w
        if not weights or not spread:
            continue
        change, error = total / weights, float(np.sqrt(spread)) / weights
        p = float(2 * ndtr(-abs(change) / error))
        n = int(present[:, term].sum())
        tried.append(Lift(term, n, change, change - _Z * error, change + _Z * error, p, p))
    if not tried:
        return [], 0
    q = corrected(np.array([one.p for one in tried]))
    made = [dataclasses.replace(one, q=float(value)) for one, value in zip(tried, q, strict=True)]
    return sorted(made, key=lambda one: (one.q, -abs(one.change))), len(tried)
