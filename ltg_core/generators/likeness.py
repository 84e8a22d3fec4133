"""Likeness: a real image as a second condition beside the text, through an IP-Adapter (Ye et al. 2023).

Feedback-guided synthesis asks for the class by text and, at the same time, for a likeness to a random real image of it:
close to the real support, and diverse through dropout of the image's embedding. How the dropout is done here, feature
by feature and from each image's own random numbers, is ours.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import torch
from torch.nn import functional as F

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import InputError, ModelError, UnsupportedError
from ltg_core.generators.base import Generator, Like
from ltg_core.models.weights import first_line, read_state
from ltg_core.types import Images

_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


@final
@dataclasses.dataclass(frozen=True, eq=False)
class ImageAdapter:
    """An image encoder whose embeddings the denoiser has learned to read.

    Attributes:
        encoder: CLIP's vision tower.
        tokens: Whether the denoiser reads the states of all patches ("plus") instead of one vector.
        file: Its weights.
        chunk: Images of a call.
    """

    encoder: Any
    tokens: bool
    file: Path
    chunk: int

    def pair(self, like: Like | None, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings (count, 1, ...) for the conditional and the other prediction; without an image both are empty."""
        side = int(self.encoder.config.image_size)
        nothing = self._nothing(side)
        empty = nothing.expand(count, *nothing.shape[1:])
        if like is None:
            return empty, empty
        if not len(like.images) == len(like.seeds) == count:
            raise InputError(
                f"{count} prompts, {len(like.images)} images and {len(like.seeds)} seeds; give one of each"
            )
        found = torch.cat([self._embed(self._pixels(image[None], side)) for image in like.images])
        kept = torch.stack([dropped(found[0].shape, seed, like.dropout) for seed in like.seeds])
        return (found * kept)[:, None], empty

    def _nothing(self, side: int) -> torch.Tensor:
        """What stands for no image: zeros, or for patch states those of a black image, as in training."""
        if self.tokens:
            return self._embed(torch.zeros(1, 3, side, side))[:, None]
        return torch.zeros(1, 1, int(self.encoder.config.projection_dim))

    @torch.no_grad()
    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        out = self.encoder(
            pixels.to(self.encoder.device, self.encoder.dtype), output_hidden_states=self.tokens
        )
        found: torch.Tensor = out.hidden_states[-2] if self.tokens else out.image_embeds
        return found.float().cpu()

    @staticmethod
    def _pixels(images: Images, side: int) -> torch.Tensor:
        """CLIP's preprocessing: the short side to ``side``, the middle, its mean and deviation."""
        height, width = images.shape[-2:]
        scale = side / min(height, width)
        size = (round(height * scale), round(width * scale))
        fitted = F.interpolate(images, size=size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        middle = fitted[..., top : top + side, left : left + side]
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _STD))
        return (middle - mean) / std


def load_image_adapter(generator: Generator, folder: Path, strength: float) -> ImageAdapter:
    """Put an IP-Adapter into a generator's UNet.

    Args:
        generator: Of the Stable Diffusion 1.x, 2.x or XL family.
        folder: Holds one safetensors file and ``image_encoder``.
        strength: Of the image against the text.

    Raises:
        UnsupportedError: Another family.
        ModelError: It cannot be read or does not fit.
    """
    pipeline = getattr(generator, "words", None)
    if pipeline is None or generator.denoiser_part != "unet":
        raise UnsupportedError(
            f"image adapters of {generator.name!r}'s family are not supported; those of Stable Diffusion 1.x, 2.x and "
            "XL are"
        )
    ensure_torchvision()
    from transformers import CLIPVisionModelWithProjection

    files = sorted(folder.glob("*.safetensors"))
    if len(files) != 1 or not (folder / "image_encoder" / "config.json").is_file():
        raise ModelError(
            f"{folder.name!r} should hold one safetensors file and a folder 'image_encoder'; it holds {len(files)}"
        )
    state: dict[str, dict[str, torch.Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for name, value in read_state(files[0])[0].items():
        part, _, rest = name.partition(".")
        if part in state:
            state[part][rest] = value
    try:
        encoder = CLIPVisionModelWithProjection.from_pretrained(
            folder / "image_encoder", dtype=generator.dtype, local_files_only=True, use_safetensors=True
        )
        pipeline.register_modules(image_encoder=encoder.to(generator.device).eval().requires_grad_(False))
        pipeline.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
        pipeline.set_ip_adapter_scale(strength)
    except (OSError, ValueError, TypeError, RuntimeError, LookupError, AttributeError) as error:
        raise ModelError(
            f"the image adapter {folder.name!r} does not fit {generator.name!r}: {first_line(error)}"
        ) from error
    projection = pipeline.unet.encoder_hid_proj.image_projection_layers[0]
    tokens = type(projection).__name__ != "ImageProjection"
    return ImageAdapter(encoder, tokens, files[0], generator.chunk)


def dropped(shape: Sequence[int], seed: int, dropout: float) -> torch.Tensor:
    """1/(1 - p) with probability 1 - p, else 0: a mask of an embedding, from the image's own random numbers."""
    if dropout >= 1:
        return torch.zeros(tuple(shape))
    own = int.from_bytes(hashlib.sha256(f"{seed}/likeness".encode()).digest()[:7], "big")
    uniform = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(own))
    return (uniform >= dropout).float() / (1 - dropout)
