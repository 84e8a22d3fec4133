"""Data sets in the forms of other tools, each written by that tool or by hand, and hostile ones."""

from __future__ import annotations

import io
import itertools
import json
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from ltg_core.data.datasets import import_dataset, open_source
from ltg_core.data.records import Filter
from ltg_core.data.sources import closing
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError

Encode = Callable[..., bytes]


def _tar(path: Path, entries: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as file:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def test_a_webdataset_shard_gives_classes_captions_and_metadata(
    ws: Workspace, tmp_path: Path, encode: Encode
):
    import webdataset

    with webdataset.ShardWriter(str(tmp_path / "train-%04d.tar"), maxcount=2, verbose=0) as sink:
        for number in range(3):
            sink.write(
                {
                    "__key__": f"sample{number}",
                    "png": encode(number),
                    "cls": number % 2,
                    "txt": "a sign",
                    "json": {"weather": "rain", "label": number % 2},
                }
            )
    report = import_dataset(ws, tmp_path, label_names=["stop", "yield"])
    assert report.added == 3 and report.splits == {"train": 3}
    sample = ws.samples(ws.query())[1]
    assert (sample.label_name, sample.caption, sample.meta["weather"]) == ("yield", "a sign", "rain")
    assert import_dataset(ws, tmp_path, label_names=["stop", "yield"]).present == 3


def test_class_folders_in_a_compressed_tar_are_an_image_folder(ws: Workspace, tmp_path: Path, encode: Encode):
    kinds = itertools.product(("train", "valid"), ("stop", "yield"), (0, 1))
    names = {f"signs/{'/'.join(map(str, kind))}.png": encode(n) for n, kind in enumerate(kinds)}
    report = import_dataset(ws, _tar(tmp_path / "signs.tar.gz", names, "w:gz"))
    assert report.labels == ["stop", "yield"] and report.splits == {"train": 4, "val": 4}


def test_a_limit_reads_the_chosen_images_of_a_shard(ws: Workspace, tmp_path: Path, encode: Encode):
    entries = {
        f"{n}.{kind}": data
        for n in range(6)
        for kind, data in (("cls", str(n // 3).encode()), ("png", encode(n)))
    }
    report = import_dataset(ws, _tar(tmp_path / "a.tar", entries), limit=2, label_names=["a", "b"])
    assert report.added == 2 and {s.label for s in ws.samples(ws.query())} == {0, 1}


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../../up.png", "a/../../up.png"])
def test_a_tar_with_names_outside_it_is_refused(tmp_path: Path, encode: Encode, name: str):
    with pytest.raises(DatasetError, match="outside"):
        open_source(_tar(tmp_path / "a.tar", {name: encode(1)}))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_a_tar_with_links_or_devices_is_refused(tmp_path: Path, kind: bytes):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as file:
        info = tarfile.TarInfo("stop/a.png")
        info.type, info.linkname = kind, "/etc/passwd"
        file.addfile(info)
    with pytest.raises(DatasetError, match="link or device"):
        open_source(path)


def test_a_tar_that_unpacks_to_far_more_is_refused(tmp_path: Path):
    path = _tar(tmp_path / "a.tar.gz", {"stop/a.png": bytes(120 * 2**20)}, "w:gz")
    assert path.stat().st_size < 2**20
    with pytest.raises(DatasetError, match="unpacks"):
        open_source(path)


def test_a_damaged_tar_is_a_clear_error(tmp_path: Path, encode: Encode):
    whole = _tar(tmp_path / "a.tar.gz", {f"stop/{n}.png": encode(n) for n in range(9)}, "w:gz").read_bytes()
    for name, data in (("cut.tar.gz", whole[: len(whole) // 2]), ("text.tar", b"no tar" * 200)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DatasetError, match=name):
            open_source(tmp_path / name)


@pytest.mark.parametrize("splits", [False, True])
def test_what_datasets_saved_to_disk_keeps_splits_names_and_columns(
    ws: Workspace, tmp_path: Path, make: Callable[..., np.ndarray], splits: bool
):
    import datasets
    from PIL import Image

    def table(start: int) -> datasets.Dataset:
        rows = {
            "img": [Image.fromarray(make(start + n)) for n in range(4)],
            "fine": [n % 2 for n in range(4)],
            "camera": ["left", "right", "left", "right"],
        }
        features = {
            "img": datasets.Image(),
            "fine": datasets.ClassLabel(names=["stop", "yield"]),
            "camera": datasets.Value("string"),
        }
        return datasets.Dataset.from_dict(rows, features=datasets.Features(features))

    data = datasets.DatasetDict({"train": table(0), "validation": table(10)}) if splits else table(0)
    data.save_to_disk(tmp_path / "saved")
    report = import_dataset(ws, tmp_path / "saved")
    assert report.labels == ["stop", "yield"]
    assert report.splits == ({"train": 4, "val": 4} if splits else {"": 4})
    sample = ws.samples(ws.query())[1]
    assert sample.label_name == "yield" and sample.meta["camera"] == "right"


def test_one_saved_split_keeps_the_name_that_datasets_wrote_beside_it(
    ws: Workspace, tmp_path: Path, make: Callable[..., np.ndarray]
):
    import datasets
    from PIL import Image

    rows = {"image": [Image.fromarray(make(n)) for n in range(3)], "label": ["stop", "stop", "yield"]}
    datasets.Dataset.from_dict(rows, split=datasets.Split.VALIDATION).save_to_disk(tmp_path / "saved")
    assert import_dataset(ws, tmp_path / "saved").splits == {"val": 3}


def test_a_saved_data_set_cannot_name_files_elsewhere(tmp_path: Path, make: Callable[..., np.ndarray]):
    import datasets

    datasets.Dataset.from_dict({"image": ["/etc/passwd"], "label": [1]}).save_to_disk(tmp_path / "saved")
    with closing(open_source(tmp_path / "saved")) as source:
        assert next(iter(source.rows(None))).error == "lies outside the data set's folder"
    state = json.loads((tmp_path / "saved" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../../secret.arrow"}]
    (tmp_path / "saved" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DatasetError, match="not in it"):
        open_source(tmp_path / "saved")


def test_image_folders_with_metadata_in_each_split_are_one_data_set(
    ws: Workspace, tmp_path: Path, encode: Encode
):
    for place, split in enumerate(("train", "test")):
        folder = tmp_path / "set" / split
        folder.mkdir(parents=True)
        lines = []
        for n in range(2):
            (folder / f"{n}.png").write_bytes(encode(10 * place + n))
            lines.append(json.dumps({"file_name": f"{n}.png", "label": n, "weather": "fog"}))
        (folder / "metadata.jsonl").write_text("\n".join(lines))
    report = import_dataset(ws, tmp_path / "set")
    assert report.added == 4 and report.splits == {"train": 2, "test": 2}
    assert ws.samples(ws.query(Filter(split="test")))[0].meta == {"weather": "fog"}


@pytest.mark.parametrize(("around", "table"), [("", "metadata.csv"), ("signs/", "metadata.jsonl")])
def test_a_zip_with_a_table_beside_its_images_is_what_the_table_says(
    ws: Workspace, tmp_path: Path, encode: Encode, around: str, table: str
):
    rows = [
        {"file_name": f"images/{n}.png", "class_name": "stop" if n else "yield", "fog": n} for n in range(3)
    ]
    rows += [
        {"file_name": name, "class_name": "stop", "fog": 1}
        for name in ("../up.png", "/etc/passwd", "none.png")
    ]
    lines = [json.dumps(row) for row in rows]
    if table.endswith("csv"):
        lines = ["file_name;class_name;fog", *(";".join(map(str, row.values())) for row in rows)]
    with zipfile.ZipFile(tmp_path / "signs.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(around + table, "\n".join(lines))
        for n in range(3):
            file.writestr(f"{around}images/{n}.png", encode(n))
        file.writestr("__MACOSX/._signs", b"")
    report = import_dataset(ws, tmp_path / "signs.zip")
    assert report.added == 3 and report.labels == ["stop", "yield"]
    assert {s.source: (s.label_name, s.meta["fog"]) for s in ws.samples(ws.query())} == {
        "images/0.png": ("yield", 0),
        "images/1.png": ("stop", 1),
        "images/2.png": ("stop", 2),
    }
    why = [reason for _, reason in report.skipped]
    assert len(why) == 3 and sum("outside" in reason for reason in why) == 2 and "No such file" in why[2]
    assert import_dataset(ws, tmp_path / "signs.zip").present == 3


def test_tables_in_the_split_folders_of_a_zip_are_one_data_set(ws: Workspace, tmp_path: Path, encode: Encode):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
        for place, split in enumerate(("train", "test")):
            rows = [{"file_name": f"{n}.png", "label": n, "weather": "fog"} for n in range(2)]
            file.writestr(f"set/{split}/metadata.jsonl", "\n".join(map(json.dumps, rows)))
            for n in range(2):
                file.writestr(f"set/{split}/{n}.png", encode(10 * place + n))
    report = import_dataset(ws, tmp_path / "set.zip")
    assert report.added == 4 and report.splits == {"train": 2, "test": 2}
    assert ws.samples(ws.query(Filter(split="test")))[0].meta == {"weather": "fog"}


def test_a_table_in_a_zip_that_is_damaged_or_names_what_is_too_large_is_told(
    ws: Workspace, tmp_path: Path, encode: Encode, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("metadata.csv", "file_name,label\nbig.bin,0\na.png,1\n" + "a.png,1\n" * 500)
        file.writestr("big.bin", bytes(2**20))
        file.writestr("a.png", encode(1))
    monkeypatch.setattr("ltg_core.data.sources.MAX_FILE_BYTES", 2**19)
    report = import_dataset(ws, path)
    assert report.added == 1 and "larger than" in report.skipped[0][1]
    monkeypatch.setattr("ltg_core.data.sources.MAX_TABLE_BYTES", 1000)
    with pytest.raises(DatasetError, match="is larger than"):
        open_source(path)
    monkeypatch.undo()
    data = bytearray(path.read_bytes())
    data[45:60] = bytes(15)
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="cannot be read"):
        open_source(path)


def test_a_name_in_the_network_is_asked_for_only_on_request_and_its_absence_is_told(tmp_path: Path):
    with pytest.raises(DatasetError, match="nothing here fetches"):
        open_source("hf:somebody/something")


@pytest.mark.parametrize("shape", [(4, 6, 5), (4, 6, 5, 3), (4, 3, 6, 5), (4, 6, 5, 1), (4, 6, 5, 4)])
@pytest.mark.parametrize("dtype", ["u1", "f4"])
def test_arrays_in_any_layout_are_pictures(ws: Workspace, tmp_path: Path, shape: tuple[int, ...], dtype: str):
    values = np.random.default_rng(0).random(shape)
    values = (values * 255).astype("u1") if dtype == "u1" else values.astype("f4")
    np.savez(
        tmp_path / "a.npz",
        images=values,
        labels=np.array([0, 1, 1, 0]),
        class_names=np.array(["stop", "yield"]),
    )
    report = import_dataset(ws, tmp_path / "a.npz")
    assert report.added == 4 and report.labels == ["stop", "yield"]
    assert ws.image(ws.query()[0]).size == (5, 6)


def test_arrays_keep_their_pixels_and_splits(ws: Workspace, tmp_path: Path):
    x = np.random.default_rng(1).integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)
    np.savez_compressed(
        tmp_path / "a.npz",
        x_train=x[:4],
        y_train=np.arange(4)[:, None] % 2,
        x_test=x[4:],
        y_test=np.array([1, 0]),
    )
    report = import_dataset(ws, tmp_path / "a.npz", limit=5)
    assert report.splits == {"train": 3, "test": 2}
    shown = ws.samples(ws.query(Filter(split="test")))[0]
    assert shown.label == 1 and np.array_equal(np.asarray(ws.image(shown.id)), x[4])


def test_a_plain_array_takes_the_labels_beside_it(ws: Workspace, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.random.default_rng(2).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    np.save(tmp_path / "x_labels.npy", np.array(["stop", "yield", "stop"]))
    report = import_dataset(ws, tmp_path / "x.npy")
    assert report.labels == ["stop", "yield"] and report.added == 3


def test_arrays_of_objects_are_refused_and_nothing_ran(tmp_path: Path):
    class Hostile:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "ran",)

    np.save(tmp_path / "x.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", images=np.array([Hostile()], dtype=object))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DatasetError, match="objects"):
            open_source(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_an_array_that_claims_more_than_the_file_holds_is_refused(tmp_path: Path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 500, 500, 3)}
    )
    (tmp_path / "x.npy").write_bytes(buffer.getvalue() + bytes(100))
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("images.npy", buffer.getvalue() + bytes(100))
    for name in ("x.npy", "x.npz"):
        with pytest.raises(DatasetError, match="claims"):
            open_source(tmp_path / name)


def test_a_zip_with_a_million_entries_is_refused_before_it_is_listed(tmp_path: Path):
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    count = 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(entry) * count, 0, 0)
    (tmp_path / "a.zip").write_bytes(entry * count + end)
    tracemalloc.start()
    with pytest.raises(DatasetError, match="500,000 entries"):
        open_source(tmp_path / "a.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_a_long_table_never_holds_its_images_in_memory(tmp_path: Path):
    rows, size = (
        40_000,
        4_000,
    )  # 160 MB of images; the ceiling below would break with a tenth of them in memory
    schema = arrow.schema({"image": arrow.binary(), "label": arrow.int64(), "camera": arrow.string()})
    with parquet.ParquetWriter(
        tmp_path / "a.parquet", schema, compression="none", use_dictionary=False
    ) as writer:
        for start in range(0, rows, 2_000):
            part = {
                "image": [start.to_bytes(4, "big") * (size // 4)] * 2_000,
                "label": [n % 10 for n in range(2_000)],
                "camera": ["left"] * 2_000,
            }
            writer.write_table(arrow.table(part, schema=schema))
    pool = arrow.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    with closing(open_source(tmp_path / "a.parquet")) as source:
        keys = source.keys()
        count = highest = 0
        for row in source.rows(None):
            count += len(row.data or b"") == size
            highest = max(highest, pool.bytes_allocated() - before)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == rows == len(keys) and len({id(key) for key in keys}) == 10
    assert peak < 8 * 2**20 and highest < 24 * 2**20, (peak, highest)
