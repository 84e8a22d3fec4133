"""A workspace of 72 small pictures with a classifier, a generator and a fitted head, all tiny and real."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ltg_core import curation, workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.demo.world import prompt, render, sample_scene

SIGNS = ("stop", "yield", "parking")
SIZES = {"train": 12, "val": 6, "test": 6}
SIDE = 32
ROWS = 300


def base(folder: Path) -> Path:
    """The workspace, made at the first call; beside it ``set``, a data set to import."""
    made = folder / "base"
    if not made.exists():
        shutil.rmtree(folder / "making", ignore_errors=True)
        pictures, targets, captions = _pictures(folder / "making" / "world")
        _fill(folder / "making" / "ws", folder, pictures, targets, captions)
        os.replace(folder / "making" / "ws", made)
    _data(folder / "set")
    return made


def copy(source: Path, target: Path) -> Path:
    """A workspace's copy: files that are never changed in place get second names where the disk allows it."""

    def taken(file: str, name: str) -> None:
        plain = "sqlite" in os.path.basename(file) or f"{os.sep}runs{os.sep}" in file
        try:
            if not plain:
                os.link(file, name)
                return
        except OSError:
            pass
        shutil.copy2(file, name)

    shutil.copytree(source, target, copy_function=taken, dirs_exist_ok=True)
    return target


def _pictures(folder: Path) -> tuple[Any, Any, list[tuple[str, ...]]]:
    import torch

    pictures, targets, captions = [], [], []
    for start, (split, count) in enumerate(SIZES.items()):
        for label, sign in enumerate(SIGNS):
            (folder / split / sign).mkdir(parents=True)
            for i in range(count):
                condition = "night" if i % 3 == 2 else "clear day"
                scene = sample_scene(
                    np.random.default_rng(1000 * start + 100 * label + i), sign, (condition,)
                )
                picture = Image.fromarray(render(scene)).resize((SIDE, SIDE), Image.Resampling.BOX)
                picture.save(folder / split / sign / f"{i:02d}.png")
                if split == "train":
                    pictures.append(np.asarray(picture).transpose(2, 0, 1))
                    targets.append(label)
                    captions.append((prompt(sign, (condition,)), prompt(sign)))
    return torch.from_numpy(np.stack(pictures)), torch.tensor(targets), captions


def _fill(
    ws_folder: Path, folder: Path, pictures: Any, targets: Any, captions: list[tuple[str, ...]]
) -> None:
    from ltg_core.fitting import FitSettings
    from ltg_core.generators.fit.assemble import GeneratorSettings, fit_generator
    from ltg_core.generators.fit.autoencoder import AutoencoderSettings
    from ltg_core.generators.fit.denoiser import DenoiserSettings
    from ltg_core.generators.fit.textimage import TextSettings
    from ltg_core.models.fit import ClassifierSettings, fit_classifier
    from ltg_core.models.loaders import save_classifier

    making = folder / "making"
    settings = ClassifierSettings(steps=40, batch_size=16, warmup=5, ema=0.9, shift=1)
    classifier = fit_classifier(
        pictures, targets, SIGNS, "resnet14_small", settings, making / "classifier.ckpt", name="tiny signs"
    )
    save_classifier(classifier, making / "classifier.safetensors", {"what": "three signs, for faults"})
    tiny = GeneratorSettings(
        autoencoder=AutoencoderSettings(steps=2, batch_size=4, width=8, warmup=1),
        tiny=FitSettings(steps=2, batch_size=4, warmup=1),
        text=TextSettings(steps=2, batch_size=8, width=32, layers=1, warmup=1),
        denoiser=DenoiserSettings(steps=2, batch_size=4, width=32, warmup=1),
    )
    card = {"prompt": "a photo of a {label} sign"}
    shutil.rmtree(folder / "generator", ignore_errors=True)
    generator = fit_generator(pictures, captions, folder / "generator", tiny, card=card)
    with Workspace(ws_folder) as ws:
        workflows.use_classifier(ws, making / "classifier.safetensors")
        workflows.use_generator(ws, generator)
        workflows.import_data(ws, making / "world")
        workflows.fit_head(
            ws, workflows.active_classifier(ws), workflows.HeadSettings(members=4, hidden=8, epochs=3)
        )
        workflows.score(ws, workflows.active_classifier(ws))
        curation.set_verdict(ws, ws.query(Filter(split="train"), limit=12), "accepted")
        ws.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")


def _data(folder: Path) -> None:
    """Three hundred pictures of four by four pixels and a table."""
    if (folder / "list.jsonl").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(0), []
    for i in range(ROWS):
        Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).save(folder / f"{i}.png")
        rows.append({"path": f"{i}.png", "class_name": SIGNS[i % 3], "track": i // 10})
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
