"""Eight images and their controls, made and examined: all of a generation that needs its models and no workspace."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltg_core.errors import ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import Judge, find_judge
from ltg_core.guidance.engine import GenerateRequest, GenerateResult, Target, generate_images
from ltg_core.guidance.settings import STAGES, Guidance
from ltg_core.guidance.validity import Validity, ValiditySettings, examine
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.types import Outputs
from ltg_core.workflows.computing import outputs_now
from ltg_core.workflows.loaded import classifier_at, generator_at, reference_at


@dataclasses.dataclass(frozen=True, eq=False)
class Wanted:
    """A unit in full.

    Attributes:
        request: Its images.
        kept: Which of them, by place, have a control of their own; the others share one of these.
        chunk: Rows of a network call.
    """

    request: GenerateRequest
    kept: tuple[int, ...]
    chunk: int


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """A finished unit.

    Attributes:
        result: Its images.
        guided: The findings about each.
        controls: The findings about the controls that are kept; empty where there are none.
        outputs: What the classifier says about the guided images, then about these controls.
    """

    result: GenerateResult
    guided: list[Validity]
    controls: list[Validity]
    outputs: Outputs


RESULTS = (Made, GenerateResult, Validity, Outputs)
"""Of these a finished unit is made."""


@dataclasses.dataclass(frozen=True, eq=False)
class Maker:
    """The models and settings of one run."""

    generator: Generator
    target: Target
    guidance: Guidance
    validity: ValiditySettings

    @property
    def paired(self) -> bool:
        """Whether guided images differ from their controls."""
        return self.guidance.searches or self.guidance.climbs

    def make(
        self, wanted: Wanted, on_progress: ProgressFn = no_progress, cancel: CancelToken | None = None
    ) -> Made:
        """One unit; the same seeds give the same images in any process with as many threads."""
        last = Progress(0, 1)

        def told(step: Progress) -> None:
            nonlocal last
            last = step
            on_progress(step)

        with self.generator.at_rows(wanted.chunk):
            result = generate_images(
                self.generator,
                self.target,
                self.guidance,
                wanted.request,
                controls=self.paired,
                on_progress=told,
                cancel=cancel,
            )
        told(dataclasses.replace(last, message=STAGES["examined"]))
        with self.generator.at_rows(result.chunk):
            return self._examined(wanted, result)

    def _examined(self, wanted: Wanted, result: GenerateResult) -> Made:
        kept = list(wanted.kept) if result.controls is not None else []
        images, labels = result.images, torch.tensor(wanted.request.labels)
        controls = self._examine(result.controls[kept], labels[kept]) if result.controls is not None else []
        guided = self._examine(images, labels)
        every = [*images, *(result.controls[kept] if result.controls is not None else ())]
        return Made(result, guided, controls, outputs_now(self.target.classifier, every))

    def _examine(self, images: np.ndarray, labels: torch.Tensor) -> list[Validity]:
        return examine(self.generator, self.target, self.guidance.signal, images, labels, self.validity)


def maker(options: Mapping[str, Any]) -> Callable[[Wanted], Made]:
    """``Maker.make`` in another process, of the options that ``Units`` gives.

    Raises:
        InputError: A file is not where the owner of the run has it.
        ModelError: A model differs from the run's.
    """
    classifier = classifier_at(**options["classifier"], device=options["device"])
    generator = generator_at(
        options["generator"], options=options["generator_options"], device=options["device"]
    )
    ref = reference_at(Path(options["reference"]), classifier)
    if ref is None or generator.hash != options["generator_hash"]:
        raise ModelError("the generator or the reference changed since the run began; start a new generation")
    target = Target(classifier, ref, judge_of(generator, classifier))
    guidance = Guidance.from_dict(options["guidance"])
    return Maker(generator, target, guidance, ValiditySettings.from_dict(options["validity"])).make


def judge_of(generator: Generator, classifier: Classifier) -> Judge | None:
    """The independent judge that comes with a generator, for the classes of a classifier; loaded once a
    process.
    """
    folder = getattr(generator, "folder", None)
    return (
        None
        if folder is None
        else _judge(str(folder), generator.hash, classifier.labels, str(generator.device))
    )


@functools.lru_cache(maxsize=4)
def _judge(folder: str, stamp: str, labels: tuple[str, ...], device: str) -> Judge | None:
    return find_judge(folder, labels, device)
