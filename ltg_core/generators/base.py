"""The contract of a generator, and the counter of what it costs."""

from __future__ import annotations

import abc
import collections
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from ltg_core.generators.schedule import Schedule
from ltg_core.types import Images, Latents

CHUNK = 8
"""Rows of every network call. Batches are padded to whole chunks, so an image has the same bits alone or in a batch."""


class Calls(collections.Counter[str]):
    """Network calls a sample: "U" denoiser, "D" full decoder, "T" tiny decoder, "C" classifier, "J" judge.

    A backward pass counts under the same letter with a "b" behind it.
    """


class Condition(NamedTuple):
    """What a batch is asked to show.

    Attributes:
        text: (B, L, W) states of the text encoder.
        negative: (B, L, W) states of what it should not show; those of the empty text by default.
        scale: Classifier-free guidance scale; 1 for none.
    """

    text: torch.Tensor
    negative: torch.Tensor
    scale: float

    def take(self, rows: torch.Tensor) -> Condition:
        """The condition of these rows."""
        return Condition(self.text[rows], self.negative[rows], self.scale)


class Estimate(NamedTuple):
    """The denoiser's view of one step.

    Attributes:
        clean: (B, C, h, w) estimate of the clean latent.
        output: (B, C, h, w) the network's output that the scheduler integrates.
        gap: (B,) root mean square of (conditional - unconditional) clean estimate: the natural unit of a shift.
        start: The latent that the scheduler steps from, where guidance has moved it; None where it has not.
    """

    clean: Latents
    output: torch.Tensor
    gap: torch.Tensor
    start: Latents | None = None


Denoise = Callable[[Latents, int], Estimate]
"""(latent before the step, step index) -> estimate. Guidance wraps one of these into another."""


class Generator(abc.ABC):
    """A frozen text-to-image latent diffusion model.

    Attributes:
        name: For people.
        hash: Of the weights.
        latent_shape: (C, h, w).
        image_size: Pixels of a side.
        calls: What has been computed so far.
    """

    name: str
    hash: str
    latent_shape: tuple[int, int, int]
    image_size: int
    calls: Calls

    @abc.abstractmethod
    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """States of the text encoder, (B, L, W)."""

    @abc.abstractmethod
    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule; see `Schedule`."""

    @abc.abstractmethod
    def predict(self, z: Latents, timestep: float, text: torch.Tensor) -> torch.Tensor:
        """The network's raw output; differentiable."""

    @abc.abstractmethod
    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images in [0, 1] (not clamped where gradients flow); ``tiny`` uses the guidance path's decoder."""

    @abc.abstractmethod
    def encode(self, images: Images) -> Latents:
        """Clean latents of images."""

    def condition(self, prompts: Sequence[str], negative: str = "", scale: float = 2.0) -> Condition:
        """Encode prompts and the negative prompt."""
        text = self.embed(prompts)
        return Condition(text, self.embed([negative]).expand_as(text), scale)

    def noise(self, seeds: Sequence[int]) -> Latents:
        """Initial noise of unit variance; every row from its own CPU generator."""
        rows = [
            torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(int(s))) for s in seeds
        ]
        return torch.stack(rows)

    def denoiser(self, schedule: Schedule, condition: Condition) -> Denoise:
        """The base denoiser: classifier-free guidance, no other guidance.

        ``condition`` has as many rows as the latents that are passed later.
        """

        def denoise(z: Latents, index: int) -> Estimate:
            a, b = schedule.affine(index)
            timestep = schedule.timesteps[index]
            x = schedule.scaled(z, index)
            if condition.scale == 1.0:
                output = in_chunks(lambda zz, tt: self._call(zz, timestep, tt), x, condition.text)
                return Estimate(a * z + b * output, output, torch.zeros(len(z)))
            both = in_chunks(
                lambda zz, tt, nn: self._call_pair(zz, timestep, tt, nn),
                x,
                condition.text,
                condition.negative,
            )
            with_text, without = both.chunk(2, dim=1)
            output = without + condition.scale * (with_text - without)
            gap = abs(b) * (with_text - without).detach().square().mean(dim=(1, 2, 3)).sqrt()
            return Estimate(a * z + b * output, output, gap)

        return denoise

    def _call(self, z: torch.Tensor, timestep: float, text: torch.Tensor) -> torch.Tensor:
        self.calls["U"] += len(z)
        return self.predict(z, timestep, text)

    def _call_pair(
        self, z: torch.Tensor, timestep: float, text: torch.Tensor, negative: torch.Tensor
    ) -> torch.Tensor:
        self.calls["U"] += 2 * len(z)
        output = self.predict(torch.cat([z, z]), timestep, torch.cat([text, negative]))
        return torch.cat(output.chunk(2), dim=1)


def in_chunks(function: Callable[..., torch.Tensor], *batches: torch.Tensor) -> torch.Tensor:
    """Apply ``function`` to chunks of exactly `CHUNK` rows; the last one is padded by repeating its first row.

    The shape of every network call is then the same whatever the batch, and with it the bits of each row.
    """
    count = len(batches[0])
    parts = []
    for start in range(0, count, CHUNK):
        chunk = [batch[start : start + CHUNK] for batch in batches]
        missing = CHUNK - len(chunk[0])
        if missing:
            chunk = [torch.cat([c, c[:1].expand(missing, *c.shape[1:])]) for c in chunk]
        result = function(*chunk)
        parts.append(result[: CHUNK - missing] if missing else result)
    return torch.cat(parts) if len(parts) > 1 else parts[0]
