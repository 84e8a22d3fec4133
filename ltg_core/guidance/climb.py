"""Climbing: the denoiser is wrapped into one whose clean estimate is shifted along a signal's gradient."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch

from ltg_core.generators.base import Calls, Condition, Denoise, Estimate, Generator
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance.objective import Objective
from ltg_core.guidance.settings import Guidance
from ltg_core.types import Labels, Latents

_MIN_B = 1e-3  # below this a shift of the estimate would need an unbounded shift of the output

Trace = list[dict[str, Any]]

_BETAS = 0.9, 0.999
_EPSILON = 1e-8


def guided_steps(guidance: Guidance, steps: int) -> set[int]:
    """Indices of the steps at which a gradient is computed: every k-th of the band."""
    first, last = round(guidance.band_start * steps), round(guidance.band_end * steps)
    return set(range(first, min(last, steps), guidance.every))


def held_steps(guidance: Guidance, steps: int) -> set[int]:
    """Indices of the steps of the band in between: with ``hold`` the last direction is followed there, at no cost."""
    if not guidance.hold:
        return set()
    return guided_steps(dataclasses.replace(guidance, every=1), steps) - guided_steps(guidance, steps)


@dataclasses.dataclass(eq=False)
class Memory:
    """What a climb carries from step to step, by row.

    Attributes:
        direction: (B, C, h, w) followed last, zero where it was not used.
        level: (B,) of the signal when it was found.
        first: (B, C, h, w) running mean of the directions.
        second: (B, C, h, w) running mean of their squares.
        count: Gradients so far.
    """

    direction: torch.Tensor | None = None
    level: torch.Tensor | None = None
    first: torch.Tensor | None = None
    second: torch.Tensor | None = None
    count: int = 0

    def take(self, rows: torch.Tensor) -> None:
        """Keep these rows only; repeats are allowed."""
        for name in ("direction", "level", "first", "second"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, value[rows])

    def moments(self, direction: torch.Tensor) -> torch.Tensor:
        """Adam's direction (Kingma and Ba 2015) over the steps so far: mean / sqrt(mean square), bias corrected.

        Across the steps of a sampler as in adaptive-moment guidance (Belardi et al. 2026); that every gradient is
        brought to unit root mean square first is ours. Where they agree the result has unit size, else it is shorter.
        """
        if self.first is None or self.second is None:
            self.first, self.second = torch.zeros_like(direction), torch.zeros_like(direction)
        one, two = _BETAS
        self.count += 1
        self.first = one * self.first + (1 - one) * direction
        self.second = two * self.second + (1 - two) * direction.square()
        mean, square = self.first / (1 - one**self.count), self.second / (1 - two**self.count)
        return mean / (square.sqrt() + _EPSILON)


def climb(
    denoise: Denoise,
    generator: Generator,
    schedule: Schedule,
    condition: Condition,
    objective: Objective,
    labels: Labels,
    guidance: Guidance,
    trace: Trace,
    weights: torch.Tensor | None = None,
    memory: Memory | None = None,
) -> Denoise:
    """Wrap a denoiser: z0 <- z0 + w gap g / rms(g), per sample, at the guided steps.

    "denoiser-free" takes g = dJ/dz0 at the clean estimate (as MPGD does), "full" takes g = dJ/dz_t through the
    generator's own denoiser for ``condition`` (as the algorithm box of Longtail Guidance does), one graph a chunk. The
    unit of the step, the gap that the text makes in the clean estimate, is ours; it makes the weight dimensionless.
    Samples whose signal has reached the target percentile are left alone; non-finite or vanishing gradients are
    skipped and counted in the trace. ``weights`` (B,)
    gives every sample its own. ``memory`` goes on where another wrapper of the same rows ended.
    """
    active, held = guided_steps(guidance, len(schedule)), held_steps(guidance, len(schedule))
    top = objective.level_at(guidance.target)
    memory = memory or Memory()

    def shifted(estimate: Estimate, b: float, direction: torch.Tensor, moved: torch.Tensor) -> Estimate:
        unit = torch.where(estimate.gap > 0, estimate.gap, 0.1 * _rms(estimate.clean))
        move = (guidance.weight if weights is None else weights.to(unit)) * unit * moved
        shift = move.view(-1, 1, 1, 1) * direction
        return estimate._replace(clean=estimate.clean + shift, output=estimate.output + shift / b)

    def wrapped(z: Latents, index: int) -> Estimate:
        _, b = schedule.affine(index)
        if index not in active | held or abs(b) < _MIN_B:
            return denoise(z, index)
        if index in held:
            estimate = denoise(z, index)
            if memory.direction is None or memory.level is None:
                return estimate
            used = memory.direction.flatten(1).any(dim=1).float()
            weight = guidance.weight if weights is None else weights.tolist()
            trace.append({**_entry(index, memory.level, weight, used), "held": True})
            return shifted(estimate, b, memory.direction, memory.level < top)
        if guidance.climb == "full":
            parts = [
                _through_denoiser(
                    generator.denoiser(schedule, condition.take(rows)),
                    *(generator, objective, labels[rows], z[rows], index),
                )
                for rows in generator.rows(len(z))
            ]
            estimate, gradient, level = _joined(parts)
        else:
            with torch.no_grad():
                estimate = denoise(z, index)
            gradient, level = _at_estimate(generator, objective, labels, estimate.clean)
        direction, used = unit_direction(gradient)
        if guidance.adam:
            direction = memory.moments(direction)
        memory.direction, memory.level = used.view(-1, 1, 1, 1) * direction, level
        trace.append(_entry(index, level, guidance.weight if weights is None else weights.tolist(), used))
        return shifted(estimate, b, direction, used * (level < top))

    return wrapped


def unit_direction(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Per-sample gradient of unit root mean square, and 1 where it can be used (finite, not zero), else 0."""
    gradient = gradient.float()
    size = _rms(gradient)
    good = torch.isfinite(size) & (size > 1e-20)
    safe = torch.where(good, size, torch.ones_like(size)).view(-1, 1, 1, 1)
    direction = torch.where(good.view(-1, 1, 1, 1), gradient / safe, torch.zeros_like(gradient))
    return direction, good.float()


