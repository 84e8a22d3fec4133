"""Guided generation with the networks on a device that is not the CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ltg_core.generators.base import Generator
from ltg_core.generators.loading import load_generator
from ltg_core.generators.options import GeneratorOptions
from ltg_core.guidance.engine import GenerateRequest, Target, generate_images
from tests.guidance.test_engine import MODES, small
from tests.lazy import second_device


@pytest.fixture(autouse=True)
def device() -> Iterator[str]:
    with second_device() as name:
        yield name


@pytest.fixture
def elsewhere(tiny_generator: Path, device: str) -> Generator:
    return load_generator(tiny_generator, device=device, options=GeneratorOptions(dtype="float32"))


def test_the_device_refuses_tensors_of_the_cpu(device: str) -> None:
    with pytest.raises(RuntimeError):
        torch.ones(2, 2, device=device) + torch.ones(2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_guided_images_are_those_of_the_cpu(
    name: str,
    elsewhere: Generator,
    generator: Generator,
    target: Target,
    request_of_three: GenerateRequest,
    device: str,
) -> None:
    aim = Target(copy.deepcopy(target.classifier).to(device), target.reference.to(device), target.judge)
    made = generate_images(elsewhere, aim, small(MODES[name]), request_of_three)
    here = generate_images(generator, target, small(MODES[name]), request_of_three)
    assert np.abs(made.images.astype(int) - here.images.astype(int)).max() <= 2, "kernels round otherwise"
