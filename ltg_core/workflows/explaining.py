"""Attributions as a run: of the prediction, of a class, of a contrast, or of the uncertainty itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from ltg_core.attribution import ATTRIBUTIONS, heatmaps
from ltg_core.attribution.base import Attribution, Heatmap
from ltg_core.attribution.trust import Evidence, examine
from ltg_core.data.images import to_tensor
from ltg_core.data.records import Filter, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.types import Images
from ltg_core.workflows.heats import Explanation, HeatStore, explanation
from ltg_core.workflows.questions import Question, Refusal
from ltg_core.workflows.recording import recorded
from ltg_core.workflows.setup import active_classifier

__all__ = ["Explanation", "explain", "explain_matrix", "question_words", "stored_matrix"]

_BACKGROUND = 16
_ENLARGED = 2  # photographs are explained at no more than twice the classifier's own resolution


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
        target: As ``Question`` reads it: "prediction", "label", "runner-up", "mistake", "class:<name>",
            "contrast:<name>|<name>" or "signal:<name>".
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
    plugins = _plugins(methods, settings)
    samples = _samples(ws, chosen, plugins)
    answers = _Answers(ws, Question(ws, classifier, target))
    record = {
        "ids": chosen,
        "methods": {plugin.NAME: plugin.to_dict() for plugin in plugins},
        "target": target,
        "trust": trust,
    }
    with recorded(ws, "explain", record, hashes={"classifier": classifier.hash}) as recording:
        found: dict[tuple[str, str], Explanation] = {}
        for number, plugin in enumerate(plugins):
            report = _part_of(on_progress, number, len(plugins))
            for one in answers.answer(plugin, samples, trust, report, token):
                found[one.sample_id, one.method] = one
        recording.result |= {"maps": len(found), "computed": answers.computed}
    return [found[sample, plugin.NAME] for sample in chosen for plugin in plugins]


def explain_matrix(
    ws: Workspace,
    ids: Sequence[str],
    methods: Sequence[str],
    *,
    target: str = "prediction",
    checked: Sequence[str] = (),
    classifier: Classifier | None = None,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Explain samples by several methods; what cannot be had says why, also a sample that was deleted meanwhile.

    Args:
        ws: The workspace.
        ids: The samples.
        methods: Names in ``ATTRIBUTIONS``.
        target: As for ``explain``.
        checked: Those methods whose maps are checked too.
        classifier: None for the active one.
        on_progress: Told after every part.
        cancel: Checked before every pass through the network; finished maps are kept.

    Returns:
        JSON values: ``run``, ``ids``, ``methods``, ``target``, ``words`` (the question), ``maps`` (how many there
        are) and ``refused``, a list of {``sample``, ``method``, ``reason``, ``offer``}; ``offer`` is {"method": name},
        {"target": text} or {}. ``stored_matrix`` reads the maps.

    Raises:
        InputError: An unknown method, class or signal, no sample at all, or no classifier.
        Cancelled: On request.
    """
    token, chosen = cancel or CancelToken(), list(dict.fromkeys(ids))
    plugins = _plugins(methods)
    lost = _lost(ws, chosen)
    samples = [sample for sample in ws.there(chosen) if sample.id not in lost]
    question = Question(ws, classifier or active_classifier(ws), target)
    answers = _Answers(ws, question)
    names = [plugin.NAME for plugin in plugins]
    record = {"ids": chosen, "methods": names, "target": target, "checked": list(checked)}
    unasked = lost | question.refusals(samples)
    possible = [sample for sample in samples if sample.id not in unasked]
    refused = [{"sample": one, "method": name, **unasked[one]} for name in names for one in unasked]
    hashes = {"classifier": question.classifier.hash}
    with recorded(ws, "explain", record, hashes=hashes) as recording:
        for number, plugin in enumerate(plugins):
            if not possible:
                break
            report = _part_of(on_progress, number, len(plugins))
            try:
                answers.answer(plugin, possible, plugin.NAME in checked, report, token)
            except (UnsupportedError, InputError) as error:
                refusal: Refusal = {"reason": _sentence(error), "offer": _instead(plugin.NAME, names)}
                refused += [{"sample": s.id, "method": plugin.NAME, **refusal} for s in possible]
        recording.result |= {
            "maps": len(chosen) * len(names) - len(refused),
            "computed": answers.computed,
            "refused": len(refused),
        }
    return {
        "run": recording.run.id,
        "ids": chosen,
        "methods": names,
        "target": target,
        "words": question.words,
        "maps": recording.run.result["maps"],
        "refused": refused,
    }


