"""Values of samples as something that can be coloured: a few names, or a scale of numbers."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 20
"""Names that get a colour of their own; the rest share one."""
LEVELS = 255
"""Steps of a scale of numbers; the step ``LEVELS`` itself means that there is no number."""
NOTHING = "no value"
_FEW = 12  # numbers of fewer different values are names: a year, a camera's index


@dataclasses.dataclass(frozen=True, eq=False)
class Colouring:
    """One colour for each sample.

    Attributes:
        codes: (N,) uint8: the position in ``names``, or 0 to 254 between ``low`` and ``high`` and 255 for no number.
        names: In the order of the legend; () for numbers.
        counts: How many samples have each name.
        merged: How many different values share the last name, "other"; 0 where none do.
        low: Of the scale.
        high: Of the scale.
    """

    codes: NDArray[np.uint8]
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    merged: int = 0
    low: float = 0.0
    high: float = 0.0


def by_name(values: Sequence[str | None], order: Sequence[str] = (), most: int = MOST) -> Colouring:
    """Names: those of ``order`` first and in that order, then the others by frequency; beyond ``most`` the rarest
    become one, called "other". Samples without a value are named so and come last.
    """
    counted = Counter(values)
    without = counted.pop(None, 0)
    ranked = sorted((str(v) for v in counted), key=lambda name: (-counted[name], name))
    merged = max(0, len(ranked) - most)
    shown = set(ranked[:most])
    names = [name for name in dict.fromkeys(order) if name in shown]
    names += [name for name in ranked[:most] if name not in set(names)]
    place: dict[str | None, int] = {name: i for i, name in enumerate(names)}
    if merged:
        names.append(_unused(f"other ({merged:,} values)", names))
        place |= {name: len(names) - 1 for name in ranked[most:]}
    if without:
        names.append(_unused(NOTHING, names))
        place[None] = len(names) - 1
    codes = np.array([place[value] for value in values], dtype=np.uint8)
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return Colouring(codes, tuple(names), tuple(counts), merged)


def by_number(
    values: Sequence[float | None], low: float | None = None, high: float | None = None
) -> Colouring:
    """A scale from the 1st to the 99th percentile, lest outliers take all of it, unless its ends are given."""
    numbers = np.array([math.nan if v is None else float(v) for v in values], dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return by_name([None] * len(numbers))
    ends = np.percentile(known, (1, 99))
    first, last = (float(ends[0]) if low is None else low), (float(ends[1]) if high is None else high)
    if last <= first:
        first, last = float(known.min()), float(known.max())
    span = last - first or 1.0
    with np.errstate(invalid="ignore"):
        steps = np.clip(np.rint((numbers - first) / span * (LEVELS - 1)), 0, LEVELS - 1)
    codes = np.where(np.isfinite(numbers), steps, LEVELS).astype(np.uint8)
    return Colouring(codes, low=first, high=last)


def by_value(values: Sequence[Any]) -> Colouring:
    """Whatever a column holds: a scale for numbers of many values, names for everything else."""
    known = [value for value in values if value is not None]
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in known)
    if known and numeric and len(set(known)) > _FEW:
        return by_number(values)
    order = [_text(value) for value in sorted(set(known))] if numeric else []
    return by_name([None if value is None else _text(value) for value in values], order)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _unused(name: str, names: Sequence[str]) -> str:
    """The name, marked where a value of the data happens to be called the same."""
    while name in names:
        name += "*"
    return name
