"""The focal loss: what is right already counts little."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Loss


@dataclasses.dataclass(frozen=True)
class Focal(Loss):
    """-sum_k t_k (1 - p_k)^gamma log p_k over the softmax."""

    NAME: ClassVar[str] = "focal"
    HELP: ClassVar[str] = (
        "Easy images count little; for hard cases inside classes rather than for rare classes."
    )
    SOURCE: ClassVar[str] = "Lin et al. 2017, Focal Loss for Dense Object Detection, eq. 4, over the softmax."

    gamma: float = param(2.0, "0 is cross-entropy; larger looks at hard images only", low=0.0, high=10.0)

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image; counts and progress are not used."""
        log_p = logits.float().log_softmax(dim=1)
        # The floor keeps the derivative of 0^gamma finite for gamma below 1.
        doubt = (1 - log_p.exp()).clamp_min(1e-6) ** self.gamma
        return -(targets * doubt * log_p).sum(dim=1)
