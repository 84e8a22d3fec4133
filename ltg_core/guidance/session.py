"""The state of one generation, and how search, climb and sampler work together in it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ltg_core.errors import UnsupportedError
from ltg_core.generators.base import Condition, Denoise, Estimate, Generator, in_chunks
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance import search
from ltg_core.guidance.climb import Memory, Trace, climb
from ltg_core.guidance.cost import batch_cost, steps_from
from ltg_core.guidance.criterion import Criterion
from ltg_core.guidance.feedback import feedback
from ltg_core.guidance.objective import Levels, Objective
from ltg_core.guidance.request import GenerateRequest, Target
from ltg_core.guidance.resembling import resembled, start_from
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.watching import Watch, from_uint8
from ltg_core.jobs import CancelToken, ProgressFn
from ltg_core.signals import SIGNALS
from ltg_core.types import Images, Labels, Latents

DRAFT_SHIFT = 2.0
"""Drafts have few steps: those where the content is decided (docs/design.md)."""


class Session:
    """The state of one generation: its condition, its watch, and the ways to its latents."""

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
        self.say = say
        if guidance.sampler not in generator.samplers:
            raise UnsupportedError(
                f"the sampler {guidance.sampler!r} does not fit {generator.name!r}; choose "
                f"{' or '.join(generator.samplers)}"
            )
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
        steps = batch_cost(
            guidance, len(self.seeds), controls=controls, from_source=self.source is not None
        ).steps
        self.watch = Watch(generator, self._level_of, self.labels, steps, on_progress, cancel)

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
        self.watch.stage = "guided"
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
        memory: Memory | None = None,
    ) -> Denoise:
        guidance = self.guidance
        if not guidance.climbs:
            return denoise
        if guidance.climb == "feedback":
            return feedback(
                denoise, self.generator, schedule, condition, self.criterion(), labels, guidance, self.trace
            )
        objective = self.objective("guide")
        return climb(
            *(denoise, self.generator, schedule, condition, objective, labels, guidance),
            *(self.trace, weights, memory),
        )

    @torch.no_grad()
    def _draft(
        self, rows: torch.Tensor, noise: Latents, seeds: Sequence[int], condition: Condition, steps: int
    ) -> Latents:
        self.watch.stage = "draft" if steps == self.guidance.draft_steps else "second"
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
        memory = Memory()

        def guided(groups: search.Groups) -> Denoise:
            condition, labels = self.condition.take(groups.image), self.labels[groups.image]
            weights = None if self.weights is None else self.weights[groups.image]
            return self._guide(
                self.generator.denoiser(schedule, condition), schedule, condition, labels, weights, memory
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
                    memory.take(rows)
                    z, estimate = (
                        z[rows],
                        estimate.take(rows),
                    )
                    denoise = guided(groups)
                z = _advanced(schedule, estimate, index, z)
            self.watch.tick(estimate.clean, schedule, index, first)
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
                z = _advanced(schedule, estimate, index, z)
                self.watch.tick(estimate.clean, schedule, index, first)
        return z, first

    def _level_of(self, images: Images, labels: Labels) -> torch.Tensor:
        return self._levels(in_chunks(self._raw, images, labels))

    def _raw(self, x: Images, y: Labels) -> torch.Tensor:
        out = self.target.classifier.forward(x)
        return self._signal(out, self.target.reference, y, "audit").to(x.device)

    @torch.no_grad()
    def final_score(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The signal on the finished 8-bit images, read on the audit heads, and its percentile."""
        values = in_chunks(self._raw, from_uint8(images), self.labels)
        percentile = self.target.reference.percentile(self.guidance.signal, values, "audit")
        return values.numpy(), percentile.numpy()


def _advanced(schedule: Schedule, estimate: Estimate, index: int, z: Latents) -> Latents:
    """The scheduler's step; where guidance has moved the latent, from there, and the solver is told."""
    if estimate.start is None:
        return schedule.step(estimate.output, index, z)
    schedule.moved(estimate.start - z, index)
    return schedule.step(estimate.output, index, estimate.start)
