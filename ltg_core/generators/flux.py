"""FLUX.1: a transformer over packed latents that predicts a flow; the guidance scale is an input, or distilled away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.generators.base import Calls, Condition, Generator, Inputs, Like
from ltg_core.generators.decoding import AutoencoderCodec
from ltg_core.generators.folder import Folder, per_prompt
from ltg_core.generators.schedule import Schedule, shift_of_size
from ltg_core.types import Images, Latents

ensure_torchvision()
from diffusers import FluxPipeline  # noqa: E402

_SIDE = 1024  # the configuration does not say what it was trained on


@final
class Flux(Generator):
    """FluxTransformer2DModel, CLIP for the pooled state, T5 for the text states.

    Latents are (B, 16, h, w) outside; the network sees 2 × 2 patches of them as a row of tokens. The guidance scale
    goes into the network where it has an input for it, and there is one prediction. With a negative text there are two:
    true classifier-free guidance with that scale, and the network's own at 1. A schnell model has no such input and
    needs no scale.

    Args:
        folder: An open directory; ``size`` in its card is the side of its images where that is not 1,024.

    Raises:
        ModelError: A part is missing or cannot be read.
    """

    chunk = 2
    denoiser_part = "transformer"

    def __init__(self, folder: Folder, tiny: str = "") -> None:
        folder.need(
            "transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler"
        )
        self.folder, self.name = folder.path, folder.name
        self.device, self.dtype = folder.device, folder.dtype
        self.transformer = folder.part("transformer", "FluxTransformer2DModel")
        self.codec = AutoencoderCodec(folder, tiny=tiny)
        self.scheduler = folder.scheduler()
        self.words = FluxPipeline(
            scheduler=self.scheduler,
            vae=self.codec.vae,
            text_encoder=folder.part("text_encoder", "CLIPTextModel"),
            tokenizer=folder.tokenizer("tokenizer", "CLIPTokenizer", "CLIPTokenizerFast"),
            text_encoder_2=folder.part("text_encoder_2", "T5EncoderModel"),
            tokenizer_2=folder.tokenizer("tokenizer_2", "T5Tokenizer", "T5TokenizerFast"),
            transformer=self.transformer,
        )
        self.image_size = int(folder.card().get("size", _SIDE))
        side = 2 * (self.image_size // (2 * self.codec.factor))
        self.latent_shape = (int(self.transformer.config.in_channels) // 4, side, side)
        self.hash = folder.hash("transformer", "vae", "text_encoder", "text_encoder_2")
        self.calls = Calls()
        self._embedded = bool(self.transformer.config.guidance_embeds)
        self.suggested = {"cfg": 3.5} if self._embedded else {"steps": 4, "cfg": 1.0}
        self.draft_sampler = "unipc" if self._embedded else "default"

    def condition(
        self,
        prompts: Sequence[str],
        negative: str = "",
        scale: float = 2.0,
        below: float = 1.0,
        like: Like | None = None,
    ) -> Condition:
        """Text states, the pooled state and the embedded scale."""
        self._resembling(like, len(prompts))
        asked = self._embed(prompts)
        if self._embedded:
            asked["scale"] = torch.full((len(prompts),), 1.0 if negative else scale)
        if not negative:
            return Condition(asked, None, 1.0, below)
        other = {name: value.expand_as(asked[name]) for name, value in self._embed([negative]).items()}
        if self._embedded:
            other["scale"] = asked["scale"]
        return Condition(asked, other, scale, below)

    @torch.no_grad()
    def _embed(self, prompts: Sequence[str]) -> dict[str, torch.Tensor]:
        device = self.words.text_encoder_2.device

        def encode(texts: list[str]) -> tuple[torch.Tensor, ...]:
            text, pooled, _ = self.words.encode_prompt(texts, device=device)
            return text, pooled

        text, pooled = per_prompt(encode, prompts, self.chunk)
        return {"text": text, "pooled": pooled}

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule; the shift of the noise levels depends on the image's size."""
        tokens = (self.latent_shape[1] // 2) * (self.latent_shape[2] // 2)
        mu = shift_of_size(self.scheduler, tokens)
        return Schedule(self.scheduler, steps, sampler, shift, mu=mu, even=True)

    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The flow, unpacked."""
        count, channels, height, width = z.shape
        x = z.to(self.device, self.dtype)
        packed = FluxPipeline._pack_latents(x, count, channels, height, width)
        image_ids = FluxPipeline._prepare_latent_image_ids(count, height // 2, width // 2, x.device, x.dtype)
        scale = inputs.get("scale")
        output = self.transformer(
            hidden_states=packed,
            timestep=torch.full((count,), timestep, device=x.device).to(x.dtype) / 1000,
            guidance=None if scale is None else scale.to(x.device),
            pooled_projections=inputs["pooled"].to(x),
            encoder_hidden_states=inputs["text"].to(x),
            txt_ids=torch.zeros(inputs["text"].shape[1], 3).to(x),
            img_ids=image_ids,
        ).sample
        patches = output.view(count, height // 2, width // 2, channels, 2, 2)
        flow: torch.Tensor = patches.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, height, width)
        return flow.float().to(z.device).contiguous()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images."""
        return self.codec.decode(z, self.calls, tiny=tiny)

    def encode(self, images: Images) -> Latents:
        """Means of the posterior, in the denoiser's scale."""
        return self.chunked(self.codec.encode, images)
