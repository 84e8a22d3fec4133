"""Feedback-guided synthesis: its criteria, its step, what was mended and what can be had as released."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from ltg_core.errors import InputError
from ltg_core.generators.base import Calls, Denoise, Generator
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance.cost import batch_cost
from ltg_core.guidance.criterion import Criterion, at_side, stretch
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from ltg_core.guidance.feedback import feedback
from ltg_core.guidance.search import candidate_seed
from ltg_core.guidance.session import Session
from ltg_core.guidance.settings import CRITERIA, PRESETS, RELEASED, Guidance, feedback_guided
from ltg_core.guidance.timing import schedule_shares
from ltg_core.jobs import CancelToken, no_progress
from ltg_core.models.classifier import Classifier

QUICK = {"steps": 4, "every": 2, "like": "", "omega": 0.2}


def pictures(count: int, side: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def criterion(target: Target, name: str, **options: Any) -> Criterion:
    return Criterion(target.classifier, target.reference, name, Calls(), **options)


def test_the_criteria_are_loss_entropy_and_hardness(target: Target) -> None:
    """Against scipy: cross-entropy and entropy of the softmax, minus the log density of the class's Gaussian."""
    images, labels = pictures(5), torch.tensor([0, 1, 2, 0, 1])
    out = target.classifier.outputs(images)
    logits = out.logits.double().numpy()
    log_p = logits - scipy.special.logsumexp(logits, axis=1, keepdims=True)
    found = {name: criterion(target, name)(images, labels)[0].detach().numpy() for name in CRITERIA}
    np.testing.assert_allclose(found["loss"], -log_p[np.arange(5), labels], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["entropy"], scipy.stats.entropy(np.exp(log_p), axis=1), rtol=1e-4)
    reference = target.reference
    projected = reference.projection(out.features).double().numpy()
    gaussians = reference.gaussians
    for row, label in enumerate(labels.tolist()):
        factor = gaussians.factors[label].double().numpy()
        density = scipy.stats.multivariate_normal(gaussians.means[label].double().numpy(), factor @ factor.T)
        expected = -density.logpdf(projected[row]) + float(gaussians.log_volume)
        assert found["hardness"][row] == pytest.approx(expected, rel=1e-3)


def wrapped(
    generator: Generator, target: Target, guidance: Guidance, schedule: Schedule, trace: list[dict[str, Any]]
) -> tuple[Denoise, Denoise]:
    """The plain denoiser of two prompts, and the one with feedback."""
    condition = generator.condition(["a photo of a stop sign", "a photo of a yield sign"], "", 3.0)
    base = generator.denoiser(schedule, condition)
    labels, options = torch.tensor([0, 1]), {"stretched": "stretched" in guidance.repeats}
    climbs = criterion(target, guidance.criterion, **options)
    return base, feedback(base, generator, schedule, condition, climbs, labels, guidance, trace)


