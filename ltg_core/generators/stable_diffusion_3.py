"""Stable Diffusion 3 and 3.5: a transformer that predicts a flow, three text encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.generators.base import Calls, Condition, Generator, Inputs, Like
from ltg_core.generators.decoding import AutoencoderCodec
from ltg_core.generators.folder import Folder, per_prompt, square
from ltg_core.generators.schedule import Schedule, shift_of_size
from ltg_core.types import Images, Latents

ensure_torchvision()
from diffusers import StableDiffusion3Pipeline  # noqa: E402


@final
class StableDiffusion3(Generator):
    """SD3Transformer2DModel with latents of 16 channels; the T5 encoder may be missing, its states are zeros then.

    Args:
        folder: An open directory.
        tiny: Of the guidance path; see `AutoencoderCodec`.

    Raises:
        ModelError: A part is missing or cannot be read.
    """

    chunk = 4
    denoiser_part = "transformer"

    def __init__(self, folder: Folder, tiny: str = "") -> None:
        folder.need(
            "transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"
        )
        self.folder, self.name = folder.path, folder.name
        self.device, self.dtype = folder.device, folder.dtype
        self.transformer = folder.part("transformer", "SD3Transformer2DModel")
        self.codec = AutoencoderCodec(folder, tiny=tiny)
        self.scheduler = folder.scheduler()
        third = folder.has("text_encoder_3")
        clip, tokenizers = "CLIPTextModelWithProjection", ("CLIPTokenizer", "CLIPTokenizerFast")
        self.words = StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=self.scheduler,
            vae=self.codec.vae,
            text_encoder=folder.part("text_encoder", clip),
            tokenizer=folder.tokenizer("tokenizer", *tokenizers),
            text_encoder_2=folder.part("text_encoder_2", clip),
            tokenizer_2=folder.tokenizer("tokenizer_2", *tokenizers),
            text_encoder_3=folder.part("text_encoder_3", "T5EncoderModel") if third else None,
            tokenizer_3=folder.tokenizer("tokenizer_3", "T5Tokenizer", "T5TokenizerFast") if third else None,
        )
        side = square(self.transformer.config, 128)
        self.latent_shape = (int(self.transformer.config.in_channels), side, side)
        self.image_size = side * self.codec.factor
        self.hash = folder.hash("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
        self.calls = Calls()

    def condition(
        self,
        prompts: Sequence[str],
        negative: str = "",
        scale: float = 2.0,
        below: float = 1.0,
        like: Like | None = None,
    ) -> Condition:
        """Text states of all encoders and the pooled ones of the first two."""
        self._resembling(like, len(prompts))
        asked = self._embed(prompts)
        other = {name: value.expand_as(asked[name]) for name, value in self._embed([negative]).items()}
        return Condition(asked, other, scale, below)

    @torch.no_grad()
    def _embed(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        device = self.words.text_encoder.device

        def encode(texts: list[str]) -> tuple[torch.Tensor, ...]:
            text, _, pooled, _ = self.words.encode_prompt(
                texts, None, None, device=device, do_classifier_free_guidance=False
            )
            return text, pooled

        text, pooled = per_prompt(encode, prompts, self.chunk)
        return {"text": text, "pooled": pooled}

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule from the model's own configuration."""
        patch = int(self.transformer.config.patch_size)
        tokens = (self.latent_shape[1] // patch) * (self.latent_shape[2] // patch)
        mu = shift_of_size(self.scheduler, tokens, largest=1.16)
        return Schedule(self.scheduler, steps, sampler, shift, mu=mu)

    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The flow."""
        x = z.to(self.device, self.dtype)
        output: torch.Tensor = self.transformer(
            hidden_states=x,
            timestep=torch.full((len(x),), timestep, device=x.device),
            encoder_hidden_states=inputs["text"].to(x),
            pooled_projections=inputs["pooled"].to(x),
        ).sample
        return output.float().to(z.device).contiguous()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images."""
        return self.codec.decode(z, self.calls, tiny=tiny)

    def encode(self, images: Images) -> Latents:
        """Means of the posterior, in the denoiser's scale."""
        return self.chunked(self.codec.encode, images)
