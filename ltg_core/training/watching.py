"""What is watched on real validation images while a classifier is trained; figures by torchmetrics."""

from __future__ import annotations

from typing import Any

import torch

from ltg_core.compat import ensure_torchvision

BINS = 15


def watched(logits: torch.Tensor, labels: torch.Tensor, classes: int) -> dict[str, float]:
    """Accuracy, balanced accuracy, loss and calibration error of logits (N, C >= classes) on labels (N,).

    Outputs beyond ``classes`` belong to auxiliary classes and are left out. The balanced accuracy is the mean of
    the recalls of those classes that have an image.
    """
    functional = _functional()
    logits = logits[:, :classes].float()
    recall = functional.multiclass_recall(logits, labels, num_classes=classes, average="none")
    there = torch.bincount(labels, minlength=classes) > 0
    return {
        "accuracy": float(
            functional.multiclass_accuracy(logits, labels, num_classes=classes, average="micro")
        ),
        "balanced_accuracy": float(recall[there].mean()),
        "loss": float(torch.nn.functional.cross_entropy(logits, labels)),
        "ece": float(
            functional.multiclass_calibration_error(
                logits.softmax(dim=1), labels, num_classes=classes, n_bins=BINS, norm="l1"
            )
        ),
    }


def better(monitor: str, new: float, old: float | None) -> bool:
    """Whether a value is an improvement; equal is none."""
    return old is None or (new < old if monitor == "loss" else new > old)


def _functional() -> Any:
    ensure_torchvision()
    from torchmetrics.functional import classification

    return classification
