"""Damaged and hostile files through every reader: an answer or an error in words, never anything else.

``make test`` runs a quick slice, ``make fuzz`` 20,000 cases in all (FUZZ_CASES).
"""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from ltg_core.data.images import read_image
from ltg_core.data.opening import open_source
from ltg_core.data.sources import closing
from ltg_core.errors import LtgError
from ltg_core.models.folders import read_folder
from ltg_core.models.huggingface import clean_config, processor_preprocess
from ltg_core.models.loaders import read_card
from ltg_core.models.weights import read_weights
from ltg_core.workflows.bringing import inspect_weights

READERS = 10
CASES = int(os.environ.get("FUZZ_CASES", "0")) // READERS or 25
TESTED = settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES <= 25,
    database=None,
    suppress_health_check=list(HealthCheck),
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [
        "a/b.png",
        "../x.png",
        "/etc/passwd",
        "train/stop/a.png",
        "a\0b.png",
        "C:\\x.png",
        "x" * 300,
        "é/<img src=x>.png",
    ]
)
NUMBERS = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
MODES = st.sampled_from([0, 0o120777, 0o060644, 0o100644])
KINDS = st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"])


def records(names: str, values: st.SearchStrategy[Any] = JSON) -> st.SearchStrategy[dict[str, Any]]:
    """Dictionaries with some of these keys."""
    return st.dictionaries(st.sampled_from(names.split()), values, max_size=6)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A good file with some bytes changed, cut out, doubled or cut off."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["change", "number", "cut", "double", "end"]))
        if kind == "change":
            data[place] = draw(st.integers(0, 255))
        elif kind == "number":
            data[place : place + 8] = struct.pack("<Q", draw(NUMBERS))
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 64))]
        elif kind == "double":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        else:
            del data[place:]
    return bytes(data)


def picture(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(buffer, kind)
    return buffer.getvalue()


def written(write: Callable[[io.BytesIO], Any]) -> bytes:
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zipped(buffer: io.BytesIO) -> None:
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("train/stop/a.png", "train/yield/b.png"):
            file.writestr(name, picture())


TENSORS = {"layer1.weight": torch.ones(3, 2), "fc.bias": torch.zeros(4)}


def described(buffer: io.BytesIO) -> None:
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("set/metadata.csv", "file_name,label,fog\na.png,0,1\nb/c.png,1,0\n../d.png,1,0\n")
        for name in ("set/a.png", "set/b/c.png"):
            file.writestr(name, picture())


def modelled(buffer: io.BytesIO) -> None:
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("net/config.json", '{"architecture": "test_resnet", "num_classes": 3}')
        file.writestr("net/model.safetensors", safetensors.torch.save(TENSORS))


def tarred(buffer: io.BytesIO) -> None:
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, data in (("0.png", picture()), ("0.cls", b"1"), ("0.json", b'{"weather": "rain"}')):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def tabled(buffer: io.BytesIO) -> None:
    parquet.write_table(
        arrow.table({"image": [picture(), picture()], "label": [0, 1], "camera": ["a", "b"]}), buffer
    )


def with_name(whole: bytes, old: bytes, new: bytes) -> bytes:
    """A zip whose table of contents calls an entry ``new``; what is left of the old name becomes its comment."""
    data, place = bytearray(whole), whole.rindex(old)
    data[place : place + len(new)] = new
    struct.pack_into("<H", data, place - 18, len(new))
    struct.pack_into("<H", data, place - 14, len(old) - len(new))
    return bytes(data)


WHOLE = {
    "a.zip": written(zipped),
    "described.zip": written(described),
    "a.tar": written(tarred),
    "a.parquet": written(tabled),
    "a.npz": written(lambda b: np.savez(b, images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.arange(2))),
    "a.npy": written(lambda b: np.save(b, np.zeros((2, 4, 4), np.uint8))),
    "a.csv": b"path,label,split,weather\na.png,0,train,rain\nb.png,1,val,sun\n",
    "a.jsonl": b'{"path": "a.png", "label": 0}\n{"path": "../b.png", "label": "stop", "weather": [1, 2]}\n',
}
WEIGHTS = {
    "a.safetensors": safetensors.torch.save(TENSORS),
    "a.pt": written(lambda b: torch.save({"state_dict": TENSORS, "epoch": 3}, b)),
    "old.pt": written(lambda b: torch.save(TENSORS, b, _use_new_zipfile_serialization=False)),
}


def walk(path: Path) -> None:
    """Everything that an import asks of a data set."""
    try:
        with closing(open_source(path)) as source:
            keys = source.keys()
            source.columns()
            for row in source.rows(None):
                assert 0 <= row.index < len(keys)
                if row.data is not None:
                    see(row.data)
    except LtgError as error:
        assert str(error)


def see(data: bytes) -> None:
    try:
        read_image(data)
    except LtgError as error:
        assert str(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@TESTED
@example(("a.zip", with_name(WHOLE["a.zip"], b"train/yield/b.png", b"")))
@given(st.sampled_from(sorted(WHOLE)).flatmap(lambda name: st.tuples(st.just(name), damaged(WHOLE[name]))))
def test_damaged_data_sets(folder: Path, case: tuple[str, bytes]) -> None:
    (folder / case[0]).write_bytes(case[1])
    walk(folder / case[0])


@TESTED
@example(("a.pt", with_name(WEIGHTS["a.pt"], b"archive/byteorder", b"\x80")))
@given(
    st.sampled_from(sorted(WEIGHTS)).flatmap(lambda name: st.tuples(st.just(name), damaged(WEIGHTS[name])))
)
def test_damaged_weights(folder: Path, case: tuple[str, bytes]) -> None:
    path = folder / case[0]
    path.write_bytes(case[1])
    try:
        found = read_weights(path)
        assert all(tensor.numel() * tensor.element_size() <= len(case[1]) for tensor in found.state.values())
    except LtgError as error:
        assert path.name in str(error)


@TESTED
@example(written(modelled))
@given(damaged(written(modelled)))
def test_damaged_zips_of_model_folders(folder: Path, data: bytes) -> None:
    path, before = folder / "net.zip", sorted(folder.rglob("*"))
    path.write_bytes(data)
    try:
        assert inspect_weights(path, room=folder).parameters <= 10 * len(data)
    except LtgError as error:
        assert str(error)
    assert sorted({*folder.rglob("*")} - {path}) == [one for one in before if one != path]


@TESTED
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "PPM"]).flatmap(
        lambda kind: damaged(picture(kind))
    )
)
def test_damaged_images(data: bytes) -> None:
    see(data)


