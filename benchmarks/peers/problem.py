"""What all modes are given: noise, denoiser, noise levels, the function to raise; and what their calls count as."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch

from ltg_core.generators.base import Condition, Generator
from ltg_core.guidance.engine import Target
from ltg_core.guidance.objective import Objective
from ltg_core.guidance.search import candidate_seed
from ltg_core.guidance.settings import Guidance

SOLVER = "dpm++"
"""The solver that `Problem.step` writes out, by the name under which ours has it."""
FLOOR = 0.05
"""Smallest alpha that is divided by: a flow begins at alpha = 0."""


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """Finished latents, and their images where the mode has decoded them already."""

    latents: torch.Tensor
    images: torch.Tensor | None = None


class Problem:
    """One batch of images to make: prompts, classes and seeds, on frozen models.

    The sampler of every mode is DPM-Solver++ of second order (Lu et al. 2022), written out here: unlike UniPC, whose corrector
    goes back to the latent before, it keeps what a mode adds to the latent between two steps.

    Args:
        generator: The frozen diffusion model.
        target: Classifier, reference, judge.
        guidance: Steps, guidance scale and the terms of the objective; search and climb are not read.
        prompts: One an image.
        labels: Intended classes.
        seeds: One an image.
    """

    def __init__(
        self,
        generator: Generator,
        target: Target,
        guidance: Guidance,
        prompts: Sequence[str],
        labels: Sequence[int],
        seeds: Sequence[int],
    ) -> None:
        self.generator, self.target, self.guidance = generator, target, guidance
        self.labels, self.seeds = torch.tensor(list(labels)), list(seeds)
        self._whole: Condition = generator.condition(list(prompts), "", guidance.cfg, guidance.cfg_below)
        self.rows = torch.arange(len(self.seeds))
        flow = generator.schedule(2).prediction == "flow_prediction"
        self._schedule = generator.schedule(guidance.steps, SOLVER)
        shares = [self._schedule.noise_share(i) for i in range(len(self._schedule))]
        sizes = [self._schedule.noise_amplitude(i) for i in range(len(self._schedule))]
        own = [(1 - s, s) if flow else ((1 - a * a) ** 0.5, a) for s, a in zip(shares, sizes, strict=True)]
        self.levels: list[tuple[float, float]] = [*own, (1.0, 0.0)]
        """(alpha, sigma) before every step, and after the last."""
        self._before: torch.Tensor | None = None
        self._objectives = {
            group: Objective(target.classifier, target.reference, guidance, target.judge, group=group, calls=generator.calls)
            for group in ("guide", "audit")
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self._schedule)

    def repeated(self, count: int) -> list[int]:
        """Let every image have so many rows from now on; returns their seeds, the first being the image's own."""
        self.rows = torch.arange(len(self.seeds)).repeat_interleave(count)
        return [candidate_seed(seed, number) for seed in self.seeds for number in range(count)]

    def take(self, rows: torch.Tensor) -> None:
        """Keep only these rows."""
        self.rows = self.rows[rows]
        self._before = None if self._before is None else self._before[rows]

    def noise(self, seeds: Sequence[int] | None = None) -> torch.Tensor:
        """Initial noise, of the images' own seeds if none are given."""
        return self.generator.noise(list(seeds or self.seeds)) * self._schedule.start_scale

    def clean(self, z: torch.Tensor, index: int, *, alone: bool = False) -> torch.Tensor:
        """The clean estimate of latents before a step; with a graph where gradients are enabled.

        ``alone`` leaves classifier-free guidance out.
        """
        condition = self._whole.take(self.rows)
        before = self.generator.calls["U"]
        denoise = self.generator.denoiser(self._schedule, condition.alone() if alone else condition)
        found: torch.Tensor = denoise(z, index).clean
        if z.requires_grad:
            self.generator.calls["Ub"] += self.generator.calls["U"] - before
        return found

    def step(self, z: torch.Tensor, clean: torch.Tensor, index: int) -> torch.Tensor:
        """The sampler's step from a clean estimate, whatever was done to it."""
        (alpha, sigma), (after, left) = self.levels[index], self.levels[index + 1]
        slope = clean
        if index > 0 and self._before is not None and left > 0 and self.levels[index - 1][0] > 0:
            here, there, gone = (
                math.log(a / s) for a, s in (self.levels[i] for i in (index, index + 1, index - 1))
            )
            slope = clean + (clean - self._before) * (there - here) / (2 * (here - gone))
        self._before = clean
        return left / sigma * z + (after - alpha * left / sigma) * slope

    def value(
        self, clean: torch.Tensor, *, group: str = "guide", rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What is raised, (B,), of clean latents through the FULL decoder; with a graph where there is one."""
        return self.score(self._decoded(clean), group=group, rows=rows)

    def _decoded(self, clean: torch.Tensor) -> torch.Tensor:
        if clean.requires_grad:
            self.generator.calls["Db"] += len(clean)
        return self.generator.chunked(self.generator.decode, clean)

    def score(
        self, images: torch.Tensor, *, group: str = "guide", rows: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The same of images."""
        own = self.labels[self.rows if rows is None else rows]
        objective = self._objectives[group]
        if images.requires_grad:
            self.generator.calls["Cb"] += len(images) * (3 if objective.augment else 1)
            self.generator.calls["Jb"] += len(images) if objective.judge is not None else 0
        return self.generator.chunked(lambda x, y: objective(x, y).total, images, own)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Images of finished latents, in [0, 1]."""
        return self._decoded(latents).clamp(0, 1)

    def rng(self, salt: int) -> list[torch.Generator]:
        """Random numbers of each row for one purpose: they belong to the image and the row's place within it."""
        seen: dict[int, int] = {}
        made = []
        for row in self.rows.tolist():
            place = seen[row] = seen.get(row, -1) + 1
            made.append(
                torch.Generator().manual_seed(candidate_seed(self.seeds[row], 10_000 * (salt + 1) + place))
            )
        return made

    def draw(self, like: torch.Tensor, salt: int) -> torch.Tensor:
        """Standard normal numbers in the shape of latents, each row from its own generator."""
        return torch.stack([torch.randn(like.shape[1:], generator=rng) for rng in self.rng(salt)])
