"""Cross-entropy weighted by the effective number of images of a class."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Loss, cross_entropy, effective_weights


@dataclasses.dataclass(frozen=True)
class ClassBalanced(Loss):
    """w_y CE with w_c = (1 - beta) / (1 - beta^n_c), scaled to sum to C; a soft label gets the mean of its weights."""

    NAME: ClassVar[str] = "class-balanced"
    HELP: ClassVar[str] = (
        "Rare classes weigh more; for moderate imbalance, or to make up for a plain sampler."
    )
    SOURCE: ClassVar[str] = (
        "Cui et al. 2019, Class-Balanced Loss Based on Effective Number of Samples, eq. 6."
    )

    beta: float = param(
        0.9999, "0 weighs all classes alike, near 1 by 1 / number of images", low=0.0, high=0.999999
    )

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image; progress is not used."""
        weights = effective_weights(about.counts, self.beta).to(targets)
        return (targets @ weights) * cross_entropy(logits, targets)
