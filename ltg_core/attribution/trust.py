"""Whether a map deserves belief: does it depend on what the network learned, and do its hot pixels matter?"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltg_core.attribution.base import Attribution, baseline_images, out_of_memory
from ltg_core.attribution.targets import Target, twin
from ltg_core.errors import InputError
from ltg_core.jobs import CancelToken, Progress, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.types import Images

SIMILAR = 0.5
"""Rank correlation with a randomised network's map above which a map says little about the network [ours]."""


@dataclasses.dataclass(frozen=True)
class Trust:
    """Two checks of one map.

    Attributes:
        randomisation: Rank correlation (-1 to 1) of the map's strength with that of a network whose last
            layers were drawn anew (Adebayo et al. 2018); near 0 is good, near 1 means it shows the image.
        deletion: Area under the target while the hottest pixels are removed first; low is good (Petsiuk et
            al. 2018). 0 is the lowest and 1 the highest value of the target met in the whole check.
        insertion: The same while they are added to the baseline; high is good.
        deletion_random: The first area for pixels in random order.
        insertion_random: The second area for pixels in random order.
        verdict: In one sentence.
    """

    randomisation: float
    deletion: float
    insertion: float
    deletion_random: float
    insertion_random: float
    verdict: str

    @property
    def depends_on_network(self) -> bool:
        """Whether the randomisation check passes."""
        return abs(self.randomisation) <= SIMILAR

    @property
    def faithful(self) -> bool:
        """Whether the hot pixels matter more than random ones, removed and added taken together."""
        return (self.insertion - self.insertion_random) + (self.deletion_random - self.deletion) > 0

    @property
    def passed(self) -> bool:
        """Both checks."""
        return self.depends_on_network and self.faithful


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What the checks of one map rest on, to be shown beside it.

    Attributes:
        trust: The result.
        curves: (4, steps + 1) float32: the target while the hottest pixels are removed, while they are added, and the
            same two for pixels in random order (their mean). 0 is the lowest and 1 the highest value met in the whole
            check; NaN where the target never moved.
        unlearned: (H, W) float32, the map of the network with random last layers.
        notes: What the reader should know, for example that memory ran short.
    """

    trust: Trust
    curves: NDArray[np.float32]
    unlearned: NDArray[np.float32]
    notes: tuple[str, ...] = ()


def sanity(
    method: Attribution,
    target: Target,
    images: Images,
    heat: Tensor | None = None,
    **given: Any,
) -> list[Trust]:
    """The results of ``examine`` without what they rest on; the arguments are the same."""
    return [found.trust for found in examine(method, target, images, heat, **given)]


def examine(
    method: Attribution,
    target: Target,
    images: Images,
    heat: Tensor | None = None,
    *,
    background: Images | None = None,
    generator: torch.Generator | None = None,
    steps: int = 16,
    random_orders: int = 3,
    share: float = 0.34,
    baseline: str = "mean",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> list[Evidence]:
    """Check the maps of a batch; one result per image.

    Args:
        method: The attribution that made the maps.
        target: What it explained.
        images: (B, 3, H, W).
        heat: (B, H, W) as the method returned it; None to compute it here.
        background: As given to the method.
        generator: Draws the random network and the random orders; None for seed 0. On the CPU.
        steps: Points of the deletion and insertion curves.
        random_orders: Random orders to compare with.
        share: Share of the network's weight tensors, counted from the output, that are drawn anew.
        baseline: What removed pixels are replaced with, as for the methods.
        on_progress: Called after each of the two checks.
        cancel: Checked before every pass through the network.

    Raises:
        InputError: Heat and images differ in shape, or ``share`` is not in (0, 1].
        UnsupportedError: As ``Attribution.attribute``.
    """
    draws = generator or torch.Generator().manual_seed(0)
    token = cancel or CancelToken()
    settled = target.pinned(
        images
    )  # a randomised network predicts another class; the question must stay the same
    if heat is None:
        heat = method.attribute(settled, images, background=background, cancel=token)
    if heat.shape != (len(images), *images.shape[2:]):
        raise InputError(f"heat has shape {tuple(heat.shape)} for images of shape {tuple(images.shape)}")
    on_progress(Progress(1, 3, "the same map of a network with random last layers"))
    other = settled.on(randomised(target.classifier, share, draws))
    unlearned = method.attribute(other, images, background=background, cancel=token)
    alike = [rank_correlation(a.abs(), b.abs()) for a, b in zip(heat, unlearned, strict=True)]
    on_progress(Progress(2, 3, "removing and adding the hottest pixels"))
    empty = baseline_images(baseline, images, target.classifier.preprocess)
    notes: list[str] = []
    curves = _curves(
        settled,
        images,
        empty,
        _orders(heat, random_orders, draws),
        steps,
        method.internal_batch_size,
        token,
        notes,
    )
    areas = torch.trapezoid(curves, dx=1 / steps, dim=1)  # (4, B)
    on_progress(Progress(3, 3, "checked"))
    return [
        Evidence(
            _judged(alike[b], *areas[:, b].tolist()),
            curves[:, :, b].numpy().astype(np.float32),
            unlearned[b].detach().cpu().numpy().astype(np.float32),
            tuple(notes),
        )
        for b in range(len(images))
    ]


def randomised(classifier: Classifier, share: float, generator: torch.Generator) -> Classifier:
    """A copy whose last weight tensors are drawn anew, each with the mean and spread that it had.

    Keeping the scale keeps the activations in range, so that a difference of maps is not one of magnitudes
    [ours; Adebayo et al. 2018 draw from the initialiser].
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}; give a number above 0 and up to 1")
    copied = twin(classifier, share=False)
    weights = [p for p in copied.net.parameters() if p.ndim >= 2]
    count = max(1, round(share * len(weights)))
    with torch.no_grad():
        for weight in weights[-count:]:
            noise = torch.randn(weight.shape, generator=generator).to(weight)
            spread = weight.std() if weight.numel() > 1 else weight.abs().mean()
            weight.copy_(noise * spread + weight.mean())
    return copied


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's rank correlation of two maps; 0 where one of them is flat."""
    x, y = (_ranks(t.detach().cpu().double().reshape(-1).numpy()) for t in (a, b))
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x**2).sum() * (y**2).sum()))
    return float((x * y).sum() / norm) if norm > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks with ties shared, as Spearman's definition wants them."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts).astype(np.float64)
    return np.asarray((last - (counts - 1) / 2)[inverse.reshape(-1)], dtype=np.float64)


