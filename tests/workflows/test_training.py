"""Training from a data set on disk: resumable, on the right rows, never mixing data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ltg_core.errors import Cancelled, DatasetError, InputError
from ltg_core.fitting import FitSettings
from ltg_core.generators.fit.assemble import GeneratorSettings
from ltg_core.generators.fit.autoencoder import AutoencoderSettings
from ltg_core.generators.fit.denoiser import DenoiserSettings
from ltg_core.generators.fit.textimage import TextSettings
from ltg_core.jobs import CancelToken, Progress
from ltg_core.models.fit import ClassifierSettings
from ltg_core.workflows.gathering import gather
from ltg_core.workflows.training import fit_generator, fit_small_classifier

TINY = ClassifierSettings(steps=52, batch_size=8, warmup=1, checkpoint_every=50)


def test_pictures_become_squares_of_one_size_with_their_classes(tiny_world):
    data = gather(tiny_world.folder, 16)
    assert data.images.shape == (36, 3, 16, 16) and data.images.dtype == torch.uint8
    assert data.classes == ("parking", "stop", "yield") and torch.bincount(data.targets).tolist() == [
        12,
        12,
        12,
    ]
    assert gather(tiny_world.folder, 16, split="val").images.shape[0] == 18
    assert torch.bincount(gather(tiny_world.folder, 16, limit=6).targets).tolist() == [2, 2, 2]


def test_what_is_held_out_is_not_trained_on_and_groups_stay_together(tmp_path: Path):
    rows = []
    for i in range(40):
        Image.new("RGB", (16, 16), (6 * i, 0, 0)).save(tmp_path / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "label": i % 2, "class_name": "ab"[i % 2], "track": i // 4})
    table = tmp_path / "table.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    reds = [
        set((gather(table, 16, group="track", holdout=0.4, held=held).images[:, 0, 0, 0] // 6).tolist())
        for held in (False, True)
    ]
    assert not reds[0] & reds[1] and len(reds[0] | reds[1]) == 40
    tracks = [{red // 4 for red in some} for some in reds]
    assert tracks[0] and tracks[1] and not tracks[0] & tracks[1]
    with pytest.raises(InputError, match=r"no column 'trak'.*'track'"):
        gather(table, 16, group="trak", holdout=0.4)


def test_a_broken_picture_is_reported_and_an_unknown_split_refused(tiny_world, tmp_path: Path):
    shutil.copytree(tiny_world.folder / "test", tmp_path / "some")
    (tmp_path / "some" / "stop" / "00.png").write_bytes(b"broken")
    data = gather(tmp_path / "some", 16)
    assert len(data.images) == 17 and len(data.skipped) == 1
    with pytest.raises(DatasetError, match=r"no split 'other'.*'test', 'train', 'val'"):
        gather(tiny_world.folder, 16, split="other")


def test_a_stopped_classifier_training_goes_on_to_the_same_weights(tiny_world, tmp_path: Path):
    options: dict[str, Any] = {"side": 16, "holdout": 0.2}
    whole, card = fit_small_classifier(
        tiny_world.folder, tmp_path / "whole.safetensors", "resnet14_small", TINY, **options
    )
    assert card["metrics"]["held_out_images"] > 0 and 0 <= card["metrics"]["held_out_accuracy"] <= 1
    assert json.loads((tmp_path / "whole.json").read_text())["labels"] == ["parking", "stop", "yield"]
    token = CancelToken()

    def stop(step: Progress) -> None:
        if "loss" in step.message:
            token.cancel()

    arguments = (tiny_world.folder, tmp_path / "broken.safetensors", "resnet14_small", TINY)
    with pytest.raises(Cancelled):
        fit_small_classifier(*arguments, **options, on_progress=stop, cancel=token)
    assert not (tmp_path / "broken.safetensors").exists()
    resumed, _ = fit_small_classifier(*arguments, **options)
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(tensor, resumed.net.state_dict()[name])
    with pytest.raises(InputError, match="other images"):
        fit_small_classifier(*arguments, side=16, holdout=0.0)


def test_unlabelled_pictures_make_no_classifier(tmp_path: Path):
    for i in range(4):
        Image.new("RGB", (16, 16)).save(tmp_path / f"{i}.png")
    table = tmp_path / "table.csv"
    table.write_text("file_name\n" + "".join(f"{i}.png\n" for i in range(4)), encoding="utf-8")
    with pytest.raises(DatasetError, match="fewer than two classes"):
        fit_small_classifier(table, tmp_path / "x.safetensors", "resnet14_small", TINY, side=16, holdout=0)


def test_a_generator_is_trained_on_captions_in_stages_that_are_not_repeated(tiny_world, tmp_path: Path):
    folder = tmp_path / "data"
    folder.mkdir()
    rows = []
    for i in range(8):
        picture = tiny_world.images[4 * i].permute(1, 2, 0).numpy()
        Image.fromarray(picture).save(folder / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "class_name": "sign", "caption": tiny_world.captions[4 * i][0]})
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = GeneratorSettings(
        autoencoder=AutoencoderSettings(steps=1, batch_size=2, width=8, warmup=1),
        tiny=FitSettings(steps=1, batch_size=2, warmup=1),
        text=TextSettings(steps=1, batch_size=4, width=32, layers=1, warmup=1),
        denoiser=DenoiserSettings(steps=1, batch_size=2, width=32, warmup=1),
    )
    token, stages = CancelToken(), []

    def stop(step: Progress) -> None:
        stages.append(step.message.split(":")[0])
        if "text" in step.message:
            token.cancel()

    order: dict[str, Any] = {"side": 32, "caption": "a picture of a {label}"}
    with pytest.raises(Cancelled):
        fit_generator(folder, tmp_path / "made", settings, **order, on_progress=stop, cancel=token)
    assert not (tmp_path / "made").exists()
    first, stages = stages, []
    card = fit_generator(
        folder, tmp_path / "made", settings, **order, on_progress=lambda p: stages.append(p.message)
    )
    assert not any("autoencoder" in message for message in stages) and any("autoencoder" in m for m in first)
    assert card["prompt"] == "a picture of a {label}" and card["images"] == 8 and card["classes"] == ["sign"]
    assert (tmp_path / "made" / "model_index.json").is_file()
    with pytest.raises(InputError, match="other images, captions"):
        fit_generator(folder, tmp_path / "made", settings, side=16)
    with pytest.raises(InputError, match=r"\{label\}"):
        fit_generator(folder, tmp_path / "other", settings, side=32, caption="a picture")
