"""Where classes lie in a feature space: the cosine band of auxiliary images, and how fine the classes are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.params import Params, param

Array = np.ndarray[Any, Any]
NEIGHBOURS = 5
_BLOCK = 2048


@dataclasses.dataclass(frozen=True)
class Band(Params):
    """Which images may stand beside a class: like it, and no copies of it (category extrapolation)."""

    low: float = param(
        0.7, "Cosine to the mean of the class above which an image is like it", low=-1.0, high=1.0
    )
    high: float = param(0.98, "Cosine below which it is no near copy", low=-1.0, high=1.0)
    others: bool = param(
        True,
        "Leave out images that lie nearer to another class of the classifier, and within 95 % of its own images",
    )

    def where(self, cosines: Array) -> tuple[Array, Array, Array]:
        """(N,) bool each: too far, inside, too near."""
        far, near = cosines <= self.low, cosines >= self.high
        return far, ~far & ~near, near


def units(features: Array) -> Array:
    """(N, D) of length 1; rows of zeros stay zeros."""
    x = np.asarray(features, dtype=np.float64)
    found: Array = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
    return found


def prototype(features: Array) -> Array:
    """(D,) of length 1: the mean of a class's features, (N, D)."""
    found: Array = units(np.asarray(features, dtype=np.float64).mean(axis=0))
    return found


class Fineness(NamedTuple):
    """How fine the label space is around one class.

    Attributes:
        name: The class.
        n: Images that this rests on.
        near: The other classes whose means are nearest, (name, cosine), the nearest first.
        intra: Mean of 1 - cosine of the class's images to its own mean.
        inter: Mean of 1 - cosine of its mean to those nearest means.
        ratio: intra / inter. Above 1 the class is wider than the way to its neighbours: they help to draw its border
            and are easily mistaken; far below 1 it stands alone, and nothing near it teaches what it is not.
        mixed: Share of other classes among the nearest images of its images.
        with_: The class that these are most often of, "" where there is none.
        within: How many other classes' means lie within the band.
    """

    name: str
    n: int
    near: list[tuple[str, float]]
    intra: float
    inter: float
    ratio: float
    mixed: float
    with_: str
    within: int


def fineness(
    features: Array,
    labels: Array,
    names: Sequence[str],
    about: Sequence[int],
    *,
    k: int = NEIGHBOURS,
    band: Band | None = None,
) -> list[Fineness]:
    """Measure the label space around some classes.

    Args:
        features: (N, D) of labelled images, in the classifier's own units.
        labels: (N,) class of each.
        names: Class names; classes without images are left out of everything.
        about: The classes that are asked for; those without images get no row.
        k: Nearest classes and nearest images that are looked at.
        band: Within which another class's mean counts as near.
    """
    band = band or Band()
    x = units(features)
    there = [c for c in range(len(names)) if (labels == c).any()]
    means = np.stack([prototype(np.asarray(features)[labels == c]) for c in there])
    between = means @ means.T
    found = []
    for row, c in enumerate(there):
        if c not in about or len(there) < 2:
            continue
        own = x[labels == c]
        order = [j for j in np.argsort(-between[row], kind="stable") if j != row]
        near = [(names[there[j]], float(between[row, j])) for j in order[:k]]
        intra = float((1 - own @ means[row]).mean())
        inter = float(np.mean([1 - cosine for _, cosine in near]))
        others = _nearest(x, labels, np.flatnonzero(labels == c), k)
        strange = others[others != c]
        with_ = names[int(np.bincount(strange).argmax())] if len(strange) else ""
        within = int(band.where(np.array([between[row, j] for j in order]))[1].sum())
        found.append(
            Fineness(
                names[c], len(own), near, intra, inter, intra / max(inter, 1e-12),
                len(strange) / max(1, others.size), with_, within,
            )
        )  # fmt: skip
    return found


def _nearest(x: Array, labels: Array, rows: Array, k: int) -> Array:
    """(rows, k) classes of the images nearest to some images, these themselves left out."""
    k = min(k, len(x) - 1)
    parts = []
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        cosines = x[some] @ x.T
        cosines[np.arange(len(some)), some] = -np.inf
        parts.append(labels[np.argpartition(-cosines, k - 1, axis=1)[:, :k]])
    return np.concatenate(parts)


def groups(features: Array, most: int, least: int, seed: int = 0) -> list[Array]:
    """Clusters (k-means on unit vectors) of images, the largest first, as rows; those below ``least`` are left out.

    Args:
        features: (N, D).
        most: Clusters at most.
        least: Images that a cluster needs.
        seed: Of the clustering.
    """
    from sklearn.cluster import KMeans

    count = min(most, len(features) // max(1, least))
    if count < 1:
        return []
    x = units(features)
    labels = KMeans(count, n_init=3, random_state=seed).fit_predict(x)
    found = [np.flatnonzero(labels == c) for c in range(count)]
    return sorted((rows for rows in found if len(rows) >= least), key=len, reverse=True)
