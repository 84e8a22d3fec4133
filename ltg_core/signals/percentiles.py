"""Percentiles against held-out real data: the unit in which a person reads a signal."""

from __future__ import annotations

from typing import Any, overload

import numpy as np
import torch

from ltg_core.errors import InputError, ModelError
from ltg_core.types import Scores

QUANTILES = 2000

Table = np.ndarray[Any, np.dtype[np.float64]]


def fit_table(name: str, values: Scores) -> Table:
    """At most ``QUANTILES`` sorted float64 values that stand for the distribution.

    Raises:
        ModelError: Some values are not finite.
    """
    plain: Table = np.sort(values.cpu().double().numpy())
    if not np.isfinite(plain).all():
        raise ModelError(f"the signal {name!r} is not finite on real data; look for broken images or weights")
    return plain if len(plain) <= QUANTILES else np.quantile(plain, np.linspace(0, 1, QUANTILES))


@overload
def ranks(table: Table, values: torch.Tensor) -> torch.Tensor: ...
@overload
def ranks(table: Table, values: Table) -> Table: ...
def ranks(table: Table, values: torch.Tensor | Table) -> torch.Tensor | Table:
    """Share of the table below each value, 0 to 100; ties count half, NaN stays NaN."""
    if isinstance(values, torch.Tensor):
        found = ranks(table, values.detach().cpu().double().numpy())
        return torch.from_numpy(found).to(values.device, torch.float32)
    plain = np.asarray(values, dtype=np.float64)
    sides = np.searchsorted(table, plain, side="left") + np.searchsorted(table, plain, side="right")
    return np.where(np.isnan(plain), np.nan, 50.0 * sides / len(table))


def value_at(table: Table, percentile: float) -> float:
    """The value at a percentile: the inverse of ``ranks``.

    Raises:
        InputError: The percentile is not within 0 to 100.
    """
    if not 0 <= percentile <= 100:
        raise InputError(f"a percentile is 0 to 100; got {percentile}")
    return float(np.quantile(table, percentile / 100))
