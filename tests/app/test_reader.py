"""Files that were just uploaded are looked at in a process with limits of its own."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from driver import texts
from safetensors.torch import save_file

from app.reader import Reader
from app.settings import Settings
from ltg_core import workflows
from ltg_core.data.images import read_image
from ltg_core.errors import InputError, UnsafeFile
from tests.conftest import draw

PATIENT = {"picture": 240.0, "weights": 240.0}
"""Seconds for a look: three processes at once on a slow machine take longer than a page may be kept waiting."""


class Hostile:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit",)


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    made = Reader(Settings(workspace=tmp_path_factory.mktemp("none").parent), seconds=PATIENT)
    yield made
    made.close()


def test_it_sees_what_this_process_would_see(
    reader: Reader, tmp_path: Path, tiny_classifier_file: Path
) -> None:
    draw("stop", 3).rotate(20).save(tmp_path / "a.jpg")
    picture = reader.picture(tmp_path / "a.jpg", tmp_path)
    assert np.array_equal(np.asarray(picture), np.asarray(read_image(tmp_path / "a.jpg")))
    assert [one.name for one in tmp_path.iterdir()] == ["a.jpg"]
    report = reader.weights(tiny_classifier_file, "", tmp_path)
    assert report == workflows.inspect_weights(tiny_classifier_file) and report.labels and report.preprocess


def test_transformers_and_every_suggestion_get_along_with_what_the_reader_may_read(
    reader: Reader, tmp_path: Path
) -> None:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    ViTForImageClassification(ViTConfig(**small, image_size=32, patch_size=8, num_labels=3)).save_pretrained(
        tmp_path / "vit"
    )
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "vit")
    shutil.make_archive(str(tmp_path / "vit"), "zip", tmp_path / "vit")
    for place in (tmp_path / "vit", tmp_path / "vit.zip"):
        report = reader.weights(place, "", tmp_path)
        assert (report.arch, report.classes) == ("transformers:vit", 3) and report.preprocess is not None
    save_file(timm.create_model("resnet18", num_classes=3).state_dict(), tmp_path / "net.safetensors")
    assert reader.weights(tmp_path / "net.safetensors", "", tmp_path).suggested[0] == ("timm:resnet18", 1.0)


@pytest.mark.parametrize("access", (pytest.param("open", marks=pytest.mark.slow), "login"))
def test_it_reads_on_a_machine_where_torch_has_made_no_folder_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_classifier_file: Path, access: str
) -> None:
    for name in ("tmp", "ws"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    place, room = tmp_path / "ws" / "a.safetensors", tmp_path / "ws"
    shutil.copy(tiny_classifier_file, place)
    draw("stop", 3).save(room / "a.png")
    reader = Reader(Settings(workspace=room, access=access), seconds=PATIENT)
    try:
        assert reader.picture(room / "a.png", room).size == (32, 32)
        assert reader.weights(place, "", room).suggested[0] == ("resnet14_small", 1.0)
        assert sorted(one.name for one in room.iterdir()) == ["a.png", "a.safetensors"]
    finally:
        reader.close()


def test_it_refuses_in_the_same_words(reader: Reader, tmp_path: Path) -> None:
    torch.save({"state_dict": Hostile()}, tmp_path / "a.pt")
    with pytest.raises(UnsafeFile, match="refused unread"):
        reader.weights(tmp_path / "a.pt", "", tmp_path)
    (tmp_path / "b.png").write_text("<svg></svg>")
    with pytest.raises(InputError, match="SVG"):
        reader.picture(tmp_path / "b.png", tmp_path)


def test_its_memory_is_limited_and_what_takes_too_long_ends_with_it(tmp_path: Path) -> None:
    draw("stop", 3).save(tmp_path / "a.png")
    seconds = {"picture": 0.0}
    reader = Reader(Settings(workspace=tmp_path, upload_mb=1024), seconds=seconds)
    try:
        with pytest.raises(InputError, match="more time or memory"):
            reader.picture(tmp_path / "a.png", tmp_path)
        seconds["picture"] = 60.0
        assert reader.picture(tmp_path / "a.png", tmp_path).size == (32, 32), "the next one is read"
        limits = Path(f"/proc/{reader.worker.pid}/limits").read_text()
        assert re.search(rf"Max data size +{6 * 2**30} ", limits)
    finally:
        reader.close()


@pytest.mark.slow
def test_a_zipped_model_folder_and_any_form_of_data_come_in_through_the_page(
    ctx: Any, page: Any, ended: Any, tmp_path: Path, tiny_world: Any
) -> None:
    from app.steps import data

    folder = tmp_path / "signs"
    folder.mkdir()
    net = timm.create_model("test_resnet", num_classes=3)
    save_file(net.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 3, "label_names": ["stop", "yield", "parking"]}
    (folder / "config.json").write_text(json.dumps(config))
    model = Path(shutil.make_archive(str(folder), "zip", tmp_path, "signs"))

    def sent(path: Path) -> dict[str, Any]:
        found = page.http.post("/gradio_api/upload", files={"files": (path.name, path.read_bytes())}).json()[
            0
        ]
        return {"path": found, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}

    zipped = sent(model)
    looked = page.call("setup-weights", "change", setup_weights=[zipped])
    assert "its configuration names the rest" in texts(looked["setup-inspected"])
    assert looked["setup-arch"] == "timm:test_resnet" and "yield" in looked["setup-labels"]
    assert not list((ctx.workspace.path / "tmp").iterdir())
    page.call("setup-weights", "change", setup_weights=[zipped, sent(folder / "config.json")])
    assert "cannot be read beside" in page.messages[-1]
    before = ctx.workspace.get_state("classifier")
    page.call("setup-use", "click", setup_weights=[zipped], setup_arch="timm:test_resnet")
    job = ended("setup")
    assert job.state == "done" and job.result == "signs: 3 classes, timm:test_resnet.", job.reason
    assert ctx.workspace.get_state("classifier")["labels"] == ["stop", "yield", "parking"]
    ctx.workspace.put_state("classifier", before)

    pictures = np.stack([np.asarray(draw("stop", n).convert("RGB")) for n in range(900, 904)])
    np.savez(tmp_path / "more.npz", x_test=pictures, y_test=np.array(["stop"] * 4))
    with tarfile.open(tmp_path / "shard.tar.gz", "w:gz") as file:
        draw("yield", 950).save(tmp_path / "a.png")
        file.add(tmp_path / "a.png", "test/yield/a.png")
    for name, added in (("more.npz", 4), ("shard.tar.gz", 1)):
        assert name.endswith(data._KINDS)
        page.call("setup-import", "click", setup_file=sent(tmp_path / name))
        job = ended("setup")
        assert job.state == "done" and f"{added} images added" in job.result, job.reason


def test_the_page_asks_it_for_pictures_and_weights(
    ctx: Any, page: Any, tiny_classifier_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*given: Any) -> Any:
        raise AssertionError("decoded in the server's process")

    monkeypatch.setattr(ctx.machine.reader, "_seconds", PATIENT)

    def sent(name: str, data: bytes) -> dict[str, Any]:
        found = page.http.post("/gradio_api/upload", files={"files": (name, data)}).json()[0]
        return {"path": found, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    buffer = io.BytesIO()
    draw("stop", 8).save(buffer, "PNG")
    picture, weights = (
        sent("a.png", buffer.getvalue()),
        sent("a.safetensors", tiny_classifier_file.read_bytes()),
    )
    ctx.machine.reader.worker.start()
    monkeypatch.setattr(sys.modules["ltg_core.workflows.bringing"], "read_state", never)
    looked = page.call("setup-weights", "change", setup_weights=[weights])
    assert "resnet14_small" in texts(looked["setup-inspected"])
    monkeypatch.setattr(sys.modules["ltg_core.workflows.likeness"], "read_image", never)
    found = page.call("browse-upload", "upload", browse_upload=picture)
    assert "like" in texts(found["browse-count"]).lower() or found["browse-grid"]["value"]["items"]
