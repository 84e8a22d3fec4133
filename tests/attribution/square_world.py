"""Images with one answer to "where": three classes, told apart by the colour of a square in noise."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess

SIZE = 24
SIDE = 7


class Squares(NamedTuple):
    images: torch.Tensor  # (B, 3, 24, 24)
    labels: torch.Tensor  # (B,)
    masks: torch.Tensor  # (B, 24, 24) bool, where the square is


def squares(count: int, seed: int) -> Squares:
    """Grey noise with a square of 7 pixels; the class is its colour: red, green or blue."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, SIZE, SIZE, generator=generator).repeat(1, 3, 1, 1) * 0.6
    labels = torch.randint(3, (count,), generator=generator)
    corners = torch.randint(SIZE - SIDE, (count, 2), generator=generator)
    masks = torch.zeros(count, SIZE, SIZE, dtype=torch.bool)
    for image, mask, label, (top, left) in zip(images, masks, labels.tolist(), corners.tolist(), strict=True):
        mask[top : top + SIDE, left : left + SIDE] = True
        image[label][mask] = 0.9
    return Squares(images, labels, masks)


def small_net(classes: int = 3) -> nn.Module:
    """Two convolutions, the mean over the 6 × 6 positions, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 12, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, classes),
    )


def wrapped(net: nn.Module, labels: tuple[str, ...] = ("red", "green", "blue")) -> Classifier:
    preprocess = Preprocess(height=SIZE, width=SIZE, resize="none", mean=(0.3,) * 3, std=(0.25,) * 3)
    return Classifier(net, labels, preprocess, name="squares", arch="test")
