"""Import of folders, zips and tables, good and hostile."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from ltg_core.data.datasets import import_dataset
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import Cancelled, DatasetError, InputError
from ltg_core.jobs import CancelToken, Progress

HOSTILE = "<img src=x onerror=alert(1)>"
CIFAR = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10"


def _zip(path: Path, entries: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_a_folder_with_splits_gives_splits_and_sorted_classes(ws: Workspace, folder: Path):
    report = import_dataset(ws, folder)
    assert (report.added, report.present, report.skipped) == (12, 0, [])
    assert report.labels == ["give way", "stop"] == ws.label_names()
    assert ws.splits() == ["test", "train", "val"]
    sample = ws.samples(ws.query(Filter(split="val", label=1)))[0]
    assert (sample.label_name, sample.source, sample.origin) == ("stop", "valid/stop/0.png", "real")
    run = ws.run(report.run_id)
    assert run.state == "done" and run.result["added"] == 12


def test_a_folder_without_splits_takes_the_given_one(ws: Workspace, folder: Path):
    report = import_dataset(ws, folder / "train", split="validation")
    assert report.splits == {"val": 4} and report.labels == ["give way", "stop"]


def test_importing_again_adds_only_what_is_missing(ws: Workspace, folder: Path, encode):
    import_dataset(ws, folder)
    (folder / "train" / "stop" / "new.png").write_bytes(encode(999))
    report = import_dataset(ws, folder)
    assert (report.added, report.present) == (1, 12)
    assert ws.count() == 13


def test_one_unreadable_image_is_reported_and_skipped(ws: Workspace, folder: Path, encode):
    whole = encode(7, "JPEG", side=64)
    (folder / "train" / "stop" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "train" / "stop" / "text.png").write_text("no picture")
    (folder / "train" / "stop" / "readme.txt").write_text("not even named like one")
    report = import_dataset(ws, folder)
    assert report.added == 12
    assert sorted(name for name, _ in report.skipped) == ["train/stop/broken.jpg", "train/stop/text.png"]
    assert all(reason for _, reason in report.skipped) and "2 could not be used" in report.summary()


def test_nothing_usable_is_an_error_that_says_what_was_expected(ws: Workspace, tmp_path: Path):
    empty = tmp_path / "empty"
    (empty / "stop").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no image"):
        import_dataset(ws, empty)
    (empty / "stop" / "a.png").write_text("x")
    with pytest.raises(DatasetError, match="none of the 1 images"):
        import_dataset(ws, empty)
    assert ws.runs("import")[0].state == "failed"
    with pytest.raises(DatasetError, match="does not exist"):
        import_dataset(ws, tmp_path / "nowhere")
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(DatasetError, match="no data set"):
        import_dataset(ws, tmp_path / "model.bin")


def test_a_classifiers_label_order_is_kept_and_unknown_labels_are_reported(ws: Workspace, folder: Path):
    report = import_dataset(ws, folder, label_names=["stop", "speed limit"])
    assert report.unknown_labels == {"give way": 6} and ws.label_names() == ["stop", "speed limit"]
    assert ws.count(Filter(label=0)) == 6
    lost = ws.samples(ws.query(Filter(text="give")))
    assert len(lost) == 6 and {s.label for s in lost} == {None}
    assert {s.meta["given_label"] for s in lost} == {"give way"}
    again = import_dataset(ws, folder, label_names=["give way", "stop"])
    assert again.unknown_labels == {} and ws.count(Filter(label=1)) == 6 and ws.count(Filter(label=0)) == 6


def test_a_second_data_set_keeps_the_numbers_of_the_first(
    ws: Workspace, folder: Path, tmp_path: Path, encode
):
    import_dataset(ws, folder)
    other = tmp_path / "other"
    for place, label in enumerate(("ahead", "stop")):
        (other / label).mkdir(parents=True)
        (other / label / "x.png").write_bytes(encode(500 + place))
    assert import_dataset(ws, other).labels == ["give way", "stop", "ahead"]
    assert {s.label for s in ws.samples(ws.query(Filter(text="stop")))} == {1}


def test_hostile_class_names_stay_text(ws: Workspace, tmp_path: Path, encode):
    for number, name in enumerate((HOSTILE.replace("/", ""), "${7*7}", "a'; DROP TABLE samples; --")):
        (tmp_path / "set" / name).mkdir(parents=True)
        (tmp_path / "set" / name / f"{HOSTILE}.png").write_bytes(encode(number))
    report = import_dataset(ws, tmp_path / "set")
    assert report.added == 3 and HOSTILE in report.labels
    assert ws.sample(ws.query(Filter(text="onerror=alert(1)>.png"))[0]).label_name in report.labels


def test_a_limit_is_spread_evenly_and_repeats(ws: Workspace, folder: Path):
    report = import_dataset(ws, folder, limit=6)
    assert report.added == 6 and report.splits == {"train": 2, "val": 2, "test": 2}
    assert ws.count(Filter(label=0)) == 3
    assert import_dataset(ws, folder, limit=6).present == 6
    with pytest.raises(InputError):
        import_dataset(ws, folder, limit=0)


def test_progress_is_told_and_a_cancel_keeps_what_was_read(ws: Workspace, folder: Path):
    seen: list[Progress] = []
    token = CancelToken()

    def on_progress(progress: Progress) -> None:
        seen.append(progress)
        token.cancel()

    with pytest.raises(Cancelled):
        import_dataset(ws, folder, on_progress=on_progress, cancel=token)
    assert seen[0].total == 12
    assert ws.count() == 1 and ws.runs("import")[0].state == "cancelled"
    assert import_dataset(ws, folder).added == 11


def test_a_zip_of_a_folder_is_read_without_its_outer_folder(ws: Workspace, tmp_path: Path, encode):
    entries = {
        f"signs/train/{label}/{i}.png": encode(i + 10 * len(label)) for label in ("a", "bb") for i in (0, 1)
    }
    archive = _zip(
        tmp_path / "signs.zip", {**entries, "__MACOSX/signs/._0.png": b"x", "signs/note.txt": b"hi"}
    )
    report = import_dataset(ws, archive)
    assert (report.added, report.labels, report.splits) == (4, ["a", "bb"], {"train": 4})


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/etc/evil.png", "C:\\evil.png", "..\\evil.png"]
)
def test_a_zip_that_points_outside_is_refused(ws: Workspace, tmp_path: Path, encode, name):
    archive = _zip(tmp_path / "evil.zip", {"stop/0.png": encode(0), name: encode(1)})
    with pytest.raises(DatasetError, match="outside"):
        import_dataset(ws, archive)
    assert ws.count() == 0


def test_a_zip_with_a_link_is_refused(ws: Workspace, tmp_path: Path):
    link = zipfile.ZipInfo("stop/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DatasetError, match="link"):
        import_dataset(ws, tmp_path / "link.zip")


def test_a_zip_bomb_is_refused_unread(ws: Workspace, tmp_path: Path):
    bomb = _zip(tmp_path / "bomb.zip", {f"stop/{i}.bmp": bytes(40 * 1024 * 1024) for i in range(3)})
    assert bomb.stat().st_size < 1_000_000
    with pytest.raises(DatasetError, match="refused"):
        import_dataset(ws, bomb)


def test_a_damaged_entry_of_a_zip_is_skipped_and_a_damaged_zip_refused(ws: Workspace, tmp_path: Path, encode):
    with zipfile.ZipFile(tmp_path / "half.zip", "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("stop/0.png", encode(0))
        archive.writestr("stop/1.png", encode(1))
    data = bytearray((tmp_path / "half.zip").read_bytes())
    at = data.index(encode(1))
    data[at + 60 : at + 70] = b"x" * 10
    (tmp_path / "half.zip").write_bytes(data)
    report = import_dataset(ws, tmp_path / "half.zip")
    assert report.added == 1 and report.skipped[0][0] == "stop/1.png"
    (tmp_path / "no.zip").write_bytes(b"PK no zip at all")
    with pytest.raises(DatasetError, match="zip"):
        import_dataset(ws, tmp_path / "no.zip")


def _parquet(path: Path, rows: list[dict], group: int = 3) -> Path:
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=group)
    return path


def test_parquet_in_the_hugging_face_layout(ws: Workspace, tmp_path: Path, encode):
    rows = [
        {
            "image": {"bytes": encode(i), "path": f"{i}.png"},
            "label": i % 3,
            "class_name": ("zebra", "ant", "bee")[i % 3],
            "track": f"t{i}",
            "weight": float("nan"),
        }
        for i in range(8)
    ]
    rows[4]["image"] = {"bytes": b"broken", "path": "4.png"}
    report = import_dataset(ws, _parquet(tmp_path / "validation-00000-of-00001.parquet", rows))
    assert report.labels == ["zebra", "ant", "bee"] and report.splits == {"val": 7}
    assert [name for name, _ in report.skipped] == ["4.png"]
    sample = ws.samples(ws.query(Filter(meta={"track": "t7"})))[0]
    assert (sample.label, sample.label_name, sample.source) == (1, "ant", "7.png")


def test_parquet_with_bytes_and_declared_class_names(ws: Workspace, tmp_path: Path, encode):
    table = arrow.Table.from_pylist(
        [{"image": encode(i), "label": i % 2, "caption": f"c{i}"} for i in range(4)]
    )
    features = {"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    parquet.write_table(table, tmp_path / "x.parquet")
    report = import_dataset(ws, tmp_path / "x.parquet", split="train")
    assert report.labels == ["no", "yes"] and report.added == 4
    assert ws.query(Filter(text="c3", label=1, split="train"))


def test_parquet_split_column_negative_labels_and_limit_over_row_groups(
    ws: Workspace, tmp_path: Path, encode
):
    rows = [
        {
            "image": {"bytes": encode(i), "path": None},
            "label": i % 4 - 1,
            "split": "valid" if i % 2 else "train",
        }
        for i in range(16)
    ]
    report = import_dataset(ws, _parquet(tmp_path / "x.parquet", rows), limit=4)
    assert report.labels == ["0", "1", "2"] and report.splits == {"train": 2, "val": 2}
    assert sorted(s.source for s in ws.samples(ws.query())) == [f"x.parquet#{i}" for i in range(4)]
    assert ws.count(Filter(split="train")) == 2 and ws.samples(ws.query())[0].label is None


def test_a_folder_of_parquet_files_is_one_data_set(ws: Workspace, tmp_path: Path, encode):
    (tmp_path / "set").mkdir()
    for number, split in enumerate(("train", "test")):
        rows = [{"image": {"bytes": encode(10 * number + i), "path": f"{i}"}, "label": i} for i in range(2)]
        _parquet(tmp_path / "set" / f"{split}.parquet", rows)
    assert import_dataset(ws, tmp_path / "set").splits == {"train": 2, "test": 2}


def test_a_table_without_images_or_damaged_says_so(ws: Workspace, tmp_path: Path):
    with pytest.raises(DatasetError, match=r"no column with images.*'size'"):
        import_dataset(ws, _parquet(tmp_path / "x.parquet", [{"size": 1}]))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(DatasetError, match="Parquet"):
        import_dataset(ws, tmp_path / "bad.parquet")
    (tmp_path / "empty.csv").write_text("path,label\n")
    with pytest.raises(DatasetError, match="no rows"):
        import_dataset(ws, tmp_path / "empty.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\n\xe4.png,1\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="UTF-8"):
        import_dataset(ws, tmp_path / "latin.csv")
    (tmp_path / "huge.csv").write_text("path,label\na.png,999999999\n")
    with pytest.raises(DatasetError, match="999,999,999"):
        import_dataset(ws, tmp_path / "huge.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_reads_paths_labels_and_metadata(ws: Workspace, tmp_path: Path, encode, delimiter):
    (tmp_path / "pictures").mkdir()
    for i in range(3):
        (tmp_path / "pictures" / f"{i}.png").write_bytes(encode(i))
    with open(tmp_path / "list.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["file_name", "label", "split", "severity", "code", "caption"])
        for i in range(3):
            writer.writerow(
                [f"pictures/{i}.png", ("stop", "go")[i % 2], "training", 0.5 * i, "007", f"sign {i}"]
            )
        writer.writerow(["pictures/missing.png", "stop", "train", "", "", ""])
        writer.writerow(["", "stop", "train", "", "", ""])
    report = import_dataset(ws, tmp_path / "list.csv")
    assert report.labels == ["go", "stop"] and report.splits == {"train": 3} and len(report.skipped) == 2
    sample = ws.samples(ws.query(Filter(text="sign 1")))[0]
    assert (sample.label, sample.meta) == (0, {"severity": 0.5, "code": "007"})


def test_a_manifest_cannot_name_files_outside_its_folder(ws: Workspace, tmp_path: Path, encode):
    (tmp_path / "secret.png").write_bytes(encode(1))
    inside = tmp_path / "set"
    inside.mkdir()
    (inside / "ok.png").write_bytes(encode(2))
    (inside / "link.png").symlink_to(tmp_path / "secret.png")
    names = ["ok.png", "../secret.png", str(tmp_path / "secret.png"), "link.png", str(inside / "ok.png")]
    lines = [json.dumps({"path": name, "class_name": "x"}) for name in names]
    (inside / "list.jsonl").write_text("\n".join([*lines, "not json", ""]))
    report = import_dataset(ws, inside / "list.jsonl")
    assert report.added == 2
    assert [reason for _, reason in report.skipped] == ["lies outside the data set's folder"] * 3 + [
        "is no JSON object"
    ]


def test_metadata_beside_the_images_wins_over_folder_names(ws: Workspace, tmp_path: Path, encode):
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "images" / "0.png").write_bytes(encode(0))
    (tmp_path / "set" / "metadata.csv").write_text("file_name,label,weather\nimages/0.png,stop,fog\n")
    assert import_dataset(ws, tmp_path / "set").labels == ["stop"]
    assert ws.meta_columns() == ["weather"]


def test_numbers_decide_where_the_classifier_has_no_names(ws: Workspace, tmp_path: Path, encode):
    rows = [{"image": encode(i), "label": i, "class_name": name} for i, name in enumerate(("zebra", "ant"))]
    report = import_dataset(ws, _parquet(tmp_path / "x.parquet", rows), label_names=["0", "1", "2"])
    assert report.unknown_labels == {}
    assert [(s.label, s.meta["given_label"]) for s in ws.samples(ws.query())] == [(0, "zebra"), (1, "ant")]


@pytest.mark.skipif(not CIFAR.exists(), reason="the CIFAR-10 files are not on this machine")
def test_real_images_from_parquet_with_a_limit(ws: Workspace):
    report = import_dataset(ws, CIFAR / "test.parquet", limit=50)
    assert report.added == 50 and report.splits == {"test": 50}
    assert report.labels[3] == "cat" and len(report.labels) == 10
    assert [ws.count(Filter(label=i)) for i in range(10)] == [5] * 10
    assert ws.tensor(ws.query()).shape == (50, 3, 32, 32)
