"""Balanced softmax."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.training.losses.base import About, Loss, cross_entropy


@dataclasses.dataclass(frozen=True)
class BalancedSoftmax(Loss):
    """CE(z + log n): the prior is in the training, so it is not in the logits."""

    NAME: ClassVar[str] = "balanced-softmax"
    HELP: ClassVar[str] = "For balanced accuracy on a long tail; the first one to try after cross-entropy."
    SOURCE: ClassVar[str] = "Ren et al. 2020, Balanced Meta-Softmax, eq. 4."

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image; progress is not used."""
        return cross_entropy(logits.float() + about.log_prior.to(targets), targets)