def stored_matrix(
    ws: Workspace, ids: Sequence[str], methods: Sequence[str], *, target: str = "prediction"
) -> dict[tuple[str, str], Explanation]:
    """The finished maps among these samples and methods, by (sample, method); nothing is computed.

    Raises:
        InputError: As ``explain_matrix``.
    """
    plugins = _plugins(methods)
    samples = ws.there(list(dict.fromkeys(ids)))
    store = HeatStore(ws, Question(ws, active_classifier(ws), target))
    found = {(s.id, plugin.NAME): store.get(plugin, s) for s in samples for plugin in plugins}
    return {place: one for place, one in found.items() if one is not None}


def question_words(ws: Workspace, target: str) -> str:
    """A target as a heading, for example "What speaks for stop rather than yield".

    Raises:
        InputError: An unknown form, class or signal.
    """
    return Question(ws, active_classifier(ws), target).words


class _Answers:
    """One question, answered for many samples; answers come from the store where they are there."""

    def __init__(self, ws: Workspace, question: Question) -> None:
        self.ws, self.question, self.store = ws, question, HeatStore(ws, question)
        self.computed = 0

    def answer(
        self,
        method: Attribution,
        samples: Sequence[Sample],
        trust: bool,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> list[Explanation]:
        """Maps of all samples by one method."""
        stored = {sample.id: self.store.get(method, sample, checked=trust) for sample in samples}
        done = [one for one in stored.values() if one is not None]
        todo = [sample for sample in samples if stored[sample.id] is None]
        count = len(done)
        for group, images, sizes in self._groups(todo):

            def report(p: Progress, before: int = count) -> None:
                on_progress(Progress(before + p.done, len(samples), f"{method.NAME}"))

            made = self._compute(method, group, images, sizes, trust, report, cancel)
            for sample, one in zip(group, made, strict=True):
                self.store.put(method, sample, one)
            done += made
            count += len(group)
            self.computed += len(group)
            on_progress(Progress(count, len(samples), method.NAME))
        return done

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
        target = self.question.build(samples)
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
        checks: list[Evidence | None] = [None] * len(maps)
        if trust:
            heat = torch.from_numpy(np.stack([one.values for one in maps]))
            checks = list(examine(method, target, images, heat, background=background, cancel=cancel))
        return [explanation(one, check, size) for one, check, size in zip(maps, checks, sizes, strict=True)]

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
        preprocess: Preprocess = self.question.classifier.preprocess
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
        absent = self.ws.without_picture(ids)
        pictures = [to_tensor(self.ws.image(sample))[None] for sample in ids if sample not in absent]
        return torch.cat([F.interpolate(p, size=size, mode="bilinear", antialias=True) for p in pictures])


def _plugins(
    methods: Sequence[str], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Attribution]:
    given = settings or {}
    return [ATTRIBUTIONS[name].from_dict(dict(given.get(name, {}))) for name in dict.fromkeys(methods)]


def _samples(ws: Workspace, ids: Sequence[str], plugins: Sequence[Attribution]) -> list[Sample]:
    if not ids or not plugins:
        raise InputError("choose at least one sample and one method")
    return ws.samples(ids)


def _part_of(on_progress: ProgressFn, number: int, parts: int) -> ProgressFn:
    """Progress of one method as progress of the whole."""

    def report(p: Progress) -> None:
        on_progress(Progress(number * p.total + p.done, parts * p.total, p.message))

    return report


def _lost(ws: Workspace, ids: Sequence[str]) -> dict[str, Refusal]:
    """Of what cannot be explained because it was deleted underneath, the reason."""
    if not ids:
        raise InputError("choose at least one sample and one method")
    there = [sample.id for sample in ws.there(ids)]
    absent = ws.without_picture(there)
    reasons = {id: "This sample was deleted from the workspace." for id in ids if id not in set(there)}
    reasons |= {id: "The picture of this sample is no longer on the disk." for id in there if id in absent}
    return {id: {"reason": reason, "offer": {}} for id, reason in reasons.items()}


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _instead(refused: str, shown: Sequence[str]) -> dict[str, str]:
    """Another method that is not shown yet and needs less: no gradient, or no look inside the network."""
    order: tuple[str, ...] = ("occlusion", "integrated_gradients", "grad_cam", "saliency")
    if refused == "grad_cam":
        order = ("integrated_gradients", "occlusion", "saliency")
    return next(({"method": name} for name in order if name != refused and name not in shown), {})
