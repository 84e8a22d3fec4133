"""Variance of the logits over the head's members."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.signals.base import Signal, full, need_reference
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class LogitVariance(Signal):
    """(1/C) sum_c Var_k z_kc over the epistemic head's members, in squared logits; no saturation."""

    NAME: ClassVar[str] = "logit_variance"
    HELP: ClassVar[str] = (
        "How much the heads disagree before probabilities squash it; has a gradient everywhere."
    )
    NEEDS: ClassVar[frozenset[str]] = frozenset({"head"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``labels`` is not used."""
        z = full(need_reference(self, ref).members(out, group))  # (K, B, C)
        return (z - z.mean(dim=0)).square().mean(dim=(0, 2))
