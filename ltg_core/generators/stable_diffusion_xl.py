"""Stable Diffusion XL and its few-step variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.generators.base import Calls, Condition, Generator, Inputs, Like
from ltg_core.generators.decoding import AutoencoderCodec
from ltg_core.generators.folder import Folder, per_prompt, square
from ltg_core.generators.schedule import Schedule, few_steps
from ltg_core.types import Images, Latents

ensure_torchvision()
from diffusers import StableDiffusionXLPipeline  # noqa: E402


@final
class StableDiffusionXL(Generator):
    """Two text encoders, a pooled embedding and six "time ids" (sizes and crop) beside the UNet's usual inputs.

    Args:
        folder: An open directory; its autoencoder runs in float32 where its configuration asks for that.

    Raises:
        ModelError: A part is missing or cannot be read.
    """

    chunk = 4

    def __init__(self, folder: Folder, tiny: str = "") -> None:
        folder.need("unet", "vae", "text_encoder_2", "tokenizer_2", "scheduler")
        self.folder, self.name = folder.path, folder.name
        self.device, self.dtype = folder.device, folder.dtype
        self.unet = folder.part("unet", "UNet2DConditionModel")
        self.codec = AutoencoderCodec(folder, tiny=tiny)
        self.scheduler = folder.scheduler()
        first = folder.has("text_encoder")
        self.words = StableDiffusionXLPipeline(
            vae=self.codec.vae,
            text_encoder=folder.part("text_encoder", "CLIPTextModel") if first else None,
            text_encoder_2=folder.part("text_encoder_2", "CLIPTextModelWithProjection"),
            tokenizer=folder.tokenizer("tokenizer", *_TOKENIZERS) if first else None,
            tokenizer_2=folder.tokenizer("tokenizer_2", *_TOKENIZERS),
            unet=self.unet,
            scheduler=self.scheduler,
            force_zeros_for_empty_prompt=bool(folder.index.get("force_zeros_for_empty_prompt", True)),
            add_watermarker=False,
        )
        side = square(self.unet.config, 128)
        self.latent_shape = (int(self.unet.config.in_channels), side, side)
        self.image_size = side * self.codec.factor
        self.hash = folder.hash("unet", "vae", "text_encoder", "text_encoder_2")
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
        """Text states, pooled states and time ids. An empty negative text is all zeros where the model has it so."""
        text, pooled = self._embed(prompts)
        size = float(self.image_size)
        times = torch.tensor([[size, size, 0.0, 0.0, size, size]]).expand(len(prompts), -1)
        image, no_image = self._resembling(like, len(prompts))
        asked = {"text": text, "pooled": pooled, "times": times, **image}
        if self._scale_width:
            width = torch.full((len(prompts),), scale - 1.0)
            asked["scale"] = self.words.get_guidance_scale_embedding(width, self._scale_width)
            return Condition(asked, None, 1.0, below)
        if negative == "" and self.words.config.force_zeros_for_empty_prompt:
            other = {"text": torch.zeros_like(text), "pooled": torch.zeros_like(pooled)}
        else:
            states, summary = self._embed([negative])
            other = {"text": states.expand_as(text), "pooled": summary.expand_as(pooled)}
        return Condition(asked, {**other, "times": times, **no_image}, scale, below)

    @torch.no_grad()
    def _embed(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.words.text_encoder_2.device

        def encode(texts: list[str]) -> tuple[torch.Tensor, ...]:
            text, _, pooled, _ = self.words.encode_prompt(
                texts, device=device, do_classifier_free_guidance=False
            )
            return text, pooled

        text, pooled = per_prompt(encode, prompts, self.chunk)
        return text, pooled

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule from the model's own configuration."""
        return Schedule(self.scheduler, steps, sampler, shift)

    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The UNet's output."""
        x = z.to(self.device, self.dtype, memory_format=torch.channels_last)
        scale = inputs.get("scale")
        added: dict[str, Any] = {"text_embeds": inputs["pooled"].to(x), "time_ids": inputs["times"].to(x)}
        if "image" in inputs:
            added["image_embeds"] = [inputs["image"].to(x)]
        output: torch.Tensor = self.unet(
            x,
            timestep,
            encoder_hidden_states=inputs["text"].to(x),
            timestep_cond=None if scale is None else scale.to(x),
            added_cond_kwargs=added,
        ).sample
        return output.float().to(z.device).contiguous()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images."""
        return self.codec.decode(z, self.calls, tiny=tiny)

    def encode(self, images: Images) -> Latents:
        """Means of the posterior, in the denoiser's scale."""
        return self.chunked(self.codec.encode, images)


_TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast")
