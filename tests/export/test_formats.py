"""Each format as its own ecosystem's library reads it."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pandas
import pytest
from PIL import Image

from ltg_core.data.datasets import import_dataset
from ltg_core.data.images import content_hash
from ltg_core.data.workspace import Workspace
from ltg_core.export import export
from ltg_core.export.webdataset import WebDatasetExporter
from tests.export.conftest import HOSTILE, manifest, picture

CHOSEN = ("train", "generated", "from train", "hostile")
CLASSES = ["stop", "stop", "stop", HOSTILE]


@pytest.fixture
def chosen(world: dict[str, str]) -> list[str]:
    return [world[name] for name in CHOSEN]


def _hash(image: Image.Image) -> str:
    return content_hash(image.convert("RGB"))


@pytest.fixture
def hashes(ws: Workspace, chosen: list[str]) -> list[str]:
    return [sample.image_hash for sample in ws.samples(chosen)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_webdataset_library_reads_the_shards(ws: Workspace, chosen, hashes, tmp_path: Path):
    import webdataset

    report = export(ws, chosen, tmp_path / "out", WebDatasetExporter(per_shard=3))
    shards = sorted(str(path) for path in report.path.glob("*.tar"))
    assert [Path(shard).name for shard in shards] == ["train-000000.tar", "train-000001.tar"]
    data = webdataset.WebDataset(shards, shardshuffle=False).decode("pil")
    rows = list(data.to_tuple("__key__", "png", "cls", "json", "txt"))
    assert [row[0] for row in rows] == chosen and [_hash(row[1]) for row in rows] == hashes
    assert [row[2] for row in rows] == [0, 0, 0, 1] and rows[3][3]["class_name"] == HOSTILE
    assert rows[1][3]["synthetic"] and json.loads(rows[1][3]["settings"])["weight"] == 2.5
    assert rows[1][3]["seed"] == "5" and rows[1][4] == "a stop sign at night"
    with tarfile.open(shards[0]) as tar:
        assert all(entry.isfile() and "/" not in entry.name for entry in tar.getmembers())


@pytest.mark.parametrize("fmt", ["huggingface", "imagefolder", "webdataset"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_datasets_library_reads_the_folder(
    ws: Workspace, chosen, hashes, world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fmt
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    report = export(ws, [*chosen, world["val"]], tmp_path / "out", fmt, held_out=True)
    data = datasets.load_dataset(str(report.path), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in data.items()} == {"train": 4, "val": 1}
    image = "png" if fmt == "webdataset" else "image"
    assert sorted(_hash(row[image]) for row in data["train"]) == sorted(hashes)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_hugging_face_folder_has_classes_and_provenance(
    ws: Workspace, chosen, world, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    report = export(ws, chosen, tmp_path / "out", "huggingface")
    data = datasets.load_dataset(str(report.path), cache_dir=str(tmp_path / "cache"), split="train")
    names = [row["class_name"] for row in json.loads((report.path / "classes.json").read_text())]
    # the card's own lines
    data = data.cast_column("label", datasets.ClassLabel(names=names))
    rows = {row["sample_id"]: row for row in data}
    assert [rows[id]["label"] for id in chosen] == [0, 0, 0, 1]
    made = rows[world["from train"]]
    assert made["synthetic"] and made["source_sample"] == world["train"] and made["seed"] == "6"
    assert json.loads(made["settings"]) == {"signal": "epistemic", "weight": 2.5}
    assert json.loads(made["model_hashes"]) == {"classifier": "m"} and not rows[world["train"]]["synthetic"]


def test_parquet_is_read_by_the_datasets_library(
    ws: Workspace, chosen, hashes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    datasets.disable_progress_bars()
    report = export(ws, chosen, tmp_path / "out", "parquet")
    data = datasets.load_dataset(str(report.path), cache_dir=str(tmp_path / "cache"), split="train")
    assert data.features["label"].names == ["stop", HOSTILE]
    assert [_hash(row["image"]) for row in data] == hashes and data["label"][:] == [0, 0, 0, 1]


@pytest.mark.parametrize("fmt", ["csv", "jsonl"])
def test_a_table_is_read_by_pandas_and_imported_again(ws: Workspace, chosen, hashes, tmp_path: Path, fmt):
    report = export(ws, chosen, tmp_path / "out", fmt)
    file = report.path / f"metadata.{fmt}"
    table = pandas.read_csv(file) if fmt == "csv" else pandas.read_json(file, lines=True)
    assert table["sample_id"].tolist() == chosen and table["label"].tolist() == [0, 0, 0, 1]
    assert table["class_name"].tolist() == CLASSES and table["synthetic"].tolist() == [
        False,
        True,
        True,
        False,
    ]
    assert (
        table["source_sample"].tolist()[2] == chosen[0] and json.loads(table["settings"][1])["weight"] == 2.5
    )
    for name, hash in zip(table["file_name"], hashes, strict=True):
        with Image.open(report.path / name) as image:
            assert _hash(image) == hash
    with Workspace(tmp_path / "again") as other:
        assert import_dataset(other, report.path).added == 4
        found = {sample.image_hash: sample for sample in other.samples(other.query())}
        assert [found[hash].label_name for hash in hashes] == CLASSES
        assert {sample.split for sample in found.values()} == {"train"}


def test_the_coco_library_reads_categories_and_images(
    ws: Workspace, chosen, hashes, world, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from pycocotools.coco import COCO

    report = export(ws, [*chosen, world["test"]], tmp_path / "out", "coco", held_out=True)
    data = COCO(str(report.path / "annotations" / "labels_train.json"))
    assert [c["name"] for c in data.loadCats(data.getCatIds())] == ["stop", HOSTILE]
    assert len(data.getImgIds(catIds=data.getCatIds(catNms=["stop"]))) == 3
    for id, hash, label in zip(chosen, hashes, CLASSES, strict=True):
        image = next(entry for entry in data.loadImgs(data.getImgIds()) if entry["file_name"] == f"{id}.png")
        (annotation,) = data.loadAnns(data.getAnnIds(imgIds=image["id"]))
        assert data.loadCats(annotation["category_id"])[0]["name"] == label
        assert (image["width"], image["height"]) == (8, 8)
        with Image.open(report.path / "images" / "train" / image["file_name"]) as picture_:
            assert _hash(picture_) == hash
    held = COCO(str(report.path / "annotations" / "labels_test.json"))
    assert [entry["file_name"] for entry in held.loadImgs(held.getImgIds())] == [f"{world['test']}.png"]


def test_fiftyone_finds_its_documented_layout(ws: Workspace, chosen, hashes, world, tmp_path: Path):
    ids = [*chosen, world["unlabelled"]]
    report = export(ws, ids, tmp_path / "out", "fiftyone")
    labels: dict[str, Any] = json.loads((report.path / "labels.json").read_text(encoding="utf-8"))
    assert set(labels) == {"classes", "labels"}
    # "the target values are class IDs that are mapped to class label strings via classes[target]";
    # "The target value in labels for unlabeled images is None"
    targets = labels["labels"]
    assert [None if targets[i] is None else labels["classes"][targets[i]] for i in ids] == [*CLASSES, None]
    files = {path.stem: path for path in (report.path / "data").iterdir()}
    assert set(files) == set(targets) == set(ids)
    for id, hash in zip(chosen, hashes, strict=True):
        with Image.open(files[id]) as image:
            assert _hash(image) == hash


def test_a_class_that_the_classifier_does_not_know_gets_a_number_of_its_own(
    ws: Workspace, world, tmp_path: Path
):
    new = ws.add_image(picture(30), origin="real", split="train", label_name="zebra crossing")
    report = export(ws, [new, world["hostile"]], tmp_path / "out", "jsonl")
    rows = [json.loads(line) for line in (report.path / "metadata.jsonl").read_text().splitlines()]
    assert [row["label"] for row in rows] == [2, 1]
    classes = json.loads((report.path / "classes.json").read_text())
    assert classes[2] == {"label": 2, "class_name": "zebra crossing", "known": False} and classes[1]["known"]


PLACES = {
    "imagefolder": ("train/stop/{}.png", "test/stop/{}.png"),
    "webdataset": ("train-000000.tar#{}.png", "test-000000.tar#{}.png"),
    "huggingface": ("train/{}.png", "test/{}.png"),
    "parquet": ("data/train-00000.parquet#{}.png", "data/test-00000.parquet#{}.png"),
    "csv": ("images/{}.png", "images/{}.png"),
    "jsonl": ("images/{}.png", "images/{}.png"),
    "coco": ("images/train/{}.png", "images/test/{}.png"),
    "fiftyone": ("data/{}.png", "test/data/{}.png"),
}


@pytest.mark.parametrize("fmt", PLACES)
def test_held_out_samples_that_were_asked_for_stay_apart_from_the_training_data(
    ws: Workspace, world, tmp_path: Path, fmt
):
    report = export(ws, list(world.values()), tmp_path / "out", fmt, held_out=True)
    records = manifest(report.path)
    name = {id: key for key, id in world.items()}
    splits = {name[id]: record["split"] for id, record in records.items()}
    assert splits["train"] == splits["generated"] == splits["from train"] == splits["hostile"] == "train"
    assert splits["val"] == "val" and splits["test"] == splits["from test"] == splits["from that"] == "test"
    assert {"copy of val", "from nowhere"} <= {name[id] for id, _ in report.left_out}
    assert report.splits["test"] == 3
    own, held = (PLACES[fmt][i].format(world[key]) for i, key in enumerate(("train", "from test")))
    assert records[world["train"]]["file_name"] == own and records[world["from test"]]["file_name"] == held
    assert "3 in `test`" in (report.path / "README.md").read_text(encoding="utf-8")
    for record in records.values():
        assert (report.path / record["file_name"].split("#")[0]).is_file()


READERS = ("webdataset", "huggingface", "parquet", "csv", "jsonl", "coco", "fiftyone", "imagefolder")
EVIL = (
    "<img src=x onerror=alert(1)>",
    "${7*7}{{7*7}}",
    "a\u202egnp.exe",
    "=cmd|' /C calc'!A0",
    "x" * 10_000,
    "a\nb",
)


@pytest.mark.parametrize("fmt", READERS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_hostile_class_names_come_back_from_each_library_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fmt
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with Workspace(tmp_path / "ws") as other:
        other.set_label_names(EVIL)
        ids = [
            other.add_image(picture(i), origin="real", split="train", label=i, label_name=name, caption=name)
            for i, name in enumerate(EVIL)
        ]
        place = export(other, ids, tmp_path / "out", fmt).path
    wanted = dict(zip(ids, EVIL, strict=True))
    assert READ[fmt](place, tmp_path) == wanted


def _with_datasets(place: Path, tmp_path: Path) -> dict[str, str]:
    import datasets

    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(place), cache_dir=str(tmp_path / "cache"), split="train")
    return {row["sample_id"]: row["label"] for row in data}


def _with_parquet(place: Path, tmp_path: Path) -> dict[str, str]:
    import datasets

    datasets.disable_progress_bars()
    data = datasets.load_dataset(str(place), cache_dir=str(tmp_path / "cache"), split="train")
    return {row["id"]: data.features["label"].names[row["label"]] for row in data}


def _with_webdataset(place: Path, tmp_path: Path) -> dict[str, str]:
    import webdataset

    classes = json.loads((place / "classes.json").read_text(encoding="utf-8"))
    data = webdataset.WebDataset([str(path) for path in sorted(place.glob("*.tar"))], shardshuffle=False)
    return {key: classes[int(cls)]["class_name"] for key, cls in data.to_tuple("__key__", "cls")}


def _with_pandas(place: Path, tmp_path: Path) -> dict[str, str]:
    if (
        place / "metadata.csv"
    ).exists():  # a spreadsheet's cells are changed; the numbers still say which class it is
        table = pandas.read_csv(place / "metadata.csv")
        assert not any(str(name).lstrip().startswith("=") for name in table["class_name"])
    else:
        table = pandas.read_json(place / "metadata.jsonl", lines=True)
        assert set(table["class_name"]) == set(EVIL)
    classes = json.loads((place / "classes.json").read_text(encoding="utf-8"))
    return {row.sample_id: classes[row.label]["class_name"] for row in table.itertuples()}


def _with_coco(place: Path, tmp_path: Path) -> dict[str, str]:
    from pycocotools.coco import COCO

    data = COCO(str(place / "annotations" / "labels_train.json"))
    found = {}
    for annotation in data.loadAnns(data.getAnnIds()):
        (image,) = data.loadImgs(annotation["image_id"])
        found[Path(image["file_name"]).stem] = data.loadCats(annotation["category_id"])[0]["name"]
    return found


def _with_json(place: Path, tmp_path: Path) -> dict[str, str]:
    labels = json.loads((place / "labels.json").read_text(encoding="utf-8"))
    return {id: labels["classes"][number] for id, number in labels["labels"].items()}


READ = {
    "webdataset": _with_webdataset,
    "huggingface": _with_datasets,
    "imagefolder": _with_datasets,
    "parquet": _with_parquet,
    "csv": _with_pandas,
    "jsonl": _with_pandas,
    "coco": _with_coco,
    "fiftyone": _with_json,
}


def test_parquet_alone_holds_the_provenance(ws: Workspace, chosen, world, tmp_path: Path):
    report = export(ws, chosen, tmp_path / "out", "parquet")
    table = pandas.read_parquet(report.path / "data").set_index("id")
    made = table.loc[world["from train"]]
    assert made["synthetic"] and made["source_sample"] == world["train"] and made["seed"] == 6
    assert json.loads(made["settings"])["weight"] == 2.5
    assert json.loads(made["model_hashes"]) == {"classifier": "m"} and "torch" in json.loads(made["versions"])
    assert not table.loc[world["train"]]["synthetic"]
