"""Samplers by name: which fit a model, and what happens to those that do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from ltg_core.errors import InputError, ParamError, UnsupportedError
from ltg_core.generators.loading import load_generator
from ltg_core.generators.samplers import CHOICES, PACES, SAMPLERS, fitting, solver_of
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance.settings import Guidance
from ltg_core.params import specs

VP = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOW = ("default", "quality", "balanced", "fast", "dpm++", "unipc", "flow euler")
NOISE = ("default", "quality", "balanced", "fast", "ddim", "dpm++", "unipc", "euler")
SCHEDULERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "noise": (diffusers.DDIMScheduler(**VP), NOISE),
    "velocity": (diffusers.DDIMScheduler(**VP, prediction_type="v_prediction"), NOISE),
    "flow": (diffusers.FlowMatchEulerDiscreteScheduler(), FLOW),
    "flow by another solver": (
        diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
        FLOW,
    ),
    "turbo": (
        diffusers.EulerDiscreteScheduler(**VP, timestep_spacing="trailing"),
        ("default", "ddim", "dpm++", "unipc", "euler"),
    ),
    "consistency": (diffusers.LCMScheduler(**VP), ("default",)),
    "no betas": (diffusers.EDMEulerScheduler(), ("default",)),
}


@pytest.mark.parametrize("name", list(SCHEDULERS))
def test_what_fits_makes_a_schedule_and_the_rest_is_refused_with_the_names_that_do(name: str) -> None:
    scheduler, expected = SCHEDULERS[name]
    assert fitting(scheduler) == expected
    for choice in CHOICES:
        if choice in expected:
            if name != "no betas":
                assert len(Schedule(scheduler, 4, choice)) == 4
            continue
        with pytest.raises(UnsupportedError, match="choose default") as refused:
            Schedule(scheduler, 4, choice)
        assert all(fit in str(refused.value) for fit in expected)


def test_a_pace_is_a_solver_with_its_own_number_of_steps() -> None:
    for name, pace in PACES.items():
        assert Guidance(sampler=name).steps == pace.steps == Guidance(sampler=name, steps=7).steps
        assert solver_of(name) == pace.solver in SAMPLERS
        assert Guidance.from_dict(Guidance(sampler=name).to_dict()) == Guidance(sampler=name)
    assert Guidance().sampler == "default" and Guidance().steps == 16
    assert Guidance(sampler="ddim", steps=7).steps == 7
    own = diffusers.DDIMScheduler(**VP, clip_sample=False)
    z, out = torch.randn(2, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    paced, solved = Schedule(own, 10, "fast"), Schedule(own, 10, PACES["fast"].solver)
    assert torch.equal(paced.step(out, 0, z), solved.step(out, 0, z))


def test_every_sampler_is_a_choice_of_the_page_and_of_the_command_line() -> None:
    (spec,) = (spec for spec in specs(Guidance) if spec.name == "sampler")
    assert spec.choices == CHOICES and set(CHOICES) == {*SAMPLERS, *PACES}
    with pytest.raises(ParamError, match="choose one of"):
        Guidance(sampler="magic")
    with pytest.raises(InputError, match="no sampler"):
        Schedule(SCHEDULERS["noise"][0], 4, "magic")


def test_a_generator_made_for_few_steps_offers_no_pace(model_folder: Callable[[str], Path]) -> None:
    assert not set(PACES) & set(load_generator(model_folder("flux schnell")).samplers)
    assert set(PACES) <= set(load_generator(model_folder("sdxl")).samplers)


def own(name: str) -> Any:
    """A scheduler that models come with and that is no choice by name."""
    return getattr(diffusers, name).from_config({**VP, "skip_prk_steps": True})


JUMPS: dict[str, tuple[Any, str]] = {
    **{f"{name}, flow": (SCHEDULERS["flow"][0], name) for name in ("unipc", "dpm++", "flow euler")},
    **{
        f"{name}, noise": (diffusers.DDIMScheduler(**VP, clip_sample=False), name)
        for name in ("unipc", "dpm++", "ddim", "euler")
    },
    **{name: (own(f"{name}Scheduler"), "default") for name in ("HeunDiscrete", "PNDM")},
}


@pytest.mark.parametrize("at", [1, 2, 5])
@pytest.mark.parametrize("name", list(JUMPS))
def test_a_jump_of_the_latent_arrives_whole(name: str, at: int) -> None:
    """Of a constant output all clean estimates A z + B out are the same; a jump moves later ones by A times itself."""
    rng = torch.Generator().manual_seed(3)
    noise, jump, output = (torch.randn(2, 4, 4, 4, generator=rng, dtype=torch.float64) for _ in range(3))
    ends = []
    for size in (0.0, 0.1):
        schedule = Schedule(JUMPS[name][0], 12, JUMPS[name][1])
        z = noise * schedule.start_scale
        for index in range(len(schedule) - 1):
            schedule.scaled(z, index)
            if index == at and size:
                schedule.moved(size * jump, index)
                z = z + size * jump
            z = schedule.step(output, index, z)
        a, b = schedule.affine(len(schedule) - 1)
        ends.append(a * z + b * output)
    torch.testing.assert_close(ends[1] - ends[0], schedule.affine(at)[0] * 0.1 * jump, rtol=1e-3, atol=1e-4)
