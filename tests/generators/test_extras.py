"""LoRA weights, textual inversions and image adapters, each against what diffusers does with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image

from ltg_core.errors import InputError, ModelError, UnsupportedError
from ltg_core.generators.base import Generator, Like
from ltg_core.generators.loading import load_generator
from ltg_core.generators.options import GeneratorOptions, Weighted

ModelFolder = Callable[[str], Path]
PROMPTS, SEEDS = ["a photo of a stop sign", "fog"], [5, 6]


def drawn(generator: Generator, prompts: list[str] = PROMPTS, like: Like | None = None) -> torch.Tensor:
    """Three unguided steps."""
    schedule = generator.schedule(3)
    denoise = generator.denoiser(schedule, generator.condition(prompts, "", 3.0, like=like))
    z = generator.noise(SEEDS[: len(prompts)]) * schedule.start_scale
    with torch.no_grad():
        for index in range(3):
            z = schedule.step(denoise(z, index).output, index, z)
        return generator.chunked(generator.decode, z).clamp(0, 1)


def by_pipeline(pipeline: Any, prompts: list[str] = PROMPTS, **options: Any) -> torch.Tensor:
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in SEEDS[: len(prompts)]]
    return pipeline(
        prompts,
        num_inference_steps=3,
        guidance_scale=3.0,
        generator=generators,
        output_type="pt",
        height=32,
        width=32,
        **options,
    ).images


def random_tensor(*shape: int, seed: int = 3) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_lora(pipeline: Any, denoiser: str, folder: Path) -> Path:
    """Random LoRA weights for a pipeline's denoiser, written by its own function."""
    network = getattr(pipeline, denoiser)
    network.add_adapter(
        LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"], init_lora_weights=False)
    )
    layers = {"transformer_lora_layers" if denoiser == "transformer" else "unet_lora_layers": None}
    layers[next(iter(layers))] = get_peft_model_state_dict(network)
    type(pipeline).save_lora_weights(folder, weight_name="style.safetensors", **layers)
    return folder / "style.safetensors"


