"""All parts of the evidence, in the order of a campaign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from benchmarks.evidence.adversarial import Adversarial
from benchmarks.evidence.discovery import Discovery
from benchmarks.evidence.roadsigns import retraining_parts
from benchmarks.evidence.signals import Signals
from benchmarks.evidence.signs import Signs
from benchmarks.evidence.units import Clock, Store, Unit

PARTS = ("recipe", "roadsigns", "curve", "adversarial", "discovery", "signals")


class Part(Protocol):
    """What a campaign needs of a part."""

    name: str

    def units(self, seeds: Sequence[int]) -> list[Unit]:
        """All of it, in order of importance."""

    def settings(self, unit: Unit) -> dict[str, Any]:
        """What must be the same for a stored unit to count."""

    def measure(self, unit: Unit, store: Store) -> dict[str, Any]:
        """One unit."""


def all_parts(signs: Signs, clock: Clock, *, quick: bool = False) -> list[Part]:
    """Every part of ``PARTS``."""
    return [
        *retraining_parts(signs, clock),
        Adversarial(signs, clock),
        Discovery(signs, clock),
        Signals(signs, clock, quick),
    ]
