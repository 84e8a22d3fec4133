"""The schedule: the affine clean estimate against the schedulers' own conversion, pruning, noising."""

from __future__ import annotations

import diffusers
import pytest
import torch

from ltg_core.errors import InputError, UnsupportedError
from ltg_core.generators.schedule import Schedule

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def vp(name: str, prediction: str) -> Schedule:
    scheduler = diffusers.DDIMScheduler(**BETAS, prediction_type=prediction, clip_sample=False)
    return Schedule(scheduler, 10, name)


@pytest.mark.parametrize("name", ["ddim", "dpm++", "unipc", "euler"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_affine_form_recovers_the_clean_latent_from_a_perfect_network(name: str, prediction: str) -> None:
    schedule = vp(name, prediction)
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 4, 8, 8, generator=rng)
    for index in (0, 4, 8):
        noisy = schedule.add_noise(clean, noise, index)
        sigma = schedule.noise_amplitude(index)
        alpha = (1 - sigma**2) ** 0.5
        output = {"epsilon": noise, "v_prediction": alpha * noise - sigma * clean, "sample": clean}[
            prediction
        ]
        a, b = schedule.affine(index)
        torch.testing.assert_close(a * noisy + b * output, clean, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["default", "dpm++", "unipc", "flow euler"])
def test_a_flow_model_gives_the_same_clean_latent(name: str) -> None:
    own = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    schedule = Schedule(own, 8, name)
    rng = torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 4, 8, 8, generator=rng)
    for index in (0, 3, 7):
        a, b = schedule.affine(index)
        noisy = schedule.add_noise(clean, noise, index)
        torch.testing.assert_close(a * noisy + b * (noise - clean), clean, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["default", "unipc", "flow euler"])
def test_a_perfect_flow_network_leads_every_sampler_to_the_clean_latent(name: str) -> None:
    own = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    schedule = Schedule(own, 12, name)
    rng = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 4, 4, 4, generator=rng), torch.randn(2, 4, 4, 4, generator=rng)
    z = noise * schedule.start_scale
    for index in range(len(schedule)):
        a, b = schedule.affine(index)
        z = schedule.step((clean - a * z) / b, index, z)
    torch.testing.assert_close(z, clean, atol=1e-3, rtol=1e-3)


def test_pruning_the_history_gives_the_rows_that_a_smaller_batch_would_have() -> None:
    own = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    rng = torch.Generator().manual_seed(2)
    z = torch.randn(4, 4, 4, 4, generator=rng)
    outputs = torch.randn(6, 4, 4, 4, 4, generator=rng)
    rows = torch.tensor([2, 0])
    whole, pruned = Schedule(own, 6), Schedule(own, 6)
    a, b = z, z[rows]
    for index in range(6):
        a = whole.step(outputs[index], index, a)
        if index < 2:
            continue
    c = z
    for index in range(6):
        if index == 3:
            pruned.take(rows)
            c = c[rows]
        c = pruned.step(outputs[index][rows] if index >= 3 else outputs[index], index, c)
    assert torch.equal(c, a[rows])
    assert b.shape == c.shape


def test_unknown_and_unfit_samplers_are_refused_with_a_reason() -> None:
    flow = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(InputError, match="no sampler"):
        Schedule(flow, 4, "magic")
    with pytest.raises(UnsupportedError, match="flow"):
        Schedule(flow, 4, "ddim")
    with pytest.raises(UnsupportedError, match="epsilon"):
        vp("flow euler", "epsilon")


@pytest.mark.parametrize("name", ["default", "dpm++", "unipc", "flow euler"])
def test_a_shift_spends_the_steps_on_high_noise(name: str) -> None:
    own = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    plain, shifted = Schedule(own, 4, name), Schedule(own, 4, name, 3.0)
    for index in (1, 2, 3):
        s = plain.noise_share(index)
        assert shifted.noise_share(index) == pytest.approx(3 * s / (1 + 2 * s), abs=0.01)
    assert own.config.flow_shift == 1.0


def test_a_shift_leaves_the_noise_levels_of_other_models() -> None:
    scheduler = diffusers.DDIMScheduler(**BETAS, prediction_type="epsilon", clip_sample=False)
    plain, shifted = Schedule(scheduler, 6, "unipc"), Schedule(scheduler, 6, "unipc", 3.0)
    assert [plain.noise_share(i) for i in range(6)] == [shifted.noise_share(i) for i in range(6)]
