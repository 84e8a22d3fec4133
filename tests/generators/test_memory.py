"""The estimate of memory, and the ways to need less of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import diffusers
import pytest
import torch
from torch.nn import functional as F

from ltg_core.errors import ModelError
from ltg_core.generators.base import Generator
from ltg_core.generators.loading import load_generator
from ltg_core.generators.memory import fit_before, needs, peak, shrinking, weights_of
from ltg_core.generators.options import GeneratorOptions
from tests.generators.tiny_models import asks

ModelFolder = Callable[[str], Path]


def test_the_peak_is_what_is_alive_at_the_same_time() -> None:
    start = torch.empty(1000, device="meta")

    def work() -> None:
        once = start + 1  # 4,000 bytes
        twice = once * 2  # both alive
        del once
        (twice + 1).sum()  # the first is gone, the third takes its place

    assert peak(work) == 8000 + 4
    assert peak(lambda: (start + 1, start + 2, start + 3)) == 12000


def test_attention_counts_as_fused_kernels_do_it() -> None:
    query = torch.empty(1, 2, 1000, 8, device="meta")
    assert peak(lambda: F.scaled_dot_product_attention(query, query, query)) == 2 * 1000 * 8 * 4


def test_checkpointing_lowers_the_estimate_of_a_decoder() -> None:
    with torch.device("meta"):
        vae = diffusers.AutoencoderKL(
            block_out_channels=(16, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=3,
            norm_num_groups=4,
        )
    vae = vae.eval().requires_grad_(False)
    z = torch.empty(1, 4, 32, 32, device="meta")

    def climb() -> None:
        start = z.clone().requires_grad_(True)
        out = vae.decode(start).sample.sum()
        torch.autograd.Variable._execution_engine.run_backward(
            (out,), (torch.ones_like(out),), False, False, (start,), True, accumulate_grad=False
        )

    plain = peak(climb)
    vae.enable_gradient_checkpointing()
    assert peak(climb) < 0.8 * plain


@pytest.mark.parametrize("name", ["sd 1", "sdxl", "sd 3", "flux dev", "dit", "pixels", "consistency"])
def test_the_estimate_of_every_family_grows_with_what_is_asked(name: str, model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder(name))
    before = dict(generator.calls)
    found = needs(generator)
    assert dict(generator.calls) == before
    network = getattr(generator, generator.denoiser_part)
    size = sum(value.numel() for value in network.state_dict().values()) * 4
    assert found.weights[generator.denoiser_part] == size
    paired = generator.condition(asks(generator, 1)).other is not None
    assert found.denoise > 0 and found.feedback > found.climb
    assert found.through >= found.feedback and (found.through > found.feedback) == paired
    assert found.of(8) > found.of(1) > sum(found.weights.values())
    assert found.of(2, climb="full") > found.of(2)
    assert "GiB" in found.text(4)
    assert weights_of(generator.folder, torch.float16)[generator.denoiser_part] == size / 2


def test_what_would_not_fit_is_made_in_smaller_calls_and_said(model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder("sd 1"))
    found = needs(generator)
    assert fit_before(generator, "full") == (8, "")  # small models are not looked at
    assert fit_before(generator, "full", available=found.of(8, climb="full")) == (8, "")
    rows, said = fit_before(generator, "full", available=found.of(3, climb="full"))
    assert rows == 2 and said.startswith("8 images at a time would need about")
    rows, said = fit_before(generator, "full", available=10)
    assert rows == 1 and "it may not run" in said
    assert generator.chunk == 8, "the next run begins with its own number"


def direction(generator: Generator) -> torch.Tensor:
    """The gradient through the denoiser, as the climb takes it."""
    schedule = generator.schedule(4)
    denoise = generator.denoiser(schedule, generator.condition(asks(generator, 1), "", 3.0))
    z = (generator.noise([3]) * schedule.start_scale).requires_grad_(True)
    total = 1e-7 * generator.decode(denoise(z, 2).clean, tiny=True).square().sum()
    (gradient,) = torch.autograd.grad(generator.gradient_scale * total, z)
    return gradient / gradient.square().mean().sqrt()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_the_direction_of_a_small_gradient(
    dtype: str, model_folder: ModelFolder
) -> None:
    exact = direction(load_generator(model_folder("sd 1")))
    half = direction(load_generator(model_folder("sd 1"), options=GeneratorOptions(dtype=dtype)))
    assert half.dtype == torch.float32 and torch.isfinite(half).all()
    assert float(F.cosine_similarity(exact.flatten(), half.flatten(), dim=0)) > 0.95


def test_the_autoencoder_of_sdxl_stays_in_full_precision(model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder("sdxl"), options=GeneratorOptions(dtype="float16"))
    assert generator.codec.vae.dtype == torch.float32  # type: ignore[attr-defined]
    assert generator.unet.dtype == torch.float16  # type: ignore[attr-defined]
    assert torch.isfinite(generator.decode(generator.noise([1]))).all()


@pytest.mark.parametrize("offload", ["text", "layers"])
def test_offloading_changes_neither_images_nor_gradients(offload: str, model_folder: ModelFolder) -> None:
    plain = direction(load_generator(model_folder("sd 1")))
    moved = load_generator(model_folder("sd 1"), options=GeneratorOptions(offload=offload))
    torch.testing.assert_close(direction(moved), plain, atol=1e-4, rtol=1e-4)
    if offload == "layers":
        assert next(moved.unet.parameters()).device.type == "meta"  # type: ignore[attr-defined]


def test_slicing_decodes_the_same(model_folder: ModelFolder) -> None:
    plain = load_generator(model_folder("sd 1"))
    sliced = load_generator(model_folder("sd 1"), options=GeneratorOptions(slicing=True))
    z = plain.noise([1, 2, 3])
    with torch.no_grad():
        torch.testing.assert_close(sliced.decode(z), plain.decode(z), atol=1e-5, rtol=1e-5)


def test_work_begins_again_with_half_the_rows_until_it_fits(model_folder: ModelFolder) -> None:
    generator = load_generator(model_folder("sd 1"))
    said: list[str] = []

    def work() -> int:
        if generator.chunk > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return generator.chunk

    assert shrinking(generator, work, said.append) == 2
    assert [text.split("with ")[1] for text in said] == ["4 images at a time", "2 images at a time"]

    def hopeless() -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: not enough memory")

    with pytest.raises(ModelError, match="not enough for one image"):
        shrinking(generator, hopeless, said.append)

    def broken() -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        shrinking(generator, broken, said.append)
