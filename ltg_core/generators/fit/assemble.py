"""From images and captions to a text-to-image latent diffusion model in diffusers' own directory layout."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltg_core.compat import ensure_torchvision
from ltg_core.errors import DatasetError
from ltg_core.fitting import FitSettings
from ltg_core.generators.fit.autoencoder import (
    AutoencoderSettings,
    encode_all,
    fit_autoencoder,
    fit_tiny_decoder,
    psnr,
)
from ltg_core.generators.fit.denoiser import DenoiserSettings, fit_denoiser
from ltg_core.generators.fit.textimage import TextSettings, build_tokenizer, fit_clip
from ltg_core.jobs import CancelToken, ProgressFn, no_progress

ensure_torchvision()
from diffusers import AutoencoderKL, AutoencoderTiny, UniPCMultistepScheduler  # noqa: E402
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer  # noqa: E402

AUTOENCODER_IMAGES = 6000
"""More images than this add nothing to a small autoencoder within its budget."""


@dataclasses.dataclass(frozen=True)
class GeneratorSettings:
    """The four trainings behind one generator."""

    autoencoder: AutoencoderSettings = dataclasses.field(default_factory=AutoencoderSettings)
    tiny: FitSettings = dataclasses.field(
        default_factory=lambda: FitSettings(steps=1200, batch_size=24, lr=2e-3, ema=0.995)
    )
    text: TextSettings = dataclasses.field(default_factory=TextSettings)
    denoiser: DenoiserSettings = dataclasses.field(default_factory=DenoiserSettings)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values for the card."""
        return {field.name: getattr(self, field.name).to_dict() for field in dataclasses.fields(self)}


