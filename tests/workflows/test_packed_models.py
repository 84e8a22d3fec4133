"""A zipped model folder is looked at and used like the folder itself; a hostile one is refused and leaves nothing."""

from __future__ import annotations

import json
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from ltg_core import workflows
from ltg_core.compat import ensure_torchvision
from ltg_core.data.workspace import Workspace
from ltg_core.errors import ModelError, UnsafeFile
from ltg_core.models.loaders import load_classifier
from ltg_core.workflows.packed import unpacked

ensure_torchvision()
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as transformers writes one."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("made") / "vit"
    names = dict(enumerate(("stop", "yield", "parking")))
    ViTForImageClassification(
        ViTConfig(**SIZES, image_size=32, patch_size=8, id2label=names)
    ).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture
def packed(vit: Path, tmp_path: Path) -> Callable[..., Path]:
    """Zips it, below some folders, with other files beside its own."""

    def make(below: str = "", **others: bytes) -> Path:
        path = tmp_path / "signs.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for one in sorted(vit.iterdir()):
                file.write(one, f"{below}{one.name}")
            for name, data in others.items():
                file.writestr(f"{below}{name}", data)
        return path

    return make


@pytest.mark.parametrize("below", ["", "vit/", "models/vit/"])
def test_a_zipped_folder_is_the_folder(
    empty_workspace: Workspace, packed: Callable[..., Path], vit: Path, tmp_path: Path, below: str
) -> None:
    path = packed(below, **{"README.md": b"# signs", "pytorch_model.bin": b"\x80\x04", "evil.py": b"raise"})
    report = workflows.inspect_weights(path, room=tmp_path)
    there = workflows.inspect_weights(vit)
    assert (report.arch, report.classes, report.labels) == (
        "transformers:vit",
        3,
        ("stop", "yield", "parking"),
    )
    assert (report.tensors, report.parameters, report.preprocess) == (
        there.tensors,
        there.parameters,
        there.preprocess,
    )
    found = workflows.use_classifier(empty_workspace, path)
    plain = load_classifier(vit)
    assert found.hash == plain.hash and found.labels == plain.labels and found.name == "signs"
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(found.logits(x), plain.logits(x))
    assert workflows.active_classifier(empty_workspace).hash == plain.hash, "and it outlives the zip"
    assert not list((empty_workspace.path / "tmp").iterdir())
    assert {one.name for one in tmp_path.iterdir()} <= {path.name, empty_workspace.path.name}


def test_only_known_names_are_unpacked_and_only_for_the_moment(
    packed: Callable[..., Path], tmp_path: Path
) -> None:
    path = packed("vit/", **{"evil.py": b"raise", ".safetensors": b"x", "a b.safetensors": b"x"})
    with unpacked(path, tmp_path) as folder:
        assert {one.name for one in folder.iterdir()} == {
            "config.json",
            "preprocessor_config.json",
            "model.safetensors",
        }
    assert not folder.exists() and not folder.parent.exists()
    with unpacked(folder, tmp_path) as same:
        assert same == folder


def test_changed_preprocessing_of_a_zip_is_taken(
    empty_workspace: Workspace, packed: Callable[..., Path]
) -> None:
    said = workflows.bring_classifier(empty_workspace, packed(), preprocess={"interpolation": "nearest"})
    assert said == "signs: 3 classes, transformers:vit."
    found = workflows.active_classifier(empty_workspace)
    assert found.preprocess.interpolation == "nearest" and found.preprocess.mean == (0.5, 0.5, 0.5)


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("../config.json", b"{}")], "outside"),
        ([("/etc/config.json", b"{}")], "outside"),
        ([(entry("config.json", stat.S_IFLNK | 0o777), b"/etc/passwd")], "link or device"),
        ([("net.safetensors", b"x")], "no config.json"),
        ([("a/config.json", b"{}"), ("b/config.json", b"{}")], "several model folders"),
        ([("config.json", b'{"model_type": "vit"}')], "no \\*.safetensors"),
        ([("config.json", b"{}"), ("model.safetensors", bytes(80 * 2**20))], "as no weights do"),
        ([("config.json", b'{"model_type": "vit"}'), ("model.safetensors", b"junk")], "not a readable"),
        ([("config.json", b"[" * 100_000), ("model.safetensors", b"junk")], "not readable JSON"),
    ],
)
def test_a_hostile_or_wrong_zip_is_refused_in_words(
    tmp_path: Path, entries: list[tuple[str, bytes]], words: str
) -> None:
    path, room = tmp_path / "bad.zip", tmp_path / "room"
    room.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data)
    with pytest.raises(ModelError, match=words):
        workflows.inspect_weights(path, room=room)
    assert not list(room.iterdir()) and {one.name for one in tmp_path.iterdir()} == {"bad.zip", "room"}


def test_pickled_weights_and_code_in_a_zip_are_never_read(tmp_path: Path, vit: Path) -> None:
    config = (vit / "config.json").read_bytes()
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as file:
        file.writestr("config.json", config)
        file.writestr("pytorch_model.bin", b"\x80\x04")
    with pytest.raises(UnsafeFile, match="pickled weights only"):
        workflows.inspect_weights(tmp_path / "old.zip", room=tmp_path)
    foreign = {**json.loads(config), "model_type": "mine", "auto_map": {"AutoConfig": "evil.Config"}}
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as file:
        file.writestr("config.json", json.dumps(foreign))
        file.writestr("evil.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
        file.write(vit / "model.safetensors", "model.safetensors")
    with pytest.raises(UnsafeFile, match="never run"):
        workflows.inspect_weights(tmp_path / "code.zip", room=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_damaged_entry_and_a_second_one_of_the_name_are_refused(
    packed: Callable[..., Path], tmp_path: Path
) -> None:
    path = packed()
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        start = file.getinfo("model.safetensors").header_offset + 60
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(ModelError, match="is damaged"):
        workflows.inspect_weights(path, room=tmp_path)
    path = packed()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", b"{}")
    with pytest.raises(ModelError, match="two files of the same name"):
        workflows.inspect_weights(path, room=tmp_path)


def test_a_timm_folder_comes_zipped_too(empty_workspace: Workspace, tmp_path: Path) -> None:
    import timm

    torch.manual_seed(0)
    folder = tmp_path / "resnet"
    folder.mkdir()
    net = timm.create_model("test_resnet", num_classes=3)
    safetensors.torch.save_file(net.state_dict(), folder / "model.safetensors")
    config = {"architecture": "test_resnet", "num_classes": 3, "label_names": ["stop", "yield", "parking"]}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.make_archive(str(folder), "zip", folder)
    report = workflows.inspect_weights(tmp_path / "resnet.zip", room=tmp_path)
    assert report.arch == "timm:test_resnet" and report.classes == 3
    assert workflows.use_classifier(empty_workspace, tmp_path / "resnet.zip").labels == (
        "stop",
        "yield",
        "parking",
    )
