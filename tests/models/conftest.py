"""Real networks at tiny sizes for the tests of the models."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltg_core.models.architectures import build
from ltg_core.models.classifier import Classifier
from ltg_core.models.preprocess import Preprocess

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


@pytest.fixture
def shared_data() -> Path:
    """The folder with real data and third-party weights."""
    if not (SHARED / "data").is_dir():
        pytest.skip("real data and weights are absent: there is no folder shared/data beside the repository")
    return SHARED / "data"


@pytest.fixture
def images() -> torch.Tensor:
    """Four pictures of noise, 32×32."""
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def make() -> Callable[..., Classifier]:
    """A small residual classifier with random weights and used batch statistics."""

    def maker(arch: str = "resnet20_cifar", classes: int = 5, size: int = 32) -> Classifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            net = build(arch, classes)
            with torch.no_grad():
                net.train()(torch.randn(8, 3, size, size))  # statistics other than zero and one
        labels = [f"sort {i}" for i in range(classes)]
        preprocess = Preprocess(height=size, width=size, resize="squash")
        return Classifier(net, labels, preprocess, name="small", arch=arch)

    return maker
