"""What a generation costs, before it starts: its network calls, counted as they will be counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ltg_core.generators.base import CHUNK, Calls
from ltg_core.guidance.climb import guided_steps
from ltg_core.guidance.search import pruning_plan
from ltg_core.guidance.settings import Guidance

Shares = Callable[[int, bool], Sequence[float]]
"""(steps, whether of a draft) -> share of noise at each step: above ``cfg_below`` one call is made instead of two."""
LOOK = 2
"""Every how many steps a run is looked at: a preview, and the signal for the trace."""
VIEWS = 3
"""Images that the classifier sees for one, where it is the mean over mild augmentations."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one batch costs.

    Attributes:
        calls: Network calls of everything but the controls, as ``GenerateResult.calls``.
        calls_control: Those of the controls.
        steps: Steps that progress is told of.
    """

    calls: Calls
    calls_control: Calls
    steps: int

    @property
    def total(self) -> Calls:
        """All network calls."""
        return Calls(self.calls + self.calls_control)


def batch_cost(
    guidance: Guidance,
    images: int,
    *,
    controls: bool = True,
    judge: bool = True,
    tiny: bool = True,
    from_source: bool = False,
    seeds: int | None = None,
    shares: Shares | None = None,
    chunk: int = CHUNK,
    paired: bool = True,
) -> Cost:
    """Count the network calls of one batch.

    Args:
        guidance: All settings.
        images: How many.
        controls: Whether every image gets its unguided twin.
        judge: Whether there is an independent judge.
        tiny: Whether the generator has a tiny decoder for the guidance path.
        from_source: Whether the images start from real samples.
        seeds: Different seeds, where images of a sweep share one; None for as many as images.
        shares: Share of noise at each step; None counts every step as if the text's scale applied to it.
        chunk: Rows of a call of this generator.
        paired: Whether the guidance scale combines two predictions, or is an input of one.
    """
    count = _Count(guidance, judge, "T" if tiny else "D", from_source, shares, chunk, paired)
    unique = images if seeds is None else seeds
    unguided = Calls()
    if controls:
        unguided["U"] = count.evaluations(guidance.steps, False) * padded(images, chunk)
        unguided["D"] = padded(images, chunk)
    if guidance.searches or guidance.climbs or not controls:
        count.guided(images, unique)
    steps = count.told + (len(count.steps(guidance.steps)) if controls else 0)
    return Cost(count.calls, unguided, steps)


def padded(rows: int, chunk: int = CHUNK) -> int:
    """Rows that the networks see: whole chunks."""
    return -(-rows // chunk) * chunk


def steps_from(strength: float, steps: int, from_source: bool) -> range:
    """Indices of the steps that are done; from a real sample the first ones are left out."""
    return range(min(steps - 1, round((1 - strength) * steps)) if from_source else 0, steps)


class _Count:
    """The calls of the guided part, step by step as the engine makes them."""

    def __init__(
        self,
        guidance: Guidance,
        judge: bool,
        decoder: str,
        from_source: bool,
        shares: Shares | None,
        chunk: int,
        paired: bool,
    ) -> None:
        self.guidance, self.judge, self.decoder, self.from_source = guidance, judge, decoder, from_source
        self.shares, self.chunk, self.paired = shares, chunk, paired
        self.views = VIEWS if guidance.augment else 1
        self.calls = Calls()
        self.told = 0

    def steps(self, steps: int) -> range:
        return steps_from(self.guidance.strength, steps, self.from_source)

    def pairs(self, steps: int, draft: bool) -> list[int]:
        """Evaluations of the denoiser at each step: with and without the text, or with it alone."""
        if self.guidance.cfg == 1.0 or not self.paired:
            return [1] * steps
        if self.shares is None:
            return [2] * steps
        return [1 if share > self.guidance.cfg_below else 2 for share in self.shares(steps, draft)]

    def evaluations(self, steps: int, draft: bool) -> int:
        """Of all the steps that are done."""
        pairs = self.pairs(steps, draft)
        return sum(pairs[index] for index in self.steps(steps))

    def padded(self, rows: int) -> int:
        """Of this generator."""
        return padded(rows, self.chunk)

    def guided(self, images: int, seeds: int) -> None:
        guidance = self.guidance
        if guidance.searches and guidance.search != "lookahead":
            self._inside(images)
        else:
            if guidance.searches:
                self._drafts(seeds)
            for index in self.steps(guidance.steps):
                self._step(index, images)
        self.calls["D"] += self.padded(images)

    def _drafts(self, seeds: int) -> None:
        guidance = self.guidance
        survivors = min(guidance.survivors, guidance.candidates)
        rungs = [(guidance.draft_steps, guidance.candidates)]
        if guidance.survivors > 1:
            rungs.append((2 * guidance.draft_steps, survivors))
        for steps, candidates in rungs:
            rows = self.padded(seeds * candidates)
            self.calls["U"] += self.evaluations(steps, True) * rows
            self.told += len(self.steps(steps))
            self._score(rows)

    def _inside(self, images: int) -> None:
        guidance = self.guidance
        rows, plan = images * guidance.candidates, pruning_plan(guidance, guidance.steps)
        for index in self.steps(guidance.steps):
            self._step(index, rows)
            if index in plan:
                self._score(self.padded(rows))
                if guidance.search != "particles":
                    rows = min(rows, images * plan[index])
        if plan.get(guidance.steps) == 1 or rows > images:
            self._score(self.padded(rows))

    def _step(self, index: int, rows: int) -> None:
        """One step of the sampler, with the gradient where it is followed."""
        guidance, chunks = self.guidance, self.padded(rows)
        pair = self.pairs(guidance.steps, False)[index]
        self.told += 1
        self.calls["U"] += pair * chunks
        if not guidance.climbs or index not in guided_steps(guidance, guidance.steps):
            return
        if guidance.climb == "feedback":  # through the conditional prediction alone, and no judge
            self.calls.update({"U": chunks, "Ub": chunks, self.decoder: chunks, f"{self.decoder}b": chunks})
            self.calls.update({"C": chunks, "Cb": chunks})
            return
        self._score(chunks)
        if guidance.climb == "full":
            self.calls["Ub"] += pair * chunks
        self.calls.update({f"{self.decoder}b": chunks, "Cb": self.views * chunks})
        if self.judge:
            self.calls["Jb"] += chunks

    def _score(self, rows: int) -> None:
        """Judging latents through the guidance path's decoder."""
        self.calls[self.decoder] += rows
        self.calls["C"] += self.views * rows
        if self.judge:
            self.calls["J"] += rows
