"""Gaussians of real features: one per class, a tied one, the background; and the leverage of a linear layer.

Fitted in float64, evaluated in the dtype of the stored tensors through Cholesky factors, differentiable.
"""

from __future__ import annotations

import dataclasses
import math

import torch

from ltg_core.errors import ModelError
from ltg_core.jobs import CancelToken
from ltg_core.signals.projection import CHUNK, Pack
from ltg_core.types import Features, Labels, Scores

RIDGE = (
    1e-6  # added to every covariance of standardised features, so that constant features keep it invertible
)


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussians(Pack):
    """Class-conditional, tied and background Gaussians of projected features (k dimensions, C classes).

    Attributes:
        means: (C, k); the background mean for a class without samples.
        factors: (C, k, k) lower Cholesky factors of the class covariances, each shrunk towards the tied one.
        log_dets: (C,) log determinants of the class covariances.
        tied: (k, k) Cholesky factor of the tied within-class covariance.
        tied_log_det: () its log determinant.
        white_means: (C, k) class means in the coordinates in which the tied covariance is the identity.
        log_priors: (C,) log share of each class; -inf without samples.
        center: (k,) mean of all samples.
        background: (k, k) Cholesky factor of the covariance of all samples.
        log_volume: () makes log densities those of the unscaled features.
    """

    means: torch.Tensor
    factors: torch.Tensor
    log_dets: torch.Tensor
    tied: torch.Tensor
    tied_log_det: torch.Tensor
    white_means: torch.Tensor
    log_priors: torch.Tensor
    center: torch.Tensor
    background: torch.Tensor
    log_volume: torch.Tensor

    def class_surprise(self, x: Features, labels: Labels) -> Scores:
        """-log N(x; mu_y, Sigma_y), (B,)."""
        if not len(x):
            return x.sum(dim=1)
        rows, parts = [], []
        for y in torch.bincount(labels).nonzero()[:, 0].tolist():
            mine = (labels == y).nonzero()[:, 0]
            rows.append(mine)
            squared = _whiten(x[mine] - self.means[y], self.factors[y]).square().sum(dim=1)
            parts.append(0.5 * (squared + self.log_dets[y]))
        constant = 0.5 * x.shape[1] * math.log(2 * math.pi) + self.log_volume
        return torch.cat(parts)[torch.cat(rows).argsort()] + constant

    def class_distances(self, x: Features) -> torch.Tensor:
        """Squared Mahalanobis distances to every class under the tied covariance, (B, C)."""
        white = _whiten(x, self.tied)
        # the direct form: the one by matrix products loses the digits that tell near classes apart
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(white, self.white_means, compute_mode=exact).square()

    def mixture_surprise(self, distances: torch.Tensor) -> Scores:
        """-log sum_c pi_c N(x; mu_c, tied), (B,), from the ``class_distances`` of x."""
        inside = (self.log_priors - 0.5 * distances).logsumexp(dim=1)
        return 0.5 * (len(self.center) * math.log(2 * math.pi) + self.tied_log_det) + self.log_volume - inside

    def relative_distance(self, x: Features, distances: torch.Tensor) -> Scores:
        """Squared distance to the nearest class, tied covariance, less that to the background, (B,); ``distances`` are
        the ``class_distances`` of x.
        """
        seen = distances.masked_fill(self.log_priors.isinf(), torch.inf)
        return seen.amin(dim=1) - _whiten(x - self.center, self.background).square().sum(dim=1)


@dataclasses.dataclass(frozen=True, eq=False)
class Design(Pack):
    """The inverse information of a linear layer on features with a constant.

    Attributes:
        factor: (k + 1, k + 1) lower Cholesky factor of H'H + lambda I.
    """

    factor: torch.Tensor

    def leverage(self, x: Features) -> Scores:
        """h' (H'H + lambda I)^-1 h with h = (x, 1), (B,)."""
        return _whiten(torch.cat([x, x.new_ones(len(x), 1)], dim=1), self.factor).square().sum(dim=1)


def fit_design(x: Features, ridge: float) -> Design:
    """Fit on projected real features, (N, k); ``ridge`` is lambda, the prior precision."""
    width = x.shape[1] + 1
    gram = ridge * torch.eye(width, dtype=torch.double, device=x.device)
    for rows in torch.split(x, CHUNK):
        h = torch.cat([rows.double(), rows.new_ones(len(rows), 1, dtype=torch.double)], dim=1)
        gram += h.T @ h
    return Design(_factor(gram)[0].float())


