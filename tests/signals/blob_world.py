"""A small world of Gaussian blobs that looks like outputs of a classifier: five classes, one of them rare."""

from __future__ import annotations

import torch

from ltg_core.signals.head import HeadSettings
from ltg_core.types import Labels, Outputs

CLASSES, WIDTH, EARLY = 5, 8, 4
SMALL = HeadSettings(members=6, hidden=16, epochs=20, lr=0.02, anchor=False)


def outputs(features: torch.Tensor) -> Outputs:
    """Logits and early features that follow from the features, differentiably."""
    logits = -torch.cdist(features, means().to(features.dtype)).square() / 2
    mix = torch.linspace(-1, 1, WIDTH * EARLY, dtype=features.dtype).view(WIDTH, EARLY)
    return Outputs(logits, features, torch.tanh(features @ mix))


def means() -> torch.Tensor:
    """Class centres, three standard deviations along an axis of their own."""
    return 3 * torch.eye(CLASSES, WIDTH)


def blobs(count: int, seed: int) -> tuple[Outputs, Labels]:
    """Samples of classes 0 to 4 with correlated noise; class 4 has two samples at most."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES - 1, (count,), generator=generator)
    labels[:2] = CLASSES - 1
    noise = torch.randn(count, WIDTH, generator=generator)
    noise[:, 1] += 0.8 * noise[:, 0]
    return outputs(means()[labels] + noise), labels
