"""Hardness: how far the features lie from those of their own class."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.signals.base import Signal, check_labels, need_reference
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Hardness(Signal):
    """1/2 [(h - mu_y)' Sigma_y^-1 (h - mu_y) + log det Sigma_y + k log 2 pi], in nats.

    After Sehwag et al. 2022. Without labels the predicted class stands in for y.
    """

    NAME: ClassVar[str] = "hardness"
    HELP: ClassVar[str] = "How unusual the sample is among the real samples of its class."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"label", "gaussian"})
    LABEL_OPTIONAL: ClassVar[bool] = True

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``group`` is not used."""
        ref = need_reference(self, ref)
        labels = out.logits.argmax(dim=1) if labels is None else check_labels(out, labels)
        return ref.gaussians.class_surprise(ref.projected(out), labels)
