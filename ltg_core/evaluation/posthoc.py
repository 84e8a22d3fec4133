"""What needs no training: logit adjustment and temperature scaling of a classifier that is there."""

from __future__ import annotations

import numpy as np

from ltg_core.errors import DatasetError
from ltg_core.evaluation.frame import Array

TAUS = tuple(round(0.1 * k, 1) for k in range(31))
LEAST = 20
"""Validation images below which nothing is fitted."""


def log_prior(counts: Array) -> Array:
    """log of the share of each class among the training images; a class without any counts as one image."""
    n = np.maximum(np.asarray(counts, dtype=np.float64), 1.0)
    found: Array = np.log(n / n.sum())
    return found


def adjusted(logits: Array, counts: Array, tau: float = 1.0) -> Array:
    """z - tau log pi (Menon et al. 2021, equation 9): what a classifier would say if all classes were as frequent."""
    found: Array = np.asarray(logits, dtype=np.float64) - tau * log_prior(counts)
    return found


def fit_tau(logits: Array, labels: Array, counts: Array) -> float:
    """The strength with the best balanced accuracy on validation images; of equal ones that nearest to 1.

    Raises:
        DatasetError: Too few images.
    """
    _enough(labels, "the strength of the adjustment")

    def balanced(tau: float) -> float:
        said = adjusted(logits, counts, tau).argmax(axis=1)
        return float(np.mean([(said[labels == k] == k).mean() for k in np.unique(labels)]))

    values = [balanced(tau) for tau in TAUS]
    best = max(values)
    return min(
        (tau for tau, value in zip(TAUS, values, strict=True) if value == best), key=lambda t: abs(t - 1)
    )


def fit_temperature(logits: Array, labels: Array) -> float:
    """The T for which softmax(z / T) has the least negative log-likelihood (Guo et al. 2017), between .05 and 20.

    The likelihood is unimodal in log T: it is convex in 1 / T.

    Raises:
        DatasetError: Too few images.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    _enough(labels, "a temperature")
    z = np.asarray(logits, dtype=np.float64)
    own = z[np.arange(len(z)), labels]

    def nll(log_t: float) -> float:
        scale = np.exp(-log_t)
        return float(np.mean(logsumexp(z * scale, axis=1) - own * scale))

    found = minimize_scalar(
        nll, bounds=(np.log(0.05), np.log(20.0)), method="bounded", options={"xatol": 1e-6}
    )
    return float(np.exp(found.x))


def _enough(labels: Array, what: str) -> None:
    if len(labels) < LEAST:
        raise DatasetError(
            f"{what} is fitted on labelled real validation images; there are {len(labels)}, at least {LEAST} are needed"
        )
