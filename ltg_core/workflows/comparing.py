"""Comparing classifiers on fixed real images: what became worse first, then everything else, with intervals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.data.images import content_hash
from ltg_core.data.records import REAL, Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.evaluation.bootstrap import FEW, Difference, differences, regressions
from ltg_core.evaluation.frame import Answers, Array, Frame, answers, shots, thirds
from ltg_core.evaluation.posthoc import LEAST, adjusted, fit_tau, fit_temperature
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.params import Params, param
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.heads import division
from ltg_core.workflows.quality import quality_of_trainings
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.retrained import KIND as RETRAIN
from ltg_core.workflows.retrained import arm_of
from ltg_core.workflows.retraining import rows_of
from ltg_core.workflows.scoring import labels_of
from ltg_core.workflows.slicing import slices
from ltg_core.workflows.store import FeatureStore

KIND = "compare"
_SMALL = 100
_SHORT = 60
_VALUES = 100


@dataclasses.dataclass(frozen=True)
class CompareSettings(Params):
    """On which images, and how sure."""

    split: str = param("", "Real images of this split; empty for test, or val where there is no test split")
    column: str = param("", "Metadata column of conditions: groups are the pairs of class and value")
    smallest: int = param(5, "Classes and groups with fewer images cannot be the worst", low=1)
    rounds: int = param(2000, "Resamples of the bootstrap", low=100, high=100_000)
    seed: int = param(0, "Of the resamples", low=0)
    quality: bool = param(
        True,
        "Say as well how good the synthetic images are that each arm learned from, beside these real ones",
    )
    free: bool = param(
        True, "Compare with logit adjustment and temperature scaling too, which need no training"
    )


class Arm(NamedTuple):
    """What is compared: one classifier a seed, or one with its logits changed.

    Attributes:
        name: For people.
        answers: On the fixed images, one a seed.
        classifiers: Hashes.
        how: What was done to the logits, "" for nothing.
        free: Arguments of ``without_training`` that make a classifier of it, None for what was trained.
    """

    name: str
    answers: list[Answers]
    classifiers: list[str]
    how: str = ""
    free: dict[str, Any] | None = None


def compare(
    ws: Workspace,
    base: str,
    arms: Sequence[str],
    settings: CompareSettings | None = None,
    *,
    device: str | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Compare arms with a base on the same fixed real images.

    Every saved and found slice is looked at as well; where it names a prediction it is that of the base.

    Args:
        ws: The workspace.
        base: A classifier's hash or its beginning, "active", a retrain run, or "" for the classifier from which the
            first arm was retrained.
        arms: The same; of a run all seeds, whose mean counts. May be empty where the free baselines are compared.
        settings: None for the defaults.
        device: Where classifiers run that have not answered yet; None for the device of the workspace.
        on_progress: Told about every batch.
        cancel: Checked at every batch.

    Returns:
        The run. Its result: ``regressions`` of every arm first, then ``arms`` (each with ``differences`` and
        ``quality`` of the synthetic images that it learned from), ``images`` (``n``, ``split``, ``fingerprint``) and
        ``notes``.

    Raises:
        DatasetError: No labelled real images in that split.
        InputError: No such classifier, nothing to compare, or one of them learned from those images.
    """
    settings, token = settings or CompareSettings(), cancel or CancelToken()
    if not arms and not settings.free:
        raise InputError(
            "nothing to compare: name a retrain run or a classifier, or allow the free baselines"
        )
    base = base or _origin(ws, arms)
    first = arm_of(ws, base)
    record = {"base": base, "arms": list(arms), **settings.to_dict()}
    hashes = {"classifier": first[0].hash}
    with recorded(ws, KIND, record, seed=settings.seed, hashes=hashes) as recording:
        asked = _Asked(ws, device, on_progress, token)
        ids, split = _fixed(asked, first[0], settings.split)
        asked.ids = ids
        before = asked.arm(base, first)
        after = [asked.arm(ref, arm_of(ws, ref), first[0].labels) for ref in arms]
        notes: list[str] = []
        counts, held, where, fitting = _training(ws, first[0])
        _unlearned(ws, ids, split, {*fitting, *_learned(ws, [base, *arms], [before, *after])})
        if settings.free:
            after += _free(asked, first, counts, held, notes)
        frame = _frame(ws, first[0], ids, counts, settings)
        if split == where["held_out"]:
            notes.append(f"the split {split!r} also says when a training stops; figures on it are too good")
        if len(ids) < FEW:
            notes.append(
                f"only {len(ids)} images: too few for an interval (it takes {FEW}), so nothing is proved"
            )
        elif len(ids) < _SMALL:
            notes.append(f"only {len(ids)} images: intervals are wide, and small changes cannot be seen")
        beside = {}
        if settings.quality:
            told: dict[str, Any] = {"on_progress": on_progress, "cancel": token}
            beside = quality_of_trainings(ws, first[0], ids, arms, **told)
        compared = []
        for place, arm in enumerate(after):
            token.check()
            on_progress(Progress(place, len(after), f"resampling: {arm.name}"))
            found = differences(
                frame, before.answers, arm.answers, rounds=settings.rounds, seed=settings.seed
            )
            compared.append((arm, found))
        recording.result |= {
            "regressions": {arm.name: _records(regressions(found)) for arm, found in compared},
            "base": {"name": before.name, "classifiers": before.classifiers},
            "images": {
                "n": len(ids),
                "split": split,
                "fingerprint": content_hash("\n".join(sorted(ids)).encode()),
            },
            "arms": [
                {
                    "name": arm.name,
                    "how": arm.how,
                    "free": arm.free,
                    "classifiers": arm.classifiers,
                    "differences": _records(found),
                    "quality": beside.get(arms[place]) if place < len(arms) else None,
                }
                for place, (arm, found) in enumerate(compared)
            ],
            "notes": notes,
        }
    return recording.run


