"""Attributions as a run: of the prediction, of a class, of a contrast, or of the uncertainty itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ltg_core.attribution import ATTRIBUTIONS, ClassTarget, ContrastTarget, SignalTarget, Target, heatmaps
from ltg_core.attribution.base import Attribution, Heatmap
from ltg_core.attribution.trust import Trust, sanity
from ltg_core.data.images import content_hash, to_tensor
from ltg_core.data.records import Filter, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals import SIGNALS
from ltg_core.types import Images
from ltg_core.workflows.planning import class_index
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.scoring import reference_stamp
from ltg_core.workflows.setup import reference

_VERSION = 1  # raised when the same question would give another map, so that stored ones are not used
_BACKGROUND = 16
_ENLARGED = 2  # photographs are explained at no more than twice the classifier's own resolution


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation(Heatmap):
    """A heat map with its checks.

    Attributes:
        trust: The two checks, None where they were not asked for.
    """

    trust: Trust | None = None


def explain(
    ws: Workspace,
    classifier: Classifier,
    ids: Sequence[str],
    methods: Sequence[str],
    *,
    target: str = "prediction",
    trust: bool = False,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> list[Heatmap]:
    """Explain samples by several methods; maps are stored and not computed again.

    Args:
        ws: The workspace.
        classifier: The frozen classifier; left as it was.
        ids: The samples.
        methods: Names in ``ATTRIBUTIONS``.
        target: "prediction", "label" (the given class), "class:<name>", "contrast:<name>|<name>" or
            "signal:<name>".
        trust: Check every map: does it depend on what the network learned, and do its hot pixels matter?
        settings: Settings of methods, by name.
        on_progress: Told after every part.
        cancel: Checked before every pass through the network; finished maps are kept.

    Returns:
        `Explanation` objects, sample by sample, the methods in order. Values have the size of the picture.

    Raises:
        InputError: An unknown sample, method or class.
        UnsupportedError: A method that cannot explain this target; the message offers another.
        Cancelled: On request.
    """
    token, chosen = cancel or CancelToken(), list(dict.fromkeys(ids))
    plugins = [ATTRIBUTIONS[name].from_dict(dict((settings or {}).get(name, {}))) for name in methods]
    if not chosen or not plugins:
        raise InputError("choose at least one sample and one method")
    samples = ws.samples(chosen)
    question = _Question(ws, classifier, target)
    record = {
        "ids": chosen,
        "methods": {plugin.NAME: plugin.to_dict() for plugin in plugins},
        "target": target,
        "trust": trust,
    }
    with recorded(ws, "explain", record, hashes={"classifier": classifier.hash}) as recording:
        found: dict[tuple[str, str], Explanation] = {}
        for number, plugin in enumerate(plugins):

            def report(p: Progress, number: int = number) -> None:
                on_progress(Progress(number * p.total + p.done, len(plugins) * p.total, p.message))

            for one in question.answer(plugin, samples, trust, report, token):
                found[one.sample_id, one.method] = one
        recording.result |= {"maps": len(found), "computed": question.computed}
    return [found[sample, plugin.NAME] for sample in chosen for plugin in plugins]


class _Question:
    """One target, asked of many samples; answers come from the store where they are there."""

    def __init__(self, ws: Workspace, classifier: Classifier, target: str) -> None:
        self.ws, self.classifier, self.target = ws, classifier, target
        self.computed = 0
        self.kind, _, self.rest = target.partition(":")
        needs_reference = self.kind == "signal"
        self.reference = reference(ws, classifier) if needs_reference else None
        self.stamp = reference_stamp(ws, classifier) if needs_reference else ""
        self.build([])  # a wrong name is an error now

    def answer(
        self,
        method: Attribution,
        samples: Sequence[Sample],
        trust: bool,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> list[Explanation]:
        """Maps of all samples by one method."""
        stored = {sample.id: self._stored(method, sample, trust) for sample in samples}
        done = [one for one in stored.values() if one is not None]
        todo = [sample for sample in samples if stored[sample.id] is None]
        count = len(done)
        for group, images, sizes in self._groups(todo):

            def report(p: Progress, before: int = count) -> None:
                on_progress(Progress(before + p.done, len(samples), f"{method.NAME}"))

            made = self._compute(method, group, images, sizes, trust, report, cancel)
            for sample, one in zip(group, made, strict=True):
                self._keep(method, sample, one)
            done += made
            count += len(group)
            self.computed += len(group)
            on_progress(Progress(count, len(samples), method.NAME))
        return done

    def build(self, samples: Sequence[Sample]) -> Target:
        """The target for these samples."""
        classifier = self.classifier
        if self.kind == "prediction" and not self.rest:
            return ClassTarget(classifier)
        if self.kind == "label" and not self.rest:
            return ClassTarget(classifier, _labels(classifier, samples))
        if self.kind == "class":
            return ClassTarget(classifier, class_index(classifier, self.rest))
        if self.kind == "contrast":
            first, bar, second = self.rest.partition("|")
            if bar:
                return ContrastTarget(
                    classifier, class_index(classifier, first), class_index(classifier, second)
                )
            raise InputError(f"the contrast {self.rest!r} names one class; write 'contrast:<class>|<class>'")
        if self.kind == "signal":
            signal = SIGNALS[self.rest]()
            needs = "label" in signal.NEEDS and not (
                signal.LABEL_OPTIONAL and any(sample.label is None for sample in samples)
            )
            return SignalTarget(
                classifier, signal, self.reference, _labels(classifier, samples) if needs else None
            )
        raise InputError(
            f"there is no target {self.target!r}; use prediction, label, class:<name>, contrast:<name>|<name> or "
            "signal:<name>"
        )

    def _compute(
        self,
        method: Attribution,
        samples: Sequence[Sample],
        images: Images,
        sizes: Sequence[tuple[int, int]],
        trust: bool,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> list[Explanation]:
        target = self.build(samples)
        background = self._background(images) if method.NAME == "gradient_shap" else None
        maps = heatmaps(
            method,
            target,
            images,
            [sample.id for sample in samples],
            background=background,
            on_progress=on_progress,
            cancel=cancel,
        )
        checks: list[Trust | None] = [None] * len(maps)
        if trust:
            heat = torch.from_numpy(np.stack([one.values for one in maps]))
            checks = list(sanity(method, target, images, heat, background=background, cancel=cancel))
        return [_explanation(one, check, size) for one, check, size in zip(maps, checks, sizes, strict=True)]

    def _groups(self, samples: Sequence[Sample]) -> list[tuple[list[Sample], Images, list[tuple[int, int]]]]:
        """Samples whose pictures have one size, the pictures, and the sizes that they have in the store."""
        groups: dict[tuple[int, int], tuple[list[Sample], list[torch.Tensor], list[tuple[int, int]]]] = {}
        for sample in samples:
            image = to_tensor(self.ws.image(sample.id))
            size = (int(image.shape[1]), int(image.shape[2]))
            image = self._small(image)
            entry = groups.setdefault((int(image.shape[1]), int(image.shape[2])), ([], [], []))
            for part, value in zip(entry, (sample, image, size), strict=True):
                part.append(value)  # type: ignore[attr-defined]
        return [(some, torch.stack(images), sizes) for some, images, sizes in groups.values()]

    def _small(self, image: torch.Tensor) -> torch.Tensor:
        preprocess: Preprocess = self.classifier.preprocess
        if preprocess.resize == "none":
            return image
        height, width = image.shape[1:]
        factor = max(_ENLARGED * preprocess.height / height, _ENLARGED * preprocess.width / width)
        if factor >= 1:
            return image
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]

    def _background(self, images: Images) -> Images | None:
        """Some real pictures at the size of these, always the same ones."""
        ids = self.ws.query(Filter(origin="real"), sort="id", limit=_BACKGROUND)
        if not ids:
            return None
        size = (int(images.shape[2]), int(images.shape[3]))
        pictures = [to_tensor(self.ws.image(sample))[None] for sample in ids]
        return torch.cat([F.interpolate(p, size=size, mode="bilinear", antialias=True) for p in pictures])

    def _key(self, method: Attribution, sample: Sample) -> str:
        question = {
            "version": _VERSION,
            "image": sample.image_hash,
            "label": sample.label,
            "method": [method.NAME, method.to_dict()],
            "target": [self.target, list(self.classifier.labels), self.stamp],
        }
        text = json.dumps(question, sort_keys=True).encode()
        return f"heat-{self.classifier.hash}-{content_hash(text)}"

    def _stored(self, method: Attribution, sample: Sample, trust: bool) -> Explanation | None:
        key = self._key(method, sample)
        values = self.ws.array(key)
        try:
            card = json.loads((self.ws.path / "arrays" / f"{key}.json").read_text(encoding="utf-8"))
            checks = Trust(**card["trust"]) if card["trust"] is not None else None
        except (OSError, ValueError, KeyError, TypeError):  # not there, or half of it: computed again
            return None
        if values is None or (trust and checks is None):
            return None
        return Explanation(
            sample.id, method.NAME, card["target"], values, card["signed"], tuple(card["notes"]), checks
        )

    def _keep(self, method: Attribution, sample: Sample, one: Explanation) -> None:
        key = self._key(method, sample)
        self.ws.put_array(key, one.values)
        card = {
            "target": one.target,
            "signed": one.signed,
            "notes": list(one.notes),
            "trust": None if one.trust is None else dataclasses.asdict(one.trust),
        }
        self.ws.blobs.write(self.ws.path / "arrays" / f"{key}.json", json.dumps(card).encode())


def _explanation(heat: Heatmap, check: Trust | None, size: tuple[int, int]) -> Explanation:
    values = heat.values
    if values.shape != size:
        enlarged = F.interpolate(torch.from_numpy(values)[None, None], size=size, mode="bilinear")
        values = enlarged[0, 0].numpy()
    notes = heat.notes if check is None else (*heat.notes, f"Checked: {check.verdict}.")
    return Explanation(heat.sample_id, heat.method, heat.target, values, heat.signed, notes, check)


def _labels(classifier: Classifier, samples: Sequence[Sample]) -> list[int]:
    found = []
    for sample in samples:
        if sample.label is None or not 0 <= sample.label < classifier.num_classes:
            raise InputError(
                f"sample {sample.id} has no class that the classifier knows; explain the prediction or another signal"
            )
        found.append(sample.label)
    return found
