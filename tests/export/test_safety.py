"""Near copies, folders that exist, and exports that are killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from ltg_core.data import leftovers, processes
from ltg_core.data import looks as looks_module
from ltg_core.data import near as core_near
from ltg_core.data.records import NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, InputError
from ltg_core.export import EXPORTERS, export, zip_export
from ltg_core.export import near as near_module
from ltg_core.jobs import CancelToken, Progress
from tests.conftest import draw
from tests.export.conftest import manifest, picture


def _encoded(image: Image.Image, kind: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return Image.open(buffer).convert("RGB")


CHANGES = {
    "as JPEG": lambda image: _encoded(image, "JPEG", quality=90),
    "smaller": lambda image: image.resize((24, 24), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.05),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.8),
}


@pytest.mark.parametrize("fmt", list(EXPORTERS))
def test_near_copies_of_held_out_samples_are_left_out_and_other_pictures_of_the_class_are_not(
    ws: Workspace, tmp_path: Path, fmt
):
    real = {"origin": "real", "label": 0, "label_name": "stop"}
    held = ws.add_image(draw("stop", 1), split="val", **real)
    others = [ws.add_image(draw("stop", seed), split="train", **real) for seed in range(2, 8)]
    near = [ws.add_image(change(draw("stop", 1)), split="train", **real) for change in CHANGES.values()]
    report = export(ws, [*near, *others], tmp_path / "out", fmt)
    assert sorted(manifest(report.path)) == sorted(others)
    assert dict(report.left_out) == dict.fromkeys(
        near, "it is a near copy of a sample of the held-out split 'val'"
    )
    lines = [json.loads(line) for line in (report.path / "left_out.jsonl").read_text().splitlines()]
    assert {line["copy_of"] for line in lines} == {held}
    assert "4 x: it is a near copy" in (report.path / "README.md").read_text(encoding="utf-8")


def test_near_copies_are_found_between_val_and_test_and_flat_pictures_are_not_compared(
    ws: Workspace, tmp_path: Path
):
    real = {"origin": "real", "label": 0, "label_name": "stop"}
    test = ws.add_image(draw("stop", 1), split="test", **real)
    val = ws.add_image(_encoded(draw("stop", 1), "JPEG", quality=80), split="val", **real)
    dark = [
        ws.add_image(np.full((8, 8, 3), level, np.uint8), split=split, **real)
        for level, split in ((3, "train"), (4, "test"))
    ]
    report = export(ws, [val, test, *dark], tmp_path / "out", held_out=True)
    assert [id for id, _ in report.left_out] == [val] and report.splits == {"train": 1, "test": 2}


def test_how_held_out_pictures_look_is_kept_and_grows_with_the_data(ws: Workspace, world, tmp_path: Path):
    export(ws, [world["train"]], tmp_path / "one")
    first = ws.array(looks_module._KEY)
    assert first is not None and len(first) == 2  # val and test
    ws.add_image(picture(70), origin="real", split="test", label=0, label_name="stop")
    export(ws, [world["train"]], tmp_path / "two")
    second = ws.array(looks_module._KEY)
    assert second is not None and len(second) == 3 and set(first["hash"]) < set(second["hash"])


def test_the_most_alike_of_many_is_found_over_all_chunks(ws: Workspace, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(core_near, "_CHUNK", 1)  # 16 others in a chunk
    real = {"origin": "real", "label": 0, "label_name": "stop"}
    others = [ws.add_image(picture(100 + i), split="test", **real) for i in range(40)]
    twins = [
        ws.add_image(
            Image.fromarray(picture(100 + i)).resize((16, 16), Image.Resampling.BOX), split="train", **real
        )
        for i in (0, 21, 39)
    ]
    found = near_module.near_copies(ws, twins, others, lambda progress: None, CancelToken())
    assert found == {twin: others[i] for twin, i in zip(twins, (0, 21, 39), strict=True)}


def test_an_export_that_exists_is_replaced_only_on_request(ws: Workspace, world, tmp_path: Path):
    place = tmp_path / "out"
    export(ws, [world["train"]], place)
    with pytest.raises(InputError, match="in use"):
        export(ws, [world["generated"]], place)
    assert list(manifest(place)) == [world["train"]]
    export(ws, [world["generated"]], place, "csv", overwrite=True)
    assert list(manifest(place)) == [world["generated"]] and not (place / "train").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name != "ws"] == ["out"]


def test_a_folder_that_is_no_export_is_never_replaced(ws: Workspace, world, tmp_path: Path):
    for name, file in (("home", "mine.txt"), ("half", "manifest.jsonl")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("x")
        with pytest.raises(InputError, match="no earlier export"):
            export(ws, [world["train"]], tmp_path / name, overwrite=True)
        assert (tmp_path / name / file).read_text() == "x"
    with pytest.raises(InputError, match="no earlier export"):
        export(ws, [world["train"]], tmp_path / "home" / "mine.txt", overwrite=True)


def test_a_stopped_replacement_leaves_the_earlier_export(ws: Workspace, world, tmp_path: Path):
    place, token = tmp_path / "out", CancelToken()
    export(ws, [world["train"]], place)

    def on_progress(progress: Progress) -> None:
        if progress.done:
            token.cancel()

    with pytest.raises(Cancelled):
        export(ws, list(world.values()), place, overwrite=True, on_progress=on_progress, cancel=token)
    assert list(manifest(place)) == [world["train"]]
    assert [path.name for path in tmp_path.iterdir() if path.name != "ws"] == ["out"]


def test_a_zip_file_that_exists_is_replaced_only_on_request(ws: Workspace, world, tmp_path: Path):
    report = export(ws, [world["train"]], tmp_path / "out")
    (tmp_path / "out.zip").write_text("mine")
    with pytest.raises(InputError, match="exists"):
        zip_export(report.path)
    assert (tmp_path / "out.zip").read_text() == "mine"
    assert zip_export(report.path, overwrite=True).read_bytes().startswith(b"PK")


_KILLED = """
import os, signal, sys
from ltg_core.data.workspace import Workspace
from ltg_core.export import export, writing

