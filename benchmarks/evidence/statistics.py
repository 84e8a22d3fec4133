"""Figures of arms from which images each of their seeds got right, with intervals over images and seeds."""

from __future__ import annotations

import base64
import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ROUNDS = 2000
_BLOCK = 250


def packed(flags: Array) -> str:
    """A row of flags as text: eight a byte, base64."""
    return base64.b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpacked(text: str, count: int) -> Array:
    """(count,) bool, what ``packed`` was given."""
    bits = np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=count)
    return bits.astype(bool)


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """The test images as the figures need them.

    Attributes:
        labels: (N,) true classes.
        parts: Name → classes; the figure is the mean of their recalls.
        sets: Name → (N,) bool; the figure is the share that is right.
    """

    labels: Array
    parts: Mapping[str, Sequence[int]]
    sets: Mapping[str, Array]

    @property
    def names(self) -> tuple[str, ...]:
        """Of all figures, in the order of ``figures``."""
        return ("overall", "balanced", "worst class", *self.parts, *self.sets)

    def figures(self, right: Array, weights: Array) -> Array:
        """Every figure under many weightings of the images.

        Args:
            right: (N,) bool or share.
            weights: (R, N) how often each image counts.

        Returns:
            (R, F); a class without an image is left out of means, what has none at all is NaN.
        """
        rows = [list(some) for some in self.parts.values()]
        classes = max(int(self.labels.max()), *(max(some, default=0) for some in rows), 0) + 1
        members = np.zeros((len(self.labels), classes + len(self.sets)))
        members[np.arange(len(self.labels)), self.labels] = 1.0
        for place, mask in enumerate(self.sets.values()):
            members[:, classes + place] = mask
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = ((weights * right) @ members) / (weights @ members)
        recall = shares[:, :classes]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # nothing but NaN gives NaN
            columns = [np.nanmean(recall, axis=1), np.nanmin(recall, axis=1)]
            columns += [np.nanmean(recall[:, some], axis=1) for some in rows]
        columns.insert(0, (weights * right).sum(axis=1) / weights.sum(axis=1))
        return np.column_stack([*columns, shares[:, classes:]])

    def measured(self, right: Array) -> dict[str, float]:
        """Every figure of one row of answers."""
        found = self.figures(np.asarray(right, dtype=float), np.ones((1, len(self.labels))))[0]
        return dict(zip(self.names, map(float, found), strict=True))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A figure, or a difference of two arms, with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def certain(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


def estimated(
    frame: Judged,
    after: Mapping[int, Array],
    before: Mapping[int, Array] | None = None,
    *,
    rounds: int = ROUNDS,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Every figure of an arm, or of its difference to another one, over resamples of images and of seeds.

    In each round the images are drawn with replacement, the same ones for both arms and all seeds, and so are the
    seeds, the same ones for both arms; with one seed only the images are drawn. The interval is between the 2.5th
    and the 97.5th percentile.

    Args:
        frame: The images.
        after: Seed → (N,) bool, which images are right.
        before: The same of the other arm, of which only seeds that both have are used; None for the arm itself.
        rounds: Resamples.
        seed: Of the draws.

    Raises:
        ValueError: The two have no seed in common.
    """
    seeds = sorted(after if before is None else set(after) & set(before))
    if not seeds:
        raise ValueError("the two arms have no seed in common")
    rows = [after[s].astype(float) for s in seeds]
    if before is not None:
        others = [before[s].astype(float) for s in seeds]
    count, rng = len(frame.labels), np.random.default_rng(seed)

    def of(weights: Array) -> Array:  # (seeds, R, F)
        found = np.stack([frame.figures(row, weights) for row in rows])
        return found if before is None else found - np.stack([frame.figures(row, weights) for row in others])

    point = of(np.ones((1, count))).mean(axis=0)[0]
    drawn = []
    for start in range(0, rounds, _BLOCK):
        size = min(_BLOCK, rounds - start)
        weights = np.stack(
            [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(size)]
        )
        chosen = rng.integers(len(seeds), size=(size, len(seeds)))
        values = of(weights.astype(float))
        drawn.append(np.stack([values[pick, place].mean(axis=0) for place, pick in enumerate(chosen)]))
    low, high = np.nanpercentile(np.concatenate(drawn), [2.5, 97.5], axis=0)
    return {
        name: Estimate(float(point[k]), float(low[k]), float(high[k])) for k, name in enumerate(frame.names)
    }
