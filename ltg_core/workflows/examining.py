"""Before anything else: do the classifier and the data fit together, and if not, why not?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from ltg_core.data.images import read_image, to_tensor
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess
from ltg_core.workflows.checking import BINS, answers, measures
from ltg_core.workflows.finding import held_out_split
from ltg_core.workflows.intervals import Share, share
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.scoring import labels_of

_LEVEL = 0.001
_EXTREMES = 3
_SAMPLES = 300
_BATCH = 32
_LARGEST = 512
CAUSES = (
    "the class names are in another order than the classifier's outputs",
    "mean and standard deviation are not those of the training",
    "the colour channels are in another order (OpenCV and Caffe have blue first)",
    "pixels were scaled to 0..255 in training, not to 0..1",
    "images are resized or cropped otherwise than in training",
    "the weights belong to another task or checkpoint than you think",
)
"""What is usually behind accuracy at chance level, the most frequent first."""


@dataclasses.dataclass(frozen=True)
class Bin:
    """One bar of a reliability diagram: samples whose confidence lies in one interval."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True)
class Examination:
    """How a classifier does on labelled real samples.

    Attributes:
        split: Where it was measured; "" for all real samples.
        accuracy: With its interval.
        balanced: Mean over the classes that occur.
        constant: How often the most frequent class would be right if it were always the answer.
        constant_label: That class.
        p: Probability of so many right answers or more if the classifier were as good as that (binomial test).
        ece: Expected calibration error over 15 bins of equal width (Guo et al. 2017).
        bins: Those that hold samples.
        worst: (class, share right) of the worst classes.
        best: Of the best ones.
        warning: What seems to be wrong, "" when all is well.
    """

    split: str
    accuracy: Share
    balanced: float
    constant: Share
    constant_label: str
    p: float
    ece: float
    bins: tuple[Bin, ...]
    worst: tuple[tuple[str, Share], ...]
    best: tuple[tuple[str, Share], ...]
    warning: str

    @property
    def at_chance(self) -> bool:
        """Whether it cannot be told from always giving the most frequent answer."""
        return self.p > _LEVEL

    @property
    def suspicious(self) -> bool:
        """Whether somebody should look before anything is built on it."""
        return self.at_chance or bool(self.warning)


def examine(ws: Workspace, classifier: Classifier) -> Examination:
    """Accuracy and calibration on held-out samples (test, else validation, else all real ones).

    Raises:
        DatasetError: No labelled real sample has a prediction.
    """
    split = held_out_split(ws)
    if split and not ws.count(Filter(split=split, origin="real", model_hash=classifier.hash, correct=True)):
        labelled = ws.count(Filter(split=split, origin="real", model_hash=classifier.hash, correct=False))
        split = split if labelled else ""
    labels, chosen, confidence = answers(ws, classifier, split or None)
    found = measures(labels, chosen, confidence, classifier.labels)
    counts = np.bincount(labels, minlength=classifier.num_classes)
    right = int((labels == chosen).sum())
    rows = [
        (one["label"], share(round(one["accuracy"] * one["n"]), one["n"]))
        for one in found["per_class"]
        if one["n"]
    ]
    ranked = sorted(rows, key=lambda row: (row[1].value, -row[1].whole))
    return Examination(
        split,
        share(right, len(labels)),
        found["balanced_accuracy"],
        share(int(counts.max()), len(labels)),
        classifier.labels[int(counts.argmax())],
        _binomial(right, len(labels), counts.max() / len(labels)),
        found["ece"],
        tuple(_bins(confidence, labels == chosen)),
        tuple(ranked[:_EXTREMES]),
        tuple(reversed(ranked[-_EXTREMES:])) if len(ranked) > _EXTREMES else (),
        found["warning"],
    )


@dataclasses.dataclass(frozen=True)
class Alternative:
    """Another way to use the classifier, tried on some samples.

    Attributes:
        name: "labels", "bgr", "raw", "bytes", "imagenet", "crop", "squash", "smaller" or "larger"; two with a "+"
            between them where only both together help.
        text: What it is, in words.
        accuracy: With it.
        before: As it is now, on the same samples.
        change: ``labels`` (a list) or ``preprocess`` (a record), as ``revise_classifier`` takes them.
    """

    name: str
    text: str
    accuracy: Share
    before: Share
    change: dict[str, Any]

    @property
    def better(self) -> bool:
        """Whether it is better by more than the intervals allow for."""
        return self.accuracy.low > self.before.high