@pytest.mark.parametrize("name", CRITERIA)
def test_the_latent_is_shifted_along_the_gradient_by_its_own_norm(
    name: str, generator: Generator, target: Target
) -> None:
    guidance = dataclasses.replace(feedback_guided(name), **QUICK)
    schedule, trace, z = generator.schedule(4), [], generator.noise([3, 4])
    base, guided = wrapped(generator, target, guidance, schedule, trace)
    with torch.no_grad():
        estimate = guided(z, 0)
    assert estimate.start is not None and trace[0]["skipped"] == 0
    shift = (estimate.start - z).flatten(1)
    torch.testing.assert_close(shift.norm(dim=1), 0.2 * z.flatten(1).norm(dim=1), rtol=1e-4, atol=0)
    with torch.no_grad():  # the noise estimate is that of the shifted latent
        torch.testing.assert_close(estimate.output, base(estimate.start, 0).output, rtol=0, atol=0)
    # Along it the criterion of decode(s z0 + (1 - s) z) rises as autograd says: finite differences.
    condition = generator.condition(["a photo of a stop sign", "a photo of a yield sign"], "", 1.0)
    alone, climbs, s = (
        generator.denoiser(schedule, condition),
        criterion(target, name),
        schedule.noise_amplitude(0),
    )

    def value(at: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            mixed = s * alone(at, 0).clean + (1 - s) * at
            return climbs(generator.decode(mixed, tiny=True), torch.tensor([0, 1]))[0].double()

    direction = ((estimate.start - z) / shift.norm(dim=1).view(-1, 1, 1, 1)).detach()
    step = 0.05
    rise = (value(z + step * direction) - value(z - step * direction)) / (2 * step)
    assert (rise > 0).all()
    other = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    other = other / other.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    elsewhere = (value(z + step * other) - value(z - step * other)) / (2 * step)
    assert (rise > elsewhere.abs()).all()


def test_as_released_the_noise_estimate_is_that_of_before_the_shift(
    generator: Generator, target: Target
) -> None:
    guidance = dataclasses.replace(feedback_guided(), **QUICK, released="stale")
    schedule, z = generator.schedule(4), generator.noise([3, 4])
    base, guided = wrapped(generator, target, guidance, schedule, [])
    with torch.no_grad():
        estimate = guided(z, 0)
        torch.testing.assert_close(estimate.output, base(z, 0).output, rtol=0, atol=0)
    assert estimate.start is not None and not torch.equal(estimate.start, z)


def test_as_released_norms_are_those_of_the_batch(generator: Generator, target: Target) -> None:
    guidance = dataclasses.replace(feedback_guided("hardness"), **QUICK, released="coupled")
    schedule, z = generator.schedule(4), generator.noise([3, 4])
    _, guided = wrapped(generator, target, guidance, schedule, [])
    with torch.no_grad():
        start = guided(z, 0).start
    assert start is not None
    shift = start - z
    torch.testing.assert_close(shift.norm(), 0.2 * z.norm(), rtol=1e-4, atol=0)
    own = shift.flatten(1).norm(dim=1) / z.flatten(1).norm(dim=1)
    assert abs(float(own[0] - own[1])) > 0.01  # the harder image takes the larger part


def test_stretched_images_span_the_whole_range(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    images = 0.3 + 0.2 * pictures(3)
    images[2] = 0.4  # an even picture stays
    found = stretch(images)
    expected = [(x - x.min()) / (x.max() - x.min()) for x in images[:2]]
    torch.testing.assert_close(found, torch.stack([*expected, images[2]]))
    seen: list[torch.Tensor] = []
    forward = Classifier.forward
    monkeypatch.setattr(Classifier, "forward", lambda self, x: seen.append(x) or forward(self, x))
    labels = torch.tensor([0, 1, 2])
    criterion(target, "loss", stretched=True)(images, labels)
    criterion(target, "loss")(3 * images, labels)
    torch.testing.assert_close(seen[0], found)
    assert float(seen[1].min()) >= 0 and float(seen[1].max()) == 1.0  # mended: clamped


def test_an_image_may_be_shown_at_the_generators_size(target: Target) -> None:
    classifier, images, labels = target.classifier, pictures(2, 48), torch.tensor([0, 1])
    fit = classifier.preprocess
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (fit.mean, fit.std))
    with torch.no_grad():
        expected = torch.nn.functional.cross_entropy(
            classifier.net((images - mean) / std), labels, reduction="none"
        )
    found = criterion(target, "loss", unresized=48)(images, labels)[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    resized = criterion(target, "loss")(images, labels)[0]
    assert not torch.allclose(found, resized, rtol=1e-3)
    assert at_side(classifier, 48).net is classifier.net

    class Fixed(torch.nn.Module):  # takes one size only
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(3 * 32 * 32, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x.flatten(1))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        fixed = Classifier(Fixed(), classifier.labels, fit, name="fixed", arch="fixed")
    said: list[str] = []
    Criterion(fixed, target.reference, "loss", Calls(), unresized=48, say=said.append)
    assert len(said) == 1 and "resized for the classifier" in said[0]


def test_the_noise_formula_is_wrong_for_a_velocity_and_right_for_noise() -> None:
    import diffusers

    z, out = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0)).split(1)
    for prediction in ("epsilon", "v_prediction"):
        schedule = Schedule(diffusers.DDIMScheduler(prediction_type=prediction), 10)
        index = 4
        alpha = float(schedule.scheduler.alphas_cumprod[int(schedule.timesteps[index])])
        a, b = schedule.noise_affine(index)
        torch.testing.assert_close(a * z + b * out, (z - (1 - alpha) ** 0.5 * out) / alpha**0.5)
        same = schedule.affine(index) == pytest.approx((a, b))
        assert same == (prediction == "epsilon")


