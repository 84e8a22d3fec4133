"""Free energy of the logits."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.params import param
from ltg_core.signals.base import Signal, full
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Energy(Signal):
    """-T logsumexp(z / T), in units of the logits: read it as a percentile of real data, not as a number."""

    NAME: ClassVar[str] = "energy"
    HELP: ClassVar[str] = "How little evidence the classifier finds for any of its classes."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits"})

    temperature: float = param(1.0, "Softens the maximum over the classes.", low=0.01, high=100.0)

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``ref``, ``labels`` and ``group`` are not used."""
        return -self.temperature * (full(out.logits) / self.temperature).logsumexp(dim=1)