@pytest.mark.parametrize(
    ("name", "denoiser"),
    [("sd 1", "unet"), ("sdxl", "unet"), ("sd 3", "transformer"), ("flux dev", "transformer")],
)
def test_lora_weights_do_what_they_do_in_the_pipeline(
    name: str, denoiser: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = model_folder(name)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        file = make_lora(pipeline, denoiser, tmp_path)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.load_lora_weights(tmp_path, weight_name="style.safetensors", adapter_name="style")
    pipeline.set_adapters(["style"], [0.5])
    plain = load_generator(folder)
    styled = load_generator(folder, options=GeneratorOptions(lora=(f"{file}@0.5",)))
    ours = drawn(styled)
    torch.testing.assert_close(ours, by_pipeline(pipeline), atol=5e-4, rtol=1e-3)
    assert not torch.allclose(ours, drawn(plain), atol=1e-3)
    full = load_generator(folder, options=GeneratorOptions(lora=(str(file),)))
    assert len({plain.hash, styled.hash, full.hash}) == 3
    again = load_generator(folder, options=GeneratorOptions(lora=(f"{file}@0.5",)))
    assert again.hash == styled.hash and torch.equal(drawn(again), ours)
    assert not any(p.requires_grad for p in getattr(styled, denoiser).parameters())


def test_what_does_not_fit_is_refused_in_words(model_folder: ModelFolder, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / "style.pt")
    safetensors.torch.save_file({"a.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    sd, dit = model_folder("sd 1"), model_folder("dit")

    def load(folder: Path, **options: Any) -> None:
        load_generator(folder, options=GeneratorOptions(**options))

    with pytest.raises(ModelError, match="no safetensors file"):
        load(sd, lora=(str(tmp_path / "style.pt"),))
    with pytest.raises(ModelError, match=r"do not fit|name no layer"):
        load(sd, lora=(str(tmp_path / "other.safetensors"),))
    with pytest.raises(ModelError, match="there is no file"):
        load(sd, inversion=(str(tmp_path / "missing.safetensors"),))
    with pytest.raises(ModelError, match="does not fit"):
        load(sd, inversion=(str(tmp_path / "other.safetensors"),))
    with pytest.raises(UnsupportedError, match="its family has none"):
        load(dit, lora=(str(tmp_path / "other.safetensors"),))
    with pytest.raises(UnsupportedError, match="are not supported"):
        load(model_folder("sd 3"), image_adapter=str(tmp_path))
    with pytest.raises(ModelError, match="should hold one safetensors file"):
        load(sd, image_adapter=str(tmp_path / "nothing"))
    with pytest.raises(UnsupportedError, match="model of pixels"):
        load(model_folder("pixels"), tiny=str(tmp_path))


def test_a_textual_inversion_teaches_a_word_of_several_vectors(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder, prompts = model_folder("sd 1"), ["a photo of a <rusty> sign"]
    file = tmp_path / "rusty.safetensors"
    safetensors.torch.save_file({"<rusty>": random_tensor(2, 8)}, file)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    pipeline.load_textual_inversion({"<rusty>": random_tensor(2, 8)}, token="<rusty>")
    taught = load_generator(folder, options=GeneratorOptions(inversion=(str(file),)))
    assert taught.tokens == ("<rusty>",)
    ours = drawn(taught, prompts)
    torch.testing.assert_close(ours, by_pipeline(pipeline, prompts), atol=2e-4, rtol=1e-3)
    plain = load_generator(folder)
    assert plain.hash != taught.hash and not torch.allclose(ours, drawn(plain, prompts), atol=1e-4)


def test_both_encoders_of_sdxl_are_taught(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder, prompts = model_folder("sdxl"), ["a photo of a <snowy> sign"]
    state = {"clip_l": random_tensor(1, 8, seed=1), "clip_g": random_tensor(1, 8, seed=2)}
    safetensors.torch.save_file(state, tmp_path / "snowy.safetensors")
    taught = load_generator(
        folder, options=GeneratorOptions(inversion=(str(tmp_path / "snowy.safetensors"),))
    )
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    for half, number in (("clip_l", ""), ("clip_g", "_2")):
        pipeline.load_textual_inversion(
            {"<snowy>": state[half]},
            token="<snowy>",
            tokenizer=getattr(pipeline, f"tokenizer{number}"),
            text_encoder=getattr(pipeline, f"text_encoder{number}"),
        )
    torch.testing.assert_close(drawn(taught, prompts), by_pipeline(pipeline, prompts), atol=2e-4, rtol=1e-3)


def make_image_adapter(unet: Any, folder: Path) -> None:
    """An IP-Adapter of random weights for a UNet, with a tiny image encoder."""
    width, context, tokens = 8, int(unet.config.cross_attention_dim), 4
    shapes = {name: value.shape for name, value in unet.state_dict().items()}
    state = {
        "image_proj.proj.weight": random_tensor(tokens * context, width),
        "image_proj.proj.bias": torch.zeros(tokens * context),
        "image_proj.norm.weight": torch.ones(context),
        "image_proj.norm.bias": torch.zeros(context),
    }
    number = 1
    for name in unet.attn_processors:
        if "attn2" in name:
            inner = shapes[name.removesuffix(".processor") + ".to_k.weight"][0]
            for half in ("k", "v"):
                state[f"ip_adapter.{number}.to_{half}_ip.weight"] = random_tensor(inner, context, seed=number)
            number += 2
    safetensors.torch.save_file(state, folder / "ip-adapter.safetensors")
    config = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=16,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        transformers.CLIPVisionModelWithProjection(config).save_pretrained(folder / "image_encoder")


@pytest.mark.parametrize("name", ["sd 1", "sdxl"])
def test_a_likeness_is_what_the_image_adapter_of_diffusers_makes_of_it(
    name: str, model_folder: ModelFolder, tmp_path: Path
) -> None:
    folder = model_folder(name)
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder)
    make_image_adapter(pipeline.unet, tmp_path)
    pipeline.load_ip_adapter(
        str(tmp_path),
        subfolder="",
        weight_name="ip-adapter.safetensors",
        image_encoder_folder="image_encoder",
    )
    pipeline.set_ip_adapter_scale(0.7)
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    images = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
    generator = load_generator(folder, options=GeneratorOptions(image_adapter=f"{tmp_path}@0.7"))
    ours = drawn(generator, PROMPTS[:1], Like(images, (1,)))
    expected = by_pipeline(pipeline, PROMPTS[:1], ip_adapter_image=Image.fromarray(picture))
    torch.testing.assert_close(ours, expected, atol=5e-4, rtol=1e-3)
    alone = drawn(generator, PROMPTS[:1])
    assert not torch.allclose(alone, ours, atol=1e-3)
    nothing = drawn(generator, PROMPTS[:1], Like(images, (1,), dropout=1.0))
    assert torch.equal(nothing, alone)
    assert generator.hash != load_generator(folder).hash


def test_dropout_of_a_likeness_is_an_images_own(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = model_folder("sd 1")
    make_image_adapter(diffusers.UNet2DConditionModel.from_pretrained(folder / "unet"), tmp_path)
    generator = load_generator(folder, options=GeneratorOptions(image_adapter=str(tmp_path)))
    images = torch.rand(1, 3, 40, 32, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)

    def embedded(seeds: tuple[int, ...]) -> torch.Tensor:
        like = Like(images[: len(seeds)], seeds, dropout=0.5)
        return generator.condition(["fog"] * len(seeds), like=like).asked["image"]

    three = embedded((1, 2, 3))
    assert three.shape == (3, 1, 8)
    assert torch.equal(embedded((2,))[0], three[1])
    assert not torch.equal(three[0], three[1])
    assert 0 < int((three == 0).sum()) < three.numel()
    with pytest.raises(InputError, match="one of each"):
        generator.condition(["fog", "fog"], like=Like(images, (1, 2, 3)))
    with pytest.raises(UnsupportedError, match="no image adapter"):
        load_generator(folder).condition(["fog"], like=Like(images[:1], (1,)))


def test_options_survive_a_record_and_refuse_what_they_do_not_know() -> None:
    options = GeneratorOptions(lora=("a.safetensors@0.5",), dtype="bfloat16", chunk=2, slicing=True)
    assert GeneratorOptions.from_dict(options.to_dict()) == options
    assert GeneratorOptions().to_dict() == {}
    assert Weighted.parse("x/a@b/c.safetensors") == Weighted(Path("x/a@b/c.safetensors"))
    assert Weighted.parse("a.safetensors@0.5").strength == 0.5
    for wrong in ({"dtype": "int8"}, {"offload": "disk"}, {"chunk": 100}, {"lora": ("a.safetensors@much",)}):
        with pytest.raises(InputError):
            GeneratorOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no option"):
        GeneratorOptions.from_dict({"colour": 1})
