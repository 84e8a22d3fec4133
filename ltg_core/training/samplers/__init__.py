"""Samplers for retraining, one a file."""

from __future__ import annotations

from ltg_core.registry import Registry
from ltg_core.training.samplers.base import Sampler
from ltg_core.training.samplers.class_balanced import ClassBalancedSampler
from ltg_core.training.samplers.group_balanced import GroupBalancedSampler
from ltg_core.training.samplers.instance import InstanceSampler
from ltg_core.training.samplers.square_root import SquareRootSampler

SAMPLERS: Registry[Sampler] = Registry(
    "sampler", (InstanceSampler, ClassBalancedSampler, SquareRootSampler, GroupBalancedSampler)
)

__all__ = ["SAMPLERS", "Sampler"]
