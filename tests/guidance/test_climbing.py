"""What a climb carries from step to step: the last direction, and the moments of its gradients."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ltg_core.errors import UnsupportedError
from ltg_core.generators.base import Calls, Generator
from ltg_core.guidance.climb import Memory, guided_steps, held_steps
from ltg_core.guidance.cost import batch_cost
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.timing import schedule_shares

CLIMB = Guidance(search="none", steps=6, band_start=0.0, band_end=1.0, every=3, weight=2.0, target=100.0)


def test_moments_are_those_of_adam() -> None:
    rng = torch.Generator().manual_seed(0)
    place = torch.zeros(2, 3, 4, 4, requires_grad=True)
    optimiser = torch.optim.Adam([place], lr=0.1, betas=(0.9, 0.999), eps=1e-8)
    memory = Memory()
    for _ in range(5):
        gradient = torch.randn(place.shape, generator=rng)
        before = place.detach().clone()
        place.grad = -gradient  # it descends, a climb ascends
        optimiser.step()
        torch.testing.assert_close(
            0.1 * memory.moments(gradient), place.detach() - before, atol=1e-6, rtol=1e-5
        )
    rows = torch.tensor([1, 1, 0])
    kept = memory.first
    memory.take(rows)
    assert kept is not None and memory.first is not None and torch.equal(memory.first, kept[rows])


def test_between_two_gradients_the_last_direction_is_followed_at_no_cost(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    held = dataclasses.replace(CLIMB, hold=True)
    assert (
        guided_steps(held, 6) == {0, 3} and held_steps(held, 6) == {1, 2, 4, 5} and not held_steps(CLIMB, 6)
    )
    with_hold = generate_images(generator, target, held, request_of_three, controls=False)
    without = generate_images(generator, target, CLIMB, request_of_three, controls=False)
    every = generate_images(
        generator, target, dataclasses.replace(CLIMB, every=1), request_of_three, controls=False
    )
    assert [entry["step"] for entry in with_hold.trace] == [0, 1, 2, 3, 4, 5]
    assert [entry["step"] for entry in with_hold.trace if not entry.get("held")] == [0, 3]
    assert {entry["weight"] for entry in with_hold.trace} == {held.weight}
    assert with_hold.calls == without.calls != every.calls
    assert (with_hold.images != without.images).any()
    expected = batch_cost(held, 3, controls=False, shares=schedule_shares(generator))
    assert +Calls(with_hold.calls) == +expected.calls


@pytest.mark.parametrize("climb", ("denoiser-free", "full"))
def test_smoothing_changes_the_later_steps_only(
    climb: str, generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    plain = dataclasses.replace(CLIMB, climb=climb, every=2)
    smooth = dataclasses.replace(plain, adam=True)
    a, b = (
        generate_images(generator, target, g, request_of_three, controls=False).trace for g in (plain, smooth)
    )
    assert a[0]["level"] == b[0]["level"] and a[-1]["level"] != b[-1]["level"]


def test_search_that_prunes_takes_the_climbs_memory_along(generator: Generator, target: Target) -> None:
    guidance = dataclasses.replace(CLIMB, search="halving", candidates=4, hold=True, adam=True)
    both = GenerateRequest(("a photo of a stop sign",) * 2, (0, 0), (5, 6))
    alone = GenerateRequest(both.prompts[1:], both.labels[1:], both.seeds[1:])
    images = generate_images(generator, target, guidance, both, controls=False).images
    assert (images[1] == generate_images(generator, target, guidance, alone, controls=False).images[0]).all()


@pytest.mark.parametrize("sampler", ("default", "fast", "dpm++", "unipc", "flow euler"))
def test_without_weight_every_sampler_gives_its_unguided_images_bit_for_bit(
    sampler: str, generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance = dataclasses.replace(CLIMB, sampler=sampler, hold=True, adam=True)
    swept = dataclasses.replace(request_of_three, weights=(0.0, 0.0, 1.0))
    made = generate_images(generator, target, guidance, swept)
    assert made.controls is not None
    assert (made.images[:2] == made.controls[:2]).all() and (made.images[2] != made.controls[2]).any()
    still = generate_images(generator, target, dataclasses.replace(guidance, weight=0.0), request_of_three)
    assert (still.images == made.controls).all()


def test_a_sampler_that_does_not_fit_is_refused_before_anything_is_computed(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    before = Calls(generator.calls)
    with pytest.raises(UnsupportedError, match="choose default or quality"):
        generate_images(generator, target, dataclasses.replace(CLIMB, sampler="ddim"), request_of_three)
    assert generator.calls == before
