"""Feedback-guided synthesis as a mode: the noisy latent is shifted along the gradient of the classifier's feedback."""

from __future__ import annotations

import torch

from ltg_core.generators.base import Condition, Denoise, Estimate, Generator
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance.climb import Trace, counted_back, guided_steps, loud, unit_direction
from ltg_core.guidance.criterion import Criterion
from ltg_core.guidance.settings import Guidance
from ltg_core.types import Labels, Latents


def feedback(
    denoise: Denoise,
    generator: Generator,
    schedule: Schedule,
    condition: Condition,
    criterion: Criterion,
    labels: Labels,
    guidance: Guidance,
    trace: Trace,
) -> Denoise:
    """Wrap a denoiser: z_t <- z_t + omega |z_t| grad C / |grad C|, per sample, every k-th step.

    The classifier sees decode(sqrt(1 - abar) z0 + (1 - sqrt(1 - abar)) z_t); the gradient runs through the
    conditional prediction alone. Formula from the published method and its released code. As "mended" norms are per
    sample, small gradients of half precision survive, every prediction type has its own clean estimate, and the
    noise estimate is computed again after the shift; ``guidance.released`` names what is done as in that code instead
    (``settings.RELEASED``; how the classifier's input differs is the criterion's). A model of a flow has no counterpart
    there, so "epsilon" leaves it alone.

    Latents of unbounded variance (Euler schedulers) are brought to unit variance for the mixture, ours.
    """
    active = guided_steps(guidance, len(schedule))
    alone, repeats = condition.alone(), guidance.repeats

    def gradient_of(z: Latents, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        parts = [part_of(rows, z[rows], index) for rows in generator.rows(len(z))]
        return torch.cat([gradient for gradient, _ in parts]), torch.cat([level for _, level in parts])

    def part_of(rows: torch.Tensor, z: Latents, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Of a chunk at most, from one graph."""
        sigma = schedule.noise_amplitude(index)
        predict = generator.denoiser(schedule, alone.take(rows))
        with torch.enable_grad(), counted_back(generator.calls, criterion.calls):
            start = z.detach().requires_grad_(True)
            estimate = predict(start, index)
            clean = estimate.clean
            if "epsilon" in repeats and schedule.prediction != "flow_prediction":
                a, b = schedule.noise_affine(index)
                clean = a * start + b * estimate.output
            mixed = sigma * clean + (1 - sigma) * schedule.scaled(start, index)

            def one(latent: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return torch.stack(criterion(generator.decode(latent, tiny=True), y), dim=1)

            both = generator.chunked(one, mixed, labels[rows])
            total = both[:, 0].sum() if "unscaled" in repeats else loud(generator, both[:, 0])
            (gradient,) = torch.autograd.grad(total, start)
        return gradient, both[:, 1].detach()

    def wrapped(z: Latents, index: int) -> Estimate:
        if index not in active:
            return denoise(z, index)
        gradient, level = gradient_of(z, index)
        step, used = _step(z, gradient, "coupled" in repeats)
        shifted = z + guidance.omega * step
        trace.append(
            {
                "step": index,
                "level": [round(float(v), 4) for v in level],
                "weight": guidance.omega,
                "skipped": int((used == 0).sum()),
            }
        )
        return denoise(z if "stale" in repeats else shifted, index)._replace(start=shifted)

    return wrapped


def _step(z: Latents, gradient: torch.Tensor, coupled: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """|z| grad / |grad| and which samples (B,) have a gradient that can be used (finite, not zero).

    In Euclidean norms that is rms(z) grad / rms(grad). ``coupled``: the norms are those of the whole batch.
    """
    if coupled:
        used = torch.isfinite(gradient).flatten(1).all(dim=1) & gradient.flatten(1).any(dim=1)
        kept = torch.where(used.view(-1, 1, 1, 1), gradient.float(), torch.zeros_like(gradient).float())
        size = kept.square().mean().sqrt()
        ratio = z.square().mean().sqrt() / size if float(size) > 0 else torch.zeros_like(size)
        return ratio * kept, used.float()
    direction, good = unit_direction(gradient)
    return z.flatten(1).square().mean(dim=1).sqrt().view(-1, 1, 1, 1) * direction, good
