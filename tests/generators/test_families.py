"""Every family against its own diffusers pipeline, and what all of them promise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from ltg_core.errors import InputError, ModelError, UnsupportedError
from ltg_core.generators.base import Calls, Condition, Generator, Inputs
from ltg_core.generators.decoding import PixelCodec
from ltg_core.generators.loading import load_generator
from ltg_core.generators.schedule import Schedule
from tests.generators.tiny_models import BUILDERS, VP, asks, pixels, stable_diffusion

ModelFolder = Callable[[str], Path]
SEEDS, STEPS, SCALE = [5, 6], 4, 3.0


def drawn(
    generator: Generator,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    scale: float = SCALE,
    negative: str = "",
) -> torch.Tensor:
    """Unguided images by the contract alone."""
    schedule = generator.schedule(STEPS)
    denoise = generator.denoiser(schedule, generator.condition(prompts, negative, scale))
    z = generator.noise(seeds) * schedule.start_scale
    schedule.begin(0)
    schedule.seed(seeds, generator.latent_shape)
    with torch.no_grad():
        for index in range(len(schedule)):
            z = schedule.step(denoise(z, index).output, index, z)
        return generator.chunked(generator.decode, z).clamp(0, 1)


def by_pipeline(folder: Path, generator: Generator, prompts: list[str], negative: str = "") -> torch.Tensor:
    """The same by diffusers' own pipeline, from the same seeds."""
    third = {} if (folder / "text_encoder_3").is_dir() else {"text_encoder_3": None, "tokenizer_3": None}
    absent = third if json.loads((folder / "model_index.json").read_text()).get("text_encoder_3") else {}
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, **absent)
    pipeline.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {
        "num_inference_steps": STEPS,
        "generator": [torch.Generator().manual_seed(seed) for seed in SEEDS],
        "output_type": "pt",
    }
    kind = type(pipeline).__name__
    if kind == "DiTPipeline":
        numbers = [{"stop": 0, "Give Way": 1}[prompt] for prompt in prompts]
        return pipeline(numbers, guidance_scale=SCALE, **options).images
    if kind == "DDPMPipeline":
        return pipeline(batch_size=len(prompts), **options).images
    options |= {"prompt": prompts, "height": 32, "width": 32, "guidance_scale": SCALE}
    if kind == "FluxPipeline" and negative:
        options |= {"guidance_scale": 1.0, "true_cfg_scale": SCALE}
    if negative:
        options["negative_prompt"] = [negative] * len(prompts)
    return pipeline(**options).images


EQUAL = [name for name in BUILDERS if name != "pixels, classes"]  # diffusers has no pipeline for that one


