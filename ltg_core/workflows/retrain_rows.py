"""Which images a retraining learns from, with which label and weight, and which real ones say when to stop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from ltg_core.curation.auxiliary import AUXILIARY, KEY, resolved
from ltg_core.data.records import Filter, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.export.guard import protected, sort_out
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.training.losses import About
from ltg_core.training.settings import MixSettings
from ltg_core.workflows.heads import division

_LEAST = 4
_CHUNK = 2000


@dataclasses.dataclass(frozen=True)
class Rows:
    """The images of a training, in plain values: kept with the run, so that it can be resumed and looked up.

    Attributes:
        ids: Training images: real ones, then synthetic, then those of auxiliary classes.
        kinds: "real", "synthetic" or "auxiliary" of each.
        labels: Class of each; auxiliary classes come after the classifier's own.
        soft: Position → whole label, where it is soft.
        weights: Of each.
        groups: Of each, -1 for none.
        group_names: Class and value of each group.
        auxiliary: (name, index of the class that it stands beside) of each auxiliary class.
        held: Real validation images.
        held_labels: Their classes.
        left_out: Reason → how many synthetic images were left out for it.
        where: In words where training and validation images come from.
    """

    ids: list[str]
    kinds: list[str]
    labels: list[int]
    soft: dict[int, list[float]]
    weights: list[float]
    groups: list[int]
    group_names: list[str]
    auxiliary: list[tuple[str, int]]
    held: list[str]
    held_labels: list[int]
    left_out: dict[str, int]
    where: dict[str, str]

    def targets(self, classes: int) -> torch.Tensor:
        """(N, classes + auxiliary classes) labels."""
        width = classes + len(self.auxiliary)
        found = F.one_hot(torch.tensor(self.labels), width).float()
        for place, label in self.soft.items():
            found[place] = F.pad(torch.tensor(label), (0, width - len(label)))
        return found

    def about(self, classes: int) -> About:
        """What losses may know."""
        counts = (self.targets(classes) * torch.tensor(self.weights)[:, None]).sum(dim=0)
        groups = torch.tensor(self.groups)
        sizes = torch.bincount(groups[groups >= 0], minlength=len(self.group_names)).float()
        parents = [-1] * classes + [parent for _, parent in self.auxiliary] if self.auxiliary else []
        return About(counts, sizes, torch.tensor(parents, dtype=torch.long))

    def without(self, broken: Mapping[str, str]) -> Rows:
        """The same without images that cannot be read."""
        if not broken:
            return self
        keep = [i for i, id in enumerate(self.ids) if id not in broken]
        held = [i for i, id in enumerate(self.held) if id not in broken]

        def some(values: Sequence[Any], places: Sequence[int]) -> list[Any]:
            return [values[i] for i in places]

        return dataclasses.replace(
            self,
            ids=some(self.ids, keep),
            kinds=some(self.kinds, keep),
            labels=some(self.labels, keep),
            soft={new: self.soft[old] for new, old in enumerate(keep) if old in self.soft},
            weights=some(self.weights, keep),
            groups=some(self.groups, keep),
            held=some(self.held, held),
            held_labels=some(self.held_labels, held),
            left_out=self.left_out | {"it cannot be read": len(broken)},
        )

    @property
    def fingerprint(self) -> str:
        """Changes with every image, label, weight and group."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def summary(self, classes: int) -> dict[str, Any]:
        """Counts for the record."""
        by = Counter(self.kinds)
        real = [0] * classes
        for kind, label in zip(self.kinds, self.labels, strict=True):
            if kind == "real":
                real[label] += 1
        return {
            "real": by["real"],
            "synthetic": by["synthetic"],
            "auxiliary": by["auxiliary"],
            "real_by_class": real,
            "groups": len(self.group_names),
            "auxiliary_classes": [name for name, _ in self.auxiliary],
            "validation": len(self.held),
            "left_out": self.left_out,
            **self.where,
        }

    def to_json(self) -> str:
        """Text that ``from_json`` reads."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Rows:
        """What ``to_json`` wrote."""
        values = json.loads(text)
        values["soft"] = {int(place): label for place, label in values["soft"].items()}
        values["auxiliary"] = [(str(name), int(parent)) for name, parent in values["auxiliary"]]
        return cls(**values)


def choose(
    ws: Workspace,
    classifier: Classifier,
    mix: MixSettings,
    runs: Sequence[str],
    soft_labels: Mapping[str, Sequence[float]],
    *,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> Rows:
    """Real training images, curated synthetic ones that the leakage guard lets through, and real validation images.

    Args:
        ws: The workspace.
        classifier: Whose classes.
        mix: Which synthetic images, and how much they count.
        runs: Generations to take them from; empty for all.
        soft_labels: Sample id → probabilities of the classes, instead of the sample's own label.
        on_progress: Told while near copies are looked for.
        cancel: Checked often.

    Raises:
        DatasetError: Too little labelled real data.
        InputError: A soft label of another length, or of an image that is not among them.
    """
    real, held, where = _real(ws, classifier)
    made, left_out = _synthetic(ws, mix, runs, on_progress, cancel)
    beside, also = _auxiliary(ws, classifier, mix, on_progress, cancel)
    made = [s for s in made if s.label is not None and 0 <= s.label < classifier.num_classes]
    names = sorted({(str(s.label_name), classifier.labels.index(s.meta[AUXILIARY])) for s in beside})
    torn = [name for name, count in Counter(name for name, _ in names).items() if count > 1]
    if torn:
        raise InputError(
            f"the auxiliary class {torn[0]!r} stands beside two classes; give its images one {AUXILIARY!r}"
        )
    samples = [*real, *made, *beside]
    kinds = ["real"] * len(real) + ["synthetic"] * len(made) + ["auxiliary"] * len(beside)
    numbers = {name: classifier.num_classes + place for place, (name, _) in enumerate(names)}
    labels = [_class_of(s, numbers) for s in samples]
    group_of = [_group(s, classifier, mix.column) for s in samples]
    group_names = sorted({name for name in group_of if name})
    place_of = {name: place for place, name in enumerate(group_names)}
    return Rows(
        ids=[s.id for s in samples],
        kinds=kinds,
        labels=labels,
        soft=_soft(samples, kinds, labels, mix, soft_labels, classifier.num_classes),
        weights=[1.0 if s.real else _weight(s, mix) for s in samples],
        groups=[place_of.get(name, -1) for name in group_of],
        group_names=group_names,
        auxiliary=names,
        held=[s.id for s in held],
        held_labels=[int(s.label) for s in held if s.label is not None],
        left_out=dict(Counter(left_out) + Counter(also)),
        where=where,
    )


def _real(ws: Workspace, classifier: Classifier) -> tuple[list[Sample], list[Sample], dict[str, str]]:
    """Real training images but for rejected ones and copies of held-out ones, and real validation images."""
    fitting, held, where = division(ws, classifier)
    train = [s for s in _samples(ws, fitting) if not protected(s.split) and s.verdict != "rejected"]
    kept = [s for s in _samples(ws, held) if s.verdict != "rejected"]
    measured = [
        id for split in ws.splits() if protected(split) for id in ws.query(Filter(split=split, origin="real"))
    ]
    hashes = {s.image_hash for s in [*kept, *_samples(ws, measured)]}
    train = [s for s in train if s.image_hash not in hashes]
    if len(train) < 2 or len(kept) < _LEAST or len({s.label for s in train}) < 2:
        raise DatasetError(
            f"retraining needs labelled real images: there are {len(train)} to learn from and {len(kept)} to say when "
            "to stop. Import a labelled split 'train' (and 'val'), with at least two classes"
        )
    return train, kept, {"trained_on": where["fitted_on"], "stopped_by": where["held_out"]}


def _synthetic(
    ws: Workspace, mix: MixSettings, runs: Sequence[str], on_progress: ProgressFn, cancel: CancelToken
) -> tuple[list[Sample], dict[str, int]]:
    """Curated synthetic images, and why others were left out."""
    if mix.synthetic == "none":
        return [], {}
    wanted = {"verdict": "accepted"} if mix.synthetic == "accepted" else {"believed": True}
    for run in runs:
        ws.run(run)  # says so where there is none
    role = {} if mix.role == "any" else {"role": mix.role}
    ids = [
        id
        for origin in (runs or ["generated"])
        for id in ws.query(Filter(origin=origin, meta=role, **wanted))
    ]
    samples = [s for s in _samples(ws, ids) if s.verdict != "rejected" and AUXILIARY not in s.meta]
    checked = sort_out(ws, [s.id for s in samples], needs_label=True, on_progress=on_progress, cancel=cancel)
    good = {id for id, _ in checked.kept}
    kept = [s for s in samples if s.id in good]
    if mix.limit:  # the same ones whatever was generated in which order
        kept = sorted(kept, key=lambda s: hashlib.sha256(s.id.encode()).digest())[: mix.limit]
    return kept, dict(Counter(reason for _, reason in checked.left_out))


def _auxiliary(
    ws: Workspace, classifier: Classifier, mix: MixSettings, on_progress: ProgressFn, cancel: CancelToken
) -> tuple[list[Sample], dict[str, int]]:
    """Images of classes that the classifier does not have, beside those that it has; none that is held out."""
    if AUXILIARY not in ws.meta_columns():
        return [], {}
    found = _samples(ws, ws.query(Filter(meta={AUXILIARY: list(classifier.labels)})))
    chosen = [
        s
        for s in resolved(ws, found, mix.auxiliary)
        if s.label_name
        and s.label_name not in classifier.labels
        and s.meta[AUXILIARY] in classifier.labels
        and s.verdict != "rejected"
        and (s.real or s.verdict == "accepted" or (s.belief == "believed" and _trusted(s, mix)))
    ]
    checked = sort_out(ws, [s.id for s in chosen], needs_label=False, on_progress=on_progress, cancel=cancel)
    good = {id for id, _ in checked.kept}
    return [s for s in chosen if s.id in good], dict(Counter(reason for _, reason in checked.left_out))


def _trusted(sample: Sample, mix: MixSettings) -> bool:
    """Whether belief is enough: a person has accepted the class, or asks for believed images."""
    return KEY in sample.meta or mix.synthetic == "believed"


def _class_of(sample: Sample, auxiliary: Mapping[str, int]) -> int:
    if AUXILIARY in sample.meta and str(sample.label_name) in auxiliary:
        return auxiliary[str(sample.label_name)]
    assert sample.label is not None  # checked where it was chosen
    return int(sample.label)


def _group(sample: Sample, classifier: Classifier, column: str) -> str:
    value = sample.meta.get(column) if column else None
    if value is None or sample.label is None or not 0 <= sample.label < classifier.num_classes:
        return ""
    return f"{classifier.labels[sample.label]}, {column} {value}"


def _weight(sample: Sample, mix: MixSettings) -> float:
    return mix.synthetic_weight * _number(sample, mix.weight_column, 1.0)


def _number(sample: Sample, column: str, default: float) -> float:
    """A number of the metadata within [0, 1]; ``default`` where there is none."""
    value = sample.meta.get(column) if column else None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value:
        return default
    return min(1.0, max(0.0, float(value)))


def _soft(
    samples: Sequence[Sample],
    kinds: Sequence[str],
    labels: Sequence[int],
    mix: MixSettings,
    given: Mapping[str, Sequence[float]],
    classes: int,
) -> dict[int, list[float]]:
    """Whole labels by position, where they are not one class alone."""
    place_of = {s.id: place for place, s in enumerate(samples)}
    unknown = [id for id in given if id not in place_of]
    if unknown:
        raise InputError(
            f"{len(unknown)} soft labels belong to images that are not trained on, such as {unknown[0]!r}"
        )
    found: dict[int, list[float]] = {}
    for place, (sample, kind, label) in enumerate(zip(samples, kinds, labels, strict=True)):
        if kind != "synthetic":
            continue
        # Below one half the label would be another class's.
        right = max(0.5, _number(sample, mix.label_column, 1.0))
        if right < 1.0 or mix.smoothing:
            other = (1 - right) / (classes - 1)
            whole = [right if k == label else other for k in range(classes)]
            found[place] = [(1 - mix.smoothing) * p + mix.smoothing / classes for p in whole]
    for id, probabilities in given.items():
        values = [float(p) for p in probabilities]
        if len(values) != classes or min(values) < 0 or abs(sum(values) - 1) > 1e-3:
            raise InputError(
                f"the soft label of {id} has {len(values)} numbers that sum to {sum(values):g}; expected {classes} "
                "probabilities that sum to 1"
            )
        found[place_of[id]] = values
    return found


def _samples(ws: Workspace, ids: Sequence[str]) -> list[Sample]:
    return [s for start in range(0, len(ids), _CHUNK) for s in ws.samples(list(ids[start : start + _CHUNK]))]
