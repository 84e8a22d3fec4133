"""Margin between the two most likely classes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.errors import UnsupportedError
from ltg_core.params import param
from ltg_core.signals.base import Signal, full
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Margin(Signal):
    """-(p_(1) - p_(2)), or the same on logits; 0 means a tie."""

    NAME: ClassVar[str] = "margin"
    HELP: ClassVar[str] = "How close the second guess comes to the first."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})

    on: str = param(
        "probabilities",
        "Probabilities read like confidence; logits do not saturate where the classifier is very sure.",
        choices=("probabilities", "logits"),
    )

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``ref``, ``labels`` and ``group`` are not used."""
        if out.logits.shape[1] < 2:
            raise UnsupportedError("margin compares two classes and this classifier has one; choose energy")
        values = full(out.logits)
        top = (values.softmax(dim=1) if self.on == "probabilities" else values).topk(2, dim=1).values
        return top[:, 1] - top[:, 0]