def _at_estimate(
    generator: Generator, objective: Objective, labels: Labels, clean: Latents
) -> tuple[torch.Tensor, torch.Tensor]:
    def one(z0: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad(), counted_back(generator.calls, objective.calls):
            z0 = z0.detach().requires_grad_(True)
            judged = objective(generator.decode(z0, tiny=True), y)
            (gradient,) = torch.autograd.grad(loud(generator, judged.total), z0)
        return _with_level(gradient, judged.level)

    packed = generator.chunked(one, clean, labels)
    return packed[:, :-1].view_as(clean), packed[:, -1]


_Through = tuple[Estimate, torch.Tensor, torch.Tensor]


def _through_denoiser(
    denoise: Denoise, generator: Generator, objective: Objective, labels: Labels, z: Latents, index: int
) -> _Through:
    """Estimate, gradient and level of a chunk at most, from one graph."""
    with torch.enable_grad(), counted_back(generator.calls, objective.calls):
        start = z.detach().requires_grad_(True)
        estimate = denoise(start, index)

        def one(z0: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            judged = objective(generator.decode(z0, tiny=True), y)
            return torch.stack([judged.total, judged.level], dim=1)

        both = generator.chunked(one, estimate.clean, labels)
        (gradient,) = torch.autograd.grad(loud(generator, both[:, 0]), start)
    detached = Estimate(estimate.clean.detach(), estimate.output.detach(), estimate.gap)
    return detached, gradient, both[:, 1].detach()


def _joined(parts: list[_Through]) -> _Through:
    estimates = [part[0] for part in parts]
    clean, output, gap = (
        torch.cat([getattr(e, name) for e in estimates]) for name in ("clean", "output", "gap")
    )
    return Estimate(clean, output, gap), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])


def loud(generator: Generator, total: torch.Tensor) -> torch.Tensor:
    """The sum, large enough for the networks' precision on the way back; only the gradient's direction is used."""
    scale = generator.gradient_scale
    return total.sum() if scale == 1.0 else scale * total.sum()


def _with_level(gradient: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """Pack (B, C, h, w) and (B,) into one tensor so that both travel through `in_chunks`."""
    return torch.cat([gradient.flatten(1), level.detach()[:, None]], dim=1).view(len(gradient), -1)


def _rms(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).square().mean(dim=1).sqrt()


@contextlib.contextmanager
def counted_back(*counters: Calls) -> Iterator[None]:
    """Where a gradient goes through everything that is called: each forward pass counts as a backward pass, too."""
    before = {id(calls): (calls, Calls(calls)) for calls in counters}
    yield
    for calls, earlier in before.values():
        for name, number in (calls - earlier).items():
            calls[f"{name}b"] += number


def _entry(
    index: int, level: torch.Tensor, weight: float | list[float], used: torch.Tensor
) -> dict[str, Any]:
    return {
        "step": index,
        "level": [round(float(v), 4) for v in level],
        "weight": weight,
        "skipped": int((used == 0).sum()),
    }
