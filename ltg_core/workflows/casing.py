"""The cases of a report: a real sample with its answer, or a matched triplet, with what the answer rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltg_core.attribution.render import overlay
from ltg_core.data.records import Filter, Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, UnsupportedError
from ltg_core.jobs import CancelToken, Progress, ProgressFn
from ltg_core.models.classifier import Classifier
from ltg_core.report import Case, Picture, Redactor, data_url
from ltg_core.workflows.explaining import explain

_METHODS = ("grad_cam", "saliency")
"""The first one that this network supports."""
_FACTS = 6
_INSIDE = (
    *("agrees", "candidate", "control", "distance", "distance_limit", "given_label", "index", "neighbours"),
    *("percentile", "percentile_control", "prompt", "role", "seed", "source"),
)


class Cases:
    """Puts cases together.

    Args:
        ws: The workspace.
        classifier: Whose answers are told.
        hide: Takes file names out of texts.
        attribution: Whether to show what the answers rest on.
    """

    def __init__(self, ws: Workspace, classifier: Classifier, hide: Redactor, *, attribution: bool) -> None:
        self.ws, self.classifier, self.hide, self.attribution = ws, classifier, hide, attribution

    def of(
        self, ids: Sequence[str], notes: Mapping[str, str], on_progress: ProgressFn, cancel: CancelToken
    ) -> tuple[Case, ...]:
        """One case a sample, in order."""
        heats = self._heats(ids, on_progress, cancel) if self.attribution and ids else {}
        found = []
        for number, sample in enumerate(self.ws.samples(ids), 1):
            cancel.check()
            pictures = self._triplet(sample)
            if sample.id in heats:
                pictures.append(self._heat(sample, heats[sample.id]))
            found.append(
                Case(
                    self.hide(_class(sample)),
                    self.hide(self._text(sample)),
                    self.hide(notes.get(sample.id, "")),
                    tuple(pictures),
                    tuple((name, self.hide(value)) for name, value in self._facts(sample)),
                )
            )
            on_progress(Progress(number, len(ids), "preparing the cases"))
        return tuple(found)

    def _triplet(self, sample: Sample) -> list[Picture]:
        if sample.real:
            return [self._picture(sample, "real")]
        near = sample.meta.get("neighbours") or []
        real = sample.meta.get("source") or next(iter(near), None)
        parts = (
            (real, "real start" if sample.meta.get("source") else "nearest real"),
            (sample.meta.get("control"), "unguided, same seed"),
        )
        known = set(self.ws.query(Filter(ids=tuple(str(one) for one, _ in parts if one))))
        found = [self._picture(self.ws.sample(one), name) for one, name in parts if one in known]
        return [*found, self._picture(sample, "guided" if sample.meta.get("control") else "generated")]

    def _picture(self, sample: Sample, name: str) -> Picture:
        said = self.ws.predictions([sample.id], self.classifier.hash).get(sample.id)
        text = (
            ""
            if said is None
            else f"read as {self.classifier.labels[said.pred]}, {100 * said.confidence:.0f}\u00a0%"
        )
        wrong = None if said is None or said.correct is None else not said.correct
        return Picture(data_url(self.ws.image(sample.id)), name, self.hide(text), wrong)

    def _heat(self, sample: Sample, heat: Any) -> Picture:
        pixels = np.asarray(self.ws.image(sample.id), dtype=np.uint8)
        drawn = overlay(pixels, heat.values, signed=heat.signed)
        return Picture(
            data_url(drawn), "what the answer rests on", f"{heat.method.replace('_', ' ')}, {heat.target}"
        )

    def _heats(self, ids: Sequence[str], on_progress: ProgressFn, cancel: CancelToken) -> dict[str, Any]:
        for method in _METHODS:
            try:
                found = explain(
                    self.ws, self.classifier, ids, [method], on_progress=on_progress, cancel=cancel
                )
            except UnsupportedError:
                continue
            except InputError:  # a picture that cannot be read: the report does without
                return {}
            return {heat.sample_id: heat for heat in found}
        return {}

    def _text(self, sample: Sample) -> str:
        said = self.ws.predictions([sample.id], self.classifier.hash).get(sample.id)
        what = "A real image" if sample.real else "A generated image"
        if said is None or said.correct is None:
            return f"{what}."
        read = f"“{self.classifier.labels[said.pred]}” with {100 * said.confidence:.0f}\u00a0% confidence"
        told = f"{what} of “{_class(sample)}”, read {'rightly' if said.correct else 'wrongly'} as {read}."
        if sample.belief:
            told += f" It is {sample.belief}{f': {sample.belief_reason}' if sample.belief_reason else ''}."
        return told

    def _facts(self, sample: Sample) -> list[tuple[str, str]]:
        rows = [
            (key.replace("_", " "), f"{value:.3g}" if isinstance(value, float) else str(value))
            for key, value in sample.meta.items()
            if key not in _INSIDE and isinstance(value, (str, int, float))
        ][:_FACTS]
        if not sample.real and "seed" in sample.meta:
            rows.append(("seed", str(sample.meta["seed"])))
        if not sample.real and sample.caption:
            rows.append(("prompt", sample.caption))
        if sample.real:
            rows.append(("split", sample.split or "none"))
        if sample.source and sample.real and not self.hide.on:
            rows.append(("file", sample.source))
        rows.append(("sample", sample.id))
        return rows


def _class(sample: Sample) -> str:
    return sample.label_name or (f"class {sample.label}" if sample.label is not None else "no label")
