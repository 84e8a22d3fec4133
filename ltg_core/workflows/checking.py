"""Is the classifier what it is taken for, and which signal finds its errors?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError
from ltg_core.models.classifier import Classifier
from ltg_core.signals.reference import score_all
from ltg_core.workflows.scoring import labels_of, moved
from ltg_core.workflows.setup import reference
from ltg_core.workflows.store import FeatureStore

BINS = 15
_CAUSES = (
    "usual causes are the wrong preprocessing (size, mean and standard deviation), class names in another order than "
    "the classifier's outputs, or weights that belong to other layers"
)


def check_classifier(ws: Workspace, classifier: Classifier, split: str | None = None) -> dict[str, Any]:
    """Accuracy of the stored predictions on labelled real samples, before anything is believed.

    Args:
        ws: The workspace.
        classifier: Scored on it.
        split: Only this split; None for all real samples.

    Returns:
        ``accuracy``, ``balanced_accuracy`` (mean over the classes that occur), ``n``, ``per_class`` (label,
        n, accuracy, None where there are no samples), ``confusion`` (C, C) with true classes as rows,
        ``chance``, ``ece`` (expected calibration error, 15 bins, Guo et al. 2017) and ``warning``, empty when
        all is well.

    Raises:
        DatasetError: No labelled real sample has a prediction.
    """
    labels, chosen, confidence = answers(ws, classifier, split)
    return measures(labels, chosen, confidence, classifier.labels) | {"split": split or ""}


def answers(
    ws: Workspace, classifier: Classifier, split: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, prediction and confidence of each labelled real sample with a prediction, (N,) each.

    Raises:
        DatasetError: There is none.
    """
    ids = ws.query(Filter(split=split, origin="real"))
    found = ws.predictions(ids, classifier.hash)
    ids = [sample for sample in ids if sample in found]
    labels = labels_of(ws, ids, classifier.num_classes)
    kept = labels >= 0
    if not kept.any():
        where = f"the split {split!r}" if split else "the workspace"
        raise DatasetError(
            f"{where} has no labelled real sample with a prediction of {classifier.name}; import labelled data and "
            "score it"
        )
    chosen = np.array([found[sample].pred for sample, keep in zip(ids, kept, strict=True) if keep])
    confidence = np.array([found[sample].confidence for sample, keep in zip(ids, kept, strict=True) if keep])
    return labels[kept], chosen, confidence


def measures(
    labels: np.ndarray, chosen: np.ndarray, confidence: np.ndarray, names: tuple[str, ...]
) -> dict[str, Any]:
    """The figures of ``check_classifier`` from labels, predictions and confidences, (N,) each."""
    classes = len(names)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, chosen), 1)
    counts, hits = confusion.sum(axis=1), np.diag(confusion)
    recall = np.divide(hits, counts, out=np.full(classes, np.nan), where=counts > 0)
    accuracy = float(hits.sum() / len(labels))
    return {
        "accuracy": accuracy,
        "balanced_accuracy": float(np.nanmean(recall)),
        "n": len(labels),
        "per_class": [
            {"label": name, "n": int(n), "accuracy": float(r) if n else None}
            for name, n, r in zip(names, counts, recall, strict=True)
        ],
        "confusion": confusion,
        "chance": 1 / classes,
        "ece": calibration_error(confidence, chosen == labels),
        "split": "",
        "warning": _warning(confusion, accuracy, float(np.nanmean(recall))),
    }