line, written = writing.json_line, []
def killed(record):
    written.append(record)
    if len(written) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return line(record)

writing.json_line = killed
with Workspace(sys.argv[1]) as ws:
    export(ws, ws.query(), sys.argv[2], sys.argv[3])
"""


@pytest.mark.parametrize("fmt", ["imagefolder", "webdataset"])
def test_a_killed_export_leaves_nothing_under_its_name(ws: Workspace, tmp_path: Path, fmt):
    real: dict[str, Any] = {"origin": "real", "split": "train", "label": 0, "label_name": "stop"}
    pictures = np.random.default_rng(0).integers(0, 256, (300, 96, 96, 3), dtype=np.uint8)
    ws.add_images([NewSample(one, **real) for one in pictures])
    place = tmp_path / "sets"
    words = [sys.executable, "-c", _KILLED, str(ws.path), str(place / "out"), fmt]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    manifests = list(place.glob(".longtail-export-*/manifest.jsonl"))
    assert manifests and not (place / "out").exists()
    assert export(ws, ws.query()[:3], place / "out", fmt).n == 3  # the name is free
    assert [path.name for path in place.iterdir()] == ["out"], "the next export took the leftovers away"


_REPLACED = """
import os, signal, sys
from types import SimpleNamespace
from ltg_core.data import leftovers
from ltg_core.data.workspace import Workspace
from ltg_core.export import export, writing

def killed(*given):
    os.kill(os.getpid(), signal.SIGKILL)

with Workspace(sys.argv[1]) as ws:
    if sys.argv[3] == "between":
        writing.os = SimpleNamespace(replace=killed)
    else:
        leftovers.remove = killed
    export(ws, [sys.argv[4]], sys.argv[2], overwrite=True)
"""


@pytest.mark.parametrize("when", ["between", "after"])
def test_a_replacement_that_is_killed_loses_neither_the_old_export_nor_the_new(
    ws: Workspace, world, when: str
):
    place = ws.exports_folder / "out"
    export(ws, [world["train"]], place)
    words = [sys.executable, "-c", _REPLACED, str(ws.path), str(place), when, world["generated"]]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    hidden = [path.name for path in ws.exports_folder.iterdir() if path.name.startswith(".")]
    assert len(hidden) >= 2 and place.exists() is (when == "after")
    with Workspace(ws.path):  # the next start
        assert [path.name for path in ws.exports_folder.iterdir()] == ["out"]
    assert list(manifest(place)) == [world["generated" if when == "after" else "train"]]


def test_a_label_whose_folder_is_gone_goes_too(ws: Workspace):
    code = "from ltg_core.data.leftovers import hidden_name; print(hidden_name('old'))"
    dead = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    mine = leftovers.hidden_name("old")
    for name in (dead, mine):
        (ws.exports_folder / f"{name}.name").write_text("out")
    leftovers.sweep(ws.exports_folder)
    assert [path.name for path in ws.exports_folder.iterdir()] == [f"{mine}.name"]


def test_the_leftovers_of_a_living_process_and_of_another_machine_are_left_alone(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
):
    mine = ws.exports_folder / leftovers.hidden_name("partial")
    with monkeypatch.context() as patch:
        patch.setattr(processes.socket, "gethostname", lambda: "elsewhere")
        other = ws.exports_folder / leftovers.hidden_name("partial")
    for folder in (mine, other):
        folder.mkdir()
    assert leftovers.sweep(ws.exports_folder) == [] and mine.is_dir() and other.is_dir()
    yesterday = time.time() - 2 * 24 * 3600
    os.utime(other, (yesterday, yesterday))
    assert leftovers.sweep(ws.exports_folder) == [other.name] and mine.is_dir()


def test_a_picture_or_a_sample_that_vanished_underneath_is_told_and_nothing_half_written_stays(
    ws: Workspace, world, tmp_path: Path
):
    ids = [world["train"], world["generated"]]
    ws.image_path(ids[1]).unlink()
    assert export(ws, ids, tmp_path / "out").left_out == [
        (ids[1], "its picture can no longer be read from the disk")
    ]
    with ws.database.write() as connection:
        connection.execute("DELETE FROM samples WHERE id = ?", (ids[1],))
    with pytest.raises(InputError, match="nothing is left to export: 1 x it is no longer in this workspace"):
        export(ws, ids[1:], tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "ws") == ["out"]
