"""What a generation is asked for, what it works against, and what comes out."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ltg_core.errors import InputError
from ltg_core.generators.judge import Judge
from ltg_core.guidance.climb import Trace
from ltg_core.models.classifier import Classifier
from ltg_core.signals.reference import Reference
from ltg_core.types import Images


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """What guidance works against: the classifier under test, its reference on real data, an independent judge."""

    classifier: Classifier
    reference: Reference
    judge: Judge | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class GenerateRequest:
    """Images to make.

    Attributes:
        prompts: One an image.
        labels: Intended class index of each.
        seeds: One an image; the same seed gives the same image, alone or in any batch.
        negative: What no image should show.
        sources: (B, 3, H, W) real images to start from (counterfactuals), or None.
        like: (B, 3, H, W) real images to resemble, at the generator's size, or None; the settings say how.
        weights: Strength of the climb of each image, or None for that of the settings. Images of one seed, prompt
            and class share their search, so that a sweep differs in nothing but the weight.
    """

    prompts: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    negative: str = ""
    sources: Images | None = None
    weights: tuple[float, ...] | None = None
    like: Images | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.prompts), len(self.labels), len(self.seeds)}
        given = (self.sources, self.like, self.weights)
        sizes |= {len(values) for values in given if values is not None}
        if len(sizes) != 1 or 0 in sizes:
            raise InputError(
                f"{len(self.prompts)} prompts, {len(self.labels)} labels and {len(self.seeds)} seeds; "
                "give one of each for every image, and at least one image"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class GenerateResult:
    """Finished images and what they cost.

    Attributes:
        images: (B, H, W, 3) uint8, full decoder.
        controls: The same without guidance, or None where no control was asked for.
        signal: (B,) the signal under the full decoder, audit heads.
        signal_control: Likewise of the controls.
        percentile: Of ``signal`` among held-out real data.
        percentile_control: Likewise of the controls.
        chosen: (B,) which candidate was taken.
        trace: One entry a guided step.
        looks: One entry a look: "stage" (of ``STAGES``), "step" (from 1), "of" and "level", the signal of the clean
            estimates as standard scores (audit heads), one an image; the first eight images, and only where somebody
            is told of progress.
        calls: Network calls of everything but the controls.
        calls_control: Network calls of the controls.
        seconds: Wall time.
        chunk: Rows of every network call that these images were made with.
        notes: What happened on the way, in words.
    """

    images: np.ndarray
    controls: np.ndarray | None
    signal: np.ndarray
    signal_control: np.ndarray | None
    percentile: np.ndarray
    percentile_control: np.ndarray | None
    chosen: list[int]
    trace: Trace
    looks: list[dict[str, Any]]
    calls: dict[str, int]
    calls_control: dict[str, int]
    seconds: float
    chunk: int
    notes: list[str]
