"""The road-sign world as a user has it: bundled models, real pictures, a reference; no ground truth."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from benchmarks.measure import ROOT, call_costs
from ltg_core.demo.build import BuildSettings, World
from ltg_core.demo.data import Split
from ltg_core.demo.world import CLASSES
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import Judge, find_judge, phrases_of
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import Target
from ltg_core.jobs import CancelToken, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import Reference, fit_reference
from ltg_core.types import Outputs

ASSETS = ROOT / "assets" / "demo"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of everything; the quick form is tiny.

    Attributes:
        train: Real training pictures: those that are bundled, which is what a user of the demo has.
        world: Real training pictures of the demo's own recipe, for other networks.
        val: Real validation pictures.
        test: Test pictures.
        images: Synthetic images of an arm at 1x.
        epochs: Of a retraining.
        steps: Denoising steps; 0 for those of the preset.
        network_steps: Optimiser steps of another network.
        head_passes: Passes of the epistemic head; 0 for the default.
        checked: Images of the adversarial check and of discovery, an arm and seed.
    """

    train: int = 3000
    world: int = 8000
    val: int = 1000
    test: int = 3000
    images: int = 240
    epochs: int = 8
    steps: int = 0
    network_steps: int = 900
    head_passes: int = 0
    checked: int = 120


QUICK = Sizes(
    train=60,
    world=60,
    val=40,
    test=60,
    images=20,
    epochs=1,
    steps=2,
    network_steps=2,
    head_passes=1,
    checked=20,
)


class Signs:
    """Everything that the parts on the demo share, loaded on first use.

    Args:
        work: Folder of pictures, images and weights that can be made again.
        sizes: How much of everything.
    """

    def __init__(self, work: Path, sizes: Sizes) -> None:
        self.work, self.sizes = work, sizes
        settings = BuildSettings()
        counts = {"train_images": sizes.world, "val_images": sizes.val, "test_images": sizes.test}
        if sizes != QUICK:
            counts = {"train_images": settings.train_images, "val_images": settings.val_images,
                      "test_images": settings.test_images}  # fmt: skip
        else:
            counts = {
                name: max(64, n) if name == "train_images" else max(16, n) for name, n in counts.items()
            }
        folder = work / ("images" if sizes != QUICK else "images-quick")
        self._world = World(folder, dataclasses.replace(settings, **counts), no_progress, CancelToken())

    @cached_property
    def generator(self) -> Generator:
        """The bundled one."""
        return load_generator(ASSETS / "generator")

    @cached_property
    def phrases(self) -> dict[str, str]:
        """Conditions that the generator's card names."""
        return phrases_of(ASSETS / "generator")

    @cached_property
    def classifier(self) -> Classifier:
        """The bundled one, which is blind in places."""
        return load_classifier(ASSETS / "classifier.safetensors")

    @cached_property
    def judge(self) -> Judge | None:
        """The generator's own text-image encoder."""
        return find_judge(ASSETS / "generator", CLASSES)

    @cached_property
    def whole_train(self) -> Split:
        """The classifier's training world."""
        return self._world.train()

    @cached_property
    def train(self) -> Split:
        """The bundled part of it."""
        return first(self.whole_train, self.sizes.train)

    @cached_property
    def val(self) -> Split:
        """The bundled validation pictures, every cell equally often."""
        return first(self._world.val(), self.sizes.val)

    @cached_property
    def test(self) -> Split:
        """The demo's test split, every cell equally often."""
        return first(self._world.test(), self.sizes.test)

    @cached_property
    def target(self) -> Target:
        """The bundled classifier with a head of seed 0."""
        return self.target_of(self.classifier)

    @cached_property
    def costs(self) -> dict[str, float]:
        """GFLOP of one call of each network."""
        return call_costs(self.generator, self.target)

    def target_of(self, classifier: Classifier, head_seed: int = 0) -> Target:
        """A classifier with its reference: fitted on the training pictures, percentiles on validation, as in the app."""
        return Target(classifier, self.reference(classifier, head_seed), self.judge)

    def reference(self, classifier: Classifier, head_seed: int = 0) -> Reference:
        """See `target_of`."""
        settings = HeadSettings()
        if self.sizes.head_passes:
            settings = dataclasses.replace(settings, epochs=self.sizes.head_passes)
        return fit_reference(
            outputs(classifier, self.train.images),
            torch.from_numpy(self.train.signs),
            outputs(classifier, self.val.images),
            torch.from_numpy(self.val.signs),
            len(CLASSES),
            settings,
            generator=torch.Generator().manual_seed(head_seed),
            model_hash=classifier.hash,
        )


def first(split: Split, count: int) -> Split:
    """The first pictures of a split."""
    return Split(split.images[:count], split.signs[:count], split.conditions[:count], split.metadata[:count])


def outputs(classifier: Classifier, images: np.ndarray) -> Outputs:
    """Of uint8 images (N, 3, H, W)."""
    parts = [
        classifier.outputs(part.float() / 255, batch_size=256)
        for part in torch.from_numpy(images).split(1024)
    ]
    early = [part.early for part in parts if part.early is not None]
    return Outputs(
        torch.cat([part.logits for part in parts]),
        torch.cat([part.features for part in parts]),
        torch.cat(early) if early else None,
    )
