"""Training a small classifier from scratch: the demo's, its judges, and any small labelled set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional as F

from ltg_core.errors import DatasetError
from ltg_core.fitting import FitSettings, Trainer, pick
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.architectures import build
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class ClassifierSettings(FitSettings):
    """A classifier trained from scratch."""

    steps: int = param(1500, "Optimiser steps", low=1)
    batch_size: int = param(64, "Images a step", low=2)
    lr: float = param(2e-3, "Peak learning rate", low=0.0)
    weight_decay: float = param(0.02, "AdamW weight decay", low=0.0)
    size: int = param(0, "Side of the network's input in pixels; 0 for that of the images", low=0)
    shift: int = param(3, "Random shift in pixels, each way", low=0)
    blur: float = param(0.0, "Share of images softened by down- and upscaling", low=0.0, high=1.0)
    exposure: float = param(0.0, "Random brightness factor 1 +- this", low=0.0, high=0.9)
    smoothing: float = param(0.0, "Label smoothing (single-label targets only)", low=0.0, high=0.5)


def fit_classifier(
    images: torch.Tensor,
    targets: torch.Tensor,
    labels: Sequence[str],
    arch: str,
    settings: ClassifierSettings,
    checkpoint: Path,
    *,
    name: str = "classifier",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Classifier:
    """Train on uint8 images (N, 3, H, W) and return the frozen classifier.

    Args:
        images: uint8 (N, 3, H, W).
        targets: int64 (N,) classes, or float (N, C) of zeros and ones for several labels an image (then trained
            with binary cross-entropy).
        labels: Names of the C outputs.
        arch: See `ltg_core.models.architectures.build`.
        settings: See `ClassifierSettings`.
        checkpoint: File from which an interrupted training goes on.
        name: For messages and for the record.
        on_progress: Called about every 50 steps.
        cancel: Checked every step.

    Raises:
        DatasetError: Images and targets differ in number.
    """
    if len(images) != len(targets):
        raise DatasetError(f"{len(images)} images but {len(targets)} targets; give one target an image")
    height, width = (settings.size, settings.size) if settings.size else images.shape[-2:]
    preprocess = Preprocess(height=height, width=width, resize="squash")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        net = build(arch, len(labels))
    trainer = Trainer(net, settings, checkpoint)

    def step(number: int, rng: torch.Generator) -> torch.Tensor:
        rows = pick(len(images), settings.batch_size, rng)
        x = augment(images[rows].float() / 255, settings, rng)
        logits = net(preprocess(x))
        if targets.ndim == 2:
            return F.binary_cross_entropy_with_logits(logits, targets[rows])
        return F.cross_entropy(logits, targets[rows], label_smoothing=settings.smoothing)

    trained = trainer.run(step, what=name, on_progress=on_progress, cancel=cancel or CancelToken())
    return Classifier(trained, labels, preprocess, name=name, arch=arch)


def augment(x: torch.Tensor, settings: ClassifierSettings, rng: torch.Generator) -> torch.Tensor:
    """Random shift, exposure and softening of images (B, 3, H, W) in [0, 1]."""
    side = settings.shift
    if side:
        height, width = x.shape[-2:]
        padded = F.pad(x, (side,) * 4, mode="replicate")
        corners = torch.randint(2 * side + 1, (len(x), 2), generator=rng).tolist()
        x = torch.stack(
            [p[:, r : r + height, c : c + width] for p, (r, c) in zip(padded, corners, strict=True)]
        )
    if settings.exposure:
        factor = 1 + settings.exposure * (2 * torch.rand(len(x), 1, 1, 1, generator=rng) - 1)
        x = (x * factor).clamp(0, 1)
    if settings.blur:
        soft = torch.rand(len(x), 1, 1, 1, generator=rng) < settings.blur
        half = F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)
        x = torch.where(soft, F.interpolate(half, size=x.shape[-2:], mode="bilinear"), x)
    return x
