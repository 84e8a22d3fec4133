"""Which samples a map shows where there are too many: evenly by class, all generated ones, always the same."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ltg_core.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Drawn:
    """Samples that were drawn.

    Attributes:
        rows: Their positions, sorted.
        real: How many real ones, and of how many.
        generated: The same of generated ones.
        classes: Classes among the real ones, samples without a label counted as one.
    """

    rows: NDArray[np.int64]
    real: tuple[int, int]
    generated: tuple[int, int]
    classes: int

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return self.real[0] == self.real[1] and self.generated[0] == self.generated[1]

    @property
    def words(self) -> str:
        """What was drawn and how, for example "20,000 of 100,000 real samples, evenly by class; all 64 generated"."""
        real, generated = _part(*self.real, "real"), _part(*self.generated, "generated")
        how = ", evenly by class" if self.real[0] < self.real[1] and self.classes > 1 else ""
        if not self.real[1] or not self.generated[1]:
            return f"{generated if not self.real[1] else real} samples{how}"
        return f"{real} samples{how}; {generated}"


def draw(labels: NDArray[np.int64], real: NDArray[np.bool_], size: int, seed: int) -> Drawn:
    """Choose at most ``size`` samples: all generated ones while they fill at most half, the others evenly by class.

    Args:
        labels: (N,) class of each sample, negative for none.
        real: (N,) whether it is real.
        size: Places.
        seed: The same seed draws the same samples.

    Raises:
        InputError: The lengths differ, or there is no place.
    """
    if labels.shape != real.shape or labels.ndim != 1 or size < 1:
        raise InputError(f"labels {labels.shape}, real {real.shape} and {size} places do not fit together")
    rng = np.random.default_rng(seed)
    there, made = np.flatnonzero(real), np.flatnonzero(~real)
    room = size - min(
        len(there), size // 2
    )  # generated samples never crowd out more than half of the real ones
    kept_made = made[stratified(labels[made], min(len(made), room), rng)]
    kept_real = there[stratified(labels[there], min(len(there), size - len(kept_made)), rng)]
    return Drawn(
        np.sort(np.concatenate([kept_real, kept_made])).astype(np.int64),
        (len(kept_real), len(there)),
        (len(kept_made), len(made)),
        len(np.unique(labels[there])),
    )


def stratified(labels: NDArray[np.int64], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of exactly ``size`` samples, sorted: rare classes whole, the others cut to equal numbers.

    Args:
        labels: (N,) classes.
        size: At most N.
        rng: Draws within the classes, and which of them get one more where the places do not divide evenly.
    """
    if size >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    low, high = 0, int(counts.max(initial=0))
    while low < high:  # the largest number a class that stays within size
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(np.minimum(counts, middle).sum()) <= size else (low, middle - 1)
    quota = np.minimum(counts, low)
    larger = rng.permutation(np.flatnonzero(counts > low))[: size - int(quota.sum())]
    quota[larger] += 1
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(codes[order], kind="stable")]
    starts = np.cumsum(counts) - counts
    place = np.arange(len(labels)) - np.repeat(starts, counts)
    return np.sort(by_class[place < np.repeat(quota, counts)]).astype(np.int64)


def _part(count: int, of: int, name: str) -> str:
    return f"all {of:,} {name}" if count == of else f"{count:,} of {of:,} {name}"
