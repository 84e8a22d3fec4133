"""Standardising features and keeping their main directions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltg_core.errors import ModelError
from ltg_core.signals.projection import fit_projection


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_narrow_features_are_standardised_and_nothing_else() -> None:
    x = torch.randn(9000, 6, generator=generator()) * torch.linspace(1, 5, 6) + 100
    projection = fit_projection(x, 8, generator())
    values = x.double().numpy()
    expected = (values - values.mean(axis=0)) / values.std(axis=0)
    np.testing.assert_allclose(projection(x), expected, atol=1e-3)
    assert float(projection.log_volume) == pytest.approx(np.log(values.std(axis=0)).sum(), abs=1e-4)


def test_a_feature_that_is_dead_on_real_data_does_not_explode() -> None:
    x = torch.randn(200, 5, generator=generator())
    x[:, 3] = 0
    projection = fit_projection(x, 8, generator())
    assert projection(x + 1).abs().max() < 100
    constant = fit_projection(torch.ones(5, 3), 8, generator())
    assert bool(constant(torch.zeros(2, 3)).isfinite().all())


def test_wide_features_keep_the_directions_that_numpy_finds() -> None:
    x = torch.randn(400, 10, generator=generator(1)) @ torch.randn(10, 60, generator=generator(2))
    x = x + 0.05 * torch.randn(400, 60, generator=generator(3))
    projection = fit_projection(x, 10, generator(4))
    assert projection(x).shape == (400, 10)
    values = x.double().numpy()
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    main = np.linalg.svd(values, full_matrices=False)[2][:10]
    basis = projection.basis.double().numpy()
    np.testing.assert_allclose(basis.T @ basis, np.eye(10), atol=1e-5)
    np.testing.assert_allclose(basis @ basis.T, main.T @ main, atol=1e-3)
    assert float(projection.log_volume) == 0


def test_fewer_samples_than_directions_still_project() -> None:
    x = torch.randn(6, 40, generator=generator())
    assert fit_projection(x, 16, generator())(x).shape == (6, 5)


def test_features_of_another_width_are_refused_with_both_widths() -> None:
    projection = fit_projection(torch.randn(20, 4, generator=generator()), 8, generator())
    with pytest.raises(ModelError, match=r"4 features .* \(2, 7\)"):
        projection(torch.zeros(2, 7))
