"""The fixed images on which classifiers are compared, and the figures as functions of sums over images.

Every figure is a function of sums over images (hits of a class, images said to be of it, confidence in a bin, ...).
So a bootstrap needs no second look at an image: a resample is a vector of how often each was drawn, and the sums are
products.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]

BINS = 15
LOWER_IS_BETTER = frozenset({"ece"})
OVERALL = ("accuracy", "balanced_accuracy", "macro_f1", "worst_class", "worst_group", "ece")
PARTS = ("head", "mid", "tail", "many", "medium", "few")


class Answers(NamedTuple):
    """What one classifier says of the images.

    Attributes:
        pred: (N,) class indices.
        confidence: (N,) largest softmax probability.
    """

    pred: Array
    confidence: Array


def answers(logits: Array) -> Answers:
    """From logits (N, C)."""
    z = logits.astype(np.float64)
    z = z - z.max(axis=1, keepdims=True)
    p = np.exp(z)
    return Answers(z.argmax(axis=1), 1 / p.sum(axis=1))


@dataclasses.dataclass(frozen=True)
class Frame:
    """Fixed images and the sets of them that are looked at.

    Attributes:
        labels: (N,) true classes.
        names: Class names.
        parts: Part of the classes (such as "tail") → class indices; its figure is the mean of their accuracies.
        sets: Name of a set of images (a group, a slice) → (N,) bool.
        groups: Those of ``sets`` among which the worst is looked for.
        smallest: Classes and groups with fewer images cannot be the worst.
    """

    labels: Array
    names: Sequence[str]
    parts: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    sets: Mapping[str, Array] = dataclasses.field(default_factory=dict)
    groups: Sequence[str] = ()
    smallest: int = 5

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    def counts(self) -> dict[str, int]:
        """Images behind each figure of a class or set, by the figure's name."""
        n = np.bincount(self.labels, minlength=self.classes)
        found = {f"class:{name}": int(k) for name, k in zip(self.names, n, strict=True)}
        found |= {f"set:{name}": int(mask.sum()) for name, mask in self.sets.items()}
        return found | {part: int(n[rows].sum()) for part, rows in self.parts.items()}

    def matrix(self, said: Answers) -> Any:
        """(N, K) sparse: what each image adds to each sum; K = 3 C + 2 bins + 2 sets."""
        from scipy import sparse

        rows, hit = np.arange(len(self.labels)), (said.pred == self.labels).astype(np.float64)
        bins = np.clip((said.confidence * BINS).astype(int), 0, BINS - 1)

        def spread(columns: Array, width: int, values: Array) -> Any:
            return sparse.csr_matrix((values, (rows, columns)), shape=(len(rows), width))

        one = np.ones(len(rows))
        blocks = [
            spread(self.labels, self.classes, one),
            spread(said.pred, self.classes, one),
            spread(self.labels, self.classes, hit),
            spread(bins, BINS, hit),
            spread(bins, BINS, said.confidence.astype(np.float64)),
        ]
        if self.sets:
            masks = np.stack([np.asarray(mask, dtype=np.float64) for mask in self.sets.values()], axis=1)
            blocks += [sparse.csr_matrix(masks), sparse.csr_matrix(masks * hit[:, None])]
        return sparse.hstack(blocks, format="csr")

    def figures(self, sums: Array) -> dict[str, Array]:
        """Every figure from sums (..., K); what has no image is NaN.

        accuracy; balanced_accuracy: mean recall of the classes that occur; macro_f1: mean of 2 TP / (true + said) over
        classes that occur or are said; worst_class and worst_group: the smallest accuracy; ece: sum over bins of
        |hits - confidence| / N; each part, ``class:<name>`` and ``set:<name>``: accuracy.
        """
        c, b, s = self.classes, BINS, len(self.sets)
        edges = np.cumsum([c, c, c, b, b, s])
        true, said, hits, hit_bin, sure_bin, n_set, hit_set = np.split(sums, edges, axis=-1)
        total = true.sum(axis=-1)
        recall, f1 = _ratio(hits, true), _ratio(2 * hits, true + said)
        found = {
            "accuracy": _ratio(hits.sum(axis=-1), total),
            "balanced_accuracy": _mean(recall),
            "macro_f1": _mean(f1),
            "worst_class": _least(recall[..., self._large(self.labels)]),
            "ece": _ratio(np.abs(hit_bin - sure_bin).sum(axis=-1), total),
        }
        by_set = _ratio(hit_set, n_set)
        names = list(self.sets)
        rows = [names.index(name) for name in self.groups if int(np.sum(self.sets[name])) >= self.smallest]
        if rows:
            found["worst_group"] = _least(by_set[..., rows])
        for part, members in self.parts.items():
            if len(members):
                found[part] = _mean(recall[..., members])
        found |= {f"class:{name}": recall[..., k] for k, name in enumerate(self.names)}
        found |= {f"set:{name}": by_set[..., k] for k, name in enumerate(names)}
        return found

    def measured(self, said: Answers) -> dict[str, float]:
        """The figures of one classifier on all images."""
        sums = np.asarray(self.matrix(said).sum(axis=0)).ravel()
        return {name: float(value) for name, value in self.figures(sums).items()}

    def _large(self, labels: Array) -> Array:
        found: Array = np.flatnonzero(np.bincount(labels, minlength=self.classes) >= self.smallest)
        return found


def thirds(counts: Array) -> dict[str, Array]:
    """Head, mid and tail: thirds of the classes by their number of real training images, the largest first."""
    order = np.argsort(-np.asarray(counts), kind="stable")
    return dict(zip(("head", "mid", "tail"), np.array_split(order, 3), strict=True))


def shots(counts: Array) -> dict[str, Array]:
    """Many (more than 100 real training images), medium (20 to 100) and few (fewer); empty parts are left out."""
    n = np.asarray(counts)
    found = {"many": n > 100, "medium": (n >= 20) & (n <= 100), "few": n < 20}
    return {name: np.flatnonzero(mask) for name, mask in found.items() if mask.any()}


def _ratio(part: Array, whole: Array) -> Array:
    found: Array = np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=np.asarray(whole) > 0)
    return found


def _mean(values: Array) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of nothing is NaN, as it should be
        found: Array = np.nanmean(values, axis=-1)
    return found


def _least(values: Array) -> Array:
    if not values.shape[-1]:
        nothing: Array = np.full(values.shape[:-1], np.nan)
        return nothing
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found: Array = np.nanmin(values, axis=-1)
    return found
