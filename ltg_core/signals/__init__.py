"""Signals of the long tail, one a file named like the signal; higher is rarer or harder."""

from __future__ import annotations

from ltg_core.registry import Registry
from ltg_core.signals.base import Signal
from ltg_core.signals.density import Density
from ltg_core.signals.energy import Energy
from ltg_core.signals.entropy import Entropy
from ltg_core.signals.epistemic import Epistemic
from ltg_core.signals.hardness import Hardness
from ltg_core.signals.leverage import Leverage
from ltg_core.signals.logit_variance import LogitVariance
from ltg_core.signals.loss import Loss
from ltg_core.signals.margin import Margin
from ltg_core.signals.relative_mahalanobis import RelativeMahalanobis

SIGNALS: Registry[Signal] = Registry(
    "signal",
    (
        Epistemic,
        LogitVariance,
        Entropy,
        Margin,
        Energy,
        Loss,
        Hardness,
        Density,
        RelativeMahalanobis,
        Leverage,
    ),
)

__all__ = ["SIGNALS", "Signal"]
