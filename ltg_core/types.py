"""Tensor aliases: axes, range and meaning in one place.

Everything inside the package uses these ranges; an adapter converts to its model's own range and back.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import torch

Images: TypeAlias = torch.Tensor
"""(B, 3, H, W) float in [0, 1], RGB."""
Latents: TypeAlias = torch.Tensor
"""(B, C, h, w) float, in the denoiser's own scale (unit variance)."""
Logits: TypeAlias = torch.Tensor
"""(B, classes) float."""
Features: TypeAlias = torch.Tensor
"""(B, D) float."""
Labels: TypeAlias = torch.Tensor
"""(B,) int64 class indices."""
Scores: TypeAlias = torch.Tensor
"""(B,) float; higher is rarer or harder."""


class Outputs(NamedTuple):
    """What a frozen classifier says about a batch.

    Attributes:
        logits: (B, classes).
        features: (B, D), the input of the classifier's last linear layer.
        early: (B, E), the average-pooled output of an earlier stage, or None where none was found.
    """

    logits: Logits
    features: Features
    early: Features | None = None

    def stacked(self) -> Features:
        """Features for the heads: penultimate and, where there is one, the earlier layer, (B, D + E)."""
        return self.features if self.early is None else torch.cat([self.features, self.early], dim=1)