class _Asked:
    """Answers of classifiers on the fixed images; computed once each and kept in the workspace."""

    def __init__(
        self, ws: Workspace, device: str | None, on_progress: ProgressFn, cancel: CancelToken
    ) -> None:
        self.ws, self.device = ws, device or ws.device
        self.ids: list[str] = []
        self.on_progress, self.cancel = on_progress, cancel
        self.names: set[str] = set()

    def readable(self, classifier: Classifier, ids: Sequence[str]) -> list[str]:
        """Those ids whose pictures can be read; the classifier's answers to them are kept."""
        told: dict[str, Any] = {"on_progress": self.on_progress, "cancel": self.cancel}
        if FeatureStore(self.ws, classifier).missing(ids):
            compute_outputs(self.ws, classifier.to(self.device), ids, **told)
        absent = set(FeatureStore(self.ws, classifier).missing(ids))
        return [id for id in ids if id not in absent]

    def logits(self, classifier: Classifier, ids: Sequence[str]) -> Array:
        """(N, C).

        Raises:
            InputError: A picture cannot be read any more.
        """
        self.readable(classifier, ids)
        found: Array = FeatureStore(self.ws, classifier).outputs(ids).logits.numpy()
        return found

    def arm(self, ref: str, classifiers: Sequence[Classifier], labels: Sequence[str] = ()) -> Arm:
        """All seeds of one arm.

        Raises:
            InputError: Its classes are others than ``labels``.
        """
        for classifier in classifiers:
            if labels and classifier.labels != tuple(labels):
                raise InputError(
                    f"{classifier.name} has other classes than the base, or in another order; only classifiers of the "
                    "same classes can be compared"
                )
        said = [answers(self.logits(classifier, self.ids)) for classifier in classifiers]
        name = classifiers[0].name if len(classifiers) == 1 else _common([c.name for c in classifiers])
        return Arm(self.called(name or ref, ref), said, [c.hash for c in classifiers])

    def called(self, name: str, ref: str) -> str:
        """A name that no other arm has."""
        name = name[:_SHORT]
        chosen = name if name not in self.names else f"{name} ({ref[-12:]})"
        while chosen in self.names:
            chosen += "+"
        self.names.add(chosen)
        return chosen


def _common(names: Sequence[str]) -> str:
    """What the names of one run's seeds share, and how many they are."""
    return f"{names[0].rpartition(', seed ')[0] or names[0]} ({len(names)} seeds)"


def _origin(ws: Workspace, arms: Sequence[str]) -> str:
    """The classifier from which the first arm that is a run was trained, else the active one."""
    runs = {run.id: run for run in ws.runs("retrain")}
    return next((str(runs[ref].settings["classifier"]) for ref in arms if ref in runs), "active")


def _fixed(asked: _Asked, classifier: Classifier, split: str) -> tuple[list[str], str]:
    """Ids of the labelled real images on which is compared, sorted, so that their order is always the same."""
    ws, tried = asked.ws, [split] if split else ["test", "val"]
    for name in tried:
        ids = sorted(ws.query(Filter(split=name, origin=REAL)))
        labels = labels_of(ws, ids, classifier.num_classes)
        ids = asked.readable(classifier, [id for id, label in zip(ids, labels, strict=True) if label >= 0])
        if ids:
            return ids, name
    raise DatasetError(
        f"comparing needs labelled real images that no classifier learned from; there are none in "
        f"{' or '.join(tried)}. Import a labelled split 'test', or hold one out (--holdout .1,.2)"
    )


def _training(ws: Workspace, classifier: Classifier) -> tuple[Array, list[str], dict[str, str], list[str]]:
    """Real training images by class, real validation images, where these come from, and the former's ids."""
    fitting, held, where = division(ws, classifier)
    labels = labels_of(ws, fitting, classifier.num_classes)
    return np.bincount(labels[labels >= 0], minlength=classifier.num_classes), held, where, fitting