def discovery(ws: Workspace, classifier: Classifier, split: str | None = None) -> list[dict[str, Any]]:
    """How well each signal finds the classifier's errors on held-out real data: AUROC and average precision.

    The labels say what is an error and nothing else: the loss is left out, and hardness uses the predicted
    class.

    Args:
        ws: The workspace.
        classifier: Scored on it.
        split: Measured on this one; None for "test", or "val" where there is no test split.

    Returns:
        One record a signal, the best first: ``signal``, ``auroc_errors``, ``aupr_errors`` (NaN where there is
        no error or nothing else), ``n``, ``n_errors``, ``split``.

    Raises:
        DatasetError: No such split with labelled, scored samples.
    """
    store = FeatureStore(ws, classifier)
    for candidate in [split] if split is not None else ["test", "val"]:
        ids = ws.query(Filter(split=candidate, origin="real"))
        absent = set(store.missing(ids))
        ids = [sample for sample in ids if sample not in absent]
        labels = labels_of(ws, ids, classifier.num_classes)
        if (labels >= 0).any():
            break
    else:
        raise DatasetError(
            "signals are measured on scored, labelled real samples of the split 'test' or 'val'; there are none. Name "
            "another split, or hold some out when you import"
        )
    ids = [sample for sample, label in zip(ids, labels, strict=True) if label >= 0]
    labels = labels[labels >= 0]
    ref = reference(ws, classifier)
    parts: dict[str, list[np.ndarray]] = {}
    wrong: list[np.ndarray] = []
    for some, out in store.batches(ids):
        wrong.append(out.logits.argmax(dim=1).numpy() != labels[: len(some)])
        labels = labels[len(some) :]
        for name, values in score_all(
            out if ref is None else moved(out, classifier.device), ref, None
        ).items():
            parts.setdefault(name, []).append(values.cpu().double().numpy())
    errors = np.concatenate(wrong)
    records = [
        {
            "signal": name,
            "auroc_errors": auroc(np.concatenate(values), errors),
            "aupr_errors": average_precision(np.concatenate(values), errors),
            "n": len(errors),
            "n_errors": int(errors.sum()),
            "split": candidate,
        }
        for name, values in parts.items()
    ]
    return sorted(
        records, key=lambda r: -r["auroc_errors"] if r["auroc_errors"] == r["auroc_errors"] else 1.0
    )


def auroc(scores: np.ndarray, positive: np.ndarray) -> float:
    """Probability that a positive scores above a negative, ties counted half (Mann-Whitney); NaN without
    both.
    """
    positive = np.asarray(positive, dtype=bool)
    n_pos, n_neg = int(positive.sum()), int((~positive).sum())
    if not n_pos or not n_neg:
        return math.nan
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under precision and recall as a step function, tied scores taken together; NaN without
    positives.
    """
    positive = np.asarray(positive, dtype=bool)
    if not positive.any():
        return math.nan
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    gained = np.diff(hits[ends], prepend=0)
    return float((gained * hits[ends] / (ends + 1)).sum() / hits[-1])


def calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Expected calibration error with 15 bins of equal width: mean |accuracy - confidence|, weighted by
    samples.
    """
    inside = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    gaps = [
        abs(correct[inside == b].mean() - confidence[inside == b].mean()) * (inside == b).mean()
        for b in np.unique(inside)
    ]
    return float(sum(gaps))


def _warning(confusion: np.ndarray, accuracy: float, balanced: float) -> str:
    """What is probably wrong, empty when nothing seems to be."""
    n, classes = int(confusion.sum()), len(confusion)
    if classes < 2:
        return ""
    present = int((confusion.sum(axis=1) > 0).sum())
    chance = 1 / classes
    noise = 3 * math.sqrt(chance * (1 - chance) / n)
    if accuracy < 0.5:
        best, moved = _best_order(confusion)
        if moved and n >= 5 * classes and present > 1 and best > max(0.5, 2 * accuracy):
            return (
                f"accuracy is {accuracy:.1%}, but it would be {best:.1%} with the class names in another order: they "
                "are probably not in the order of the classifier's outputs"
            )
    share = confusion.sum(axis=0).max() / n
    if present > 1 and share > 0.95 and confusion.sum(axis=1).max() / n < 0.8:
        return f"{share:.0%} of all predictions are one class; {_CAUSES}"
    if accuracy <= chance + noise or (present > 2 and balanced <= 1.2 / present):
        return f"accuracy is {accuracy:.1%} on {n:,} samples, no better than chance ({chance:.1%}); {_CAUSES}"
    return ""


def _best_order(confusion: np.ndarray) -> tuple[float, bool]:
    """The accuracy with the outputs renamed in the best way, and whether that moves any name."""
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(confusion, maximize=True)
    return float(confusion[rows, columns].sum() / confusion.sum()), bool((rows != columns).any())
