"""Where guidance is compared: frozen models with data, an independent judge of the class and features of their own."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

from benchmarks.measure import ROOT, call_costs
from ltg_core.generators.base import Generator
from ltg_core.generators.judge import ClassifierJudge, Judge, find_judge
from ltg_core.generators.loading import load_generator
from ltg_core.guidance.engine import Target, from_uint8
from ltg_core.models.classifier import Classifier
from ltg_core.models.loaders import load_classifier
from ltg_core.models.preprocess import Preprocess
from ltg_core.signals.head import HeadSettings
from ltg_core.signals.reference import Reference, fit_reference

ASSETS = ROOT / "assets" / "demo"
SHARED = ROOT.parent / "shared" / "data"
SPARE = 1
"""Seed of the head that measures: no mode reads it."""


@dataclasses.dataclass(eq=False)
class Ground:
    """Frozen models and what measures their images.

    Attributes:
        name: For files and tables.
        generator: The diffusion model.
        target: Classifier under test, reference, and the judge that guidance may ask.
        spare: A second reference, whose head was fitted with another seed and is read by no mode.
        prompts: One a class.
        real: (N, D) features of real test pictures for density and coverage.
        judged: uint8 images (B, H, W, 3) -> (class (B,), features (B, D)) by a network that no mode reads.
        planted: (images, labels) -> whether the image lies in a cell that the classifier has never seen, or None.
        costs: GFLOP of one call of each network.
    """

    name: str
    generator: Generator
    target: Target
    spare: Reference
    prompts: tuple[str, ...]
    real: np.ndarray
    judged: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    planted: Callable[[np.ndarray, np.ndarray], np.ndarray] | None
    costs: dict[str, float]


Pictures = tuple[torch.Tensor, torch.Tensor]
"""uint8 (N, 3, H, W) and labels (N,)."""


def demo(work: Path) -> Ground:
    """The road-sign world with its bundled pictures; the oracles judge, and the one of conditions gives the features."""
    from benchmarks.bench_demo import Oracles, names_of
    from ltg_core.demo.plan import planted
    from ltg_core.demo.world import CLASSES, prompt

    generator, classifier = (
        load_generator(ASSETS / "generator"),
        load_classifier(ASSETS / "classifier.safetensors"),
    )
    oracles = Oracles(ASSETS / "oracles")
    splits = read_parquet(ASSETS / "data.parquet")

    def judged(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = from_uint8(images)
        return oracles.sign.outputs(x).logits.argmax(dim=1).numpy(), oracles.condition.outputs(
            x
        ).features.numpy()

    def hidden(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        conditions = oracles.read(images)[1]
        cells = zip(labels, conditions, strict=True)
        return np.array([planted(CLASSES[label], names_of(row)) for label, row in cells])

    target = Target(
        classifier, fitted(classifier, splits, 0, work), find_judge(ASSETS / "generator", classifier.labels)
    )
    test = splits["test"][0].permute(0, 2, 3, 1).numpy()
    return Ground(
        name="demo",
        generator=generator,
        target=target,
        spare=fitted(classifier, splits, SPARE, work),
        prompts=tuple(prompt(name) for name in CLASSES),
        real=judged(test)[1],
        judged=judged,
        planted=hidden,
        costs=call_costs(generator, target),
    )


def cifar(work: Path, folder: Path) -> Ground:
    """CIFAR-10 with a generator that was fitted elsewhere; ResNet-20 is under test, ResNet-56 judges.

    Args:
        work: Where fitted references are kept.
        folder: A generator whose classes or texts are those of CIFAR-10.
    """
    from benchmarks.bench_cifar import read

    preprocess = Preprocess(height=32, width=32, resize="squash")
    train, y, names = read(SHARED / "cifar10" / "train.parquet")
    test = read(SHARED / "cifar10" / "test.parquet")[0]
    weights = SHARED / "weights" / "resnet_cifar10"
    files = {"resnet20_cifar": "resnet20-12fca82f.th", "resnet56_cifar": "resnet56-4bfd9763.th"}
    small, large = (
        load_classifier(weights / file, arch=arch, labels=names, preprocess=preprocess)
        for arch, file in files.items()
    )
    generator = load_generator(folder)
    judge: Judge = find_judge(folder, small.labels) or ClassifierJudge(large, small.labels)
    splits = {"train": (train[:45_000], y[:45_000]), "val": (train[45_000:], y[45_000:])}

    def judged(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        out = large.outputs(from_uint8(images))
        return out.logits.argmax(dim=1).numpy(), out.features.numpy()

    target = Target(small, fitted(small, splits, 0, work), judge)
    prompts = (
        tuple(names) if generator.language == "classes" else tuple(f"a photo of a {name}" for name in names)
    )
    return Ground(
        name="cifar10",
        generator=generator,
        target=target,
        spare=fitted(small, splits, SPARE, work),
        prompts=prompts,
        real=judged(test[:2000].permute(0, 2, 3, 1).numpy())[1],
        judged=judged,
        planted=None,
        costs=call_costs(generator, target),
    )


def read_parquet(path: Path) -> dict[str, Pictures]:
    """The bundled pictures by split."""
    table = pq.read_table(path, columns=["image", "label", "split"]).to_pydict()
    images = np.stack(
        [np.asarray(Image.open(io.BytesIO(row["bytes"])).convert("RGB")) for row in table["image"]]
    )
    labels, splits = torch.tensor(table["label"]), np.array(table["split"])
    found = {}
    for name in sorted(set(splits)):
        rows = np.flatnonzero(splits == name)
        found[str(name)] = (
            torch.from_numpy(images[rows]).permute(0, 3, 1, 2),
            labels[torch.from_numpy(rows)],
        )
    return found


def fitted(classifier: Classifier, splits: dict[str, Pictures], seed: int, work: Path) -> Reference:
    """Head and statistics on the pictures for training, percentiles on those for validation; kept in the work folder."""
    path = work / f"reference-{classifier.hash}-{seed}.safetensors"
    if path.exists():
        return Reference.load(path)
    outputs = [classifier.outputs(splits[name][0].float() / 255, batch_size=256) for name in ("train", "val")]
    found = fit_reference(
        outputs[0],
        splits["train"][1],
        outputs[1],
        splits["val"][1],
        classifier.num_classes,
        HeadSettings(),
        generator=torch.Generator().manual_seed(seed),
        model_hash=classifier.hash,
    )
    found.save(path)
    return found
