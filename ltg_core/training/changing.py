"""Random changes of training images and mixtures of them."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch.nn import functional as F

from ltg_core.training.settings import TrainSettings
from ltg_core.types import Images


def stream(seed: int, what: str, number: int) -> torch.Generator:
    """Random numbers that belong to a purpose and a step alone, so that a resumed training draws them again."""
    return torch.Generator().manual_seed(number_of(seed, what, number))


def number_of(seed: int, what: str, number: int) -> int:
    """The seed of that stream, below 2^63."""
    return int.from_bytes(hashlib.sha256(f"{seed} {what} {number}".encode()).digest()[:8], "big") >> 1


def augment(x: Images, settings: TrainSettings, rng: torch.Generator) -> Images:
    """Random shift (edges repeated), mirroring and exposure of images (B, 3, H, W) in [0, 1]."""
    count, _, height, width = x.shape
    side = settings.shift
    if side:
        padded = F.pad(x, (side,) * 4, mode="replicate")
        corner = torch.randint(2 * side + 1, (2, count), generator=rng)
        rows = (corner[0][:, None] + torch.arange(height))[:, None, :, None]
        columns = (corner[1][:, None] + torch.arange(width))[:, None, None, :]
        x = padded[
            torch.arange(count)[:, None, None, None], torch.arange(3)[None, :, None, None], rows, columns
        ]
    if settings.flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=rng) < 0.5
        x = torch.where(mirrored, x.flip(3), x)
    if settings.exposure:
        factor = 1 + settings.exposure * (2 * torch.rand(count, 1, 1, 1, generator=rng) - 1)
        x = (x * factor).clamp(0, 1)
    return x


def mix(
    x: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, alpha: float, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """MixUp (Zhang et al. 2018): inputs, labels and weights as l a + (1 - l) b, one l of Beta(alpha, alpha) a batch."""
    if alpha <= 0:
        return x, targets, weights
    numbers = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
    share = float(numbers.beta(alpha, alpha))
    other = torch.randperm(len(x), generator=rng)
    return (
        share * x + (1 - share) * x[other],
        share * targets + (1 - share) * targets[other],
        share * weights + (1 - share) * weights[other],
    )
