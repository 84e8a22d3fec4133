"""Which adapter a model directory needs: told by its ``model_index.json``, never guessed from a name."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from ltg_core.errors import UnsupportedError
from ltg_core.generators.folder import Folder


@dataclasses.dataclass(frozen=True)
class Family:
    """One adapter and the directories that it reads.

    Attributes:
        name: For people.
        pipelines: Values of ``_class_name`` in the index.
        denoiser: The part that denoises, and the classes that it may have.
        module: Below ``ltg_core.generators``; imported when it is needed.
        adapter: The class in it.
    """

    name: str
    pipelines: tuple[str, ...]
    denoiser: tuple[str, tuple[str, ...]]
    module: str
    adapter: str

    def reads(self, folder: Folder) -> bool:
        """Whether this is the adapter of a directory."""
        part, classes = self.denoiser
        named = (folder.index.get(part) or [None, None])[1]
        return folder.pipeline in self.pipelines and named in classes

    def open(self, folder: Folder, tiny: str = "") -> Any:
        """The generator; ``tiny`` decodes on the guidance path."""
        module = importlib.import_module(f"ltg_core.generators.{self.module}")
        return getattr(module, self.adapter)(folder, tiny)


FAMILIES = (
    Family(
        "Stable Diffusion 1.x and 2.x, latent consistency models, models of fit-generator",
        ("StableDiffusionPipeline", "LatentConsistencyModelPipeline"),
        ("unet", ("UNet2DConditionModel",)),
        "stable_diffusion",
        "StableDiffusion",
    ),
    Family(
        "Stable Diffusion XL",
        ("StableDiffusionXLPipeline",),
        ("unet", ("UNet2DConditionModel",)),
        "stable_diffusion_xl",
        "StableDiffusionXL",
    ),
    Family(
        "Stable Diffusion 3 and 3.5",
        ("StableDiffusion3Pipeline",),
        ("transformer", ("SD3Transformer2DModel",)),
        "stable_diffusion_3",
        "StableDiffusion3",
    ),
    Family("FLUX.1", ("FluxPipeline",), ("transformer", ("FluxTransformer2DModel",)), "flux", "Flux"),
    Family(
        "DiT",
        ("DiTPipeline",),
        ("transformer", ("DiTTransformer2DModel", "Transformer2DModel")),
        "dit",
        "DiT",
    ),
    Family(
        "pixel models (DDPM)",
        ("DDPMPipeline", "DDIMPipeline"),
        ("unet", ("UNet2DModel",)),
        "unet2d",
        "UNet2D",
    ),
)


def family_of(folder: Folder) -> Family:
    """The family of a directory.

    Raises:
        UnsupportedError: None reads it; the message lists what is supported.
    """
    for family in FAMILIES:
        if family.reads(folder):
            return family
    parts = [
        f"{name} {value[1]}"
        for name, value in folder.index.items()
        if name in ("unet", "transformer", "prior") and isinstance(value, list) and len(value) == 2
    ]
    supported = "; ".join(f"{family.name} ({', '.join(family.pipelines)})" for family in FAMILIES)
    raise UnsupportedError(
        f"the generator {folder.name!r} is a {folder.pipeline or 'nameless pipeline'} with "
        f"{', '.join(parts) or 'no denoiser'}; supported: {supported}"
    )
