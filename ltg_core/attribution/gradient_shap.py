"""GradientShap: expected gradients over many baselines."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from ltg_core.attribution.base import Attribution, Chunk, baseline_images, borrowed_generators
from ltg_core.errors import InputError
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class GradientShap(Attribution):
    """Lundberg and Lee 2017, as expected gradients (Erion et al. 2021): the path from random baselines.

    The baselines are the typical images given as ``background``; without any, flat images and the image
    itself, blurred.
    """

    NAME: ClassVar[str] = "gradient_shap"
    HELP: ClassVar[str] = "Like integrated gradients, averaged over many baselines instead of relying on one."

    n_samples: int = param(32, "Random points per image.", low=1, high=2000)
    stdev: float = param(0.05, "Noise on the image, in units of its range.", low=0.0, high=1.0)
    seed: int = param(0, "Seed of the points and of the noise.", low=0, high=2**31 - 1)

    def _samples_at_once(self, rows: int) -> int:
        # One sample at a time, each from the same seed: its map does not depend on what else is in the batch.
        return 1

    def baselines(self, chunk: Chunk) -> Tensor:
        """The distribution of baselines for one image, (N, 3, H, W).

        Raises:
            InputError: The background images have another size.
        """
        if chunk.background is not None:
            if chunk.background.shape[1:] != chunk.images.shape[1:] or len(chunk.background) == 0:
                raise InputError(
                    f"background images have shape {tuple(chunk.background.shape)}; expected one or more of "
                    f"{tuple(chunk.images.shape[1:])}"
                )
            return chunk.background.to(chunk.images.dtype)
        preprocess = chunk.target.classifier.preprocess
        kinds = ("black", "mean", "grey", "white", "blur")
        return torch.cat([baseline_images(kind, chunk.images.detach(), preprocess) for kind in kinds])

    def _heat(self, chunk: Chunk) -> Tensor:
        from captum.attr import GradientShap as Captum

        baselines = self.baselines(chunk)
        total, done = torch.zeros_like(chunk.images), 0
        with borrowed_generators(self.seed, chunk.images.device):
            while done < self.n_samples:
                count = min(chunk.rows, self.n_samples - done)
                total = total + count * Captum(chunk.forward).attribute(
                    chunk.images,
                    baselines=baselines,
                    n_samples=count,
                    stdevs=self.stdev,
                    additional_forward_args=chunk.per_sample or None,
                )
                done += count
        return (total / self.n_samples).sum(dim=1)
