"""Hold-out: whole groups, even over classes, the same every time, nothing twice."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from ltg_core.data.datasets import import_dataset
from ltg_core.data.holdout import divide, hold_out, shares_of
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError

FIFTH = {"train": 0.8, "val": 0.2}


def by_class(groups: list[str], classes: list[str], found: dict[str, str]) -> dict[str, Counter[str]]:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for group, cls in zip(groups, classes, strict=True):
        counts[cls][found[group]] += 1
    return dict(counts)


def test_shares_are_what_was_asked_for():
    assert shares_of(0.2) == FIFTH
    assert shares_of((0.1, 0.3)) == {"train": pytest.approx(0.6), "val": 0.1, "test": 0.3}


@pytest.mark.parametrize("wrong", [0.0, 1.0, -0.1, 2, float("nan"), (0.5, 0.5), (0.1, 0.1, 0.1), ()])
def test_impossible_shares_are_refused(wrong):
    with pytest.raises(InputError, match="cannot hold out"):
        shares_of(wrong)


def test_single_images_are_divided_exactly_within_every_class():
    groups = [f"g{i}" for i in range(150)]
    classes = ["many"] * 100 + ["some"] * 40 + ["few"] * 10
    found = divide(groups, classes, shares_of((0.2, 0.1)))
    assert by_class(groups, classes, found) == {
        "many": {"train": 70, "val": 20, "test": 10},
        "some": {"train": 28, "val": 8, "test": 4},
        "few": {"train": 7, "val": 2, "test": 1},
    }


def test_groups_stay_whole_and_every_class_comes_as_near_to_its_share_as_a_group_allows():
    rng = np.random.default_rng(0)
    groups, classes = [], []
    for cls, tracks in enumerate((40, 10, 5, 2, 1)):
        for track in range(tracks):
            size = int(rng.integers(5, 30))
            groups += [f"{cls}/{track}"] * size
            classes += [f"class {cls}"] * size
    found = divide(groups, classes, FIFTH)
    largest = Counter(groups).most_common(1)[0][1]
    for cls, counts in by_class(groups, classes, found).items():
        total = sum(counts.values())
        assert abs(counts["val"] - 0.2 * total) <= largest, cls
        assert counts["train"], cls
    assert {cls for cls, c in by_class(groups, classes, found).items() if not c["val"]} == {"class 4"}


def test_groups_of_several_classes_are_divided_too():
    groups = [f"film {i // 6}" for i in range(600)]
    classes = [f"class {i % 3}" for i in range(600)]
    counts = by_class(groups, classes, divide(groups, classes, FIFTH))
    assert all(c == {"train": 160, "val": 40} for c in counts.values())


def test_the_seed_decides_and_the_order_of_the_images_does_not():
    groups, classes = [f"g{i}" for i in range(60)], [f"c{i % 3}" for i in range(60)]
    first = divide(groups, classes, FIFTH)
    assert divide(groups[::-1], classes[::-1], FIFTH) == first == divide(groups, classes, FIFTH, seed=0)
    assert divide(groups, classes, FIFTH, seed=1) != first


def test_what_has_its_split_keeps_it_and_counts():
    groups, classes = [f"g{i}" for i in range(20)], ["c"] * 20
    fixed = {"g0": "val", "g1": "val", "g2": "val", "g3": "other", "elsewhere": "val"}
    found = divide(groups, classes, FIFTH, fixed=fixed)
    assert [found[f"g{i}"] for i in range(4)] == ["val", "val", "val", "other"]
    assert Counter(found.values())["val"] == 4 and "elsewhere" not in found


def _tracks(folder: Path, encode, tracks: int, split: str = "", start: int = 0) -> Path:
    """Four pictures a track, two classes; a table that names them."""
    folder.mkdir(exist_ok=True)
    rows = []
    for track in range(tracks):
        for frame in range(4):
            name = f"{track}-{frame}.png"
            (folder / name).write_bytes(encode(start + 10 * track + frame))
            row = {"path": name, "class_name": "ab"[track % 2], "track": track}
            rows.append(row | ({"split": split} if split else {}))
    table = folder / "list.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return table


def _splits(ws: Workspace) -> dict[int, set[str]]:
    found: defaultdict[int, set[str]] = defaultdict(set)
    for sample in ws.samples(ws.query()):
        found[sample.meta["track"]].add(sample.split)
    return dict(found)


def test_a_workspace_is_divided_by_track_and_again_without_doubling_anything(
    ws: Workspace, tmp_path: Path, encode
):
    import_dataset(ws, _tracks(tmp_path / "set", encode, 10))
    held = hold_out(ws, FIFTH, group="track")
    assert held == ("", {"train": 32, "val": 8}, 10, 0)
    first = _splits(ws)
    assert all(len(splits) == 1 for splits in first.values())
    assert {track % 2 for track, splits in first.items() if splits == {"val"}} == {0, 1}
    assert import_dataset(ws, tmp_path / "set" / "list.jsonl").present == 40 and ws.count() == 40
    assert hold_out(ws, FIFTH, group="track", seed=5).counts == {} and _splits(ws) == first
    # The data has grown: what there was stays, new frames of an old track follow it.
    import_dataset(ws, _tracks(tmp_path / "set", encode, 20))
    (val,) = [track for track, splits in first.items() if splits == {"val"} and track % 2]
    ws.add_image(encode(9999), origin="real", label_name="b", meta={"track": val})
    assert hold_out(ws, FIFTH, group="track").counts.keys() == {"train", "val"}
    second = _splits(ws)
    assert all(len(splits) == 1 for splits in second.values())
    assert {track: second[track] for track in first} == first
    assert ws.count(Filter(split="val")) == 17 and ws.count() == 81


def test_data_that_names_only_train_gives_some_to_val_once(ws: Workspace, tmp_path: Path, encode):
    import_dataset(ws, _tracks(tmp_path / "set", encode, 10, split="train"))
    ws.add_image(encode(5000), origin="real", split="test", label_name="a", meta={"track": 3})
    held = hold_out(ws, FIFTH, group="track")
    assert held.source == "train" and held.divided == 0
    assert {sample.split for sample in ws.samples(ws.query(Filter(meta={"track": 3})))} == {"test"}
    assert hold_out(ws, FIFTH, group="track").counts == {}
    assert import_dataset(ws, tmp_path / "set" / "list.jsonl").present == 40


def test_groups_that_the_data_itself_divides_are_counted(ws: Workspace, make):
    for i, split in enumerate(("train", "val")):
        ws.add_image(make(i), origin="real", split=split, meta={"track": "x"})
    assert hold_out(ws, FIFTH, group="track") == ("", {}, 0, 1)


def test_generated_images_are_never_moved(ws: Workspace, make):
    ws.add_image(make(1), origin="generate-1", split="")
    for i in range(5):
        ws.add_image(make(10 + i), origin="real", label_name="a")
    assert hold_out(ws, FIFTH).counts == {"train": 4, "val": 1}
    assert ws.count(Filter(split="", origin="generated")) == 1
