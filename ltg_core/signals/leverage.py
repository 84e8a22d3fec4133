"""Leverage: the closed-form epistemic variance of a linear last layer."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from ltg_core.signals.base import Signal, need_reference
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


@dataclasses.dataclass(frozen=True)
class Leverage(Signal):
    """h' (H'H + lambda I)^-1 h on standardised features with a constant for the bias; no training at all.

    The variance of a last-layer Laplace approximation up to its noise scale; the fallback for tiny data.
    """

    NAME: ClassVar[str] = "leverage"
    HELP: ClassVar[str] = (
        "How little the real data constrains the last layer in this direction; works on tiny data."
    )
    NEEDS: ClassVar[frozenset[str]] = frozenset({"leverage"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``labels`` and ``group`` are not used."""
        ref = need_reference(self, ref)
        return ref.design.leverage(ref.projected(out))
