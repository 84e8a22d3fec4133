"""Epistemic uncertainty in one forward pass: the disagreement of small heads on frozen features."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, ClassVar

import torch

from ltg_core.signals.base import Signal, full, need_reference
from ltg_core.types import Labels, Outputs, Scores

if TYPE_CHECKING:
    from ltg_core.signals.reference import Reference


def mutual_information(logits: torch.Tensor) -> Scores:
    """MI = H(mean_k p_k) - mean_k H(p_k) of member logits (K, B, C), in nats, (B,).

    Written as mean_k sum_y pbar_y (r log r - r + 1) with r = p_ky / pbar_y: the extra terms sum to zero, and
    every summand is non-negative. The difference of two entropies loses all its digits where the members are
    sure; this form keeps the relative precision of small probabilities, so sure samples are still ranked.
    """
    log_p = full(logits).log_softmax(dim=2)
    log_mean = log_p.logsumexp(dim=0) - math.log(log_p.shape[0])
    log_ratio = log_p - log_mean
    # p log(p / pbar) - (p - pbar), with the second part as pbar * expm1 so that nothing cancels near r = 1
    terms = log_p.exp() * log_ratio - log_mean.exp() * torch.expm1(log_ratio)
    return terms.sum(dim=2).mean(dim=0)


@dataclasses.dataclass(frozen=True)
class Epistemic(Signal):
    """Mutual information of prediction and choice of head, MI = H(pbar) - mean_k H(p_k), in nats.

    The classifier's weights and predictions are not touched: the heads read its features (see ``head``).
    """

    NAME: ClassVar[str] = "epistemic"
    HELP: ClassVar[str] = "How much the classifier does not know: what more data of this kind would teach it."
    NEEDS: ClassVar[frozenset[str]] = frozenset({"head"})

    def __call__(
        self, out: Outputs, ref: Reference | None, labels: Labels | None = None, group: str = "all"
    ) -> Scores:
        """Score a batch; ``labels`` is not used."""
        return mutual_information(need_reference(self, ref).members(out, group))
