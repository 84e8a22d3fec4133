"""Label-distribution-aware margins with deferred re-weighting."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Loss, cross_entropy, effective_weights


@dataclasses.dataclass(frozen=True)
class Ldam(Loss):
    """CE(s (z_k - t_k m_k)) with m_k = M n_k^(-1/4) / max n^(-1/4); class-balanced weights after ``defer``.

    The authors' head is cosine-normalised with s = 30. Classifiers here keep their own linear layer, for which s = 1.
    """

    NAME: ClassVar[str] = "ldam"
    HELP: ClassVar[str] = (
        "Rare classes must win by a larger margin; weighted by class in the last part (DRW)."
    )
    SOURCE: ClassVar[str] = "Cao et al. 2019, LDAM, eqs. 10-13 and section 3.3 (deferred re-weighting)."

    margin: float = param(0.5, "Largest margin, that of the rarest class, in logits", low=0.0, high=20.0)
    scale: float = param(1.0, "Multiplies the logits; 30 for a cosine head", low=0.1, high=100.0)
    defer: float = param(
        0.8, "Share of the training before re-weighting begins; 1 for never", low=0.0, high=1.0
    )
    beta: float = param(0.9999, "Of the class-balanced weights then", low=0.0, high=0.999999)

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image."""
        rarity = about.counts.float().clamp_min(1.0) ** -0.25
        margins = (self.margin * rarity / rarity.max()).to(targets)
        losses = cross_entropy(self.scale * (logits.float() - targets * margins), targets)
        if progress < self.defer:
            return losses
        return (targets @ effective_weights(about.counts, self.beta).to(targets)) * losses
