"""The trained classifier of the squares and its reference."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from square_world import Squares, small_net, squares, wrapped

from ltg_core.models.classifier import Classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import Reference, fit_reference


@pytest.fixture(scope="session")
def classifier() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = small_net()
        optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
        for step in range(60):
            batch = squares(32, seed=100 + step)
            optimiser.zero_grad()
            F.cross_entropy(net((batch.images - 0.3) / 0.25), batch.labels).backward()
            optimiser.step()
    made = wrapped(net)
    test = squares(64, seed=1)
    assert (made.outputs(test.images).logits.argmax(1) == test.labels).all()
    for parameter in net.parameters():
        parameter.grad = None
    return made


@pytest.fixture(scope="session")
def reference(classifier: Classifier) -> Reference:
    train, held = squares(200, seed=2), squares(100, seed=3)
    return fit_reference(
        classifier.outputs(train.images),
        train.labels,
        classifier.outputs(held.images),
        held.labels,
        3,
        HeadSettings(members=4, hidden=8, epochs=3),
        generator=torch.Generator().manual_seed(0),
    )


@pytest.fixture
def batch() -> Squares:
    return squares(4, seed=7)
