"""Differences between classifiers on the same images, with paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.evaluation.frame import LOWER_IS_BETTER, Answers, Array, Frame

FEW = 10
"""A figure of fewer images gets no interval: resampling them says nothing about others."""
_LOST = 0.05  # share of resamples in which a figure may be undefined
_BLOCK = 64


class Difference(NamedTuple):
    """One figure before and after.

    Attributes:
        name: As in ``Frame.figures``.
        before: Mean over the seeds of the one.
        after: Mean over the seeds of the other.
        low: Lower end of the 95 % interval of after - before, None where there is none.
        high: Upper end.
        n: Images behind it, None for those of all images.
        spread: Standard deviation of ``after`` over the seeds, None for one seed.
    """

    name: str
    before: float
    after: float
    low: float | None
    high: float | None
    n: int | None
    spread: float | None

    @property
    def change(self) -> float:
        """after - before."""
        return self.after - self.before

    @property
    def worse(self) -> bool:
        """Whether the change is for the worse."""
        return self.change > 1e-12 if self.name in LOWER_IS_BETTER else self.change < -1e-12

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "change": self.change,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "spread": self.spread,
            "worse": self.worse,
            "certain": self.certain,
        }


def differences(
    frame: Frame,
    before: Sequence[Answers],
    after: Sequence[Answers],
    *,
    rounds: int = 2000,
    seed: int = 0,
) -> list[Difference]:
    """Every figure of two arms, each the mean over its seeds.

    In each round images are drawn with replacement, the same ones for both arms and all seeds; the interval is between
    the 2.5th and the 97.5th percentile of the differences. It says how much another set of such images would change
    the difference, not how much another training would: for that there is ``spread``.

    Args:
        frame: The images.
        before: Answers of one classifier a seed.
        after: The same of the other arm.
        rounds: Resamples.
        seed: Of the draws; equal seeds give equal intervals.
    """
    old, new = [frame.matrix(said) for said in before], [frame.matrix(said) for said in after]
    plain = np.ones((1, len(frame.labels)))
    first, last = _figures(frame, old, plain), _figures(frame, new, plain)
    drawn = _drawn(frame, old, new, rounds, np.random.default_rng(seed))
    counts = frame.counts()
    found = []
    for name in first:
        n = counts.get(name)
        low, high = (None, None) if (len(frame.labels) if n is None else n) < FEW else _interval(drawn[name])
        seeds = last[name][:, 0]
        spread = float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None
        found.append(Difference(name, float(first[name].mean()), float(seeds.mean()), low, high, n, spread))
    return [one for one in found if not np.isnan(one.before) and not np.isnan(one.after)]


def regressions(found: Sequence[Difference]) -> list[Difference]:
    """Everything that became worse: first what is certain, then by size."""
    worse = [one for one in found if one.worse]
    return sorted(worse, key=lambda one: (not one.certain, -abs(one.change), one.name))


def _figures(frame: Frame, matrices: Sequence[Any], weights: Array) -> dict[str, Array]:
    """Figures (seeds, rounds) of resamples (rounds, N)."""
    every = [frame.figures((matrix.T @ weights.T).T) for matrix in matrices]
    return {name: np.stack([one[name] for one in every]) for name in every[0]}


def _drawn(
    frame: Frame, old: Sequence[Any], new: Sequence[Any], rounds: int, rng: np.random.Generator
) -> dict[str, Array]:
    """Differences (rounds,) of every figure over resamples."""
    parts: dict[str, list[Array]] = {}
    count = len(frame.labels)
    for start in range(0, rounds, _BLOCK):
        some = min(_BLOCK, rounds - start)
        weights = np.stack(
            [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(some)]
        )
        first, last = _figures(frame, old, weights), _figures(frame, new, weights)
        for name in first:
            parts.setdefault(name, []).append(last[name].mean(axis=0) - first[name].mean(axis=0))
    return {name: np.concatenate(some) for name, some in parts.items()}


def _interval(values: Array) -> tuple[float, float] | tuple[None, None]:
    known = values[~np.isnan(values)]
    if len(known) < (1 - _LOST) * len(values) or not len(known):
        return None, None
    low, high = np.percentile(known, [2.5, 97.5])
    return float(low), float(high)