def shrink(
    covariance: torch.Tensor, fourth: torch.Tensor, count: int, target: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """Ledoit-Wolf shrinkage of a sample covariance towards a target.

    Minimises the expected squared Frobenius error over (1 - a) S + a T, with a = min(1, b^2 / d^2),
    b^2 = (mean_i |x_i|^4 - |S|^2) / n and d^2 = |S - T|^2 (Ledoit & Wolf 2004 with the scaled identity for T;
    the same minimum holds for any fixed target).

    Args:
        covariance: (k, k) S, divided by n.
        fourth: () sum over the samples of |x_i|^4, with the mean taken off.
        count: n.
        target: (k, k) T.

    Returns:
        The shrunk covariance and the weight a of the target.
    """
    distance = float((covariance - target).square().sum())
    noise = (float(fourth) / count - float(covariance.square().sum())) / count
    weight = min(1.0, max(0.0, noise / distance)) if distance > 0 else 0.0
    return (1 - weight) * covariance + weight * target, weight


def fit_gaussians(
    x: Features, labels: Labels, num_classes: int, log_volume: torch.Tensor, cancel: CancelToken | None = None
) -> Gaussians:
    """Fit on projected real features, (N, k).

    Class covariances are shrunk towards the tied one; classes with one or two samples take the tied one,
    classes without any the background's mean and covariance.
    """
    k = x.shape[1]
    counts = torch.bincount(labels, minlength=num_classes)
    center = x.double().mean(dim=0) if len(x) <= CHUNK else _mean(x)
    means, scatters, fourths = _class_moments(x, labels, counts, center, cancel)
    within = (scatters * counts[:, None, None]).sum(dim=0) / len(x)
    between = (means - center)[counts > 0] * (counts[counts > 0, None] / len(x)).sqrt()
    total = within + between.T @ between
    tied = shrink(within, fourths.sum(), len(x), _sphere(within))[0]
    fourth = sum(
        ((rows.double() - center).square().sum(dim=1).square().sum() for rows in torch.split(x, CHUNK)),
        x.new_zeros(()),
    )
    background = shrink(total, fourth, len(x), _sphere(total))[0]

    tied_factor, tied_log_det = _factor(_ridged(tied))
    background_factor, background_log_det = _factor(_ridged(background))
    factors = torch.empty(num_classes, k, k, dtype=torch.float32, device=x.device)
    log_dets = torch.empty(num_classes, dtype=torch.double, device=x.device)
    for y, count in enumerate(counts.tolist()):
        if cancel is not None:
            cancel.check()
        if count == 0:
            factors[y], log_dets[y] = background_factor, background_log_det
        elif count < 3:
            factors[y], log_dets[y] = tied_factor, tied_log_det
        else:
            factor, log_dets[y] = _factor(_ridged(shrink(scatters[y], fourths[y], count, tied)[0]))
            factors[y] = factor
    return Gaussians(
        means=means.float(),
        factors=factors,
        log_dets=log_dets.float(),
        tied=tied_factor.float(),
        tied_log_det=tied_log_det.float(),
        white_means=_whiten(means, tied_factor).float().contiguous(),
        log_priors=(counts.double() / len(x)).log().float(),
        center=center.float(),
        background=background_factor.float(),
        log_volume=log_volume.float(),
    )


def _class_moments(
    x: Features, labels: Labels, counts: torch.Tensor, center: torch.Tensor, cancel: CancelToken | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means (C, k), covariances (C, k, k) and sums of |x|^4 (C,) per class, in float64."""
    classes, k = len(counts), x.shape[1]
    means = center.repeat(classes, 1)
    scatters = torch.zeros(classes, k, k, dtype=torch.double, device=x.device)
    fourths = torch.zeros(classes, dtype=torch.double, device=x.device)
    for y, count in enumerate(counts.tolist()):
        if cancel is not None:
            cancel.check()
        if count:
            rows = x[labels == y].double()
            means[y] = rows.mean(dim=0)
            rows = rows - means[y]
            scatters[y] = rows.T @ rows / count
            fourths[y] = rows.square().sum(dim=1).square().sum()
    return means, scatters, fourths


def _mean(x: Features) -> torch.Tensor:
    total = torch.zeros(x.shape[1], dtype=torch.double, device=x.device)
    for rows in torch.split(x, CHUNK):
        total += rows.double().sum(dim=0)
    return total / len(x)


def _sphere(covariance: torch.Tensor) -> torch.Tensor:
    return (
        torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        * covariance.diagonal().mean()
    )


def _ridged(covariance: torch.Tensor) -> torch.Tensor:
    return covariance + RIDGE * torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)


def _factor(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cholesky factor and log determinant.

    Raises:
        ModelError: The features hold non-finite values.
    """
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if int(failed) or not bool(factor.isfinite().all()):
        raise ModelError(
            "the classifier's features have no usable covariance; look for infinite or missing values"
        )
    # row by row, as a file gives it back: the layout decides the last bits of what is computed with it
    return factor.contiguous(), 2 * factor.diagonal().log().sum()


def _whiten(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Coordinates (B, k) in which the covariance behind ``factor`` is the identity."""
    white: torch.Tensor = torch.linalg.solve_triangular(factor, x.T, upper=False)
    return white.T
