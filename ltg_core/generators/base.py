"""The contract of a generator, and the counter of what it costs."""

from __future__ import annotations

import abc
import collections
import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from ltg_core.errors import InputError, UnsupportedError
from ltg_core.generators.options import GeneratorOptions
from ltg_core.generators.samplers import PACES, fitting
from ltg_core.generators.schedule import Schedule
from ltg_core.types import Images, Latents

if TYPE_CHECKING:
    from ltg_core.generators.decoding import Codec
    from ltg_core.generators.likeness import ImageAdapter

CHUNK = 8
"""Rows of every network call. Batches are padded to whole chunks, so an image has the same bits alone or in a batch."""


class Calls(collections.Counter[str]):
    """Network calls a sample: "U" denoiser, "D" full decoder, "T" tiny decoder, "C" classifier, "J" judge.

    A backward pass counts under the same letter with a "b" behind it.
    """


Inputs = Mapping[str, torch.Tensor]
"""What a denoiser reads beside latent and time, by the adapter's own names; (B, ...) each, or nothing at all."""


@dataclasses.dataclass(frozen=True, eq=False)
class Condition:
    """What a batch is asked to show. Only the adapter that made it knows what its inputs mean.

    Attributes:
        asked: Inputs of the conditional prediction: text states, pooled embeddings, class numbers, or none.
        other: Inputs of the prediction that guidance leads away from; None where the model has no such prediction.
        scale: Classifier-free guidance scale; 1 for none.
        below: Share of noise up to which the scale applies (limited-interval guidance, Kynkaanniemi et al. 2024);
            above it the content is decided by the conditional model alone, which keeps what is rare.
    """

    asked: Inputs
    other: Inputs | None = None
    scale: float = 1.0
    below: float = 1.0

    @property
    def guided(self) -> bool:
        """Whether two predictions are combined."""
        return self.other is not None and self.scale != 1.0

    def take(self, rows: torch.Tensor) -> Condition:
        """The condition of these rows."""
        other = None if self.other is None else _rows(self.other, rows)
        return dataclasses.replace(self, asked=_rows(self.asked, rows), other=other)

    def alone(self) -> Condition:
        """The conditional prediction without guidance."""
        return dataclasses.replace(self, other=None, scale=1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class Like:
    """Real images whose likeness is asked for beside the prompts; see ``likeness`` and ``captioned``.

    Attributes:
        images: (B, 3, H, W).
        seeds: One an image, for the dropout.
        dropout: Share of each embedding that is left out; 0 for a close likeness, 1 for none.
        by: "adapter" or "captions"; a start from the noised image ("start") is the sampler's and no condition.
    """

    images: Images
    seeds: tuple[int, ...]
    dropout: float = 0.0
    by: str = "adapter"

    def __post_init__(self) -> None:
        if len(self.images) != len(self.seeds):
            raise InputError(f"{len(self.images)} images and {len(self.seeds)} seeds; give one of each")


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

    def take(self, rows: torch.Tensor) -> Estimate:
        """Of these rows of the batch; repeats are allowed."""
        start = None if self.start is None else self.start[rows]
        return Estimate(self.clean[rows], self.output[rows], self.gap[rows], start)


Denoise = Callable[[Latents, int], Estimate]
"""(latent before the step, step index) -> estimate. Guidance wraps one of these into another."""


class Generator(abc.ABC):
    """A frozen diffusion model. Latents and images that leave it are float32, on the device of what came in.

    Attributes:
        name: For people.
        folder: Where it came from.
        codec: Between its latents and pixels.
        scheduler: Its own.
        hash: Of the weights.
        latent_shape: (C, h, w); the image itself for a pixel model.
        image_size: Pixels of a side.
        calls: What has been computed so far.
        device: Where its networks are.
        dtype: Their precision.
        chunk: Rows of every network call; ``at_rows`` changes it for a piece of work.
        denoiser_part: Name of the part, and of the attribute, that denoises.
        language: What it is asked in: "text", "classes" (names or numbers of its own classes) or "nothing".
        classes: Names of its classes where it has any.
        draft_sampler: What drafts of few steps are made with.
        suggested: Settings of guidance that this model needs to work at all, by name.
        tokens: Words that textual inversions have taught it.
        likeness: Its image adapter, if one was loaded.
        options: What it was loaded with.
        compiled: Where its networks were compiled: how long that took, in words.
    """

    name: str
    folder: Path
    hash: str
    codec: Codec
    scheduler: Any
    latent_shape: tuple[int, int, int]
    image_size: int
    calls: Calls
    device: torch.device
    dtype: torch.dtype
    chunk: int = CHUNK
    denoiser_part: str = "unet"
    language: str = "text"
    classes: tuple[str, ...] = ()
    draft_sampler: str = "unipc"
    suggested: Mapping[str, float] = {}
    tokens: tuple[str, ...] = ()
    likeness: ImageAdapter | None = None
    options: GeneratorOptions = GeneratorOptions()
    compiled: str = ""

    @abc.abstractmethod
    def condition(
        self,
        prompts: Sequence[str],
        negative: str = "",
        scale: float = 2.0,
        below: float = 1.0,
        like: Like | None = None,
    ) -> Condition:
        """What prompts ask for, one row each.

        Args:
            prompts: In the generator's ``language``.
            negative: What no image should show.
            scale: Of classifier-free guidance, or of the model's own embedding of it; 1 for none.
            below: See `Condition`.
            like: Real images that the result should resemble, where an image adapter was loaded.

        Raises:
            InputError: A class that it does not know.
            UnsupportedError: A likeness without an image adapter.
        """

    @abc.abstractmethod
    def schedule(self, steps: int, sampler: str = "default", shift: float = 1.0) -> Schedule:
        """A fresh schedule; see `Schedule`."""

    @abc.abstractmethod
    def predict(self, z: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        """The network's raw output, shaped like the latent; differentiable."""

    @abc.abstractmethod
    def decode(self, z: Latents, *, tiny: bool = False) -> Images:
        """Images in [0, 1] (not clamped where gradients flow); ``tiny`` uses the guidance path's decoder."""

    @abc.abstractmethod
    def encode(self, images: Images) -> Latents:
        """Clean latents of images."""

    @property
    def samplers(self) -> tuple[str, ...]:
        """Names of the samplers that fit this model; one that was made for few steps is offered no pace."""
        fit = fitting(self.scheduler)
        return tuple(name for name in fit if name not in PACES) if "steps" in self.suggested else fit

    @property
    def gradient_scale(self) -> float:
        """What an objective is multiplied by before it goes back through the networks: half precision underflows."""
        return 1024.0 if self.dtype == torch.float16 else 1.0

    @property
    def likenesses(self) -> tuple[str, ...]:
        """Ways in which images can resemble real ones, the best first; "start" is there for all."""
        return ("start",) if self.likeness is None else ("adapter", "start")

    def likeness_by(self, wanted: str = "auto") -> str:
        """The way that "auto" stands for, or the wanted one.

        Raises:
            UnsupportedError: This generator does not have it; says what it has.
        """
        if wanted == "auto":
            return self.likenesses[0]
        if wanted not in self.likenesses:
            need = {
                "adapter": "an image adapter, and none was loaded with it",
                "captions": "its own text-image encoder and phrases for conditions in its card",
            }.get(wanted, "something unknown")
            raise UnsupportedError(
                f"{self.name!r} cannot resemble images by {wanted!r}: that takes {need}; it can by "
                f"{' or '.join(self.likenesses)}"
            )
        return wanted

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
            if not condition.guided or schedule.noise_share(index) > condition.below:
                output = self._single(x, timestep, condition.asked)
                return Estimate(a * z + b * output, output, torch.zeros(len(z), device=z.device))
            both = self._pair(x, timestep, condition)
            asked, other = both.chunk(2, dim=1)
            output = other + condition.scale * (asked - other)
            gap = abs(b) * (asked - other).detach().square().mean(dim=(1, 2, 3)).sqrt()
            return Estimate(a * z + b * output, output, gap)

        return denoise

    def chunked(self, function: Callable[..., torch.Tensor], *batches: torch.Tensor) -> torch.Tensor:
        """`in_chunks` of this generator's size."""
        return in_chunks(function, *batches, size=self.chunk)

    @contextlib.contextmanager
    def at_rows(self, rows: int) -> Iterator[None]:
        """With so many rows in every network call; afterwards as many as before, whatever memory allowed meanwhile."""
        before, self.chunk = self.chunk, rows
        try:
            yield
        finally:
            self.chunk = before

    def rows(self, count: int) -> list[torch.Tensor]:
        """The places of a batch of ``count``, a chunk in each part: what one graph of gradients may hold at a time."""
        starts = range(0, count, self.chunk)
        return [torch.arange(start, min(start + self.chunk, count)) for start in starts]

    def _resembling(self, like: Like | None, count: int) -> tuple[Inputs, Inputs]:
        """Inputs for the likeness, for both predictions; none without an image adapter."""
        if like is not None and like.by != "adapter":
            self.likeness_by(like.by)  # says what is missing where it cannot
        through = like if like is not None and like.by == "adapter" else None
        if self.likeness is not None:
            asked, other = self.likeness.pair(through, count)
            return {"image": asked}, {"image": other}
        if through is not None:
            raise UnsupportedError(
                f"{self.name!r} has no image adapter, so it cannot be asked for a likeness; load one with it"
            )
        return {}, {}

    def _single(self, x: Latents, timestep: float, inputs: Inputs) -> torch.Tensor:
        names = sorted(inputs)

        def one(rows: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            self.calls["U"] += len(rows)
            return self.predict(rows, timestep, dict(zip(names, values, strict=True)))

        return self.chunked(one, x, *(inputs[name] for name in names))

    def _pair(self, x: Latents, timestep: float, condition: Condition) -> torch.Tensor:
        """Both predictions, side by side in the channels: they share one call of the network."""
        assert condition.other is not None
        asked, other, names = condition.asked, condition.other, sorted(condition.asked)

        def two(rows: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
            self.calls["U"] += 2 * len(rows)
            halves = zip(names, values[: len(names)], values[len(names) :], strict=True)
            inputs = {name: torch.cat([first, second]) for name, first, second in halves}
            output = self.predict(torch.cat([rows, rows]), timestep, inputs)
            return torch.cat(output.chunk(2), dim=1)

        return self.chunked(two, x, *(asked[name] for name in names), *(other[name] for name in names))


def in_chunks(
    function: Callable[..., torch.Tensor], *batches: torch.Tensor, size: int = CHUNK
) -> torch.Tensor:
    """Apply ``function`` to chunks of exactly ``size`` rows; the last one is padded by repeating its first row.

    The shape of every network call is then the same whatever the batch, and with it the bits of each row.
    """
    count = len(batches[0])
    parts = []
    for start in range(0, count, size):
        chunk = [batch[start : start + size] for batch in batches]
        missing = size - len(chunk[0])
        if missing:
            chunk = [torch.cat([c, c[:1].expand(missing, *c.shape[1:])]) for c in chunk]
        result = function(*chunk)
        parts.append(result[: size - missing] if missing else result)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _rows(inputs: Inputs, rows: torch.Tensor) -> Inputs:
    return {name: value[rows] for name, value in inputs.items()}
