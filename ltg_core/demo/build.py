"""``python -m ltg_core demo build``: render the world, train every bundled model, write ``assets/demo``.

Every stage leaves its result in the work folder and is skipped when that is there, so an interrupted build goes on.
"""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

from ltg_core.demo.data import Split, render_split
from ltg_core.demo.plan import planted
from ltg_core.demo.world import CLASSES, CONDITION_PHRASES, CONDITIONS
from ltg_core.fitting import FitSettings
from ltg_core.generators.fit.assemble import GeneratorSettings, fit_generator
from ltg_core.generators.fit.autoencoder import AutoencoderSettings
from ltg_core.generators.fit.denoiser import DenoiserSettings
from ltg_core.generators.fit.textimage import TextSettings
from ltg_core.jobs import CancelToken, ProgressFn, no_progress
from ltg_core.models.classifier import Classifier
from ltg_core.models.fit import ClassifierSettings, fit_classifier
from ltg_core.models.loaders import load_classifier, save_classifier
from ltg_core.params import Params, param

ARCH = "resnet14_small"


@dataclasses.dataclass(frozen=True)
class BuildSettings(Params):
    """Sizes of the demo."""

    generator_images: int = param(24000, "Pictures of the whole world for the generator", low=64)
    train_images: int = param(8000, "Training pictures of the classifier", low=64)
    oracle_images: int = param(14000, "Training pictures of the independent judges", low=64)
    val_images: int = param(2000, "Validation pictures, all cells", low=16)
    test_images: int = param(3000, "Test pictures, all cells", low=16)
    bundled_train: int = param(3000, "Training pictures in the bundled data set", low=0)
    bundled_val: int = param(1000, "Validation pictures in the bundled data set", low=0)
    bundled_test: int = param(1500, "Test pictures in the bundled data set", low=0)
    classifier_steps: int = param(900, "Optimiser steps of the classifier", low=1)
    oracle_steps: int = param(1200, "Optimiser steps of each judge", low=1)
    autoencoder_steps: int = param(1500, "Optimiser steps of the autoencoder", low=1)
    tiny_steps: int = param(700, "Optimiser steps of the tiny decoder", low=1)
    text_steps: int = param(1500, "Optimiser steps of the text-image encoder", low=1)
    denoiser_steps: int = param(7000, "Optimiser steps of the denoiser", low=1)
    seed: int = param(0, "Seed of everything", low=0)


