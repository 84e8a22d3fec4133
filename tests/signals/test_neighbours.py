"""The bank of real features and distances to it."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

from ltg_core.signals.neighbours import fit_bank, stratified


def features(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 7, generator=torch.Generator().manual_seed(seed))


def test_distances_and_rows_are_those_of_scikit_learn() -> None:
    real, query = features(300, 0), features(40, 1)
    bank = fit_bank(real, torch.zeros(300, dtype=torch.long), 300, torch.Generator().manual_seed(0))
    distances, rows = bank.nearest(query, 5)
    expected, index = NearestNeighbors(n_neighbors=5).fit(real.numpy()).kneighbors(query.numpy())
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    np.testing.assert_array_equal(rows, index)
    np.testing.assert_allclose(bank.distance(query, 5), expected.mean(axis=1), rtol=1e-5)


def test_a_real_sample_of_the_bank_is_its_own_neighbour_and_has_a_finite_gradient() -> None:
    real = features(50, 0)
    bank = fit_bank(real, torch.zeros(50, dtype=torch.long), 50, torch.Generator().manual_seed(0))
    query = real[7:9].clone().requires_grad_()
    distances, rows = bank.nearest(query, 3)
    assert rows[:, 0].tolist() == [7, 8]
    assert distances[:, 0].tolist() == [0, 0]
    distances.sum().backward()
    assert query.grad is not None and bool(query.grad.isfinite().all())


def test_the_distance_has_the_gradient_of_finite_differences() -> None:
    bank = fit_bank(features(60, 0), torch.zeros(60, dtype=torch.long), 60, torch.Generator().manual_seed(0))
    bank = bank.to(dtype=torch.double)
    query = features(3, 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda q: bank.distance(q, 4), (query,))


def test_more_neighbours_than_the_bank_holds_gives_all_of_it() -> None:
    bank = fit_bank(features(4, 0), torch.zeros(4, dtype=torch.long), 10, torch.Generator().manual_seed(0))
    assert bank.nearest(features(2, 1), 10)[0].shape == (2, 4)


def test_rare_classes_are_kept_whole_and_the_others_cut_to_the_same_number() -> None:
    labels = torch.tensor([0] * 500 + [1] * 90 + [3] * 5)
    chosen = stratified(labels, 101, torch.Generator().manual_seed(0))
    assert torch.bincount(labels[chosen]).tolist() == [48, 48, 0, 5]
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    again = stratified(labels, 101, torch.Generator().manual_seed(0))
    assert chosen.tolist() == again.tolist()


def test_a_small_set_is_kept_whole_and_a_bank_below_the_number_of_classes_is_full() -> None:
    labels = torch.arange(30)
    assert stratified(labels, 100, torch.Generator().manual_seed(0)).tolist() == list(range(30))
    assert len(stratified(labels, 7, torch.Generator().manual_seed(0))) == 7


def test_positions_point_back_to_the_samples() -> None:
    real = features(80, 0)
    labels = torch.arange(80) % 3
    bank = fit_bank(real, labels, 20, torch.Generator().manual_seed(0))
    torch.testing.assert_close(bank.features, real[bank.positions])
    assert bank.labels.tolist() == labels[bank.positions].tolist()
