"""Stable Diffusion 1.x and 2.x, latent consistency models, and the small models of fit-generator and the demo."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, final

import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.generators.base import Calls, Condition, Generator, Inputs, Like
from ltg_core.generators.captioned import Captioned, find_captioned
from ltg_core.generators.decoding import AutoencoderCodec
from ltg_core.generators.folder import Folder, per_prompt, square
from ltg_core.generators.schedule import Schedule, few_steps
from ltg_core.types import Images, Latents

ensure_torchvision()
from diffusers import StableDiffusionPipeline  # noqa: E402


@final
class StableDiffusion(Generator):
    """UNet2DConditionModel + AutoencoderKL + CLIPTextModel, any scheduler, any prediction type.

    A UNet that was distilled with the guidance scale as an input (latent consistency) gets it there, and makes one
    prediction instead of two.

    Args:
        folder: An open directory.
        tiny: Of the guidance path; see `AutoencoderCodec`.

    Raises:
        ModelError: A part is missing or cannot be read.
    """

    def __init__(self, folder: Folder, tiny: str = "") -> None:
        folder.need("unet", "vae", "text_encoder", "tokenizer", "scheduler")
        self.folder, self.name = folder.path, folder.name
        self.device, self.dtype = folder.device, folder.dtype
        self.unet = folder.part("unet", "UNet2DConditionModel")
        self.codec = AutoencoderCodec(folder, tiny=tiny)
        self.scheduler = folder.scheduler()
        self.words = StableDiffusionPipeline(
            vae=self.codec.vae,
            text_encoder=folder.part("text_encoder", "CLIPTextModel"),
            tokenizer=folder.tokenizer("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
            unet=self.unet,
            scheduler=quiet(self.scheduler),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        side = square(self.unet.config, 64)
        self.latent_shape = (int(self.unet.config.in_channels), side, side)
        self.image_size = side * self.codec.factor
        self.hash = folder.hash("unet", "vae", "text_encoder")
        self.calls = Calls()
        self._scale_width = int(self.unet.config.time_cond_proj_dim or 0)
        self.suggested = few_steps(self.scheduler, embedded=bool(self._scale_width))
        self.draft_sampler = "default" if self.suggested else "unipc"

    def condition(
        self,
        prompts: Sequence[str],
        negative: str = "",
        scale: float = 2.0,
        below: float = 1.0,
        like: Like | None = None,
    ) -> Condition:
        """States of the text encoder, (B, L, W); those of ``negative`` on the other side."""
        image, no_image = self._resembling(like, len(prompts))
        text = self._embed(prompts)
        if like is not None and like.by == "captions":
            self.likeness_by("captions")  # says what is missing where it cannot
            assert self.captioned is not None
            text = self.captioned.mixed(self._embed, prompts, text, like)
        asked = {"text": text, **image}
        if self._scale_width:
            width = torch.full((len(prompts),), scale - 1.0)
            asked["scale"] = self.words.get_guidance_scale_embedding(width, self._scale_width)
            return Condition(asked, None, 1.0, below)
        other = {"text": self._embed([negative]).expand_as(asked["text"]), **no_image}
        return Condition(asked, other, scale, below)

    @torch.no_grad()
    def _embed(self, prompts: Sequence[str]) -> torch.Tensor:
        device = self.words.text_encoder.device

        def encode(texts: list[str]) -> tuple[torch.Tensor]:
            return (self.words.encode_prompt(texts, device, 1, False)[0],)

        return per_prompt(encode, prompts, self.chunk)[0]

    @functools.cached_property
    def captioned(self) -> Captioned | None:
        """Reads a real image as a mixture of captions; None without an encoder and phrases of its own."""
        return find_captioned(self.folder)

    @property
    def likenesses(self) -> tuple[str, ...]:
        """With captions where there are any."""
        first = super().likenesses
        return first if self.captioned is None else (*first[:-1], "captions", "start")

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule from the model's own configuration."""
        return Schedule(self.scheduler, steps, sampler, shift)

    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The UNet's output."""
        x = z.to(self.device, self.dtype, memory_format=torch.channels_last)
        scale = inputs.get("scale")
        output: torch.Tensor = self.unet(
            x,
            timestep,
            encoder_hidden_states=inputs["text"].to(x),
            timestep_cond=None if scale is None else scale.to(x),
            added_cond_kwargs={"image_embeds": [inputs["image"].to(x)]} if "image" in inputs else None,
        ).sample
        return output.float().to(z.device).contiguous()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images."""
        return self.codec.decode(z, self.calls, tiny=tiny)

    def encode(self, images: Images) -> Latents:
        """Means of the posterior, in the denoiser's scale."""
        return self.chunked(self.codec.encode, images)


def quiet(scheduler: Any) -> Any:
    """A scheduler for a pipeline that only encodes texts: with the settings that it would complain about set right."""
    changes = {
        name: value
        for name, value in (("steps_offset", 1), ("clip_sample", False), ("skip_prk_steps", True))
        if name in scheduler.config
    }
    return type(scheduler).from_config(scheduler.config, **changes)
