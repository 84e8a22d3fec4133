"""Real data sets with a long tail, and the generators that are fitted on them: CIFAR-10-LT and GTSRB."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench_cifar import SHARED, read
from benchmarks.evidence.learning import Real
from ltg_core.errors import DatasetError
from ltg_core.fitting import FitSettings
from ltg_core.generators.fit.assemble import GeneratorSettings, fit_generator
from ltg_core.generators.fit.autoencoder import AutoencoderSettings
from ltg_core.generators.fit.denoiser import DenoiserSettings
from ltg_core.generators.fit.textimage import TextSettings
from ltg_core.jobs import ProgressFn, no_progress
from ltg_core.signals.head import HeadSettings
from ltg_core.training.settings import TrainSettings
from ltg_core.workflows.gathering import gather

IMBALANCE = 100
CIFAR_VAL = 100
"""Pictures a class, of those that the long tail leaves out, for percentiles and for watching."""


@dataclasses.dataclass(frozen=True, eq=False)
class Photos:
    """One data set.

    Attributes:
        real: What is learned from and watched.
        test: uint8 (N, 3, 32, 32).
        test_labels: (N,).
        labels: Class names.
    """

    real: Real
    test: torch.Tensor
    test_labels: np.ndarray
    labels: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How classifiers are trained from scratch.

    Attributes:
        name: "shortened" or "full".
        arch: Of the network.
        settings: Of the training.
    """

    name: str
    arch: str
    settings: TrainSettings


def recipes(flip: bool) -> dict[str, Recipe]:
    """The published recipe, and a shortened one that two cores can do."""
    plain = TrainSettings(
        scope="scratch", epochs=200, batch_size=128, lr=0.1, optimizer="sgd", weight_decay=2e-4, schedule="steps",
        warmup=5.0, clip=0.0, ema=0.0, patience=0, shift=4, flip=flip,
    )  # fmt: skip
    short = dataclasses.replace(plain, epochs=30, warmup=1.0, schedule="cosine")
    return {
        "full": Recipe("full", "resnet32_cifar", plain),
        "shortened": Recipe("shortened", "resnet14_small", short),
    }


def long_tailed(labels: np.ndarray, classes: int, imbalance: float) -> tuple[np.ndarray, np.ndarray]:
    """Places of a long-tailed copy of a balanced set, and places of the others, both in the order of the set.

    The first n_i = int(n_max · IF^(−i/(C−1))) of class i, in the order of the classes (Cao et al. 2019).
    """
    most = int(np.bincount(labels, minlength=classes).max())
    keep = []
    for k in range(classes):
        count = int(most * imbalance ** (-k / (classes - 1)))
        keep.append(np.flatnonzero(labels == k)[:count])
    kept = np.sort(np.concatenate(keep))
    return kept, np.setdiff1d(np.arange(len(labels)), kept)


def cifar10_lt() -> Photos:
    """CIFAR-10 with imbalance 100: 12,406 training pictures, 5,000 of the first class, 50 of the last."""
    pixels, targets, names = read(SHARED / "cifar10" / "train.parquet")
    test, test_labels, _ = read(SHARED / "cifar10" / "test.parquet")
    labels = targets.numpy()
    kept, rest = long_tailed(labels, len(names), IMBALANCE)
    held = np.concatenate([rest[labels[rest] == k][:CIFAR_VAL] for k in range(len(names))])
    real = Real(pixels[kept], targets[kept], pixels[held], targets[held], len(names))
    return Photos(real, test, test_labels.numpy(), tuple(names))


def gtsrb() -> Photos:
    """The natural long tail; a tenth of the tracks is held out, no track is divided."""
    path = SHARED / "gtsrb"
    parts = [
        gather(path / "train.parquet", 32, resize="squash", group="track", holdout=0.1, held=held)
        for held in (False, True)
    ]
    test = gather(path / "test.parquet", 32, resize="squash", split="test")
    train, val = parts
    if test.classes != train.classes or val.classes != train.classes:
        raise DatasetError("the training and the test pictures of GTSRB name other classes")
    real = Real(train.images, train.targets, val.images, val.targets, len(train.classes))
    return Photos(real, test.images, test.targets.numpy(), train.classes)


def balanced(real: Real) -> Real:
    """As many pictures of every class as the rarest has: the stand-in for a prior that is broader than the classifier's."""
    labels = real.labels.numpy()
    least = int(np.bincount(labels, minlength=real.classes).min())
    keep = np.sort(np.concatenate([np.flatnonzero(labels == k)[:least] for k in range(real.classes)]))
    return dataclasses.replace(real, pixels=real.pixels[keep], labels=real.labels[keep])


