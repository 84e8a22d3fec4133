"""Mahalanobis distance to the nearest class, relative to that of the background."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.signals.base import Signal, need_reference
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class RelativeMahalanobis(Signal):
    """min_c d_c - d_0: squared distances under the tied covariance and under that of all real features.

    After Ren et al. 2021: what all classes have in common cancels, which leaves what tells the classes apart.
    """

    NAME: ClassVar[str] = "relative_mahalanobis"
    HELP: ClassVar[str] = "How far the sample lies from the nearest class, beyond how unusual it is at all."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``labels`` and ``group`` are not used."""
        ref = need_reference(self, ref)
        return ref.gaussians.relative_distance(ref.projected(out), ref.class_distances(out))
