"""DiT: a class-conditional transformer over latents (Peebles and Xie 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from ltg_core.generators.base import Calls, Condition, Generator, Inputs, Like
from ltg_core.generators.decoding import AutoencoderCodec
from ltg_core.generators.folder import Folder, square
from ltg_core.generators.naming import ClassNames
from ltg_core.generators.schedule import Schedule
from ltg_core.types import Images, Latents


@final
class DiT(Generator):
    """DiTTransformer2DModel + AutoencoderKL. Asked by class name or number; it has no words, so no negative text.

    The second half of its output, a guess of the variance, is left out as the pipeline of diffusers does.

    Args:
        folder: An open directory.
        tiny: Of the guidance path; see `AutoencoderCodec`.

    Raises:
        ModelError: A part is missing or cannot be read.
    """

    language = "classes"
    denoiser_part = "transformer"

    def __init__(self, folder: Folder, tiny: str = "") -> None:
        folder.need("transformer", "vae", "scheduler")
        self.folder, self.name = folder.path, folder.name
        self.device, self.dtype = folder.device, folder.dtype
        self.transformer = folder.part("transformer", "DiTTransformer2DModel", "Transformer2DModel")
        self.codec = AutoencoderCodec(folder, tiny=tiny)
        self.scheduler = folder.scheduler()
        side = square(self.transformer.config, 32)
        self.latent_shape = (int(self.transformer.config.in_channels), side, side)
        self.image_size = side * self.codec.factor
        self.none = int(self.transformer.config.num_embeds_ada_norm)
        self._names = ClassNames(folder, self.none)
        self.classes = self._names.names
        self.hash = folder.hash("transformer", "vae")
        self.calls = Calls()

    def condition(
        self,
        prompts: Sequence[str],
        negative: str = "",
        scale: float = 2.0,
        below: float = 1.0,
        like: Like | None = None,
    ) -> Condition:
        """Class numbers; "no class", or the class ``negative``, on the other side."""
        self._resembling(like, len(prompts))
        classes = self._names.numbers(prompts)
        other = self._names.numbers([negative]) if negative else torch.tensor([self.none])
        return Condition({"classes": classes}, {"classes": other.expand_as(classes)}, scale, below)

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule from the model's own configuration."""
        return Schedule(self.scheduler, steps, sampler, shift)

    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The noise, without the guess of the variance."""
        x = z.to(self.device, self.dtype)
        output: torch.Tensor = self.transformer(
            x,
            timestep=torch.full((len(x),), timestep, device=x.device),
            class_labels=inputs["classes"].to(x.device),
        ).sample
        return output[:, : z.shape[1]].float().to(z.device).contiguous()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images."""
        return self.codec.decode(z, self.calls, tiny=tiny)

    def encode(self, images: Images) -> Latents:
        """Means of the posterior, in the denoiser's scale."""
        return self.chunked(self.codec.encode, images)
