"""Paired pictures: what guided images show more often, whether a term moves a signal, and which terms make errors."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ltg_core.errors import InputError
from ltg_core.introspection.statistics import corrected

Array = np.ndarray[Any, Any]
_PRIOR = 2.0
_Z = 1.959964
_DRAWS = 4000


@dataclasses.dataclass(frozen=True)
class MoreOften:
    """A term that guided images of a class show more often than their controls.

    Attributes:
        label: The class, -1 for all of them together.
        term: Place of the term.
        pairs: Pairs that were compared.
        guided: Guided images that show it.
        control: Controls that show it.
        log_odds: Difference of the log-odds, with a Dirichlet prior.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Exact permutation test, one side.
        q: The same, corrected for all that were tried.
    """

    label: int
    term: int
    pairs: int
    guided: int
    control: int
    log_odds: float
    low: float
    high: float
    p: float
    q: float


def more_often(
    guided: Array, control: Array, labels: Array, smallest: int = 4
) -> tuple[list[MoreOften], int]:
    """Every class and term with enough guided images, tested; those with the smallest q first.

    Exchanging the two images of a pair changes nothing if guidance does not matter. Only pairs of which exactly one
    image shows the term decide, so the permutation test over all 2^pairs exchanges is the sign test, exactly. The
    effect is the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, eq. 15 to 20),
    here of images instead of words: with y of n images, prior weight a = 2 s for the share s of the term in both,
    δ = log (y₁ + a)/(n + 2 − y₁ − a) − log (y₂ + a)/(n + 2 − y₂ − a), variance 1/(y₁ + a) + 1/(y₂ + a).

    Args:
        guided: (N, T) bool.
        control: (N, T) bool, of the same seeds.
        labels: (N,) class of each pair.
        smallest: Terms that fewer guided images of a class show are not tried.

    Returns:
        The tested ones, and how many that were.

    Raises:
        InputError: Arrays of different shapes.
    """
    from scipy.stats import binom

    if guided.shape != control.shape or len(labels) != len(guided):
        raise InputError(
            f"{guided.shape} guided and {control.shape} controls with {len(labels)} classes do not make pairs"
        )
    tried = []
    for label in [-1, *np.unique(labels).tolist()]:
        rows = labels == label if label >= 0 else np.ones(len(labels), dtype=bool)
        one, other = guided[rows], control[rows]
        only, lost = (one & ~other).sum(axis=0), (other & ~one).sum(axis=0)
        for term in np.flatnonzero(one.sum(axis=0) >= smallest).tolist():
            n, y1, y2 = len(one), int(one[:, term].sum()), int(other[:, term].sum())
            a = _PRIOR * (y1 + y2) / (2 * n)
            odds = [np.log((y + a) / max(n + _PRIOR - y - a, a)) for y in (y1, y2)]
            delta, reach = float(odds[0] - odds[1]), _Z * float(np.sqrt(1 / (y1 + a) + 1 / (y2 + a)))
            p = float(binom.sf(only[term] - 1, only[term] + lost[term], 0.5)) if only[term] else 1.0
            found = MoreOften(label, term, n, y1, y2, delta, delta - reach, delta + reach, p, p)
            tried.append(found)
    if not tried:
        return [], 0
    q = corrected(np.array([one.p for one in tried]))
    made = [dataclasses.replace(one, q=float(value)) for one, value in zip(tried, q, strict=True)]
    return sorted(made, key=lambda one: (one.q, one.p, -one.log_odds)), len(tried)


@dataclasses.dataclass(frozen=True)
class Moved:
    """A mean paired difference.

    Attributes:
        n: Pairs.
        without: Mean without the term.
        with_: Mean with it.
        change: Mean difference.
        low: Lower end of its 95 % interval.
        high: Upper end.
    """

    n: int
    without: float
    with_: float
    change: float
    low: float
    high: float

    @property
    def moves(self) -> bool:
        """Whether the interval lies above zero."""
        return self.low > 0


def moved(without: Sequence[float] | Array, with_: Sequence[float] | Array, seed: int = 0) -> Moved:
    """Mean difference of pairs with its bootstrap interval (percentiles of 4,000 resamples of pairs), widened a little
    for few pairs by √(n / (n − 1)).

    Pairs of which one value is not finite are left out.

    Raises:
        InputError: Fewer than four pairs.
    """
    a, b = np.asarray(without, dtype=np.float64), np.asarray(with_, dtype=np.float64)
    keep = np.isfinite(a) & np.isfinite(b)
    a, b = a[keep], b[keep]
    n = len(a)
    if n < 4:
        raise InputError(f"{n} pairs are too few to say whether something moves; make 4 at least")
    change = b - a
    rows = np.random.default_rng(seed).integers(n, size=(_DRAWS, n))
    spread = (change[rows].mean(axis=1) - change.mean()) * np.sqrt(n / (n - 1))
    low, high = np.percentile(spread, [2.5, 97.5]) + change.mean()
    return Moved(n, float(a.mean()), float(b.mean()), float(change.mean()), float(low), float(high))


@dataclasses.dataclass(frozen=True)
class Errs:
    """Errors of pairs whose images differ in one term.

    Attributes:
        n: Pairs.
        without: Images without the term that are read wrongly.
        with_: Images with it that are.
        p: McNemar's exact test, one side: whether the term makes errors.
    """

    n: int
    without: int
    with_: int
    p: float

    @property
    def excess(self) -> float:
        """By how much the share of errors is larger with the term; 0 without pairs."""
        return (self.with_ - self.without) / self.n if self.n else 0.0


def errs(without: Array, with_: Array) -> Errs:
    """Whether a term makes errors (McNemar 1947; the exact form is the sign test over pairs that differ).

    Args:
        without: (N,) bool, the image without the term is read wrongly.
        with_: (N,) bool, the same of the image with it, from the same seed.

    Raises:
        InputError: Arrays of different lengths.
    """
    from scipy.stats import binom

    if without.shape != with_.shape or without.ndim != 1:
        raise InputError(f"{without.shape} images without a term and {with_.shape} with it do not make pairs")
    only, lost = int((with_ & ~without).sum()), int((without & ~with_).sum())
    p = float(binom.sf(only - 1, only + lost, 0.5)) if only else 1.0
    return Errs(len(without), int(without.sum()), int(with_.sum()), p)


def promising(found: Sequence[Errs], most: int) -> list[int]:
    """Places of those that are worth asking for again: more errors with the term, the largest excess first."""
    order = sorted(range(len(found)), key=lambda i: (-found[i].excess, found[i].p, i))
    return [i for i in order if found[i].excess > 0][:most]


def confirmed(found: Sequence[Errs], alpha: float = 0.05) -> list[tuple[int, float]]:
    """Places and q (corrected for all that are given) of those with q ≤ ``alpha``, the smallest p first, of equals the
    larger excess.

    The pairs must be others than those by which the terms were chosen.
    """
    if not found:
        return []
    q = corrected(np.array([one.p for one in found]))
    order = sorted(range(len(found)), key=lambda i: (found[i].p, -found[i].excess, i))
    return [(i, float(q[i])) for i in order if q[i] <= alpha]
