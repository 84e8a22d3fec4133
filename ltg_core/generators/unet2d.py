"""Diffusion models of pixels: UNet2DModel, unconditional or class-conditional (Ho et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from ltg_core.errors import InputError, ModelError, UnsupportedError
from ltg_core.generators.base import Calls, Condition, Generator, Inputs, Like
from ltg_core.generators.decoding import PixelCodec
from ltg_core.generators.folder import Folder, square
from ltg_core.generators.naming import ClassNames
from ltg_core.generators.schedule import Schedule
from ltg_core.types import Images, Latents


@final
class UNet2D(Generator):
    """UNet2DModel on RGB images in [-1, 1]; there is nothing to decode.

    An unconditional model draws what it was trained on: search and climb alone lead it to a class. A class-conditional
    one is asked by name or number; ``null_class`` in its card, where it was trained with one, allows classifier-free
    guidance.

    Args:
        folder: An open directory.
        tiny: Must be empty: there is nothing to decode.

    Raises:
        ModelError: A part is missing, cannot be read, or is no model of RGB images.
        UnsupportedError: A tiny decoder.
    """

    def __init__(self, folder: Folder, tiny: str = "") -> None:
        folder.need("unet", "scheduler")
        if tiny:
            raise UnsupportedError(
                f"{folder.name!r} is a model of pixels: there is nothing for a tiny decoder to decode"
            )
        self.folder, self.name = folder.path, folder.name
        self.device, self.dtype = folder.device, folder.dtype
        self.unet = folder.part("unet", "UNet2DModel")
        config = self.unet.config
        if int(config.in_channels) != 3 or config.class_embed_type is not None:
            raise ModelError(
                f"the UNet of {folder.name!r} has {config.in_channels} channels and class embedding "
                f"{config.class_embed_type!r}; expected RGB images and numbered classes or none"
            )
        self.codec = PixelCodec()
        self.scheduler = folder.scheduler()
        side = square(config, 32)
        self.latent_shape = (3, side, side)
        self.image_size = side
        count = int(config.num_class_embeds or 0)
        null = folder.card().get("null_class")
        self._null = None if null is None else int(null)
        self._names = ClassNames(folder, count) if count else None
        self.language = "classes" if count else "nothing"
        self.classes = self._names.names if self._names else ()
        self.hash = folder.hash("unet")
        self.calls = Calls()

    def condition(
        self,
        prompts: Sequence[str],
        negative: str = "",
        scale: float = 2.0,
        below: float = 1.0,
        like: Like | None = None,
    ) -> Condition:
        """Class numbers, or nothing: what an unconditional model draws cannot be asked for."""
        self._resembling(like, len(prompts))
        if self._names is None:
            if negative:
                raise InputError(f"{self.name!r} is unconditional: it cannot be told what not to show")
            return Condition({}, None, 1.0, below)
        asked = {"classes": self._names.numbers(prompts)}
        if negative:
            other = self._names.numbers([negative])
        elif self._null is not None:
            other = torch.tensor([self._null])
        else:
            return Condition(asked, None, 1.0, below)
        return Condition(asked, {"classes": other.expand_as(asked["classes"])}, scale, below)

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule from the model's own configuration."""
        return Schedule(self.scheduler, steps, sampler, shift)

    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The UNet's output; a second half, the guess of the variance, is left out."""
        x = z.to(self.device, self.dtype, memory_format=torch.channels_last)
        classes = inputs.get("classes")
        output: torch.Tensor = self.unet(
            x, timestep, class_labels=None if classes is None else classes.to(x.device)
        ).sample
        return output[:, :3].float().to(z.device).contiguous()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """The latent is the image."""
        return self.codec.decode(z, self.calls, tiny=tiny)

    def encode(self, images: Images) -> Latents:
        """The image is the latent."""
        return self.chunked(self.codec.encode, images)
