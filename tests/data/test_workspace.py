"""Samples, filters, scores and state of a workspace."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core.data.records import Filter, NewSample
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, WorkspaceError

HOSTILE = "<img src=x onerror=alert(1)> ${7*7} '; DROP TABLE samples; --"


@pytest.fixture
def ids(ws: Workspace, make) -> list[str]:
    names = ("stop", "yield", "speed_50")
    return ws.add_images(
        [
            NewSample(
                make(i),
                split="train" if i < 6 else "test",
                label=i % 3,
                label_name=names[i % 3],
                source=f"{i}.png",
                caption=f"a photo of a {names[i % 3]} sign",
                meta={"condition": "night" if i % 2 else "day", "severity": i / 2, "rare": i == 3},
            )
            for i in range(10)
        ]
    )


def test_a_picture_comes_back_as_it_was(ws: Workspace, make):
    id = ws.add_image(
        make(1), origin="real", split="train", label=2, label_name="x", source="s", meta={"a": 1}
    )
    sample = ws.sample(id)
    assert np.array_equal(np.asarray(ws.image(id)), make(1))
    assert (sample.split, sample.label, sample.label_name, sample.meta) == ("train", 2, "x", {"a": 1})
    assert (sample.verdict, sample.tags, sample.rating, sample.note) == ("undecided", (), None, "")
    assert sample.real and sample.belief is None
    assert ws.thumb_path(id) == ws.image_path(id), "a small picture is its own thumbnail"
    assert not any(path.is_file() for path in (ws.path / "thumbs").rglob("*"))


def test_adding_the_same_sample_again_changes_nothing(ws: Workspace, make):
    first = ws.add_image(make(1), origin="real", split="train", source="a")
    assert ws.add_image(make(1), origin="real", split="train", source="a") == first
    assert ws.add_image(make(1), origin="real", split="train", source="b") != first
    assert ws.count() == 2


def test_a_guided_sample_and_its_identical_control_are_two(ws: Workspace, make):
    control = ws.add_image(make(1), origin="run-1", meta={"seed": 5})
    guided = ws.add_image(make(1), origin="run-1", meta={"seed": 5, "control": control, "seconds": 1.0})
    assert guided != control
    assert (
        ws.add_image(make(1), origin="run-1", meta={"seed": 5, "control": control, "seconds": 2.0}) == guided
    )


def test_a_batch_with_a_bad_picture_adds_nothing(ws: Workspace, make):
    with pytest.raises(InputError):
        ws.add_images([NewSample(make(1)), NewSample(b"no picture")])
    assert ws.count() == 0


def test_samples_keep_the_asked_order_and_an_unknown_id_is_named(ws: Workspace, ids):
    asked = [ids[4], ids[0], ids[4]]
    assert [s.id for s in ws.samples(asked)] == asked
    with pytest.raises(InputError, match="nonsense"):
        ws.samples([ids[0], "nonsense"])
    with pytest.raises(InputError):
        ws.image_path("../../etc/passwd")


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (Filter(), range(10)),
        (Filter(split="test"), range(6, 10)),
        (Filter(label=1), (1, 4, 7)),
        (Filter(origin="real", label=0, split="train"), (0, 3)),
        (Filter(origin="generated"), ()),
        (Filter(meta={"condition": "day"}), (0, 2, 4, 6, 8)),
        (Filter(meta={"severity": 2.5}), (5,)),
        (Filter(meta={"severity": ["2.5", 3]}), (5, 6)),
        (Filter(meta={"severity": []}), ()),
        (Filter(meta={"rare": True}), (3,)),
        (Filter(meta={"rare": "true"}), (3,)),
        (Filter(meta={'x"$.': 1}), ()),
        (Filter(text="PHOTO yield"), (1, 4, 7)),
        (Filter(text="night stop"), (3, 9)),
        (Filter(text="speed_50"), (2, 5, 8)),
        (Filter(text="speed%50"), (2, 5, 8)),  # signs between letters only part words
        (Filter(text="7.png"), (7,)),
        (Filter(text="'; DROP"), ()),
        (Filter(verdict="undecided"), range(10)),
        (Filter(verdict="accepted"), ()),
        (Filter(tag="none"), ()),
        (Filter(believed=True), ()),
    ],
)
def test_a_filter_finds_exactly_what_it_names(ws: Workspace, ids, filter, expected):
    assert ws.query(filter) == [ids[i] for i in expected]
    assert ws.count(filter) == len(expected)


def test_a_filter_by_ids_takes_many(ws: Workspace, ids):
    many = tuple(ids[2:4]) + tuple(f"missing{i}" for i in range(50_000))
    assert ws.query(Filter(ids=many)) == ids[2:4]
    assert ws.query(Filter(ids=())) == []


def test_generated_samples_are_found_by_run_and_belief(ws: Workspace, ids, make):
    good = ws.add_image(make(50), origin="run-1", belief="believed", meta={"seed": 1})
    bad = ws.add_image(make(51), origin="run-2", belief="quarantined", belief_reason="judge disagrees")
    assert ws.query(Filter(origin="generated")) == [good, bad]
    assert ws.query(Filter(origin="run-2")) == [bad]
    assert ws.query(Filter(believed=True)) == [good]
    ws.set_belief({good: ("quarantined", "too far"), bad: (None, None)})
    assert ws.sample(good).belief_reason == "too far" and ws.sample(bad).belief is None
    with pytest.raises(InputError, match="maybe"):
        ws.add_image(make(1), origin="run-1", belief="maybe")


def test_sorting_by_a_signal_puts_the_highest_first_and_the_unscored_last(ws: Workspace, ids):
    ws.set_scores("m", "entropy", {ids[i]: (float(i), 10.0 * i) for i in (3, 1, 2)} | {ids[5]: (math.nan, 0)})
    by = Filter(model_hash="m")
    ranked = ws.query(by, "entropy")
    assert ranked[:3] == [ids[3], ids[2], ids[1]]
    assert ranked[3:] == [i for i in ids if i not in ranked[:3]]
    assert ws.query(by, "-entropy")[:3] == [ids[1], ids[2], ids[3]]
    pages = [ws.query(by, "entropy", 3, offset) for offset in range(0, 12, 3)]
    assert [i for page in pages for i in page] == ranked
    assert ws.query(by, "entropy", 2, 2) == ranked[2:4]
    with pytest.raises(InputError, match="entropy"):
        ws.query(by, "margin")
    with pytest.raises(InputError, match="model_hash"):
        ws.query(Filter(), "entropy")


def test_scores_are_replaced_and_kept_apart_by_classifier(ws: Workspace, ids):
    ws.set_scores("m", "entropy", {ids[0]: (1.0, 50.0), "gone": (1.0, 1.0)})
    ws.set_scores("m", "entropy", {ids[0]: (2.0, math.nan)})
    ws.set_scores("n", "entropy", {ids[0]: (math.inf, 9.0)})
    score = ws.scores(ids, "m", "entropy")[ids[0]]
    assert score.value == 2.0 and math.isnan(score.percentile)
    assert ws.scores(ids, "n", "entropy") == {ids[0]: (math.inf, 9.0)}
    assert ws.scores(ids, "m", "other") == {}
    ws.set_scores("n", "margin", {ids[0]: (0.0, 0.0)})
    assert ws.score_names() == ["entropy", "margin"] and ws.score_names("m") == ["entropy"]


def test_several_signals_are_recorded_together_or_not_at_all(ws: Workspace, ids):
    some = [ids[2], "gone", ids[0], *ids[3:5]]
    values = {"entropy": ([2.0, 9.0, 0.5, math.inf, math.nan], [20.0, 9.0, math.nan, 3.0, 4.0]),
              "margin": ([0.0] * 5, [1.0] * 5)}  # fmt: skip
    ws.set_scores("m", "margin", {ids[0]: (7.0, 7.0), ids[1]: (8.0, 8.0)})
    ws.set_signals("m", some, values)
    found = ws.scores(ids, "m", "entropy")
    assert {i: found[i].value for i in (ids[2], ids[0], ids[3])} == {
        ids[2]: 2.0,
        ids[0]: 0.5,
        ids[3]: math.inf,
    }
    assert math.isnan(found[ids[0]].percentile) and found[ids[2]].percentile == 20.0
    assert {i: s.value for i, s in ws.scores(ids, "m", "margin").items()} == {
        ids[0]: 0.0, ids[1]: 8.0, ids[2]: 0.0, ids[3]: 0.0, ids[4]: 0.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match="could not convert"):
        ws.set_signals("m", ids[:1], {"entropy": ([5.0], [5.0]), "energy": (["x"], [5.0])})  # type: ignore[list-item]
    assert ws.scores(ids, "m", "entropy")[ids[0]].value == 0.5, "all or none"
    assert ws.score_names("m") == ["entropy", "margin"]


def test_more_scores_than_one_statement_takes_are_all_there(ws: Workspace, make):
    many = [ws.add_image(make(n), origin="real") for n in range(450)]
    ws.set_signals("m", many, {"entropy": ([float(n) for n in range(450)], [50.0] * 450)})
    found = ws.scores(many, "m", "entropy")
    assert [found[one].value for one in many] == [float(n) for n in range(450)]
    assert ws.query(Filter(model_hash="m"), "entropy")[:2] == many[:-3:-1]


def test_predictions_know_whether_they_are_right(ws: Workspace, ids, make):
    unlabelled = ws.add_image(make(77), origin="real")
    ws.set_predictions("m", {ids[0]: (0, 0.9), ids[1]: (0, 0.8), unlabelled: (0, 0.7)})
    found = ws.predictions([ids[0], ids[1], unlabelled, ids[2]], "m")
    assert [found[i].correct for i in (ids[0], ids[1], unlabelled)] == [True, False, None]
    assert ids[2] not in found
    assert ws.query(Filter(correct=True, model_hash="m")) == [ids[0]]
    assert ws.query(Filter(correct=False, model_hash="m")) == [ids[1]]
    assert ws.query(Filter(prediction=0, label=1, model_hash="m")) == [ids[1]]
    assert ws.query(Filter(model_hash="m"), "confidence", 3) == [ids[0], ids[1], unlabelled]
    with pytest.raises(InputError, match="model_hash"):
        ws.query(Filter(correct=True))


def test_newest_first_and_chunks(ws: Workspace, ids, make):
    newest = ws.add_image(make(99), origin="real")
    assert ws.query(sort="created", limit=1) == [newest]
    assert ws.query(sort="id") == sorted([*ids, newest])
    assert [len(chunk) for chunk in ws.iterate(Filter(split="train"), chunk=4)] == [4, 2]


def test_tensors_stack_when_sizes_agree(ws: Workspace, ids, make):
    stacked = ws.tensor(ids[:3])
    assert isinstance(stacked, torch.Tensor) and stacked.shape == (3, 3, 8, 8)
    other = ws.add_image(make(1, 16), origin="real")
    mixed = ws.tensor([ids[0], other])
    assert isinstance(mixed, list) and mixed[1].shape == (3, 16, 16)


def test_label_names_can_be_put_into_a_classifiers_order(ws: Workspace, ids):
    assert ws.label_names() == ["stop", "yield", "speed_50"]
    ws.set_label_names(["yield", "stop"])
    assert [s.label for s in ws.samples(ids[:3])] == [1, 0, None]
    ws.set_label_names(["stop", "yield", "speed_50"])
    assert [s.label for s in ws.samples(ids[:3])] == [0, 1, 2]
    with pytest.raises(InputError):
        ws.set_label_names(["a", "a"])


def test_columns_splits_and_values_are_listed(ws: Workspace, ids):
    assert ws.splits() == ["test", "train"]
    assert ws.meta_columns() == ["condition", "rare", "severity"]
    assert ws.meta_values("condition") == ["day", "night"]
    ws.merge_meta({ids[0]: {"control": ids[1], "severity": 9}})
    assert ws.sample(ids[0]).meta == {"condition": "day", "severity": 9, "rare": False, "control": ids[1]}
    assert "control" in ws.meta_columns()


def test_hostile_and_odd_text_is_kept_as_text(ws: Workspace, make):
    id = ws.add_image(
        make(1),
        origin="real",
        split=HOSTILE,
        label=0,
        label_name=HOSTILE,
        source="bad\udcff.png",
        caption=HOSTILE,
        meta={HOSTILE: HOSTILE, "nan": math.nan, "inf": math.inf, "array": np.float32(0.5)},
    )
    sample = ws.sample(id)
    assert sample.label_name == HOSTILE and sample.source == "bad?.png"
    assert sample.meta == {HOSTILE: HOSTILE, "nan": None, "inf": "Infinity", "array": 0.5}
    assert ws.query(Filter(split=HOSTILE, meta={HOSTILE: HOSTILE}, text="onerror")) == [id]


def test_arrays_and_state_come_back(ws: Workspace):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for key in ("features-abc", "../../evil", "umap:αβ"):
        ws.put_array(key, array)
        assert np.array_equal(ws.array(key), array)
    assert np.array_equal(ws.array("features-abc", mmap=True), array)
    assert ws.array("unknown") is None
    assert sorted(p.parent.name for p in ws.path.parent.rglob("*.npy")) == ["arrays"] * 3
    ws.blobs.array_path("features-abc").write_bytes(b"half")
    assert ws.array("features-abc") is None
    ws.put_state("active", {"classifier": "m"})
    assert ws.get_state("active") == {"classifier": "m"} and ws.get_state("none", 3) == 3


def test_an_array_with_code_in_it_is_not_run(ws: Workspace):
    np.save(ws.blobs.array_path("objects"), np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert ws.array("objects") is None


def test_a_lost_thumbnail_is_made_again(ws: Workspace, make):
    id = ws.add_image(make(1, 300), origin="real")
    path = ws.thumb_path(id)
    assert path == ws.blobs.thumb_path(ws.sample(id).image_hash) and path.is_file()
    path.unlink()
    assert ws.thumb_path(id) == path
    with Image.open(path) as image:
        assert image.size == (128, 128)


def test_many_threads_read_and_write_at_once(ws: Workspace, make):
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(10):
                id = ws.add_image(make(100 * number + i), origin="real", source=f"{number}/{i}")
                ws.set_scores("m", "entropy", {id: (float(i), 0.0)})
                assert ws.sample(id).source == f"{number}/{i}"
        except BaseException as error:  # noqa: BLE001  # handed to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert ws.count() == 60 and len(ws.scores(ws.query(), "m", "entropy")) == 60


def test_a_workspace_of_the_first_version_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ltg_core.data import database

    monkeypatch.setattr(database, "MIGRATIONS", ())
    monkeypatch.setattr(database, "SCHEMA_VERSION", 1)
    with Workspace(tmp_path) as first:
        first.put_state("kept", 3)
    more = (
        "CREATE TABLE pets (name TEXT); CREATE INDEX pets_name ON pets (name)",
        "ALTER TABLE pets ADD age INT",
    )
    monkeypatch.setattr(database, "MIGRATIONS", more)
    monkeypatch.setattr(database, "SCHEMA_VERSION", 3)
    for _ in range(2):  # the second time there is nothing left to do
        with Workspace(tmp_path) as later:
            assert later.get_state("kept") == 3
            assert later.database.rows("SELECT name, age FROM pets") == []
    monkeypatch.setattr(database, "MIGRATIONS", ("CREATE TABLE other (x INT)", "CREATE TABLE broken ("))
    with pytest.raises(WorkspaceError), Workspace(tmp_path / "new"):
        pass
    monkeypatch.setattr(database, "MIGRATIONS", ())
    monkeypatch.setattr(database, "SCHEMA_VERSION", 1)
    with Workspace(tmp_path / "new") as empty:  # a migration that failed has left nothing behind
        assert empty.database.row("SELECT 1 FROM sqlite_master WHERE name = 'other'") is None
