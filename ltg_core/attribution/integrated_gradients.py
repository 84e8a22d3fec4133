"""Integrated Gradients: gradients along the straight path from a baseline to the image."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor

from ltg_core.attribution.base import BASELINES, Attribution, Chunk, baseline_images
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class IntegratedGradients(Attribution):
    """Sundararajan et al. 2017: (x - b) times the mean gradient between b and x.

    The heat of an image sums to target(image) - target(baseline), up to the error of the quadrature.
    """

    NAME: ClassVar[str] = "integrated_gradients"
    HELP: ClassVar[str] = (
        "Shares the difference to a baseline out among the pixels; the heat adds up to it exactly."
    )

    n_steps: int = param(32, "Points on the path from the baseline to the image.", low=2, high=1000)
    baseline: str = param("mean", "The image that stands for nothing being there.", choices=BASELINES)

    def _heat(self, chunk: Chunk) -> Tensor:
        from captum.attr import IntegratedGradients as Captum

        heat: Tensor = Captum(chunk.forward).attribute(
            chunk.images,
            baselines=baseline_images(self.baseline, chunk.images, chunk.target.classifier.preprocess),
            additional_forward_args=chunk.per_sample or None,
            n_steps=self.n_steps,
            internal_batch_size=max(chunk.rows, len(chunk.images)),
        )
        return heat.sum(dim=1)