def build(
    out: Path,
    work: Path,
    settings: BuildSettings,
    *,
    device: str = "cpu",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> None:
    """Build the whole demo into ``out``; see the module's text for resuming."""
    token = cancel or CancelToken()
    out.mkdir(parents=True, exist_ok=True)
    world = World(work / "images", settings, on_progress, token)
    build_classifier(out, work, world, on_progress=on_progress, cancel=token)
    build_oracles(out, work, world, on_progress=on_progress, cancel=token)
    build_generator(out, work, world, device=device, on_progress=on_progress, cancel=token)
    bundle_data(world, out / "data.parquet")


class World:
    """The splits of one build, rendered on first use."""

    def __init__(
        self, folder: Path, settings: BuildSettings, on_progress: ProgressFn, cancel: CancelToken
    ) -> None:
        self.settings = settings
        self._folder, self._on_progress, self._cancel = folder, on_progress, cancel

    def _split(self, kind: str, count: int, stream: int) -> Split:
        seed = 10 * self.settings.seed + stream
        return render_split(
            kind, count, seed, self._folder, on_progress=self._on_progress, cancel=self._cancel
        )

    def whole(self) -> Split:
        """The generator's world."""
        return self._split("whole", self.settings.generator_images, 0)

    def train(self) -> Split:
        """The classifier's long-tailed world, without the planted cells."""
        return self._split("train", self.settings.train_images, 1)

    def oracle(self) -> tuple[Split, Split]:
        """The judges' world: every cell equally often, and natural combinations."""
        half = self.settings.oracle_images // 2
        return self._split("even", half, 2), self._split("whole", half, 3)

    def val(self) -> Split:
        """Validation, all cells."""
        return self._split("even", self.settings.val_images, 4)

    def test(self) -> Split:
        """Test, all cells."""
        return self._split("even", self.settings.test_images, 5)


def build_classifier(
    out: Path,
    work: Path,
    world: World,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> Classifier:
    """The classifier with the planted blind spots."""
    path = out / "classifier.safetensors"
    if path.exists():
        return load_classifier(path)
    options = ClassifierSettings(
        steps=world.settings.classifier_steps, seed=world.settings.seed, shift=2, size=32
    )
    split = world.train()
    classifier = fit_classifier(
        torch.from_numpy(split.images),
        torch.from_numpy(split.signs),
        CLASSES,
        ARCH,
        options,
        work / "classifier.ckpt",
        name="road-sign classifier",
        on_progress=on_progress,
        cancel=cancel,
    )
    card = {
        "what": "road-sign classifier with planted blind spots, for the demo",
        "trained_on": f"{len(split.images)} rendered pictures, long-tailed; some cells never seen",
        "settings": options.to_dict(),
        "metrics": cell_accuracy(classifier, world.val(), "validation"),
    }
    save_classifier(classifier, path, card)
    return classifier


def cell_accuracy(classifier: Classifier, split: Split, name: str) -> dict[str, float]:
    """Accuracy on cells that the training showed and on those that it never showed."""
    right = predictions(classifier, split.images) == split.signs
    hidden = np.array([planted(CLASSES[s], c) for s, c in zip(split.signs, split.conditions, strict=True)])
    return {
        f"{name}_accuracy_seen_cells": round(float(right[~hidden].mean()), 4),
        f"{name}_accuracy_unseen_cells": round(float(right[hidden].mean()), 4)
        if hidden.any()
        else float("nan"),
    }


def predictions(classifier: Classifier, images: np.ndarray) -> np.ndarray:
    """Predicted classes of uint8 images (N, 3, H, W)."""
    parts = torch.split(torch.from_numpy(images), 512)
    return torch.cat([classifier.outputs(part.float() / 255).logits.argmax(dim=1) for part in parts]).numpy()


def build_oracles(
    out: Path,
    work: Path,
    world: World,
    *,
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> None:
    """Two independent judges, of the class and of the conditions; only benchmarks and tests use them."""
    folder = out / "oracles"
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels, targets in (("sign", CLASSES, _signs), ("condition", CONDITIONS, _conditions)):
        path = folder / f"{name}.safetensors"
        if path.exists():
            continue
        even, whole = world.oracle()
        images = torch.from_numpy(np.concatenate([even.images, whole.images]))
        options = ClassifierSettings(
            steps=world.settings.oracle_steps,
            seed=world.settings.seed + 100,
            blur=0.5,
            size=32,
            exposure=0.1,
            shift=3,
        )
        oracle = fit_classifier(
            images,
            torch.cat([targets(even), targets(whole)]),
            labels,
            ARCH,
            options,
            work / f"oracle-{name}.ckpt",
            name=f"{name} judge",
            on_progress=on_progress,
            cancel=cancel,
        )
        val = world.val()
        hits = (
            predictions(oracle, val.images)
            == (targets(val).argmax(1) if name == "condition" else targets(val)).numpy()
        )
        card = {
            "what": f"independent judge of the {name}, for benchmarks only",
            "trained_on": f"{len(images)} rendered pictures of all cells, none shared with any other model or split",
            "settings": options.to_dict(),
            "metrics": {"validation_accuracy": round(float(hits.mean()), 4)},
        }
        save_classifier(oracle, path, card)


def _signs(split: Split) -> torch.Tensor:
    return torch.from_numpy(split.signs)


def _conditions(split: Split) -> torch.Tensor:
    return torch.tensor([[float(c in present) for c in CONDITIONS] for present in split.conditions])


def generator_settings(settings: BuildSettings) -> GeneratorSettings:
    """The demo's trainings."""
    seed = settings.seed
    return GeneratorSettings(
        autoencoder=AutoencoderSettings(steps=settings.autoencoder_steps, checkpoint_every=100, seed=seed),
        tiny=FitSettings(steps=settings.tiny_steps, batch_size=16, lr=2e-3, ema=0.99, seed=seed),
        text=TextSettings(steps=settings.text_steps, seed=seed),
        denoiser=DenoiserSettings(steps=settings.denoiser_steps, seed=seed),
    )


def build_generator(
    out: Path,
    work: Path,
    world: World,
    *,
    device: str = "cpu",
    on_progress: ProgressFn = no_progress,
    cancel: CancelToken | None = None,
) -> None:
    """The text-to-image model of the whole world."""
    if (out / "generator" / "model_index.json").exists():
        return
    split = world.whole()
    fit_generator(
        torch.from_numpy(split.images),
        split.captions(),
        out / "generator",
        generator_settings(world.settings),
        work=work,
        card={
            "trained_on": "rendered pictures of the whole road-sign world",
            "prompt": "a photo of a {label} sign",
            "phrases": dict(CONDITION_PHRASES),
        },
        device=device,
        on_progress=on_progress,
        cancel=cancel,
    )


def bundle_data(world: World, path: Path) -> None:
    """The demo's real samples as one Parquet file: image bytes, class, split and all factors."""
    settings = world.settings
    parts: list[tuple[str, Split, int]] = [
        ("train", world.train(), settings.bundled_train),
        ("val", world.val(), settings.bundled_val),
        ("test", world.test(), settings.bundled_test),
    ]
    rows = []
    for name, split, count in parts:
        for i in range(min(count, len(split.images))):
            data = {"bytes": _webp(split.images[i]), "path": f"{name}/{i:05d}.webp"}
            label = int(split.signs[i])
            row = {"image": data, "label": label, "class_name": CLASSES[label], "split": name}
            factors = {k: v for k, v in split.metadata[i].items() if k not in ("sign", "seed")}
            rows.append(row | factors)
    temporary = path.with_suffix(".tmp")
    pq.write_table(pa.Table.from_pylist(rows), temporary, compression="zstd")
    os.replace(temporary, path)


def _webp(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "WEBP", quality=95, method=4)
    return buffer.getvalue()
