"""What feedback-guided synthesis ascends: loss, entropy or hardness of the decoded estimate."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import torch

from ltg_core.errors import ArchitectureMismatch, InputError, ModelError
from ltg_core.generators.base import Calls
from ltg_core.guidance.objective import Levels
from ltg_core.models.classifier import Classifier
from ltg_core.signals import SIGNALS
from ltg_core.signals.base import Signal
from ltg_core.signals.reference import Reference
from ltg_core.types import Images, Labels, Scores

_FLAT = 1e-6
"""A picture of a smaller range than this is not stretched."""


class Criterion:
    """A criterion as a function of decoded images, raw as its formula gives it, for its gradient.

    Args:
        classifier: Frozen, under test.
        reference: Its Gaussians are needed for the hardness; its percentiles say how rare a value is.
        name: "loss", "entropy" or "hardness": the signal of that name.
        calls: Counter of network calls.
        stretched: Stretch every image to the whole range from 0 to 1 instead of clamping it, as the released code
            does. There the range is that of the tensor at hand; here of each image, so that nothing depends on
            the size of a network call. For one image the two are the same.
        unresized: Side of the generator's images, to show them to the classifier at that size; 0 resizes them to the
            classifier's own.
        say: Told where that size does not suit the classifier, which then sees its own.

    Raises:
        UnsupportedError: The reference lacks what the criterion needs.
    """

    def __init__(
        self,
        classifier: Classifier,
        reference: Reference,
        name: str,
        calls: Calls,
        *,
        stretched: bool = False,
        unresized: int = 0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.classifier, self.reference, self.calls, self.stretched = classifier, reference, calls, stretched
        if unresized:
            try:
                self.classifier = at_side(classifier, unresized)
            except (ModelError, ArchitectureMismatch, InputError) as error:
                say(f"images are resized for the classifier, unlike in the released code: {error}")
        self.signal: Signal = SIGNALS[name]()
        self._levels = Levels(reference, name, "guide")

    def __call__(self, images: Images, labels: Labels) -> tuple[Scores, Scores]:
        """Raw value (B,), with its graph, and standard score among held-out real data (B,), without one.

        Args:
            images: (B, 3, H, W), about [0, 1].
            labels: (B,) intended classes.
        """
        clamped = images + (images.clamp(0, 1) - images).detach()  # the gradient passes
        images = stretch(images) if self.stretched else clamped
        out = self.classifier.forward(images)
        value = self.signal(out, self.reference, labels, "guide").to(images.device)
        self.calls["C"] += len(images)
        return value, self._levels(value.detach())


def stretch(images: Images) -> Images:
    """Each image (3, H, W) linearly to the range from 0 to 1; an even one stays, clamped."""
    flat = images.flatten(1)
    low, high = flat.amin(dim=1).view(-1, 1, 1, 1), flat.amax(dim=1).view(-1, 1, 1, 1)
    even = (high - low) < _FLAT
    spread = torch.where(even, torch.ones_like(high), high - low)
    return torch.where(even, images.clamp(0, 1), (images - low) / spread)


@functools.lru_cache(maxsize=4)
def at_side(classifier: Classifier, side: int) -> Classifier:
    """The same network asked at another size of its input; only normalised, never resampled.

    Raises:
        ModelError: It cannot take that size, or has other features then.
    """
    other = Classifier(
        classifier.net,
        classifier.labels,
        dataclasses.replace(classifier.preprocess, height=side, width=side, resize="none"),
        name=classifier.name,
        arch=classifier.arch,
        feature_layer=classifier.feature_layer,
        early_layer=classifier.early_layer,
        options=classifier.options,
        keep=classifier.units.keep,
        notes=classifier.notes,
        device=classifier.device,
    )
    grey = torch.full((1, 3, side, side), 0.5)
    width, own = (c.outputs(grey).features.shape[1] for c in (other, classifier))
    if width != own:
        raise ModelError(f"{classifier.name} has {width} features at {side} pixels instead of {own}")
    return other
