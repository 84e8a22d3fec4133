"""Names of classes in another spelling: taken for the classifier's only where one alone can be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from ltg_core.data.classes import checked_match, match_names
from ltg_core.data.datasets import import_dataset
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import DatasetError

SIGNS = ["stop", "no entry", "give way"]


@pytest.mark.parametrize(
    "name", ["no_entry", "No Entry", "no-entry", "NO  ENTRY", " no - entry ", "No_entry"]
)
def test_case_underscores_hyphens_and_spaces_do_not_matter(name: str):
    assert match_names(["stop", name], SIGNS) == ({name: "no entry"}, [])


def test_the_two_ways_of_unicode_to_write_an_accent_are_one():
    assert match_names(["cafe\u0301"], ["caf\u00e9"]).read_as == {"cafe\u0301": "caf\u00e9"}


def test_the_same_spelling_needs_no_note_and_always_wins():
    assert match_names(SIGNS, SIGNS) == ({}, [])
    # EMNIST has both cases as classes; a network of capitals does not know the small letters.
    assert match_names(["A", "a"], ["A", "B"]) == ({}, [])


def test_an_index_before_every_name_is_left_out_on_either_side():
    assert match_names(["03_stop", "14-no_entry"], SIGNS).read_as == {
        "03_stop": "stop",
        "14-no_entry": "no entry",
    }
    assert match_names(["stop"], ["0: stop", "1: go"]).read_as == {"stop": "0: stop"}
    assert match_names(["001.Black_Swan", "002.Duck"], ["duck"]).read_as == {"002.Duck": "duck"}


@pytest.mark.parametrize(
    "found", [["03_stop", "no entry"], ["30 km/h", "30 mph"], ["7", "12"], ["50_100"], ["3stop", "4go"]]
)
def test_numbers_that_are_no_index_stay(found: list[str]):
    labels = ["stop", "km/h", "mph", "go", "100"]
    assert match_names(found, labels) == ({}, [])


def test_a_speed_limit_is_not_taken_for_another():
    assert match_names(["50 km/h", "80 km/h"], ["30 km/h", "60 km/h"]) == ({}, [])
    assert match_names(["50_km/h", "80_km/h"], ["50 km/h", "80 km/h"]).read_as == {
        "50_km/h": "50 km/h",
        "80_km/h": "80 km/h",
    }


@pytest.mark.parametrize(
    ("found", "labels"),
    [
        (["stop_sign"], ["Stop sign", "stop-sign"]),
        (["stop_sign", "stop-sign"], ["Stop sign"]),
        (["03_stop", "13_stop"], ["stop", "go"]),
    ],
)
def test_what_could_be_two_is_an_error_with_both_sides(found: list[str], labels: list[str]):
    assert match_names(found, labels).read_as == {}
    with pytest.raises(DatasetError, match="cannot be told apart") as caught:
        checked_match(found, labels, "photos")
    assert all(repr(name) in str(caught.value) for name in [*found, *labels]) and "photos" in str(
        caught.value
    )


def _set(root: Path, encode, *names: str) -> Path:
    for place, name in enumerate(names):
        (root / name).mkdir(parents=True)
        (root / name / "0.png").write_bytes(encode(900 + place))
    return root


def test_an_import_gives_the_label_keeps_the_datas_word_and_says_so(ws: Workspace, tmp_path: Path, encode):
    data = _set(tmp_path / "set", encode, "No_Entry", "stop", "zebra")
    report = import_dataset(ws, data, label_names=SIGNS)
    assert report.read_as == {"No_Entry": "no entry"} and report.unknown_labels == {"zebra": 1}
    assert "'No_Entry' as 'no entry'" in report.summary()
    (sample,) = ws.samples(ws.query(Filter(label=1)))
    assert (sample.label_name, sample.meta) == ("no entry", {"given_label": "No_Entry"})
    assert ws.run(report.run_id).result["read_as"] == {"No_Entry": "no entry"}


def test_an_import_that_could_mean_two_brings_nothing_in(ws: Workspace, tmp_path: Path, encode):
    data = _set(tmp_path / "set", encode, "no_entry", "No Entry", "stop")
    with pytest.raises(DatasetError, match="cannot be told apart"):
        import_dataset(ws, data, label_names=SIGNS)
    assert ws.count() == 0 and ws.runs() == []


def test_labels_that_come_after_the_data_find_it_and_other_labels_find_it_again(
    ws: Workspace, tmp_path: Path, encode
):
    import_dataset(ws, _set(tmp_path / "set", encode, "no_entry", "stop"))
    assert ws.set_label_names(["stop", "No Entry"]) == {"no_entry": "No Entry"}
    (sample,) = ws.samples(ws.query(Filter(label=1)))
    assert (sample.label_name, sample.meta["given_label"]) == ("No Entry", "no_entry")
    assert ws.set_label_names(["NO-ENTRY", "stop"]) == {"No Entry": "NO-ENTRY"}
    (sample,) = ws.samples(ws.query(Filter(label=0)))
    assert (sample.label_name, sample.meta["given_label"]) == ("NO-ENTRY", "no_entry")
    assert ws.meta_columns() == ["given_label"]
