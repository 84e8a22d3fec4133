"""Real components at tiny sizes, made once a session: a small road-sign world, a classifier, a generator."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core.compat import ensure_torchvision

if TYPE_CHECKING:
    from ltg_core.data.workspace import Workspace
    from ltg_core.models.classifier import Classifier

if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(2)
ensure_torchvision()


def pytest_configure(config: pytest.Config) -> None:
    """Warnings of third-party code that nothing here can avoid; all others are errors."""
    config.addinivalue_line("filterwarnings", "ignore:__array__ implementation:DeprecationWarning:diffusers")


LONG = ("app", "workflows", "guidance", "generators")
"""Folders whose files take minutes, besides those with browsers."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long files begin, so that none is left alone at the end, and of three at a time one has a browser.

    A file is of one process, with what it has made.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    browsers = [path for path in files if path.parent.name == "journeys"]
    others = [path for path in files if path.parent.name != "journeys"]
    others.sort(key=lambda path: LONG.index(path.parent.name) if path.parent.name in LONG else len(LONG))
    order: list[Path] = []
    while browsers or others:
        order += [*browsers[:1], *others[:2]]
        browsers, others = browsers[1:], others[2:]
    items[:] = [item for path in order for item in files[path]]


SIGNS = ("stop", "yield", "parking")
SIZES = {"train": 12, "val": 6, "test": 6}
SIDE = 32


@dataclasses.dataclass(frozen=True)
class TinyWorld:
    """A folder ``split/class/image.png`` of rendered signs, and the same pictures as tensors.

    Attributes:
        folder: An ImageFolder.
        images: uint8 (N, 3, 32, 32) of the training split.
        targets: int64 (N,).
        captions: One text an image.
    """

    folder: Path
    images: torch.Tensor
    targets: torch.Tensor
    captions: list[tuple[str, ...]]


def draw(sign: str, seed: int, condition: str = "clear day") -> Image.Image:
    """One rendered sign, 32 × 32."""
    from ltg_core.demo.world import render, sample_scene

    scene = sample_scene(np.random.default_rng(seed), sign, (condition,))
    return Image.fromarray(render(scene)).resize((SIDE, SIDE), Image.Resampling.BOX)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    """Three signs; 12 training, 6 validation and 6 test pictures of each."""
    from ltg_core.demo.world import prompt

    folder = tmp_path_factory.mktemp("world")
    pictures, targets, captions = [], [], []
    for start, (split, count) in enumerate(SIZES.items()):
        for label, sign in enumerate(SIGNS):
            place = folder / split / sign
            place.mkdir(parents=True)
            for i in range(count):
                condition = "night" if i % 3 == 2 else "clear day"
                picture = draw(sign, 1000 * start + 100 * label + i, condition)
                picture.save(place / f"{i:02d}.png")
                if split == "train":
                    pictures.append(np.asarray(picture).transpose(2, 0, 1))
                    targets.append(label)
                    captions.append((prompt(sign, (condition,)), prompt(sign)))
    return TinyWorld(folder, torch.from_numpy(np.stack(pictures)), torch.tensor(targets), captions)


@pytest.fixture(scope="session")
def tiny_classifier_file(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A briefly trained resnet14_small with its card."""
    from ltg_core.models.fit import ClassifierSettings, fit_classifier
    from ltg_core.models.loaders import save_classifier

    folder = tmp_path_factory.mktemp("classifier")
    settings = ClassifierSettings(steps=40, batch_size=16, warmup=5, ema=0.9, shift=1)
    classifier = fit_classifier(
        tiny_world.images,
        tiny_world.targets,
        SIGNS,
        "resnet14_small",
        settings,
        folder / "classifier.ckpt",
        name="tiny signs",
    )
    save_classifier(classifier, folder / "classifier.safetensors", {"what": "three signs, for tests"})
    return folder / "classifier.safetensors"


@pytest.fixture(scope="session")
def tiny_generator(tiny_world: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A latent diffusion model in diffusers' layout after two training steps: it draws noise, but it draws."""
    from ltg_core.fitting import FitSettings
    from ltg_core.generators.fit.assemble import GeneratorSettings, fit_generator
    from ltg_core.generators.fit.autoencoder import AutoencoderSettings
    from ltg_core.generators.fit.denoiser import DenoiserSettings
    from ltg_core.generators.fit.textimage import TextSettings

    settings = GeneratorSettings(
        autoencoder=AutoencoderSettings(steps=2, batch_size=4, width=8, warmup=1),
        tiny=FitSettings(steps=2, batch_size=4, warmup=1),
        text=TextSettings(steps=2, batch_size=8, width=32, layers=1, warmup=1),
        denoiser=DenoiserSettings(steps=2, batch_size=4, width=32, warmup=1),
    )
    folder = tmp_path_factory.mktemp("generator")
    return fit_generator(
        tiny_world.images,
        tiny_world.captions,
        folder / "generator",
        settings,
        card={"prompt": "a photo of a {label} sign"},
    )


@pytest.fixture(scope="session")
def _fitted_workspace(
    tiny_world: TinyWorld,
    tiny_classifier_file: Path,
    tiny_generator: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A workspace in which everything up to the head is done; copied for each test that wants it."""
    from ltg_core import workflows
    from ltg_core.data.workspace import Workspace

    folder = tmp_path_factory.mktemp("workspace") / "ws"
    with Workspace(folder) as ws:
        classifier = workflows.use_classifier(ws, tiny_classifier_file)
        workflows.use_generator(ws, tiny_generator)
        workflows.import_data(ws, tiny_world.folder)
        workflows.fit_head(ws, classifier, workflows.HeadSettings(members=4, hidden=8, epochs=3))
        workflows.score(ws, classifier)
    return folder


@pytest.fixture
def fitted(_fitted_workspace: Path, tmp_path: Path) -> Iterator[Workspace]:
    """A workspace of its own: data imported, classifier, generator, head fitted, all real samples scored."""
    from ltg_core.data.workspace import Workspace

    shutil.copytree(_fitted_workspace, tmp_path / "ws")
    with Workspace(tmp_path / "ws") as ws:
        yield ws


@pytest.fixture
def classifier(fitted: Workspace) -> Classifier:
    """The active classifier of ``fitted``."""
    from ltg_core import workflows

    return workflows.active_classifier(fitted)


@pytest.fixture
def empty_workspace(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with nothing in it."""
    from ltg_core.data.workspace import Workspace

    with Workspace(tmp_path / "empty") as ws:
        yield ws


@pytest.fixture
def seen() -> tuple[list[object], Callable[[object], None]]:
    """A list of progress reports and the function that fills it."""
    reports: list[object] = []
    return reports, reports.append
