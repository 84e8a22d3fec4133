"""Modes that follow a gradient. All of them decode with the full decoder, as they were published."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from benchmarks.peers.problem import FLOOR, Made, Problem

Value = Callable[[torch.Tensor], torch.Tensor]


def unguided(problem: Problem) -> Made:
    """The sampler alone."""
    z = problem.noise()
    with torch.no_grad():
        for index in range(len(problem)):
            z = problem.step(z, problem.clean(z, index), index)
    return Made(z)


def through(problem: Problem, z: torch.Tensor, index: int, value: Value) -> tuple[torch.Tensor, torch.Tensor]:
    """The clean estimate and the gradient of its value with respect to z_t, through the denoiser."""
    with torch.enable_grad():
        start = z.detach().requires_grad_(True)
        clean = problem.clean(start, index)
        (gradient,) = torch.autograd.grad(value(clean).sum(), start)
    return clean.detach(), finite(gradient)


def at(clean: torch.Tensor, value: Value) -> torch.Tensor:
    """The gradient of the value with respect to the clean estimate itself."""
    with torch.enable_grad():
        start = clean.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(value(start).sum(), start)
    return finite(gradient)


def finite(gradient: torch.Tensor) -> torch.Tensor:
    """Rows with a number that is not finite give no push."""
    good = torch.isfinite(gradient).flatten(1).all(dim=1).view(-1, 1, 1, 1)
    return torch.where(good, gradient, torch.zeros_like(gradient))


def unit(gradient: torch.Tensor) -> torch.Tensor:
    """Rows of root mean square one."""
    size = gradient.flatten(1).square().mean(dim=1).sqrt().view(-1, 1, 1, 1)
    return gradient / size.clamp(min=1e-20)


def spread(problem: Problem, index: int) -> float:
    """Deviation r of x0 given z_t for data of unit variance: r^2 = sigma^2 / (sigma^2 + alpha^2)."""
    alpha, sigma = problem.levels[index]
    return sigma / math.hypot(alpha, sigma)


def naive(problem: Problem, weight: float, normed: bool = False) -> Made:
    """Longtail Guidance (Hayden et al. 2025, algorithm 1) taken literally: every step, full decoder, through the denoiser.

    The box says: estimate z0, decode, compute the signal, bias the denoising estimate, step. How the estimate is biased is
    reconstructed as in classifier guidance, eps <- eps - w sigma grad_{z_t} f, which is x0 <- x0 + w sigma^2 / alpha grad;
    ``normed`` gives each sample's gradient unit size first, x0 <- x0 + w r grad / rms(grad), which is kinder to it.
    """
    z = problem.noise()
    for index in range(len(problem)):
        alpha, sigma = problem.levels[index]
        clean, gradient = through(problem, z, index, problem.value)
        push = spread(problem, index) * unit(gradient) if normed else sigma**2 / max(alpha, FLOOR) * gradient
        z = problem.step(z, clean + weight * push, index)
    return Made(z)


def feedback_guided(problem: Problem, omega: float, every: int = 5) -> Made:
    """Feedback-guided synthesis (Askari Hemmat et al. 2023), from its text and the description of its released code.

    Every k-th step z_t <- z_t + omega |z_t| grad C / |grad C|; the classifier sees decode(sqrt(1 - abar) x0 +
    (1 - sqrt(1 - abar)) z_t); the gradient runs through the conditional prediction alone. The criterion here is the function
    that all modes raise. The estimate is computed again after the shift, which the release does not do.
    """
    z = problem.noise()
    for index in range(len(problem)):
        if index % every == 0:
            share = spread(problem, index)
            with torch.enable_grad():
                start = z.detach().requires_grad_(True)
                mixed = share * problem.clean(start, index, alone=True) + (1 - share) * start
                (gradient,) = torch.autograd.grad(problem.value(mixed).sum(), start)
            size = z.flatten(1).square().mean(dim=1).sqrt().view(-1, 1, 1, 1)
            z = z + omega * size * unit(finite(gradient))
        with torch.no_grad():
            z = problem.step(z, problem.clean(z, index), index)
    return Made(z)


def mpgd(problem: Problem, weight: float) -> Made:
    """Manifold-preserving guided diffusion (He et al. 2024): x0 <- x0 + w r^2 grad_{x0} f, no pass through the denoiser.

    Its step size c_t is free; r^2 is the covariance of x0 given z_t (reconstruction of the schedule, not of the method).
    """
    z = problem.noise()
    for index in range(len(problem)):
        with torch.no_grad():
            clean = problem.clean(z, index)
        push = spread(problem, index) ** 2 * at(clean, problem.value)
        z = problem.step(z, clean + weight * push, index)
    return Made(z)


def adam_mpgd(problem: Problem, weight: float, beta1: float = 0.9, beta2: float = 0.999) -> Made:
    """MPGD with the moments of the gradient over the steps (Belardi et al. 2026), from the abstract: Adam's direction.

    The decay rates are Adam's usual ones; those of the paper were not at hand.
    """
    z = problem.noise()
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    for index in range(len(problem)):
        with torch.no_grad():
            clean = problem.clean(z, index)
        gradient = at(clean, problem.value)
        first = beta1 * first + (1 - beta1) * gradient
        second = beta2 * second + (1 - beta2) * gradient.square()
        mean, square = first / (1 - beta1 ** (index + 1)), second / (1 - beta2 ** (index + 1))
        push = spread(problem, index) ** 2 * mean / (square.sqrt() + 1e-8)
        z = problem.step(z, clean + weight * push, index)
    return Made(z)


def dps(problem: Problem, zeta: float) -> Made:
    """Diffusion posterior sampling (Chung et al. 2023): the step, then z <- z + zeta grad_{z_t} f(x0(z_t)).

    There zeta is divided by the size of the residual; a signal has none, so zeta is constant here.
    """
    z = problem.noise()
    for index in range(len(problem)):
        clean, gradient = through(problem, z, index, problem.value)
        z = problem.step(z, clean, index) + zeta * gradient
    return Made(z)


def lgd_mc(problem: Problem, zeta: float, samples: int = 4) -> Made:
    """Loss-guided diffusion (Song et al. 2023): log mean exp f over n draws of N(x0, r^2) in place of f(x0), else as DPS."""
    z = problem.noise()
    for index in range(len(problem)):
        value = smoothed(problem, index, spread(problem, index), samples)
        clean, gradient = through(problem, z, index, value)
        z = problem.step(z, clean, index) + zeta * gradient
    return Made(z)


def smoothed(problem: Problem, index: int, deviation: float, samples: int) -> Value:
    """x0 -> log mean exp of the value over draws around it."""

    def value(clean: torch.Tensor) -> torch.Tensor:
        draws = [problem.draw(clean, 100 * index + k) for k in range(samples)]
        values = [problem.value(clean + deviation * draw) for draw in draws]
        return torch.stack(values).logsumexp(dim=0) - math.log(samples)

    return value


def tfg(problem: Problem, rho: float, mu: float, gamma: float = 0.1, iterations: int = 1) -> Made:
    """Training-free guidance (Ye et al. 2024), the form read in its released code, one recurrence.

    Gradient through the denoiser (rho) and at the estimate (mu, iterated) of the value smoothed over a draw of deviation
    gamma sigma; z' = step + rho_t / sqrt(alpha_t) + sqrt(abar') mu_t, with the release's "increase" schedules.
    """
    z = problem.noise()
    rises = [(problem.levels[i][0] / problem.levels[i + 1][0]) ** 2 for i in range(len(problem))]
    for index, rise in enumerate(rises):
        (alpha, sigma), (after, _) = problem.levels[index], problem.levels[index + 1]
        strength = rise * len(rises) / sum(rises)
        value = smoothed(problem, index, gamma * sigma, 1)
        clean, gradient = through(problem, z, index, value)
        moved = clean
        for _ in range(iterations):
            moved = moved + mu * strength * at(moved, value)
        outer = rho * strength * gradient * after / max(alpha, FLOOR)
        z = problem.step(z, clean, index) + outer + after * (moved - clean)
    return Made(z)
