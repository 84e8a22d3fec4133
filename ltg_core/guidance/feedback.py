"""Feedback-guided synthesis as a mode: the noisy latent is shifted along the gradient of the classifier's feedback."""

from __future__ import annotations

import torch

from ltg_core.generators.base import Condition, Denoise, Estimate, Generator
from ltg_core.generators.schedule import Schedule
from ltg_core.guidance.climb import Trace, guided_steps, loud, unit_direction
from ltg_core.guidance.objective import Objective
from ltg_core.guidance.settings import Guidance
from ltg_core.types import Labels, Latents


def feedback(
    denoise: Denoise,
    generator: Generator,
    schedule: Schedule,
    condition: Condition,
    objective: Objective,
    labels: Labels,
    guidance: Guidance,
    trace: Trace,
) -> Denoise:
    """Wrap a denoiser: z_t <- z_t + omega |z_t| grad C / |grad C|, per sample, every k-th step.

    The classifier sees decode(sqrt(1 - abar) z0 + (1 - sqrt(1 - abar)) z_t); the gradient runs through the
    conditional prediction alone. Formula from the published method and its released code; unlike that code the images
    are resized for the classifier, norms are per sample, gradients are float32, every prediction type is converted
    properly, and the noise estimate is computed again after the shift.

    ``objective`` has the criterion (loss, entropy or hardness) as its signal.
    """
    active = guided_steps(guidance, len(schedule))
    predict = generator.denoiser(schedule, condition.alone())

    def gradient_of(z: Latents, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        sigma = schedule.noise_amplitude(index)
        before = generator.calls["U"]
        with torch.enable_grad():
            start = z.detach().requires_grad_(True)
            clean = predict(start, index).clean
            mixed = sigma * clean + (1 - sigma) * start

            def one(latent: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                judged = objective(generator.decode(latent, tiny=True), y)
                return torch.stack([judged.total, judged.level], dim=1)

            both = generator.chunked(one, mixed, labels)
            (gradient,) = torch.autograd.grad(loud(generator, both[:, 0]), start)
        generator.calls["Ub"] += generator.calls["U"] - before
        return gradient, both[:, 1].detach()

    def wrapped(z: Latents, index: int) -> Estimate:
        if index not in active:
            return denoise(z, index)
        gradient, level = gradient_of(z, index)
        direction, _ = unit_direction(gradient)
        # |z| grad/|grad| in Euclidean norms is rms(z) grad/rms(grad)
        size = z.flatten(1).square().mean(dim=1).sqrt()
        shifted = z + guidance.omega * size.view(-1, 1, 1, 1) * direction
        trace.append({"step": index, "level": [round(float(v), 4) for v in level], "weight": guidance.omega})
        return denoise(shifted, index)._replace(start=shifted)

    return wrapped