def fit_generator(
    images: torch.Tensor,
    captions: Sequence[Sequence[str]],
    out: Path,
    settings: GeneratorSettings,
    *,
    work: Path | None = None,
    card: dict[str, Any] | None = None,
    device: str = "cpu",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Path:
    """Train all parts, one after another, and write them to ``out``; a second call goes on where the first stopped.

    Args:
        images: uint8 (N, 3, H, W), H = W a multiple of 16.
        captions: The alternative texts of each image.
        out: The generator's directory (diffusers layout).
        settings: See `GeneratorSettings`.
        work: Where the checkpoints go; ``out`` with the suffix ".work" if not given.
        card: What the card says besides settings and metrics.
        device: Where the denoiser is trained.
        on_progress: Called about every 50 steps.
        cancel: Checked every step.

    Returns:
        ``out``.

    Raises:
        DatasetError: Images that are not square or too few, or no captions.
    """
    _check(images, captions)
    token = cancel or CancelToken()
    work = work or out.with_name(out.name + ".work")
    work.mkdir(parents=True, exist_ok=True)
    vae = _stage_vae(images, work, settings, on_progress, token)
    clip = _stage_clip(images, captions, work, settings, on_progress, token)
    tokenizer = CLIPTokenizer.from_pretrained(work / "clip")
    text_encoder = text_tower(clip)
    latents = _stage_latents(vae, images, work)
    unet = fit_denoiser(
        latents,
        captions,
        text_encoder,
        tokenizer,
        settings.denoiser,
        work,
        on_progress=on_progress,
        cancel=token,
        device=device,
    )
    _stage_tiny(latents, images, work, settings, on_progress, token)
    record = {
        "what": "text-to-image latent diffusion model (rectified flow)",
        **(card or {}),
        "images": len(images),
        "settings": settings.to_dict(),
        "metrics": {"autoencoder_psnr_db": round(psnr(vae, images[:512]), 2)},
    }
    write_directory(out, work, unet, vae, text_encoder, record)
    return out


def _check(images: torch.Tensor, captions: Sequence[Sequence[str]]) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
        raise DatasetError(f"images are {images.dtype} {tuple(images.shape)}; expected uint8 (N, 3, H, W)")
    side = images.shape[-1]
    if images.shape[-2] != side or side % 16:
        raise DatasetError(
            f"images are {tuple(images.shape[-2:])}; expected squares with a side divisible by 16"
        )
    if len(images) < 8:
        raise DatasetError(
            f"only {len(images)} images; a generator needs at least 8, and thousands to be of use"
        )
    if len(captions) != len(images) or not all(captions):
        raise DatasetError(
            f"{len(images)} images but {len(captions)} captions; give at least one text an image"
        )


def _stage_vae(
    images: torch.Tensor,
    work: Path,
    settings: GeneratorSettings,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> nn.Module:
    done = work / "vae"
    if not (done / "config.json").exists():
        part = images[:AUTOENCODER_IMAGES]
        vae = fit_autoencoder(part, settings.autoencoder, work, on_progress=on_progress, cancel=cancel)
        _save(vae, done)
    loaded: nn.Module = AutoencoderKL.from_pretrained(done).eval().requires_grad_(False)
    return loaded


def _stage_tiny(
    latents: tuple[torch.Tensor, torch.Tensor],
    images: torch.Tensor,
    work: Path,
    settings: GeneratorSettings,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> None:
    done = work / "vae_tiny"
    if not (done / "config.json").exists():
        _save(
            fit_tiny_decoder(latents, images, settings.tiny, work, on_progress=on_progress, cancel=cancel),
            done,
        )


def _stage_clip(
    images: torch.Tensor,
    captions: Sequence[Sequence[str]],
    work: Path,
    settings: GeneratorSettings,
    on_progress: ProgressFn,
    cancel: CancelToken,
) -> nn.Module:
    done = work / "clip"
    if not (done / "config.json").exists():
        texts = [text for alternatives in captions for text in alternatives]
        tokenizer = build_tokenizer(texts, work / "tokenizer", settings.text.length)
        clip = fit_clip(
            images, captions, tokenizer, settings.text, work, on_progress=on_progress, cancel=cancel
        )
        _save(clip, done, lambda folder: tokenizer.save_pretrained(folder))
    loaded: nn.Module = CLIPModel.from_pretrained(done).eval().requires_grad_(False)
    return loaded


def _stage_latents(vae: nn.Module, images: torch.Tensor, work: Path) -> tuple[torch.Tensor, torch.Tensor]:
    path = work / "latents.pt"
    if path.exists():
        stored: dict[str, torch.Tensor] = torch.load(path, weights_only=True)
        if len(stored["mean"]) == len(images):
            return stored["mean"], stored["std"]
    mean, std = encode_all(vae, images)
    temporary = path.with_suffix(".tmp")
    torch.save({"mean": mean, "std": std}, temporary)
    os.replace(temporary, path)
    return mean, std


def text_tower(clip: nn.Module) -> nn.Module:
    """The text encoder of a CLIPModel as a CLIPTextModel of its own."""
    tower: nn.Module = CLIPTextModel(clip.config.text_config)  # type: ignore[union-attr]
    own = tower.state_dict()
    given = {name.removeprefix("text_model."): value for name, value in clip.text_model.state_dict().items()}  # type: ignore[union-attr]
    prefix = "text_model." if next(iter(own)).startswith("text_model.") else ""
    tower.load_state_dict({prefix + name: value for name, value in given.items()})
    return tower.eval().requires_grad_(False)


def write_directory(
    out: Path, work: Path, unet: nn.Module, vae: nn.Module, text_encoder: nn.Module, card: dict[str, Any]
) -> None:
    """Write the generator: half-precision safetensors, configurations, tokenizer and card; whole or not at all."""
    temporary = out.with_name(out.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    scheduler = UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=1.0,
        steps_offset=1,  # without effect here, but the pipeline complains of any other
    )
    scheduler.save_pretrained(temporary / "scheduler")
    CLIPTokenizer.from_pretrained(work / "clip").save_pretrained(temporary / "tokenizer")
    tiny = AutoencoderTiny.from_pretrained(work / "vae_tiny")
    clip = CLIPModel.from_pretrained(work / "clip")
    parts = {"unet": unet, "vae": vae, "text_encoder": text_encoder, "vae_tiny": tiny, "clip": clip}
    for name, part in parts.items():
        part.half().save_pretrained(temporary / name, safe_serialization=True)
        _forget_origin(temporary / name / "config.json")
    CLIPTokenizer.from_pretrained(work / "clip").save_pretrained(temporary / "clip")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", type(scheduler).__name__],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", type(unet).__name__],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (temporary / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (temporary / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    os.replace(temporary, out)


def _forget_origin(path: Path) -> None:
    """Take out the folder that a part was loaded from: it says nothing about the model."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _save(part: nn.Module, folder: Path, also: Any = None) -> None:
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    part.save_pretrained(temporary, safe_serialization=True)  # type: ignore[operator]
    if also is not None:
        also(temporary)
    os.replace(temporary, folder)
