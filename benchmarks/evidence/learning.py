"""Retraining an arm with the product's own training core, and which test images it gets right afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.evidence.signs import Signs, outputs
from benchmarks.evidence.units import Clock
from ltg_core.demo.data import Split
from ltg_core.demo.world import CLASSES
from ltg_core.evaluation.posthoc import adjusted, fit_tau
from ltg_core.fitting import read_checkpoint, write_checkpoint
from ltg_core.jobs import CancelToken, Progress
from ltg_core.models.classifier import Classifier
from ltg_core.training.loop import Fit, TrainingSet
from ltg_core.training.losses import LOSSES, About
from ltg_core.training.samplers.instance import InstanceSampler
from ltg_core.training.settings import TrainSettings
from ltg_core.training.student import Teacher


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How every arm is retrained.

    Attributes:
        scope: Of the copy: "whole" goes on from the bundled weights.
        lr: Peak learning rate.
        weight: Of a synthetic image; a real one has 1.
        batch: Images a step.
    """

    scope: str = "whole"
    lr: float = 3e-4
    weight: float = 1.0
    batch: int = 64

    def settings(self, epochs: int) -> TrainSettings:
        """For the training core: a fixed number of epochs, the averaged weights of the last."""
        return TrainSettings(
            scope=self.scope, epochs=epochs, batch_size=self.batch, lr=self.lr, patience=0, shift=2, ema=0.99
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Real:
    """Real pictures that are learned from, and real ones that are only watched.

    Attributes:
        pixels: uint8 (N, 3, H, W).
        labels: int64 (N,).
        held: uint8 (M, 3, H, W).
        held_labels: int64 (M,).
        classes: How many.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    held: torch.Tensor
    held_labels: torch.Tensor
    classes: int


def real_signs(signs: Signs) -> Real:
    """The bundled pictures."""
    train, val = signs.train, signs.val
    parts = (torch.from_numpy(a) for a in (train.images, train.signs, val.images, val.signs))
    return Real(*parts, len(CLASSES))


def training_set(real: Real, images: np.ndarray, labels: np.ndarray, weight: float) -> TrainingSet:
    """Real pictures, then synthetic ones, uint8 (N, H, W, 3), with the class (N,) that was asked for."""
    pixels = real.pixels
    if len(images):
        pixels = torch.cat([pixels, torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))])
    targets = torch.cat([real.labels, torch.from_numpy(labels.astype(np.int64))])
    weights = torch.cat([torch.ones(len(real.labels)), torch.full((len(labels),), weight)])
    one_hot = F.one_hot(targets, real.classes).float()
    held = real.held
    return TrainingSet(
        fetch=lambda at: pixels[at].float() / 255,
        targets=one_hot,
        weights=weights,
        groups=torch.full((len(targets),), -1),
        about=About((one_hot * weights[:, None]).sum(dim=0)),
        held=lambda at: held[at].float() / 255,
        held_labels=real.held_labels,
        classes=real.classes,
        fingerprint=hashlib.sha256(
            pixels.numpy().tobytes() + targets.numpy().tobytes() + weights.numpy().tobytes()
        ).hexdigest()[:32],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Learned:
    """A retrained classifier and what its training said.

    Attributes:
        classifier: The new one.
        validation: Balanced accuracy and accuracy on real validation pictures after the last epoch.
        steps: Optimiser steps.
    """

    classifier: Classifier
    validation: dict[str, float]
    steps: int


def retrained(
    signs: Signs, loss: str, images: np.ndarray, labels: np.ndarray, recipe: Recipe, seed: int, clock: Clock
) -> Learned:
    """A copy of the bundled classifier after retraining.

    Args:
        signs: The world.
        loss: Name of the loss.
        images: (N, H, W, 3) uint8 synthetic images, N may be 0.
        labels: (N,) their classes.
        recipe: How.
        seed: Of order, changes and dropout.
        clock: Asked at every report.
    """
    data = training_set(real_signs(signs), images, labels, recipe.weight)
    settings = recipe.settings(signs.sizes.epochs)
    return learned(signs.work, signs.classifier, data, loss, settings, seed, clock)


def learned(
    work: Path,
    start: Classifier,
    data: TrainingSet,
    loss: str,
    settings: TrainSettings,
    seed: int,
    clock: Clock,
    device: str = "cpu",
) -> Learned:
    """Train; the same training is not done twice.

    Args:
        work: Where checkpoints and weights are kept.
        start: Where it begins, or whose architecture it has.
        data: What is learned from.
        loss: Name of the loss.
        settings: Of the training core.
        seed: Of weights, order, changes and dropout.
        clock: Asked at every report.
        device: "cpu" or "cuda".
    """
    stamp = hashlib.sha256(
        f"{data.fingerprint} {settings.to_dict()} {loss} {seed} {start.hash}".encode()
    ).hexdigest()[:20]
    folder = work / "trained"
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"{stamp}.done"
    teacher = Teacher(start, settings, (), seed)
    if done.exists():
        kept = read_checkpoint(done)
        return Learned(teacher.finished(kept["state"], "retrained"), kept["validation"], int(kept["steps"]))

    def report(_: Progress) -> None:
        clock.rest()

    trained = Fit(
        teacher.student(), data, LOSSES[loss](), InstanceSampler(), settings, seed=seed,
        checkpoint=folder / f"{stamp}.ckpt", device=device,
    ).run(what=f"seed {seed}", on_progress=report, cancel=CancelToken())  # fmt: skip
    last = trained.history[-1]
    kept = {
        "state": trained.state,
        "validation": {name: float(last[name]) for name in ("accuracy", "balanced_accuracy")},
        "steps": settings.epochs * max(1, len(data.targets) // settings.batch_size),
    }
    write_checkpoint(done, kept)
    (folder / f"{stamp}.ckpt").unlink(missing_ok=True)
    return Learned(teacher.finished(trained.state, "retrained"), kept["validation"], kept["steps"])


def right(classifier: Classifier, split: Split) -> np.ndarray:
    """(N,) bool, which pictures it gets right."""
    found: np.ndarray = outputs(classifier, split.images).logits.argmax(dim=1).numpy() == split.signs
    return found


def right_adjusted(classifier: Classifier, signs: Signs) -> tuple[np.ndarray, float]:
    """The same after post-hoc logit adjustment, whose strength is chosen on validation; and that strength."""
    counts = np.bincount(signs.train.signs, minlength=len(CLASSES))
    here, there = (outputs(classifier, split.images).logits.numpy() for split in (signs.test, signs.val))
    tau = fit_tau(there, signs.val.signs, counts) if len(there) >= 20 else 1.0
    return adjusted(here, counts, tau).argmax(axis=1) == signs.test.signs, tau
