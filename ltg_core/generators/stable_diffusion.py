"""Text-to-image models in the layout of a Stable Diffusion directory; the bundled demo is one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import ModelError
from ltg_core.generators.base import Calls, Generator, in_chunks
from ltg_core.generators.schedule import Schedule
from ltg_core.types import Images, Latents

ensure_torchvision()
import diffusers  # noqa: E402
from transformers import CLIPTextModel, CLIPTokenizer  # noqa: E402


class StableDiffusion(Generator):
    """UNet2DConditionModel + AutoencoderKL + CLIPTextModel, any scheduler, any prediction type.

    Args:
        folder: Directory with ``model_index.json``.
        device: Where the networks live.
        dtype: Precision of the networks; the classifier always sees float32.

    A folder ``vae_tiny`` (AutoencoderTiny) beside the others serves the guidance path; without one the full decoder
    does, and ``has_tiny`` says so.

    Raises:
        ModelError: A part is missing or cannot be read.
    """

    def __init__(
        self, folder: str | Path, *, device: str = "cpu", dtype: torch.dtype = torch.float32
    ) -> None:
        self.folder = Path(folder)
        index = _read_index(self.folder)
        self.device, self.dtype = torch.device(device), dtype
        self.unet = self._part(getattr(diffusers, index["unet"][1]), "unet")
        self.vae = self._part(diffusers.AutoencoderKL, "vae")
        self.text_encoder = self._part(CLIPTextModel, "text_encoder")
        self.tokenizer = CLIPTokenizer.from_pretrained(self.folder / "tokenizer", local_files_only=True)
        self.scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(self.folder / "scheduler")
        self.has_tiny = (self.folder / "vae_tiny" / "config.json").exists()
        self.vae_tiny = self._part(diffusers.AutoencoderTiny, "vae_tiny") if self.has_tiny else None
        side = int(self.unet.config.sample_size)
        self.latent_shape = (int(self.unet.config.in_channels), side, side)
        self.image_size = side * 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.name = self.folder.name
        self.hash = _hash(self.folder)
        self.calls = Calls()

    def _part(self, cls: Any, name: str) -> Any:
        try:
            part: nn.Module = cls.from_pretrained(
                self.folder / name, torch_dtype=self.dtype, local_files_only=True, use_safetensors=True
            )
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            raise ModelError(
                f"the part {name!r} of the generator {self.folder.name!r} cannot be read: {error}"
            ) from error
        return part.to(self.device).eval().requires_grad_(False)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """States of the text encoder, (B, L, W); equal prompts give equal rows whatever the batch."""
        unique = sorted(set(prompts))
        ids = self.tokenizer(
            unique,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(self.device)
        states = in_chunks(lambda part: self.text_encoder(part).last_hidden_state, ids)
        return states[torch.tensor([unique.index(prompt) for prompt in prompts])]

    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule from the model's own configuration."""
        return Schedule(self.scheduler, steps, sampler, shift)

    def predict(self, z: Latents, timestep: float, text: torch.Tensor) -> torch.Tensor:
        """The UNet's output in float32."""
        z = z.to(self.device, self.dtype)
        output: torch.Tensor = self.unet(z, timestep, encoder_hidden_states=text.to(self.dtype)).sample
        return output.float()

    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images; the tiny decoder expects latents without the scaling factor, as TAESD does."""
        if tiny and self.vae_tiny is not None:
            self.calls["T"] += len(z)
            pixels = self.vae_tiny.decode(z.to(self.device, self.dtype)).sample
        else:
            self.calls["D"] += len(z)
            z = z / self.vae.config.scaling_factor + (getattr(self.vae.config, "shift_factor", None) or 0.0)
            pixels = self.vae.decode(z.to(self.device, self.dtype)).sample
        images: torch.Tensor = (pixels.float() + 1) / 2
        return images

    @torch.no_grad()
    def encode(self, images: Images) -> Latents:
        """Means of the posterior, in the denoiser's scale."""
        config = self.vae.config
        shift = getattr(config, "shift_factor", None) or 0.0

        def one(x: torch.Tensor) -> torch.Tensor:
            mean: torch.Tensor = self.vae.encode((2 * x - 1).to(self.device, self.dtype)).latent_dist.mean
            return (mean.float() - shift) * float(config.scaling_factor)

        return in_chunks(one, images)


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / "model_index.json"
    if not path.exists():
        raise ModelError(f"{folder.name!r} has no model_index.json; give a directory in diffusers' layout")
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ModelError(f"model_index.json of {folder.name!r} is not JSON: {error}") from error
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        if part not in index or not (folder / part).is_dir():
            raise ModelError(
                f"the generator {folder.name!r} lacks the part {part!r}; a Stable Diffusion directory has it"
            )
    return index


def _hash(folder: Path) -> str:
    """SHA-256 over the weights of denoiser and decoder, 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*/*.safetensors")):
        if path.parent.name in ("unet", "vae", "text_encoder"):
            digest.update(path.parent.name.encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
