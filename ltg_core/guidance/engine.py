"""One guided generation: controls, search, the guided pass, the final decode and the final score."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
import torch

from ltg_core.errors import InputError
from ltg_core.generators.base import Calls, Condition, Denoise, Generator, in_chunks
from ltg_core.generators.judge import Judge
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance import search
from ltg_core.guidance.climb import Trace, climb
from ltg_core.guidance.feedback import feedback
from ltg_core.guidance.objective import Objective
from ltg_core.guidance.settings import Guidance
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.signals import SIGNALS
from ltg_core.signals.reference import Reference
from ltg_core.types import Images, Labels, Latents

DRAFT_SAMPLER, DRAFT_SHIFT = "unipc", 2.0
"""Drafts have few steps: a solver of higher order, and the steps where the content is decided (docs/design.md)."""


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """What guidance works against: the classifier under test, its reference on real data, an independent judge."""

    classifier: Classifier
    reference: Reference
    judge: Judge | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class GenerateRequest:
    """Images to make.

    Attributes:
        prompts: One an image.
        labels: Intended class index of each.
        seeds: One an image; the same seed gives the same image, alone or in any batch.
        negative: What no image should show.
        sources: (B, 3, H, W) real images to start from (counterfactuals), or None.
    """

    prompts: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    negative: str = ""
    sources: Images | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.prompts), len(self.labels), len(self.seeds)}
        sizes |= {len(self.sources)} if self.sources is not None else set()
        if len(sizes) != 1 or 0 in sizes:
            raise InputError(
                f"{len(self.prompts)} prompts, {len(self.labels)} labels and {len(self.seeds)} seeds; "
                "give one of each for every image, and at least one image"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class GenerateResult:
    """Finished images and what they cost.

    Attributes:
        images: (B, H, W, 3) uint8, full decoder.
        controls: The same without guidance, or None where no control was asked for.
        signal: (B,) the signal under the full decoder, audit heads.
        signal_control: Likewise of the controls.
        percentile: Of ``signal`` among held-out real data.
        percentile_control: Likewise of the controls.
        chosen: (B,) which candidate was taken.
        trace: One entry a guided step.
        calls: Network calls of everything but the controls.
        calls_control: Network calls of the controls.
        seconds: Wall time.
    """

    images: np.ndarray
    controls: np.ndarray | None
    signal: np.ndarray
    signal_control: np.ndarray | None
    percentile: np.ndarray
    percentile_control: np.ndarray | None
    chosen: list[int]
    trace: Trace
    calls: dict[str, int]
    calls_control: dict[str, int]
    seconds: float


def generate_images(
    generator: Generator,
    target: Target,
    guidance: Guidance,
    request: GenerateRequest,
    *,
    controls: bool = True,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> GenerateResult:
    """Generate guided images with their matched controls.

    Args:
        generator: The frozen diffusion model.
        target: Classifier, reference, judge.
        guidance: All settings.
        request: Prompts, classes, seeds.
        controls: Whether to make the unguided image of every seed as well.
        on_progress: Told after every denoising step; ``preview`` is uint8 (n, H, W, 3), the current clean estimates.
        cancel: Checked at every denoising step.

    Raises:
        Cancelled: On request, at the next step.
        InputError: Settings that do not fit each other.
    """
    started = time.monotonic()
    session = _Session(generator, target, guidance, request, on_progress, cancel or CancelToken())
    control: Latents | None = None
    before = Calls(generator.calls)
    if controls:
        session.stage = "control"
        control = session.unguided()
    control_images = to_uint8(session.decode(control)) if control is not None else None
    control_calls = dict(generator.calls - before)
    before = Calls(generator.calls)
    if guidance.searches or guidance.climbs or control is None:
        session.stage = "guided"
        latents, chosen = session.guided()
        images = to_uint8(session.decode(latents))
    else:
        assert control_images is not None
        images, chosen = control_images, [0] * len(request.seeds)
    spent = dict(generator.calls - before)
    signal, percentile = session.final_score(images)
    signal_c, percentile_c = (
        session.final_score(control_images) if control_images is not None else (None, None)
    )
    return GenerateResult(
        images=images,
        controls=control_images,
        signal=signal,
        signal_control=signal_c,
        percentile=percentile,
        percentile_control=percentile_c,
        chosen=chosen,
        trace=session.trace,
        calls=spent,
        calls_control=control_calls,
        seconds=time.monotonic() - started,
    )


class _Session:
    """The state of one call of `generate_images`."""

    def __init__(
        self,
        generator: Generator,
        target: Target,
        guidance: Guidance,
        request: GenerateRequest,
        on_progress: ProgressFn,
        cancel: CancelToken,
    ) -> None:
        self.generator, self.target, self.guidance, self.request = generator, target, guidance, request
        self.on_progress, self.cancel = on_progress, cancel
        self.labels: Labels = torch.tensor(request.labels)
        self.seeds = list(request.seeds)
        self.condition = generator.condition(request.prompts, request.negative, guidance.cfg)
        self.source = generator.encode(request.sources) if request.sources is not None else None
        self.trace: Trace = []
        self.stage = ""
        self.done, self.total = 0, self._count_steps()

    def _count_steps(self) -> int:
        guidance = self.guidance
        steps = 2 * guidance.steps if guidance.searches or guidance.climbs else guidance.steps
        if guidance.search == "lookahead" and guidance.searches:
            steps += guidance.draft_steps * (3 if guidance.survivors > 1 else 1)
        return steps

    def objective(self, group: str, *, signal: str | None = None, plain: bool = False) -> Objective:
        guidance = self.guidance if signal is None else dataclasses.replace(self.guidance, signal=signal)
        if plain:
            guidance = dataclasses.replace(guidance, realism=0.0, augment=False)
        judge = None if plain else self.target.judge
        return Objective(
            self.target.classifier,
            self.target.reference,
            guidance,
            judge,
            group=group,
            calls=self.generator.calls,
        )

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        return in_chunks(self.generator.decode, latents).clamp(0, 1)

    def unguided(self) -> Latents:
        """The control: every seed's own noise, no guidance."""
        schedule = self.generator.schedule(self.guidance.steps, self.guidance.sampler)
        denoise = self.generator.denoiser(schedule, self.condition)
        latents, _ = self._run(denoise, schedule, self.generator.noise(self.seeds), self.source)
        return latents

    def guided(self) -> tuple[Latents, list[int]]:
        """Search, then the guided pass."""
        guidance, count = self.guidance, len(self.seeds)
        score = search.scorer(self.generator, self.objective(guidance.search_group))
        if guidance.searches and guidance.search != "lookahead":
            return self._search_inside(score)
        noise, candidate = self.generator.noise(self.seeds), torch.zeros(count, dtype=torch.long)
        if guidance.searches:
            noise, candidate = search.lookahead(
                self.generator, score, self.condition, self.labels, self.seeds, guidance, self._draft
            )
        schedule = self.generator.schedule(guidance.steps, guidance.sampler)
        denoise = self._guide(
            self.generator.denoiser(schedule, self.condition), schedule, self.condition, self.labels
        )
        latents, _ = self._run(denoise, schedule, noise, self.source)
        return latents, candidate.tolist()

    def _guide(self, denoise: Denoise, schedule: Schedule, condition: Condition, labels: Labels) -> Denoise:
        guidance = self.guidance
        if not guidance.climbs:
            return denoise
        if guidance.climb == "feedback":
            objective = self.objective("guide", signal=guidance.criterion, plain=True)
            return feedback(
                denoise, self.generator, schedule, condition, objective, labels, guidance, self.trace
            )
        objective = self.objective("guide")
        return climb(denoise, self.generator, schedule, objective, labels, guidance, self.trace)

    @torch.no_grad()
    def _draft(self, noise: Latents, condition: Condition, steps: int) -> Latents:
        schedule = self.generator.schedule(steps, DRAFT_SAMPLER, DRAFT_SHIFT)
        source = None
        if self.source is not None:
            source = self.source.repeat_interleave(len(noise) // len(self.source), dim=0)
        latents, _ = self._run(self.generator.denoiser(schedule, condition), schedule, noise, source)
        return latents

    def _search_inside(self, score: search.Score) -> tuple[Latents, list[int]]:
        """Halving, particles, best of n: the groups live inside the sampling loop and shrink."""
        guidance = self.guidance
        groups = search.start_groups(len(self.seeds), guidance.candidates)
        seeds = [
            search.candidate_seed(self.seeds[i], int(k))
            for i, k in zip(groups.image.tolist(), groups.candidate.tolist(), strict=True)
        ]
        z = self.generator.noise(seeds)
        source = None if self.source is None else self.source[groups.image]
        schedule = self.generator.schedule(guidance.steps, guidance.sampler)
        z, first = self._start(schedule, z, source)
        schedule.begin(first)
        plan = search.pruning_plan(guidance, guidance.steps)
        previous: torch.Tensor | None = None

        def guided(groups: search.Groups) -> Denoise:
            condition, labels = self.condition.take(groups.image), self.labels[groups.image]
            return self._guide(self.generator.denoiser(schedule, condition), schedule, condition, labels)

        denoise = guided(groups)
        for index in range(first, guidance.steps):
            with torch.no_grad():
                estimate = denoise(z, index)
                if index in plan:
                    total = score(estimate.clean, self.labels[groups.image]).total
                    if guidance.search == "particles":
                        gain = total if previous is None else total - previous
                        rows = search.resample(gain, groups, self.seeds, index)
                    else:
                        rows = search.choose(total, groups, plan[index], self.seeds)
                    previous = total[rows]
                    groups = groups.take(rows)
                    schedule.take(rows)
                    z, estimate = (
                        z[rows],
                        estimate._replace(
                            clean=estimate.clean[rows], output=estimate.output[rows], gap=estimate.gap[rows]
                        ),
                    )
                    denoise = guided(groups)
                z = schedule.step(estimate.output, index, z if estimate.start is None else estimate.start)
            self._tick(estimate.clean, groups)
        if plan.get(guidance.steps) == 1 or len(z) > len(self.seeds):
            total = score(z, self.labels[groups.image]).total
            rows = search.choose(total, groups, 1, self.seeds, guidance.diversity)
            z, groups = z[rows], groups.take(rows)
        return z, groups.candidate.tolist()

    def _start(self, schedule: Schedule, noise: Latents, source: Latents | None) -> tuple[Latents, int]:
        if source is None:
            return noise * schedule.start_scale, 0
        first = min(len(schedule) - 1, round((1 - self.guidance.strength) * len(schedule)))
        return schedule.add_noise(source, noise, first), first

    def _run(
        self, denoise: Denoise, schedule: Schedule, noise: Latents, source: Latents | None
    ) -> tuple[Latents, int]:
        """The sampler: it never learns that guidance exists."""
        z, first = self._start(schedule, noise, source)
        schedule.begin(first)
        with torch.no_grad():
            for index in range(first, len(schedule)):
                estimate = denoise(z, index)
                z = schedule.step(estimate.output, index, z if estimate.start is None else estimate.start)
                self._tick(estimate.clean, None)
        return z, first

    def _tick(self, clean: Latents, groups: search.Groups | None) -> None:
        self.cancel.check()
        self.done += 1
        preview = None
        if self.on_progress is not no_progress:
            rows = clean[:: max(1, len(clean) // len(self.seeds))][: min(8, len(self.seeds))]
            calls = Calls(self.generator.calls)
            preview = to_uint8(in_chunks(lambda z: self.generator.decode(z, tiny=True), rows))
            self.generator.calls.clear()
            self.generator.calls.update(calls)  # looking does not count as computing
        what = {"control": "unguided controls", "guided": "guided images"}[self.stage]
        self.on_progress(Progress(min(self.done, self.total), max(self.total, self.done), what, preview))

    @torch.no_grad()
    def final_score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The signal on the finished 8-bit images, read on the audit heads, and its percentile."""
        name = self.guidance.signal
        signal, reference = SIGNALS[name](), self.target.reference

        def one(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return signal(self.target.classifier.forward(x), reference, y, "audit")

        values = in_chunks(one, from_uint8(images), self.labels)
        return values.numpy(), reference.percentile(name, values, "audit").numpy()


def to_uint8(images: Images) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8, rounded."""
    array: np.ndarray = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def from_uint8(images: np.ndarray | Sequence[np.ndarray]) -> Images:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(images))).permute(0, 3, 1, 2).float() / 255
