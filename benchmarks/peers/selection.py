"""Modes that choose among candidates. All of them judge through the full decoder, on the heads that our search reads."""

from __future__ import annotations

import torch

from benchmarks.peers.problem import Made, Problem


def best_of_n(problem: Problem, n: int) -> Made:
    """N finished images of every prompt, the best one kept."""
    z = problem.noise(problem.repeated(n))
    with torch.no_grad():
        for index in range(len(problem)):
            z = problem.step(z, problem.clean(z, index), index)
        return _best(problem, z)


def halving(problem: Problem, n: int, shares: tuple[float, ...] = (0.2, 0.33, 0.5, 0.67)) -> Made:
    """Successive halving (Jamieson and Talwalkar 2016) along the sampler: at each of these shares of the steps the better
    half of a prompt's candidates stays, judged by the clean estimate (its use here is a reconstruction)."""
    z = problem.noise(problem.repeated(n))
    cuts = {max(1, round(share * len(problem))) for share in shares}
    with torch.no_grad():
        for index in range(len(problem)):
            clean = problem.clean(z, index)
            if index in cuts and n > 1:
                n = (n + 1) // 2
                rows = _top(problem, problem.value(clean, group="audit"), n)
                z, clean = z[rows], clean[rows]
                problem.take(rows)
            z = problem.step(z, clean, index)
        return _best(problem, z) if n > 1 else Made(z)


def feynman_kac(
    problem: Problem, n: int, scale: float, shares: tuple[float, ...] = (0.17, 0.33, 0.5, 0.67)
) -> Made:
    """Feynman-Kac steering (Singhal et al. 2025), difference potential: particles of a prompt are drawn anew in proportion
    to exp(scale (value now - value at the last resampling)); the best particle is kept at the end.

    Particles of equal past must part again, so the steps draw noise as DDPM does (posterior variance); resampling is systematic
    and happens at fixed steps (the release also offers an adaptive rule).
    """
    z = problem.noise(problem.repeated(n))
    cuts = {max(1, round(share * len(problem))) for share in shares}
    last = torch.zeros(len(z))
    with torch.no_grad():
        for index in range(len(problem)):
            clean = problem.clean(z, index)
            if index in cuts:
                value = problem.value(clean, group="audit")
                rows = _drawn(problem, scale * (value - last), n, index)
                z, clean, last = z[rows], clean[rows], value[rows]
            z = _noisy_step(problem, z, clean, index)
        return _best(problem, z)


def _noisy_step(problem: Problem, z: torch.Tensor, clean: torch.Tensor, index: int) -> torch.Tensor:
    """z' = alpha' x0 + sqrt(sigma'^2 - s^2) eps + s xi, with the posterior variance s^2 of a DDPM's step."""
    (alpha, sigma), (after, left) = problem.levels[index], problem.levels[index + 1]
    forward = sigma**2 - (alpha / after) ** 2 * left**2  # variance that the noising step adds
    s2 = min(left**2, forward * left**2 / sigma**2)
    eps = (z - alpha * clean) / sigma
    fresh = problem.draw(z, 50_000 + index) if s2 > 0 else torch.zeros_like(z)
    return after * clean + (left**2 - s2) ** 0.5 * eps + s2**0.5 * fresh


def _best(problem: Problem, latents: torch.Tensor) -> Made:
    images = problem.decode(latents)
    rows = _top(problem, problem.score(images, group="audit"), 1)
    problem.take(rows)
    return Made(latents[rows], images[rows])


def _top(problem: Problem, value: torch.Tensor, keep: int) -> torch.Tensor:
    """Rows of the best so many of every image, in the order of the images."""
    value = torch.nan_to_num(value, nan=-1e9)
    own = [(problem.rows == image).nonzero()[:, 0] for image in range(len(problem.seeds))]
    return torch.cat([rows[value[rows].argsort(descending=True, stable=True)[:keep]] for rows in own])


def _drawn(problem: Problem, log_weight: torch.Tensor, n: int, salt: int) -> torch.Tensor:
    """Rows drawn within every image by systematic resampling."""
    first = problem.rng(90_000 + salt)
    found = []
    for image in range(len(problem.seeds)):
        rows = (problem.rows == image).nonzero()[:, 0]
        weight = torch.nan_to_num(log_weight[rows].double(), nan=-1e9).softmax(dim=0)
        start = torch.rand(1, generator=first[int(rows[0])], dtype=torch.float64)
        points = (start + torch.arange(n)) / n
        found.append(rows[torch.searchsorted(weight.cumsum(0).clamp(max=1.0), points).clamp(max=n - 1)])
    return torch.cat(found)
