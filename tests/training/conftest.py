"""A world of coloured squares, a classifier of some hundred weights, and training sets of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.training.loop import TrainingSet
from ltg_core.training.losses import About

SIDE, CLASSES = 8, 3
LONG_TAIL = (40, 16, 6)


class TinyNet(nn.Module):
    """One convolution, batch normalisation, dropout, one linear layer."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.2)
        self.fc = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(F.relu(self.norm(self.conv(x))).mean(dim=(2, 3))))


def pictures(counts: tuple[int, ...], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with one brighter channel a class: images (N, 3, 8, 8) in [0, 1] and classes (N,)."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.full((count,), k) for k, count in enumerate(counts)])
    images = 0.35 + 0.15 * torch.randn(len(labels), 3, SIDE, SIDE, generator=rng)
    images[torch.arange(len(labels)), labels] += 0.12
    return images.clamp(0, 1), labels


@pytest.fixture
def tiny() -> Classifier:
    """An untrained classifier of three colours."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = TinyNet()
    return Classifier(
        net, ("red", "green", "blue"), Preprocess(SIDE, SIDE, resize="squash"), name="tiny", arch="tiny"
    )


@pytest.fixture
def training_set() -> Callable[..., TrainingSet]:
    """Makes a training set of pictures, or of what ``features`` makes of them."""

    def make(
        features: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        counts: tuple[int, ...] = LONG_TAIL,
        held: tuple[int, ...] = (8, 8, 8),
    ) -> TrainingSet:
        images, labels = pictures(counts, 1)
        held_images, held_labels = pictures(held, 2)
        x, y = features(images), features(held_images) if len(held_images) else held_images
        return TrainingSet(
            fetch=lambda rows: x[rows],
            targets=F.one_hot(labels, CLASSES).float(),
            weights=torch.ones(len(labels)),
            groups=torch.arange(len(labels)) % 2,
            about=About(torch.bincount(labels, minlength=CLASSES).float(), torch.tensor([31.0, 31.0])),
            held=lambda rows: y[rows],
            held_labels=held_labels,
            classes=CLASSES,
            fingerprint="coloured squares",
        )

    return make
