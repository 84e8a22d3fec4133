"""What the workspace hands out and takes in: samples, runs, filters. Plain frozen data, no database."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltg_core.data.images import PixelData

VERDICTS = ("accepted", "rejected", "flagged", "undecided")
BELIEFS = ("believed", "quarantined")
RUN_STATES = ("running", "done", "failed", "cancelled", "interrupted")
REAL = "real"
"""The origin of every sample that was not generated; a generated one has its run's id."""


@dataclasses.dataclass(frozen=True)
class StoredImage:
    """An image whose files are already in the workspace."""

    hash: str
    suffix: str


@dataclasses.dataclass(frozen=True)
class NewSample:
    """A sample to be added.

    Attributes:
        image: A PIL image, (H, W, 3) uint8, the bytes of an image file (kept as they are), or one stored
            already.
        origin: ``"real"`` or the id of the run that made it.
        split: "train", "val", "test", another name, or "" for none.
        label: Class index in the order of the workspace's label names, None where unknown.
        label_name: The class in words.
        source: Where it came from: a file name, or what tells two samples of one run apart.
        caption: Text that describes it.
        meta: Anything else, JSON values. Generated samples use ``control`` (id of the matched unguided
            sample), ``source`` (id of the real sample it started from), ``prompt`` and ``seed``.
        belief: ``"believed"``, ``"quarantined"`` or None where it was not judged.
        belief_reason: Why.
    """

    image: PixelData | bytes | StoredImage
    origin: str = REAL
    split: str | None = ""
    label: int | None = None
    label_name: str | None = None
    source: str = ""
    caption: str = ""
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    belief: str | None = None
    belief_reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image with everything known about it; attributes as in ``NewSample``.

    Attributes:
        id: 20 hex digits, the same whenever the same image is added from the same place.
        image_hash: Hash of its pixels.
        verdict: "accepted", "rejected", "flagged" or "undecided".
        tags: In alphabetical order.
        rating: 1 to 5, or None.
        note: The curator's words.
        created: Seconds since 1970.
    """

    id: str
    image_hash: str
    origin: str
    split: str
    label: int | None
    label_name: str | None
    source: str
    caption: str
    meta: dict[str, Any]
    verdict: str
    tags: tuple[str, ...]
    rating: int | None
    note: str
    belief: str | None
    belief_reason: str | None
    created: float

    @property
    def real(self) -> bool:
        """Whether it was not generated."""
        return self.origin == REAL


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from ``low`` up to, not including, ``high``; written ``low..high``, as in 0.5..2 or 10..inf."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.15g}..{self.high:.15g}"

    @classmethod
    def read(cls, text: str) -> Range | None:
        """What ``str`` wrote, or None where the text is none."""
        low, dots, high = text.partition("..")
        try:
            found = cls(float(low), float(high))
        except ValueError:
            return None
        return found if dots and found.low < found.high else None


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which samples: every field that is given must hold.

    Attributes:
        split: Name of a split, or several of which one must hold; "" finds samples without one.
        label: Class index.
        origin: ``"real"``, ``"generated"`` or a run id.
        prediction: What the classifier says; needs ``model_hash``.
        correct: Whether it is right; needs ``model_hash``; samples without a label or prediction are neither.
        verdict: One of ``VERDICTS``.
        tag: A tag.
        rating: At least so many stars; 0 for those without any.
        believed: True for believed, False for quarantined.
        text: Words that must all occur in caption, label, source, metadata, note or tags: each finds what begins
            with it, "words in quotes" what stands like that; case and accents do not matter.
        meta: Metadata values by column; a list or tuple as value means any of them, a ``Range`` numbers within.
        ids: Only these.
        model_hash: The classifier of ``prediction``, ``correct`` and of the sort key.
    """

    split: str | tuple[str, ...] | None = None
    label: int | None = None
    origin: str | None = None
    prediction: int | None = None
    correct: bool | None = None
    verdict: str | None = None
    tag: str | None = None
    rating: int | None = None
    believed: bool | None = None
    text: str = ""
    meta: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    ids: tuple[str, ...] | None = None
    model_hash: str | None = None


class Score(NamedTuple):
    """A signal's value and its percentile against held-out real data (NaN where there is none)."""

    value: float
    percentile: float


class Prediction(NamedTuple):
    """Predicted class index, its softmax probability, and whether it is right (None: no label)."""

    pred: int
    confidence: float
    correct: bool | None


@dataclasses.dataclass(frozen=True)
class Run:
    """One piece of work.

    Attributes:
        id: Kind, time and six random hex digits; also the name of its folder.
        kind: The workflow's name.
        state: One of ``RUN_STATES``; "interrupted" when its process ended without a word.
        settings: Everything needed to repeat it, JSON values.
        seed: Of its random numbers, or None.
        hashes: Of models, data and files it used, by role.
        versions: Of this package and the libraries that matter.
        started: Seconds since 1970.
        finished: The same, or None.
        reason: Why it failed or was stopped.
        parent: The run that it belongs to, or None.
        result: What came out: counts, measures, paths inside the workspace.
    """

    id: str
    kind: str
    state: str
    settings: dict[str, Any]
    seed: int | None
    hashes: dict[str, Any]
    versions: dict[str, str]
    started: float
    finished: float | None
    reason: str
    parent: str | None
    result: dict[str, Any]


__all__ = [
    "BELIEFS", "REAL", "RUN_STATES", "VERDICTS", "Filter", "NewSample", "Prediction", "Range", "Run", "Sample",
    "Score", "StoredImage",
]  # fmt: skip
