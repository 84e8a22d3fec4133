"""How long one network call takes here, and how much memory its gradient holds: measured once, in seconds."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from ltg_core.generators.base import Calls, Generator
from ltg_core.guidance.cost import Shares
from ltg_core.guidance.engine import DRAFT_SHIFT, Target
from ltg_core.guidance.objective import Objective
from ltg_core.guidance.settings import Guidance
from ltg_core.guidance.validity import examine

_GRID = 60


@dataclasses.dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        seconds: A row of each kind of call, by the letters of ``Calls``; "E" is the examination of an image.
        weights: Bytes of all networks.
        denoising: Bytes that the gradient through the denoiser holds, for one chunk.
        judging: Bytes that the gradient of the objective holds, for one chunk.
        judge: Whether there is an independent judge.
        tiny: Whether there is a tiny decoder.
        noise: Share of noise at equal parts of the way of a final image; see ``shares_of``.
        noise_draft: Likewise of a draft.
        chunk: Rows of one call.
        paired: Whether a guidance scale makes two predictions.
        likeness: The generator's best way to resemble real images.
    """

    seconds: dict[str, float]
    weights: int
    denoising: int
    judging: int
    judge: bool
    tiny: bool
    noise: list[float]
    noise_draft: list[float]
    chunk: int
    paired: bool
    likeness: str


def measure(generator: Generator, target: Target) -> Measured:
    """Time every kind of network call on one chunk; leaves the generator's counter as it was."""
    before, chunk = Calls(generator.calls), generator.chunk
    z = generator.noise(range(chunk))
    condition = generator.condition(["0" if generator.language == "classes" else ""] * chunk)
    asked = condition.asked
    labels = torch.zeros(chunk, dtype=torch.long)
    timestep = generator.schedule(2).timesteps[0]
    objective = Objective(
        target.classifier,
        target.reference,
        Guidance(augment=False),
        target.judge,
        group="guide",
        calls=Calls(),
    )
    with torch.no_grad():
        decoded = generator.decode(z, tiny=True).clamp(0, 1)
        seconds = {
            "U": _row(chunk, lambda: generator.predict(z, timestep, asked)),
            "D": _row(chunk, lambda: generator.decode(z)),
            "T": _row(chunk, lambda: generator.decode(z, tiny=True)),
            "C": _row(chunk, lambda: target.classifier.forward(decoded)),
        }
        if target.judge is not None:
            seconds["J"] = _row(chunk, lambda: target.judge and target.judge.log_prob(decoded))
    seconds["Ub"], denoising = _backward(z, lambda start: generator.predict(start, timestep, asked).sum())
    seconds["Ub"] = max(0.0, seconds["Ub"] - seconds["U"])
    whole, judging = _backward(
        z, lambda start: objective(generator.decode(start, tiny=True), labels).total.sum()
    )
    # One backward pass through decoder, classifier and judge, parted as their forward passes are.
    parts = {"Tb": "T", "Cb": "C", "Jb": "J"}
    forward = sum(seconds.get(name, 0.0) for name in parts.values())
    back = max(0.0, whole - forward)
    seconds |= {b: back * seconds.get(f, 0.0) / max(forward, 1e-12) for b, f in parts.items()}
    images = (decoded * 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    seconds["E"] = _row(chunk, lambda: _examine(generator, target, images, labels), times=1)
    tiny = generator.codec.has_tiny
    if not tiny:  # then it is the full decoder that was timed
        seconds["Db"] = seconds["Tb"]
    generator.calls.clear()
    generator.calls.update(before)
    weights = sum(_bytes(part) for part in (generator, target.classifier, target.judge))
    noise = [round(v, 5) for v in schedule_shares(generator)(_GRID, False)]
    draft = [round(v, 5) for v in schedule_shares(generator)(_GRID, True)]
    return Measured(
        seconds,
        weights,
        denoising,
        judging,
        target.judge is not None,
        tiny,
        noise,
        draft,
        chunk,
        condition.other is not None,
        generator.likeness_by(),
    )


def schedule_shares(generator: Generator, sampler: str = "default") -> Shares:
    """The shares of noise of a generator's own schedules, of the final image with this sampler."""

    def shares(steps: int, draft: bool) -> list[float]:
        chosen, shift = (generator.draft_sampler, DRAFT_SHIFT) if draft else (sampler, 1.0)
        made = generator.schedule(steps, chosen, shift)
        return [made.noise_share(index) for index in range(len(made))]

    return shares


def shares_of(noise: Sequence[float], noise_draft: Sequence[float]) -> Shares:
    """The same from what was measured: schedules of other lengths lie on the same curve."""

    def shares(steps: int, draft: bool) -> list[float]:
        known = noise_draft if draft else noise
        places = np.arange(steps) / steps * len(known)
        return [float(v) for v in np.interp(places, np.arange(len(known)), known)]

    return shares


def _examine(generator: Generator, target: Target, images: np.ndarray, labels: torch.Tensor) -> Any:
    with generator.at_rows(generator.chunk):
        return examine(generator, target, Guidance().signal, images, labels)


def _row(rows: int, call: Callable[[], Any], times: int = 2) -> float:
    """Seconds a row: the best of some calls on a chunk of so many, after one that warms up."""
    found = []
    for _ in range(times + 1):
        started = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    return min(found[1:]) / rows


def _backward(z: torch.Tensor, value: Callable[[torch.Tensor], torch.Tensor]) -> tuple[float, int]:
    """Seconds a row of forward and backward pass together, and the bytes that the graph holds in between."""
    held: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    def once() -> None:
        with torch.enable_grad():
            start = z.detach().requires_grad_(True)
            torch.autograd.grad(value(start), start)

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        once()
    return _row(len(z), once, times=1), sum(held.values())


def _bytes(owner: Any) -> int:
    """Of the weights of every network that an object holds."""
    owners = [owner, getattr(owner, "codec", None)]
    held = [value for one in owners if one is not None for value in vars(one).values()]
    held += getattr(getattr(owner, "words", None), "components", {}).values()
    nets = [value for value in (owner, *held) if isinstance(value, nn.Module)]
    tensors = {id(t): t for net in nets for t in (*net.parameters(), *net.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())
