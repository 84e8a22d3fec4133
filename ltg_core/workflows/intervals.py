"""Shares with their uncertainty: what every figure on a page and in a report is written with."""

from __future__ import annotations

import math
from typing import NamedTuple

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution


class Share(NamedTuple):
    """A share of a count with its 95 % interval.

    Attributes:
        part: How many.
        whole: Of how many.
        low: Lower end; NaN of nothing.
        high: Upper end; NaN of nothing.
    """

    part: int
    whole: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share itself; NaN of nothing."""
        return self.part / self.whole if self.whole else math.nan


def share(part: int, whole: int) -> Share:
    """A share with its 95 % interval (Wilson 1927, the score interval)."""
    if whole <= 0:
        return Share(part, whole, math.nan, math.nan)
    p, z2 = part / whole, _Z * _Z
    middle = (p + z2 / (2 * whole)) / (1 + z2 / whole)
    half = _Z / (1 + z2 / whole) * math.sqrt(p * (1 - p) / whole + z2 / (4 * whole * whole))
    low = 0.0 if part == 0 else max(0.0, middle - half)
    return Share(part, whole, low, 1.0 if part == whole else min(1.0, middle + half))
