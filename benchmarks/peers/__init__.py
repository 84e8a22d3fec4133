"""Guidance by others, each an independent and readable implementation of its formula, in one harness.

No code of a release is used. Where a formula was read in the authors' code or text the function says so; the others
are reconstructions from descriptions, and say that too. All are written in (alpha, sigma) with z = alpha x0 + sigma eps,
so that they hold for flows as well as for variance-preserving models, and all climb or choose by the same function.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.peers import gradients, selection
from benchmarks.peers.problem import Made, Problem

PEERS: dict[str, Callable[..., Made]] = {
    "unguided": gradients.unguided,
    "naive LTG": gradients.naive,
    "feedback-guided": gradients.feedback_guided,
    "MPGD": gradients.mpgd,
    "AdamMPGD": gradients.adam_mpgd,
    "DPS": gradients.dps,
    "LGD-MC": gradients.lgd_mc,
    "TFG": gradients.tfg,
    "Feynman-Kac steering": selection.feynman_kac,
    "successive halving": selection.halving,
    "best of N": selection.best_of_n,
}
"""Mode -> function of a problem and its own settings by name."""

__all__ = ["PEERS", "Made", "Problem"]
