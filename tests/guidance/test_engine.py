"""Guided generation: the controls, exactness of seeds, the effect of the gradient, what must stay untouched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from ltg_core.errors import Cancelled, InputError
from ltg_core.generators.base import Generator, in_chunks
from ltg_core.guidance.climb import climb, unit_direction
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.objective import Objective
from ltg_core.guidance.settings import PRESETS, Guidance
from ltg_core.jobs import CancelToken, Progress

SMALL = {"steps": 5, "candidates": 4, "draft_steps": 2, "survivors": 2, "like": ""}
MODES = {
    **PRESETS,
    "halving": Guidance(search="halving"),
    "particles": Guidance(search="particles"),
    "best of n": Guidance(search="best of n", climb="none"),
}


def small(guidance: Guidance) -> Guidance:
    return dataclasses.replace(guidance, **SMALL)


# As released an image depends on its batch, and tests/guidance/test_feedback.py holds that against it.
@pytest.mark.parametrize("name", [name for name in MODES if not name.endswith("as released")])
def test_a_seed_gives_the_same_image_alone_and_in_a_batch(
    name: str, generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance = small(MODES[name])
    together = generate_images(generator, target, guidance, request_of_three)
    one = GenerateRequest(request_of_three.prompts[1:2], (1,), (12,))
    alone = generate_images(generator, target, guidance, one)
    assert together.images.shape == (3, 32, 32, 3)
    assert together.controls is not None and alone.controls is not None
    np.testing.assert_array_equal(alone.images[0], together.images[1])
    np.testing.assert_array_equal(alone.controls[0], together.controls[1])
    assert alone.chosen[0] == together.chosen[1]


def test_weight_zero_is_the_unguided_sampler_bit_for_bit(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    plain = generate_images(generator, target, small(PRESETS["unguided"]), request_of_three)
    for climb_mode in ("denoiser-free", "full"):
        zero = Guidance(search="none", climb=climb_mode, weight=0.0)
        guided = generate_images(generator, target, small(zero), request_of_three)
        np.testing.assert_array_equal(guided.images, plain.images)


def test_the_unguided_sampler_is_the_diffusers_pipeline(
    generator: Generator, target: Target, tiny_generator: Path, request_of_three: GenerateRequest
) -> None:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(tiny_generator, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    noise = generator.noise(request_of_three.seeds)
    expected = pipeline(
        list(request_of_three.prompts),
        num_inference_steps=5,
        guidance_scale=PRESETS["unguided"].cfg,
        latents=noise,
        output_type="np",
    ).images
    everywhere = dataclasses.replace(small(PRESETS["unguided"]), cfg_below=1.0)
    ours = generate_images(generator, target, everywhere, request_of_three).images
    assert np.abs(expected * 255 - ours).max() <= 1.0  # rounding to 8 bit


def test_the_scale_applies_below_its_share_of_noise_only(generator: Generator) -> None:
    schedule = generator.schedule(5)
    shares = [schedule.noise_share(i) for i in range(5)]
    below = (shares[1] + shares[2]) / 2
    z, prompts = generator.noise([3, 4, 5]), ["a stop sign", "a yield sign", "fog"]
    runs = {}
    for name, scale, limit in (("plain", 1.0, 1.0), ("full", 4.0, 1.0), ("limited", 4.0, below)):
        denoise = generator.denoiser(schedule, generator.condition(prompts, scale=scale, below=limit))
        before = generator.calls["U"]
        with torch.no_grad():
            runs[name] = [denoise(z, i).output for i in range(5)]
        spent = generator.calls["U"] - before
        assert spent == {"plain": 5, "full": 10, "limited": 8}[name] * 8  # padded to a whole chunk of eight
    for i in range(5):
        wanted, other = ("plain", "full") if i < 2 else ("full", "plain")
        torch.testing.assert_close(runs["limited"][i], runs[wanted][i], rtol=0, atol=0)
        assert not torch.equal(runs["limited"][i], runs[other][i])


def test_guidance_changes_the_images_and_leaves_the_controls(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance = small(Guidance(search="none", weight=5.0, target=100.0, band_start=0.0, band_end=1.0, every=1))
    plain = generate_images(generator, target, small(PRESETS["unguided"]), request_of_three)
    guided = generate_images(generator, target, guidance, request_of_three)
    assert guided.controls is not None
    np.testing.assert_array_equal(guided.controls, plain.images)
    assert (guided.images != plain.images).any(axis=(1, 2, 3)).all()
    assert len(guided.trace) >= 3
    assert guided.calls["Tb"] > 0 and guided.calls["Cb"] > 0 and "Ub" not in guided.calls


def test_a_small_climb_raises_the_objective(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    settings = Guidance(search="none", weight=0.05, target=100.0, realism=0.0, on_class=0.0, augment=False)
    objective = Objective(
        target.classifier, target.reference, settings, None, group="guide", calls=generator.calls
    )
    schedule = generator.schedule(5)
    condition = generator.condition(request_of_three.prompts, "", 2.0)
    labels = torch.tensor(request_of_three.labels)
    base = generator.denoiser(schedule, condition)
    settings = dataclasses.replace(settings, band_start=0.0, band_end=1.0, every=1)
    wrapped = climb(base, generator, schedule, condition, objective, labels, settings, [])
    z = generator.noise(request_of_three.seeds)
    with torch.no_grad():
        before = objective(generator.decode(base(z, 0).clean, tiny=True), labels).level
        after = objective(generator.decode(wrapped(z, 0).clean, tiny=True), labels).level
    assert float((after - before).mean()) > 0


def test_the_denoiser_free_direction_is_the_full_one_when_the_estimate_is_the_latent(
    generator: Generator, target: Target
) -> None:
    """If z0 = z exactly (a network of constant effect), both gradients are the same up to a positive factor."""
    objective = Objective(
        target.classifier,
        target.reference,
        Guidance(augment=False),
        None,
        group="guide",
        calls=generator.calls,
    )
    labels = torch.tensor([0, 1])
    z = generator.noise([1, 2])
    leaf = z.clone().requires_grad_(True)
    (at_estimate,) = torch.autograd.grad(
        objective(generator.decode(leaf, tiny=True), labels).total.sum(), leaf
    )
    leaf = z.clone().requires_grad_(True)
    (through,) = torch.autograd.grad(
        objective(generator.decode(0.5 * leaf + 0.5 * z, tiny=True), labels).total.sum(), leaf
    )
    torch.testing.assert_close(
        unit_direction(at_estimate)[0], unit_direction(through)[0], atol=1e-4, rtol=1e-3
    )


def test_autograd_agrees_with_finite_differences(generator: Generator, target: Target) -> None:
    guidance = Guidance(augment=False, realism=0.0, on_class=0.0)
    objective = Objective(
        target.classifier, target.reference, guidance, None, group="guide", calls=generator.calls
    )
    labels = torch.tensor([0])
    z = generator.noise([3]).requires_grad_(True)
    (gradient,) = torch.autograd.grad(objective(generator.decode(z, tiny=True), labels).level.sum(), z)
    direction = unit_direction(gradient)[0]
    step = 1e-2
    with torch.no_grad():
        up = objective(generator.decode(z + step * direction, tiny=True), labels).level
        down = objective(generator.decode(z - step * direction, tiny=True), labels).level
    numeric = float((up - down) / (2 * step))
    assert numeric == pytest.approx(float((gradient * direction).sum()), rel=0.1)


def test_unusable_gradients_are_skipped() -> None:
    gradient = torch.stack([torch.zeros(4, 2, 2), torch.full((4, 2, 2), float("nan")), torch.ones(4, 2, 2)])
    direction, used = unit_direction(gradient)
    assert used.tolist() == [0.0, 0.0, 1.0]
    assert torch.equal(direction[:2], torch.zeros(2, 4, 2, 2))
    assert torch.isfinite(direction).all()


def test_nothing_of_the_classifier_changes(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    net = target.classifier.net
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    logits = target.classifier.outputs(x).logits
    generate_images(generator, target, small(PRESETS["explore"]), request_of_three)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in net.parameters())
    assert not net.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())
    assert torch.equal(logits, target.classifier.outputs(x).logits)


def test_a_cancel_stops_at_the_next_step(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    token, seen = CancelToken(), []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        if len(seen) == 2:
            token.cancel()

    with pytest.raises(Cancelled):
        generate_images(
            generator, target, small(PRESETS["explore"]), request_of_three, on_progress=watch, cancel=token
        )
    assert len(seen) == 2
    assert seen[0].preview.dtype == np.uint8 and seen[0].preview.shape[1:] == (32, 32, 3)


def test_looking_at_previews_changes_neither_images_nor_counts(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance = small(PRESETS["explore"])
    silent = generate_images(generator, target, guidance, request_of_three)
    watched = generate_images(generator, target, guidance, request_of_three, on_progress=lambda p: None)
    np.testing.assert_array_equal(silent.images, watched.images)
    assert silent.calls == watched.calls


def test_search_costs_what_it_says(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    """Lookahead: 4 drafts of 2 steps, 2 of 4 steps, 5 final steps, each twice for classifier-free guidance."""
    result = generate_images(generator, target, small(PRESETS["search only"]), request_of_three)
    rows = 4 * 2 + 2 * 4 + 5
    assert result.calls["U"] >= 3 * 2 * rows  # padding to whole chunks may add to it
    assert result.calls_control["U"] >= 3 * 2 * 5


def test_a_counterfactual_starts_from_the_real_sample(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    sources = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    near = dataclasses.replace(small(PRESETS["unguided"]), strength=0.2)
    far = dataclasses.replace(near, strength=1.0)
    request = dataclasses.replace(request_of_three, sources=sources)
    kept = generate_images(generator, target, near, request).images.astype(float)
    redrawn = generate_images(generator, target, far, request).images.astype(float)
    with torch.no_grad():
        decoded = in_chunks(generator.decode, generator.encode(sources)).clamp(0, 1)
    start = decoded.permute(0, 2, 3, 1).numpy() * 255
    assert np.abs(kept - start).mean() < np.abs(redrawn - start).mean()


def test_requests_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="one of each"):
        GenerateRequest(("a",), (0, 1), (1,))
    with pytest.raises(InputError, match="one of each"):
        GenerateRequest((), (), ())
