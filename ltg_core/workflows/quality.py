"""How good made images are beside real ones: precision, recall, density, coverage, Vendi score, kernel distance.

In the features of the classifier, or of the generator's text-image encoder: nothing is fetched. Features are
standardised by the real images of the split, so that figures of one workspace and split can be compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ltg_core.curation import sets
from ltg_core.data.images import content_hash
from ltg_core.data.records import REAL, Filter, Run
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError, InputError
from ltg_core.evaluation.quality import NEIGHBOURS, Array, quality
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.params import Params, param
from ltg_core.workflows.computing import compute_outputs
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.retraining import rows_of
from ltg_core.workflows.scoring import labels_of
from ltg_core.workflows.store import FeatureStore
from ltg_core.workflows.terming import need_encoder, vectors

KIND = "quality"
_SMALL = 100
_SPLITS = ("val", "test", "train")


@dataclasses.dataclass(frozen=True)
class QualitySettings(Params):
    """Beside which real images, and in whose eyes."""

    split: str = param("", "Real images of this split; empty for val, else test, else train")
    space: str = param(
        "classifier",
        "Features of the classifier, or of the text-image encoder that comes with the generator",
        choices=("classifier", "encoder"),
    )
    encoder: str = param("", "Folder of another encoder than the generator's")
    role: str = param(
        "both",
        "Of a generation: the guided images, their unguided controls, or both, each for itself",
        choices=("guided", "control", "both"),
    )
    neighbours: int = param(NEIGHBOURS, "Nearest images that span the ball around one", low=1, high=100)
    limit: int = param(5000, "At most so many images of each side, the same ones every time", low=10)


class Made(NamedTuple):
    """A set of made images.

    Attributes:
        name: For people.
        ref: The run, or the set with its version.
        role: "guided", "control", or "" of a set.
        ids: Samples.
    """

    name: str
    ref: str
    role: str
    ids: list[str]


def measure_quality(
    ws: Workspace,
    refs: Sequence[str],
    settings: QualitySettings | None = None,
    *,
    classifier: Classifier,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Run:
    """Measure generations and sets beside real images of their classes.

    Args:
        ws: The workspace.
        refs: Generation runs, or sets (name or name@version).
        settings: None for the defaults.
        classifier: Its classes, and its features.
        on_progress: Told while features are computed.
        cancel: Checked often.

    Returns:
        The run. Its result: ``sets``, each with ``name``, ``ref``, ``role``, ``overall`` (as `Quality.record`, None
        with a ``note`` where it could not be measured) and ``classes`` by name; ``images`` (``split``, ``n``,
        ``fingerprint``), ``space`` and ``notes``.

    Raises:
        InputError: No such run or set, or too few images in all of them.
        DatasetError: No labelled real images.
    """
    settings, token = settings or QualitySettings(), cancel or CancelToken()
    made = [one for ref in dict.fromkeys(refs) for one in _made(ws, ref, settings.role)]
    if not made:
        raise InputError("name a generation or a set whose images are to be measured")
    record = {"refs": list(refs), **settings.to_dict()}
    with recorded(ws, KIND, record, hashes={"classifier": classifier.hash}) as recording:
        measure = Measure(ws, classifier, settings, on_progress, token)
        found = []
        for place, one in enumerate(made):
            token.check()
            on_progress(Progress(place, len(made), f"measuring {one.name}"))
            found.append({**one._asdict(), **measure.of(one.ids)})
            del found[-1]["ids"]
        if all(one["overall"] is None for one in found):
            raise InputError(found[0]["note"])
        recording.result |= {
            "sets": found,
            "images": measure.about,
            "space": settings.space,
            "notes": _notes(found, measure.about),
        }
    return recording.run


def quality_of_trainings(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    refs: Sequence[str],
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, dict[str, Any]]:
    """What the synthetic images that retrainings learned from are beside these real ones.

    Args:
        ws: The workspace.
        classifier: In whose features.
        ids: Labelled real images.
        refs: Retrain runs; whatever else stands there is left alone.
        on_progress: Told while features are computed.
        cancel: Checked often.

    Returns:
        ``overall``, ``classes``, ``n`` and ``note`` of each run that learned from any.
    """
    made = {}
    for ref in refs:
        rows = rows_of(ws, ref)
        if rows is not None:
            made[ref] = [id for id, kind in zip(rows.ids, rows.kinds, strict=True) if kind == "synthetic"]
    made = {ref: [sample.id for sample in ws.there(found)] for ref, found in made.items() if found}
    if not made:
        return {}
    measure = Measure(ws, classifier, QualitySettings(), on_progress, cancel or CancelToken(), ids)
    return {ref: measure.of(found) for ref, found in made.items()}


class Measure:
    """Real images of a split, and what made ones are beside those of their classes.

    Args:
        ws: The workspace.
        classifier: Its classes, and its features.
        settings: See `QualitySettings`.
        on_progress: Told while features are computed.
        cancel: Checked often.
        ids: The real images, where they are not those of a split; labelled.

    Raises:
        DatasetError: No labelled real images.
    """

    def __init__(
        self,
        ws: Workspace,
        classifier: Classifier,
        settings: QualitySettings,
        on_progress: ProgressFn,
        cancel: CancelToken,
        ids: Sequence[str] | None = None,
    ) -> None:
        self.ws, self.classifier, self.settings = ws, classifier, settings
        self.on_progress, self.cancel = on_progress, cancel
        split, real = ("", list(ids)) if ids is not None else self._real()
        self.features, real = self._features(_some(real, settings.limit))
        self.labels = labels_of(ws, real, classifier.num_classes)
        if not len(real):
            raise DatasetError("quality is measured beside labelled real images, and none can be read")
        self.mean, deviation = self.features.mean(axis=0), self.features.std(axis=0)
        self.deviation = np.where(deviation > 1e-6, deviation, np.inf)
        self.features = self._standard(self.features)
        fingerprint = content_hash("\n".join(sorted(real)).encode())
        self.about = {"split": split, "n": len(real), "fingerprint": fingerprint}

    def of(self, ids: Sequence[str]) -> dict[str, Any]:
        """``overall`` and ``classes`` of made images; with a ``note`` where there are too few."""
        features, ids = self._features(_some(list(ids), self.settings.limit))
        labels = labels_of(self.ws, ids, self.classifier.num_classes)
        found: dict[str, Any] = {"n": len(ids), "overall": None, "classes": {}, "note": ""}
        classes = sorted({int(label) for label in labels if label >= 0})
        made, kept = self._standard(features), np.isin(labels, classes)
        try:
            found["overall"] = self._quality(np.isin(self.labels, classes), made[kept])
        except InputError as error:
            found["note"] = str(error)
            return found
        for label in classes:
            here, there = labels == label, self.labels == label
            if min(here.sum(), there.sum()) > self.settings.neighbours:
                found["classes"][self.classifier.labels[label]] = self._quality(there, made[here])
        return found

    def _quality(self, real: Array, made: Array) -> dict[str, Any]:
        k = self.settings.neighbours
        return quality(self.features[real], made, neighbours=k, cancel=self.cancel).record()

    def _real(self) -> tuple[str, list[str]]:
        wanted = [self.settings.split] if self.settings.split else list(_SPLITS)
        for split in wanted:
            ids = sorted(self.ws.query(Filter(split=split, origin=REAL)))
            labels = labels_of(self.ws, ids, self.classifier.num_classes)
            found = [id for id, label in zip(ids, labels, strict=True) if label >= 0]
            if found:
                return split, found
        raise DatasetError(
            f"quality is measured beside labelled real images; there are none in {' or '.join(wanted)}"
        )

    def _features(self, ids: list[str]) -> tuple[Array, list[str]]:
        """(N, D) and the ids whose pictures can be read."""
        told: dict[str, Any] = {"on_progress": self.on_progress, "cancel": self.cancel}
        if self.settings.space == "encoder":
            encoder = need_encoder(self.ws, self.settings.encoder)
            found, good = vectors(self.ws, encoder, ids, **told)
            return found[good].astype(np.float64), [id for id, there in zip(ids, good, strict=True) if there]
        compute_outputs(self.ws, self.classifier, ids, **told)
        store = FeatureStore(self.ws, self.classifier)
        absent = set(store.missing(ids))
        ids = [id for id in ids if id not in absent]
        return store.features(ids).astype(np.float64), ids

    def _standard(self, features: Array) -> Array:
        found: Array = (features - self.mean) / self.deviation
        return found


def _made(ws: Workspace, ref: str, role: str) -> list[Made]:
    """The sets that a run or a set of samples stands for."""
    runs = {run.id: run for run in ws.runs("generate")}
    if ref not in runs:
        found = sets.get(ws, ref)
        members = ws.there([member.sample for member in sets.members(ws, ref)])
        return [Made(found.ref, found.ref, "", [sample.id for sample in members if not sample.real])]
    name = runs[ref].settings.get("preset") or ref
    roles = ("guided", "control") if role == "both" else (role,)
    ids = {one: ws.query(Filter(origin=ref, meta={"role": one})) for one in roles}
    return [
        Made(f"{name}{', controls' if one == 'control' else ''}", ref, one, ids[one])
        for one in roles
        if ids[one] or role != "both"
    ]


def _some(ids: list[str], limit: int) -> list[str]:
    """At most so many, the same ones every time; in the order of their hashes, so that any beginning is a fair one."""
    return sorted(ids, key=lambda id: hashlib.sha256(id.encode()).digest())[:limit]


def _notes(found: Sequence[dict[str, Any]], about: dict[str, Any]) -> list[str]:
    notes = [f"{one['name']}: {one['note']}" for one in found if one["note"]]
    few = [one["name"] for one in found if one["overall"] is not None and one["n"] < _SMALL]
    if few:
        notes.append(
            f"fewer than {_SMALL} images ({', '.join(few)}): figures jump with every image; compare only sets of equal "
            "numbers"
        )
    if about["split"] == "train":
        notes.append(
            "beside training images: what the generator learned by heart looks good; hold real images out"
        )
    return notes
