"""A bank of real features and the distance of a sample to its nearest members."""

from __future__ import annotations

import dataclasses

import torch

from ltg_core.signals.projection import CHUNK, Pack
from ltg_core.types import Features, Labels, Scores


@dataclasses.dataclass(frozen=True, eq=False)
class Bank(Pack):
    """Projected features of some real samples.

    Attributes:
        features: (M, k), standardised and, where they are many, projected.
        positions: (M,) where each stood in the arrays that the bank was made from.
        labels: (M,) their classes.
    """

    features: torch.Tensor
    positions: torch.Tensor
    labels: torch.Tensor

    def nearest(self, x: Features, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances to the k nearest members, nearest first, (B, k), differentiable, and rows (B, k)."""
        k = min(k, len(self.features))
        index = torch.cat([self._nearest(rows, k) for rows in torch.split(x.detach(), CHUNK)])
        # measured again directly: the search uses matrix products, whose rounding depends on the batch
        distances = torch.linalg.vector_norm(x[:, None] - self.features[index], dim=2)
        order = distances.detach().argsort(dim=1, stable=True)
        return distances.gather(1, order), index.gather(1, order)

    def _nearest(self, x: Features, k: int) -> torch.Tensor:
        with torch.no_grad():
            return torch.cdist(x, self.features).topk(k, dim=1, largest=False).indices

    def distance(self, x: Features, k: int) -> Scores:
        """Mean distance to the k nearest members, (B,), in standard deviations of the features."""
        return self.nearest(x, k)[0].mean(dim=1)


def stratified(labels: Labels, size: int, generator: torch.Generator) -> torch.Tensor:
    """Positions of at most ``size`` samples, sorted; rare classes whole, the others cut equally."""
    counts = torch.bincount(labels.cpu())
    low, high = 0, int(counts.max())
    while low < high:  # the largest cap per class that keeps the sum within size
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(counts.clamp_max(middle).sum()) <= size else (low, middle - 1)
    order = torch.randperm(len(labels), generator=generator, device=generator.device).cpu()
    if low == 0:  # more classes than places
        return order[:size].sort().values
    shuffled = labels.cpu()[order]
    chosen = [order[(shuffled == y).nonzero()[:low, 0]] for y in range(len(counts))]
    return torch.cat(chosen).sort().values


def fit_bank(x: Features, labels: Labels, size: int, generator: torch.Generator) -> Bank:
    """Keep at most ``size`` of the projected features, (N, k), stratified by class."""
    positions = stratified(labels, size, generator).to(x.device)
    return Bank(x[positions].float().contiguous(), positions, labels[positions])