def _orders(heat: Tensor, random_orders: int, draws: torch.Generator) -> list[Tensor]:
    """When each pixel's turn comes, each (B, pixels): by heat, then in random orders."""
    flat = heat.detach().cpu().reshape(len(heat), -1)
    by_heat = flat.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    randoms = [
        torch.stack([torch.randperm(flat.shape[1], generator=draws) for _ in flat])
        for _ in range(random_orders)
    ]
    return [by_heat, *randoms]


@torch.no_grad()
def _curves(
    target: Target,
    images: Images,
    empty: Images,
    orders: list[Tensor],
    steps: int,
    rows: int,
    cancel: CancelToken,
    notes: list[str],
) -> Tensor:
    """The target (4, steps + 1, B) while pixels go and come by heat, then the means over random orders.

    The scale is the range of all values met, not the gap between image and baseline: that gap may be small or
    negative, for example when the baseline looks more like the class than the image does.
    """
    where = target.classifier.device
    images, empty = images.detach().to(where), empty.to(where)
    values = _Values(target, target.prepare(images), rows)
    pixels = orders[0].shape[1]
    curves = torch.empty(len(orders), 2, steps + 1, len(images))
    for index, order in enumerate(orders):
        turn = order.to(where).view(len(images), 1, *images.shape[2:])
        for step in range(steps + 1):
            cancel.check()
            reached = turn < round(pixels * step / steps)
            curves[index, 0, step] = values(torch.where(reached, empty, images))
            curves[index, 1, step] = values(torch.where(reached, images, empty))
    if values.rows < rows:
        notes.append(
            f"memory ran out while checking {rows} images at once; finished with {values.rows} at once"
        )
    low, high = curves.amin(dim=(0, 1, 2)), curves.amax(dim=(0, 1, 2))
    scale = torch.where(high - low > 1e-6 * (1 + high.abs()), high - low, torch.full_like(high, torch.nan))
    curves = (curves - low) / scale
    return torch.cat([curves[0], curves[1:].mean(dim=0)])


class _Values:
    """The target of many images, in parts that are halved when memory runs out."""

    def __init__(self, target: Target, per_sample: tuple[Tensor, ...], rows: int) -> None:
        self.target, self.per_sample, self.rows = target, per_sample, rows

    def __call__(self, images: Images) -> Tensor:
        while True:
            parts = [slice(start, start + self.rows) for start in range(0, len(images), self.rows)]
            try:
                return torch.cat([self._part(images, part) for part in parts])
            except (RuntimeError, MemoryError) as error:
                if self.rows == 1 or not out_of_memory(error):
                    raise
            self.rows //= 2  # only here, after the handler, are the failed attempt's tensors free

    def _part(self, images: Images, part: slice) -> Tensor:
        return self.target.forward(images[part], *(t[part] for t in self.per_sample)).cpu()


def _judged(randomisation: float, *areas: float) -> Trust:
    deletion, insertion, deletion_random, insertion_random = areas
    trust = Trust(randomisation, deletion, insertion, deletion_random, insertion_random, "")
    if not np.isfinite(deletion):
        verdict = "cannot be judged: the target stays the same however many pixels are removed"
    elif not trust.depends_on_network:
        verdict = "shows the image more than the network: with random last layers the map is similar"
    elif not trust.faithful:
        verdict = "its hot pixels matter no more to the target than random ones"
    else:
        verdict = "depends on what the network learned, and its hot pixels matter more than random ones"
    return dataclasses.replace(trust, verdict=verdict)
