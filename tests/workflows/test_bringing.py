"""Bring your own: a file is looked at before it is used, a bad fit is caught and repaired, names are mapped by hand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ltg_core import workflows
from ltg_core.data.records import Filter
from ltg_core.data.workspace import Workspace
from ltg_core.errors import InputError, ModelError
from ltg_core.models.loaders import load_classifier

SIDE = {"height": 32, "width": 32, "resize": "squash"}


@pytest.fixture
def bare(tiny_classifier_file: Path, tmp_path: Path) -> Path:
    """The weights without their card, as somebody would upload them."""
    shutil.copy(tiny_classifier_file, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_a_file_tells_its_architecture_classes_and_usual_preprocessing(bare: Path) -> None:
    found = workflows.inspect_weights(bare)
    assert found.arch == "resnet14_small" and found.classes == 3 and not found.card
    assert found.suggested[0] == ("resnet14_small", 1.0)
    assert found.preprocess is not None and found.preprocess.height == 64
    with pytest.raises(ModelError, match="no architecture"):
        workflows.inspect_weights(bare, "resnet14_smal")


def test_a_card_beside_the_file_says_everything(tiny_classifier_file: Path) -> None:
    found = workflows.inspect_weights(tiny_classifier_file)
    assert found.card and found.labels == ("stop", "yield", "parking")
    assert found.preprocess == load_classifier(tiny_classifier_file).preprocess


def test_a_wrong_order_of_class_names_is_caught_its_repair_found_and_the_head_refused_until_then(
    empty_workspace: Workspace, tiny_world, bare: Path, tiny_classifier_file: Path
) -> None:
    ws = empty_workspace
    usual = load_classifier(tiny_classifier_file).preprocess.to_dict()
    workflows.bring_data(ws, tiny_world.folder)
    wrong = ["yield", "parking", "stop"]
    workflows.bring_classifier(ws, bare, arch="resnet14_small", labels=wrong, preprocess=usual)
    classifier = workflows.active_classifier(ws)
    check = workflows.examine(ws, classifier)
    assert check.at_chance and check.suspicious and check.accuracy.value < 0.4
    with pytest.raises(InputError, match="looked at first"):
        workflows.bring_head(ws)
    found = workflows.known_alternatives(ws, classifier)
    assert found is not None, "the search ran by itself"
    best = found[0]
    assert best.name == "labels" and best.better
    assert best.change["labels"] == ["stop", "yield", "parking"]
    workflows.revise_classifier(ws, **best.change)
    repaired = workflows.active_classifier(ws)
    assert repaired.labels == ("stop", "yield", "parking")
    after = workflows.examine(ws, repaired)
    assert not after.suspicious and after.accuracy.value > 0.8
    assert workflows.known_alternatives(ws, repaired) is None, "what was tried was about other names"


def test_a_wrong_preprocessing_is_found_among_the_alternatives(
    empty_workspace: Workspace, tiny_world, bare: Path, tiny_classifier_file: Path
) -> None:
    ws = empty_workspace
    usual = load_classifier(tiny_classifier_file).preprocess
    workflows.bring_data(ws, tiny_world.folder)
    broken = {**usual.to_dict(), "std": [1 / 255] * 3, "mean": [0.0] * 3}
    labels = ["stop", "yield", "parking"]
    workflows.bring_classifier(ws, bare, arch="resnet14_small", labels=labels, preprocess=broken)
    classifier = workflows.active_classifier(ws)
    before = classifier.hash
    tried = workflows.alternatives(ws, classifier)
    assert {"raw", "imagenet", "bgr", "labels"} >= {one.name for one in tried if one.better}
    best = next(one for one in tried if one.name == "imagenet")
    assert best.better, "the network was trained with ImageNet's figures"
    workflows.revise_classifier(ws, preprocess=best.change["preprocess"])
    repaired = workflows.active_classifier(ws)
    assert repaired.hash != before and repaired.preprocess.std == usual.std
    assert ws.count(Filter(origin="real", correct=True, model_hash=repaired.hash)) > 50, "scored again"


def test_somebody_who_has_looked_may_go_on_and_it_holds_for_this_classifier_only(
    fitted: Workspace, classifier
) -> None:
    workflows.accept_check(fitted, classifier)
    assert workflows.check_accepted(fitted, classifier)
    workflows.revise_classifier(fitted, labels=["yield", "stop", "parking"])
    assert not workflows.check_accepted(fitted, workflows.active_classifier(fitted))


def test_a_head_fitted_under_other_names_is_dropped_and_said(fitted: Workspace, classifier) -> None:
    assert workflows.reference(fitted, classifier) is not None
    text = workflows.revise_classifier(fitted, labels=["yield", "stop", "parking"])
    assert "fit it again" in text
    assert workflows.reference(fitted, workflows.active_classifier(fitted)) is None
    with pytest.raises(InputError, match="are the same"):
        workflows.revise_classifier(fitted, labels=["stop", "stop", "parking"])


def test_the_check_says_what_the_numbers_say(fitted: Workspace, classifier) -> None:
    from scipy.stats import binomtest

    check = workflows.examine(fitted, classifier)
    plain = workflows.check_classifier(fitted, classifier, "test")
    assert check.split == "test" and check.accuracy.value == pytest.approx(plain["accuracy"])
    assert check.ece == pytest.approx(plain["ece"]) and check.accuracy.whole == plain["n"] == 18
    exact = binomtest(check.accuracy.part, 18, 6 / 18, alternative="greater").pvalue
    assert check.p == pytest.approx(exact) and check.constant.part == 6
    assert sum(one.n for one in check.bins) == 18
    gaps = sum(one.n * abs(one.accuracy - one.confidence) for one in check.bins) / 18
    assert gaps == pytest.approx(check.ece), "the diagram and the figure are one thing"


def test_names_are_mapped_by_hand_and_the_mapping_outlives_an_import_and_a_classifier(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
) -> None:
    ws = empty_workspace
    for sign, name in (("stop", "halt"), ("yield", "YIELD"), ("parking", "parking")):
        shutil.copytree(tiny_world.folder / "test" / sign, tmp_path / "set" / name)
    workflows.bring_classifier(ws, tiny_classifier_file)
    workflows.bring_data(ws, tmp_path / "set")
    rows = {row.name: row for row in workflows.name_rows(ws)}
    assert (rows["halt"].label, rows["halt"].how, rows["halt"].n) == ("", "", 6)
    assert (rows["YIELD"].label, rows["YIELD"].how) == ("yield", "spelling")
    assert (rows["parking"].label, rows["parking"].how) == ("parking", "same")
    assert workflows.name_rows(ws)[0].name == "halt", "what needs a hand comes first"
    workflows.map_labels(ws, {"halt": "stop"})
    assert ws.count(Filter(label=0)) == 6 and ws.samples(ws.query(Filter(label=0)))[0].label_name == "stop"
    shutil.copytree(tiny_world.folder / "val" / "stop", tmp_path / "more" / "halt")
    workflows.bring_data(ws, tmp_path / "more")
    assert ws.count(Filter(label=0)) == 12, "data that comes later is mapped the same way"
    workflows.bring_classifier(ws, tiny_classifier_file)
    assert ws.count(Filter(label=0)) == 12
    workflows.map_labels(ws, {"halt": ""})
    assert ws.count(Filter(label=0)) == 0
    halt = next(row for row in workflows.name_rows(ws) if row.name == "halt")
    assert (halt.label, halt.how, halt.n) == ("", "hand", 12)


def test_data_without_one_known_class_is_kept_to_be_mapped(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path, tmp_path: Path
) -> None:
    ws = empty_workspace
    for sign, name in (("stop", "a"), ("yield", "b"), ("parking", "c")):
        shutil.copytree(tiny_world.folder / "test" / sign, tmp_path / "set" / name)
    workflows.bring_classifier(ws, tiny_classifier_file)
    workflows.bring_data(ws, tmp_path / "set", split="test")
    assert [row.label for row in workflows.name_rows(ws)] == ["", "", ""]
    workflows.map_labels(ws, {"a": "stop", "b": "yield", "c": "parking"})
    assert workflows.examine(ws, workflows.active_classifier(ws)).accuracy.value > 0.8


def test_a_mapping_to_nothing_that_exists_is_refused(fitted: Workspace) -> None:
    with pytest.raises(InputError, match="no class 'bus'"):
        workflows.map_labels(fitted, {"stop": "bus"})
    with pytest.raises(InputError, match="class name 'none'"):
        workflows.map_labels(fitted, {"none": "stop"})


def test_the_last_import_is_told_with_what_was_left_out_and_why(
    empty_workspace: Workspace, tiny_world, tmp_path: Path
) -> None:
    shutil.copytree(tiny_world.folder / "test" / "stop", tmp_path / "set" / "stop")
    (tmp_path / "set" / "stop" / "broken.png").write_bytes(b"no image")
    assert workflows.last_import(empty_workspace) is None
    workflows.bring_data(empty_workspace, tmp_path / "set", holdout=[0.5])
    last = workflows.last_import(empty_workspace)
    assert last is not None and (last["added"], last["skipped"], last["name"]) == (6, 1, "set")
    assert "broken.png" in last["first_skipped"][0][0]
    assert last["now"] == {"train": 3, "val": 3} and last["held_out"]["shares"] == {"train": 0.5, "val": 0.5}


def test_blue_first_means_the_channels_change_places_and_old_hashes_stay(
    tiny_classifier_file: Path, empty_workspace: Workspace, tiny_world
) -> None:
    import dataclasses

    plain = load_classifier(tiny_classifier_file)
    turned = load_classifier(
        tiny_classifier_file, preprocess=dataclasses.replace(plain.preprocess, order="bgr")
    )
    card = json.loads(tiny_classifier_file.with_suffix(".json").read_text())
    assert plain.hash == card["hash"] and turned.hash != plain.hash
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    even = dataclasses.replace(plain.preprocess, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert torch.equal(dataclasses.replace(even, order="bgr")(images), even(images.flip(1)))
    workflows.import_data(empty_workspace, tiny_world.folder / "test")
    workflows.score(empty_workspace, turned)
    ids = empty_workspace.query()[:4]
    stored = workflows.outputs(empty_workspace, turned, ids).logits
    asked = turned.logits(empty_workspace.tensor(ids))
    np.testing.assert_allclose(stored.numpy(), asked.numpy(), atol=1e-5)


def test_a_worker_does_all_of_it_with_json_values(
    empty_workspace: Workspace, tiny_world, tiny_classifier_file: Path
) -> None:
    from ltg_core.jobs import CancelToken
    from ltg_core.workflows import tasks

    def do(task: str, **arguments: object) -> object:
        given = json.loads(json.dumps(arguments))
        tasks.check(task, given)
        result = tasks.do(str(empty_workspace.path), task, given, lambda step: None, CancelToken())
        assert json.loads(json.dumps(result)) == result
        return result

    assert "72 images added" in str(do("bring_data", path=str(tiny_world.folder)))
    labels = ["yield", "parking", "stop"]
    do("bring_classifier", weights=str(tiny_classifier_file), labels=labels, card=None, preprocess=None)
    assert "would raise accuracy" in str(do("alternatives"))
    do("revise_classifier", labels=["stop", "yield", "parking"], preprocess=None)
    assert "24 samples" in str(do("map_labels", chosen={"stop": ""}))
    do("map_labels", chosen={"stop": "stop"})
    assert "Fitted on 36" in str(do("bring_head"))
    run = do("tell", title="All", redact=True, attribution=False)
    assert isinstance(run, dict) and workflows.report_path(empty_workspace, run["run"]).is_file()
