"""Retraining an arm with the product's own training core, and which test images it gets right afterwards."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

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


def training_set(
    real: Split, images: np.ndarray, labels: np.ndarray, weight: float, val: Split
) -> TrainingSet:
    """Real pictures, then synthetic ones (N, H, W, 3) with the class that was asked for; validation is watched only."""
    pixels = torch.from_numpy(real.images)
    if len(images):
        pixels = torch.cat([pixels, torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))])
    targets = torch.cat([torch.from_numpy(real.signs), torch.from_numpy(labels.astype(np.int64))])
    weights = torch.cat([torch.ones(len(real.signs)), torch.full((len(labels),), weight)])
    one_hot = F.one_hot(targets, len(CLASSES)).float()
    held = torch.from_numpy(val.images)
    return TrainingSet(
        fetch=lambda at: pixels[at].float() / 255,
        targets=one_hot,
        weights=weights,
        groups=torch.full((len(targets),), -1),
        about=About((one_hot * weights[:, None]).sum(dim=0)),
        held=lambda at: held[at].float() / 255,
        held_labels=torch.from_numpy(val.signs),
        classes=len(CLASSES),
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
    signs: Signs,
    loss: str,
    images: np.ndarray,
    labels: np.ndarray,
    recipe: Recipe,
    seed: int,
    clock: Clock,
    classifier: Classifier | None = None,
) -> Learned:
    """A copy of the bundled classifier after retraining; the same training is not done twice.

    Args:
        signs: The world.
        loss: Name of the loss.
        images: (N, H, W, 3) uint8 synthetic images, N may be 0.
        labels: (N,) their classes.
        recipe: How.
        seed: Of order, changes and dropout.
        clock: Asked at every report.
        classifier: Where it begins; None for the bundled one.
    """
    start = classifier or signs.classifier
    data = training_set(signs.train, images, labels, recipe.weight, signs.val)
    settings = recipe.settings(signs.sizes.epochs)
    stamp = hashlib.sha256(
        f"{data.fingerprint} {settings.to_dict()} {loss} {seed} {start.hash}".encode()
    ).hexdigest()[:20]
    folder = signs.work / "trained"
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
        checkpoint=folder / f"{stamp}.ckpt",
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


def kept_results(folder: Path) -> dict[str, Any]:
    """How much is kept in the work folder, for people."""
    return {"trainings": len(list((folder / "trained").glob("*.done")))}
