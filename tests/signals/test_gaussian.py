"""Covariances against scikit-learn and plain loops; classes with few samples or none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from blob_world import CLASSES, blobs
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage

from ltg_core.errors import Cancelled, ModelError
from ltg_core.jobs import CancelToken
from ltg_core.signals.gaussian import RIDGE, Gaussians, fit_gaussians, shrink

ZERO = torch.zeros(())


def covariance(factor: torch.Tensor) -> np.ndarray:
    lower = factor.double().numpy()
    return lower @ lower.T - RIDGE * np.eye(len(lower))


@pytest.fixture(scope="module")
def data() -> tuple[torch.Tensor, torch.Tensor]:
    out, labels = blobs(120, seed=5)
    return out.features, labels


@pytest.fixture(scope="module")
def fitted(data: tuple[torch.Tensor, torch.Tensor]) -> Gaussians:
    return fit_gaussians(*data, CLASSES, ZERO)


def test_shrinkage_to_the_scaled_identity_is_that_of_scikit_learn() -> None:
    x = np.random.default_rng(0).normal(size=(30, 12)) * np.linspace(0.5, 2, 12)
    x -= x.mean(axis=0)
    s = torch.from_numpy(x.T @ x / len(x))
    target = torch.eye(12, dtype=torch.double) * s.diagonal().mean()
    fourth = torch.from_numpy(x).square().sum(dim=1).square().sum()
    shrunk, weight = shrink(s, fourth, len(x), target)
    assert weight == pytest.approx(ledoit_wolf_shrinkage(x, assume_centered=True), rel=1e-9)
    np.testing.assert_allclose(shrunk, LedoitWolf(assume_centered=True).fit(x).covariance_, rtol=1e-9)


def test_shrinkage_vanishes_with_data_and_is_whole_without() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.linspace(0.5, 2, 6, dtype=torch.double)
    weights = []
    for count in (3, 30, 3000):
        x = torch.randn(count, 6, generator=generator, dtype=torch.double) * scale
        target = torch.eye(6, dtype=torch.double)
        weights.append(shrink(x.T @ x / count, x.square().sum(dim=1).square().sum(), count, target)[1])
    assert weights[0] > weights[1] > weights[2]
    assert weights[2] < 0.01


def test_tied_and_background_covariance_agree_with_scikit_learn(
    fitted: Gaussians, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    x, y = data[0].double().numpy(), data[1].numpy()
    residual = np.concatenate([x[y == c] - x[y == c].mean(axis=0) for c in range(CLASSES)])
    np.testing.assert_allclose(
        covariance(fitted.tied), LedoitWolf(assume_centered=True).fit(residual).covariance_, atol=1e-5
    )
    np.testing.assert_allclose(covariance(fitted.background), LedoitWolf().fit(x).covariance_, atol=1e-5)
    np.testing.assert_allclose(fitted.center, x.mean(axis=0), atol=1e-5)


def test_a_class_covariance_is_its_sample_covariance_shrunk_towards_the_tied_one(
    fitted: Gaussians, data: tuple[torch.Tensor, torch.Tensor]
) -> None:
    x, y = data[0].double().numpy(), data[1].numpy()
    residual = np.concatenate([x[y == c] - x[y == c].mean(axis=0) for c in range(CLASSES)])
    tied = LedoitWolf(assume_centered=True).fit(residual).covariance_
    rows = x[y == 0] - x[y == 0].mean(axis=0)
    sample = rows.T @ rows / len(rows)
    noise = sum(((np.outer(r, r) - sample) ** 2).sum() for r in rows) / len(rows) ** 2
    weight = min(1.0, noise / ((sample - tied) ** 2).sum())
    assert 0 < weight < 1
    np.testing.assert_allclose(
        covariance(fitted.factors[0]), (1 - weight) * sample + weight * tied, atol=1e-5
    )
    np.testing.assert_allclose(
        fitted.log_dets[0], np.linalg.slogdet(covariance(fitted.factors[0]))[1], atol=1e-3
    )


def test_a_class_of_two_samples_takes_the_tied_covariance(fitted: Gaussians) -> None:
    torch.testing.assert_close(fitted.factors[CLASSES - 1], fitted.tied, rtol=0, atol=0)


def test_a_class_without_samples_takes_the_background_and_has_no_share(
    data: tuple[torch.Tensor, torch.Tensor],
) -> None:
    x, y = data
    more = fit_gaussians(x, y, CLASSES + 1, ZERO)
    torch.testing.assert_close(more.factors[-1], more.background, rtol=0, atol=0)
    torch.testing.assert_close(more.means[-1], more.center, rtol=0, atol=0)
    less = fit_gaussians(x, y, CLASSES, ZERO)
    assert bool(more.class_surprise(x[:3], torch.full((3,), CLASSES)).isfinite().all())
    torch.testing.assert_close(
        more.mixture_surprise(more.class_distances(x)), less.mixture_surprise(less.class_distances(x))
    )
    torch.testing.assert_close(
        more.relative_distance(x, more.class_distances(x)), less.relative_distance(x, less.class_distances(x))
    )
    x = x[:4].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        (
            more.mixture_surprise(more.class_distances(x))
            + more.relative_distance(x, more.class_distances(x))
        ).sum(),
        x,
    )
    assert bool(gradient.isfinite().all())


def test_one_sample_a_class_and_constant_features_still_fit() -> None:
    x = torch.zeros(4, 3)
    x[:, 0] = torch.arange(4.0)
    fitted = fit_gaussians(x, torch.arange(4), 4, ZERO)
    assert bool(fitted.mixture_surprise(fitted.class_distances(x + 1)).isfinite().all())
    assert bool(fitted.class_surprise(x + 1, torch.arange(4)).isfinite().all())


def test_features_that_are_not_finite_are_refused() -> None:
    x = torch.randn(10, 3, generator=torch.Generator().manual_seed(0))
    x[3, 1] = torch.inf
    with pytest.raises(ModelError, match="infinite"):
        fit_gaussians(x, torch.zeros(10, dtype=torch.long), 2, ZERO)


def test_fitting_stops_on_request(data: tuple[torch.Tensor, torch.Tensor]) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        fit_gaussians(*data, CLASSES, ZERO, token)