def test_as_released_an_image_depends_on_its_batch_and_on_nothing_else(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance = dataclasses.replace(PRESETS["feedback-guided, as released"], **QUICK)
    first, second = (generate_images(generator, target, guidance, request_of_three) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    one = GenerateRequest(request_of_three.prompts[1:2], (1,), (12,))
    alone = generate_images(generator, target, guidance, one)
    assert (alone.images[0] != first.images[1]).any()
    assert any("flow" in note for note in first.notes)
    mended = generate_images(generator, target, dataclasses.replace(guidance, released=""), request_of_three)
    assert (mended.images != first.images).any(axis=(1, 2, 3)).all() and not mended.notes


def test_both_presets_differ_in_the_defects_alone() -> None:
    mended, released = PRESETS["feedback-guided"], PRESETS["feedback-guided, as released"]
    assert set(released.differences(mended)) == {"released"}
    assert released.repeats == set(RELEASED) and not mended.repeats
    assert (mended.steps, mended.every, mended.omega, mended.like) == (30, 5, 0.03, "train")
    assert {feedback_guided(name).criterion for name in CRITERIA} == set(CRITERIA)
    with pytest.raises(InputError, match="no behaviour 'unseeded'"):
        Guidance(released="stale, unseeded")


def test_a_likeness_needs_real_images_and_leaves_an_image_its_own(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    guidance = dataclasses.replace(feedback_guided(), **{**QUICK, "like": "train"}, like_dropout=0.5)
    with pytest.raises(InputError, match="none were given"):
        generate_images(generator, target, guidance, request_of_three)
    alike = dataclasses.replace(request_of_three, like=pictures(3))
    three = generate_images(generator, target, guidance, alike)
    assert any(
        "start from them" in note for note in three.notes
    )  # this generator has neither adapter nor phrases
    shares = schedule_shares(generator)
    cost = batch_cost(guidance, 3, judge=target.judge is not None, from_source=True, shares=shares)
    assert +Calls(three.calls) == +cost.calls  # a start leaves out steps
    one = GenerateRequest(alike.prompts[1:2], (1,), (12,), like=pictures(3)[1:2])
    np.testing.assert_array_equal(
        generate_images(generator, target, guidance, one).images[0], three.images[1]
    )
    other = generate_images(generator, target, guidance, dataclasses.replace(alike, like=pictures(3, seed=9)))
    assert other.controls is not None and three.controls is not None
    assert (other.controls != three.controls).any(axis=(1, 2, 3)).all()
    dropped = dataclasses.replace(guidance, like_dropout=1.0)
    free = generate_images(generator, target, dataclasses.replace(guidance, like=""), request_of_three)
    np.testing.assert_array_equal(generate_images(generator, target, dropped, alike).images, free.images)
    with pytest.raises(InputError, match="cannot start from one"):
        generate_images(generator, target, guidance, dataclasses.replace(alike, sources=pictures(3)))


@pytest.mark.parametrize("released", ["", "stale"])
@pytest.mark.parametrize("sampler", ["unipc", "dpm++", "flow euler"])
def test_what_the_latent_is_shifted_by_reaches_the_end_whole(
    sampler: str,
    released: str,
    generator: Generator,
    target: Target,
    request_of_three: GenerateRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network whose output is constant leads every latent along a straight line, and each shift moves that line."""
    monkeypatch.setattr(type(generator), "predict", lambda self, z, *rest: torch.full_like(z, 0.3))
    settings = {**QUICK, "steps": 10, "every": 3, "sampler": sampler, "released": released}
    guidance = dataclasses.replace(feedback_guided(), **settings)
    session = Session(
        generator, target, guidance, request_of_three, False, no_progress, CancelToken(), lambda _: None
    )
    shifts: list[torch.Tensor] = []
    moved = Schedule.moved
    monkeypatch.setattr(
        Schedule, "moved", lambda self, shift, index: shifts.append(shift) or moved(self, shift, index)
    )
    guided, _ = session.guided()
    assert len(shifts) == 4
    torch.testing.assert_close(guided - session.unguided(), sum(shifts), rtol=1e-3, atol=1e-4)


def test_search_that_prunes_takes_the_shifted_latent_along(
    generator: Generator, target: Target, request_of_three: GenerateRequest
) -> None:
    alone = dataclasses.replace(feedback_guided(), **{**QUICK, "every": 1})
    guidance = dataclasses.replace(alone, search="halving", candidates=4)
    found = generate_images(generator, target, guidance, request_of_three, controls=False)
    seeds = tuple(candidate_seed(s, n) for s, n in zip(request_of_three.seeds, found.chosen, strict=True))
    own = dataclasses.replace(request_of_three, seeds=seeds)
    np.testing.assert_array_equal(
        found.images, generate_images(generator, target, alone, own, controls=False).images
    )
