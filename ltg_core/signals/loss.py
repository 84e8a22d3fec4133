"""Cross-entropy of the given or intended class."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import torch.nn.functional as F

from ltg_core.signals.base import Signal, full, need_labels
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Loss(Signal):
    """-log p_y for the given label y, in nats. For real data that is the stored label, mistakes included."""

    NAME: ClassVar[str] = "loss"
    HELP: ClassVar[str] = "How surprised the classifier is by the label that the sample has or was made for."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"logits", "label"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``ref`` and ``group`` are not used."""
        return F.cross_entropy(full(out.logits), need_labels(self, out, labels), reduction="none")
