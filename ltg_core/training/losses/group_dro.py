"""Distributionally robust optimisation over groups: the worst group decides."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch

from ltg_core.params import param
from ltg_core.training.losses.base import About, Batch, Loss, State, cross_entropy


@dataclasses.dataclass(frozen=True)
class GroupDro(Loss):
    """sum_g q_g L_g with q_g proportional to q_g exp(eta (L_g + C / sqrt(n_g))), L_g the mean over the group.

    Groups are the pairs of class and value of the metadata column. Use it with the group-balanced sampler, as the
    authors do, and with more weight decay than usual.
    """

    NAME: ClassVar[str] = "group-dro"
    HELP: ClassVar[str] = (
        "For the worst group: pairs of class and condition, where a column names the condition."
    )
    SOURCE: ClassVar[str] = (
        "Sagawa et al. 2020, Distributionally Robust Neural Networks, algorithm 1 and eq. 5."
    )
    NEEDS: ClassVar[frozenset[str]] = frozenset({"groups"})

    eta: float = param(0.01, "How fast weight moves to the worst group", low=0.0, high=10.0)
    adjustment: float = param(
        0.0,
        "Generalisation adjustment C: small groups count as worse by C / root of size",
        low=0.0,
        high=100.0,
    )

    def each(
        self, logits: torch.Tensor, targets: torch.Tensor, about: About, progress: float
    ) -> torch.Tensor:
        """Cross-entropy of each image."""
        return cross_entropy(logits, targets)

    def state(self, about: About) -> State:
        """Equal weights."""
        count = len(about.groups)
        return {"q": torch.full((count,), 1 / max(1, count), device=about.groups.device)}

    def __call__(self, batch: Batch, about: About, state: State) -> torch.Tensor:
        """The weighted sum of the groups' mean losses; ``state["q"]`` is moved first.

        Images of no group are not looked at.
        """
        losses = batch.weights * self.each(batch.logits, batch.targets, about, batch.progress)
        known = batch.groups >= 0
        place = batch.groups.clamp_min(0)
        count = torch.zeros_like(state["q"]).index_add_(0, place, known.to(state["q"]))
        sums = torch.zeros_like(state["q"]).index_add(0, place, (losses * known).to(state["q"]))
        means = sums / count.clamp_min(1.0)
        # A group that is not in the batch has the loss 0, so that its weight falls a little.
        margin = self.adjustment / about.groups.to(means).clamp_min(1.0).sqrt()
        q = state["q"] * (self.eta * (means.detach() + margin)).exp()
        state["q"] = q / q.sum()
        return (state["q"] * means).sum()
