"""The free baselines: Bayes' rule and the likelihood, by hand and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ltg_core.errors import DatasetError
from ltg_core.evaluation.posthoc import adjusted, fit_tau, fit_temperature, log_prior


def test_logit_adjustment_takes_the_prior_away() -> None:
    # posterior of a Bayes classifier = likelihood x prior; without the prior the likelihood decides
    likelihood, counts = np.array([[0.2, 0.5, 0.3]]), np.array([80, 15, 5])
    z = np.log(likelihood * counts)
    assert z.argmax() == 0 and adjusted(z, counts).argmax() == 1
    p = np.exp(adjusted(z, counts)) / np.exp(adjusted(z, counts)).sum()
    assert p == pytest.approx(likelihood)
    assert log_prior(np.array([3, 0])) == pytest.approx(np.log([0.75, 0.25]))
    assert adjusted(z, counts, 0.0) == pytest.approx(z)


def test_the_strength_is_the_one_that_balances_best_and_1_where_it_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    labels, counts = np.arange(900) % 3, np.array([1000, 100, 10])
    clean = rng.normal(size=(900, 3)) + 2 * np.eye(3)[labels]
    tau = fit_tau(clean + 2.0 * log_prior(counts), labels, counts)
    assert 1.7 <= tau <= 2.3
    assert fit_tau(50 * np.eye(3)[labels], labels, counts) == 1.0


def test_a_temperature_is_found_again_and_has_the_likelihood_that_torch_finds() -> None:
    rng = np.random.default_rng(1)
    true = rng.normal(size=(4000, 4)) * 2
    p = np.exp(true) / np.exp(true).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(4, p=row) for row in p])
    found = fit_temperature(3.0 * true, labels)
    assert found == pytest.approx(3.0, rel=0.1)
    log_t = torch.zeros(1, dtype=torch.double, requires_grad=True)
    solver = torch.optim.LBFGS([log_t], lr=0.5, max_iter=60)
    z, y = torch.from_numpy(3.0 * true), torch.from_numpy(labels)

    def closure() -> torch.Tensor:
        solver.zero_grad()
        loss = torch.nn.functional.cross_entropy(z / log_t.exp(), y)
        loss.backward()
        return loss

    solver.step(closure)
    assert found == pytest.approx(log_t.exp().item(), rel=1e-4)


def test_too_few_validation_images_are_said() -> None:
    with pytest.raises(DatasetError, match="there are 5, at least 20"):
        fit_temperature(np.zeros((5, 2)), np.zeros(5, dtype=int))
    with pytest.raises(DatasetError, match="there are 5"):
        fit_tau(np.zeros((5, 2)), np.zeros(5, dtype=int), np.ones(2))
