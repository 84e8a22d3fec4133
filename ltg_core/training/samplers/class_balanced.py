"""Every class equally often."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.training.samplers.base import Sampler, sizes


@dataclasses.dataclass(frozen=True)
class ClassBalancedSampler(Sampler):
    """p proportional to 1 / n_y."""

    NAME: ClassVar[str] = "class-balanced"
    HELP: ClassVar[str] = (
        "Every class equally often; with a frozen backbone and a new head it is classifier re-training (cRT)."
    )

    def chances(self, labels: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
        """By class."""
        return 1 / sizes(labels)
