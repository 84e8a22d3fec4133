"""Is it a blind spot or an artefact? Every generated image is examined; what fails is quarantined, never dropped."""

from __future__ import annotations

import dataclasses
import io
import logging

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from ltg_core.generators.base import Generator, in_chunks
from ltg_core.generators.memory import shrinking
from ltg_core.guidance.engine import Target, from_uint8, to_uint8
from ltg_core.params import Params, param
from ltg_core.signals import SIGNALS
from ltg_core.types import Images, Labels, Scores

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ValiditySettings(Params):
    """When an image is believed."""

    judge: float = param(
        0.5, "Smallest probability of the intended class by the independent judge", low=0.0, high=1.0
    )
    survival: float = param(
        0.35, "Smallest share of the signal left after JPEG, blur, crop and re-encoding", low=0.0, high=1.0
    )
    examine_above: float = param(
        75.0, "Percentile of the signal from which survival is asked for", low=0.0, high=100.0
    )


@dataclasses.dataclass(frozen=True)
class Validity:
    """The findings about one image.

    Attributes:
        judge: Judge's probability of the intended class; NaN without a judge.
        agrees: Whether the judge's first choice is the intended class (True without a judge).
        distance: Mean feature distance to the nearest real samples.
        limit: The distance that 99 % of held-out real samples stay below.
        survival: Share of the signal that is left, audit heads; the median over the transformations.
        believed: The verdict.
        reason: In words, for a person.
        neighbours: Ids of the nearest real samples, nearest first.
    """

    judge: float
    agrees: bool
    distance: float
    limit: float
    survival: float
    believed: bool
    reason: str
    neighbours: tuple[str, ...]


def examine(
    generator: Generator,
    target: Target,
    signal: str,
    images: np.ndarray,
    labels: Labels,
    settings: ValiditySettings | None = None,
) -> list[Validity]:
    """Examine finished images.

    Args:
        generator: For the decode-encode round trip.
        target: Classifier, reference, judge.
        signal: The signal that was sought.
        images: (B, H, W, 3) uint8.
        labels: (B,) intended classes.
        settings: Thresholds.
    """
    settings = settings or ValiditySettings()
    x, reference = from_uint8(images), target.reference
    with torch.no_grad():
        features = in_chunks(lambda part: target.classifier.forward(part).features, x)
        distance, nearest = reference.nearest(features)
        probability = torch.full((len(x),), float("nan"))
        agrees = torch.ones(len(x), dtype=torch.bool)
        if target.judge is not None:
            log_p = in_chunks(target.judge.log_prob, x)
            probability = log_p.gather(1, labels[:, None])[:, 0].exp()
            agrees = log_p.argmax(dim=1) == labels
        values = signal_of(target, signal, x, labels)
        left = survival(generator, target, signal, x, labels, values)
        percentile = reference.percentile(signal, values, "audit")
    found = []
    for i in range(len(x)):
        facts = (
            float(probability[i]),
            bool(agrees[i]),
            float(distance[i].mean()),
            float(left[i]),
            float(percentile[i]),
        )
        reasons = _doubts(target, settings, int(labels[i]), *facts)
        names = tuple(reference.bank_ids[row] for row in nearest[i].tolist()) if reference.bank_ids else ()
        found.append(
            Validity(
                judge=facts[0],
                agrees=facts[1],
                distance=facts[2],
                limit=reference.limits.d_99,
                survival=facts[3],
                believed=not reasons,
                reason="; ".join(reasons) or _praise(target, facts[3], facts[4], settings),
                neighbours=names[:5],
            )
        )
    return found


def _doubts(
    target: Target,
    settings: ValiditySettings,
    label: int,
    probability: float,
    agrees: bool,
    distance: float,
    left: float,
    percentile: float,
) -> list[str]:
    reasons = []
    name = target.classifier.labels[label]
    if target.judge is not None and (not agrees or probability < settings.judge):
        reasons.append(f"the independent judge gives {probability:.0%} to {name!r}")
    if distance > target.reference.limits.d_99:
        reasons.append("it lies farther from real data than 99 % of real samples")
    if percentile >= settings.examine_above and left < settings.survival:
        reasons.append(
            f"only {left:.0%} of the signal survives JPEG, blur and cropping, so it is texture, not content"
        )
    return reasons


def _praise(target: Target, left: float, percentile: float, settings: ValiditySettings) -> str:
    who = "the judge agrees with the class and it" if target.judge is not None else "it"
    words = f"{who} lies near real data"
    return words + (f"; {left:.0%} of the signal survives" if percentile >= settings.examine_above else "")


@torch.no_grad()
def signal_of(target: Target, signal: str, x: Images, labels: Labels, group: str = "audit") -> Scores:
    """The signal of images, (B,), read on the audit heads."""
    chosen = SIGNALS[signal]()

    def one(part: Images, y: Labels) -> Scores:
        return chosen(target.classifier.forward(part), target.reference, y, group).to(part.device)

    return in_chunks(one, x, labels)


@torch.no_grad()
def survival(
    generator: Generator, target: Target, signal: str, x: Images, labels: Labels, values: Scores
) -> torch.Tensor:
    """Share of the signal left after mild transformations, (B,): median over them, clipped to [0, 1].

    What a photograph shows survives a JPEG; what was painted into single pixels does not. Signals that can be negative
    are measured from the 1st percentile of held-out real data.
    """
    floor = min(0.0, target.reference.value_at(signal, 1.0, "audit"))
    shares = []
    for changed in altered(generator, x).values():
        changed_values = signal_of(target, signal, changed, labels)
        shares.append(((changed_values - floor) / (values - floor).clamp(min=1e-9)).clamp(0, 1))
    return torch.stack(shares).quantile(0.5, dim=0)


@torch.no_grad()
def altered(generator: Generator, x: Images) -> dict[str, Images]:
    """Images (B, 3, H, W) in [0, 1] after each of the mild transformations of ``survival``, by its name."""
    again = shrinking(
        generator, lambda: generator.chunked(generator.decode, generator.encode(x)), log.warning
    )
    return {"JPEG": _jpeg(x), "blur": _blur(x), "crop": _crop(x), "re-encoding": again.clamp(0, 1)}


def _jpeg(x: Images, quality: int = 60) -> Images:
    images = []
    for array in to_uint8(x):
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=0)
        images.append(np.asarray(Image.open(buffer).convert("RGB")))
    return from_uint8(images)


def _blur(x: Images) -> Images:
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    weight = (kernel[:, None] * kernel[None, :]).expand(3, 1, 3, 3)
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), weight.contiguous(), groups=3)


def _crop(x: Images, share: float = 0.94) -> Images:
    height, width = x.shape[-2:]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    inside = x[..., top : height - top, left : width - left]
    return F.interpolate(inside, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
