"""From a directory to a generator, whatever its family."""

from __future__ import annotations

from pathlib import Path

import torch

from ltg_core.generators.base import Generator


def load_generator(folder: str | Path, *, device: str = "cpu", dtype: torch.dtype | None = None) -> Generator:
    """Load a frozen text-to-image latent diffusion model.

    Args:
        folder: A directory in diffusers' layout: Stable Diffusion's, one made by ``fit-generator``, the bundled demo.
        device: Where the networks live.
        dtype: Their precision; float32 on a CPU and float16 on a GPU if not given.

    Raises:
        ModelError: A part is missing or cannot be read.
    """
    from ltg_core.generators.stable_diffusion import StableDiffusion

    if dtype is None:
        dtype = torch.float32 if torch.device(device).type == "cpu" else torch.float16
    return StableDiffusion(folder, device=device, dtype=dtype)
