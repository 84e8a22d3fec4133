"""Search and climb on every family of generators."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ltg_core.generators.base import Calls, Inputs
from ltg_core.generators.loading import load_generator
from ltg_core.generators.options import GeneratorOptions
from ltg_core.guidance.cost import batch_cost
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.settings import Guidance, feedback_guided
from ltg_core.guidance.timing import measure, schedule_shares
from tests.generators.test_extras import make_image_adapter
from tests.generators.tiny_models import BUILDERS, asks, model_folder

__all__ = ["model_folder"]

WAYS = {
    "search and climb": Guidance(
        steps=4, candidates=3, draft_steps=2, survivors=1, weight=2.0, target=100.0, band_start=0.0
    ),
    "through the denoiser": Guidance(
        steps=4, search="none", climb="full", weight=2.0, target=100.0, band_start=0.25, band_end=0.5, every=1
    ),
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("name", list(BUILDERS))
def test_a_family_is_guided_and_a_seed_keeps_its_bits(
    name: str, way: str, model_folder: Callable[[str], Path], target: Target
) -> None:
    generator = load_generator(model_folder(name))
    prompts = tuple(asks(generator, 3))
    both = GenerateRequest(prompts[:2], (0, 1), (11, 12))
    result = generate_images(generator, target, WAYS[way], both)
    assert result.controls is not None and result.images.shape == (2, 32, 32, 3)
    assert (result.images != result.controls).any(axis=(1, 2, 3)).all()
    assert result.trace and all(entry["skipped"] == 0 for entry in result.trace)
    assert ("Ub" in result.calls) == (way == "through the denoiser")
    alone = generate_images(generator, target, WAYS[way], GenerateRequest(prompts[1:2], (1,), (12,)))
    np.testing.assert_array_equal(alone.images[0], result.images[1])


def test_feedback_and_particles_run_on_a_flow_with_an_embedded_scale(
    model_folder: Callable[[str], Path], target: Target
) -> None:
    generator = load_generator(model_folder("flux dev"))
    request = GenerateRequest(tuple(asks(generator)), (0, 1), (11, 12))
    modes = {
        "feedback": Guidance(steps=4, search="none", climb="feedback", every=2, band_start=0.0, omega=0.2),
        "particles": Guidance(steps=4, search="particles", climb="none", candidates=3),
    }
    for name, guidance in modes.items():
        result = generate_images(generator, target, guidance, request)
        assert result.controls is not None and not np.array_equal(result.images, result.controls), name
        assert np.isfinite(result.signal).all()


def test_the_embedded_scale_matters_and_costs_one_prediction(model_folder: Callable[[str], Path]) -> None:
    generator = load_generator(model_folder("flux dev"))
    schedule, z = generator.schedule(4), generator.noise([3])
    outputs = {}
    for scale in (1.0, 6.0):
        condition = generator.condition(asks(generator, 1), "", scale)
        before = generator.calls["U"]
        with torch.no_grad():
            outputs[scale] = generator.denoiser(schedule, condition)(z, 0).output
        assert generator.calls["U"] - before == generator.chunk
    assert not torch.equal(outputs[1.0], outputs[6.0])


def test_when_memory_runs_out_the_images_are_those_of_smaller_calls(
    model_folder: Callable[[str], Path], target: Target
) -> None:
    guidance = WAYS["search and climb"]
    tight, small = load_generator(model_folder("sd 1")), load_generator(model_folder("sd 1"))
    request = GenerateRequest(tuple(asks(tight, 3)), (0, 1, 2), (11, 12, 13))
    predict = tight.predict

    def limited(z: torch.Tensor, timestep: float, inputs: Inputs) -> torch.Tensor:
        if len(z) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return predict(z, timestep, inputs)

    tight.predict = limited  # type: ignore[method-assign]
    small.chunk = 2
    said: list[str] = []
    shrunk = generate_images(
        tight, target, guidance, request, on_progress=lambda progress: said.append(progress.message)
    )
    assert shrunk.chunk == 2 and len(shrunk.notes) == 2 and shrunk.notes[1] in said
    np.testing.assert_array_equal(shrunk.images, generate_images(small, target, guidance, request).images)


def test_a_likeness_is_asked_for_through_the_request(
    model_folder: Callable[[str], Path], target: Target, tmp_path: Path
) -> None:
    folder = model_folder("sd 1")
    make_image_adapter(load_generator(folder).unet, tmp_path)  # type: ignore[attr-defined]
    generator = load_generator(folder, options=GeneratorOptions(image_adapter=str(tmp_path)))
    real = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    guidance = dataclasses.replace(WAYS["search and climb"], like_dropout=0.5)
    alike = GenerateRequest(tuple(asks(generator)), (0, 1), (11, 12), like=real)
    both = generate_images(generator, target, guidance, alike)
    one = GenerateRequest(alike.prompts[1:], (1,), (12,), like=real[1:])
    np.testing.assert_array_equal(generate_images(generator, target, guidance, one).images[0], both.images[1])
    free = generate_images(generator, target, guidance, dataclasses.replace(alike, like=None))
    assert (free.images != both.images).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", ["sd 2, v", "sdxl", "dit", "pixels"])
def test_feedback_with_a_likeness_runs_on_every_kind_of_prediction(
    name: str, model_folder: Callable[[str], Path], target: Target
) -> None:
    """Noise, velocity and a variance without bounds; latents and pixels; as mended and as released."""
    generator = load_generator(model_folder(name))
    real = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    request = GenerateRequest(tuple(asks(generator)), (0, 1), (11, 12), like=real)
    made = {}
    for as_released in (False, True):
        guidance = dataclasses.replace(
            feedback_guided("loss", as_released=as_released), steps=4, every=2, omega=0.2
        )
        result = generate_images(generator, target, guidance, request)
        assert result.trace and all(entry["skipped"] == 0 for entry in result.trace)
        assert result.controls is not None and (result.images != result.controls).any(axis=(1, 2, 3)).all()
        assert any("start from them" in note for note in result.notes)
        made[as_released] = result.images
    assert (made[True] != made[False]).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("name", ["flux dev", "sdxl", "dit"])
def test_the_cost_of_other_families_is_counted_before_the_start(
    name: str, model_folder: Callable[[str], Path], target: Target
) -> None:
    generator = load_generator(model_folder(name))
    found = measure(generator, target)
    assert (found.chunk, found.paired, found.tiny) == (generator.chunk, name != "flux dev", False)
    inner = sum(p.numel() for p in getattr(generator, generator.denoiser_part).parameters())
    assert found.weights > 4 * inner and found.denoising > 0
    request = GenerateRequest(tuple(asks(generator, 3)), (0, 1, 2), (11, 12, 13))
    made = generate_images(generator, target, WAYS["search and climb"], request)
    expected = batch_cost(
        WAYS["search and climb"],
        3,
        judge=found.judge,
        tiny=found.tiny,
        shares=schedule_shares(generator),
        chunk=found.chunk,
        paired=found.paired,
    )
    assert +Calls(made.calls) == +expected.calls
    assert +Calls(made.calls_control) == +expected.calls_control
