"""What guidance seeks: a signal of rarity, minus doubt about the class, minus distance from real data."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch.nn import functional as F

from ltg_core.errors import UnsupportedError
from ltg_core.generators.base import Calls
from ltg_core.generators.judge import Judge
from ltg_core.guidance.settings import Guidance
from ltg_core.models.classifier import Classifier
from ltg_core.signals import SIGNALS
from ltg_core.signals.base import Signal
from ltg_core.signals.reference import Reference
from ltg_core.types import Images, Labels, Scores

_PERCENTILES = (0.5, 2.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.5)


class Judged(NamedTuple):
    """The parts of the objective, each (B,).

    Attributes:
        total: What is maximised.
        level: The signal as a standard score among held-out real data: 0 is the median, 1.9 the 97th percentile.
        on_class: Judge's probability of the intended class (ones without a judge).
        excess: How far beyond the 95 % distance limit, in units of the gap to the 99 % limit.
    """

    total: Scores
    level: Scores
    on_class: Scores
    excess: Scores


class Objective:
    """A differentiable objective on images.

    Args:
        classifier: The frozen classifier under test.
        reference: What was fitted on its real data.
        guidance: Signal, penalties, augmentation.
        judge: Independent judge of the class; without one the class penalty is off.
        group: Epistemic heads that are read.
        calls: Counter of network calls.

    Raises:
        UnsupportedError: The signal cannot be computed from images alone.
    """

    def __init__(
        self,
        classifier: Classifier,
        reference: Reference,
        guidance: Guidance,
        judge: Judge | None,
        *,
        group: str,
        calls: Calls,
        augment: bool | None = None,
    ) -> None:
        self.classifier, self.reference, self.guidance, self.judge = classifier, reference, guidance, judge
        self.signal: Signal = SIGNALS[guidance.signal]()
        if not self.signal.DIFFERENTIABLE:
            raise UnsupportedError(
                f"the signal {guidance.signal!r} has no gradient; choose epistemic or entropy"
            )
        self.group, self.calls = group, calls
        self.augment = guidance.augment if augment is None else augment
        self._levels = Levels(reference, guidance.signal, group)

    def level_at(self, percentile: float) -> float:
        """The standard score of a percentile of held-out real data; infinite for 100."""
        if percentile >= 100:
            return math.inf
        value = self.reference.value_at(self.guidance.signal, percentile, self.group)
        return float(self._levels(torch.tensor([value]))[0])

    def __call__(self, images: Images, labels: Labels) -> Judged:
        """Judge images (B, 3, H, W), clamped to [0, 1] with the gradient passed through, for their classes (B,)."""
        images = images + (images.clamp(0, 1) - images).detach()
        views = mild_views(images) if self.augment else [images]
        levels = []
        distance = images.new_zeros(len(images))
        for number, view in enumerate(views):
            out = self.classifier.forward(view)
            self.calls["C"] += len(view)
            values = self.signal(out, self.reference, labels, self.group).to(images.device)
            levels.append(self._levels(values))
            if number == 0 and self.guidance.realism > 0:
                distance = self.reference.knn_distance(out.features).to(images.device)
        level = torch.stack(levels).mean(dim=0)
        total, on_class, excess = level, torch.ones_like(level), torch.zeros_like(level)
        if self.guidance.realism > 0:
            limits = self.reference.limits
            unit = max(limits.d_99 - limits.d_95, 0.05 * limits.d_95, 1e-6)
            excess = F.relu(distance - limits.d_95) / unit
            total = total - self.guidance.realism * excess
        if self.judge is not None:
            log_p = self.judge.log_prob(images).gather(1, labels[:, None])[:, 0]
            self.calls["J"] += len(images)
            on_class = log_p.exp()
            total = total - self.guidance.on_class * F.relu(math.log(self.guidance.on_class_from) - log_p)
        return Judged(total, level, on_class, excess)


class Levels:
    """A signal's raw values as standard scores among held-out real data (rank-based inverse normal, piecewise linear).

    Monotone and differentiable almost everywhere; beyond the outer knots it goes on with the outer slope. One unit
    means the same for every signal, so that penalties need no tuning to the signal's scale.
    """

    def __init__(self, reference: Reference, signal: str, group: str) -> None:
        values: list[float] = []
        scores: list[float] = []
        for percentile in _PERCENTILES:
            value = reference.value_at(signal, percentile, group)
            if values and value <= values[-1] + 1e-9 * max(1.0, abs(values[-1])):
                continue
            values.append(value)
            scores.append(NormalDist().inv_cdf(percentile / 100))
        if len(values) < 2:
            values, scores = [values[0], values[0] + 1.0], [0.0, 1.0]
        self._values, self._scores = torch.tensor(values), torch.tensor(scores)

    def __call__(self, raw: Scores) -> Scores:
        """Standard scores of raw values, (B,)."""
        values, scores = self._values.to(raw), self._scores.to(raw)
        right = torch.searchsorted(values, raw.detach().contiguous()).clamp(1, len(values) - 1)
        left = right - 1
        slope = (scores[right] - scores[left]) / (values[right] - values[left])
        level = scores[left] + slope * (raw - values[left])
        # Above all real data the last slope could let one far value outweigh every penalty.
        top = scores[-1] + 1.0
        return torch.where(level > top, top + torch.log1p((level - top).clamp(min=0)), level)


def mild_views(images: Images) -> list[Images]:
    """The image, softened, and shifted: what a photograph's content survives and painted texture does not."""
    half = F.interpolate(images, scale_factor=0.5, mode="bilinear", antialias=True, align_corners=False)
    soft = F.interpolate(half, size=images.shape[-2:], mode="bilinear", align_corners=False)
    step = max(1, images.shape[-1] // 32)
    padded = F.pad(images, (step,) * 4, mode="replicate")
    height, width = images.shape[-2:]
    return [images, 0.3 * images + 0.7 * soft, padded[..., 2 * step :, :width][..., :height, :]]
