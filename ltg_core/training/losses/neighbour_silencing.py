"""Neighbour silencing for training with auxiliary classes."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Loss, cross_entropy


@dataclasses.dataclass(frozen=True)
class NeighbourSilencing(Loss):
    """CE(z_k + tau log(n_k / N) + m[y, k]) with m = log lambda between a class and its auxiliary neighbours, else 0.

    y is the class with the largest label. Only the outputs of target classes are kept afterwards, so it does not
    matter that a class and its neighbours are hardly told apart.
    """

    NAME: ClassVar[str] = "neighbour-silencing"
    HELP: ClassVar[str] = "For auxiliary classes beside weak ones: they share features without competing."
    SOURCE: ClassVar[str] = "Category extrapolation (the released code has lambda = 0, its paper notes 0.1)."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"auxiliary"})

    silence: float = param(
        0.1, "lambda: how much a neighbour competes; 1 as any class, 0 not at all", low=0.0, high=1.0
    )
    tau: float = param(1.0, "Strength of the logit adjustment", low=0.0, high=5.0)

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Loss of each image; progress is not used."""
        adjusted = logits.float() + self.tau * about.log_prior.to(targets)
        if len(about.parents):
            silent = neighbours(about.parents.to(targets.device))[targets.argmax(dim=1)] & (targets == 0)
            quiet = math.log(self.silence) if self.silence > 0 else -math.inf
            adjusted = adjusted + torch.zeros_like(adjusted).masked_fill(silent, quiet)
        return cross_entropy(adjusted, targets)


def neighbours(parents: torch.Tensor) -> torch.Tensor:
    """(C, C) bool: whether k is an auxiliary class of y, or y one of k; parents (C,) or (C, P)."""
    classes = torch.arange(len(parents), device=parents.device)
    several = parents.reshape(len(parents), -1)
    beside: torch.Tensor = (several[None] == classes[:, None, None]).any(dim=2)  # [y, k]: k's parent is y
    return beside | beside.T
