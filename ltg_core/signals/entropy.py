"""Entropy of the prediction."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.signals.base import Signal, full
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Entropy(Signal):
    """H = -sum_y p_y log p_y, in nats, from 0 to log(classes)."""

    NAME: ClassVar[str] = "entropy"
    HELP: ClassVar[str] = "How undecided the prediction is between the classes, whatever the cause."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``ref``, ``labels`` and ``group`` are not used."""
        log_p = full(out.logits).log_softmax(dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)