SMALL_GENERATOR = GeneratorSettings(
    autoencoder=AutoencoderSettings(steps=1500, crop=0, batch_size=24),
    tiny=FitSettings(steps=600, batch_size=32, lr=2e-3, ema=0.995),
    text=TextSettings(steps=400, patch=4),
    denoiser=DenoiserSettings(steps=4000, batch_size=64),
)
"""For pictures of 32 pixels."""


def generator_of(
    folder: Path,
    real: Real,
    labels: tuple[str, ...],
    caption: str,
    settings: GeneratorSettings = SMALL_GENERATOR,
    device: str = "cpu",
    on_progress: ProgressFn = no_progress,
) -> Path:
    """Fit a generator on training pictures, once; a stopped one goes on.

    Args:
        folder: Where it goes.
        real: Only its training pictures are read.
        labels: Class names.
        caption: With ``{label}``.
        settings: Of the trainings.
        device: Of the denoiser.
        on_progress: Told now and then.
    """
    if not (folder / "model_index.json").exists():
        words = [(caption.replace("{label}", labels[k]),) for k in real.labels.tolist()]
        card = {"trained_on": f"{len(words):,} training pictures", "prompt": caption}
        fit_generator(real.pixels, words, folder, settings, card=card, device=device, on_progress=on_progress)
    return folder


@dataclasses.dataclass(frozen=True)
class Place:
    """A data set of the evidence.

    Attributes:
        name: Of the part.
        title: For people.
        load: Reads it.
        folder: Below the shared data.
        caption: Of its pictures.
        flip: Whether mirrored pictures are of the same class.
        images: Synthetic images of an arm.
        priors: Generators: on the training pictures as they are, and on a balanced part of them.
        recipe: Of a trial; None for a real one.
        steps: Denoising steps of a trial; 0 for those of the preset.
        head: Of the epistemic signal.
    """

    name: str
    title: str
    load: Callable[[], Photos]
    folder: str
    caption: str
    flip: bool
    images: int
    priors: tuple[str, ...] = ("natural",)
    recipe: Recipe | None = None
    steps: int = 0
    head: HeadSettings = dataclasses.field(default_factory=HeadSettings)

    @property
    def there(self) -> bool:
        """Whether the data are."""
        return not self.folder or (SHARED / self.folder).exists()


PLACES: dict[str, Place] = {
    "cifar10lt": Place(
        "cifar10lt", "CIFAR-10-LT, imbalance 100", cifar10_lt, "cifar10", "a photo of a {label}", True, 1000
    ),
    "gtsrb": Place(
        "gtsrb", "GTSRB, natural long tail", gtsrb, "gtsrb", "a photo of a {label} traffic sign", False, 860,
        ("natural", "balanced"),
    ),
}  # fmt: skip
TRIAL_GENERATOR = GeneratorSettings(
    autoencoder=AutoencoderSettings(steps=2, crop=0, batch_size=4, width=8),
    tiny=FitSettings(steps=2, batch_size=4),
    text=TextSettings(steps=2, batch_size=8, width=32, layers=1, patch=8),
    denoiser=DenoiserSettings(steps=2, batch_size=4, width=16),
)


def trial_places(images: np.ndarray, labels: np.ndarray, names: tuple[str, ...]) -> dict[str, Place]:
    """The same parts on a few pictures that are there everywhere: a trial of the code.

    Args:
        images: uint8 (N, 3, 64, 64).
        labels: (N,).
        names: Of the classes.
    """
    small = torch.from_numpy(images[:, :, ::2, ::2].copy())
    y = torch.from_numpy(labels)
    third = len(small) // 3

    def load() -> Photos:
        real = Real(small[:third], y[:third], small[third : 2 * third], y[third : 2 * third], len(names))
        return Photos(real, small[2 * third :], labels[2 * third :], names)

    settings = TrainSettings(scope="scratch", epochs=1, batch_size=8, patience=0)
    return {
        name: dataclasses.replace(
            place, load=load, folder="", images=len(names), priors=place.priors[:1],
            recipe=Recipe("shortened", "resnet14_small", settings), steps=2, head=HeadSettings(epochs=1),
        )
        for name, place in PLACES.items()
    }  # fmt: skip