@TESTED
@given(st.binary(max_size=400), st.sampled_from([*sorted(WHOLE), *sorted(WEIGHTS)]))
def test_files_of_noise(folder: Path, data: bytes, name: str) -> None:
    (folder / name).write_bytes(data)
    see(data)
    if name in WHOLE:
        walk(folder / name)
        return
    with pytest.raises(LtgError):
        read_weights(folder / name)


@TESTED
@given(st.lists(records("path image label split class_name caption x", JSON | NAMES), max_size=5))
def test_manifests_of_anything(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "b.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    try:
        with closing(open_source(folder / "b.jsonl")) as source:
            keys = source.keys()
            for row in source.rows(None):
                assert row.data is None or row.source in ("a.csv", "a.zip", "b.jsonl"), (
                    "a file elsewhere was read"
                )
                assert 0 <= row.index < len(keys)
    except LtgError as error:
        assert str(error)


@TESTED
@given(st.lists(st.tuples(NAMES, st.binary(max_size=60), MODES), max_size=5))
def test_archives_with_any_names_never_write(folder: Path, entries: list[tuple[str, bytes, int]]) -> None:
    with zipfile.ZipFile(folder / "b.zip", "w") as file:
        for name, data, mode in {entry[0]: entry for entry in entries}.values():
            info = zipfile.ZipInfo("a")
            info.filename = name.replace("\0", "?")
            info.external_attr = mode << 16
            file.writestr(info, data)
    before = sorted(p.name for p in folder.iterdir())
    walk(folder / "b.zip")
    with pytest.raises(LtgError):
        inspect_weights(folder / "b.zip", room=folder)
    assert sorted(p.name for p in folder.iterdir()) == before


@TESTED
@given(records("arch labels preprocess options keep outputs x"))
def test_cards_of_anything(folder: Path, card: dict[str, Any]) -> None:
    (folder / "c.json").write_text(json.dumps(card), encoding="utf-8")
    try:
        assert isinstance(read_card(folder / "c.safetensors"), dict)
    except LtgError as error:
        assert "c.json" in str(error)


@TESTED
@given(records("model_type architecture id2label hidden_size auto_map num_layers _x"))
@example({"model_type": "vit", "num_hidden_layers": 10**9})
def test_configurations_of_anything(tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("model")
    (path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(LtgError):
        read_folder(path)
    try:
        clean_config(config)
    except LtgError as error:
        assert str(error)


@TESTED
@given(records("size crop_size do_center_crop resample image_mean image_std crop_pct rescale_factor"))
def test_processors_of_anything(values: dict[str, Any]) -> None:
    try:
        processor_preprocess(values)
    except LtgError as error:
        assert str(error)
