"""Model directories of every family, written by diffusers' own pipelines at tiny random configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ltg_core.compat import ensure_torchvision
from ltg_core.generators.base import Generator

ensure_torchvision()
import diffusers  # noqa: E402
import transformers  # noqa: E402

WORDS = ["a photo of a stop sign", "a photo of a yield sign", "a photo of a parking sign at night", "fog"]
VP = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}


def vae(channels: int = 4, **options: Any) -> Any:
    """Four pixels of a side for one of the latent."""
    settings = {
        "block_out_channels": (8, 8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "latent_channels": channels,
        "norm_num_groups": 4,
        "sample_size": 32,
    }
    return diffusers.AutoencoderKL(**{**settings, **options})


def unet(context: int, **options: Any) -> Any:
    """A conditional UNet on latents of 8 × 8."""
    settings = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "cross_attention_dim": context,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    return diffusers.UNet2DConditionModel(**{**settings, **options})


def clip_tokenizer(folder: Path) -> Any:
    """Knows the words of the captions."""
    from ltg_core.generators.fit.textimage import build_tokenizer

    return build_tokenizer(WORDS, folder, 16)


def t5_tokenizer() -> Any:
    """A few whole words; the rest is unknown."""
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0)]
    words += [(f"▁{w}", -1.0) for w in sorted({w for text in WORDS for w in text.split()})]
    model = transformers.T5TokenizerFast(vocab=words, extra_ids=0)
    model.model_max_length = 16
    return model


def text_config(tokenizer: Any, width: int) -> Any:
    """A CLIP text encoder of two layers."""
    return transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        max_position_embeddings=16,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def t5(tokenizer: Any, width: int) -> Any:
    """A T5 encoder of one layer."""
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=4, d_ff=16, num_layers=1, num_heads=2, pad_token_id=0
    )
    return transformers.T5EncoderModel(config)


def stable_diffusion(folder: Path, *, scheduler: Any = None, **options: Any) -> None:
    """Stable Diffusion 1.x; ``options`` for the UNet."""
    tokenizer = clip_tokenizer(folder / "words")
    scheduler = scheduler or diffusers.DDIMScheduler(**VP, steps_offset=1)
    diffusers.StableDiffusionPipeline(
        vae=vae(),
        text_encoder=transformers.CLIPTextModel(text_config(tokenizer, 8)),
        tokenizer=tokenizer,
        unet=unet(8, **options),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def sdxl(folder: Path, *, scheduler: Any = None, **options: Any) -> None:
    """Stable Diffusion XL."""
    tokenizer = clip_tokenizer(folder / "words")
    wide = unet(
        16,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=6 * 4 + 8,
        transformer_layers_per_block=(1, 1),
        use_linear_projection=True,
        **options,
    )
    diffusers.StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=transformers.CLIPTextModel(text_config(tokenizer, 8)),
        text_encoder_2=transformers.CLIPTextModelWithProjection(text_config(tokenizer, 8)),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=wide,
        scheduler=scheduler
        or diffusers.EulerDiscreteScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
        ),
        add_watermarker=False,
    ).save_pretrained(folder)


def sd3(folder: Path, *, third: bool = True, dynamic: bool = False) -> None:
    """Stable Diffusion 3, with or without its T5 encoder."""
    tokenizer, other = clip_tokenizer(folder / "words"), t5_tokenizer()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=24,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        out_channels=16,
        pos_embed_max_size=8,
    )
    clip = transformers.CLIPTextModelWithProjection
    diffusers.StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=dynamic),
        vae=vae(
            16, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=clip(text_config(tokenizer, 8)),
        text_encoder_2=clip(text_config(tokenizer, 8)),
        text_encoder_3=t5(other, 24) if third else None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=other if third else None,
    ).save_pretrained(folder)


def flux(folder: Path, *, embedded: bool = True) -> None:
    """FLUX.1: dev with the guidance scale as an input, schnell without."""
    tokenizer, other = clip_tokenizer(folder / "words"), t5_tokenizer()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=24,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=embedded,
    )
    diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            shift=3.0 if embedded else 1.0, use_dynamic_shifting=embedded
        ),
        vae=vae(
            4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False
        ),
        text_encoder=transformers.CLIPTextModel(text_config(tokenizer, 8)),
        tokenizer=tokenizer,
        text_encoder_2=t5(other, 24),
        tokenizer_2=other,
        transformer=transformer,
    ).save_pretrained(folder)
    (folder / "card.json").write_text(json.dumps({"size": 32}), encoding="utf-8")


def dit(folder: Path) -> None:
    """DiT with a guess of the variance; 1,000 classes, because the pipeline's own "no class" is number 1,000."""
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_embeds_ada_norm=1000,
    )
    labels = {0: "stop", 1: "yield, give way", 2: "parking"} | {i: f"class {i}" for i in range(3, 1000)}
    diffusers.DiTPipeline(
        transformer=transformer,
        vae=vae(),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="linear", beta_start=0.0001, beta_end=0.02, clip_sample=False
        ),
        id2label=labels,
    ).save_pretrained(folder)
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    index["id2label"] = {str(key): value for key, value in labels.items()}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def pixels(folder: Path, *, classes: int | None = None, scheduler: Any = None, **options: Any) -> None:
    """A pixel DDPM of 32 × 32."""
    network = diffusers.UNet2DModel(
        sample_size=32,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        attention_head_dim=8,
        num_class_embeds=classes,
        **options,
    )
    diffusers.DDPMPipeline(unet=network, scheduler=scheduler or diffusers.DDIMScheduler()).save_pretrained(
        folder
    )


def consistency(folder: Path) -> None:
    """A latent consistency model: the guidance scale as an input, a scheduler that draws noise at every step."""
    scheduler = diffusers.LCMScheduler(**VP, steps_offset=1)
    stable_diffusion(folder, scheduler=scheduler, time_cond_proj_dim=8)


def turbo(folder: Path) -> None:
    """SDXL-Turbo's scheduler."""
    scheduler = diffusers.EulerAncestralDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing"
    )
    sdxl(folder, scheduler=scheduler)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "sd 1": stable_diffusion,
    "sd 2, v": lambda folder: stable_diffusion(
        folder, scheduler=diffusers.DDIMScheduler(**VP, steps_offset=1, prediction_type="v_prediction")
    ),
    "sdxl": sdxl,
    "sd 3": sd3,
    "sd 3.5, no T5": lambda folder: sd3(folder, third=False, dynamic=True),
    "flux dev": flux,
    "flux schnell": lambda folder: flux(folder, embedded=False),
    "dit": dit,
    "pixels": pixels,
    "pixels, classes": lambda folder: pixels(folder, classes=5),
    "consistency": consistency,
    "turbo": turbo,
}


def build(name: str, folder: Path, seed: int = 0) -> Path:
    """Write the directory; the weights are drawn from ``seed``, and no layer is left at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        BUILDERS[name](folder)
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Directories by name, each written once."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def folder(name: str) -> Path:
        if name not in made:
            made[name] = build(name, root / name.replace(", ", "-").replace(" ", "-"))
        return made[name]

    return folder


def asks(generator: Generator, count: int = 2) -> list[str]:
    """Prompts in the generator's language."""
    known = {
        "text": WORDS,
        "classes": ["stop", "Give Way", "2"] if generator.classes else ["3", "1", "0"],
        "nothing": [""] * 3,
    }
    return known[generator.language][:count]