def _learned(ws: Workspace, refs: Sequence[str], compared: Sequence[Arm]) -> set[str]:
    """Images that retrainings here learned from, of those that are named or whose classifiers are."""
    hashes = {hash for arm in compared for hash in arm.classifiers}
    found: set[str] = set()
    for run in ws.runs(RETRAIN):
        made = {one["classifier"] for one in run.result.get("seeds", [])}
        rows = rows_of(ws, run.id) if run.id in refs or made & hashes else None
        found |= set(rows.ids) if rows is not None else set()
    return found


def _unlearned(ws: Workspace, ids: Sequence[str], split: str, learned: set[str]) -> None:
    """Nothing is proved on images that were learned from.

    Raises:
        InputError: Some of them were.
    """
    known = len(learned.intersection(ids))
    if known:
        raise InputError(
            f"{known:,} of the {len(ids):,} images of the split {split!r} are learned from, so nothing is proved on "
            "them; compare on another split, 'test' or 'val'"
        )


def _free(
    asked: _Asked,
    base: Sequence[Classifier],
    counts: Array,
    held: Sequence[str],
    notes: list[str],
) -> list[Arm]:
    """The base with its logits adjusted and scaled: what costs nothing and must be beaten."""
    hashes = [c.hash for c in base]
    here = [asked.logits(c, asked.ids) for c in base]

    def arm(name: str, changed: Sequence[Array], how: str, method: str, tau: float | None = None) -> Arm:
        free = {"method": method, "tau": tau}
        return Arm(asked.called(name, "free"), [answers(z) for z in changed], hashes, how, free)

    plain = [adjusted(z, counts) for z in here]
    found = [arm("logit adjustment, free", plain, "z - log(share of the class)", "logit-adjustment", 1.0)]
    held = asked.readable(base[0], held)
    held_labels = labels_of(asked.ws, held, base[0].num_classes)
    if len(held) < LEAST:
        notes.append(
            f"temperature and strength of the adjustment were not fitted: only {len(held)} real validation images"
        )
        return found
    there = [asked.logits(c, held) for c in base]
    taus = [fit_tau(z, held_labels, counts) for z in there]
    scales = [fit_temperature(z, held_labels) for z in there]
    tuned = [adjusted(z, counts, tau) for z, tau in zip(here, taus, strict=True)]
    how = f"z - {_mean(taus):.2f} log(share of the class)"
    found.append(arm("logit adjustment, strength from val", tuned, how, "logit-adjustment"))
    scaled = [z / scale for z, scale in zip(here, scales, strict=True)]
    found.append(arm("temperature, free", scaled, f"z / {_mean(scales):.3f}", "temperature"))
    return found


def _frame(
    ws: Workspace, classifier: Classifier, ids: Sequence[str], counts: Array, settings: CompareSettings
) -> Frame:
    """Classes, their parts by real training images, groups and slices."""
    labels = labels_of(ws, ids, classifier.num_classes)
    sets: dict[str, Array] = {}
    groups = _groups(ws, classifier, ids, labels, settings.column)
    sets |= groups
    place = {id: k for k, id in enumerate(ids)}
    for one in slices(ws):
        needs = one.filter.prediction is not None or one.filter.correct is not None
        chosen = dataclasses.replace(
            one.filter, model_hash=classifier.hash if needs else one.filter.model_hash
        )
        mask = np.zeros(len(ids), dtype=bool)
        mask[[place[id] for id in ws.query(chosen) if id in place]] = True
        name = f"slice {one.name}"
        if mask.any() and not mask.all() and name not in sets:
            sets[name] = mask
    return Frame(
        labels, classifier.labels, thirds(counts) | shots(counts), sets, tuple(groups), settings.smallest
    )


def _groups(
    ws: Workspace, classifier: Classifier, ids: Sequence[str], labels: Array, column: str
) -> dict[str, Array]:
    """Pairs of class and value → (N,) bool."""
    if not column:
        return {}
    if column not in ws.meta_columns():
        raise InputError(
            f"there is no metadata column {column!r}; there are {', '.join(ws.meta_columns()) or 'none'}"
        )
    base = ws.columns.base()
    coded = ws.columns.meta(column, base)
    codes = coded.codes[ws.columns.places_of(np.array([id.encode() for id in ids]), base)]
    if len(coded.values) > _VALUES:
        raise InputError(
            f"the column {column!r} has {len(coded.values):,} different values; groups need one with at most {_VALUES}"
        )
    found: dict[str, Array] = {}
    for label, name in enumerate(classifier.labels):
        for code, value in enumerate(coded.values):
            mask = (labels == label) & (codes == code)
            if mask.any():
                found[f"{name}, {column} {value}"] = mask
    return found


def _records(found: Sequence[Difference]) -> list[dict[str, Any]]:
    return [one.record() for one in found]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
