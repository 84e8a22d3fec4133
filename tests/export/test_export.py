"""Exports: what is in them, what must not be, and what they say about themselves."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pyarrow.parquet as parquet
import pytest
from PIL import Image

from ltg_core.data.datasets import import_dataset
from ltg_core.data.images import content_hash, encode_png
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError, WorkspaceError
from ltg_core.export import EXPORTERS, export, zip_export
from ltg_core.export.base import FolderNames, safe_file_name
from ltg_core.export.guard import protected
from ltg_core.export.parquet import ParquetExporter
from ltg_core.export.text import plain
from ltg_core.jobs import CancelToken, Progress
from tests.export.conftest import HOSTILE, manifest, picture


@pytest.mark.parametrize("fmt", list(EXPORTERS))
def test_held_out_samples_their_offspring_and_copies_are_never_exported(
    ws: Workspace, world, tmp_path: Path, fmt
):
    report = export(ws, list(world.values()), tmp_path / "out", fmt)
    name = {id: key for key, id in world.items()}
    out = {name[id]: reason for id, reason in report.left_out}
    refused = {"val", "test", "from test", "from that", "from nowhere", "copy of val", "copy of generated"}
    assert set(out) == refused | ({"unlabelled"} if EXPORTERS[fmt].NEEDS_LABEL else set())
    assert "'test'" in out["from that"] and "exact copy" in out["copy of val"]
    assert set(manifest(report.path)) == set(world.values()) - {id for id, _ in report.left_out}
    assert report.n == len(world) - len(out)
    written = [json.loads(line) for line in (report.path / "left_out.jsonl").read_text().splitlines()]
    assert {line["id"] for line in written} == {id for id, _ in report.left_out}


def test_the_manifest_has_the_whole_provenance(ws: Workspace, world, tmp_path: Path):
    report = export(ws, [world["generated"], world["from train"]], tmp_path / "out")
    record = manifest(report.path)[world["generated"]]
    assert (record["prompt"], record["seed"], record["verdict"]) == ("a stop sign at night", 5, "accepted")
    assert record["tags"] == ["night"] and record["image_hash"] == content_hash(picture(10))
    assert record["run"]["settings"] == {"signal": "epistemic", "weight": 2.5} and record["run"]["seed"] == 11
    assert record["run"]["hashes"] == {"classifier": "m"} and record["run"]["versions"]["python"]
    assert record["scores"] == {"m": {"entropy": {"value": 1.5, "percentile": 97.0}}}
    prediction = record["predictions"]["m"]
    assert (prediction["pred"], prediction["correct"], prediction["class_name"]) == (1, False, HOSTILE)
    made_from = manifest(report.path)[world["from train"]]["made_from"]
    assert (made_from["id"], made_from["split"]) == (world["train"], "train")
    with Image.open(report.path / record["file_name"]) as image:
        assert image.text["longtail:prompt"] == "a stop sign at night" and image.text["longtail:seed"] == "5"
        assert image.convert("RGB").tobytes() == picture(10).tobytes()


def test_an_image_folder_has_safe_names_and_is_read_back(ws: Workspace, world, tmp_path: Path):
    report = export(
        ws, [world["train"], world["hostile"], world["generated"]], tmp_path / "out", "imagefolder"
    )
    assert report.classes == {"stop": 2, HOSTILE: 1}
    folders = sorted(p.name for p in (report.path / "train").iterdir() if p.is_dir())
    assert len(folders) == 2 and all(
        set(f) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for f in folders
    )
    assert not (tmp_path / "evil").exists()
    classes = {c["class_name"]: c for c in json.loads((report.path / "classes.json").read_text())}
    assert classes[HOSTILE]["label"] == 1 and classes["stop"]["folder"] == "stop"
    lines = [json.loads(line) for line in (report.path / "train" / "metadata.jsonl").read_text().splitlines()]
    assert all((report.path / "train" / line["file_name"]).is_file() for line in lines)
    with Workspace(tmp_path / "again") as other:
        assert import_dataset(other, report.path).added == 3
        assert sorted(s.image_hash for s in other.samples(other.query(Filter(split="train")))) == sorted(
            s.image_hash for s in ws.samples([world["train"], world["hostile"], world["generated"]])
        )


def test_parquet_is_in_the_hugging_face_layout_and_read_back(ws: Workspace, world, tmp_path: Path):
    ids = [world["train"], world["unlabelled"], world["generated"]]
    report = export(ws, ids, tmp_path / "out", ParquetExporter(rows_per_file=2))
    files = sorted((report.path / "data").iterdir())
    assert [f.name for f in files] == ["train-00000.parquet", "train-00001.parquet"]
    table = parquet.read_table(files[0])
    rows = table.to_pylist()
    assert [row["id"] for row in rows] == ids[:2] and [row["label"] for row in rows] == [0, None]
    assert rows[0]["image"]["bytes"].startswith(b"\x89PNG")
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features["label"] == {"names": ["stop", HOSTILE], "_type": "ClassLabel"}
    assert features["image"] == {"_type": "Image"} and set(features) == set(table.column_names)
    with Workspace(tmp_path / "again") as other:
        assert import_dataset(other, report.path).added == 3
        assert other.label_names() == ["stop", HOSTILE]


def test_the_card_says_what_is_inside_and_shows_hostile_names_as_text(ws: Workspace, world, tmp_path: Path):
    report = export(ws, list(world.values()), tmp_path / "out")
    card = (report.path / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n") and "<img" not in card and "&lt;img" in card
    assert "| stop | 3 |" in card and "1 x: it has no label" in card
    assert "`" not in plain("`code`").replace("\\`", "")


def test_a_used_folder_an_empty_choice_and_an_unknown_format_are_refused(
    ws: Workspace, world, tmp_path: Path
):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("x")
    with pytest.raises(InputError, match="in use"):
        export(ws, [world["train"]], tmp_path / "used")
    with pytest.raises(InputError, match=r"nothing is left.*'test'"):
        export(ws, [world["test"]], tmp_path / "out")
    with pytest.raises(InputError, match="no samples were chosen"):
        export(ws, [], tmp_path / "out")
    with pytest.raises(InputError, match="imagefolder"):
        export(ws, [world["train"]], tmp_path / "out", "tfrecord")
    with pytest.raises(InputError, match="no longer in this workspace"):
        export(ws, ["unknown"], tmp_path / "out")
    assert not (tmp_path / "out").exists() and (tmp_path / "used" / "mine.txt").exists()


@pytest.mark.parametrize("fmt", list(EXPORTERS))
def test_a_stopped_export_leaves_nothing_behind(ws: Workspace, world, tmp_path: Path, fmt):
    token = CancelToken()

    def on_progress(progress: Progress) -> None:
        if progress.done:
            token.cancel()

    with pytest.raises(Cancelled):
        export(
            ws, list(world.values()), tmp_path / "out" / "deep", fmt, on_progress=on_progress, cancel=token
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told(ws: Workspace, world, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match="export folder"):
        export(ws, [world["train"]], tmp_path / "file" / "out")


def test_an_export_is_zipped_for_download_and_read_back(ws: Workspace, world, tmp_path: Path):
    report = export(ws, [world["train"], world["hostile"]], ws.exports_folder / "first")
    archive = zip_export(report.path)
    assert archive == ws.exports_folder / "first.zip"
    with zipfile.ZipFile(archive) as packed:
        assert packed.testzip() is None
        assert {"first/README.md", "first/manifest.jsonl", "first/classes.json"} <= set(packed.namelist())
    with Workspace(tmp_path / "again") as other:
        assert import_dataset(other, archive).added == 2
    with pytest.raises(InputError):
        zip_export(tmp_path / "nowhere")


def test_file_names_are_safe_and_distinct():
    assert safe_file_name("../../etc/passwd") == "etc_passwd"
    assert safe_file_name("CON") == "CON_" and safe_file_name("...") == "class"
    assert safe_file_name("Straße 30") == "Straße_30" and len(safe_file_name("ä" * 500).encode()) <= 80
    names = FolderNames()
    assert len({names[label].casefold() for label in ("a/b", "a\\b", "A_B", "a_b", "a_b_2")}) == 5
    assert names["a/b"] == names["a/b"]


def test_held_out_splits_are_known_under_their_usual_names():
    assert all(
        protected(name) for name in ("val", "valid", "validation", "test", "test_lt", "Testing", "val-2")
    )
    assert not any(protected(name) for name in ("train", "", "pool", "contest"))


def test_png_text_of_a_sample_survives_odd_characters():
    assert encode_png(picture(0), {"longtail:class": HOSTILE, "Description": "夜"}).startswith(b"\x89PNG")
