"""Weak classes of a workspace, their images, and where these lie in the classifier's feature space."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ltg_core.curation import auxiliary
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.export.guard import home
from ltg_core.extension.space import Array, prototype, units
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.params import Params, param
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.heads import division
from ltg_core.workflows.scoring import labels_of
from ltg_core.workflows.store import FeatureStore

POOL = "pool"
"""The split of images that nobody has labelled; any other may be named."""
_CHUNK = 2000


@dataclasses.dataclass(frozen=True)
class WeakRule(Params):
    """When a class is weak; test images are never looked at."""

    fewer: int = param(100, "Weak with fewer real training images than this", low=0)
    recall: float = param(
        0.6, "Weak with a lower recall on real validation images than this", low=0.0, high=1.0
    )
    at_least: int = param(5, "Validation images of a class below which its recall says nothing", low=1)


class Weak(NamedTuple):
    """A class and why it is weak.

    Attributes:
        name: The class.
        train: Its real training images.
        held: Its real validation images with a prediction.
        recall: Share of those that are recognised, None where there are too few.
        why: In words, "" for a class that is not weak.
    """

    name: str
    train: int
    held: int
    recall: float | None
    why: str


def weakness(ws: Workspace, classifier: Classifier, rule: WeakRule | None = None) -> list[Weak]:
    """All classes, the weakest first: those that are weak, by training images; then the others."""
    rule = rule or WeakRule()
    labels = classifier.labels
    fitting, held = real_parts(ws, classifier)
    train = Counter(label for _, label in fitting)
    said = ws.predictions([id for id, _ in held], classifier.hash)
    seen = Counter(label for id, label in held if id in said)
    right = Counter(label for id, label in held if id in said and said[id].pred == label)
    found = []
    for c, name in enumerate(labels):
        recall = right[c] / seen[c] if seen[c] >= rule.at_least else None
        reasons = [f"{train[c]} training images"] if train[c] < rule.fewer else []
        if recall is not None and recall < rule.recall:
            reasons.append(f"{recall:.0%} of {seen[c]} validation images recognised")
        found.append(Weak(name, train[c], seen[c], recall, ", ".join(reasons)))
    return sorted(found, key=lambda one: (not one.why, one.train, 1.0 if one.recall is None else one.recall))


def weak_names(
    ws: Workspace, classifier: Classifier, names: Sequence[str] = (), rule: WeakRule | None = None
) -> list[str]:
    """The given classes, or those that are weak.

    Raises:
        InputError: An unknown class, or none is weak.
    """
    for name in names:
        if name not in classifier.labels:
            raise InputError(
                f"the classifier has no class {name!r}; it has {', '.join(classifier.labels[:20])}"
            )
    rule = rule or WeakRule()
    found = list(names) or [one.name for one in weakness(ws, classifier, rule) if one.why]
    if not found:
        raise InputError(
            f"no class is weak: each has {rule.fewer} training images or more and, where it is known, a recall of "
            f"{rule.recall:.0%} or more on validation images. Name classes (--class), or raise --fewer or --recall"
        )
    return found


def real_parts(ws: Workspace, classifier: Classifier) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(id, class) of the real images to learn from, and of the validation images; never those of "test"."""
    fitting, held, _ = division(ws, classifier)

    rejected = set(ws.query(Filter(verdict="rejected", origin="real")))

    def labelled(ids: Sequence[str]) -> list[tuple[str, int]]:
        kept = [id for id in ids if id not in rejected]
        labels = labels_of(ws, kept, classifier.num_classes).tolist()
        return [(id, label) for id, label in zip(kept, labels, strict=True) if label >= 0]

    return labelled(fitting), labelled(held)


def features(
    ws: Workspace, classifier: Classifier, ids: Sequence[str], on_progress: ProgressFn, cancel: CancelToken
) -> tuple[list[str], Array]:
    """Ids of those images that can be read, and their features (N, D); computed where they are not stored."""
    _, skipped = compute_outputs(ws, classifier, ids, on_progress=on_progress, cancel=cancel)
    broken = {id for id, _ in skipped}
    there = [id for id in ids if id not in broken]
    return there, FeatureStore(ws, classifier).features(there)


class Place(NamedTuple):
    """Where a class lies: the mean (D,) of its real training images, of length 1; the cosine that 95 % reach."""

    mean: Array
    edge: float


def places(
    ws: Workspace,
    classifier: Classifier,
    needed: Sequence[str],
    on_progress: ProgressFn,
    cancel: CancelToken,
    *,
    others: bool = False,
) -> dict[str, Place]:
    """Where classes lie, those that are needed and, if asked for, all others that have training images.

    Raises:
        InputError: A class that is needed has no training image that can be read.
    """
    fitting = real_parts(ws, classifier)[0]
    found = {}
    for label, name in enumerate(classifier.labels):
        if name not in needed and not others:
            continue
        there, x = features(ws, classifier, [id for id, c in fitting if c == label], on_progress, cancel)
        if there:
            mean = prototype(x)
            found[name] = Place(mean, float(np.percentile(units(x) @ mean, 5)))
        elif name in needed:
            raise InputError(
                f"the class {name!r} has no real training image here, so nothing can be said to be like it; import some"
            )
    return found


def pool_ids(ws: Workspace, split: str) -> list[str]:
    """Images of a pool that stand beside no class yet.

    Raises:
        InputError: There are none, or the split is kept for measuring.
    """
    if home(split) != "train":
        raise InputError(
            f"the split {split!r} is kept for measuring; import a pool of its own (import DIR --split pool)"
        )
    ids = [id for some in ws.iterate(Filter(split=split, origin="real")) for id in some]
    free = [s.id for start in range(0, len(ids), _CHUNK) for s in ws.there(ids[start : start + _CHUNK])
            if auxiliary.AUXILIARY not in s.meta and s.verdict != "rejected"]  # fmt: skip
    if not free:
        raise InputError(
            f"there is no image of a split {split!r} that stands beside no class yet; import a folder of unlabelled "
            f"images as a pool: import DIR --split {split}"
        )
    return free
