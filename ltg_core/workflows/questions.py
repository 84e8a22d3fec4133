"""What can be asked of a sample: why this class, why not another, why unsure. Text in, target out."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ltg_core.attribution import ClassTarget, ContrastTarget, SignalTarget, Target
from ltg_core.data.records import Sample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError
from ltg_core.models.classifier import Classifier
from ltg_core.signals import SIGNALS
from ltg_core.signals.base import Signal
from ltg_core.signals.reference import Reference
from ltg_core.workflows.planning import class_index
from ltg_core.workflows.scoring import reference_stamp
from ltg_core.workflows.setup import reference

FORMS = "prediction, label, runner-up, mistake, class:<name>, contrast:<name>|<name> or signal:<name>"
_PLAIN = ("prediction", "label", "runner-up", "mistake")
Refusal = dict[str, Any]
"""Why a question cannot be asked here: ``reason`` in words, ``offer`` {"target": …} or {"method": …}, or {}."""


class Question:
    """One target, to be asked of many samples.

    Args:
        ws: The workspace.
        classifier: The frozen classifier.
        target: "prediction"; "label" (the given class); "runner-up" (the prediction rather than the next class);
            "mistake" (the prediction rather than the given class); "class:<name>"; "contrast:<name>|<name>";
            "signal:<name>".

    Raises:
        InputError: An unknown form, class or signal.
    """

    def __init__(self, ws: Workspace, classifier: Classifier, target: str) -> None:
        self.ws, self.classifier, self.target = ws, classifier, target
        self.kind, _, self.rest = target.partition(":")
        if self.kind not in ("class", "contrast", "signal") and target not in _PLAIN:
            raise InputError(f"there is no target {target!r}; use {FORMS}")
        if self.kind == "signal":
            SIGNALS[self.rest]  # a wrong name is an error now
        else:
            self.build([])

    @property
    def stamp(self) -> str:
        """Changes with what a signal was fitted on; "" for questions about classes."""
        return reference_stamp(self.ws, self.classifier) if self.kind == "signal" else ""

    @property
    def words(self) -> str:
        """The question as a heading."""
        if self.kind == "signal":
            return f"What raises the {self.rest.replace('_', ' ')}"
        if self.kind == "class":
            return f"What speaks for {self.classifier.labels[class_index(self.classifier, self.rest)]}"
        if self.kind == "contrast":
            a, b = (self.classifier.labels[i] for i in self._pair())
            return f"What speaks for {a} rather than {b}"
        return {
            "prediction": "What speaks for the predicted class",
            "label": "What speaks for the given label",
            "runner-up": "What speaks for the prediction rather than the runner-up",
            "mistake": "What speaks for the prediction rather than the given label",
        }[self.kind]

    def build(self, samples: Sequence[Sample]) -> Target:
        """The target for these samples.

        Raises:
            InputError: A sample without the label that the question needs.
        """
        classifier = self.classifier
        if self.kind == "prediction":
            return ClassTarget(classifier)
        if self.kind == "label":
            return ClassTarget(classifier, _labels(classifier, samples))
        if self.kind == "runner-up":
            return ContrastTarget(classifier)
        if self.kind == "mistake":
            return ContrastTarget(classifier, None, _labels(classifier, samples))
        if self.kind == "class":
            return ClassTarget(classifier, class_index(classifier, self.rest))
        if self.kind == "contrast":
            return ContrastTarget(classifier, *self._pair())
        signal = SIGNALS[self.rest]()
        needs = "label" in signal.NEEDS and not (
            signal.LABEL_OPTIONAL and any(sample.label is None for sample in samples)
        )
        labels = _labels(classifier, samples) if needs else None
        return SignalTarget(classifier, signal, self._reference, labels)

    def refusals(self, samples: Sequence[Sample]) -> dict[str, Refusal]:
        """Samples of which this cannot be asked, by id, each with the reason and what can be asked instead."""
        found: dict[str, Refusal] = {}
        if self._needs_label():
            for sample in samples:
                if not _known(self.classifier, sample):
                    reason = "The sample has no label that the classifier knows, and this question needs one."
                    found[sample.id] = {"reason": reason, "offer": {"target": "prediction"}}
        if self.kind == "mistake":
            said = self.ws.predictions([sample.id for sample in samples], self.classifier.hash)
            for sample in samples:
                guess = said.get(sample.id)
                if guess is not None and guess.pred == sample.label:
                    reason = "The prediction is the label: there is no mistake to explain."
                    found[sample.id] = {"reason": reason, "offer": {"target": "runner-up"}}
        return found

    @functools.cached_property
    def _reference(self) -> Reference | None:
        return reference(self.ws, self.classifier)

    def _needs_label(self) -> bool:
        if self.kind != "signal":
            return self.kind in ("label", "mistake")
        signal: type[Signal] = SIGNALS[self.rest]
        return "label" in signal.NEEDS and not signal.LABEL_OPTIONAL

    def _pair(self) -> tuple[int, int]:
        """Both classes of a contrast; their names may themselves hold the bar."""
        parts = self.rest.split("|")
        if len(parts) < 2:
            raise InputError(f"the contrast {self.rest!r} names one class; write 'contrast:<class>|<class>'")
        names = [("|".join(parts[:i]), "|".join(parts[i:])) for i in range(1, len(parts))]
        known = [pair for pair in names if set(pair) <= set(self.classifier.labels)]
        first, second = (class_index(self.classifier, name) for name in (known or names)[0])
        if first == second:
            raise InputError("both classes of the contrast are the same; choose two different ones")
        return first, second


def _known(classifier: Classifier, sample: Sample) -> bool:
    return sample.label is not None and 0 <= sample.label < classifier.num_classes


def _labels(classifier: Classifier, samples: Sequence[Sample]) -> list[int]:
    found = []
    for sample in samples:
        if sample.label is None or not _known(classifier, sample):
            raise InputError(
                f"sample {sample.id} has no class that the classifier knows; explain the prediction or another signal"
            )
        found.append(sample.label)
    return found