def alternatives(
    ws: Workspace,
    classifier: Classifier,
    *,
    samples: int = _SAMPLES,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> list[Alternative]:
    """Try what is usually wrong on a few hundred labelled real samples, and say what would raise accuracy.

    The class names in the best order (assignment on half of the samples, accuracy on the other half), blue first,
    no normalisation, pixels from 0 to 255, ImageNet's normalisation, the other way to resize, half and twice the input
    size; each also together with the best order of the class names.

    Args:
        ws: The workspace.
        classifier: As it is used now.
        samples: At most so many.
        on_progress: Told after every batch.
        cancel: Checked at every batch.

    Returns:
        The best first; also kept in the workspace for ``known_alternatives``.

    Raises:
        InputError: No labelled real sample.
    """
    token = cancel or CancelToken()
    ids, labels = _some(ws, classifier, samples)
    ways = [("", "as it is", classifier.preprocess), *_ways(classifier.preprocess)]
    settings = {"samples": len(ids), "tried": [way[0] or "as it is" for way in ways]}
    with recorded(ws, "check", settings, hashes={"classifier": classifier.hash}) as recording:
        said = _asked(ws, classifier, ids, [way[2] for way in ways], on_progress, token)
        assert said[0] is not None  # it has been scored this way
        before = share(int((said[0] == labels).sum()), len(labels))
        found = []
        for (name, text, way), answer in zip(ways, said, strict=True):
            if answer is None:  # the network takes no images of this size
                continue
            one = Alternative(
                name,
                text,
                share(int((answer == labels).sum()), len(labels)),
                before,
                {"preprocess": way.to_dict()} if name else {},
            )
            found += [one] if name else []
            found += _reordered(classifier, one, answer, labels)
        alone = next((one.accuracy.high for one in found if one.name == "labels"), 0.0)
        found = [one for one in found if "+" not in one.name or one.accuracy.low > alone]
        found.sort(key=lambda one: (-one.accuracy.value, one.name))
        kept = [dataclasses.asdict(one) for one in found]
        recording.result |= {"before": before.value, "found": {one.name: one.accuracy.value for one in found}}
        ws.put_state("alternatives", {"model": _model(classifier), "found": kept})
    return found


def known_alternatives(ws: Workspace, classifier: Classifier) -> list[Alternative] | None:
    """What was tried last with this classifier and these class names; None where nothing was."""
    record = ws.get_state("alternatives")
    if record is None or record["model"] != _model(classifier):
        return None
    return [
        Alternative(
            one["name"], one["text"], Share(*one["accuracy"]), Share(*one["before"]), dict(one["change"])
        )
        for one in record["found"]
    ]


def accept_check(ws: Workspace, classifier: Classifier, accepted: bool = True) -> None:
    """Go on although the check found something: somebody has looked at it."""
    ws.put_state("check_accepted", _model(classifier) if accepted else None)


def check_accepted(ws: Workspace, classifier: Classifier) -> bool:
    """Whether somebody wants to go on with exactly this classifier, whatever the check says."""
    return bool(ws.get_state("check_accepted") == _model(classifier))


def _model(classifier: Classifier) -> list[Any]:
    return [classifier.hash, list(classifier.labels)]


def _binomial(hits: int, n: int, chance: float) -> float:
    from scipy.stats import binom

    return float(binom.sf(hits - 1, n, chance))


def _bins(confidence: np.ndarray, right: np.ndarray) -> Iterator[Bin]:
    inside = np.clip((confidence * BINS).astype(int), 0, BINS - 1)
    for number in np.unique(inside).tolist():
        here = inside == number
        low, high = number / BINS, (number + 1) / BINS
        yield Bin(low, high, int(here.sum()), float(confidence[here].mean()), float(right[here].mean()))


def _some(ws: Workspace, classifier: Classifier, most: int) -> tuple[list[str], np.ndarray]:
    """Labelled real samples, evenly over the data and always the same ones."""
    ids = ws.query(Filter(split=held_out_split(ws) or None, origin="real"), sort="id")
    labels = labels_of(ws, ids, classifier.num_classes)
    if not (labels >= 0).any():
        ids = ws.query(Filter(origin="real"), sort="id")
        labels = labels_of(ws, ids, classifier.num_classes)
    kept = np.flatnonzero(labels >= 0)[:most]
    if not len(kept):
        raise InputError(
            "there is no labelled real sample to try anything on; import labelled data, or map its classes first"
        )
    return [ids[row] for row in kept.tolist()], labels[kept]


def _ways(now: Preprocess) -> list[tuple[str, str, Preprocess]]:
    """Other preprocessings that differ from the present one."""
    flat = {"mean": (0.0,) * now.channels, "std": (1.0,) * now.channels}
    ways: list[tuple[str, str, dict[str, Any]]] = [
        ("raw", "no normalisation: pixels from 0 to 1 as they are", flat),
        ("bytes", "pixels from 0 to 255, no normalisation", flat | {"std": (1 / 255,) * now.channels}),
    ]
    if now.channels == 3:
        other = "rgb" if now.order == "bgr" else "bgr"
        ways += [
            (other, f"colour channels the other way round ({other.upper()})", {"order": other}),
            ("imagenet", "ImageNet's mean and deviation", {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}),
        ]
    if now.resize != "none":
        other = "squash" if now.resize == "crop" else "crop"
        text = "stretched to the input size" if other == "squash" else "the centre cut out"
        ways.append((other, f"resized the other way: {text}", {"resize": other}))
        for name, factor in (("smaller", 0.5), ("larger", 2.0)):
            height, width = round(now.height * factor), round(now.width * factor)
            if min(height, width) >= 16 and max(height, width) <= _LARGEST:
                text = f"images of {width}×{height} instead of {now.width}×{now.height} pixels"
                ways.append((name, text, {"height": height, "width": width}))
    made = [(name, text, dataclasses.replace(now, **change)) for name, text, change in ways]
    return [way for way in made if way[2] != now]


def _asked(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    ways: Sequence[Preprocess],
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> list[np.ndarray | None]:
    """Predictions (N,) under each preprocessing, None where the network cannot; every image is read once."""
    parts: list[list[np.ndarray] | None] = [[] for _ in ways]
    device, dtype = classifier.device, classifier.dtype
    for start in range(0, len(ids), _BATCH):
        images = [to_tensor(read_image(ws.image_path(one))) for one in ids[start : start + _BATCH]]
        for number, way in enumerate(ways):
            cancel.check()
            kept = parts[number]
            if kept is None:
                continue
            batch = torch.cat([way(image[None]) for image in images]).to(device=device, dtype=dtype)
            try:
                kept.append(classifier.answers(batch).argmax(dim=1).cpu().numpy())
            except (RuntimeError, AssertionError, ValueError):
                if not number:
                    raise
                parts[number] = None
        on_progress(Progress(min(start + _BATCH, len(ids)), len(ids), "trying what is usually wrong"))
    return [np.concatenate(part) if part else None for part in parts]


def _reordered(
    classifier: Classifier, under: Alternative, said: np.ndarray, labels: np.ndarray
) -> list[Alternative]:
    """The class names in the order that the answers suggest; nothing where that moves no name or helps nothing.

    The order is found on half of the samples and judged on the other half; what is proposed rests on all of them.
    """
    classes = classifier.num_classes
    order, whole = _best_order(said[::2], labels[::2], classes), _best_order(said, labels, classes)
    if len(labels) < 4 or (whole == np.arange(classes)).all():
        return []
    said, labels = said[1::2], labels[1::2]
    names = [classifier.labels[label] for label in whole.tolist()]
    moved = [f"{a} → {b}" for a, b in zip(classifier.labels, names, strict=True) if a != b]
    more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
    text = f"the class names in another order: {', '.join(moved[:4])}{more}"
    found = Alternative(
        f"{under.name}+labels" if under.name else "labels",
        f"{under.text}, and {text}" if under.name else text,
        share(int((order[said] == labels).sum()), len(labels)),
        under.before,
        {**under.change, "labels": names},
    )
    return [found] if not under.name or found.accuracy.low > under.accuracy.high else []


def _best_order(said: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Which class each output seems to mean (C,): the assignment with the most right answers."""
    from scipy.optimize import linear_sum_assignment

    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (labels, said), 1)
    # Where nothing speaks for a move, a name stays.
    rows, columns = linear_sum_assignment(confusion * 2 * classes + np.eye(classes), maximize=True)
    order = np.arange(classes)
    order[columns] = rows
    return order
