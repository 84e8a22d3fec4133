"""Real data and a fitted reference of the blob world."""

from __future__ import annotations

import pytest
import torch
from blob_world import CLASSES, SMALL, blobs

from ltg_core.signals.reference import Reference, fit_reference
from ltg_core.types import Labels, Outputs


@pytest.fixture(scope="session")
def train() -> tuple[Outputs, Labels]:
    return blobs(600, seed=1)


@pytest.fixture(scope="session")
def heldout() -> tuple[Outputs, Labels]:
    return blobs(300, seed=2)


@pytest.fixture(scope="session")
def reference(train: tuple[Outputs, Labels], heldout: tuple[Outputs, Labels]) -> Reference:
    ids = [f"sample-{i}" for i in range(600)]
    generator = torch.Generator().manual_seed(3)
    return fit_reference(*train, *heldout, CLASSES, SMALL, generator=generator, ids=ids, model_hash="abc")
