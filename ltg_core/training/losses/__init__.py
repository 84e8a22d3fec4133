"""Losses for retraining, one a file."""

from __future__ import annotations

from ltg_core.registry import Registry
from ltg_core.training.losses.balanced_softmax import BalancedSoftmax
from ltg_core.training.losses.base import About, Batch, Loss
from ltg_core.training.losses.class_balanced import ClassBalanced
from ltg_core.training.losses.cross_entropy import CrossEntropy
from ltg_core.training.losses.focal import Focal
from ltg_core.training.losses.group_dro import GroupDro
from ltg_core.training.losses.ldam import Ldam
from ltg_core.training.losses.logit_adjusted import LogitAdjusted
from ltg_core.training.losses.neighbour_silencing import NeighbourSilencing

LOSSES: Registry[Loss] = Registry(
    "loss",
    (
        CrossEntropy,
        BalancedSoftmax,
        LogitAdjusted,
        ClassBalanced,
        Ldam,
        Focal,
        GroupDro,
        NeighbourSilencing,
    ),
)

__all__ = ["LOSSES", "About", "Batch", "Loss"]
