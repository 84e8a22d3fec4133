"""Feature density under one Gaussian per class."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.signals.base import Signal, need_reference
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Density(Signal):
    """-log sum_c pi_c N(h; mu_c, Sigma) with tied, shrunk covariance, in nats.

    After DDU (Mukhoti et al. 2023). Best used as a limit (too far from all real data is
    junk), not as something to climb.
    """

    NAME: ClassVar[str] = "density"
    HELP: ClassVar[str] = "How far the sample lies from everything real that the classifier was shown."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"gaussian"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``labels`` and ``group`` are not used."""
        ref = need_reference(self, ref)
        return ref.gaussians.mixture_surprise(ref.class_distances(out))
