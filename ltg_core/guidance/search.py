"""Search: many candidates for one image, compared early and cheaply, before anything is spent on the rest.

Every image has its own group of candidates and its own random numbers, and gives exactly one image; so diversity
across images is kept by construction, and an image does not depend on the others of its batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import torch

from ltg_core.generators.base import Condition, Generator
from ltg_core.guidance.objective import Judged, Objective
from ltg_core.guidance.settings import Guidance
from ltg_core.types import Labels, Latents

Score = Callable[[Latents, Labels], Judged]


def candidate_seed(seed: int, index: int) -> int:
    """Seed of one candidate; candidate 0 has the image's own seed, so it is the control's noise."""
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/{index}".encode()).digest()[:7], "big")


def scorer(generator: Generator, objective: Objective) -> Score:
    """Judge clean latents through the tiny decoder, without a graph."""

    @torch.no_grad()
    def score(clean: Latents, labels: Labels) -> Judged:
        def one(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return torch.stack(list(objective(generator.decode(z, tiny=True), y)), dim=1)

        return Judged(*generator.chunked(one, clean, labels).unbind(dim=1))

    return score


@dataclasses.dataclass
class Groups:
    """Candidates of a batch of images, in rows grouped by image.

    Attributes:
        image: (R,) which image each row is for.
        candidate: (R,) which of its candidates.
    """

    image: torch.Tensor
    candidate: torch.Tensor

    def take(self, rows: torch.Tensor) -> Groups:
        """These rows only."""
        return Groups(self.image[rows], self.candidate[rows])

    def seeds(self, seeds: Sequence[int]) -> list[int]:
        """The seed of each row, from those of the images."""
        pairs = zip(self.image.tolist(), self.candidate.tolist(), strict=True)
        return [candidate_seed(seeds[image], candidate) for image, candidate in pairs]


def start_groups(images: int, candidates: int) -> Groups:
    """All candidates of all images."""
    return Groups(torch.arange(images).repeat_interleave(candidates), torch.arange(candidates).repeat(images))


def choose(
    totals: torch.Tensor,
    groups: Groups,
    keep: int,
    seeds: Sequence[int],
    temperature: float = 0.0,
    salt: int = 0,
) -> torch.Tensor:
    """Rows of the ``keep`` best candidates of every image, in the order of the images.

    With a temperature the choice is a draw without replacement, softmax(total / temperature) by Gumbel-top-k (Kool et
    al. 2019), each image from its own random numbers.
    """
    rows = []
    for image in range(len(seeds)):
        own = (groups.image == image).nonzero()[:, 0]
        value = torch.nan_to_num(totals[own].double(), nan=-1e9)
        if temperature > 0:
            rng = torch.Generator().manual_seed(candidate_seed(seeds[image], 1_000_000 + salt))
            uniform = torch.rand(len(own), generator=rng, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
            value = value / temperature - (-uniform.log()).log()
        rows.append(own[value.argsort(descending=True, stable=True)[:keep].sort().values])
    return torch.cat(rows)


def resample(gain: torch.Tensor, groups: Groups, seeds: Sequence[int], salt: int) -> torch.Tensor:
    """Rows drawn within every image in proportion to exp(gain), as Feynman-Kac steering does; systematic resampling."""
    rows = []
    for image in range(len(seeds)):
        own = (groups.image == image).nonzero()[:, 0]
        weight = torch.nan_to_num(gain[own].double(), nan=-1e9).softmax(dim=0)
        rng = torch.Generator().manual_seed(candidate_seed(seeds[image], 2_000_000 + salt))
        start = torch.rand(1, generator=rng, dtype=torch.float64)
        points = (start + torch.arange(len(own))) / len(own)
        rows.append(own[torch.searchsorted(weight.cumsum(0).clamp(max=1.0), points).clamp(max=len(own) - 1)])
    return torch.cat(rows)


def lookahead(
    generator: Generator,
    score: Score,
    condition: Condition,
    labels: Labels,
    seeds: Sequence[int],
    guidance: Guidance,
    draft: Callable[[Latents, Sequence[int], Condition, int], Latents],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Successive halving over the solver's fidelity: short runs from every noise, longer ones from the best.

    A few-step run of an ODE solver lands near the many-step run from the same noise, so a draft of three steps tells
    much of what an image of sixteen will show at a fifth of the cost. The allocation is that of successive halving
    (Jamieson and Talwalkar 2016) with the number of solver steps as the resource; its use here is ours.

    Args:
        generator: Makes the noise.
        score: Judges clean latents.
        condition: One row an image.
        labels: (B,) intended classes.
        seeds: One an image.
        guidance: candidates, draft_steps, survivors, diversity.
        draft: (noise, seeds, condition, steps) -> clean latents by an unguided run.

    Returns:
        The chosen noise, (B, C, h, w), and the index of the candidate, (B,).
    """
    groups = start_groups(len(seeds), guidance.candidates)
    noise = generator.noise(groups.seeds(seeds))
    rungs = [(guidance.draft_steps, guidance.survivors)]
    if guidance.survivors > 1:
        rungs.append((2 * guidance.draft_steps, 1))
    for number, (steps, keep) in enumerate(rungs):
        clean = draft(noise, groups.seeds(seeds), condition.take(groups.image), steps)
        total = score(clean, labels[groups.image]).total
        last = number == len(rungs) - 1
        rows = choose(total, groups, keep, seeds, guidance.diversity if last else 0.0, number)
        groups, noise = groups.take(rows), noise[rows]
    return noise, groups.candidate


def pruning_plan(guidance: Guidance, steps: int) -> dict[int, int]:
    """Step index -> candidates that stay; the key ``steps`` is the finished latent."""
    if guidance.search == "best of n":
        return {steps: 1}
    plan: dict[int, int] = {}
    if guidance.search == "halving":
        keep = guidance.candidates
        for share in (0.2, 0.33, 0.5, 0.6, 0.7):
            keep = (keep + 1) // 2
            plan[max(1, round(share * steps))] = keep
            if keep == 1:
                return plan
        plan[steps] = 1
    if guidance.search == "particles":
        plan = {max(1, round(share * steps)): guidance.candidates for share in (0.17, 0.33, 0.5, 0.67)}
        plan[steps] = 1
    return plan
