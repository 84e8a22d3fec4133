"""Occlusion: cover a patch, see what the target loses. Needs no gradient."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor

from ltg_core.attribution.base import BASELINES, Attribution, Chunk, baseline_images
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class Occlusion(Attribution):
    """Zeiler and Fergus 2014: the target's drop when a patch is covered, averaged over patches."""

    NAME: ClassVar[str] = "occlusion"
    HELP: ClassVar[str] = (
        "What the output loses when a patch is covered: slow, easy to understand, any signal."
    )
    GRADIENT: ClassVar[bool] = False

    window: float = param(
        0.2, "Side of the patch as a share of the image's shorter side.", low=0.01, high=1.0
    )
    stride: float = param(0.5, "Step of the patch as a share of its side.", low=0.05, high=1.0)
    baseline: str = param("mean", "What the patch is filled with.", choices=BASELINES)

    def patch(self, height: int, width: int) -> tuple[int, int]:
        """Side and step of the patch in pixels for an image of this size."""
        side = max(1, round(self.window * min(height, width)))
        return side, max(1, round(self.stride * side))

    def _heat(self, chunk: Chunk) -> Tensor:
        from captum.attr import Occlusion as Captum

        images = chunk.images.detach()
        side, step = self.patch(images.shape[2], images.shape[3])
        drop: Tensor = Captum(chunk.forward).attribute(
            images,
            sliding_window_shapes=(3, side, side),
            strides=(3, step, step),
            baselines=baseline_images(self.baseline, images, chunk.target.classifier.preprocess),
            additional_forward_args=chunk.per_sample or None,
            perturbations_per_eval=max(1, chunk.rows // len(images)),
        )
        # The channels are covered together and carry the same drop each: the mean keeps the target's unit.
        return drop.mean(dim=1)
