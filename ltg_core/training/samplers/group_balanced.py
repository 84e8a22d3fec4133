"""Every group equally often."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.training.samplers.base import Sampler, sizes


@dataclasses.dataclass(frozen=True)
class GroupBalancedSampler(Sampler):
    """p proportional to 1 / n_g; images of no group are one group more."""

    NAME: ClassVar[str] = "group-balanced"
    HELP: ClassVar[str] = "Every pair of class and condition equally often; goes with group-dro."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"groups"})

    def chances(self, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """By group."""
        return 1 / sizes(groups + 1)
