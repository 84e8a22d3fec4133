"""A tiny generator and classifier with a fitted reference, loaded once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ltg_core.generators.base import Generator
from ltg_core.generators.judge import find_judge
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import GenerateRequest, Target
from ltg_core.models.loaders import load_classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import fit_reference
from tests.conftest import SIGNS, TinyWorld


@pytest.fixture(scope="session")
def generator(tiny_generator: Path) -> Generator:
    """The two-step generator."""
    return load_generator(tiny_generator)


@pytest.fixture(scope="session")
def target(tiny_world: TinyWorld, tiny_classifier_file: Path, tiny_generator: Path) -> Target:
    """Classifier, reference and judge of the tiny world."""
    classifier = load_classifier(tiny_classifier_file)
    out = classifier.outputs(tiny_world.images.float() / 255)
    reference = fit_reference(
        out,
        tiny_world.targets,
        out,
        tiny_world.targets,
        len(SIGNS),
        HeadSettings(members=4, hidden=8, epochs=5),
        generator=torch.Generator().manual_seed(0),
        ids=[f"s{i}" for i in range(len(tiny_world.targets))],
    )
    return Target(classifier, reference, find_judge(tiny_generator, SIGNS))


@pytest.fixture
def request_of_three() -> GenerateRequest:
    """Three prompts, classes, seeds."""
    return GenerateRequest(tuple(f"a photo of a {s} sign" for s in SIGNS), (0, 1, 2), (11, 12, 13))
