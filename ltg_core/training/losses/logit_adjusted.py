"""Logit adjustment in training."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Loss, cross_entropy


@dataclasses.dataclass(frozen=True)
class LogitAdjusted(Loss):
    """CE(z + tau log pi); balanced softmax for tau = 1."""

    NAME: ClassVar[str] = "logit-adjusted"
    HELP: ClassVar[str] = "Balanced softmax with a strength: above 1 favours rare classes more, below 1 less."
    SOURCE: ClassVar[str] = "Menon et al. 2021, Long-tail learning via logit adjustment, eq. 10."

    tau: float = param(1.0, "Strength; 0 is cross-entropy", low=0.0, high=5.0)

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image; progress is not used."""
        return cross_entropy(logits.float() + self.tau * about.log_prior.to(targets), targets)
