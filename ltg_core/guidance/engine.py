"""One guided generation: controls, search, the guided pass, the final decode and the final score."""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ltg_core.errors import InputError
from ltg_core.generators.base import Calls, Condition, Denoise, Generator, in_chunks
from ltg_core.generators.judge import Judge
from ltg_core.generators.memory import shrinking
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance import search
from ltg_core.guidance.climb import Trace, climb
from ltg_core.guidance.cost import LOOK, batch_cost, steps_from
from ltg_core.guidance.criterion import Criterion
from ltg_core.guidance.feedback import feedback
from ltg_core.guidance.objective import Levels, Objective
from ltg_core.guidance.resembling import resembled, start_from
from ltg_core.guidance.settings import STAGES, Guidance
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.signals import SIGNALS
from ltg_core.signals.reference import Reference
from ltg_core.types import Images, Labels, Latents

log = logging.getLogger(__name__)

DRAFT_SHIFT = 2.0
"""Drafts have few steps: those where the content is decided (docs/design.md)."""


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
        like: (B, 3, H, W) real images to resemble, at the generator's size, or None; the settings say how.
        weights: Strength of the climb of each image, or None for that of the settings. Images of one seed, prompt
            and class share their search, so that a sweep differs in nothing but the weight.
    """

    prompts: tuple[str, ...]
    labels: tuple[int, ...]
    seeds: tuple[int, ...]
    negative: str = ""
    sources: Images | None = None
    weights: tuple[float, ...] | None = None
    like: Images | None = None

    def __post_init__(self) -> None:
        sizes = {len(self.prompts), len(self.labels), len(self.seeds)}
        given = (self.sources, self.like, self.weights)
        sizes |= {len(values) for values in given if values is not None}
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
        looks: One entry a look: "stage" (of ``STAGES``), "step" (from 1), "of" and "level", the signal of the clean
            estimates as standard scores (audit heads), one an image; the first eight images, and only where somebody
            is told of progress.
        calls: Network calls of everything but the controls.
        calls_control: Network calls of the controls.
        seconds: Wall time.
        chunk: Rows of every network call that these images were made with.
        notes: What happened on the way, in words.
    """

    images: np.ndarray
    controls: np.ndarray | None
    signal: np.ndarray
    signal_control: np.ndarray | None
    percentile: np.ndarray
    percentile_control: np.ndarray | None
    chosen: list[int]
    trace: Trace
    looks: list[dict[str, Any]]
    calls: dict[str, int]
    calls_control: dict[str, int]
    seconds: float
    chunk: int
    notes: list[str]


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

    When memory runs out, everything begins again with half as many rows in every network call; the result says so.

    Raises:
        Cancelled: On request, at the next step.
        InputError: Settings that do not fit each other.
        ModelError: There is not enough memory for one image.
    """
    started, notes = time.monotonic(), list[str]()
    token = cancel or CancelToken()

    def say(text: str) -> None:
        if text in notes:
            return
        notes.append(text)
        log.warning("%s: %s", generator.name, text)
        on_progress(Progress(0, 1, text))

    result = shrinking(
        generator,
        lambda: _generate(generator, target, guidance, request, controls, on_progress, token, say),
        say,
    )
    return dataclasses.replace(result, seconds=time.monotonic() - started, chunk=generator.chunk, notes=notes)


def _generate(
    generator: Generator,
    target: Target,
    guidance: Guidance,
    request: GenerateRequest,
    controls: bool,
    on_progress: ProgressFn,
    cancel: CancelToken,
    say: Callable[[str], None],
) -> GenerateResult:
    session = _Session(generator, target, guidance, request, controls, on_progress, cancel, say)
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
        looks=session.looks,
        calls=spent,
        calls_control=control_calls,
        seconds=0.0,
        chunk=generator.chunk,
        notes=[],
    )


class _Session:
    """The state of one call of `generate_images`."""

    def __init__(
        self,
        generator: Generator,
        target: Target,
        guidance: Guidance,
        request: GenerateRequest,
        controls: bool,
        on_progress: ProgressFn,
        cancel: CancelToken,
        say: Callable[[str], None],
    ) -> None:
        self.generator, self.target, self.guidance, self.request = generator, target, guidance, request
        self.on_progress, self.cancel, self.say = on_progress, cancel, say
        self.labels: Labels = torch.tensor(request.labels)
        self.seeds = list(request.seeds)
        like = resembled(
            generator, guidance, request.like, request.seeds, from_source=request.sources is not None, say=say
        )
        began = like is not None and like.by == "start"
        self.condition = generator.condition(
            request.prompts, request.negative, guidance.cfg, guidance.cfg_below, None if began else like
        )
        self.source = generator.encode(request.sources) if request.sources is not None else None
        if like is not None and began:
            self.source = start_from(generator, like)
        self.weights = None if request.weights is None else torch.tensor(request.weights)
        self._signal = SIGNALS[guidance.signal]()
        self._levels = Levels(target.reference, guidance.signal, "audit")
        self.trace: Trace = []
        self.looks: list[dict[str, Any]] = []
        self.stage = "control"
        self.preview: np.ndarray | None = None
        self.done = 0
        self.total = batch_cost(
            guidance, len(self.seeds), controls=controls, from_source=self.source is not None
        ).steps

    def objective(self, group: str) -> Objective:
        return Objective(
            self.target.classifier,
            self.target.reference,
            self.guidance,
            self.target.judge,
            group=group,
            calls=self.generator.calls,
        )

    def criterion(self) -> Criterion:
        """What feedback-guided synthesis ascends."""
        repeats, generator = self.guidance.repeats, self.generator
        if "epsilon" in repeats and generator.schedule(2).prediction == "flow_prediction":
            self.say(
                "the model predicts a flow, which the released code does not know: its own estimate is used"
            )
        return Criterion(
            self.target.classifier,
            self.target.reference,
            self.guidance.criterion,
            generator.calls,
            stretched="stretched" in repeats,
            unresized=generator.image_size if "unresized" in repeats else 0,
            say=self.say,
        )

    @torch.no_grad()
    def decode(self, latents: Latents) -> Images:
        return self.generator.chunked(self.generator.decode, latents).clamp(0, 1)

    def unguided(self) -> Latents:
        """The control: every seed's own noise, no guidance."""
        schedule = self.generator.schedule(self.guidance.steps, self.guidance.sampler)
        denoise = self.generator.denoiser(schedule, self.condition)
        noise = self.generator.noise(self.seeds)
        latents, _ = self._run(denoise, schedule, noise, self.seeds, self.source)
        return latents

    def guided(self) -> tuple[Latents, list[int]]:
        """Search, then the guided pass."""
        guidance, count = self.guidance, len(self.seeds)
        score = search.scorer(self.generator, self.objective(guidance.search_group))
        if guidance.searches and guidance.search != "lookahead":
            return self._search_inside(score)
        noise, candidate = self.generator.noise(self.seeds), torch.zeros(count, dtype=torch.long)
        if guidance.searches:
            noise, candidate = self._lookahead(score)
        self.stage = "guided"
        schedule = self.generator.schedule(guidance.steps, guidance.sampler)
        denoise = self._guide(
            self.generator.denoiser(schedule, self.condition),
            schedule,
            self.condition,
            self.labels,
            self.weights,
        )
        pairs = zip(self.seeds, candidate.tolist(), strict=True)
        seeds = [search.candidate_seed(seed, number) for seed, number in pairs]
        latents, _ = self._run(denoise, schedule, noise, seeds, self.source)
        return latents, candidate.tolist()

    def _lookahead(self, score: search.Score) -> tuple[Latents, torch.Tensor]:
        """The noise that the drafts speak for; images that differ in their weight only are searched once."""
        own = list(zip(self.seeds, self.request.prompts, self.request.labels, strict=True))
        keys = list(dict.fromkeys(own)) if self.weights is not None else own
        first = torch.tensor([own.index(key) for key in keys]) if self.weights is not None else None
        rows = torch.arange(len(own)) if first is None else first
        noise, candidate = search.lookahead(
            self.generator,
            score,
            self.condition.take(rows),
            self.labels[rows],
            [self.seeds[row] for row in rows.tolist()],
            self.guidance,
            functools.partial(self._draft, rows),
        )
        if first is None:
            return noise, candidate
        back = torch.tensor([keys.index(key) for key in own])
        return noise[back], candidate[back]

    def _guide(
        self,
        denoise: Denoise,
        schedule: Schedule,
        condition: Condition,
        labels: Labels,
        weights: torch.Tensor | None,
    ) -> Denoise:
        guidance = self.guidance
        if not guidance.climbs:
            return denoise
        if guidance.climb == "feedback":
            return feedback(
                denoise, self.generator, schedule, condition, self.criterion(), labels, guidance, self.trace
            )
        objective = self.objective("guide")
        return climb(denoise, self.generator, schedule, objective, labels, guidance, self.trace, weights)

    @torch.no_grad()
    def _draft(
        self, rows: torch.Tensor, noise: Latents, seeds: Sequence[int], condition: Condition, steps: int
    ) -> Latents:
        self.stage = "draft" if steps == self.guidance.draft_steps else "second"
        schedule = self.generator.schedule(steps, self.generator.draft_sampler, DRAFT_SHIFT)
        source = None
        if self.source is not None:
            source = self.source[rows].repeat_interleave(len(noise) // len(rows), dim=0)
        latents, _ = self._run(self.generator.denoiser(schedule, condition), schedule, noise, seeds, source)
        return latents

    def _search_inside(self, score: search.Score) -> tuple[Latents, list[int]]:
        """Halving, particles, best of n: the groups live inside the sampling loop and shrink."""
        guidance = self.guidance
        groups = search.start_groups(len(self.seeds), guidance.candidates)
        seeds = groups.seeds(self.seeds)
        z = self.generator.noise(seeds)
        source = None if self.source is None else self.source[groups.image]
        schedule = self.generator.schedule(guidance.steps, guidance.sampler)
        z, first = self._start(schedule, z, source)
        schedule.begin(first)
        schedule.seed(seeds, self.generator.latent_shape)
        plan = search.pruning_plan(guidance, guidance.steps)
        previous: torch.Tensor | None = None

        def guided(groups: search.Groups) -> Denoise:
            condition, labels = self.condition.take(groups.image), self.labels[groups.image]
            weights = None if self.weights is None else self.weights[groups.image]
            return self._guide(
                self.generator.denoiser(schedule, condition), schedule, condition, labels, weights
            )

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
            self._tick(estimate.clean, schedule, index, first)
        if plan.get(guidance.steps) == 1 or len(z) > len(self.seeds):
            total = score(z, self.labels[groups.image]).total
            rows = search.choose(total, groups, 1, self.seeds, guidance.diversity)
            z, groups = z[rows], groups.take(rows)
        return z, groups.candidate.tolist()

    def _start(self, schedule: Schedule, noise: Latents, source: Latents | None) -> tuple[Latents, int]:
        if source is None:
            return noise * schedule.start_scale, 0
        first = steps_from(self.guidance.strength, len(schedule), True).start
        return schedule.add_noise(source, noise, first), first

    def _run(
        self,
        denoise: Denoise,
        schedule: Schedule,
        noise: Latents,
        seeds: Sequence[int],
        source: Latents | None,
    ) -> tuple[Latents, int]:
        """The sampler: it never learns that guidance exists."""
        z, first = self._start(schedule, noise, source)
        schedule.begin(first)
        schedule.seed(seeds, self.generator.latent_shape)
        with torch.no_grad():
            for index in range(first, len(schedule)):
                estimate = denoise(z, index)
                z = schedule.step(estimate.output, index, z if estimate.start is None else estimate.start)
                self._tick(estimate.clean, schedule, index, first)
        return z, first

    def _tick(self, clean: Latents, schedule: Schedule, index: int, first: int) -> None:
        self.cancel.check()
        self.done += 1
        step, of = index - first + 1, len(schedule) - first
        if self.on_progress is not no_progress and (step % LOOK == 0 or step in (1, of)):
            self._look(clean, step, of)
        what = f"{STAGES[self.stage]}, step {step} of {of}"
        self.on_progress(Progress(min(self.done, self.total), max(self.total, self.done), what, self.preview))

    @torch.no_grad()
    def _look(self, clean: Latents, step: int, of: int) -> None:
        """The clean estimate of each image (of its first candidate) as a picture, and its signal."""
        count = min(8, len(self.seeds))
        rows = clean[:: max(1, len(clean) // len(self.seeds))][:count]
        calls = Calls(self.generator.calls)
        images = self.generator.chunked(lambda z: self.generator.decode(z, tiny=True), rows).clamp(0, 1)
        raw = in_chunks(self._raw, images, self.labels[:count])
        self.generator.calls.clear()
        self.generator.calls.update(calls)  # looking does not count as computing
        level = [round(float(v), 4) for v in self._levels(raw)]
        self.preview = to_uint8(images)
        self.looks.append({"stage": self.stage, "step": step, "of": of, "level": level})

    def _raw(self, x: Images, y: Labels) -> torch.Tensor:
        return self._signal(self.target.classifier.forward(x), self.target.reference, y, "audit")

    @torch.no_grad()
    def final_score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The signal on the finished 8-bit images, read on the audit heads, and its percentile."""
        values = in_chunks(self._raw, from_uint8(images), self.labels)
        percentile = self.target.reference.percentile(self.guidance.signal, values, "audit")
        return values.numpy(), percentile.numpy()


def to_uint8(images: Images) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8, rounded."""
    array: np.ndarray = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array


def from_uint8(images: np.ndarray | Sequence[np.ndarray]) -> Images:
    """(B, H, W, 3) uint8 to (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(np.asarray(images))).permute(0, 3, 1, 2).float() / 255
