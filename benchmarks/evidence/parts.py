"""All parts of the evidence, in the order of a campaign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from benchmarks.evidence.adversarial import Adversarial
from benchmarks.evidence.asking import Asking
from benchmarks.evidence.discovery import Discovery
from benchmarks.evidence.extrapolation import Extrapolation
from benchmarks.evidence.photo_arms import photo_parts
from benchmarks.evidence.photos import PLACES, SMALL_GENERATOR, TRIAL_GENERATOR, trial_places
from benchmarks.evidence.roadsigns import retraining_parts
from benchmarks.evidence.signals import Signals
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.units import Clock, Store, Unit
from ltg_core.demo.world import CLASSES

PARTS = (
    "recipe", "roadsigns", "curve", "adversarial", "discovery", "asking", "signals", "extrapolation", "cifar10lt", "gtsrb"
)  # fmt: skip


class Part(Protocol):
    """What a campaign needs of a part."""

    name: str

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """All of it, in order of importance."""

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What must be the same for a stored unit to count."""

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One unit."""


def all_parts(
    signs: Signs, clock: Clock, *, quick: bool = False, recipe: str = "shortened", device: str = "cpu"
) -> dict[str, Part]:
    """Name in ``PARTS`` → part.

    Args:
        signs: The road-sign world.
        clock: Asked between batches.
        quick: Whether real data sets are replaced by a few pictures.
        recipe: Of the data sets: "shortened" or "full".
        device: Where classifiers and generators of data sets are trained.
    """
    places, fitted = PLACES, SMALL_GENERATOR
    if quick:
        places = trial_places(signs.train.images, signs.train.signs, CLASSES)
        fitted = TRIAL_GENERATOR
    found: list[Part] = [
        *retraining_parts(signs, clock),
        Adversarial(signs, clock),
        Discovery(signs, clock),
        Asking(signs, clock),
        Signals(signs, clock, quick),
        Extrapolation(recipe, signs.work, clock),
        *photo_parts(recipe, signs.work, clock, device, places, fitted),
    ]
    return dict(zip(PARTS, found, strict=True))
