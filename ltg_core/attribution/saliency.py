"""Saliency: the gradient at the image, optionally averaged over noisy copies."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from torch import Tensor

from ltg_core.attribution.base import Attribution, Chunk, borrowed_generators
from ltg_core.params import param


@dataclasses.dataclass(frozen=True)
class Saliency(Attribution):
    """Simonyan et al. 2014: the gradient of the target with respect to each pixel.

    With ``n_samples`` above zero it is averaged over noisy copies (SmoothGrad, Smilkov et al. 2017).
    """

    NAME: ClassVar[str] = "saliency"
    HELP: ClassVar[str] = (
        "How strongly a small change of a pixel moves the output: one pass, the quickest method."
    )

    direction: bool = param(False, "Keep the gradient's sign instead of showing its size.")
    n_samples: int = param(0, "Noisy copies to average over; 0 for the plain gradient.", low=0, high=500)
    stdev: float = param(
        0.1, "Standard deviation of that noise, in units of the image's range.", low=0.0, high=1.0
    )
    seed: int = param(0, "Seed of that noise.", low=0, high=2**31 - 1)

    @property
    def signed(self) -> bool:
        """Only when the gradient's sign is kept."""
        return self.direction

    def _samples_at_once(self, rows: int) -> int:
        # A noisy sample goes alone, so that its noise does not depend on what else is in the batch.
        return 1 if self.n_samples else rows

    def _heat(self, chunk: Chunk) -> Tensor:
        from captum.attr import NoiseTunnel
        from captum.attr import Saliency as Captum

        gradient = Captum(chunk.forward)
        if not self.n_samples:
            heat: Tensor = gradient.attribute(
                chunk.images, abs=not self.direction, additional_forward_args=chunk.per_sample or None
            )
            return heat.sum(dim=1)
        with borrowed_generators(self.seed, chunk.images.device):
            heat = NoiseTunnel(gradient).attribute(
                chunk.images,
                nt_type="smoothgrad",
                nt_samples=self.n_samples,
                nt_samples_batch_size=chunk.rows,
                stdevs=self.stdev,
                abs=not self.direction,
                additional_forward_args=chunk.per_sample or None,
            )
        return heat.sum(dim=1)
