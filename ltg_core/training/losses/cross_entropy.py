"""Plain cross-entropy."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Loss, cross_entropy


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Loss):
    """-sum_k t_k log p_k with t = (1 - e) t + e / C."""

    NAME: ClassVar[str] = "cross-entropy"
    HELP: ClassVar[str] = "The usual loss; what every other one must beat."
    SOURCE: ClassVar[str] = "Standard; smoothing by Szegedy et al. 2016."

    smoothing: float = param(0.0, "Share of each label that is spread over all classes", low=0.0, high=0.5)

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image; counts and progress are not used."""
        soft = targets * (1 - self.smoothing) + self.smoothing / targets.shape[1]
        return cross_entropy(logits, soft)
