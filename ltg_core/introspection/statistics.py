"""Intervals and tests for shares of samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from ltg_core.errors import InputError

Array = np.ndarray[Any, Any]


def wilson(bad: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a share (Wilson 1927); (0, 1) where there is nothing.

    With z the normal quantile of the level and p = bad / n:
    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n).

    Raises:
        InputError: Not 0 <= bad <= n, or a level that is not between 0 and 1.
    """
    from scipy.special import ndtri

    if not 0 <= bad <= n:
        raise InputError(f"a share is of 0 to n samples; got {bad} of {n}")
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is between 0 and 1; got {level}")
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    share, scale = bad / n, z * z / n
    middle = share + scale / 2
    reach = float(np.sqrt(scale * share * (1 - share) + scale * scale / 4))
    return max(0.0, (middle - reach) / (1 + scale)), min(1.0, (middle + reach) / (1 + scale))


def excess(bad: Array | int, n: Array | int, all_bad: Array | int, all_: Array | int) -> Array:
    """Probability of so many bad samples or more in a slice, were it drawn from all at random.

    Fisher's exact test, one side: P(X >= bad) for X hypergeometric. Arrays of any one shape.
    """
    from scipy.stats import hypergeom

    found: Array = np.clip(hypergeom.sf(np.asarray(bad) - 1, all_, all_bad, n), 0.0, 1.0)
    return found


def corrected(p: Array) -> Array:
    """Benjamini-Hochberg: q_i = min over j >= i of p_(j) m / j, so that q <= a keeps the false share at most a."""
    m = len(p)
    order = np.argsort(p, kind="stable")
    raised = p[order] * m / np.arange(1, m + 1)
    found = np.empty(m)
    found[order] = np.minimum(1.0, np.minimum.accumulate(raised[::-1])[::-1])
    return found