@pytest.mark.parametrize("name", EQUAL)
def test_the_unguided_sampler_is_the_pipeline_of_diffusers(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    prompts = asks(generator)
    expected = by_pipeline(model_folder(name), generator, prompts)
    torch.testing.assert_close(drawn(generator, prompts, SEEDS), expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["sd 1", "sdxl", "sd 3", "flux dev"])
def test_a_negative_text_does_what_it_does_in_the_pipeline(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    prompts = asks(generator)
    ours = drawn(generator, prompts, SEEDS, negative="fog")
    expected = by_pipeline(model_folder(name), generator, prompts, "fog")
    torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)
    assert not torch.allclose(ours, drawn(generator, prompts, SEEDS), atol=1e-4)


def test_a_pixel_model_with_its_random_scheduler_is_the_pipeline_too(tmp_path: Path) -> None:
    pixels(tmp_path, scheduler=diffusers.DDPMScheduler())
    generator = load_generator(tmp_path)
    ours = drawn(generator, ["", ""], SEEDS)
    torch.testing.assert_close(ours, by_pipeline(tmp_path, generator, ["", ""]), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_a_seed_gives_the_same_bits_alone_and_in_a_batch(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    prompts = asks(generator, 3)
    together = drawn(generator, prompts, [5, 6, 7])
    assert torch.equal(drawn(generator, prompts[1:2], [6])[0], together[1])


@pytest.mark.parametrize("name", [name for name in BUILDERS if name != "pixels"])
def test_what_is_asked_for_decides_what_is_drawn(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    one, other = asks(generator, 2)
    images = drawn(generator, [one, other], [5, 5])
    assert not torch.equal(images[0], images[1])


@pytest.mark.parametrize("name", list(BUILDERS))
def test_the_gradient_through_the_denoiser_is_finite(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    schedule = generator.schedule(STEPS)
    denoise = generator.denoiser(schedule, generator.condition(asks(generator), "", SCALE))
    z = (generator.noise(SEEDS) * schedule.start_scale).requires_grad_(True)
    generator.decode(denoise(z, 1).clean, tiny=True).square().sum().backward()
    assert z.grad is not None and torch.isfinite(z.grad).all() and (z.grad != 0).any()


@pytest.mark.parametrize("name", ["sd 1", "sdxl", "sd 3", "flux dev", "dit", "pixels"])
def test_encoding_and_decoding_are_in_the_denoisers_scale(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    z = generator.encode(images)
    assert z.shape[1:] == generator.latent_shape
    if isinstance(generator.codec, PixelCodec):
        torch.testing.assert_close(generator.decode(z), images)
        return
    vae = diffusers.AutoencoderKL.from_pretrained(generator.folder / "vae")
    with torch.no_grad():
        raw = vae.encode(2 * images - 1).latent_dist.mean
        expected = (vae.decode(raw).sample + 1) / 2
        scaled = (raw - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    torch.testing.assert_close(z, scaled, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(generator.decode(z), expected, atol=1e-4, rtol=1e-4)


class Recast(Generator):
    """The noise predictor of another generator, put as another prediction of the same clean latent."""

    def __init__(
        self, inner: Generator, timestep: float, prediction: str, alpha: float, sigma: float
    ) -> None:
        self.inner, self.timestep, self.prediction = inner, timestep, prediction
        self.alpha, self.sigma, self.calls = alpha, sigma, Calls()

    def predict(self, z: torch.Tensor, timestep: float, inputs: Inputs) -> torch.Tensor:
        """From noise to what is wanted, at one signal-to-noise ratio."""
        size = self.alpha + self.sigma if self.prediction == "flow" else 1.0  # a flow's latent is smaller
        x = z * size
        noise = self.inner.predict(x, self.timestep, inputs)
        clean = (x - self.sigma * noise) / self.alpha
        return {
            "v_prediction": self.alpha * noise - self.sigma * clean,
            "sample": clean,
            "flow": noise - clean,
            "epsilon": noise,
        }[self.prediction]

    condition = schedule = decode = encode = None  # type: ignore[assignment]  # not asked for here


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow"])
def test_a_denoiser_gives_the_same_clean_latent_however_its_prediction_is_put(
    prediction: str, model_folder: ModelFolder
) -> None:
    inner = load_generator(model_folder("sd 1"))
    plain = inner.schedule(STEPS)
    condition: Condition = inner.condition(asks(inner), "", SCALE)
    z, index = inner.noise(SEEDS), 1
    with torch.no_grad():
        expected = inner.denoiser(plain, condition)(z, index).clean
    sigma = plain.noise_amplitude(index)
    alpha = (1 - sigma**2) ** 0.5
    if prediction == "flow":
        schedule = Schedule(diffusers.FlowMatchEulerDiscreteScheduler(shift=1.0), 1)
        schedule.scheduler.set_timesteps(sigmas=[sigma / (alpha + sigma)])
        schedule._raw = schedule.scheduler.timesteps
        z, index = z / (alpha + sigma), 0
    else:
        own = diffusers.DDIMScheduler(**VP, steps_offset=1, prediction_type=prediction)
        schedule = Schedule(own, STEPS)
    recast = Recast(inner, plain.timesteps[1], prediction, alpha, sigma)
    with torch.no_grad():
        clean = recast.denoiser(schedule, condition)(z, index).clean
    torch.testing.assert_close(clean, expected, atol=2e-4, rtol=1e-3)


def test_classes_are_asked_for_by_name_or_number(model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder("dit"))
    asked = generator.condition(["Stop", "give-way", "2", "yield"]).asked["classes"]
    assert asked.tolist() == [0, 1, 2, 1]
    with pytest.raises(InputError, match=r"no class 'zebra'; it has 1000 classes: stop"):
        generator.condition(["zebra"])
    nameless = load_generator(model_folder("pixels, classes"))
    with pytest.raises(InputError, match="give a number from 0 to 4"):
        nameless.condition(["stop"])
    with pytest.raises(InputError, match="unconditional"):
        load_generator(model_folder("pixels")).condition([""], "fog")


def test_few_step_models_say_what_they_need(model_folder: ModelFolder) -> None:
    assert load_generator(model_folder("turbo")).suggested == {"steps": 4, "cfg": 1.0}
    assert load_generator(model_folder("consistency")).suggested == {"steps": 4, "cfg": 8.0}
    assert load_generator(model_folder("flux schnell")).suggested == {"steps": 4, "cfg": 1.0}
    assert not load_generator(model_folder("sdxl")).suggested


def test_a_step_of_a_random_scheduler_without_seeds_is_refused(model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder("consistency"))
    schedule = generator.schedule(STEPS)
    z = generator.noise(SEEDS)
    with pytest.raises(InputError, match="seeds"):
        schedule.step(z, 0, z)
    with pytest.raises(InputError, match="cannot make 200 steps"):
        generator.schedule(200)


def test_rows_that_are_kept_twice_draw_different_noise(model_folder: ModelFolder) -> None:
    schedule = load_generator(model_folder("turbo")).schedule(STEPS)
    schedule.seed([1, 2], (4, 8, 8))
    schedule.take(torch.tensor([1, 1, 0]))
    z = torch.zeros(3, 4, 8, 8)
    stepped = schedule.step(z, 0, z)
    assert not torch.equal(stepped[0], stepped[1])
    fresh = load_generator(model_folder("turbo")).schedule(STEPS)
    fresh.seed([2], (4, 8, 8))
    assert torch.equal(fresh.step(z[:1], 0, z[:1])[0], stepped[0])


def edited(source: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy with another index."""
    shutil.copytree(source, target)
    index = json.loads((target / "model_index.json").read_text(encoding="utf-8"))
    change(index)
    (target / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return target


def test_unknown_families_are_refused_with_what_is_supported(
    model_folder: ModelFolder, tmp_path: Path
) -> None:
    def kandinsky(index: dict[str, Any]) -> None:
        index["_class_name"] = "KandinskyV22Pipeline"

    def strange(index: dict[str, Any]) -> None:
        index["unet"] = ["diffusers", "UNet3DConditionModel"]

    def custom(index: dict[str, Any]) -> None:
        index["text_encoder"] = ["my_module", "Backdoor"]

    source = model_folder("sd 1")
    with pytest.raises(UnsupportedError, match=r"KandinskyV22Pipeline .* supported: Stable Diffusion"):
        load_generator(edited(source, tmp_path / "a", kandinsky))
    with pytest.raises(UnsupportedError, match="UNet3DConditionModel"):
        load_generator(edited(source, tmp_path / "b", strange))
    with pytest.raises(ModelError, match="Backdoor; supported: CLIPTextModel"):
        load_generator(edited(source, tmp_path / "c", custom))


def test_a_model_for_inpainting_is_refused(tmp_path: Path) -> None:
    stable_diffusion(tmp_path, in_channels=9)
    with pytest.raises(UnsupportedError, match="reads 9 channels, its autoencoder makes 4"):
        load_generator(tmp_path)


def test_pickled_weights_and_missing_parts_are_refused(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = edited(model_folder("sd 1"), tmp_path / "a", lambda index: None)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    state = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet").state_dict()
    torch.save(state, folder / "unet" / "diffusion_pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError, match="'unet'"):
        load_generator(folder)
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelError, match="lacks the part 'vae'"):
        load_generator(folder)


def test_weights_of_a_variant_are_found(model_folder: ModelFolder, tmp_path: Path) -> None:
    folder = edited(model_folder("sd 1"), tmp_path / "a", lambda index: None)
    name = folder / "unet" / "diffusion_pytorch_model.safetensors"
    name.rename(name.with_name("diffusion_pytorch_model.fp16.safetensors"))
    prompts = ["fog"]
    plain = load_generator(model_folder("sd 1"))
    assert torch.equal(drawn(load_generator(folder), prompts, [5]), drawn(plain, prompts, [5]))
